//! What a request is answered: who may ask for what, and by which method.
//!
//! Any path may be upgraded to a websocket. The other routes take any query and ignore a body.

use std::net::IpAddr;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::{Method, Request, Response, StatusCode, Version};
use ovis_protocol::shown;
use tokio_tungstenite::tungstenite::handshake::server::create_response;
use uuid::Uuid;

use super::context::Context;
use super::health::{health, healthz, metrics, readyz};
use super::operator;
use super::tokens::{Identity, Rejected, Role};
use crate::jobs::{Health, Refusal};

/// An answer with its whole body.
pub type Answer = Response<Full<Bytes>>;

#[derive(Clone, Copy)]
enum Route<'a> {
    Healthz,
    Readyz,
    Health,
    Metrics,
    Jobs,
    Job(Uuid),
    Drain,
    Free,
    Unload(&'a str),
    Adapters,
}

impl<'a> Route<'a> {
    fn of(path: &'a str) -> Option<Self> {
        Some(match path {
            "/healthz" => Self::Healthz,
            "/readyz" => Self::Readyz,
            "/health" => Self::Health,
            "/metrics" => Self::Metrics,
            "/jobs" => Self::Jobs,
            "/drain" => Self::Drain,
            "/free" => Self::Free,
            "/adapters" => Self::Adapters,
            _ => match path.strip_prefix("/models/") {
                Some(rest) => Self::Unload(rest.strip_suffix("/unload")?),
                None => Self::Job(path.strip_prefix("/jobs/")?.parse().ok()?),
            },
        })
    }

    /// The methods that it answers to.
    fn methods(self) -> &'static [Method] {
        match self {
            Self::Job(_) => &[Method::DELETE],
            Self::Drain | Self::Free | Self::Unload(_) | Self::Adapters => &[Method::POST],
            _ => &[Method::GET, Method::HEAD],
        }
    }

    /// The role that it needs. None is needed to learn whether the worker is alive and ready:
    /// those who ask, such as a load balancer, often cannot send a token.
    fn role(self) -> Option<Role> {
        match self {
            Self::Healthz | Self::Readyz => None,
            Self::Health | Self::Metrics | Self::Jobs => Some(Role::Observe),
            Self::Job(_) | Self::Drain | Self::Free | Self::Unload(_) => Some(Role::Administer),
            Self::Adapters => Some(Role::Submit),
        }
    }

    /// Whether programs on the worker's machine may ask for it while there are no tokens: it costs
    /// others some time and no job.
    fn is_for_neighbours(self) -> bool {
        matches!(self, Self::Free | Self::Unload(_))
    }

    fn respond(self, context: &Context, by: Option<&Identity>) -> Answer {
        let by = by.and_then(Identity::name).map_or("", |name| &**name);
        match self {
            Self::Healthz => state(healthz(context)),
            Self::Readyz => state(readyz(context)),
            Self::Health => state(health(&context.jobs)),
            Self::Metrics => {
                let body = metrics(context);
                of_type(StatusCode::OK, "text/plain; version=0.0.4", body)
            }
            Self::Jobs => json(StatusCode::OK, operator::jobs(&context.jobs)),
            Self::Drain => json(StatusCode::OK, operator::drain(&context.jobs, by)),
            Self::Free => json(StatusCode::OK, operator::free(&context.jobs, by)),
            Self::Unload(name) => unload(context, name, by),
            Self::Adapters => upload(),
            Self::Job(id) => match operator::cancel(&context.jobs, id, by) {
                Some(body) => json(StatusCode::OK, body),
                None => text(
                    StatusCode::NOT_FOUND,
                    "No job with this UUID waits or runs: GET /jobs lists those that do.",
                ),
            },
        }
    }
}

