"""The messages that a client and a worker exchange, and how they become frames.

One binary websocket frame carries one message. ``protocol/README.md`` specifies the wire. The
classes of this folder mirror the Rust crate ``ovis-protocol`` name by name, and golden byte vectors
hold both languages to the same bytes.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from .adapters import Adapters, ListAdapters
from .bincode import (
    F32,
    F64,
    U32,
    U64,
    Bytes,
    Codec,
    OneOf,
    Reader,
    Secret,
    Uuid,
    WireFormatError,
)
from .error import WireError
from .limits import MAX_MESSAGE_BYTES, MAX_MODELS
from .models import ModelInfo, ModelState, is_model_name
from .options import JobOptions
from .requests import Request
from .tensor import TensorHeader


@dataclass
class ClientHello:
    """The first message of a client."""

    magic: U32
    protocol: U32
    client: str
    token: str | None = field(repr=False)
    secret: Secret | None = field(default=None, repr=False)


@dataclass
class Submit:
    """Submits a new job. Its tensors follow in chunks."""

    job: Uuid
    request: Request
    tensors: list[TensorHeader]
    options: JobOptions = field(default_factory=JobOptions)


@dataclass
class Chunk:
    """A piece of a tensor: ``tensor`` is the index of its header, ``offset`` is in bytes."""

    job: Uuid
    tensor: U32
    offset: U64
    data: Bytes


@dataclass
class Cancel:
    """Cancels a job: at once if it is queued, before its next step if it is running."""

    job: Uuid


@dataclass
class StatusRequest:
    """Asks for a :class:`Status`."""


@dataclass
class Claim:
    """Takes over a job of the same owner; ``received`` bytes of its result have arrived."""

    job: Uuid
    received: U64 = 0


@dataclass
class Acknowledge:
    """Acknowledges a job's end, result included; the worker then forgets the job."""

    job: Uuid


@dataclass
class Capabilities:
    """What a worker can do.

    ``models`` holds the models that a job may name. Fields that differ from model to model are
    those of the first one, the default.
    """

    operations: list[str]
    samplers: list[str]
    model: str
    device: str
    precision: str
    latent_channels: U32
    conditioning_width: U32
    size_multiple: U32
    max_pixels: U64
    schedulers: list[str] = field(default_factory=list)
    previews: list[str] = field(default_factory=list)
    models: list[ModelInfo] = field(default_factory=list)

    def model_of(self, name: str | None) -> ModelInfo | None:
        """The model that a job with this ``model`` runs on, if the worker has it."""
        wanted = (model for model in self.models if name in (None, model.name))
        return next(wanted, None)

    def check(self) -> None:
        """Checks the models against the limits; raises :class:`WireFormatError`."""
        if len(self.models) > MAX_MODELS:
            raise WireFormatError(f"{len(self.models)} models, the maximum is {MAX_MODELS}")
        for model in self.models:
            if not is_model_name(model.name):
                raise WireFormatError(f"{model.name!r:.60} is not a model's name")


@dataclass
class Keeping:
    """How a worker keeps the jobs of a client that sent a secret."""

    seconds: F64
    bytes: U64
    is_durable: bool


@dataclass
class WorkerHello:
    """The first message of a worker that accepts the client."""

    magic: U32
    protocol: U32
    worker: str
    capabilities: Capabilities
    keeping: Keeping = field(default_factory=lambda: Keeping(0.0, 0, False))

    def check(self) -> None:
        """Checks the models against the limits; raises :class:`WireFormatError`."""
        self.capabilities.check()


@dataclass
class Refused:
    """The worker does not accept the connection, or ends it; it then closes the socket."""

    magic: U32
    protocol: U32
    error: WireError


@dataclass
class Queued:
    """The job waits in the queue; ``position`` jobs run before it."""

    job: Uuid
    position: U32


@dataclass
class Started:
    """The job has begun to run on the device."""

    job: Uuid


@dataclass
class Progress:
    """A denoise step is done; ``step`` counts from 1."""

    job: Uuid
    step: U32
    total: U32
    sigma: F32
    seconds_left: F32


