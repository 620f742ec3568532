//! Unix: SIGTERM, SIGINT and SIGHUP.

use std::future::Future;

use tokio::signal::unix::{signal, SignalKind};

use super::report::{cannot_watch, say_stopped};
use crate::cli::error::CliError;
use crate::logging;

/// Whether the program was started with this signal ignored, as `nohup` does for SIGHUP.
fn is_ignored(kind: SignalKind) -> bool {
    let mut action = std::mem::MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: with no new action the call only fills `action`, whose fields are all
    // valid when zero.
    let action = unsafe {
        libc::sigaction(kind.as_raw_value(), std::ptr::null(), action.as_mut_ptr());
        action.assume_init()
    };
    action.sa_sigaction == libc::SIG_IGN
}

/// A future that is ready at the next SIGTERM, Ctrl-C or SIGHUP (a closed terminal), with
/// the signal's name and number. A signal that was ignored at the start stays ignored.
///
/// # Errors
/// A signal handler cannot be installed.
pub fn stop_signal() -> Result<impl Future<Output = (&'static str, i32)>, CliError> {
    let watch = |kind| match is_ignored(kind) {
        true => Ok(None),
        false => signal(kind).map(Some).map_err(cannot_watch),
    };
    let mut terminate = watch(SignalKind::terminate())?;
    let mut interrupt = watch(SignalKind::interrupt())?;
    let mut hangup = watch(SignalKind::hangup())?;
    Ok(async move {
        let came = async |signal: &mut Option<tokio::signal::unix::Signal>| match signal {
            Some(signal) => drop(signal.recv().await),
            None => std::future::pending().await,
        };
        tokio::select! {
            () = came(&mut terminate) => ("SIGTERM", libc::SIGTERM),
            () = came(&mut interrupt) => ("Ctrl-C (SIGINT)", libc::SIGINT),
            () = came(&mut hangup) => ("SIGHUP", libc::SIGHUP),
        }
    })
}

/// Ends the process at once at the next signal that asks it to stop, with 128 plus the
/// signal's number as exit status. Call it on a runtime after the first signal.
pub fn exit_on_second_signal() {
    let again = match stop_signal() {
        Ok(again) => again,
        Err(error) => return tracing::warn!(%error, "a second signal would not be seen"),
    };
    tokio::spawn(async move {
        let (signal, number) = again.await;
        tracing::warn!(signal, "asked to stop a second time: ending at once");
        logging::flush();
        exit_now(128 + number)
    });
}

/// Ends the process at once with an exit status.
pub fn exit_now(status: i32) -> ! {
    // SAFETY: ends the process. Exit handlers are skipped on purpose: they could wait for
    // threads that are still busy, and those of libraries must not run while other threads
    // still use the libraries.
    unsafe { libc::_exit(status) }
}

/// From now on, a signal that asks the program to stop ends it at once, with a message and
/// the exit status that shells expect: 128 plus the signal's number.
///
/// # Errors
/// A signal handler cannot be installed, or the thread that waits for signals not started.
pub fn exit_on_stop_signal() -> Result<(), CliError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()
        .map_err(cannot_watch)?;
    let asked = {
        let _entered = runtime.enter();
        stop_signal()?
    };
    let thread = std::thread::Builder::new().name("signals".into());
    let watch = move || {
        let (name, number) = runtime.block_on(asked);
        say_stopped(name);
        exit_now(128 + number)
    };
    thread.spawn(watch).map(drop).map_err(cannot_watch)
}
