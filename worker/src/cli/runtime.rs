//! The asynchronous runtime that the server runs on.

use tokio::runtime::{Builder, Runtime};

use super::error::CliError;

/// Starts a runtime of two threads. They only move bytes and keep timers; the model has a
/// thread of its own.
///
/// # Errors
/// The system cannot start the threads.
pub fn start() -> Result<Runtime, CliError> {
    Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|e| CliError::new(format!("the server's threads cannot start: {e}"), ""))
}
