//! Handshake, malformed bytes, HTTP, shutdown.

use std::time::Duration;

use futures_util::SinkExt;
use ovis_protocol::limits::{MAX_MESSAGE_BYTES, PROTOCOL_VERSION};
use ovis_protocol::{encode, ClientHello, ClientMessage, ErrorCode, WorkerMessage};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;

use super::client::*;
use super::fake::*;
use crate::server::{Options, Token, Tokens};

#[tokio::test]
async fn hello_is_answered_with_capabilities() {
    let server = server().await;
    let mut client = Client::raw(&server).await;
    client.send(&ClientMessage::Hello(hello())).await;
    let WorkerMessage::Hello(worker) = client.next().await else {
        panic!("no hello");
    };
    assert_eq!(worker.protocol, PROTOCOL_VERSION);
    assert_eq!(&worker.capabilities, server.jobs.capabilities());
}

#[tokio::test]
async fn other_versions_are_refused() {
    let server = server().await;
    for protocol in [PROTOCOL_VERSION - 1, PROTOCOL_VERSION + 1] {
        let mut client = Client::raw(&server).await;
        let hello = ClientHello {
            protocol,
            ..hello()
        };
        client.send(&ClientMessage::Hello(hello)).await;
        let error = client.refusal().await;
        assert_eq!(error.code, ErrorCode::VersionMismatch);
        assert!(error.message.contains(&format!("protocol {protocol}")));
    }
}

#[tokio::test]
async fn a_wrong_token_is_refused() {
    let options = Options {
        tokens: Tokens::one(Token::given("right")),
        ..options()
    };
    let server = server_with(options, 8, 1).await;
    for token in [None, Some("wrong".to_owned())] {
        let mut client = Client::raw(&server).await;
        let hello = ClientHello { token, ..hello() };
        client.send(&ClientMessage::Hello(hello)).await;
        assert_eq!(client.refusal().await.code, ErrorCode::Unauthorized);
    }
    let mut client = Client::raw(&server).await;
    let token = Some("right".to_owned());
    let hello = ClientHello { token, ..hello() };
    client.send(&ClientMessage::Hello(hello)).await;
    assert!(matches!(client.next().await, WorkerMessage::Hello(_)));
}

#[tokio::test]
async fn the_first_message_must_be_a_hello_in_time() {
    let server = server().await;
    let mut client = Client::raw(&server).await;
    client.send(&ClientMessage::Status).await;
    assert_eq!(client.refusal().await.code, ErrorCode::BadMessage);

    let mut silent = Client::raw(&server).await;
    assert_eq!(silent.refusal().await.code, ErrorCode::BadMessage);

    let mut twice = Client::connect(&server).await;
    twice.send(&ClientMessage::Hello(hello())).await;
    assert_eq!(twice.refusal().await.code, ErrorCode::BadMessage);
}

#[tokio::test]
async fn malformed_messages_end_the_connection_and_nothing_else() {
    let server = server().await;
    let mut other = Client::connect(&server).await;
    let mut trailing = encode(&ClientMessage::Status).unwrap();
    trailing.push(0);
    for bytes in [
        vec![],
        vec![255; 40],
        trailing,
        vec![0; MAX_MESSAGE_BYTES + 1],
    ] {
        let mut client = Client::connect(&server).await;
        client.send_bytes(bytes).await;
        assert_eq!(client.refusal().await.code, ErrorCode::BadMessage);
    }
    let mut client = Client::connect(&server).await;
    client
        .socket
        .send(Message::Text("hi".into()))
        .await
        .unwrap();
    assert_eq!(client.refusal().await.code, ErrorCode::BadMessage);

    other.send(&ClientMessage::Status).await;
    assert!(matches!(other.next().await, WorkerMessage::Status(_)));
}

#[tokio::test]
async fn pings_are_answered_and_silence_is_noticed() {
    let options = Options {
        ping_interval: Duration::from_millis(50),
        ..options()
    };
    let server = server_with(options, 8, 1).await;
    let mut client = Client::connect(&server).await;
    // Reading answers the worker's pings, which keeps the connection open.
    let quiet = tokio::time::timeout(Duration::from_millis(400), client.try_next()).await;
    assert!(quiet.is_err(), "the connection ended");
    // Without reading, it is closed.
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert!(client.try_next().await.is_none());
}

async fn get(server: &TestServer, head: &str) -> String {
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    // In two pieces, as over a slow network.
    let (first, rest) = head.split_at(5);
    stream.write_all(first.as_bytes()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(20)).await;
    stream.write_all(rest.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn health_and_metrics_answer_over_http() {
    let server = server().await;
    let mut client = Client::connect(&server).await;
    client.denoise(1, 2).await;
    client.end(1).await;
    server.idle().await;

    let health = get(&server, "GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    assert!(health.starts_with("HTTP/1.1 200 OK\r\n"), "{health}");
    assert!(health.contains("\"status\":\"ok\""), "{health}");

    let metrics = get(&server, "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    for line in [
        "ovis_steps_total 2",
        "ovis_forwards_total 4",
        "ovis_forwards_answered_total 2",
        "ovis_jobs_total{operation=\"denoise\",outcome=\"done\"} 1",
        "ovis_device_bytes_total 2",
        "ovis_jobs_queued 0",
    ] {
        assert!(metrics.contains(line), "{line} is not in {metrics}");
    }
    let page = "GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nOrigin: http://example.org\r\n\r\n";
    assert!(get(&server, page).await.starts_with("HTTP/1.1 403"));
    let other = get(&server, "GET /x HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    assert!(other.starts_with("HTTP/1.1 404"));
}

#[tokio::test]
async fn shutdown_finishes_the_step_and_tells_every_client() {
    let server = server_with(options(), 8, 100).await;
    let mut busy = Client::connect(&server).await;
    let mut idle = Client::connect(&server).await;
    busy.denoise(1, 50).await;
    busy.denoise(2, 50).await;
    server.until("step 1 1").await;
    server.stop.send(()).unwrap();
    server.task.await.unwrap().unwrap();

    let mut failed = Vec::new();
    let mut steps = 0;
    loop {
        match busy.next().await {
            WorkerMessage::Failed { job, error } => {
                assert_eq!(error.code, ErrorCode::ShuttingDown);
                failed.push(job);
            }
            WorkerMessage::Progress(progress) => steps = progress.step,
            WorkerMessage::ShuttingDown { .. } => break,
            _ => {}
        }
    }
    failed.sort();
    assert_eq!(failed, [id(1), id(2)]);
    assert!((1..=2).contains(&steps), "the running step was reported");
    assert!(busy.try_next().await.is_none());
    assert!(matches!(
        idle.next().await,
        WorkerMessage::ShuttingDown { .. }
    ));
}
