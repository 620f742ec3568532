//! The accept loop, and the life of one connection.

use std::future::Future;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{timeout, timeout_at, Instant, MissedTickBehavior};
use tracing::field::Empty;
use tracing::Instrument;

use super::adapter_upload;
use super::context::{Context, Shutdown};
use super::options::Options;
use super::stream::Stream;
use super::{http, session, tls};
use crate::jobs::{DeviceState, Jobs};

/// How long accepting pauses after a failure, so that file descriptors can be freed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How often files of tokens and certificates are looked at. Tokens are also looked at in every
/// handshake; here, so that the connections of a removed one end.
const FILES_INTERVAL: Duration = Duration::from_secs(2);
/// How often what was kept for long enough is forgotten.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// How long writing what is left to the state folder may take at the end.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(20);

/// How long telling the clients, and then writing to the state folder, may each take when the
/// device hangs. The next process waits for this one to end, and one step more or less in the
/// state folder is worth less than that.
const HANG_TIMEOUT: Duration = Duration::from_secs(2);

/// Why a server ended by itself.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The device failed, or its thread has a defect.
    #[error("the device thread has ended unexpectedly")]
    DeviceEnded,
    /// An operation of the device does not come back. Its thread cannot be ended.
    #[error("the device hangs")]
    DeviceHangs,
}

/// Serves `listener` until `shutdown` is ready. Then the jobs are stopped: the server waits for
/// the device's current step, but not longer than the grace period, tells every client, and
/// returns. Meanwhile `/health` still answers.
///
/// # Errors
/// `DeviceEnded` if the device's thread ends before `shutdown`; `DeviceHangs` if an operation of
/// it does not come back.
pub async fn serve(
    listener: TcpListener,
    jobs: Jobs,
    options: Options,
    shutdown: impl Future<Output = ()>,
) -> Result<(), ServeError> {
    let context = Arc::new(Context::new(jobs.clone(), options));
    let (leave, leaving) = watch::channel(None);
    let mut connections = JoinSet::new();
    let mut stopping: Option<Instant> = None;
    let mut device = DeviceState::Works;
    let mut look_at_files = tokio::time::interval(FILES_INTERVAL);
    look_at_files.set_missed_tick_behavior(MissedTickBehavior::Delay);
    tokio::pin!(shutdown);
    let mut sweeps = tokio::time::interval(SWEEP_INTERVAL);
    loop {
        let grace_over = async {
            match stopping {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        let accepted = tokio::select! {
            () = &mut shutdown, if stopping.is_none() => {
                tracing::info!("stopping after the present step");
                jobs.stop();
                stopping = Some(Instant::now() + context.options.grace);
                continue;
            }
            state = jobs.stopped() => {
                device = state;
                break;
            }
            () = grace_over => {
                let seconds = context.options.grace.as_secs_f64();
                tracing::warn!(seconds, "the present step does not end within the grace period");
                break;
            }
            Some(_) = connections.join_next() => continue,
            _ = look_at_files.tick() => {
                context.options.tokens.reload();
                if let Some(tls) = &context.options.tls {
                    tls.reload();
                }
                continue;
            }
            _ = sweeps.tick() => {
                jobs.sweep();
                continue;
            }
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, address)) => {
                let (context, leaving) = (context.clone(), leaving.clone());
                let span = tracing::info_span!("connection", peer = %address, client = Empty);
                let connection = connection(stream, address.ip(), context, leaving);
                connections.spawn(connection.instrument(span));
            }
            Err(error) => {
                tracing::warn!(%error, "a connection cannot be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    jobs.abandon();
    let (reason, result) = match (stopping, device) {
        (_, DeviceState::Hangs) => (
            "The worker's device does not answer any more.",
            Err(ServeError::DeviceHangs),
        ),
        (Some(_), _) => ("The worker was asked to stop.", Ok(())),
        (None, _) => (
            "The worker's device has failed.",
            Err(ServeError::DeviceEnded),
        ),
    };
    // Every job's end is stored by now, so it is sent before the connections close.
    let _ = leave.send(Some(reason));
    let (tell, flush) = match device {
        DeviceState::Hangs => (
            context.options.close_timeout.min(HANG_TIMEOUT),
            HANG_TIMEOUT,
        ),
        _ => (context.options.close_timeout, FLUSH_TIMEOUT),
    };
    let all = async { while connections.join_next().await.is_some() {} };
    if timeout(tell, all).await.is_err() {
        tracing::warn!("some clients did not take their last messages in time");
    }
    let flush = move || jobs.recorder().flush(flush);
    let _ = tokio::task::spawn_blocking(flush).await;
    result
}

/// The result of `work` if it comes in time: until `deadline`, or longer while it `uploads` a file.
async fn within<T>(
    deadline: Instant,
    uploads: &AtomicBool,
    work: impl Future<Output = T>,
) -> Option<T> {
    tokio::pin!(work);
    match timeout_at(deadline, &mut work).await {
        Ok(done) => Some(done),
        Err(_) if uploads.load(Ordering::Relaxed) => {
            timeout(adapter_upload::TIMEOUT, work).await.ok()
        }
        Err(_) => None,
    }
}

/// Serves one connection from `address` until either side closes it.
pub(super) async fn connection(
    stream: TcpStream,
    address: IpAddr,
    context: Arc<Context>,
    mut leaving: Shutdown,
) {
    // Progress messages are small and should not wait to be sent together.
    let _ = stream.set_nodelay(true);
    let socket = context.connections.accept(address);
    let deadline = Instant::now() + context.options.handshake_timeout;
    let uploads = AtomicBool::new(false);
    let handshake = async {
        let upgraded = async {
            let stream = match &context.options.tls {
                Some(tls) => {
                    Stream::Encrypted(tls::accept(stream, tls, context.jobs.metrics()).await?)
                }
                None => Stream::Plain(stream),
            };
            http::serve(stream, address, &context, &uploads).await
        };
        let upgraded = within(deadline, &uploads, upgraded).await??;
        session::greet(upgraded, &context, &socket, deadline).await
    };
    let session = tokio::select! {
        biased;
        () = socket.evicted() => return tracing::debug!("a silent socket made way"),
        session = handshake => session,
        // Fails only when the server itself is gone.
        _ = leaving.wait_for(Option::is_some) => return,
    };
    drop(socket);
    if let Some(session) = session {
        session.run(leaving).await;
    }
}
