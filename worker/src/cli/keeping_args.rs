//! How long jobs and results are kept, and where.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use ovis_protocol::StateInterval;

use super::error::CliError;
use super::values::{parsed, seconds, whole};
use crate::jobs::journal::{DiskJournal, Journal, JournalError};
use crate::jobs::Limits;
use crate::pipeline::{parse_bytes, NotBytes};

/// How long jobs and results are kept, and where.
#[derive(Clone, Debug, Args)]
pub struct KeepingArgs {
    /// Folder in which jobs, the states of running jobs and results are kept, so that they
    /// outlive this process: after a crash or a restart, jobs go on from their last state. By
    /// default, they end with the process.
    #[arg(long, value_name = "DIR", env = "OVIS_WORKER_STATE_DIR")]
    pub state_dir: Option<PathBuf>,
    /// Most bytes that --state-dir may hold, such as 16GiB. Jobs beyond it run, and end with this
    /// process.
    #[arg(
        long,
        value_name = "SIZE",
        default_value = "16GiB",
        value_parser = parsed(size),
        allow_hyphen_values = true
    )]
    state_size: u64,
    /// Write the state of a running job to --state-dir after this many steps; 0 is never.
    #[arg(
        long,
        value_name = "N",
        default_value_t = 0,
        value_parser = whole::<u32>(),
        allow_hyphen_values = true
    )]
    checkpoint_steps: u32,
    /// Write the state of a running job to --state-dir after the step at whose end this many
    /// seconds have passed since the last state; 0 is never.
    #[arg(
        long,
        value_name = "SECONDS",
        default_value_t = 10.0,
        value_parser = parsed(seconds),
        allow_hyphen_values = true
    )]
    checkpoint_seconds: f64,
    /// Most bytes of results that are kept until their clients have acknowledged them, such as
    /// 4GiB. Beyond it, results of clients that are away are dropped first.
    #[arg(
        long,
        value_name = "SIZE",
        default_value = "2GiB",
        value_parser = parsed(size),
        allow_hyphen_values = true
    )]
    keep: u64,
    /// Seconds for which an unfinished job is kept after its client has left, and an ended one
    /// after its end.
    #[arg(
        long,
        value_name = "SECONDS",
        default_value_t = 3600.0,
        value_parser = parsed(seconds),
        allow_hyphen_values = true
    )]
    keep_seconds: f64,
}

fn size(text: &str) -> Result<u64, NotBytes> {
    parse_bytes(text.trim())
}

impl KeepingArgs {
    /// Opens the journal in the state folder, if there is one.
    ///
    /// # Errors
    /// Another worker uses the folder, or it cannot be read or written.
    pub fn journal(&self) -> Result<Option<Arc<dyn Journal>>, CliError> {
        let Some(dir) = &self.state_dir else {
            return Ok(None);
        };
        let opened = DiskJournal::open(dir, self.state_size);
        let journal = opened.map_err(|error| {
            let hint = match error {
                JournalError::InUse { .. } => "Give every worker a --state-dir of its own.",
                _ => "Choose a folder for --state-dir that this user may write to.",
            };
            CliError::new(error.to_string(), hint)
        })?;
        Ok(Some(Arc::new(journal)))
    }

    /// The bounds on what jobs keep, with so many queue places in all and for each owner.
    pub fn limits(&self, queue: usize, queue_per_owner: usize) -> Limits {
        Limits {
            queue,
            queue_per_owner,
            kept_bytes: self.keep,
            kept_for: Duration::from_secs_f64(self.keep_seconds),
            checkpoint: StateInterval {
                steps: self.checkpoint_steps,
                seconds: self.checkpoint_seconds,
            },
        }
    }
}
