//! The wire protocol between a ComfyUI node pack and an `ovis-worker`.
//!
//! A client connects to a worker with a websocket, and each binary frame carries one message:
//! a [`ClientMessage`] to the worker or a [`WorkerMessage`] back. `protocol/README.md`
//! specifies the protocol for readers without Rust; a test compares it with this crate.
//!
//! # A job, from submission to result
//!
//! 1. The client sends a [`ClientHello`] with the protocol version and, if the worker
//!    requires one, a token. The worker answers with a [`WorkerHello`], which holds its
//!    [`Capabilities`], or with [`WorkerMessage::Refused`].
//! 2. The client picks a UUID and sends [`ClientMessage::Submit`] with a [`Request`] and one
//!    [`TensorHeader`] for each input tensor. The tensors' bytes follow as [`Chunk`]s of at
//!    most [`limits::MAX_CHUNK_BYTES`], so that a cancel or a progress message can pass
//!    between two chunks of a large tensor.
//! 3. The worker reports [`WorkerMessage::Queued`], [`WorkerMessage::Started`] and, for each
//!    denoise step, a [`Progress`] and perhaps a [`Preview`].
//! 4. The job ends with exactly one of [`WorkerMessage::Done`], whose tensors follow as
//!    chunks, [`WorkerMessage::Failed`] and [`WorkerMessage::Cancelled`]. The client answers
//!    with [`ClientMessage::Acknowledge`].
//!
//! A job belongs to the owner of the secret in the client's hello. A client that has lost its
//! connection connects again and sends [`ClientMessage::Claim`] for each of its jobs.
//!
//! # Encoding
//!
//! Messages are encoded with bincode 2: little-endian, integers of fixed width, enum variants
//! as a `u32`, and a `u64` length before each string and list. A client in any language can
//! read them with plain struct unpacking. Decoding never allocates more than the limits
//! allow, whatever the bytes say. The files in `protocol/golden` hold every message as bytes
//! and as JSON; both ends are tested against them.
//!
//! # Modules
//!
//! - [`message`]: the two message enums, one for each direction
//! - [`hello`]: the first message of each side, and the worker's capabilities
//! - [`request`]: the operations a job can perform, and their parameters
//! - [`adapter`]: the adapters that a job applies and a worker lists
//! - [`model`]: the models of a worker
//! - [`job`]: a job's id, and what the worker reports about a job
//! - [`status`]: the worker's load, and where its models are
//! - [`tensor`]: tensor headers and their checks
//! - [`chunk`]: splitting tensors into chunks, and assembling them
//! - [`error`]: the error codes a client may match on
//! - [`codec`]: encoding and decoding of messages
//! - [`limits`]: the protocol version, and the limits both sides keep
//! - [`text`]: escaping and shortening of text received from the other side
//!
//! To add a message or a field, append it to its enum or struct, raise
//! [`limits::PROTOCOL_VERSION`], and extend the golden vectors and the specification.

pub mod adapter;
pub mod chunk;
pub mod codec;
pub mod error;
pub mod hello;
pub mod job;
pub mod limits;
pub mod message;
pub mod model;
pub mod request;
pub mod status;
pub mod tensor;
pub mod text;

pub use adapter::{is_adapter_name, AdapterInfo, AdapterList, AdapterUse, SigmaInterval};
pub use chunk::{chunks, Assembler, Chunk};
pub use codec::{decode_client, decode_worker, encode, CodecError};
pub use error::{ErrorCode, WireError};
pub use hello::{Capabilities, ClientHello, Keeping, WorkerHello};
pub use job::{
    JobId, JobOptions, Outcome, Preview, Priority, Progress, PromptCut, StateInterval, StatePart,
};
pub use message::{ClientMessage, WorkerMessage};
pub use model::{is_model_name, ModelInfo, ModelState, Residence};
pub use request::{
    DenoiseRequest, EncodeRequest, PreviewKind, PreviewRequest, Request, SamplerOptions, Schedule,
    StepCaching,
};
pub use status::Status;
pub use tensor::{DType, TensorError, TensorHeader};
pub use text::{escape_into, is_unsafe, shown};
