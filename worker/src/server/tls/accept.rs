//! The TLS handshake of a connection, and the answer to a client that begins without one.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::server::TlsStream;
use tokio_rustls::TlsAcceptor;

use super::config::Tls;
use crate::jobs::{Metrics, Refusal};

/// First byte of a TLS connection: a record of the handshake (RFC 8446, section 5.1).
const HANDSHAKE: u8 = 22;

/// How long bytes of a client without TLS are read and discarded after its answer. Closing a
/// socket with unread bytes resets it, and the answer would be lost.
const LINGER: Duration = Duration::from_secs(1);

/// What a client without TLS is told.
const SPEAKS_TLS: &str =
    "This port speaks TLS: use https:// or wss:// instead of http:// or ws://.\n";

/// The TLS handshake. A client that begins with HTTP is answered in clear text; `None` if there
/// is no connection. Clients without TLS and handshakes that fail are counted. The caller bounds
/// the wait.
pub async fn accept(
    mut stream: TcpStream,
    tls: &Tls,
    metrics: &Metrics,
) -> Option<Box<TlsStream<TcpStream>>> {
    let mut first = [0];
    match stream.peek(&mut first).await {
        Ok(1) if first[0] == HANDSHAKE => {}
        Ok(1) if first[0].is_ascii_alphabetic() => {
            tracing::debug!("a client without TLS");
            metrics.count_refusal(Refusal::NoTls);
            let _ = timeout(LINGER, refuse(&mut stream)).await;
            return None;
        }
        _ => return None,
    }
    match TlsAcceptor::from(tls.config()).accept(stream).await {
        Ok(stream) => Some(Box::new(stream)),
        Err(error) => {
            // Also a client that does not accept the certificate.
            tracing::debug!(%error, "no TLS handshake");
            metrics.count_refusal(Refusal::Tls);
            None
        }
    }
}

async fn refuse(stream: &mut TcpStream) -> io::Result<()> {
    let answer = format!(
        "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n{SPEAKS_TLS}",
        SPEAKS_TLS.len()
    );
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await?;
    let mut rest = [0; 4096];
    while stream.read(&mut rest).await? > 0 {}
    Ok(())
}
