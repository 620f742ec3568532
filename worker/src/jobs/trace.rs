//! A job's spans, as a collector of traces shows them: the job, its time in the queue, its
//! operation on the device, and each step of a denoise job.
//!
//! The spans form a tree below the span that the client names in its job's options. They are
//! handed to the exporter's own thread, which never holds the device up; while no traces are
//! wanted, a job has none, and each call here ends at once.

use std::borrow::Cow;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime};

use opentelemetry::trace::{
    Span as _, SpanBuilder, SpanContext, SpanId, SpanKind, Status, TraceContextExt as _,
    TraceFlags, TraceId, TraceState, Tracer as _,
};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::trace::{SdkTracer, Span};
use uuid::Uuid;

use super::event::Event;
use super::owner::OwnerId;
use super::work::Work;
use crate::pipeline::StepReport;

/// Pixels for each value of a latent, along each side: the VAE halves both three times.
const PIXELS_PER_LATENT: usize = 8;

/// The spans of one job, if traces are wanted. Clones stand for the same spans.
#[derive(Clone, Default)]
pub struct JobTrace(Option<Arc<Spans>>);

struct Spans {
    tracer: SdkTracer,
    operation: &'static str,
    open: Mutex<Open>,
}

/// The spans that have not ended; none after the job's end.
#[derive(Default)]
struct Open {
    job: Option<Span>,
    /// The job's present part: `queue`, then the operation.
    part: Option<Span>,
}

impl JobTrace {
    /// Begins the spans `job` and `queue` of a job submitted just now. `parent` is the W3C
    /// `traceparent` of the client's span; without one, the job begins a trace of its own.
    pub(super) fn begin(
        tracer: Option<&SdkTracer>,
        parent: Option<&str>,
        id: Uuid,
        owner: &OwnerId,
        work: &Work,
    ) -> Self {
        let Some(tracer) = tracer else {
            return Self::default();
        };
        let mut attributes = attributes_of(work);
        attributes.extend([
            KeyValue::new("ovis.job.id", id.to_string()),
            KeyValue::new("ovis.operation", work.name()),
            KeyValue::new("ovis.owner", owner.to_string()),
        ]);
        let context = match parent.and_then(parent_of) {
            Some(parent) => Context::new().with_remote_span_context(parent),
            None => Context::new(),
        };
        let builder = SpanBuilder::from_name("job")
            .with_kind(SpanKind::Server)
            .with_attributes(attributes);
        let job = tracer.build_with_context(builder, &context);
        let queue = child(tracer, "queue", &job);
        Self(Some(Arc::new(Spans {
            tracer: tracer.clone(),
            operation: work.name(),
            open: Mutex::new(Open {
                job: Some(job),
                part: Some(queue),
            }),
        })))
    }

    /// The device has taken the job: ends `queue`, and begins the operation's span.
    pub(super) fn start(&self) {
        let Some(spans) = &self.0 else { return };
        let mut open = spans.lock();
        if let Some(mut queue) = open.part.take() {
            queue.end();
        }
        // A job that was cancelled meanwhile has ended.
        if let Some(job) = &open.job {
            open.part = Some(child(&spans.tracer, spans.operation, job));
        }
    }

    /// Adds the span of a denoise step that began at `begun` and ends now.
    pub fn step(&self, begun: Instant, report: &StepReport) {
        let Some(spans) = &self.0 else { return };
        let open = spans.lock();
        let Some(part) = &open.part else { return };
        let end = SystemTime::now();
        let start = end.checked_sub(begun.elapsed()).unwrap_or(end);
        let builder = SpanBuilder::from_name("step")
            .with_start_time(start)
            .with_attributes([
                KeyValue::new("ovis.step", i64::from(report.step)),
                KeyValue::new("ovis.steps", i64::from(report.total)),
                KeyValue::new("ovis.sigma", f64::from(report.sigma)),
            ]);
        let mut step = spans.tracer.build_with_context(builder, &below(part));
        step.end_with_timestamp(end);
    }

    /// The job has ended with this event: ends all its spans. A failed job's have the error's
    /// code as their status.
    pub(super) fn end(&self, event: &Event) {
        let status = match event {
            Event::Done(..) => Status::Ok,
            Event::Failed(error) => Status::error(error.code.name()),
            _ => Status::error("cancelled"),
        };
        self.end_with(&status);
    }