/// The answer to a request from `address`. Two are none: 101 upgrades the connection to a
/// websocket, and 100 lets an adapter be [uploaded](super::adapter_upload).
pub fn answer(request: &Request<impl Sized>, address: IpAddr, context: &Context) -> Answer {
    if let Some(wait) = context.failures.keeps_out(address) {
        context.jobs.metrics().count_refusal(Refusal::Failures);
        return too_many_failures(wait);
    }
    if let Some(refusal) = wrong_host(request, context) {
        return refusal;
    }
    let is_websocket = request
        .headers()
        .get_all(header::UPGRADE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|protocol| protocol.trim().eq_ignore_ascii_case("websocket"));
    if is_websocket {
        return upgrade(request, context);
    }
    let Some(route) = Route::of(request.uri().path()) else {
        return text(
            StatusCode::NOT_FOUND,
            "An ovis-worker: connect by websocket, or GET /healthz, /readyz, /health, /metrics \
             or /jobs.",
        );
    };
    let methods = route.methods();
    if !methods.contains(request.method()) {
        let methods = methods.iter().map(Method::as_str);
        let methods = methods.collect::<Vec<_>>();
        let sentence = format!("This is answered to {}.", methods.join(" and "));
        let refusal = text(StatusCode::METHOD_NOT_ALLOWED, &sentence);
        return with(refusal, header::ALLOW, &methods.join(", "));
    }
    // A web page may send such a request to any address, but not without its origin.
    let changes = !methods.contains(&Method::GET);
    if changes && request.headers().contains_key(header::ORIGIN) {
        return foreign_page();
    }
    if route.is_for_neighbours()
        && context.options.tokens.is_none()
        && address.to_canonical().is_loopback()
    {
        return route.respond(context, None);
    }
    match route
        .role()
        .map(|role| authorize(request, address, role, context))
    {
        Some(Err(refusal)) => *refusal,
        Some(Ok(identity)) => route.respond(context, Some(&identity)),
        None => route.respond(context, None),
    }
}

/// The answer to a request to unload a model.
fn unload(context: &Context, name: &str, by: &str) -> Answer {
    let model = match context.jobs.models().find(Some(name)) {
        Ok(model) => model,
        Err(error) => {
            let sentence = format!("{} {}", error.message, error.hint);
            return text(StatusCode::NOT_FOUND, &sentence);
        }
    };
    match operator::unload(&context.jobs, model, by) {
        Some(body) => json(StatusCode::OK, body),
        None => text(
            StatusCode::CONFLICT,
            "The model runs a job: ask again when it has ended, or cancel it.",
        ),
    }
}

/// Who asks, if the token of the header `Authorization` has this role.
fn authorize(
    request: &Request<impl Sized>,
    address: IpAddr,
    role: Role,
    context: &Context,
) -> Result<Identity, Box<Answer>> {
    let tokens = &context.options.tokens;
    let unauthorized = |challenge: &str, sentence: &str| {
        let refusal = text(StatusCode::UNAUTHORIZED, sentence);
        Box::new(with(refusal, header::WWW_AUTHENTICATE, challenge))
    };
    let identity = tokens.identify(bearer(request)).map_err(|why| match why {
        Rejected::Missing => unauthorized(
            "Bearer realm=\"ovis-worker\"",
            "This needs a token, in the header `Authorization: Bearer TOKEN`.",
        ),
        Rejected::Wrong => {
            context.jobs.metrics().count_refusal(Refusal::Token);
            context.failures.note(address);
            unauthorized(
                "Bearer realm=\"ovis-worker\", error=\"invalid_token\"",
                "The token is not one of this worker's.",
            )
        }
    })?;
    if identity.roles().allow(role) {
        return Ok(identity);
    }
    let name = role.name();
    if tokens.is_none() {
        return Err(Box::new(text(
            StatusCode::FORBIDDEN,
            &format!(
                "This needs a token with the role `{name}`, and this worker has no tokens: start \
                 it with --token or --tokens."
            ),
        )));
    }
    let refusal = text(
        StatusCode::FORBIDDEN,
        &format!(
            "The token has the roles `{}`, and this needs `{name}`.",
            identity.roles()
        ),
    );
    let challenge =
        format!("Bearer realm=\"ovis-worker\", error=\"insufficient_scope\", scope=\"{name}\"");
    Err(Box::new(with(
        refusal,
        header::WWW_AUTHENTICATE,
        &challenge,
    )))
}

