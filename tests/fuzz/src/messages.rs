//! Decoding of messages, in both directions.

use ovis_protocol::{decode_client, decode_worker, encode};

/// Decodes `data` as a message of either side. What was decoded must encode to the same bytes,
/// as every value has exactly one encoding.
///
/// # Panics
/// If decoding panics, or the message encodes to other bytes.
pub fn run(data: &[u8]) {
    if let Ok(message) = decode_client(data) {
        let again = encode(&message).expect("a decoded message encodes");
        assert_eq!(again, data, "{message:?} has two encodings");
    }
    if let Ok(message) = decode_worker(data) {
        let again = encode(&message).expect("a decoded message encodes");
        assert_eq!(again, data, "{message:?} has two encodings");
    }
}
