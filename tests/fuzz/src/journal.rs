//! Files of the worker's state folder.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ovis_protocol::{
    DType, DenoiseRequest, ErrorCode, JobOptions, Outcome, Request, TensorHeader, WireError,
};
use ovis_worker::jobs::journal::fuzzing::{read, Read};
use ovis_worker::jobs::journal::{DiskJournal, JobRecord, Journal, RecordKey, RecordedEnd};
use ovis_worker::pipeline::{Latent, Output};
use uuid::Uuid;

/// Bytes of the digest at a file's end.
const DIGEST_BYTES: usize = 32;

/// Reads `data`, with its digest behind it, as each kind of file, and says whether it is one.
///
/// # Panics
/// If reading panics, or what was read and written again is not the same.
pub fn run(data: &[u8]) -> bool {
    read(data) != Read::Nothing
}

fn record(id: u8) -> JobRecord {
    JobRecord {
        key: RecordKey {
            owner: [id; 32],
            id: Uuid::from_bytes([id; 16]),
        },
        number: id.into(),
        client: "a designer’s ComfyUI".into(),
        party: "token studio".into(),
        model: "a model, f32, cpu".into(),
        submitted: SystemTime::UNIX_EPOCH + Duration::new(1_800_000_000, 123_456_789),
        deadline: Some(SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_600)),
        request: Request::Denoise(Box::new(DenoiseRequest::new(7, 20, 4.5))),
        options: JobOptions::default(),
        content: [9; 32],
    }
}

/// A job, a state, and both kinds of ends, as a journal writes them.
///
/// # Panics
/// If the journal cannot be written.
pub fn seeds() -> Vec<Vec<u8>> {
    let folder = tempfile::tempdir().expect("there is a folder for temporary files");
    let journal = DiskJournal::open(folder.path(), 1 << 20).expect("a journal opens");
    let header = |name, dtype, shape: &[u64]| TensorHeader::new(name, dtype, shape.to_vec());
    let tensors = [
        (header("positive", DType::F32, &[1, 2, 2]), vec![1; 16]),
        (header("state", DType::U8, &[5]), vec![2; 5]),
    ];
    for id in 1..=3 {
        let accepted = journal.accept(&record(id), &tensors);
        accepted.expect("a job is accepted");
    }
    journal.begin(record(1).key);
    journal.checkpoint(record(1).key, 4, Arc::from([3; 40]));
    let latent = Latent::from_values(vec![0.5, -1.5], &[1, 1, 1, 2]);
    let output = Output::latent(&latent.expect("the shape has 2 values"));
    let outcome = Outcome {
        seconds_queued: 0.25,
        seconds_running: 3.5,
        cuts: vec![],
    };
    let output = output.expect("the values are finite");
    journal.end(record(2).key, RecordedEnd::Done(outcome, output));
    let error = WireError::new(ErrorCode::OutOfMemory, "too large", "smaller");
    journal.end(record(3).key, RecordedEnd::Failed(error));
    journal.flush(Duration::from_secs(10));
    let mut files: Vec<_> = std::fs::read_dir(folder.path().join("jobs"))
        .expect("the journal has files")
        .map(|file| file.expect("the folder can be listed").path())
        .collect();
    files.sort();
    let contents = files.iter().map(|path| {
        let mut bytes = std::fs::read(path).expect("a file can be read");
        bytes.truncate(bytes.len().saturating_sub(DIGEST_BYTES));
        bytes
    });
    contents.collect()
}
