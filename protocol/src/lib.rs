//! The wire between a ComfyUI node pack and an `ovis-worker`.
//!
//! One websocket binary frame carries one message: [`ClientMessage`] towards
//! the worker, [`WorkerMessage`] back. A message is encoded with bincode 2,
//! little-endian, fixed-width integers ([`codec`]), so a client in any language
//! can read it with plain struct unpacking. Tensors travel as
//! [`TensorHeader`]s inside the message that owns them, followed by
//! `Chunk` messages of at most [`limits::MAX_CHUNK_BYTES`].
//!
//! `protocol/README.md` specifies the same thing for readers without Rust.
//!
//! - [`message`]: every message, in the order a job meets them
//! - [`tensor`]: tensor headers, their checks, and assembly from chunks
//! - [`error`]: error codes a client may match on
//! - [`codec`]: bytes to messages and back, never past the limits
//! - [`limits`]: the numbers both sides agree on
//! - [`text`]: names and sentences made fit to be shown

pub mod codec;
pub mod error;
pub mod limits;
pub mod message;
pub mod tensor;
pub mod text;

pub use codec::{decode_client, decode_worker, encode, CodecError};
pub use error::{ErrorCode, WireError};
pub use message::*;
pub use tensor::{chunks, Assembler, DType, TensorError, TensorHeader};
pub use text::{escape_into, is_unsafe, shown};
