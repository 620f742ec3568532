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
    memory: [Gauge; MEMORY_KINDS.len()],
    kept_jobs: Gauge,
    owners_away: Gauge,
    ready: Gauge,
    journal_bytes: Gauge,
    journal_failed_writes: Counter,
    journal_skipped_states: Counter,
}

/// Kinds of memory, as the label `kind` of `ovis_memory_bytes`.
const MEMORY_KINDS: [&str; 4] = ["process", "weights", "reserved", "kept"];

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
            memory: MEMORY_KINDS.map(|kind| {
                let help = "Bytes of memory: of the process as the system counts it, of weights \
                            as their files store them, \
                            reserved on the host for jobs, and kept for clients.";
                metrics.labelled_gauge("ovis_memory_bytes", help, ("kind", kind))
            }),
            kept_jobs: metrics.gauge(
                "ovis_kept_jobs",
                "Jobs that have ended and that their clients have not acknowledged.",
            ),
            owners_away: metrics.gauge(
                "ovis_owners_away",
                "Owners of jobs that have no connection.",
            ),
            ready: metrics.gauge(
                "ovis_ready",
                "1 if a job would be accepted now, otherwise 0.",
            ),
            journal_bytes: metrics.gauge(
                "ovis_state_folder_bytes",
                "Bytes of jobs, states and results in the state folder.",
            ),
            journal_failed_writes: metrics.counter(
                "ovis_state_folder_failed_writes_total",
                "Files of the state folder that could not be written.",
            ),
            journal_skipped_states: metrics.counter(
                "ovis_state_folder_skipped_states_total",
                "States that newer ones replaced before they were written.",
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
        let (kept, journal) = (jobs.kept(), jobs.recorder().usage());
        self.unsent_bytes.set(kept.bytes as f64);
        let bytes = [
            process_bytes(),
            jobs.weight_bytes(),
            jobs.ledger().reserved(),
            kept.bytes,
        ];
        for (gauge, bytes) in self.memory.iter().zip(bytes) {
            gauge.set(bytes as f64);
        }
        self.kept_jobs.set(kept.ended as f64);
        self.owners_away.set(kept.away as f64);
        self.ready
            .set(if jobs.obstacle().is_none() { 1.0 } else { 0.0 });
        self.journal_bytes.set(journal.bytes as f64);
        self.journal_failed_writes.absolute(journal.failed_writes);
        self.journal_skipped_states.absolute(journal.skipped_states);
        self.jobs_queued.set(status.queued);
        self.jobs_running.set(status.running);
        self.uptime.set(status.uptime_seconds);
        self.device_bytes_used.set(status.device_bytes_used as f64);
        self.device_bytes_total
            .set(status.device_bytes_total as f64);
        self.log_lines_dropped.absolute(logging::dropped_lines());
    }
}

/// Bytes of this process in memory; 0 where the system does not tell.
fn process_bytes() -> u64 {
    let Ok(pid) = sysinfo::get_current_pid() else {
        return 0;
    };
    let mut system = sysinfo::System::new();
    let only = sysinfo::ProcessesToUpdate::Some(&[pid]);
    let memory = sysinfo::ProcessRefreshKind::nothing().with_memory();
    system.refresh_processes_specifics(only, false, memory);
    system.process(pid).map_or(0, sysinfo::Process::memory)
}
