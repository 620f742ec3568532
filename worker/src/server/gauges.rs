//! Metrics that are read on request: of sockets, jobs, memory and the log.

use metrics::{Counter, Gauge};

use super::connections::Connections;
use crate::jobs::{Jobs, Metrics};
use crate::logging;

/// Metrics whose values are read when `/metrics` is requested.
pub struct Gauges {
    connections: Gauge,
    silent_sockets: Gauge,
    silent_sockets_dropped: Counter,
    unsent_bytes: Gauge,
    jobs_queued: Gauge,
    jobs_running: Gauge,
    uptime: Gauge,
    device_bytes_used: Gauge,
    device_bytes_total: Gauge,
    log_lines_dropped: Counter,
}

impl Gauges {
    /// Registers them.
    pub fn register(metrics: &Metrics) -> Self {
        Self {
            connections: metrics.gauge("ovis_connections", "Clients that have said hello."),
            silent_sockets: metrics.gauge(
                "ovis_silent_sockets",
                "Sockets whose client has not said hello.",
            ),
            silent_sockets_dropped: metrics.counter(
                "ovis_silent_sockets_dropped_total",
                "Silent sockets that were evicted for newer ones.",
            ),
            unsent_bytes: metrics.gauge(
                "ovis_unsent_bytes",
                "Bytes of results, previews and states that are kept for clients.",
            ),
            jobs_queued: metrics.gauge("ovis_jobs_queued", "Jobs waiting in the queue."),
            jobs_running: metrics.gauge("ovis_jobs_running", "Jobs on the device."),
            uptime: metrics.gauge("ovis_uptime_seconds", "Seconds since the worker was ready."),
            device_bytes_used: metrics.gauge(
                "ovis_device_bytes_used",
                "Bytes of device memory in use, 0 if unknown.",
            ),
            device_bytes_total: metrics.gauge(
                "ovis_device_bytes_total",
                "Bytes of device memory, 0 if unknown.",
            ),
            log_lines_dropped: metrics.counter(
                "ovis_log_lines_dropped_total",
                "Log lines dropped because standard error was not read.",
            ),
        }
    }
    /// Reads their present values.
    pub fn update(&self, jobs: &Jobs, connections: &Connections) {
        let status = jobs.status();
        let (clients, silent, evicted) = connections.counts();
        self.connections.set(clients as f64);
        self.silent_sockets.set(silent as f64);
        self.silent_sockets_dropped.absolute(evicted);
        self.unsent_bytes.set(jobs.kept().bytes as f64);
        self.jobs_queued.set(status.queued);
        self.jobs_running.set(status.running);
        self.uptime.set(status.uptime_seconds);
        self.device_bytes_used.set(status.device_bytes_used as f64);
        self.device_bytes_total
            .set(status.device_bytes_total as f64);
        self.log_lines_dropped.absolute(logging::dropped_lines());
    }
}
