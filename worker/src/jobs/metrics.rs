//! What is counted and measured, for Prometheus.
//!
//! Every worker has a recorder of its own instead of the process's global one, so that
//! several workers in one process, as in tests, do not mix their numbers. Handles are
//! registered once and are cheap to update from any thread.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use metrics::{Counter, Gauge, Histogram, Key, KeyName, Label, Level, Metadata, Recorder};
use metrics_exporter_prometheus::{
    Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder,
};
use ovis_protocol::ErrorCode;

use super::event::Event;
use super::work::Work;
use crate::pipeline::Forwards;

/// How a job may end, as the label `outcome` of `ovis_jobs_total`.
const OUTCOMES: [&str; 3] = ["done", "failed", "cancelled"];

/// Why a socket or an HTTP request was turned away, as the label `reason` of
/// `ovis_refusals_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// A wrong token for an HTTP page.
    Token,
    /// Too many clients of its address had failed before.
    Failures,
    /// A TLS handshake that failed.
    Tls,
    /// It began without TLS on a port that speaks TLS.
    NoTls,
}

impl Refusal {
    const ALL: [Self; 4] = [Self::Token, Self::Failures, Self::Tls, Self::NoTls];

    fn name(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::Failures => "failures",
            Self::Tls => "tls",
            Self::NoTls => "no-tls",
        }
    }
}

const QUEUE_SECONDS: &str = "ovis_queue_seconds";
const JOB_SECONDS: &str = "ovis_job_seconds";
const UPLOAD_SECONDS: &str = "ovis_upload_seconds";
const STEP_SECONDS: &str = "ovis_denoise_step_seconds";

/// Upper bounds of the histograms' buckets, in seconds. A tiny model on a CPU takes
/// milliseconds for what a large one takes minutes for.
const BUCKETS: [f64; 16] = [
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0,
];

/// The metrics of one worker.
pub struct Metrics {
    recorder: PrometheusRecorder,
    handle: PrometheusHandle,
    errors: HashMap<ErrorCode, Counter>,
    refusals: HashMap<Refusal, Counter>,
    /// By operation and outcome.
    ended: HashMap<(&'static str, &'static str), Counter>,
    queue_seconds: Histogram,
    /// By operation.
    job_seconds: HashMap<&'static str, Histogram>,
    steps: Counter,
    step_seconds: Histogram,
    forwards: Counter,
    forwards_answered: Counter,
    upload_seconds: Histogram,
    /// Bytes of messages from clients.
    pub received_bytes: Counter,
    /// Bytes of messages to clients.
    pub sent_bytes: Counter,
    step_time: TimeCounter,
    busy_time: TimeCounter,
}

impl Metrics {
    /// Registers the metrics of a worker, all of them zero.
    pub(super) fn new() -> Self {
        let mut builder = PrometheusBuilder::new();
        for name in [QUEUE_SECONDS, JOB_SECONDS, STEP_SECONDS, UPLOAD_SECONDS] {
            let matcher = Matcher::Full(name.into());
            // Only an empty list of buckets is an error.
            builder = builder
                .set_buckets_for_metric(matcher, &BUCKETS)
                .unwrap_or_else(|_| unreachable!("the list of buckets is not empty"));
        }
        let recorder = builder.build_recorder();
        let pairs = Work::OPERATIONS
            .into_iter()
            .flat_map(|operation| OUTCOMES.map(|outcome| (operation, outcome)));
        let ended = pairs.map(|(operation, outcome)| {
            let labels = [("operation", operation), ("outcome", outcome)];
            let counter = counter(
                &recorder,
                "ovis_jobs_total",
                "Jobs that have ended.",
                &labels,
            );
            ((operation, outcome), counter)
        });
        let ended = ended.collect();
        // All of them from the beginning, as a rate needs a value from before the first one.
        let errors = ErrorCode::ALL.map(|code| {
            let help = "Errors that clients were told of, by code.";
            let labels = [("code", code.name())];
            let counter = counter(&recorder, "ovis_errors_total", help, &labels);
            (code, counter)
        });
        let refusals = Refusal::ALL.map(|reason| {
            let help = "Sockets and HTTP requests that were turned away, by reason.";
            let labels = [("reason", reason.name())];
            let counter = counter(&recorder, "ovis_refusals_total", help, &labels);
            (reason, counter)
        });
        let job_seconds = Work::OPERATIONS.map(|operation| {
            let help = "Seconds that finished jobs were on the device, from start to end.";
            let labels = [("operation", operation)];
            let histogram = histogram(&recorder, JOB_SECONDS, help, &labels);
            (operation, histogram)
        });
        let count = |name, help| counter(&recorder, name, help, &[]);
        Self {
            errors: errors.into_iter().collect(),
            refusals: refusals.into_iter().collect(),
            ended,
            queue_seconds: histogram(
                &recorder,
                QUEUE_SECONDS,
                "Seconds that jobs waited in the queue before they started.",
                &[],
            ),
            job_seconds: job_seconds.into_iter().collect(),
            steps: count("ovis_steps_total", "Denoise steps run."),
            step_seconds: histogram(
                &recorder,
                STEP_SECONDS,
                "Seconds of each denoise step, including its preview.",
                &[],
            ),
            forwards: count(
                "ovis_forwards_total",
                "Transformer forwards requested by denoise steps.",
            ),
            forwards_answered: count(
                "ovis_forwards_answered_total",
                "Forwards answered from the step cache after the first block.",
            ),
            upload_seconds: histogram(
                &recorder,
                UPLOAD_SECONDS,
                "Seconds from a job's submission to its last byte.",
                &[],
            ),
            received_bytes: count(
                "ovis_received_bytes_total",
                "Bytes of messages from clients that have said hello.",
            ),
            sent_bytes: count("ovis_sent_bytes_total", "Bytes of messages to clients."),
            step_time: TimeCounter::new(
                "ovis_step_seconds_total",
                "Seconds spent in denoise steps, including previews.",
            ),
            busy_time: TimeCounter::new(
                "ovis_busy_seconds_total",
                "Seconds that the device thread has worked.",
            ),
            handle: recorder.handle(),
            recorder,
        }
    }

