//! A connection's request: a websocket, or a plain question over HTTP.
//!
//! A connection has one request. Every path may become a websocket; `/health` and `/metrics`
//! answer GET and HEAD, with any query.

use std::convert::Infallible;
use std::future::{poll_fn, ready};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
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

use super::health::{health, metrics};
use super::House;
use crate::engine::Health;

/// Most bytes of a request's head.
pub const MAX_HEAD: usize = 16 << 10;

/// How long what a client still sends after its answer is read and thrown away: a socket that
/// is closed with unread bytes is reset, and the answer lost.
const LINGER: Duration = Duration::from_secs(1);

const ALLOWED: &str = "GET, HEAD";

type Answer = Response<Full<Bytes>>;

/// A request that has become a websocket: the socket, and what the client has sent already.
pub struct Upgraded {
    /// The socket.
    pub stream: TcpStream,
    /// Bytes after the request's head.
    pub read: Vec<u8>,
}

/// Answers a connection's request. Gives it back where it is a websocket from now on. The
/// caller bounds the wait.
pub async fn serve(stream: TcpStream, house: &House) -> Option<Upgraded> {
    let upgraded = AtomicBool::new(false);
    let service = service_fn(|request: Request<Incoming>| {
        let answer = answer(&request, house);
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
    // Without the library's own shutdown, as the socket may go on as a websocket.
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

fn answer(request: &Request<impl Sized>, house: &House) -> Answer {
    if let Some(refusal) = wrong_host(request, house) {
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
        return upgrade(request, house);
    }
    let watch: fn(&House) -> Answer = match request.uri().path() {
        "/health" => |house| {
            let (well, body) = health(&house.engine);
            let status = match well {
                true => StatusCode::OK,
                false => StatusCode::SERVICE_UNAVAILABLE,
            };
            of_type(status, "application/json", body)
        },
        "/metrics" => |house| {
            let body = metrics(&house.engine, &house.gate, house.budget.used());
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
        return watch(house);
    }
    let mut refusal = text(
        StatusCode::METHOD_NOT_ALLOWED,
        "This is answered to GET and HEAD.",
    );
    let allowed = HeaderValue::from_static(ALLOWED);
    refusal.headers_mut().insert(header::ALLOW, allowed);
    refusal
}

/// The answer to a request that does not name this worker, by `Host` and in its first line.
fn wrong_host(request: &Request<impl Sized>, house: &House) -> Option<Answer> {
    let mut given = request.headers().get_all(header::HOST).iter();
    let (first, second) = (given.next(), given.next());
    if second.is_some() || (first.is_none() && request.version() >= Version::HTTP_11) {
        return Some(text(
            StatusCode::BAD_REQUEST,
            "A request has one Host header.",
        ));
    }
    // A header that is no text names nobody.
    let first = first.map(|host| host.to_str().unwrap_or_default());
    let authority = request.uri().authority().map(|a| a.as_str());
    let mut named = [first, authority].into_iter().flatten();
    let host = named.find(|host| !house.options.hosts.allows(host))?;
    Some(text(
        StatusCode::FORBIDDEN,
        &format!(
            "This worker does not know itself as `{}`. If that is its name, start it with \
             --allowed-host NAME; its IP address works without.",
            shown(host)
        ),
    ))
}

fn upgrade(request: &Request<impl Sized>, house: &House) -> Answer {
    // Any web page may open a websocket to this machine, but it cannot hide
    // that it is a page.
    if request.headers().contains_key(header::ORIGIN) {
        return text(
            StatusCode::FORBIDDEN,
            "This worker does not serve web pages: the request has an Origin.",
        );
    }
    if house.engine.health() != Health::Ok {
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
