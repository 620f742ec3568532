//! Standard error: the program's log and its messages share one writer, so that lines never mix.

use std::io::IsTerminal;
use std::sync::OnceLock;
use std::time::Duration;

use super::layer::{dropped_line, LogFormat};
use super::writer::LineWriter;
use crate::text::{clean, clean_lines};

/// How long [`flush`] waits for standard error to accept the lines.
const FLUSH_LIMIT: Duration = Duration::from_millis(500);

static WRITER: OnceLock<LineWriter> = OnceLock::new();
static FORMAT: OnceLock<LogFormat> = OnceLock::new();

/// The writer. Its thread starts with the first use.
pub fn writer() -> &'static LineWriter {
    WRITER.get_or_init(|| {
        LineWriter::start(std::io::stderr(), |count| match FORMAT.get() {
            Some(format) => dropped_line(*format, has_colours(&std::io::stderr()), count),
            None => format!("warning: {count} lines were dropped while nothing took them\n").into(),
        })
    })
}

/// Sets the format of the line that reports dropped lines; before, it is plain text.
pub fn set_format(format: LogFormat) {
    // A second call, which only a test makes, keeps the first format.
    let _ = FORMAT.set(format);
}

/// Whether a stream is a terminal, and `NO_COLOR` is not set.
pub fn has_colours(stream: &impl IsTerminal) -> bool {
    stream.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Writes a line to standard error, with control characters escaped. Does not wait.
pub fn say(line: &str) {
    writer().push(format!("{}\n", clean(line)).into_bytes());
}

/// Writes a line as [`say`] does, and drops all lines that follow. For the end of the program.
pub fn say_last(line: &str) {
    writer().push_last(format!("{}\n", clean(line)).into_bytes());
}

/// Writes several lines to standard error, with control characters escaped. Does not wait.
pub fn say_lines(lines: &str) {
    writer().push(format!("{}\n", clean_lines(lines.trim_end())).into_bytes());
}

/// Waits until all lines are written, for at most half a second. For the end of the program, and
/// before it writes to standard output.
pub fn flush() {
    writer().flush(FLUSH_LIMIT);
}

/// Number of lines dropped so far because nothing read standard error.
pub fn dropped_lines() -> u64 {
    writer().dropped()
}
