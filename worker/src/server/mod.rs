//! The worker's socket: websockets for clients, HTTP for whoever watches.
//!
//! - `gate`: how many sockets there are, and which has to make way
//! - `http`: a connection's request, answered or made a websocket
//! - `hosts`: under which names this worker is reached
//! - `health`: what `/health` and `/metrics` say
//! - `session`: one websocket, from handshake to close
//! - `handshake`: judging a client's first message
//! - `requests`: what a client's messages do
//! - `tensors`, `values`: which tensors an operation takes, and what may be in them
//! - `token`: the secret that clients share with a worker
//! - `jobs`: a connection's unfinished jobs
//! - `sink`: from a job's events to its connection's messages
//! - `outbox`: what waits to be sent, in bounded memory
//! - `budget`: one bound on that over all connections

mod budget;
mod gate;
mod handshake;
mod health;
mod hosts;
mod http;
mod jobs;
mod outbox;
mod requests;
mod session;
mod sink;
mod tensors;
#[cfg(test)]
mod tests;
mod token;
mod values;

use std::future::Future;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{timeout, timeout_at, Instant};

use crate::engine::EngineHandle;
use budget::Budget;
use gate::Gate;

pub use gate::Crowd;
pub use hosts::Hosts;

pub use token::Token;

/// Name and version of this worker, as clients see it.
pub const WORKER: &str = concat!("ovis-worker ", env!("CARGO_PKG_VERSION"));

/// How a server behaves.
#[derive(Clone, Debug)]
pub struct Options {
    /// The shared secret that clients must send, if any.
    pub token: Option<Token>,
    /// The names under which it is reached.
    pub hosts: Hosts,
    /// How many sockets there may be.
    pub crowd: Crowd,
    /// Most bytes of results and previews that wait to be read by all clients together.
    pub unsent_bytes: u64,
    /// How long a client may take to ask for something and say hello.
    pub handshake_timeout: Duration,
    /// How often a client is pinged; silent for three times as long, it is gone.
    pub ping_interval: Duration,
    /// How long the step that runs at the shutdown may take to end.
    pub grace: Duration,
    /// How long a closing connection may take to send what waits.
    pub close_timeout: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            token: None,
            hosts: Hosts::default(),
            crowd: Crowd::default(),
            unsent_bytes: 2 << 30,
            handshake_timeout: Duration::from_secs(10),
            ping_interval: Duration::from_secs(20),
            grace: Duration::from_secs(30),
            close_timeout: Duration::from_secs(10),
        }
    }
}

/// What all connections share.
struct House {
    engine: EngineHandle,
    options: Options,
    gate: Arc<Gate>,
    budget: Arc<Budget>,
}

/// Serves `listener` until `shutdown` is ready, then stops the engine after its
/// present step or the grace period, tells every client, and returns when they are told.
/// Meanwhile `/health` goes on answering.
///
/// # Errors
/// The device thread has ended by itself: the device does not work any more, or there is a
/// defect.
pub async fn serve(
    listener: TcpListener,
    engine: EngineHandle,
    options: Options,
    shutdown: impl Future<Output = ()>,
) -> Result<(), String> {
    let house = Arc::new(House {
        engine: engine.clone(),
        gate: Gate::new(options.crowd),
        budget: Budget::new(options.unsent_bytes),
        options,
    });
    let (leave, leaving) = watch::channel(None);
    let mut connections = JoinSet::new();
    let mut stopping: Option<Instant> = None;
    tokio::pin!(shutdown);
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
                engine.stop();
                stopping = Some(Instant::now() + house.options.grace);
                continue;
            }
            () = engine.stopped() => break,
            () = grace_over => {
                let seconds = house.options.grace.as_secs_f64();
                tracing::warn!(seconds, "the present step does not end within the grace period");
                break;
            }
            Some(_) = connections.join_next() => continue,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, address)) => {
                let (house, leaving) = (house.clone(), leaving.clone());
                connections.spawn(connection(stream, address.ip(), house, leaving));
            }
            Err(error) => {
                // Out of file descriptors, most likely: give some back first.
                tracing::warn!(%error, "a connection cannot be accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
    drop(listener);
    engine.abandon();
    let (reason, result) = match stopping {
        Some(_) => ("The worker was asked to stop.", Ok(())),
        None => (
            "The worker's device has failed.",
            Err("the device thread has ended unexpectedly".to_owned()),
        ),
    };
    // Sessions still serve until here, so every job's end is in its outbox.
    let _ = leave.send(Some(reason));
    let all = async { while connections.join_next().await.is_some() {} };
    if timeout(house.options.close_timeout, all).await.is_err() {
        tracing::warn!("some clients did not take their last messages in time");
    }
    result
}

/// Why the server leaves, once it does.
type Leaving = watch::Receiver<Option<&'static str>>;

async fn connection(stream: TcpStream, address: IpAddr, house: Arc<House>, mut leaving: Leaving) {
    // Progress is small and should not wait for more of it.
    let _ = stream.set_nodelay(true);
    let guest = house.gate.knock(address);
    let deadline = Instant::now() + house.options.handshake_timeout;
    let silent = async {
        let upgraded = timeout_at(deadline, http::serve(stream, &house)).await;
        session::greet(upgraded.ok()??, &house, &guest, deadline).await
    };
    let session = tokio::select! {
        biased;
        () = guest.turned_out() => return tracing::debug!("a silent socket made way"),
        session = silent => session,
        // An error means that the server itself is gone.
        _ = leaving.wait_for(Option::is_some) => return,
    };
    drop(guest);
    if let Some(session) = session {
        session.run(leaving).await;
    }
}
