"""The messages between this node pack and an ovis-worker, and their bytes.

One websocket binary frame carries one message. ``protocol/README.md`` specifies
the wire; the classes here follow the Rust crate ``ovis-protocol`` name by name,
and golden byte vectors hold both to the same bytes.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import Annotated

from .bincode import (
    F32,
    F64,
    U32,
    U64,
    Bytes,
    Codec,
    OneOf,
    OpenEnum,
    Reader,
    Uuid,
    WireFormatError,
)

__all__ = ["WireFormatError", "decode_client", "decode_worker", "encode_client", "encode_worker"]

PROTOCOL_VERSION = 3
"""Peers with different versions refuse each other."""

MAGIC = int.from_bytes(b"OVIS", "little")
"""First field of both hellos, so that a peer of any version is recognised."""

MAX_CHUNK_BYTES = 1 << 20
"""Most tensor bytes in one chunk."""

MAX_MESSAGE_BYTES = MAX_CHUNK_BYTES + (64 << 10)
"""Most bytes in one encoded message."""

MAX_TENSORS = 8
"""Most tensors one message may announce."""

MAX_RANK = 8
"""Most dimensions of a tensor."""

MAX_TENSOR_BYTES = 1 << 30
"""Most bytes of all tensors of one message together."""

MAX_PROMPT_BYTES = 48 << 10
"""Most bytes of UTF-8 in one prompt."""

MAX_PREVIEW_SIDE = 512
"""Most pixels along the longer side of a preview."""


class DType(enum.IntEnum):
    """Element type of a tensor's bytes, little-endian."""

    F32 = 0
    F16 = 1
    BF16 = 2
    U8 = 3

    @property
    def size(self) -> int:
        """Bytes of one element."""
        return (4, 2, 2, 1)[self]


class ErrorCode(enum.IntEnum):
    """What kind of thing went wrong. A code keeps its number and meaning for ever."""

    VERSION_MISMATCH = 0
    UNAUTHORIZED = 1
    BAD_MESSAGE = 2
    INVALID_REQUEST = 3
    QUEUE_FULL = 4
    MISSING_MODEL = 5
    OUT_OF_MEMORY = 6
    SHUTTING_DOWN = 7
    INTERNAL = 8
    UNKNOWN_JOB = 9


@dataclass
class WireError:
    """An error as a person should see it: one sentence and, unless empty, a hint."""

    code: Annotated[int, OpenEnum(ErrorCode)]
    """An :class:`ErrorCode`, or the number of one that a newer worker knows."""
    message: str
    hint: str


@dataclass
class TensorHeader:
    """Announces a tensor whose bytes follow in chunks, row-major and contiguous."""

    name: str
    dtype: DType
    shape: list[U64]


@dataclass
class EncodeRequest:
    """Prompts to ``conditioning`` (f32 ``[B, T, D]``)."""

    prompts: list[str]
    max_sequence_length: U32


@dataclass
class AutoSchedule:
    """The scheduler ``flux`` with the request's shift."""


@dataclass
class ShiftSchedule:
    """The scheduler ``flux`` with this shift, whatever the request's."""

    shift: F64


@dataclass
class SigmasSchedule:
    """These sigmas as they are, descending, one more than the steps."""

    sigmas: list[F32]


@dataclass
class NamedSchedule:
    """One of the worker's schedulers, with the request's shift."""

    scheduler: str


Schedule = Annotated[object, OneOf(AutoSchedule, ShiftSchedule, SigmasSchedule, NamedSchedule)]


@dataclass
class SamplerOptions:
    """Options of a solver; ``None`` is its default. A solver refuses what it lacks."""

    eta: F64 | None = None
    s_noise: F64 | None = None
    r: F64 | None = None
    order: U32 | None = None
    solver_type: str | None = None


class PreviewKind(enum.IntEnum):
    """How a preview is made: a projection of the latents, or the VAE at low resolution."""

    LINEAR = 0
    VAE = 1


@dataclass
class PreviewRequest:
    """Which previews a denoise job sends; ``max_side`` in pixels."""

    kind: PreviewKind
    max_side: U32


@dataclass
class GuidanceInterval:
    """The sigmas between which guidance is applied, the larger first."""

    start: F64
    end: F64


class StepCaching(enum.IntEnum):
    """How readily a step reuses work of one before it."""

    OFF = 0
    SAFE = 1
    FAST = 2


@dataclass
class DenoiseRequest:
    """How to denoise the tensors ``positive``, ``negative``, ``latent``, ``noise_mask``.

    ``shift`` is a constant as ModelSamplingAuraFlow's, or ``None`` for the model's
    own; ``start_step``, ``end_step``, ``add_noise`` and ``leftover_noise`` are
    KSamplerAdvanced's.
    """

    seed: U64
    steps: U32
    cfg: F64
    sampler: str
    schedule: Schedule
    denoise: F64 = 1.0
    batch_index: list[U64] | None = None
    options: SamplerOptions = field(default_factory=SamplerOptions)
    shift: F64 | None = None
    start_step: U32 = 0
    end_step: U32 | None = None
    add_noise: bool = True
    leftover_noise: bool = False
    preview: PreviewRequest | None = None
    guided: GuidanceInterval | None = None
    cache: StepCaching = StepCaching.OFF


@dataclass
class DecodeRequest:
    """``latent`` (f32 ``[B, 16, H/8, W/8]``) to ``image`` (f32 ``[B, H, W, 3]``)."""


@dataclass
class VaeEncodeRequest:
    """``image`` (f32 ``[B, H, W, 3]``) to ``latent`` (f32 ``[B, 16, H/8, W/8]``)."""


Request = Annotated[object, OneOf(EncodeRequest, DenoiseRequest, DecodeRequest, VaeEncodeRequest)]


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
