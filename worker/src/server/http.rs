//! A connection's HTTP request: answered, or upgraded to a websocket.
//!
//! A connection has one request. The caller bounds the time of all of it: the request's head,
//! its answer, and bytes that the client still sends.

use std::convert::Infallible;
use std::future::poll_fn;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::adapter_upload;
use super::context::Context;
use super::routes::answer;
use super::stream::Stream;

/// Most bytes of a request's head.
pub const MAX_HEAD: usize = 16 << 10;

/// How long bytes that a client still sends after its answer are read and discarded. Closing a
/// socket with unread bytes resets it, and the answer would be lost.
const LINGER: Duration = Duration::from_secs(1);

/// A connection upgraded to a websocket.
pub struct Upgraded {
    /// The socket.
    pub stream: Stream,
    /// Bytes that the client has sent after the request's head.
    pub read: Vec<u8>,
}

/// Answers the request of a connection from `address`. Returns the connection if it was
/// upgraded to a websocket. The caller bounds the wait; `uploads` tells it that the request uploads
/// a file, which takes longer than others.
pub async fn serve(
    stream: Stream,
    address: IpAddr,
    context: &Context,
    uploads: &AtomicBool,
) -> Option<Upgraded> {
    let upgraded = &AtomicBool::new(false);
    let service = service_fn(|request: Request<Incoming>| {
        Box::pin(async move {
            let mut answer = answer(&request, address, context);
            let (method, path) = (request.method().clone(), request.uri().path().to_owned());
            if answer.status() == StatusCode::CONTINUE {
                uploads.store(true, Ordering::Relaxed);
                answer = adapter_upload::receive(request, context.options.adapters.clone()).await;
            }
            let status = answer.status().as_u16();
            tracing::debug!(status, %method, path, "http");
            let is_upgrade = answer.status() == StatusCode::SWITCHING_PROTOCOLS;
            upgraded.fetch_or(is_upgrade, Ordering::Relaxed);
            Ok::<_, Infallible>(answer)
        })
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
