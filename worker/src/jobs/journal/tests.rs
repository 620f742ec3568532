//! Journals that are opened again, torn, damaged and full.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ovis_protocol::{
    DType, DenoiseRequest, EncodeRequest, ErrorCode, JobOptions, Outcome, Request, TensorHeader,
    WireError,
};
use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::pipeline::{Latent, Output};

const SOON: Duration = Duration::from_secs(10);

fn key(owner: u8, id: u8) -> RecordKey {
    RecordKey {
        owner: [owner; 32],
        id: Uuid::from_bytes([id; 16]),
    }
}

fn record(key: RecordKey, number: u64) -> JobRecord {
    JobRecord {
        key,
        number,
        client: "a designer’s ComfyUI".into(),
        party: "token studio".into(),
        model: "a model, f32, cpu".into(),
        submitted: SystemTime::UNIX_EPOCH + Duration::new(1_800_000_000, 123_456_789),
        deadline: Some(SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_600)),
        request: Request::Denoise(Box::new(DenoiseRequest::new(7, 20, 4.5))),
        options: JobOptions {
            trace: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into()),
            ..JobOptions::default()
        },
        content: [9; 32],
    }
}

fn tensors() -> Vec<(TensorHeader, Vec<u8>)> {
    vec![
        (
            TensorHeader::new("positive", DType::F32, [1, 2, 2]),
            (0..16).collect(),
        ),
        (
            TensorHeader::new("latent", DType::U8, [5]),
            vec![1, 2, 3, 4, 5],
        ),
    ]
}

fn done() -> RecordedEnd {
    let latent = Latent::from_values(vec![0.5, -1.5, 2.0], &[1, 1, 1, 3]).unwrap();
    let outcome = Outcome {
        seconds_queued: 0.25,
        seconds_running: 3.5,
        cuts: vec![],
    };
    RecordedEnd::Done(outcome, Output::latent(&latent).unwrap())
}

fn failed() -> RecordedEnd {
    RecordedEnd::Failed(WireError::new(
        ErrorCode::OutOfMemory,
        "too large",
        "smaller",
    ))
}

fn open(dir: &Path) -> DiskJournal {
    DiskJournal::open(dir, 1 << 30).unwrap()
}