    /// Registers a gauge.
    pub fn gauge(&self, name: &'static str, help: &'static str) -> Gauge {
        let name = KeyName::from_const_str(name);
        self.recorder
            .describe_gauge(name.clone(), None, help.into());
        let key = Key::from_name(name);
        self.recorder.register_gauge(&key, &METADATA)
    }

    /// Registers a counter.
    pub fn counter(&self, name: &'static str, help: &'static str) -> Counter {
        counter(&self.recorder, name, help, &[])
    }

    /// Counts an error that a client was told of: a job that failed or was not accepted, or a
    /// connection that was refused.
    pub fn count_error(&self, code: ErrorCode) {
        if let Some(errors) = self.errors.get(&code) {
            errors.increment(1);
        }
    }

    /// Counts a socket or a request that was turned away before a hello.
    pub fn count_refusal(&self, reason: Refusal) {
        if let Some(refusals) = self.refusals.get(&reason) {
            refusals.increment(1);
        }
    }

    /// Counts a job's upload that has ended.
    pub fn upload_ended(&self, took: Duration) {
        self.upload_seconds.record(took.as_secs_f64());
    }

    /// Registers a gauge with one label.
    pub fn labelled_gauge(
        &self,
        name: &'static str,
        help: &'static str,
        label: (&'static str, &'static str),
    ) -> Gauge {
        let name = KeyName::from_const_str(name);
        self.recorder
            .describe_gauge(name.clone(), None, help.into());
        self.recorder
            .register_gauge(&key(name, &[label]), &METADATA)
    }

    /// Counts a job that the device has taken, after it has waited so long.
    pub(super) fn job_started(&self, waited: Duration) {
        self.queue_seconds.record(waited.as_secs_f64());
    }

    /// Counts a job's end.
    pub(super) fn job_ended(&self, operation: &'static str, event: &Event) {
        let outcome = match event {
            Event::Done(outcome, _) => {
                if let Some(seconds) = self.job_seconds.get(operation) {
                    seconds.record(f64::from(outcome.seconds_running));
                }
                "done"
            }
            Event::Failed(error) => {
                self.count_error(error.code);
                "failed"
            }
            _ => "cancelled",
        };
        if let Some(ended) = self.ended.get(&(operation, outcome)) {
            ended.increment(1);
        }
        // Histograms keep their samples until they are drained, which nobody does while
        // nobody asks for the metrics.
        self.handle.run_upkeep();
    }

    /// Counts a denoise step, with its job's forwards before and after it.
    pub fn step_ended(&self, took: Duration, before: Forwards, after: Forwards) {
        self.steps.increment(1);
        self.step_seconds.record(took.as_secs_f64());
        self.step_time.add(took);
        self.forwards.increment(after.asked - before.asked);
        self.forwards_answered
            .increment(after.answered - before.answered);
    }

    /// Counts time for which the device's thread has worked.
    pub fn add_busy(&self, time: Duration) {
        self.busy_time.add(time);
    }

