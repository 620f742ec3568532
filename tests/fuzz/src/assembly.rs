//! Assembly of tensors from chunks.

use ovis_protocol::limits::{MAX_MESSAGE_BYTES, MAX_TENSOR_BYTES};
use ovis_protocol::{decode_client, Assembler, ClientMessage};

/// Reads `data` as frames, each after its length as a `u16`: a `Submit` starts an assembly, and
/// chunks go to it.
///
/// # Panics
/// If the assembler panics, accepts more than its headers announce, or finishes with other bytes
/// than those it accepted.
pub fn run(mut data: &[u8]) {
    let mut assembler: Option<Assembler> = None;
    let mut accepted = Vec::new();
    while let [low, high, rest @ ..] = data {
        let length = usize::from(u16::from_le_bytes([*low, *high])).min(rest.len());
        let (frame, after) = rest.split_at(length.min(MAX_MESSAGE_BYTES));
        data = after;
        match decode_client(frame) {
            Ok(ClientMessage::Submit { tensors, .. }) => {
                accepted.clear();
                assembler = Assembler::new(tensors).ok();
            }
            Ok(ClientMessage::Chunk(chunk)) => {
                let Some(current) = &mut assembler else {
                    continue;
                };
                let pushed = current.push(chunk.tensor, chunk.offset, &chunk.data);
                if pushed.is_ok() {
                    accepted.extend_from_slice(&chunk.data);
                }
                if let Ok(true) = pushed {
                    finish(assembler.take(), &accepted);
                }
            }
            _ => {}
        }
    }
}

fn finish(assembler: Option<Assembler>, accepted: &[u8]) {
    let tensors = assembler.expect("an assembly is under way").finish();
    let mut joined = Vec::new();
    for (header, bytes) in tensors {
        assert_eq!(header.byte_len().ok(), Some(bytes.len() as u64));
        joined.extend(bytes);
    }
    assert!(joined.len() as u64 <= MAX_TENSOR_BYTES);
    assert_eq!(joined, accepted, "the tensors hold what was sent");
}
