"""The messages between this node pack and an ovis-worker, and their bytes.

One websocket binary frame carries one message. ``protocol/README.md`` specifies
the wire; the classes of this room follow the Rust crate ``ovis-protocol`` name by name,
and golden byte vectors hold both to the same bytes.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from .bincode import F32, F64, U32, U64, Bytes, Codec, OneOf, Reader, Uuid, WireFormatError
from .error import WireError
from .limits import MAX_MESSAGE_BYTES
from .requests import Request
from .tensor import TensorHeader


@dataclass
class ClientHello:
    """First message of a client."""

    magic: U32
    protocol: U32
    client: str
    token: str | None = field(repr=False)


@dataclass
class Submit:
    """A new job; its tensors follow in chunks."""

    job: Uuid
    request: Request
    tensors: list[TensorHeader]


@dataclass
class Chunk:
    """Bytes of a tensor: which of the message's headers, and where in it."""

    job: Uuid
    tensor: U32
    offset: U64
    data: Bytes


@dataclass
class Cancel:
    """Drop the job: at once when queued, before its next step when running."""

    job: Uuid


@dataclass
class StatusRequest:
    """Ask for a :class:`Status`."""


@dataclass
class Claim:
    """Reserved: take over a job that an earlier connection submitted."""

    job: Uuid


@dataclass
class Capabilities:
    """What a worker can do with the checkpoint it has loaded."""

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


@dataclass
class WorkerHello:
    """First message of a worker that accepts the client."""

    magic: U32
    protocol: U32
    worker: str
    capabilities: Capabilities


@dataclass
class Refused:
    """The connection is not accepted, or ends; the socket is closed after it."""

    magic: U32
    protocol: U32
    error: WireError


@dataclass
class Queued:
    """The job waits; ``position`` jobs run before it."""

    job: Uuid
    position: U32


@dataclass
class Started:
    """The job has the device."""

    job: Uuid


@dataclass
class Progress:
    """A denoise step has ended; ``step`` counts from 1."""

    job: Uuid
    step: U32
    total: U32
    sigma: F32
    seconds_left: F32


@dataclass
class Preview:
    """What the first image of the batch looks like before a step.

    ``data`` is a view of red, green and blue bytes, row by row from the top.
    """

    job: Uuid
    step: U32
    width: U32
    height: U32
    data: Bytes


@dataclass
class PromptCut:
    """A prompt that did not fit: tokens lost of its own and of the template's ending."""

    prompt: U32
    lost_tokens: U32
    lost_template_tokens: U32


@dataclass
class Outcome:
    """What is worth saying beside a job's tensors."""

    seconds_queued: F32
    seconds_running: F32
    cuts: list[PromptCut] = field(default_factory=list)


@dataclass
class Done:
    """The job is done; its tensors follow in chunks."""

    job: Uuid
    outcome: Outcome
    tensors: list[TensorHeader]


@dataclass
class Failed:
    """The job has failed; nothing more comes of it."""

    job: Uuid
    error: WireError


@dataclass
class Cancelled:
    """The job was dropped because its client asked."""

    job: Uuid


@dataclass
class Status:
    """How a worker is."""

    queued: U32
    running: U32
    finished: U64
    uptime_seconds: F64
    device_bytes_used: U64
    device_bytes_total: U64


@dataclass
class Unknown:
    """A message of a newer worker: its variant's number. It is passed over."""

    variant: int


@dataclass
class ShuttingDown:
    """The worker is going away; this connection's unfinished jobs have failed."""

    reason: str


_CLIENT = OneOf(ClientHello, Submit, Chunk, Cancel, StatusRequest, Claim)
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
)


def encode_client(message: object) -> bytearray:
    """The frame of a message to a worker."""
    return _encode(_CLIENT, message)


def encode_worker(message: object) -> bytearray:
    """The frame of a message from a worker."""
    return _encode(_WORKER, message)


def decode_client(frame: bytes | bytearray | memoryview) -> object:
    """The message a client sent; raises :class:`WireFormatError` and nothing else."""
    return _decode(_CLIENT, frame)


def decode_worker(frame: bytes | bytearray | memoryview) -> object:
    """The message a worker sent; raises :class:`WireFormatError` and nothing else.

    A chunk's ``data`` is a view into ``frame``. One whose variant is not known here is
    :class:`Unknown`.
    """
    if len(frame) >= 4:
        variant = int.from_bytes(frame[:4], "little")
        if variant >= len(_WORKER.kinds):
            return Unknown(variant)
    return _decode(_WORKER, frame)


def _encode(codec: Codec, message: object) -> bytearray:
    out = bytearray()
    try:
        codec.write(out, message)
    except WireFormatError:
        raise
    except Exception as error:  # a value of a type that no codec expects
        raise WireFormatError(f"a value has no bytes: {error}") from error
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
    if reader.left:
        raise WireFormatError(f"{reader.left} bytes follow the end of the message")
    return message
