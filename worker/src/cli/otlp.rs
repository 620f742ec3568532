//! Delivers traces to an OpenTelemetry collector, by OTLP over HTTP.
//!
//! The exporter has a thread of its own, and a queue of bounded length: a collector that is slow
//! or gone costs spans, not jobs.

use std::env;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use clap::Args;
use hyper::Uri;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry::KeyValue;
use opentelemetry_http::hyper::HyperClient;
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider};
use opentelemetry_sdk::Resource;
use tokio::runtime::Handle;

use super::error::CliError;
use super::values::text;

/// The collector's address; the path is appended (OpenTelemetry's OTLP exporter configuration).
const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";

/// The complete address for traces, which has precedence over [`ENDPOINT`].
const TRACES_ENDPOINT: &str = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT";

/// Turns OpenTelemetry off when it is `true`.
const DISABLED: &str = "OTEL_SDK_DISABLED";

/// Where a collector takes traces, below its address.
const TRACES_PATH: &str = "/v1/traces";

/// How long one delivery may take.
const TIMEOUT: Duration = Duration::from_secs(5);

/// How long the worker's end may wait for the last delivery.
const FLUSH: Duration = Duration::from_secs(2);

/// How often a failed delivery is logged at most.
const WARN_EVERY: Duration = Duration::from_secs(60);

/// Where traces go.
#[derive(Clone, Debug, Args)]
pub struct OtlpArgs {
    /// Send traces of jobs to the OpenTelemetry collector at this address, as in
    /// `http://127.0.0.1:4318`, by OTLP over HTTP; the path `/v1/traces` is appended. Without the
    /// option, `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT` (used as it is) and
    /// `OTEL_EXPORTER_OTLP_ENDPOINT` are read; without these, there are no traces.
    #[arg(
        long,
        value_name = "URL",
        value_parser = text(),
        allow_hyphen_values = true
    )]
    otlp: Option<String>,
}

/// Delivers spans until it is ended; does nothing if no traces are wanted.
#[derive(Default)]
pub struct Traces(Option<SdkTracerProvider>);

impl OtlpArgs {
    /// Begins to deliver spans to the collector, if one is named. Requests run on `runtime`.
    ///
    /// # Errors
    /// The address is no `http` URL, or the exporter cannot start.
    pub fn start(&self, runtime: &Handle) -> Result<Traces, CliError> {
        let variable = |name: &str| env::var(name).ok().filter(|value| !value.is_empty());
        if variable(DISABLED).is_some_and(|value| value.eq_ignore_ascii_case("true")) {
            return Ok(Traces::default());
        }
        match endpoint(self.otlp.as_deref(), variable)? {
            Some(endpoint) => provider(&endpoint, runtime).map(|made| Traces(Some(made))),
            None => Ok(Traces::default()),
        }
    }
}

impl Traces {
    /// What makes the spans of jobs, if traces are wanted.
    pub fn tracer(&self) -> Option<SdkTracer> {
        let provider = self.0.as_ref()?;
        Some(provider.tracer(env!("CARGO_PKG_NAME")))
    }

    /// Delivers the last spans, and waits for that for at most two seconds.
    pub fn end(self) {
        if let Some(Err(error)) = self.0.map(|made| made.shutdown_with_timeout(FLUSH)) {
            tracing::warn!(%error, "the last traces were not delivered");
        }
    }
}

/// The collector's complete address, if one is named.
fn endpoint(
    option: Option<&str>,
    variable: impl Fn(&str) -> Option<String>,
) -> Result<Option<Uri>, CliError> {
    let below = |base: &str| format!("{}{TRACES_PATH}", base.trim_end_matches('/'));
    let (source, address) = if let Some(base) = option {
        ("--otlp", below(base))
    } else if let Some(address) = variable(TRACES_ENDPOINT) {
        (TRACES_ENDPOINT, address)
    } else if let Some(base) = variable(ENDPOINT) {
        (ENDPOINT, below(&base))
    } else {
        return Ok(None);
    };
    // The address may hold a password, so no message repeats it.
    let uri = address.parse::<Uri>().ok();
    let uri = uri.filter(|uri| uri.scheme_str() == Some("http") && uri.host().is_some());
    uri.map(Some).ok_or_else(|| {
        CliError::new(
            format!("{source} is no address of a collector of traces that this worker can reach."),
            "Give an address such as http://127.0.0.1:4318. For a collector behind https, run an \
             OpenTelemetry collector on this machine that passes traces on.",
        )
    })
}

