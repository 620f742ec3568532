//! The worker's socket: websockets for clients, HTTP for whoever watches.
//!
//! - `http`: telling the two apart, `/health` and `/metrics`
//! - `session`: one websocket, from handshake to close
//! - `handshake`: judging a client's first message
//! - `requests`: what a client's messages do
//! - `token`: the secret that clients share with a worker
//! - `tensors`: which tensors an operation takes
//! - `outbox`: what waits to be sent, in bounded memory

mod handshake;
mod http;
mod outbox;
mod requests;
mod session;
mod tensors;
#[cfg(test)]
mod tests;
mod token;

use std::future::Future;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::engine::EngineHandle;

pub use token::Token;

/// Name and version of this worker, as clients see it.
pub const WORKER: &str = concat!("ovis-worker ", env!("CARGO_PKG_VERSION"));

/// Most sockets open at a time; more wait to be accepted.
const MAX_CONNECTIONS: usize = 256;

/// How a server behaves.
#[derive(Clone, Debug)]
pub struct Options {
    /// The shared secret that clients must send, if any.
    pub token: Option<Token>,
    /// How long a client may take to ask for something and say hello.
    pub handshake_timeout: Duration,
    /// How often a client is pinged; silent for three times as long, it is gone.
    pub ping_interval: Duration,
    /// How long a closing connection may take to send what waits.
    pub close_timeout: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            token: None,
            handshake_timeout: Duration::from_secs(10),
            ping_interval: Duration::from_secs(20),
            close_timeout: Duration::from_secs(10),
        }
    }
}

/// Serves `listener` until `shutdown` is ready, then stops the engine after its
/// present step, tells every client, and returns when they are told.
///
/// # Errors
/// The device thread has ended by itself, which only a defect can cause.
pub async fn serve(
    listener: TcpListener,
    engine: EngineHandle,
    options: Options,
    shutdown: impl Future<Output = ()>,
) -> Result<(), String> {
    let options = Arc::new(options);
    let open = Arc::new(AtomicUsize::new(0));
    let (leave, leaving) = watch::channel(false);
    let mut connections = JoinSet::new();
    tokio::pin!(shutdown);
    let result = loop {
        let stream = tokio::select! {
            () = &mut shutdown => break Ok(()),
            () = engine.stopped() => break Err("the device thread has ended unexpectedly".to_owned()),
            Some(_) = connections.join_next() => continue,
            accepted = listener.accept(), if connections.len() < MAX_CONNECTIONS => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    // Out of file descriptors, most likely: give some back first.
                    tracing::warn!(%error, "a connection cannot be accepted");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            },
        };
        let (engine, options) = (engine.clone(), options.clone());
        let (open, leaving) = (open.clone(), leaving.clone());
        connections.spawn(async move {
            open.fetch_add(1, Ordering::Relaxed);
            connection(stream, engine, options, &open, leaving).await;
            open.fetch_sub(1, Ordering::Relaxed);
        });
    };
    drop(listener);
    tracing::info!("stopping after the present step");
    engine.stop();
    engine.stopped().await;
    // Sessions still serve until here, so every job's end is in its outbox.
    let _ = leave.send(true);
    let all = async { while connections.join_next().await.is_some() {} };
    if timeout(options.close_timeout, all).await.is_err() {
        tracing::warn!("some clients did not take their last messages in time");
    }
    result
}

async fn connection(
    stream: TcpStream,
    engine: EngineHandle,
    options: Arc<Options>,
    open: &AtomicUsize,
    leaving: watch::Receiver<bool>,
) {
    // Progress is small and should not wait for more of it.
    let _ = stream.set_nodelay(true);
    match timeout(options.handshake_timeout, http::look(&stream)).await {
        Ok(Ok(http::Ask::WebSocket)) => session::run(stream, engine, options, leaving).await,
        Ok(Ok(http::Ask::Http { status, path })) => {
            tracing::debug!(status, path, "http");
            let connections = open.load(Ordering::Relaxed);
            let answer = http::answer(stream, status, &path, &engine, connections);
            let _ = timeout(options.handshake_timeout, answer).await;
        }
        Ok(Err(error)) => tracing::debug!(%error, "no request"),
        Err(_) => tracing::debug!("no request within the handshake's time"),
    }
}
