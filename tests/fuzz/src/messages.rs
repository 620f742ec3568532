//! Decoding of messages, in both directions.

use std::path::Path;

use ovis_protocol::{decode_client, decode_worker, encode};

/// Decodes `data` as a message of either side, and says whether it is one. What was decoded must
/// encode to the same bytes, as every value has exactly one encoding.
///
/// # Panics
/// If decoding panics, or the message encodes to other bytes.
pub fn run(data: &[u8]) -> bool {
    let mut is_message = false;
    if let Ok(message) = decode_client(data) {
        let again = encode(&message).expect("a decoded message encodes");
        assert_eq!(again, data, "{message:?} has two encodings");
        is_message = true;
    }
    if let Ok(message) = decode_worker(data) {
        let again = encode(&message).expect("a decoded message encodes");
        assert_eq!(again, data, "{message:?} has two encodings");
        is_message = true;
    }
    is_message
}

/// The golden messages.
pub fn seeds() -> Vec<Vec<u8>> {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../protocol/golden");
    let mut files: Vec<_> = std::fs::read_dir(golden)
        .expect("the golden messages are there")
        .map(|entry| entry.expect("the folder can be listed").path())
        .filter(|path| path.extension().is_some_and(|kind| kind == "bin"))
        .collect();
    files.sort();
    let read = |path| std::fs::read(path).expect("a golden message can be read");
    files.into_iter().map(read).collect()
}