/// The files of the folder's jobs, by name.
fn names(dir: &Path) -> Vec<String> {
    let files = std::fs::read_dir(dir.join("jobs")).unwrap();
    let mut names: Vec<_> = files
        .map(|file| file.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn state(byte: u8) -> Arc<[u8]> {
    Arc::from(vec![byte; 1000])
}

#[test]
fn what_was_written_is_there_again() {
    let dir = tempfile::tempdir().unwrap();
    let journal = open(dir.path());
    // The same UUID of two owners, and an order that is not that of the names.
    let keys = [key(9, 1), key(1, 1), key(5, 2), key(5, 3), key(5, 4)];
    for (number, key) in (10..).zip(keys) {
        journal.accept(&record(key, number), &tensors()).unwrap();
    }
    journal.begin(keys[0]);
    journal.begin(keys[0]);
    journal.begin(keys[1]);
    journal.checkpoint(keys[1], 4, state(1));
    journal.flush(SOON);
    journal.checkpoint(keys[1], 8, state(2));
    journal.flush(SOON);
    journal.begin(keys[1]);
    journal.end(keys[2], done());
    journal.end(keys[3], failed());
    journal.forget(keys[4]);
    journal.flush(SOON);
    assert_eq!(names(dir.path()).len(), 7, "{:?}", names(dir.path()));
    let used = journal.usage();
    assert_eq!((used.failed_writes, used.skipped_states), (0, 0));
    drop(journal);

    let journal = open(dir.path());
    assert_eq!(journal.usage().bytes, used.bytes);
    let found: Vec<_> = journal.recover().collect();
    let order: Vec<_> = found.iter().map(|job| job.record.clone()).collect();
    let expected: Vec<_> = (10..)
        .zip(&keys[..4])
        .map(|(n, key)| record(*key, n))
        .collect();
    assert_eq!(order, expected);
    for job in &found[..2] {
        assert_eq!(job.tensors, tensors());
        assert!(job.end.is_none());
    }
    assert_eq!((found[0].begun, &found[0].state), (2, &None));
    assert_eq!(found[1].state, Some((8, vec![2; 1000])));
    assert_eq!(found[1].begun, 1, "a state forgets earlier beginnings");
    let (_, RecordedEnd::Done(outcome, output)) = found[2].end.as_ref().unwrap() else {
        panic!("{:?}", found[2]);
    };
    assert_eq!((outcome.seconds_running, output.name), (3.5, "latent"));
    assert_eq!(output.shape(), [1, 1, 1, 3]);
    assert_eq!(output.bytes(1..2), (-1.5_f32).to_le_bytes());
    let (_, RecordedEnd::Failed(error)) = found[3].end.as_ref().unwrap() else {
        panic!("{:?}", found[3]);
    };
    assert_eq!(error.hint, "smaller");
    // What was recovered can end and be forgotten.
    journal.end(keys[0], done());
    journal.flush(SOON);
    for key in keys {
        journal.forget(key);
    }
    journal.flush(SOON);
    assert!(names(dir.path()).is_empty());
    assert_eq!(journal.usage().bytes, 0);
}

/// The count of beginnings is removed after the state is written. A process that ends in
/// between leaves both, and must not count as one that ended without progress.
#[test]
fn beginnings_before_the_latest_state_do_not_count() {
    let dir = tempfile::tempdir().unwrap();
    let journal = open(dir.path());
    journal.accept(&record(key(1, 1), 1), &tensors()).unwrap();
    for step in [4, 8] {
        journal.begin(key(1, 1));
        let name = names(dir.path())
            .into_iter()
            .find(|n| n.ends_with(".begun"));
        let path = dir.path().join("jobs").join(name.unwrap());
        let count = std::fs::read(&path).unwrap();
        assert_eq!(journal.recover().next().unwrap().begun, 1);
        journal.checkpoint(key(1, 1), step, state(1));
        journal.flush(SOON);
        assert!(!path.exists(), "a state removes the count");
        std::fs::write(&path, count).unwrap();
        let found = journal.recover().next().unwrap();
        assert_eq!((found.begun, found.state.unwrap().0), (0, step));
    }
    journal.begin(key(1, 1));
    journal.begin(key(1, 1));
    assert_eq!(
        journal.recover().next().unwrap().begun,
        2,
        "those since the latest state do"
    );
}

#[test]
fn a_uuid_that_is_used_again_is_the_new_job() {
    let dir = tempfile::tempdir().unwrap();
    let journal = open(dir.path());
    for round in 0..50 {
        journal
            .accept(&record(key(1, 1), round), &tensors())
            .unwrap();
        journal.begin(key(1, 1));
        journal.checkpoint(key(1, 1), 1, state(1));
        journal.end(key(1, 1), done());
        journal.forget(key(1, 1));
    }
    journal.accept(&record(key(1, 1), 99), &tensors()).unwrap();
    journal.flush(SOON);
    drop(journal);
    let journal = open(dir.path());
    let found: Vec<_> = journal.recover().collect();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].record.number, 99);
    assert!(found[0].end.is_none() && found[0].state.is_none() && found[0].begun == 0);
}

#[test]
fn a_folder_has_one_worker() {
    let dir = tempfile::tempdir().unwrap();
    let first = open(dir.path());
    let second = DiskJournal::open(dir.path(), 0).err().unwrap();
    assert!(matches!(second, JournalError::InUse { .. }), "{second}");
    drop(first);
    open(dir.path());
}

#[test]
fn a_full_journal_refuses_jobs_and_keeps_the_rest() {
    let dir = tempfile::tempdir().unwrap();
    let journal = DiskJournal::open(dir.path(), 2500).unwrap();
    journal.accept(&record(key(1, 1), 1), &tensors()).unwrap();
    let large = vec![(
        TensorHeader::new("latent", DType::U8, [2000]),
        vec![0; 2000],
    )];
    let error = journal.accept(&record(key(1, 2), 2), &large).unwrap_err();
    assert!(matches!(error, JournalError::Full { .. }), "{error}");
    journal.forget(key(1, 1));
    journal.flush(SOON);
    let small = vec![(TensorHeader::new("latent", DType::U8, [20]), vec![0; 20])];
    journal.accept(&record(key(1, 2), 2), &small).unwrap();
    assert_eq!(journal.recover().count(), 1);
}