/// The token of the header `Authorization`, in UTF-8; empty if it is not text. Another scheme
/// than `Bearer`, such as the login of a proxy in front of the worker, is no token.
fn bearer(request: &Request<impl Sized>) -> Option<&str> {
    let value = request.headers().get(header::AUTHORIZATION)?.as_bytes();
    let (scheme, token) = value.split_at_checked(7)?;
    scheme
        .eq_ignore_ascii_case(b"bearer ")
        .then(|| std::str::from_utf8(token).map_or("", str::trim))
}

/// The refusal of a request that does not name this worker in its `Host` header and its
/// request line.
fn wrong_host(request: &Request<impl Sized>, context: &Context) -> Option<Answer> {
    let mut given = request.headers().get_all(header::HOST).iter();
    let (first, second) = (given.next(), given.next());
    if second.is_some() || (first.is_none() && request.version() >= Version::HTTP_11) {
        return Some(text(
            StatusCode::BAD_REQUEST,
            "A request has one Host header.",
        ));
    }
    // A header that is not text matches no name.
    let first = first.map(|host| host.to_str().unwrap_or_default());
    let authority = request.uri().authority().map(|a| a.as_str());
    let mut named = [first, authority].into_iter().flatten();
    let host = named.find(|host| !context.options.hosts.allows(host))?;
    Some(text(
        StatusCode::FORBIDDEN,
        &format!(
            "This worker does not know itself as `{}`. If that is its name, start it with \
             --allowed-host NAME; its IP address works without.",
            shown(host)
        ),
    ))
}

fn upgrade(request: &Request<impl Sized>, context: &Context) -> Answer {
    // Any web page can open a websocket to this machine, but the browser then sends the page's
    // origin, which a page cannot prevent.
    if request.headers().contains_key(header::ORIGIN) {
        return foreign_page();
    }
    if context.jobs.health() != Health::Ok {
        return text(
            StatusCode::SERVICE_UNAVAILABLE,
            "This worker is stopping. Connect again when it is back.",
        );
    }
    let mut head = Request::new(());
    *head.method_mut() = request.method().clone();
    *head.version_mut() = request.version();
    *head.headers_mut() = request.headers().clone();
    match create_response(&head) {
        Ok(response) => response.map(|()| Full::default()),
        Err(_) => text(
            StatusCode::BAD_REQUEST,
            "A websocket begins with GET, HTTP/1.1, Connection: Upgrade, Upgrade: websocket, \
             Sec-WebSocket-Version: 13 and a Sec-WebSocket-Key.",
        ),
    }
}

/// Not an answer: its status says that the request may upload an adapter, which the caller reads.
fn upload() -> Answer {
    let mut answer = Answer::default();
    *answer.status_mut() = StatusCode::CONTINUE;
    answer
}

fn foreign_page() -> Answer {
    text(
        StatusCode::FORBIDDEN,
        "This worker does not serve web pages: the request has an Origin.",
    )
}

fn too_many_failures(wait: Duration) -> Answer {
    let seconds = wait.as_secs() + 1;
    let refusal = text(
        StatusCode::TOO_MANY_REQUESTS,
        &format!(
            "Too many clients at this address were refused, for a wrong token or a broken hello. \
             Correct the token and try again in {seconds} seconds."
        ),
    );
    with(refusal, header::RETRY_AFTER, &seconds.to_string())
}

fn state((is_ok, body): (bool, String)) -> Answer {
    match is_ok {
        true => json(StatusCode::OK, body),
        false => json(StatusCode::SERVICE_UNAVAILABLE, body),
    }
}

pub(super) fn json(status: StatusCode, body: String) -> Answer {
    of_type(status, "application/json", body)
}

pub(super) fn text(status: StatusCode, sentence: &str) -> Answer {
    of_type(status, "text/plain; charset=utf-8", format!("{sentence}\n"))
}

fn of_type(status: StatusCode, kind: &'static str, body: String) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::from(body)));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    answer
}

/// The answer with another header, whose value is plain ASCII.
fn with(mut answer: Answer, name: HeaderName, value: &str) -> Answer {
    if let Ok(value) = HeaderValue::from_str(value) {
        answer.headers_mut().insert(name, value);
    }
    answer
}
