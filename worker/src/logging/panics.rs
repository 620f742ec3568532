//! Reports panics: one line, followed by a backtrace at level `debug`.

use std::backtrace::Backtrace;
use std::panic::PanicHookInfo;

use super::stderr;
use crate::text::{excerpt, panic_text};

/// Most bytes of a panic's message. A field of the log has room for it and its length.
const MAX_MESSAGE: usize = 900;

/// Most lines of a backtrace.
const MAX_FRAMES: usize = 200;

/// Installs a hook that reports every panic in the log or, before the log is started, on
/// standard error.
pub fn install() {
    std::panic::set_hook(Box::new(report));
}

fn report(panic: &PanicHookInfo<'_>) {
    let message = excerpt(panic_text(panic.payload()), MAX_MESSAGE);
    let place = panic
        .location()
        .map_or_else(String::new, |l| format!("{}:{}", l.file(), l.line()));
    if !tracing::event_enabled!(tracing::Level::ERROR) {
        stderr::say(&format!("error: unexpected failure at {place}: {message}"));
        return;
    }
    let thread = std::thread::current();
    let thread = thread.name().unwrap_or("unnamed");
    tracing::error!(panic = message, place, thread, "unexpected failure");
    if tracing::event_enabled!(tracing::Level::DEBUG) {
        let backtrace = Backtrace::force_capture().to_string();
        for frame in backtrace.lines().take(MAX_FRAMES) {
            tracing::debug!(frame = frame.trim());
        }
    }
}
