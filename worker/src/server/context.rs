//! What all connections of a server share.

use std::sync::Arc;

use tokio::sync::watch;

use super::connections::Connections;
use super::failures::Failures;
use super::gauges::Gauges;
use super::options::Options;
use crate::jobs::Jobs;

/// What all connections of a server share.
pub struct Context {
    /// The jobs of all clients.
    pub jobs: Jobs,
    /// How the server behaves.
    pub options: Options,
    /// The sockets there are.
    pub connections: Arc<Connections>,
    /// The addresses from which clients were not accepted.
    pub failures: Failures,
    /// Metrics that are read when `/metrics` is requested.
    pub gauges: Gauges,
}

impl Context {
    /// The context of a server for these jobs, without connections.
    pub fn new(jobs: Jobs, options: Options) -> Self {
        Self {
            connections: Connections::new(options.connections),
            failures: Failures::new(options.failures),
            gauges: Gauges::register(jobs.metrics()),
            jobs,
            options,
        }
    }
}

/// Why the server closes its connections, once it does.
pub type Shutdown = watch::Receiver<Option<&'static str>>;
