//! The log, and all other output on standard error.
//!
//! A thread of its own writes the lines. If whatever reads standard error is slow, blocked or
//! gone, lines are dropped and counted, and the worker continues. Every line has a bounded
//! length, and untrusted text in it is escaped, so that it can neither forge a log line nor
//! control a terminal.
//!
//! Code logs with the macros of `tracing`. Messages are lower case; values are fields
//! (`tracing::info!(seconds, "loaded")`), and a span carries what several lines share, such as
//! a job's id.
//!
//! - `filter`: parses `OVIS_WORKER_LOG`
//! - `fields`: collects the fields of an event, within a size limit
//! - `layer`: formats events as lines of text or JSON
//! - `writer`: writes lines without blocking
//! - `stderr`: the one writer of standard error, and messages outside the log
//! - `panics`: reports panics

mod fields;
mod filter;
mod layer;
mod panics;
mod stderr;
mod writer;

use tracing_subscriber::layer::SubscriberExt;

pub use layer::LogFormat;
pub use panics::install as install_panic_hook;
pub use stderr::{dropped_lines, flush, has_colours, say, say_last, say_lines};

use layer::LogLayer;

/// Starts the log on standard error. The environment variable `OVIS_WORKER_LOG` sets its level.
pub fn start(format: LogFormat) {
    stderr::set_format(format);
    let (filter, complaint) = filter::parse(std::env::var_os(filter::VARIABLE).as_deref());
    let layer = LogLayer {
        format,
        has_colours: has_colours(&std::io::stderr()),
        writer: stderr::writer(),
    };
    let subscriber = tracing_subscriber::registry().with(filter).with(layer);
    // A second start, which only a test makes, keeps the first log. Records of the `log` crate
    // are not captured: a websocket library logs its frames there, and they hold the clients'
    // tokens.
    let _ = tracing::subscriber::set_global_default(subscriber);
    if let Some(complaint) = complaint {
        tracing::warn!("{complaint}");
    }
}
