//! The worker's load, as it answers a status request.

use bincode::{Decode, Encode};

use crate::model::ModelState;

/// How busy a worker is and how much memory its device has in use.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub struct Status {
    /// Number of jobs in the queue.
    pub queued: u32,
    /// Number of jobs on the device.
    pub running: u32,
    /// Number of jobs that have ended since the worker started.
    pub finished: u64,
    /// Seconds since the worker started.
    pub uptime_seconds: f64,
    /// Bytes of device memory in use; 0 when unknown.
    pub device_bytes_used: u64,
    /// Bytes of device memory in total; 0 when unknown.
    pub device_bytes_total: u64,
    /// Where the weights of each model are, in the order of the capabilities' `models`.
    pub models: Vec<ModelState>,
}