    /// All metrics in Prometheus's text format, without blank lines: every line is a comment
    /// or a sample.
    pub fn render(&self) -> String {
        let mut text = self.handle.render().replace("\n\n", "\n");
        for time in [&self.step_time, &self.busy_time] {
            time.render(&mut text);
        }
        text
    }
}

/// A counter of seconds. The counters of the `metrics` crate hold whole numbers, so this one
/// is rendered here.
struct TimeCounter {
    name: &'static str,
    help: &'static str,
    total: Mutex<Duration>,
}

impl TimeCounter {
    fn new(name: &'static str, help: &'static str) -> Self {
        Self {
            name,
            help,
            total: Mutex::default(),
        }
    }

    fn add(&self, time: Duration) {
        *self.total.lock().unwrap_or_else(PoisonError::into_inner) += time;
    }

    fn render(&self, text: &mut String) {
        let Self { name, help, .. } = self;
        let total = *self.total.lock().unwrap_or_else(PoisonError::into_inner);
        let seconds = total.as_secs_f64();
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "# HELP {name} {help}\n# TYPE {name} counter\n{name} {seconds}"
        );
    }
}

const METADATA: Metadata<'static> = Metadata::new(module_path!(), Level::INFO, None);

fn key(name: KeyName, labels: &[(&'static str, &'static str)]) -> Key {
    let labels = labels.iter().map(|&(key, value)| Label::new(key, value));
    Key::from_parts(name, labels.collect::<Vec<_>>())
}

fn counter(
    recorder: &PrometheusRecorder,
    name: &'static str,
    help: &'static str,
    labels: &[(&'static str, &'static str)],
) -> Counter {
    let name = KeyName::from_const_str(name);
    recorder.describe_counter(name.clone(), None, help.into());
    recorder.register_counter(&key(name, labels), &METADATA)
}

fn histogram(
    recorder: &PrometheusRecorder,
    name: &'static str,
    help: &'static str,
    labels: &[(&'static str, &'static str)],
) -> Histogram {
    let name = KeyName::from_const_str(name);
    recorder.describe_histogram(name.clone(), None, help.into());
    recorder.register_histogram(&key(name, labels), &METADATA)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_types_and_labels_are_what_dashboards_read() {
        let metrics = Metrics::new();
        let forwards = |asked, answered| Forwards { asked, answered };
        metrics.job_started(Duration::from_millis(700));
        metrics.step_ended(Duration::from_millis(250), forwards(2, 0), forwards(4, 1));
        metrics.add_busy(Duration::from_millis(1500));
        metrics.job_ended("denoise", &Event::Cancelled);
        metrics.count_error(ErrorCode::Expired);
        metrics.count_refusal(Refusal::NoTls);
        metrics.gauge("ovis_jobs_queued", "Jobs waiting.").set(3);
        let text = metrics.render();
        for line in [
            "# TYPE ovis_jobs_total counter",
            "ovis_jobs_total{operation=\"denoise\",outcome=\"cancelled\"} 1",
            "ovis_jobs_total{operation=\"vae-encode\",outcome=\"done\"} 0",
            "ovis_errors_total{code=\"version-mismatch\"} 0",
            "ovis_errors_total{code=\"expired\"} 1",
            "ovis_refusals_total{reason=\"no-tls\"} 1",
            "ovis_refusals_total{reason=\"tls\"} 0",
            "ovis_refusals_total{reason=\"token\"} 0",
            "ovis_refusals_total{reason=\"failures\"} 0",
            "ovis_steps_total 1",
            "ovis_forwards_total 2",
            "ovis_forwards_answered_total 1",
            "# TYPE ovis_step_seconds_total counter",
            "ovis_step_seconds_total 0.25",
            "ovis_busy_seconds_total 1.5",
            "# HELP ovis_jobs_queued Jobs waiting.",
            "# TYPE ovis_jobs_queued gauge",
            "ovis_jobs_queued 3",
            "# TYPE ovis_queue_seconds histogram",
            "ovis_queue_seconds_bucket{le=\"0.5\"} 0",
            "ovis_queue_seconds_bucket{le=\"1\"} 1",
            "ovis_denoise_step_seconds_count 1",
            "ovis_job_seconds_count{operation=\"denoise\"} 0",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is not in {text}");
        }
        assert!(text.lines().all(|line| line.contains(' ')), "{text}");
    }

    #[test]
    fn workers_of_one_process_do_not_share_metrics() {
        let (first, second) = (Metrics::new(), Metrics::new());
        first.job_ended("decode", &Event::Cancelled);
        let line = "ovis_jobs_total{operation=\"decode\",outcome=\"cancelled\"} 1";
        assert!(first.render().contains(line) && !second.render().contains(line));
    }
}
