//! Assembly of tensors from chunks.

use ovis_protocol::limits::MAX_TENSOR_BYTES;
use ovis_protocol::{decode_client, Assembler, Chunk, ClientMessage, JobOptions, Request};

use crate::frames;

/// An assembly that keeps its bytes, one that does not, and what they accepted.
struct Both {
    keeping: Assembler,
    discarding: Assembler,
    accepted: Vec<u8>,
}

/// Reads `data` as [`frames`]: a `Submit` starts an assembly, and chunks go to it. Says whether
/// an assembly was completed.
///
/// # Panics
/// If the assembler panics, accepts more than its headers announce, or finishes with other bytes
/// than those it accepted; or if one that keeps no bytes decides otherwise.
pub fn run(mut data: &[u8]) -> bool {
    let mut both: Option<Both> = None;
    let mut has_completed = false;
    while let Some(frame) = frames::take(&mut data) {
        match decode_client(frame) {
            Ok(ClientMessage::Submit { tensors, .. }) => {
                let keeping = Assembler::new(tensors.clone());
                let discarding = Assembler::discarding(tensors);
                assert_eq!(keeping.is_ok(), discarding.is_ok());
                both = keeping
                    .ok()
                    .zip(discarding.ok())
                    .map(|(keeping, discarding)| Both {
                        keeping,
                        discarding,
                        accepted: Vec::new(),
                    });
            }
            Ok(ClientMessage::Chunk(chunk)) => {
                let Some(current) = &mut both else {
                    continue;
                };
                let (tensor, offset) = (chunk.tensor, chunk.offset);
                let pushed = current.keeping.push(tensor, offset, &chunk.data);
                let discarded = current.discarding.push(tensor, offset, &chunk.data);
                assert_eq!(pushed.as_ref().ok(), discarded.as_ref().ok());
                if pushed.is_ok() {
                    current.accepted.extend_from_slice(&chunk.data);
                }
                if let Ok(true) = pushed {
                    finish(both.take().expect("an assembly is under way"));
                    has_completed = true;
                }
            }
            _ => {}
        }
    }
    has_completed
}

fn finish(both: Both) {
    let mut joined = Vec::new();
    for (header, bytes) in both.keeping.finish() {
        assert_eq!(header.byte_len().ok(), Some(bytes.len() as u64));
        joined.extend(bytes);
    }
    assert!(joined.len() as u64 <= MAX_TENSOR_BYTES);
    assert_eq!(joined, both.accepted, "the tensors hold what was sent");
    let discarded = both.discarding.finish();
    assert!(discarded.iter().all(|(_, bytes)| bytes.is_empty()));
}

/// A job with two tensors, as it should come, and with chunks between that must be refused.
pub fn seeds() -> Vec<Vec<u8>> {
    let tensors: [(&str, &[u64]); 2] = [("latent", &[1, 2, 3]), ("mask", &[4])];
    let job = frames::job([7; 16], Request::Decode, &tensors, JobOptions::default());
    let chunk = |tensor, offset, bytes| {
        ClientMessage::Chunk(Chunk {
            job: [7; 16],
            tensor,
            offset,
            data: vec![1; bytes],
        })
    };
    let mut refused = job.clone();
    let wrong = [
        chunk(0, 0, 25),
        chunk(0, 4, 4),
        chunk(1, 0, 16),
        chunk(0, 0, 0),
    ];
    refused.splice(1..1, wrong);
    [job, refused]
        .map(|messages| messages.iter().flat_map(frames::frame).collect())
        .to_vec()
}
