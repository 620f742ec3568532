//! Standard output, which carries a command's result.

use std::io::{self, IsTerminal, Write};

use super::error::CliError;
use crate::logging;
use crate::text::clean_lines;

/// Prints lines: unchanged where a program reads them, with control characters escaped on a
/// terminal. A reader that has closed the pipe early is not an error.
///
/// # Errors
/// Standard output cannot be written, for instance because the disk is full.
pub fn print(lines: &str) -> Result<(), CliError> {
    match io::stdout().is_terminal() {
        true => print_own(&clean_lines(lines)),
        false => print_own(lines),
    }
}

/// Prints text of the program's own, which may hold colour codes, without escaping it.
///
/// # Errors
/// As for [`print`].
pub fn print_own(lines: &str) -> Result<(), CliError> {
    // Standard error is written by another thread: let it finish first, to keep the order.
    logging::flush();
    let mut out = io::stdout().lock();
    let ending = if lines.ends_with('\n') { "" } else { "\n" };
    let written = out
        .write_all(lines.as_bytes())
        .and_then(|()| out.write_all(ending.as_bytes()))
        .and_then(|()| out.flush());
    match written {
        Err(e) if e.kind() != io::ErrorKind::BrokenPipe => Err(CliError::new(
            format!("standard output cannot be written: {e}"),
            "Check where it is redirected to.",
        )),
        _ => Ok(()),
    }
}
