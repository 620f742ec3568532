//! Systems other than Unix: Ctrl-C.

use std::future::Future;

use super::report::{cannot_watch, say_stopped};
use crate::cli::error::CliError;
use crate::logging;

/// Exit status after Ctrl-C.
const INTERRUPTED: i32 = 130;

/// A future that is ready at the next Ctrl-C, with its name and exit status. Never fails.
pub fn stop_signal() -> Result<impl Future<Output = (&'static str, i32)>, CliError> {
    Ok(async {
        if let Err(error) = tokio::signal::ctrl_c().await {
            tracing::warn!(%error, "Ctrl-C cannot be watched");
            std::future::pending::<()>().await;
        }
        ("Ctrl-C", INTERRUPTED)
    })
}

/// Ends the process at once at the next Ctrl-C. Call it on a runtime after the first one.
pub fn exit_on_second_signal() {
    let Ok(again) = stop_signal() else {
        return;
    };
    tokio::spawn(async move {
        let (signal, status) = again.await;
        tracing::warn!(signal, "asked to stop a second time: ending at once");
        logging::flush();
        exit_now(status)
    });
}

/// From now on, Ctrl-C ends the program at once, with a message.
///
/// # Errors
/// The thread that waits for Ctrl-C cannot be started.
pub fn exit_on_stop_signal() -> Result<(), CliError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()
        .map_err(cannot_watch)?;
    let thread = std::thread::Builder::new().name("signals".into());
    let watch = move || {
        let Ok(asked) = stop_signal() else {
            return;
        };
        let (name, status) = runtime.block_on(asked);
        say_stopped(name);
        exit_now(status)
    };
    thread.spawn(watch).map(drop).map_err(cannot_watch)
}

/// Ends the process at once with an exit status.
pub fn exit_now(status: i32) -> ! {
    std::process::exit(status)
}
