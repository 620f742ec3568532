//! Bytes to messages and back, never past the limits.

use bincode::config::{self, Configuration, Fixint, Limit, LittleEndian};
use bincode::error::DecodeError;
use bincode::{Decode, Encode};

use crate::limits::MAX_MESSAGE_BYTES;
use crate::message::{ClientMessage, WorkerMessage};

/// Little-endian, fixed-width integers, and no allocation past the limit.
const CONFIG: Configuration<LittleEndian, Fixint, Limit<MAX_MESSAGE_BYTES>> = config::standard()
    .with_fixed_int_encoding()
    .with_limit::<MAX_MESSAGE_BYTES>();

/// Why bytes are not a message, or a message has no bytes.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    /// The frame is larger than any message may be.
    #[error("a message of {0} bytes is larger than the limit of {MAX_MESSAGE_BYTES}")]
    TooLarge(usize),
    /// The bytes are not a message of this protocol version; the reason is a clause.
    #[error("not a message of this protocol: {0}")]
    Malformed(&'static str),
    /// The bytes hold a message and then something more.
    #[error("{0} bytes follow the end of the message")]
    Trailing(usize),
    /// The message has a field that has no bytes; none of this crate's has.
    #[error("the message cannot be written")]
    Unencodable,
}

/// Encodes one message for one websocket binary frame.
///
/// # Errors
/// The message is larger than [`MAX_MESSAGE_BYTES`].
pub fn encode<M: Encode>(message: &M) -> Result<Vec<u8>, CodecError> {
    let bytes = bincode::encode_to_vec(message, CONFIG).map_err(|_| CodecError::Unencodable)?;
    if bytes.len() > MAX_MESSAGE_BYTES {
        return Err(CodecError::TooLarge(bytes.len()));
    }
    Ok(bytes)
}

/// Decodes what a client sent.
///
/// # Errors
/// The bytes are too many, too few, or not a message.
pub fn decode_client(bytes: &[u8]) -> Result<ClientMessage, CodecError> {
    decode(bytes)
}

/// Decodes what a worker sent.
///
/// # Errors
/// As [`decode_client`].
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

/// What is wrong with bytes that do not decode. The library's own texts name types of this
/// program, which say nothing to who wrote a client.
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
