//! What both systems report about signals.

use crate::cli::error::CliError;
use crate::cli::out_file;
use crate::logging;

/// Reports that the program was stopped, after removing a file that is being written.
pub fn say_stopped(by: &str) {
    out_file::remove_temporary();
    logging::say_last(&format!(
        "error: stopped by {by}; no file was left half-written"
    ));
    logging::flush();
}

/// The error for a signal handler that cannot be installed.
pub fn cannot_watch(error: std::io::Error) -> CliError {
    CliError::new(format!("signals cannot be watched: {error}"), "")
}