fn provider(endpoint: &Uri, runtime: &Handle) -> Result<SdkTracerProvider, CliError> {
    let host = endpoint.host().unwrap_or_default();
    let collector = match endpoint.port_u16() {
        Some(port) => format!("{host}:{port}"),
        None => host.into(),
    };
    let client = Client {
        inner: HyperClient::with_default_connector(TIMEOUT, None),
        runtime: runtime.clone(),
        collector: collector.clone(),
        warned: Mutex::default(),
    };
    let exporter = SpanExporter::builder()
        .with_http()
        .with_http_client(client)
        .with_endpoint(endpoint.to_string())
        .with_protocol(Protocol::HttpBinary)
        .with_timeout(TIMEOUT)
        .build()
        .map_err(|e| CliError::new(format!("traces cannot be delivered: {e}"), ""))?;
    let resource = Resource::builder()
        .with_service_name(env!("CARGO_PKG_NAME"))
        .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
        .build();
    tracing::info!(%collector, "traces of jobs are delivered");
    Ok(SdkTracerProvider::builder()
        .with_resource(resource)
        .with_batch_exporter(exporter)
        .build())
}

/// Sends requests on the server's runtime, because the exporter's thread has none.
struct Client {
    inner: HyperClient,
    runtime: Handle,
    /// The collector's name and port, for the log.
    collector: String,
    /// When a failure was logged last.
    warned: Mutex<Option<Instant>>,
}

/// Without the request's headers, which may hold a password.
impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Client({})", self.collector)
    }
}

impl Client {
    /// Logs that a delivery failed, unless that was logged a short while ago.
    fn warn(&self, why: &dyn fmt::Display) {
        let mut warned = self.warned.lock().unwrap_or_else(PoisonError::into_inner);
        if is_due(*warned, Instant::now()) {
            *warned = Some(Instant::now());
            tracing::warn!(
                collector = self.collector,
                error = %why,
                "traces cannot be delivered; jobs are not affected"
            );
        }
    }
}

/// Whether a failure at `now` is to be logged, after the one that was logged last.
fn is_due(last: Option<Instant>, now: Instant) -> bool {
    last.is_none_or(|last| now.duration_since(last) >= WARN_EVERY)
}

impl HttpClient for Client {
    fn send_bytes<'a, 'b>(
        &'a self,
        request: Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send + 'b>>
    where
        'a: 'b,
        Self: 'b,
    {
        let inner = self.inner.clone();
        let sent = self
            .runtime
            .spawn(async move { inner.send_bytes(request).await });
        Box::pin(async move {
            let answer = match sent.await {
                Ok(answer) => answer,
                Err(stopped) => Err(stopped.into()),
            };
            match &answer {
                Ok(response) if response.status().is_success() => {}
                Ok(response) => self.warn(&format_args!("it answers {}", response.status())),
                Err(error) => self.warn(error),
            }
            answer
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(option: Option<&str>, variables: &[(&str, &str)]) -> Option<String> {
        let variable = |name: &str| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_string())
        };
        endpoint(option, variable)
            .unwrap()
            .map(|uri| uri.to_string())
    }

    #[test]
    fn the_option_comes_before_the_variables() {
        let base = (ENDPOINT, "http://base:4318/");
        let traces = (TRACES_ENDPOINT, "http://traces/exact");
        assert_eq!(of(None, &[]), None);
        for (option, variables, expected) in [
            (None, &[base][..], "http://base:4318/v1/traces"),
            (None, &[base, traces], "http://traces/exact"),
            (Some("http://a:1"), &[base, traces], "http://a:1/v1/traces"),
        ] {
            assert_eq!(of(option, variables).as_deref(), Some(expected));
        }
    }

    #[test]
    fn addresses_that_cannot_work_are_refused_without_repeating_them() {
        for address in [
            "",
            "collector",
            "https://user:pass@host",
            "http://",
            "ftp://a",
        ] {
            let error = endpoint(Some(address), |_| None).unwrap_err();
            assert!(error.message.starts_with("--otlp is no"), "{error}");
            assert!(!error.message.contains("pass"), "{error}");
        }
    }

    #[test]
    fn a_failure_is_logged_once_a_minute() {
        let now = Instant::now();
        assert!(is_due(None, now));
        assert!(!is_due(Some(now), now + WARN_EVERY / 2));
        assert!(is_due(Some(now), now + WARN_EVERY));
    }
}
