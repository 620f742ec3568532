//! Standard output: what a command was asked for.

use std::io::{self, IsTerminal, Write};

use super::CliError;
use crate::logging;
use crate::text::clean_lines;

/// Prints lines: as they are for a program that reads them, escaped for a terminal. A
/// reader that has seen enough and is gone is no error.
///
/// # Errors
/// Standard output takes nothing for another reason.
pub fn print(lines: &str) -> Result<(), CliError> {
    match io::stdout().is_terminal() {
        true => print_own(&clean_lines(lines)),
        false => print_own(lines),
    }
}

/// As [`print`], for words of the program's own, which may have colours.
///
/// # Errors
/// As [`print`].
pub fn print_own(lines: &str) -> Result<(), CliError> {
    // What was said before stands before.
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