    /// The worker's end interrupts the job, which goes on in another process.
    pub(super) fn interrupt(&self) {
        self.end_with(&Status::error("interrupted"));
    }

    fn end_with(&self, status: &Status) {
        let Some(spans) = &self.0 else { return };
        let Open { job, part } = std::mem::take(&mut *spans.lock());
        for mut span in part.into_iter().chain(job) {
            span.set_status(status.clone());
            span.end();
        }
    }
}

impl Spans {
    fn lock(&self) -> MutexGuard<'_, Open> {
        // Every change is complete before the lock is released.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The context of spans below `parent`.
fn below(parent: &Span) -> Context {
    Context::new().with_remote_span_context(parent.span_context().clone())
}

fn child(tracer: &SdkTracer, name: impl Into<Cow<'static, str>>, parent: &Span) -> Span {
    tracer.build_with_context(SpanBuilder::from_name(name), &below(parent))
}

/// The span that a W3C `traceparent` names; none if its identifiers are zero, which stand for
/// none.
fn parent_of(traceparent: &str) -> Option<SpanContext> {
    /// The flag `sampled`, the only one that is passed on.
    const SAMPLED: u8 = 1;
    let mut fields = traceparent.split('-').skip(1);
    let trace = TraceId::from_hex(fields.next()?).ok()?;
    let span = SpanId::from_hex(fields.next()?).ok()?;
    let flags = u8::from_str_radix(fields.next()?, 16).ok()?;
    let flags = TraceFlags::new(flags & SAMPLED);
    let parent = SpanContext::new(trace, span, flags, true, TraceState::default());
    parent.is_valid().then_some(parent)
}

/// What is known of a job's work: steps and sampler, the image's size, and the batch.
fn attributes_of(work: &Work) -> Vec<KeyValue> {
    let number = |name, value: usize| KeyValue::new(name, i64::try_from(value).unwrap_or(i64::MAX));
    let shape = |batch: usize, width: usize, height: usize| {
        [
            number("ovis.batch", batch),
            number("ovis.width", width),
            number("ovis.height", height),
        ]
    };
    let of_latent = |dims: &[usize]| match dims {
        &[batch, _, height, width] => {
            shape(batch, width * PIXELS_PER_LATENT, height * PIXELS_PER_LATENT).to_vec()
        }
        _ => Vec::new(),
    };
    match work {
        Work::Encode(request) => vec![number("ovis.batch", request.prompts.len())],
        Work::Denoise(request, inputs, _) => {
            let mut attributes = of_latent(inputs.latent.dims());
            attributes.extend([
                KeyValue::new("ovis.steps", i64::from(request.steps)),
                KeyValue::new("ovis.sampler", request.sampler.clone()),
            ]);
            attributes
        }
        Work::Decode(latent) => of_latent(latent.dims()),
        Work::VaeEncode(image) => match image.dims() {
            &[batch, height, width, _] => shape(batch, width, height).to_vec(),
            _ => Vec::new(),
        },
    }
}

#[cfg(test)]
mod tests {
    use std::future::{ready, Future};
    use std::time::Duration;

    use opentelemetry::trace::TracerProvider as _;
    use opentelemetry_sdk::error::OTelSdkResult;
    use opentelemetry_sdk::trace::{SdkTracerProvider, SpanData, SpanExporter};
    use ovis_protocol::{DenoiseRequest, EncodeRequest, ErrorCode, WireError};

    use super::*;
    use crate::pipeline::{Conditioning, DenoiseInputs, Latent};

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    /// Keeps the spans that have ended.
    #[derive(Clone, Debug, Default)]
    struct Ended(Arc<Mutex<Vec<SpanData>>>);

    impl SpanExporter for Ended {
        fn export(&self, batch: Vec<SpanData>) -> impl Future<Output = OTelSdkResult> + Send {
            self.0.lock().unwrap().extend(batch);
            ready(Ok(()))
        }
    }

    fn tracer() -> (SdkTracer, Ended, SdkTracerProvider) {
        let ended = Ended::default();
        let provider = SdkTracerProvider::builder()
            .with_simple_exporter(ended.clone())
            .build();
        (provider.tracer("test"), ended, provider)
    }

    fn begin(tracer: Option<&SdkTracer>, parent: Option<&str>, work: &Work) -> JobTrace {
        JobTrace::begin(tracer, parent, Uuid::from_u128(7), &OwnerId([1; 32]), work)
    }

