//! What must survive the process.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ovis_protocol::{JobOptions, Outcome, Request, TensorHeader, WireError};
use uuid::Uuid;

use crate::pipeline::Output;

#[derive(Debug, thiserror::Error)]
#[error("temporary")]
pub struct JournalError;

pub trait Journal: Send + Sync {
    fn accept(
        &self,
        job: &JobRecord,
        tensors: &[(TensorHeader, Vec<u8>)],
    ) -> Result<(), JournalError>;
    fn begin(&self, key: RecordKey);
    fn checkpoint(&self, key: RecordKey, step: u32, state: Arc<[u8]>);
    fn end(&self, key: RecordKey, end: RecordedEnd);
    fn forget(&self, key: RecordKey);
    fn recover(&self) -> Vec<Recovered>;
    fn usage(&self) -> JournalUsage;
    fn flush(&self, timeout: Duration);
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RecordKey {
    pub owner: [u8; 32],
    pub id: Uuid,
}

#[derive(Clone, Debug)]
pub struct JobRecord {
    pub key: RecordKey,
    pub number: u64,
    pub client: String,
    pub party: String,
    pub model: String,
    pub submitted: SystemTime,
    pub deadline: Option<SystemTime>,
    pub request: Request,
    pub options: JobOptions,
    pub content: [u8; 32],
}

pub struct Recovered {
    pub record: JobRecord,
    pub tensors: Vec<(TensorHeader, Vec<u8>)>,
    pub state: Option<(u32, Vec<u8>)>,
    pub begun: u32,
    pub end: Option<(SystemTime, RecordedEnd)>,
}

pub enum RecordedEnd {
    Done(Outcome, Output),
    Failed(WireError),
    Expired(WireError),
}

#[derive(Clone, Copy, Debug, Default)]
pub struct JournalUsage {
    pub bytes: u64,
    pub failed_writes: u64,
}
