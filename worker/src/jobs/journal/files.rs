//! Jobs, states and ends as files.

use std::io::Read;
use std::time::{Duration, SystemTime};

use ovis_protocol::limits::{MAX_TENSORS, PROTOCOL_VERSION};
use ovis_protocol::{
    decode_client, decode_worker, encode, ClientMessage, DType, TensorHeader, WorkerMessage,
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::contract::{JobRecord, JournalError, RecordKey, RecordedEnd};
use super::sections::{self, Kind};
use crate::pipeline::Output;

/// The metadata of a job and of an end. Request, options and headers are in a section, as the
/// message of the protocol.
#[derive(Serialize, Deserialize)]
struct JobMetadata {
    protocol: u32,
    owner: String,
    id: Uuid,
    number: u64,
    client: String,
    party: String,
    model: String,
    content: String,
    submitted: Seconds,
    deadline: Option<Seconds>,
    /// When the job ended, in an end's file.
    ended: Option<Seconds>,
}

/// The metadata of a state.
#[derive(Serialize, Deserialize)]
struct StateMetadata {
    owner: String,
    id: Uuid,
    step: u32,
}

/// A time as seconds and nanoseconds since 1970.
#[derive(Clone, Copy, Serialize, Deserialize)]
struct Seconds(u64, u32);

impl From<SystemTime> for Seconds {
    fn from(time: SystemTime) -> Self {
        let since = time.duration_since(SystemTime::UNIX_EPOCH);
        let since = since.unwrap_or_default();
        Self(since.as_secs(), since.subsec_nanos())
    }
}

impl Seconds {
    fn time(self) -> Result<SystemTime, JournalError> {
        let damaged = JournalError::Damaged("a time in it does not exist");
        let nanos = (self.1 < 1_000_000_000).then_some(self.1);
        let since = nanos.map(|nanos| Duration::new(self.0, nanos));
        let time = since.and_then(|since| SystemTime::UNIX_EPOCH.checked_add(since));
        time.ok_or(damaged)
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn digest(text: &str) -> Result<[u8; 32], JournalError> {
    let damaged = || JournalError::Damaged("a digest in it cannot be read");
    let mut bytes = [0; 32];
    if text.len() != 64 || !text.is_ascii() {
        return Err(damaged());
    }
    for (at, byte) in bytes.iter_mut().enumerate() {
        let digits = &text[2 * at..2 * at + 2];
        *byte = u8::from_str_radix(digits, 16).map_err(|_| damaged())?;
    }
    Ok(bytes)
}

/// A file's content before it is written: metadata and owned sections.
pub struct Content {
    /// What the file holds.
    pub kind: Kind,
    /// JSON.
    pub metadata: Vec<u8>,
    /// In order.
    pub sections: Vec<Vec<u8>>,
}

fn job_metadata(record: &JobRecord, ended: Option<SystemTime>) -> Result<Vec<u8>, JournalError> {
    sections::metadata(&JobMetadata {
        protocol: PROTOCOL_VERSION,
        owner: hex(&record.key.owner),
        id: record.key.id,
        number: record.number,
        client: record.client.clone(),
        party: record.party.clone(),
        model: record.model.clone(),
        content: hex(&record.content),
        submitted: record.submitted.into(),
        deadline: record.deadline.map(Seconds::from),
        ended: ended.map(Seconds::from),
    })
}

fn message(encoded: Result<Vec<u8>, ovis_protocol::CodecError>) -> Result<Vec<u8>, JournalError> {
    encoded.map_err(|error| JournalError::Unwritable(error.to_string()))
}

fn submit(record: &JobRecord, headers: Vec<TensorHeader>) -> Result<Vec<u8>, JournalError> {
    message(encode(&ClientMessage::Submit {
        job: record.key.id.into_bytes(),
        request: record.request.clone(),
        tensors: headers,
        options: record.options.clone(),
    }))
}

/// A job's metadata, and its first section. The tensors' bytes are the further ones.
///
/// # Errors
/// The job has no form as a file, which no accepted one lacks.
pub fn job(
    record: &JobRecord,
    headers: Vec<TensorHeader>,
) -> Result<(Vec<u8>, Vec<u8>), JournalError> {
    Ok((job_metadata(record, None)?, submit(record, headers)?))
}

/// A state after `step` steps; its bytes are the only section.
///
/// # Errors
/// As for [`job`].
pub fn state(key: RecordKey, step: u32) -> Result<Vec<u8>, JournalError> {
    sections::metadata(&StateMetadata {
        owner: hex(&key.owner),
        id: key.id,
        step,
    })
}

/// The end of a job: what it was asked to do, how it ended, and its result.
///
/// # Errors
/// As for [`job`].
pub fn end(
    record: &JobRecord,
    ended: SystemTime,
    end: &RecordedEnd,
) -> Result<Content, JournalError> {
    let job = record.key.id.into_bytes();
    let (said, result) = match end {
        RecordedEnd::Done(outcome, output) => {
            let header = TensorHeader::new(output.name, DType::F32, output.shape());
            let done = WorkerMessage::Done {
                job,
                outcome: outcome.clone(),
                tensors: vec![header],
            };
            (done, Some(output.bytes(0..output.len())))
        }
        RecordedEnd::Failed(error) => {
            let error = error.clone();
            (WorkerMessage::Failed { job, error }, None)
        }
    };
    let mut sections = vec![submit(record, Vec::new())?, message(encode(&said))?];
    sections.extend(result);
    Ok(Content {
        kind: Kind::End,
        metadata: job_metadata(record, Some(ended))?,
        sections,
    })
}

fn key(owner: &str, id: Uuid) -> Result<RecordKey, JournalError> {
    let owner = digest(owner)?;
    Ok(RecordKey { owner, id })
}

fn record(
    metadata: JobMetadata,
    submit: &[u8],
) -> Result<(JobRecord, Vec<TensorHeader>), JournalError> {
    if metadata.protocol != PROTOCOL_VERSION {
        return Err(JournalError::OtherVersion);
    }
    let Ok(ClientMessage::Submit {
        job,
        request,
        tensors,
        options,
    }) = decode_client(submit)
    else {
        return Err(JournalError::Damaged("its request cannot be read"));
    };
    if job != metadata.id.into_bytes() || tensors.len() > MAX_TENSORS {
        return Err(JournalError::Damaged("its request is another job's"));
    }
    let record = JobRecord {
        key: key(&metadata.owner, metadata.id)?,
        number: metadata.number,
        client: metadata.client,
        party: metadata.party,
        model: metadata.model,
        submitted: metadata.submitted.time()?,
        deadline: metadata.deadline.map(Seconds::time).transpose()?,
        request,
        options,
        content: digest(&metadata.content)?,
    };
    Ok((record, tensors))
}

/// The number of the job whose file begins like this.
pub fn read_number(file: impl Read) -> Option<u64> {
    #[derive(Deserialize)]
    struct Numbered {
        number: u64,
    }
    let metadata: Numbered = sections::read_metadata(file)?;
    Some(metadata.number)
}

/// A job with its tensors.
pub type JobFile = (JobRecord, Vec<(TensorHeader, Vec<u8>)>);

/// Reads a job's file.
///
/// # Errors
/// `Damaged` for anything that was not written as one.
pub fn read_job(bytes: &[u8]) -> Result<JobFile, JournalError> {
    let (metadata, sections) = sections::read(bytes, Kind::Job)?;
    let [submit, tensors @ ..] = &sections[..] else {
        return Err(JournalError::Damaged("it has no request"));
    };
    let (record, headers) = record(metadata, submit)?;
    let fits = |(header, bytes): (&TensorHeader, &&[u8])| {
        header.byte_len().is_ok_and(|len| len == bytes.len() as u64)
    };
    if headers.len() != tensors.len() || !headers.iter().zip(tensors).all(fits) {
        return Err(JournalError::Damaged("its tensors are not as announced"));
    }
    let tensors = tensors.iter().map(|bytes| bytes.to_vec());
    Ok((record, headers.into_iter().zip(tensors).collect()))
}

/// Reads a state's file: whose it is, the number of steps, and the state.
///
/// # Errors
/// As for [`read_job`].
pub fn read_state(bytes: &[u8]) -> Result<(RecordKey, u32, Vec<u8>), JournalError> {
    let (metadata, sections): (StateMetadata, _) = sections::read(bytes, Kind::State)?;
    match sections[..] {
        [state] => Ok((
            key(&metadata.owner, metadata.id)?,
            metadata.step,
            state.to_vec(),
        )),
        _ => Err(JournalError::Damaged("it does not hold one state")),
    }
}

/// Reads an end's file: the job, and when and how it ended.
///
/// # Errors
/// As for [`read_job`].
pub fn read_end(bytes: &[u8]) -> Result<(JobRecord, SystemTime, RecordedEnd), JournalError> {
    let damaged = JournalError::Damaged;
    let (metadata, sections): (JobMetadata, _) = sections::read(bytes, Kind::End)?;
    let ended = metadata.ended.ok_or(damaged("it does not say when"))?;
    let [submit, said, result @ ..] = &sections[..] else {
        return Err(damaged("it does not say how the job ended"));
    };
    let (record, _) = record(metadata, submit)?;
    let said = decode_worker(said).map_err(|_| damaged("it does not say how the job ended"))?;
    let end = match (said, result) {
        (WorkerMessage::Failed { error, .. }, []) => RecordedEnd::Failed(error),
        (
            WorkerMessage::Done {
                outcome, tensors, ..
            },
            [bytes],
        ) => {
            let [header] = &tensors[..] else {
                return Err(damaged("it does not hold one result"));
            };
            let is_whole = header.byte_len().is_ok_and(|len| len == bytes.len() as u64);
            let output = match header.dtype == DType::F32 && is_whole {
                true => Output::from_bytes(&header.name, &header.shape, bytes),
                false => None,
            };
            RecordedEnd::Done(
                outcome,
                output.ok_or(damaged("its result is not as announced"))?,
            )
        }
        _ => return Err(damaged("it does not hold one result")),
    };
    Ok((record, ended.time()?, end))
}
