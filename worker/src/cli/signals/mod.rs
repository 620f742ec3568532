//! Signals that ask the program to stop: SIGTERM, Ctrl-C and SIGHUP.

mod report;

#[cfg(not(unix))]
mod elsewhere;
#[cfg(unix)]
mod unix;

#[cfg(not(unix))]
pub use elsewhere::{exit_now, exit_on_second_signal, exit_on_stop_signal, stop_signal};
#[cfg(unix)]
pub use unix::{exit_now, exit_on_second_signal, exit_on_stop_signal, stop_signal};