    fn encode() -> Work {
        Work::Encode(EncodeRequest {
            prompts: vec!["a".into(), "b".into()],
            max_sequence_length: 256,
            adapters: vec![],
        })
    }

    fn denoise() -> Work {
        let inputs = DenoiseInputs {
            positive: Conditioning::from_values(vec![0.0; 8], &[1, 1, 8]).unwrap(),
            negative: None,
            latent: Latent::from_values(vec![0.0; 3 * 16 * 4 * 2], &[3, 16, 4, 2]).unwrap(),
            noise_mask: None,
        };
        Work::Denoise(Box::new(DenoiseRequest::new(1, 2, 1.0)), inputs, None)
    }

    fn value(span: &SpanData, name: &str) -> Option<String> {
        let mut attributes = span.attributes.iter();
        let found = attributes.find(|attribute| attribute.key.as_str() == name);
        found.map(|attribute| attribute.value.to_string())
    }

    #[test]
    fn the_spans_of_a_job_form_a_tree_below_the_clients() {
        let (tracer, ended, _provider) = tracer();
        let trace = begin(Some(&tracer), Some(PARENT), &denoise());
        trace.start();
        for step in [1, 2] {
            let report = StepReport {
                step,
                total: 2,
                sigma: 0.5,
            };
            trace.step(Instant::now() - Duration::from_millis(1), &report);
        }
        let error = WireError::new(ErrorCode::OutOfMemory, "", "");
        trace.end(&Event::Failed(error));
        trace.end(&Event::Cancelled);
        trace.start();
        let spans = ended.0.lock().unwrap();
        let names: Vec<_> = spans.iter().map(|span| span.name.as_ref()).collect();
        assert_eq!(names, ["queue", "step", "step", "denoise", "job"]);
        let [queue, first, second, operation, job] = &spans[..] else {
            unreachable!()
        };
        assert_eq!(job.parent_span_id.to_string(), "b7ad6b7169203331");
        for span in &spans[..] {
            let trace = span.span_context.trace_id().to_string();
            assert_eq!(trace, "0af7651916cd43dd8448eb211c80319c");
            assert!(span.start_time <= span.end_time);
        }
        for (span, parent) in [
            (queue, job),
            (operation, job),
            (first, operation),
            (second, operation),
        ] {
            assert_eq!(span.parent_span_id, parent.span_context.span_id());
        }
        assert_eq!(value(second, "ovis.step").as_deref(), Some("2"));
        assert_eq!(value(second, "ovis.sigma").as_deref(), Some("0.5"));
        for (name, expected) in [
            ("ovis.width", "16"),
            ("ovis.height", "32"),
            ("ovis.batch", "3"),
            ("ovis.steps", "2"),
            ("ovis.sampler", "euler"),
            ("ovis.operation", "denoise"),
            ("ovis.owner", "01010101"),
        ] {
            assert_eq!(value(job, name).as_deref(), Some(expected), "{name}");
        }
        assert_eq!(job.status, Status::error("out-of-memory"));
    }

    #[test]
    fn a_job_that_never_starts_has_no_operation() {
        let (tracer, ended, _provider) = tracer();
        let trace = begin(Some(&tracer), None, &encode());
        trace.end(&Event::Cancelled);
        trace.start();
        let spans = ended.0.lock().unwrap();
        let names: Vec<_> = spans.iter().map(|span| span.name.as_ref()).collect();
        assert_eq!(names, ["queue", "job"]);
        assert_eq!(spans[1].parent_span_id, SpanId::INVALID);
        assert_eq!(value(&spans[1], "ovis.batch").as_deref(), Some("2"));
    }

    #[test]
    fn a_client_decides_whether_its_trace_is_recorded() {
        let (tracer, ended, _provider) = tracer();
        let unsampled = PARENT.replace("-01", "-00");
        begin(Some(&tracer), Some(&unsampled), &encode()).end(&Event::Cancelled);
        begin(None, Some(PARENT), &encode()).end(&Event::Cancelled);
        assert!(ended.0.lock().unwrap().is_empty());
    }

    #[test]
    fn identifiers_of_zeros_name_no_parent() {
        assert!(parent_of(PARENT).is_some());
        for (field, zeros) in [
            ("0af7651916cd43dd8448eb211c80319c", "0".repeat(32)),
            ("b7ad6b7169203331", "0".repeat(16)),
        ] {
            assert!(parent_of(&PARENT.replace(field, &zeros)).is_none());
        }
    }
}
