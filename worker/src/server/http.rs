//! The first bytes of a connection: a websocket, or a plain question over HTTP.

use std::fmt::Write as _;
use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::engine::EngineHandle;
use ovis_protocol::limits::PROTOCOL_VERSION;

/// Most bytes of a request's head.
const MAX_HEAD: usize = 8 << 10;

/// What a connection asks for.
pub enum Ask {
    /// To become a websocket.
    WebSocket,
    /// Something this server answers over HTTP and then closes.
    Http {
        /// Status line after `HTTP/1.1`.
        status: &'static str,
        /// The path, for the log.
        path: String,
    },
}

/// Looks at a request's head without taking it from the socket.
///
/// # Errors
/// The socket failed or sent no whole head; the caller's timeout bounds the
/// wait.
pub async fn look(stream: &TcpStream) -> io::Result<Ask> {
    let mut buffer = vec![0; MAX_HEAD];
    loop {
        let length = stream.peek(&mut buffer).await?;
        let head = &buffer[..length];
        if head.windows(4).any(|w| w == b"\r\n\r\n") {
            return Ok(judge(&String::from_utf8_lossy(head)));
        }
        if length == 0 || length == MAX_HEAD {
            return Err(io::ErrorKind::InvalidData.into());
        }
        // `peek` returns at once while bytes are there, so it has to be slowed
        // down until the rest of a head in pieces arrives.
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn judge(head: &str) -> Ask {
    let head = head.split("\r\n\r\n").next().unwrap_or_default();
    let mut lines = head.split("\r\n");
    let mut request = lines.next().unwrap_or_default().split(' ');
    let (method, path) = (request.next(), request.next().unwrap_or_default());
    let header = |name: &str| {
        lines.clone().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    };
    let http = |status| Ask::Http {
        status,
        path: path.to_owned(),
    };
    if header("upgrade").is_some_and(|value| value.eq_ignore_ascii_case("websocket")) {
        // Any web page may open a websocket to this machine, but it cannot hide
        // that it is a page.
        return match header("origin") {
            Some(_) => http("403 Forbidden"),
            None => Ask::WebSocket,
        };
    }
    match (method, path) {
        (Some("GET"), "/health" | "/metrics") => http("200 OK"),
        (Some("GET"), _) => http("404 Not Found"),
        _ => http("405 Method Not Allowed"),
    }
}

/// Answers over HTTP and closes.
///
/// # Errors
/// The socket failed.
pub async fn answer(
    mut stream: TcpStream,
    status: &str,
    path: &str,
    engine: &EngineHandle,
    connections: usize,
) -> io::Result<()> {
    // The head was only looked at; a socket closed with unread bytes would be
    // reset, and the answer lost.
    let mut head = vec![0; MAX_HEAD];
    let _ = stream.read(&mut head).await?;
    let (kind, body) = match (status, path) {
        ("200 OK", "/health") => ("application/json", health(engine)),
        ("200 OK", _) => ("text/plain; version=0.0.4", metrics(engine, connections)),
        ("403 Forbidden", _) => (
            "text/plain",
            "This worker does not serve web pages: the request has an Origin.\n".into(),
        ),
        _ => (
            "text/plain",
            "An ovis-worker: connect by websocket, or GET /health or /metrics.\n".into(),
        ),
    };
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body.as_bytes()).await?;
    stream.shutdown().await
}

fn health(engine: &EngineHandle) -> String {
    let can = engine.capabilities();
    let status = engine.status();
    let body = serde_json::json!({
        "status": "ok",
        "worker": super::WORKER,
        "protocol": PROTOCOL_VERSION,
        "model": can.model,
        "device": can.device,
        "precision": can.precision,
        "queued": status.queued,
        "running": status.running,
    });
    format!("{body}\n")
}

fn metrics(engine: &EngineHandle, connections: usize) -> String {
    let (status, counts) = (engine.status(), engine.counts());
    let mut text = String::new();
    let mut metric = |name: &str, kind: &str, help: &str, value: f64| {
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "# HELP ovis_{name} {help}\n# TYPE ovis_{name} {kind}\novis_{name} {value}"
        );
    };
    metric(
        "connections",
        "gauge",
        "Open connections.",
        connections as f64,
    );
    metric(
        "jobs_queued",
        "gauge",
        "Jobs waiting.",
        status.queued.into(),
    );
    metric(
        "jobs_running",
        "gauge",
        "Jobs on the device.",
        status.running.into(),
    );
    metric(
        "steps_total",
        "counter",
        "Denoise steps run.",
        counts.steps as f64,
    );
    metric(
        "step_seconds_total",
        "counter",
        "Seconds of these steps.",
        counts.step_seconds,
    );
    metric(
        "forwards_total",
        "counter",
        "Forwards of the transformer in these steps.",
        counts.forwards.asked as f64,
    );
    metric(
        "forwards_answered_total",
        "counter",
        "Forwards of which the step cache answered all but the first block.",
        counts.forwards.answered as f64,
    );
    metric(
        "busy_seconds_total",
        "counter",
        "Seconds the device thread has worked.",
        counts.busy_seconds,
    );
    metric(
        "uptime_seconds",
        "gauge",
        "Seconds since the start.",
        status.uptime_seconds,
    );
    metric(
        "device_bytes_used",
        "gauge",
        "Device memory in use, 0 when unknown.",
        status.device_bytes_used as f64,
    );
    metric(
        "device_bytes_total",
        "gauge",
        "Device memory, 0 when unknown.",
        status.device_bytes_total as f64,
    );
    text.push_str("# HELP ovis_jobs_total Jobs ended.\n# TYPE ovis_jobs_total counter\n");
    for ((operation, outcome), count) in counts.ended {
        let _ = writeln!(
            text,
            "ovis_jobs_total{{operation=\"{operation}\",outcome=\"{outcome}\"}} {count}"
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(head: &str) -> &'static str {
        match judge(head) {
            Ask::WebSocket => "websocket",
            Ask::Http { status, .. } => status,
        }
    }

    #[test]
    fn requests_are_told_apart() {
        let upgrade = "GET / HTTP/1.1\r\nHost: x\r\nUpgrade: WebSocket\r\n";
        assert_eq!(status(&format!("{upgrade}\r\n")), "websocket");
        let page = format!("{upgrade}Origin: http://example.org\r\n\r\n");
        assert_eq!(status(&page), "403 Forbidden");
        assert_eq!(status("GET /health HTTP/1.1\r\n\r\n"), "200 OK");
        assert_eq!(status("GET /other HTTP/1.1\r\n\r\n"), "404 Not Found");
        assert_eq!(
            status("POST /health HTTP/1.1\r\n\r\n"),
            "405 Method Not Allowed"
        );
        assert_eq!(status("\r\n\r\n"), "405 Method Not Allowed");
    }
}