#[cfg(unix)]
#[test]
fn only_its_user_reads_it() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let journal = open(dir.path());
    journal.accept(&record(key(1, 1), 1), &tensors()).unwrap();
    let mode = |path: PathBuf| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let jobs = dir.path().join("jobs");
    assert_eq!(mode(jobs.clone()), 0o700);
    for name in names(dir.path()) {
        assert_eq!(mode(jobs.join(&name)), 0o600, "{name}");
    }
}

#[test]
fn a_folder_that_cannot_be_written_is_counted_and_harms_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let journal = open(dir.path());
    journal.accept(&record(key(1, 1), 1), &tensors()).unwrap();
    // A folder in the way of each file, as the tests may run as a user whom no permission stops.
    let job = names(dir.path()).remove(0);
    for suffix in ["state", "end", "begun"] {
        let file = job.replace(".job", &format!(".{suffix}.partial"));
        std::fs::create_dir(dir.path().join("jobs").join(file)).unwrap();
    }
    journal.begin(key(1, 1));
    journal.checkpoint(key(1, 1), 1, state(1));
    journal.flush(SOON);
    journal.end(key(1, 1), done());
    journal.flush(SOON);
    assert_eq!(journal.usage().failed_writes, 3);
    assert_eq!(journal.recover().count(), 1, "the job is still there");
}

#[test]
fn a_state_that_comes_too_fast_replaces_the_one_that_waits() {
    let dir = tempfile::tempdir().unwrap();
    let journal = open(dir.path());
    journal.accept(&record(key(1, 1), 1), &tensors()).unwrap();
    let large: Arc<[u8]> = Arc::from(vec![3; 8 << 20]);
    for step in 1..=50 {
        journal.checkpoint(key(1, 1), step, large.clone());
    }
    journal.flush(SOON);
    let (written, usage) = (journal.recover().next().unwrap(), journal.usage());
    assert_eq!(written.state.unwrap().0, 50);
    assert!(usage.skipped_states > 0);
}

/// One file of each kind, and a journal's other job that must not suffer.
fn three_files(dir: &Path) -> Vec<PathBuf> {
    let journal = open(dir);
    journal.accept(&record(key(1, 1), 1), &tensors()).unwrap();
    journal.checkpoint(key(1, 1), 4, state(1));
    journal.accept(&record(key(1, 2), 2), &tensors()).unwrap();
    journal.end(key(1, 2), done());
    journal.flush(SOON);
    names(dir)
        .iter()
        .map(|name| dir.join("jobs").join(name))
        .collect()
}

#[test]
fn a_torn_file_is_put_aside_and_the_others_are_read() {
    let whole = tempfile::tempdir().unwrap();
    for (at, path) in three_files(whole.path()).iter().enumerate() {
        let bytes = std::fs::read(path).unwrap();
        for length in [0, 1, 7, 8, 40, bytes.len() / 2, bytes.len() - 1] {
            let dir = tempfile::tempdir().unwrap();
            let torn = three_files(dir.path()).swap_remove(at);
            std::fs::write(&torn, &bytes[..length]).unwrap();
            let journal = open(dir.path());
            let found: Vec<_> = journal.recover().collect();
            let is_state = torn.extension().is_some_and(|suffix| suffix == "state");
            assert_eq!(found.len(), 1 + usize::from(is_state), "{torn:?} {length}");
            assert!(found.iter().all(|job| job.state.is_none() || !is_state));
            let aside = dir.path().join("damaged").join(torn.file_name().unwrap());
            assert_eq!(std::fs::read(aside).unwrap().len(), length);
        }
    }
}

