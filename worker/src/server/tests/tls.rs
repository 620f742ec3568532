//! Encrypted connections over real sockets.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt};
use ovis_protocol::{decode_worker, encode, ClientMessage, WorkerMessage};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use tokio_rustls::TlsConnector;
use tokio_tungstenite::tungstenite::Message;

use super::client::{hello, Client};
use super::fake::*;
use crate::server::{Options, Tls};

struct Encrypted {
    server: TestServer,
    roots: RootCertStore,
    _folder: tempfile::TempDir,
}

fn certificate(folder: &Path) -> CertificateDer<'static> {
    CertificateDer::from_pem_file(folder.join("self-made.pem")).unwrap()
}

impl Encrypted {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let tls = Tls::self_made(folder.path(), &["localhost".into()]).unwrap();
        let options = Options {
            tls: Some(tls),
            ..options()
        };
        let mut roots = RootCertStore::empty();
        roots.add(certificate(folder.path())).unwrap();
        Self {
            server: server_with(options, 8, 1).await,
            roots,
            _folder: folder,
        }
    }

    /// How many clients the metrics say were turned away for this reason.
    fn refusals(&self, reason: &str) -> u64 {
        let text = self.server.jobs.metrics().render();
        let name = format!("ovis_refusals_total{{reason=\"{reason}\"}} ");
        let mut values = text.lines().filter_map(|line| line.strip_prefix(&name));
        values.next().unwrap().parse().unwrap()
    }

    async fn plain(&self) -> TcpStream {
        TcpStream::connect(self.server.address).await.unwrap()
    }

    async fn connect(
        &self,
        versions: &[&'static SupportedProtocolVersion],
        protocols: &[&str],
    ) -> std::io::Result<TlsStream<TcpStream>> {
        let mut config = ClientConfig::builder_with_provider(ring::default_provider().into())
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(self.roots.clone())
            .with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|p| p.as_bytes().to_vec()).collect();
        let name = ServerName::try_from("localhost").unwrap();
        TlsConnector::from(Arc::new(config))
            .connect(name, self.plain().await)
            .await
    }
}

#[tokio::test]
async fn http_and_websockets_are_served_in_tls() {
    let encrypted = Encrypted::start().await;
    for (version, protocols) in [
        (&TLS12, &["h2", "http/1.1"][..]),
        (&TLS13, &["http/1.1"]),
        (&TLS13, &[]),
    ] {
        let mut stream = encrypted.connect(&[version], protocols).await.unwrap();
        let head = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n";
        stream.write_all(head).await.unwrap();
        let mut answer = String::new();
        // Without an error: the worker closes the connection as TLS wants it.
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");

        let stream = encrypted.connect(&[version], protocols).await.unwrap();
        let (mut socket, _) = tokio_tungstenite::client_async("wss://localhost/", stream)
            .await
            .unwrap();
        let hello = encode(&ClientMessage::Hello(hello())).unwrap();
        socket.send(Message::Binary(hello.into())).await.unwrap();
        let Some(Ok(Message::Binary(bytes))) = socket.next().await else {
            panic!("no hello");
        };
        let answer = decode_worker(&bytes).unwrap();
        assert!(matches!(answer, WorkerMessage::Hello(_)), "{answer:?}");
    }
    assert_eq!(encrypted.refusals("tls"), 0);
    assert!(encrypted.connect(&[&TLS13], &["h2"]).await.is_err());
    assert_eq!(encrypted.refusals("tls"), 1);
}

#[tokio::test]
async fn another_certificate_is_noticed_and_the_worker_goes_on() {
    let mut encrypted = Encrypted::start().await;
    let other = Encrypted::start().await;
    let right = std::mem::replace(&mut encrypted.roots, other.roots.clone());
    assert!(encrypted.connect(&[&TLS13], &[]).await.is_err());
    encrypted.roots = right;
    assert!(encrypted.connect(&[&TLS13], &[]).await.is_ok());
}

