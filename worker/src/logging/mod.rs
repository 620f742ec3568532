//! The log, and everything else that goes to standard error.
//!
//! Lines are written by a thread of their own. Whoever reads them may be slow, stuck or
//! gone: then lines are dropped and counted, and work goes on. A line is bounded, and what
//! comes from outside is escaped in it, so that it can neither forge lines nor steer a
//! terminal.
//!
//! - `fields`: what an event carries, within bounds
//! - `layer`: events to lines
//! - `filter`: how much is logged
//! - `panics`: what is said of a defect
//! - `writer`: lines to a stream that may be stuck

mod fields;
mod filter;
mod layer;
mod panics;
mod writer;

use std::io::IsTerminal;
use std::sync::OnceLock;
use std::time::Duration;

use tracing_subscriber::layer::SubscriberExt;

pub use layer::LogFormat;
pub use panics::install as install_panic_hook;

use crate::text::{clean, clean_lines};
use layer::LogLayer;
use writer::LineWriter;

/// How long the program's end waits for its last lines to be read.
const LAST_LINES: Duration = Duration::from_millis(500);

static WRITER: OnceLock<LineWriter> = OnceLock::new();
static FORMAT: OnceLock<LogFormat> = OnceLock::new();

fn stderr() -> &'static LineWriter {
    WRITER.get_or_init(|| {
        LineWriter::start(std::io::stderr(), |count| match FORMAT.get() {
            Some(format) => layer::tell_dropped(*format, has_colours(&std::io::stderr()), count),
            None => format!("warning: {count} lines were dropped while nothing took them\n").into(),
        })
    })
}

/// Whether a stream is a terminal whose user wants colours.
pub fn has_colours(stream: &impl IsTerminal) -> bool {
    stream.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Starts the log. What it logs is `OVIS_WORKER_LOG`'s choice.
pub fn start(format: LogFormat) {
    let _ = FORMAT.set(format);
    let (filter, complaint) = filter::parse(std::env::var_os(filter::VARIABLE).as_deref());
    let layer = LogLayer {
        format,
        has_colours: has_colours(&std::io::stderr()),
        writer: stderr(),
    };
    let subscriber = tracing_subscriber::registry().with(filter).with(layer);
    // A second start, which only a test makes, keeps the first log. Records of the `log`
    // crate are left out: a websocket library writes its frames there, and the clients'
    // tokens with them.
    let _ = tracing::subscriber::set_global_default(subscriber);
    if let Some(complaint) = complaint {
        tracing::warn!("{complaint}");
    }
}

/// Says a line on standard error, escaped; it waits for nobody.
pub fn say(line: &str) {
    stderr().push(format!("{}\n", clean(line)).into_bytes());
}

/// Says a line as [`say`] does, and nothing after it: the program ends.
pub fn say_last(line: &str) {
    stderr().push_last(format!("{}\n", clean(line)).into_bytes());
}

/// Says lines on standard error, each of them escaped.
pub fn say_lines(lines: &str) {
    stderr().push(format!("{}\n", clean_lines(lines.trim_end())).into_bytes());
}

/// Waits a moment for what was said to be taken, before the program ends or writes to
/// standard output.
pub fn flush() {
    stderr().flush(LAST_LINES);
}

/// Lines of the log that nobody took, since the start.
pub fn dropped_lines() -> u64 {
    stderr().dropped()
}
