//! HTTP requests of every kind, and their answers.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::fake::*;
use crate::server::{Hosts, Options};

/// The server's whole answer to these bytes, until it closes.
async fn answer(server: &TestServer, pieces: &[&[u8]]) -> String {
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    for piece in pieces {
        stream.write_all(piece).await.unwrap();
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes).await;
    String::from_utf8(bytes).unwrap()
}

fn status(answer: &str) -> &str {
    answer.split(' ').nth(1).unwrap_or("nothing")
}

async fn named_server() -> TestServer {
    let options = Options {
        hosts: Hosts::new(["gpu-box"]),
        ..options()
    };
    server_with(options, 8, 1).await
}

#[tokio::test]
async fn every_request_gets_its_answer() {
    let server = named_server().await;
    let long = format!("/health?{}", "x".repeat(8 << 10));
    let huge = format!("/health?{}", "x".repeat(64 << 10));
    let cases: &[(&str, &str)] = &[
        ("GET /health", "200"),
        ("HEAD /health", "200"),
        ("GET /health?x=1", "200"),
        ("HEAD /health?x=1", "200"),
        ("GET /health?", "200"),
        ("GET /metrics", "200"),
        ("HEAD /metrics", "200"),
        ("GET /metrics?name[]=ovis", "200"),
        (&format!("GET {long}"), "200"),
        (&format!("GET {huge}"), "431"),
        ("GET http://localhost/health", "200"),
        ("GET http://gpu-box:7867/health?x", "200"),
        ("GET http://evil.example/health", "403"),
        ("GET /healthz", "200"),
        ("HEAD /readyz?x", "200"),
        ("GET /jobs", "200"),
        ("POST /drain", "403"),
        ("GET /jobs/1", "404"),
        ("GET /", "404"),
        ("HEAD /", "404"),
        ("GET //health", "404"),
        ("GET /health/", "404"),
        ("GET /Health", "404"),
        ("GET /../health", "404"),
        ("POST /elsewhere", "404"),
        ("POST /health", "405"),
        ("PUT /health?x", "405"),
        ("OPTIONS /health", "405"),
        ("DELETE /metrics", "405"),
        ("get /health", "405"),
        ("OPTIONS *", "404"),
        ("TRACE /", "404"),
        ("GET", "400"),
        ("GET /health HTTP/1.1 more", "400"),
        ("\u{16}\u{3}\u{1}", "400"),
    ];
    for (line, wanted) in cases {
        let head = format!("{line} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        let answer = answer(&server, &[head.as_bytes()]).await;
        assert_eq!(status(&answer), *wanted, "{line:.60}: {answer}");
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        if line.starts_with("HEAD") {
            assert_eq!(body, "", "{line}");
            assert!(!head.contains("content-length: 0"), "{head}");
        }
        if *wanted == "405" {
            assert!(head.contains("allow: GET, HEAD"), "{head}");
        }
        if *wanted == "200"
            && line.contains("/health")
            && !line.contains("/healthz")
            && !line.starts_with("HEAD")
        {
            assert!(body.contains("\"status\":\"ok\""), "{body}");
        }
    }
}

#[tokio::test]
async fn only_requests_for_a_known_host_are_answered() {
    let server = named_server().await;
    let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                   Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let cases = [
        ("Host: localhost\r\n", "200"),
        ("Host: LOCALHOST:99\r\n", "200"),
        ("Host: a.localhost\r\n", "200"),
        ("Host: 127.0.0.1:7867\r\n", "200"),
        ("Host: 10.1.2.3\r\n", "200"),
        ("Host: [::1]:7867\r\n", "200"),
        ("Host: gpu-box:7867\r\n", "200"),
        ("Host: evil.example\r\n", "403"),
        ("Host: evil.example:7867\r\n", "403"),
        ("Host: 127.0.0.1.evil.example\r\n", "403"),
        ("Host: \u{e9}\r\n", "403"),
        ("Host:\r\n", "403"),
        ("", "400"),
        ("Host: localhost\r\nHost: localhost\r\n", "400"),
    ];
    for (host, wanted) in cases {
        for route in ["/health", "/metrics", "/", "/health?x"] {
            let head = format!("GET {route} HTTP/1.1\r\n{host}\r\n");
            let answer = answer(&server, &[head.as_bytes()]).await;
            let wanted = match (route, wanted) {
                ("/", "200") => "404",
                _ => wanted,
            };
            assert_eq!(status(&answer), wanted, "{head}{answer}");
            if wanted == "403" {
                assert!(answer.contains("--allowed-host"), "{answer}");
            }
        }
        let head = format!("GET /any HTTP/1.1\r\n{host}{upgrade}\r\n");
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut first = [0; 12];
        stream.read_exact(&mut first).await.unwrap();
        let wanted = if wanted == "200" { "101" } else { wanted };
        assert_eq!(&first, format!("HTTP/1.1 {wanted}").as_bytes(), "{head}");
    }
}

#[tokio::test]
async fn an_upgrade_needs_all_its_headers() {
    let server = named_server().await;
    let key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let version = "Sec-WebSocket-Version: 13\r\n";
    let upgrade = "Connection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n";
    let cases = [
        (
            "GET",
            "1.1",
            format!("{upgrade}{version}{key}Origin: http://localhost\r\n"),
            "403",
        ),
        ("POST", "1.1", format!("{upgrade}{version}{key}"), "400"),
        ("GET", "1.0", format!("{upgrade}{version}{key}"), "400"),
        ("GET", "1.1", format!("{upgrade}{version}"), "400"),
        ("GET", "1.1", format!("{upgrade}{key}"), "400"),
        (
            "GET",
            "1.1",
            format!("Upgrade: websocket\r\n{version}{key}"),
            "400",
        ),
        (
            "GET",
            "1.1",
            format!("Connection: upgrade\r\nUpgrade: h2c\r\n{version}{key}"),
            "404",
        ),
    ];
    for (method, http, headers, wanted) in cases {
        let head = format!("{method} / HTTP/{http}\r\nHost: localhost\r\n{headers}\r\n");
        let answer = answer(&server, &[head.as_bytes()]).await;
        assert_eq!(status(&answer), wanted, "{head}{answer}");
    }
    // An offer of compression is declined.
    let offer = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n";
    let head = format!("GET / HTTP/1.1\r\nHost: localhost\r\n{upgrade}{version}{key}{offer}\r\n");
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut first = [0; 1024];
    let read = stream.read(&mut first).await.unwrap();
    let first = String::from_utf8_lossy(&first[..read]);
    assert_eq!(status(&first), "101");
    assert!(!first.to_lowercase().contains("extensions"), "{first}");
}

#[tokio::test]
async fn a_request_head_may_arrive_in_pieces() {
    // Each piece takes a while, and longer on a busy machine.
    let patient = Options {
        handshake_timeout: Duration::from_secs(10),
        ..options()
    };
    let patient = server_with(patient, 8, 1).await;
    let head = b"GET /health HTTP/1.1\r\nHost: localhost\r\nX: 1\r\n\r\n";
    let pieces: Vec<&[u8]> = head.chunks(1).collect();
    assert_eq!(status(&answer(&patient, &pieces).await), "200");

    let server = named_server().await;
    let padding = format!("X: {}\r\n", "y".repeat(8 << 10));
    let large = format!("GET /health HTTP/1.1\r\nHost: localhost\r\n{padding}\r\n");
    assert_eq!(status(&answer(&server, &[large.as_bytes()]).await), "200");
    let larger = format!(
        "GET /health HTTP/1.1\r\nHost: localhost\r\n{}",
        padding.repeat(9)
    );
    assert_eq!(status(&answer(&server, &[larger.as_bytes()]).await), "431");

    // Of several requests at once the first is answered, and a body is not waited for.
    let twice = head.repeat(2);
    assert_eq!(
        answer(&server, &[&twice]).await.matches("HTTP/1.1").count(),
        1
    );
    let body = b"POST /health HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\n\
                 Content-Length: 1000000\r\n\r\n";
    assert_eq!(status(&answer(&server, &[body]).await), "405");
    let sent = [&body[..], &vec![b'x'; 1_000_000]].concat();
    assert_eq!(status(&answer(&server, &[&sent]).await), "405");

    let old = b"GET /health HTTP/1.0\r\n\r\n";
    assert!(answer(&server, &[old]).await.starts_with("HTTP/1.0 200"));
    // A request head that never ends times out with the handshake.
    assert_eq!(
        answer(&server, &[b"GET /health HTTP/1.1\r\nHost: l"]).await,
        ""
    );
}