#[test]
fn a_file_that_was_not_written_to_its_end_is_no_file() {
    let dir = tempfile::tempdir().unwrap();
    let files = three_files(dir.path());
    let partial = super::folder::partial(&files[0]);
    std::fs::copy(&files[0], &partial).unwrap();
    let journal = open(dir.path());
    let found: Vec<_> = journal.recover().collect();
    assert_eq!(found.len(), 2);
    assert!(!partial.exists());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    /// A changed byte is always noticed.
    #[test]
    fn a_damaged_file_is_never_taken_for_a_whole_one(
        pick in any::<prop::sample::Index>(),
        flips in proptest::collection::vec((any::<prop::sample::Index>(), 1u8..), 1..4),
    ) {
        thread_local! {
            static FILES: Vec<(PathBuf, Vec<u8>)> = {
                let dir = tempfile::tempdir().unwrap();
                let read = |path: PathBuf| { let bytes = std::fs::read(&path).unwrap(); (path, bytes) };
                three_files(dir.path()).into_iter().map(read).collect()
            };
        }
        FILES.with(|files| {
            let (path, bytes) = pick.get(files);
            let mut damaged = bytes.clone();
            for (at, flip) in flips {
                damaged[at.index(bytes.len())] ^= flip;
            }
            if damaged != *bytes {
                let is_refused = match path.extension().and_then(|suffix| suffix.to_str()) {
                    Some("job") => super::files::read_job(&damaged).is_err(),
                    Some("state") => super::files::read_state(&damaged).is_err(),
                    _ => super::files::read_end(&damaged).is_err(),
                };
                assert!(is_refused);
            }
        });
    }

    /// Bytes with a right digest may still be anything.
    #[test]
    fn anything_with_a_right_digest_is_read_or_refused(
        kind in 0u32..5,
        metadata in "(\\{[a-z\":0-9,]*\\}|.*)",
        words in proptest::collection::vec(any::<u64>(), 0..8),
        rest in proptest::collection::vec(any::<u8>(), 0..64),
    ) {
        use sha2::Digest;
        let mut bytes = b"OVISJRNL".to_vec();
        bytes.extend(1u32.to_le_bytes());
        bytes.extend(kind.to_le_bytes());
        bytes.extend((metadata.len() as u64).to_le_bytes());
        bytes.extend(metadata.as_bytes());
        bytes.extend(words.iter().flat_map(|word| word.to_le_bytes()));
        bytes.extend(rest);
        let digest = sha2::Sha256::digest(&bytes);
        bytes.extend(digest);
        assert!(super::files::read_job(&bytes).is_err());
        assert!(super::files::read_state(&bytes).is_err());
        assert!(super::files::read_end(&bytes).is_err());
    }
}

#[test]
fn a_file_under_another_name_is_put_aside() {
    let dir = tempfile::tempdir().unwrap();
    let files = three_files(dir.path());
    for path in &files {
        let name = path.file_name().unwrap().to_str().unwrap();
        let other = path.with_file_name(name.replacen("0101", "0909", 1));
        std::fs::copy(path, other).unwrap();
    }
    let journal = open(dir.path());
    let keys: Vec<_> = journal.recover().map(|job| job.record.key).collect();
    assert_eq!(keys, [key(1, 1), key(1, 2)]);
    assert_eq!(journal.recover().count(), 2);
}

#[test]
fn files_of_another_version_stay_where_they_are() {
    use sha2::Digest;
    let dir = tempfile::tempdir().unwrap();
    for path in three_files(dir.path()) {
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[8] = 99;
        let content = bytes.len() - 32;
        let digest = sha2::Sha256::digest(&bytes[..content]);
        bytes[content..].copy_from_slice(&digest);
        std::fs::write(&path, bytes).unwrap();
    }
    let before = names(dir.path());
    assert_eq!(open(dir.path()).recover().count(), 0);
    assert_eq!(names(dir.path()), before);
}

#[test]
fn requests_of_every_kind_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let journal = open(dir.path());
    let requests = [
        Request::Encode(EncodeRequest {
            prompts: vec!["“新年快乐”".into(), String::new()],
            max_sequence_length: 256,
            adapters: vec![],
        }),
        Request::Decode,
        Request::VaeEncode,
    ];
    for (number, request) in (0..).zip(requests.clone()) {
        let job = JobRecord {
            request,
            deadline: None,
            ..record(key(1, number), number.into())
        };
        journal.accept(&job, &[]).unwrap();
    }
    let found: Vec<_> = journal.recover().collect();
    let kept: Vec<_> = found.into_iter().map(|job| job.record.request).collect();
    assert_eq!(kept, requests);
}
