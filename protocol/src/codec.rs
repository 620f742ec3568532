//! Encoding and decoding of messages, within the limits.

use bincode::config::{self, Configuration, Fixint, Limit, LittleEndian};
use bincode::error::DecodeError;
use bincode::{Decode, Encode};

use crate::limits::MAX_MESSAGE_BYTES;
use crate::message::{ClientMessage, WorkerMessage};

/// Little-endian, fixed-width integers. Decoding fails before it allocates more than one
/// message may hold.
const CONFIG: Configuration<LittleEndian, Fixint, Limit<MAX_MESSAGE_BYTES>> = config::standard()
    .with_fixed_int_encoding()
    .with_limit::<MAX_MESSAGE_BYTES>();

/// Why a message could not be decoded or encoded.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    /// The message is larger than [`MAX_MESSAGE_BYTES`].
    #[error("a message of {0} bytes is larger than the limit of {MAX_MESSAGE_BYTES}")]
    TooLarge(usize),
    /// The bytes are not a message of this protocol version, with the reason as a clause.
    #[error("not a message of this protocol: {0}")]
    Malformed(&'static str),
    /// This many bytes follow the end of the message.
    #[error("{0} bytes follow the end of the message")]
    Trailing(usize),
    /// The message has a field that bincode cannot encode. No message of this crate has one.
    #[error("the message cannot be written")]
    Unencodable,
}

/// Encodes a message as the payload of one websocket binary frame.
///
/// # Errors
/// [`CodecError::TooLarge`]: a chunk or a string of the message is too long.
pub fn encode<M: Encode>(message: &M) -> Result<Vec<u8>, CodecError> {
    let bytes = bincode::encode_to_vec(message, CONFIG).map_err(|_| CodecError::Unencodable)?;
    if bytes.len() > MAX_MESSAGE_BYTES {
        return Err(CodecError::TooLarge(bytes.len()));
    }
    Ok(bytes)
}

/// Decodes a frame that a client sent.
///
/// # Errors
/// The bytes are not exactly one [`ClientMessage`], or exceed [`MAX_MESSAGE_BYTES`].
pub fn decode_client(bytes: &[u8]) -> Result<ClientMessage, CodecError> {
    decode(bytes)
}

/// Decodes a frame that a worker sent.
///
/// # Errors
/// The bytes are not exactly one [`WorkerMessage`], or exceed [`MAX_MESSAGE_BYTES`].
pub fn decode_worker(bytes: &[u8]) -> Result<WorkerMessage, CodecError> {
    decode(bytes)
}

fn decode<M: Decode<()>>(bytes: &[u8]) -> Result<M, CodecError> {
    if bytes.len() > MAX_MESSAGE_BYTES {
        return Err(CodecError::TooLarge(bytes.len()));
    }
    let (message, used) = bincode::decode_from_slice(bytes, CONFIG)
        .map_err(|error| CodecError::Malformed(reason(&error)))?;
    if used < bytes.len() {
        return Err(CodecError::Trailing(bytes.len() - used));
    }
    Ok(message)
}

/// The reason as a clause for the client's author. bincode's own messages name Rust types,
/// which mean nothing to someone who writes a client in another language.
fn reason(error: &DecodeError) -> &'static str {
    match error {
        DecodeError::UnexpectedEnd { .. } => "it is cut short",
        DecodeError::UnexpectedVariant { .. } | DecodeError::InvalidBooleanValue(_) => {
            "a variant, a bool or the byte before an option has a number that means nothing"
        }
        DecodeError::Utf8 { .. } => "a string in it is not UTF-8",
        DecodeError::LimitExceeded | DecodeError::OutsideUsizeRange(_) => {
            "a length in it goes beyond the limit of a message"
        }
        _ => "its bytes do not make the fields it should have",
    }
}
