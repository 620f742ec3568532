"""The protocol between this node pack and an ovis-worker: messages, limits and encoding."""

from .bincode import WireFormatError
from .error import ErrorCode, WireError
from .limits import (
    MAGIC,
    MAX_CHUNK_BYTES,
    MAX_MESSAGE_BYTES,
    MAX_PREVIEW_SIDE,
    MAX_PROMPT_BYTES,
    MAX_RANK,
    MAX_TENSOR_BYTES,
    MAX_TENSORS,
    MAX_TRACE_BYTES,
    PROTOCOL_VERSION,
    SECRET_BYTES,
)
from .messages import (
    Acknowledge,
    Cancel,
    Cancelled,
    Capabilities,
    Chunk,
    Claim,
    ClientHello,
    Done,
    Failed,
    Keeping,
    Outcome,
    Preview,
    Progress,
    PromptCut,
    Queued,
    Refused,
    ShuttingDown,
    Started,
    State,
    Status,
    StatusRequest,
    Submit,
    Unknown,
    WorkerHello,
    decode_client,
    decode_worker,
    encode_client,
    encode_worker,
)
from .options import JobOptions, Priority, StateInterval
from .requests import (
    OPERATIONS,
    AutoSchedule,
    DecodeRequest,
    DenoiseRequest,
    EncodeRequest,
    GuidanceInterval,
    NamedSchedule,
    PreviewKind,
    PreviewRequest,
    Request,
    SamplerOptions,
    Schedule,
    ShiftSchedule,
    SigmasSchedule,
    StepCaching,
    VaeEncodeRequest,
)
from .tensor import DType, TensorHeader
from .transfer import WireTensor
