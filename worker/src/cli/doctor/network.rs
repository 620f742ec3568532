//! The address and the tokens.

use std::net::SocketAddr;
use std::time::Duration;

use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use ovis_protocol::limits::PROTOCOL_VERSION;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::finding::{Finding, Report};
use crate::cli::listening::Bound;
use crate::cli::serve::check_guarded;
use crate::cli::token_args::TokenArgs;

/// Longest time that a program at the address may take to answer.
const PATIENCE: Duration = Duration::from_secs(3);

/// Most bytes of an answer that are read.
const MOST: usize = 64 << 10;

/// Whether the address can be listened on, or a worker listens there already; and whether clients
/// of other machines would need a token.
pub async fn address(listen: &str, token: &TokenArgs, report: &mut Report) {
    let tokens = match token.described() {
        Ok(tokens) => tokens,
        Err(error) => {
            report.add(Finding::fault("token", error));
            return;
        }
    };
    let wanted = match &tokens {
        Some(tokens) => format!("clients must send {tokens}"),
        None => "none is asked for".into(),
    };
    report.add(Finding::good("token", wanted));
    match Bound::bind(listen).await {
        Ok(bound) => {
            let address = bound.address;
            if let Err(error) = check_guarded(address, tokens.is_none()) {
                report.add(Finding::fault("address", error));
                return;
            }
            report.add(match bound.listen() {
                Ok(_) => Finding::good("address", format!("{address} is free")),
                Err(error) => taken(listen, error).await,
            });
        }
        Err(error) => report.add(taken(listen, error).await),
    }
}

/// What to say of an address that cannot be listened on.
async fn taken(listen: &str, error: crate::cli::CliError) -> Finding {
    let address = tokio::net::lookup_host(listen).await.ok();
    let Some(address) = address.and_then(|mut all| all.next()) else {
        return Finding::fault("address", error);
    };
    match timeout(PATIENCE, ask(address)).await {
        Ok(Some(Answer::Worker(told))) => {
            let text = |name: &str| told[name].as_str().unwrap_or("?").to_owned();
            let found = format!(
                "a worker ({}) is {} at {address} with {} on {}",
                text("worker"),
                text("status"),
                text("model"),
                text("device")
            );
            match told["protocol"].as_u64() {
                Some(found) if found == u64::from(PROTOCOL_VERSION) => {}
                _ => {
                    return Finding::note(
                        "address",
                        format!("{found}; it speaks protocol {}", told["protocol"]),
                        "Stop it, and start this program's worker in its place.",
                    )
                }
            }
            Finding::good("address", found)
        }
        Ok(Some(Answer::Closed)) => Finding::note(
            "address",
            format!("a program at {address} wants a token, as a worker may"),
            "Give its token with OVIS_WORKER_TOKEN to the clients; /health tells more with it.",
        ),
        _ => Finding::fault("address", error),
    }
}

/// What a program answers to `GET /health`.
enum Answer {
    /// A worker's description of itself.
    Worker(Value),
    /// It wants a token.
    Closed,
}

/// Asks the program at an address for its health. `None` if it is no worker.
async fn ask(address: SocketAddr) -> Option<Answer> {
    let stream = TcpStream::connect(address).await.ok()?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.ok()?;
    tokio::spawn(connection);
    let request = Request::get("/health")
        .header("host", address.to_string())
        .body(Empty::<Bytes>::new())
        .ok()?;
    let answer = sender.send_request(request).await.ok()?;
    if answer.status() == StatusCode::UNAUTHORIZED {
        return Some(Answer::Closed);
    }
    let body = Limited::new(answer.into_body(), MOST)
        .collect()
        .await
        .ok()?;
    let told: Value = serde_json::from_slice(&body.to_bytes()).ok()?;
    told["worker"].is_string().then_some(Answer::Worker(told))
}