#[tokio::test]
async fn a_client_without_tls_is_told() {
    let encrypted = Encrypted::start().await;
    for request in [
        &b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"[..],
        b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n",
        b"POST /drain HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\nxxxxxx",
    ] {
        let mut stream = encrypted.plain().await;
        stream.write_all(request).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 400 Bad Request"), "{answer}");
        assert!(answer.contains("This port speaks TLS"), "{answer}");
    }
    assert_eq!(
        (encrypted.refusals("no-tls"), encrypted.refusals("tls")),
        (3, 0)
    );
    // What is neither is closed.
    let mut stream = encrypted.plain().await;
    stream.write_all(&[0, 1, 2, 3]).await.unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    assert!(answer.is_empty(), "{answer:?}");
}

#[tokio::test]
async fn a_tls_client_of_a_plain_port_is_not_kept_waiting() {
    let mut encrypted = Encrypted::start().await;
    encrypted.server = server().await;
    let begun = Instant::now();
    assert!(encrypted.connect(&[&TLS12, &TLS13], &[]).await.is_err());
    assert!(begun.elapsed() < options().handshake_timeout / 2);
}

#[tokio::test]
async fn a_tls_handshake_that_does_not_go_on_ends_in_time() {
    let encrypted = Encrypted::start().await;
    // Nothing; the head of a record; a record that never ends, a byte at a time.
    for drip in [&[][..], &[22], &[22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3]] {
        let begun = Instant::now();
        let mut stream = encrypted.plain().await;
        let (mut read, mut write) = stream.split();
        let slow = async {
            for byte in drip.iter().chain(std::iter::repeat(&0)) {
                if drip.is_empty() || write.write_all(&[*byte]).await.is_err() {
                    std::future::pending::<()>().await;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let mut answer = Vec::new();
        tokio::select! {
            () = slow => {}
            _ = read.read_to_end(&mut answer) => {}
            () = tokio::time::sleep(3 * options().handshake_timeout) => {}
        }
        assert!(begun.elapsed() < 3 * options().handshake_timeout);
    }
    // Within TLS, the request and the hello share the time of the handshake.
    let begun = Instant::now();
    let mut stream = encrypted.connect(&[&TLS13], &[]).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHo").await.unwrap();
    let mut answer = Vec::new();
    let closed = stream.read_to_end(&mut answer);
    let closed = tokio::time::timeout(3 * options().handshake_timeout, closed).await;
    assert!(closed.is_ok(), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn silent_sockets_make_way_before_their_tls_handshake() {
    let mut many = options();
    many.connections.silent_per_address = 4;
    many.handshake_timeout = Duration::from_secs(30);
    let folder = tempfile::tempdir().unwrap();
    many.tls = Some(Tls::self_made(folder.path(), &["localhost".into()]).unwrap());
    let mut roots = RootCertStore::empty();
    roots.add(certificate(folder.path())).unwrap();
    let encrypted = Encrypted {
        server: server_with(many, 8, 1).await,
        roots,
        _folder: folder,
    };
    let mut first = encrypted.plain().await;
    let mut rest = Vec::new();
    for _ in 0..4 {
        rest.push(encrypted.plain().await);
    }
    let mut byte = [0];
    let closed = tokio::time::timeout(Duration::from_secs(10), first.read(&mut byte));
    assert_eq!(closed.await.expect("the oldest makes way").unwrap_or(0), 0);
    assert!(encrypted.connect(&[&TLS13], &[]).await.is_ok());
}

#[tokio::test]
async fn a_message_that_does_not_end_ends_the_connection() {
    let server = server_with(
        Options {
            ping_interval: Duration::from_millis(100),
            ..options()
        },
        8,
        1,
    )
    .await;
    let client = Client::connect(&server).await;
    let mut stream = client.socket.into_inner();
    // A masked binary frame of 1000 bytes (RFC 6455, section 5.2), of which one comes at a time.
    stream
        .write_all(&[0x82, 0xfe, 3, 232, 0, 0, 0, 0])
        .await
        .unwrap();
    let begun = Instant::now();
    let (mut read, mut write) = stream.split();
    let drip = async {
        loop {
            if write.write_all(&[0]).await.is_err() {
                std::future::pending::<()>().await;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let mut rest = Vec::new();
    tokio::select! {
        () = drip => {}
        _ = read.read_to_end(&mut rest) => {}
        () = tokio::time::sleep(Duration::from_secs(5)) => {}
    }
    assert!(begun.elapsed() < Duration::from_secs(5));
    let mut other = Client::connect(&server).await;
    other.send(&ClientMessage::Status).await;
    assert!(matches!(other.next().await, WorkerMessage::Status(_)));
}