@dataclass
class Preview:
    """A preview of the batch's first image, made before a step.

    ``data`` is a view of RGB bytes, row by row from the top.
    """

    job: Uuid
    step: U32
    width: U32
    height: U32
    data: Bytes


@dataclass
class State:
    """A part of a denoise job's state after ``step`` steps; parts come in order.

    A job with the same request and tensors goes on from the complete state, which it receives as
    the tensor ``state`` (u8).
    """

    job: Uuid
    step: U32
    size: U64
    offset: U64
    data: Bytes


@dataclass
class PromptCut:
    """A prompt that was too long: how many tokens of the prompt and of the template were cut."""

    prompt: U32
    lost_tokens: U32
    lost_template_tokens: U32


@dataclass
class Outcome:
    """Times of a finished job, and which of its prompts were cut."""

    seconds_queued: F32
    seconds_running: F32
    cuts: list[PromptCut] = field(default_factory=list)


@dataclass
class Done:
    """The job is done. Its tensors follow in chunks."""

    job: Uuid
    outcome: Outcome
    tensors: list[TensorHeader]


@dataclass
class Failed:
    """The job has failed; no more messages about it follow."""

    job: Uuid
    error: WireError


@dataclass
class Cancelled:
    """The job was dropped because its owner cancelled it."""

    job: Uuid


@dataclass
class Status:
    """Queue length, counters and memory of a worker."""

    queued: U32
    running: U32
    finished: U64
    uptime_seconds: F64
    device_bytes_used: U64
    device_bytes_total: U64
    models: list[ModelState] = field(default_factory=list)


@dataclass
class Unknown:
    """A message whose variant only a newer worker knows. The client ignores it."""

    variant: int


@dataclass
class ShuttingDown:
    """The worker is shutting down. Durable jobs go on when it is back; others have failed."""

    reason: str


_CLIENT = OneOf(ClientHello, Submit, Chunk, Cancel, StatusRequest, Claim, Acknowledge, ListAdapters)
_WORKER = OneOf(
    WorkerHello,
    Refused,
    Queued,
    Started,
    Progress,
    Done,
    Chunk,
    Failed,
    Cancelled,
    Status,
    ShuttingDown,
    Preview,
    State,
    Adapters,
)


def encode_client(message: object) -> bytearray:
    """Encodes a message to a worker as a frame."""
    return _encode(_CLIENT, message)


def encode_worker(message: object) -> bytearray:
    """Encodes a message from a worker as a frame."""
    return _encode(_WORKER, message)


def decode_client(frame: bytes | bytearray | memoryview) -> object:
    """Decodes a client's frame; raises :class:`WireFormatError` and nothing else."""
    return _decode(_CLIENT, frame)


def decode_worker(frame: bytes | bytearray | memoryview) -> object:
    """Decodes a worker's frame; raises :class:`WireFormatError` and nothing else.

    The ``data`` of a chunk or preview is a view into ``frame``. An unknown variant is returned as
    :class:`Unknown`, so that a newer worker can send messages that this version ignores.
    """
    if len(frame) >= 4:
        variant = int.from_bytes(frame[:4], "little")
        if variant >= len(_WORKER.kinds):
            return Unknown(variant)
    message = _decode(_WORKER, frame)
    if isinstance(message, (WorkerHello, Adapters)):
        message.check()
    return message


def _encode(codec: Codec, message: object) -> bytearray:
    out = bytearray()
    try:
        codec.write(out, message)
    except WireFormatError:
        raise
    except Exception as error:  # a value whose type the codec does not expect
        raise WireFormatError(f"a value cannot be encoded: {error}") from error
    if len(out) > MAX_MESSAGE_BYTES:
        raise WireFormatError(
            f"a message of {len(out)} bytes is larger than the limit of {MAX_MESSAGE_BYTES}"
        )
    return out


def _decode(codec: Codec, frame: bytes | bytearray | memoryview) -> object:
    if len(frame) > MAX_MESSAGE_BYTES:
        raise WireFormatError(
            f"a message of {len(frame)} bytes is larger than the limit of {MAX_MESSAGE_BYTES}"
        )
    reader = Reader(frame)
    message = codec.read(reader)
    if reader.remaining:
        raise WireFormatError(f"{reader.remaining} bytes follow the end of the message")
    return message
