//! How a server behaves.

use std::sync::Arc;
use std::time::Duration;

use super::connections::ConnectionLimits;
use super::failures::FailureLimits;
use super::hosts::Hosts;
use super::tls::Tls;
use super::tokens::Tokens;
use crate::pipeline::AdapterLibrary;

/// Name and version of this worker, as clients see it.
pub const WORKER: &str = concat!("ovis-worker ", env!("CARGO_PKG_VERSION"));

/// How a server behaves.
#[derive(Clone, Debug)]
pub struct Options {
    /// The tokens of which clients must send one, if there are any.
    pub tokens: Tokens,
    /// Encryption; without, connections are in clear text.
    pub tls: Option<Tls>,
    /// The adapters that jobs may name.
    pub adapters: Option<Arc<AdapterLibrary>>,
    /// The names by which the server may be addressed.
    pub hosts: Hosts,
    /// How many sockets there may be.
    pub connections: ConnectionLimits,
    /// How many failures an address may have.
    pub failures: FailureLimits,
    /// How long a client may take for the TLS handshake, its request and its hello together.
    pub handshake_timeout: Duration,
    /// How often a client is pinged. One that is silent for three times as long is dropped.
    pub ping_interval: Duration,
    /// How long the running step may take to end when the server stops.
    pub grace: Duration,
    /// How long a closing connection may take to send what is left.
    pub close_timeout: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            tokens: Tokens::default(),
            tls: None,
            adapters: None,
            hosts: Hosts::default(),
            connections: ConnectionLimits::default(),
            failures: FailureLimits::default(),
            handshake_timeout: Duration::from_secs(10),
            ping_interval: Duration::from_secs(20),
            grace: Duration::from_secs(30),
            close_timeout: Duration::from_secs(10),
        }
    }
}
