//! A connection's HTTP request: answered, or upgraded to a websocket.
//!
//! A connection has one request. Any path may be upgraded to a websocket; `/health` and
//! `/metrics` answer GET and HEAD, with any query.

use std::convert::Infallible;
use std::future::{poll_fn, ready};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{self, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode, Version};
use hyper_util::rt::TokioIo;
use ovis_protocol::shown;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::handshake::server::create_response;

use super::context::Context;
use super::health::{health, metrics};
use crate::jobs::Health;

/// Most bytes of a request's head.
pub const MAX_HEAD: usize = 16 << 10;

/// How long bytes that a client still sends after its answer are read and discarded. Closing a
/// socket with unread bytes resets it, and the answer would be lost.
const LINGER: Duration = Duration::from_secs(1);

const ALLOWED: &str = "GET, HEAD";

type Answer = Response<Full<Bytes>>;

/// A connection upgraded to a websocket.
pub struct Upgraded {
    /// The socket.
    pub stream: TcpStream,
    /// Bytes that the client has sent after the request's head.
    pub read: Vec<u8>,
}

/// Answers a connection's request. Returns the connection if it was upgraded to a websocket.
/// The caller bounds the wait.
pub async fn serve(stream: TcpStream, context: &Context) -> Option<Upgraded> {
    let upgraded = AtomicBool::new(false);
    let service = service_fn(|request: Request<Incoming>| {
        let answer = answer(&request, context);
        tracing::debug!(
            status = answer.status().as_u16(),
            method = request.method().as_str(),
            path = request.uri().path(),
            "http"
        );
        let is_upgrade = answer.status() == StatusCode::SWITCHING_PROTOCOLS;
        upgraded.fetch_or(is_upgrade, Ordering::Relaxed);
        ready(Ok::<_, Infallible>(answer))
    });
    let mut connection = http1::Builder::new()
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(stream), service);
    // Without shutting the socket down, because it may go on as a websocket.
    let result = poll_fn(|context| connection.poll_without_shutdown(context)).await;
    let parts = connection.into_parts();
    let mut stream = parts.io.into_inner();
    if let Err(error) = result {
        tracing::debug!(%error, "no request");
    } else if upgraded.load(Ordering::Relaxed) {
        let read = parts.read_buf.to_vec();
        return Some(Upgraded { stream, read });
    }
    let mut rest = [0; 4096];
    let linger = async {
        stream.shutdown().await?;
        while stream.read(&mut rest).await? > 0 {}
        std::io::Result::Ok(())
    };
    let _ = timeout(LINGER, linger).await;
    None
}

fn answer(request: &Request<impl Sized>, context: &Context) -> Answer {
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
    let respond: fn(&Context) -> Answer = match request.uri().path() {
        "/health" => |context| {
            let (is_ok, body) = health(&context.jobs);
            let status = match is_ok {
                true => StatusCode::OK,
                false => StatusCode::SERVICE_UNAVAILABLE,
            };
            of_type(status, "application/json", body)
        },
        "/metrics" => |context| {
            let body = metrics(context);
            of_type(StatusCode::OK, "text/plain; version=0.0.4", body)
        },
        _ => {
            return text(
                StatusCode::NOT_FOUND,
                "An ovis-worker: connect by websocket, or GET /health or /metrics.",
            )
        }
    };
    if [Method::GET, Method::HEAD].contains(request.method()) {
        return respond(context);
    }
    let mut refusal = text(
        StatusCode::METHOD_NOT_ALLOWED,
        "This is answered to GET and HEAD.",
    );
    let allowed = HeaderValue::from_static(ALLOWED);
    refusal.headers_mut().insert(header::ALLOW, allowed);
    refusal
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
        return text(
            StatusCode::FORBIDDEN,
            "This worker does not serve web pages: the request has an Origin.",
        );
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

fn text(status: StatusCode, sentence: &str) -> Answer {
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
