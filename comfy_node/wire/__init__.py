"""The protocol between this node pack and an ovis-worker: messages, limits and encoding."""

from .adapters import (
    AdapterInfo,
    Adapters,
    AdapterUse,
    ListAdapters,
    SigmaInterval,
    is_adapter_name,
)
from .bincode import WireFormatError
from .error import ErrorCode, WireError
from .limits import (
    MAGIC,
    MAX_ADAPTER_NAME_BYTES,
    MAX_ADAPTER_PICTURE_BYTES,
    MAX_ADAPTER_STRENGTH,
    MAX_ADAPTERS,
    MAX_BLOCK_WEIGHTS,
    MAX_CHUNK_BYTES,
    MAX_MESSAGE_BYTES,
    MAX_MODEL_NAME_BYTES,
    MAX_MODELS,
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
from .models import ModelInfo, ModelState, Residence, is_model_name
from .options import JobOptions, Priority, StateInterval
from .requests import (
    OPERATIONS,
    AutoSchedule,
    DecodeRequest,
    DenoiseRequest,
    EncodeRequest,
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
