//! The messages of the golden vectors. Their floats have exact decimal forms, so that JSON
//! preserves every bit.

use ovis_protocol::{ClientMessage, JobId, WorkerMessage};

use crate::client::client_messages;
use crate::worker::{error_codes, worker_messages};

/// A message of either direction.
#[derive(Debug, PartialEq)]
pub enum Message {
    Client(ClientMessage),
    Worker(WorkerMessage),
}

/// The job of every message.
pub const JOB: JobId = [
    0x12, 0x3e, 0x45, 0x67, 0xe8, 0x9b, 0x42, 0xd3, 0xa4, 0x56, 0x42, 0x66, 0x14, 0x17, 0x40, 0x00,
];

/// All vectors: the name of the file without its suffix, and the message.
pub fn vectors() -> Vec<(String, Message)> {
    let client = client_messages()
        .into_iter()
        .map(|(name, m)| (format!("client-{name}"), Message::Client(m)));
    let worker = worker_messages()
        .into_iter()
        .map(|(name, m)| (format!("worker-{name}"), Message::Worker(m)));
    let errors = error_codes()
        .into_iter()
        .map(|(name, m)| (format!("worker-failed-{name}"), Message::Worker(m)));
    client.chain(worker).chain(errors).collect()
}
