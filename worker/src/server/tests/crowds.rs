//! Many sockets, and clients that do not read.

use std::time::{Duration, Instant};

use ovis_protocol::{ClientMessage, ErrorCode, WorkerMessage};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::client::*;
use super::fake::*;
use crate::jobs::Limits;
use crate::server::{ConnectionLimits, Options, Token, Tokens};

async fn health(server: &TestServer) -> String {
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    // Servers without tokens ignore the header.
    let head = b"GET /health HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer right\r\n\r\n";
    stream.write_all(head).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

/// Sockets that send nothing, half a request, or no hello do not keep clients out.
#[tokio::test]
async fn silent_sockets_are_evicted() {
    let options = Options {
        handshake_timeout: Duration::from_secs(60),
        tokens: Tokens::one(Token::given("right")),
        ..options()
    };
    let server = server_with(options, 24, 1).await;
    let mut crowd = Vec::new();
    for i in 0..300 {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        if i % 2 == 0 {
            stream
                .write_all(b"GET /health HTTP/1.1\r\nHost")
                .await
                .unwrap();
        }
        crowd.push(stream);
    }
    let begun = Instant::now();
    assert!(health(&server).await.contains("\"status\":\"ok\""));
    let mut client = Client::raw(&server).await;
    let hello = ovis_protocol::ClientHello {
        token: Some("right".into()),
        ..hello()
    };
    client.send(&ClientMessage::Hello(hello)).await;
    assert!(matches!(client.next().await, WorkerMessage::Hello(_)));
    assert!(
        begun.elapsed() < Duration::from_secs(3),
        "{:?}",
        begun.elapsed()
    );
    // Later silent sockets do not evict a client.
    for _ in 0..100 {
        crowd.push(TcpStream::connect(server.address).await.unwrap());
    }
    health(&server).await;
    client.send(&ClientMessage::Status).await;
    assert!(matches!(client.next().await, WorkerMessage::Status(_)));
    drop(crowd);
}

#[tokio::test]
async fn connections_are_bounded_and_health_is_still_answered() {
    let options = Options {
        connections: ConnectionLimits {
            clients: 4,
            ..ConnectionLimits::default()
        },
        ..options()
    };
    let server = server_with(options, 24, 1).await;
    let first = Client::connect(&server).await;
    let _second = Client::connect(&server).await;
    let mut third = Client::raw(&server).await;
    third.send(&ClientMessage::Hello(hello())).await;
    let error = third.refusal().await;
    assert_eq!(error.code, ErrorCode::QueueFull);
    assert!(error.message.contains("2 connections"), "{error}");
    assert!(health(&server).await.contains(" 200 "));
    drop(first);
    tokio::time::sleep(Duration::from_millis(50)).await;
    Client::connect(&server).await;
}

/// Clients that read nothing together hold no more than the quota. One that reads gets its
/// results nevertheless.
#[tokio::test]
async fn clients_that_do_not_read_are_evicted_for_those_that_do() {
    const MB: u64 = 1 << 20;
    let limits = Limits {
        queue: 99,
        kept_bytes: 100 * MB,
        ..Limits::default()
    };
    let server = server_within(options(), limits, 1).await;
    let mut stalled = Vec::new();
    // Each requests 32 MB twice and reads nothing; socket buffers hold a few of these.
    for name in ["a", "b", "c"] {
        let mut client = Client::connect_as(&server, name).await;
        for job in 1..=2 {
            let job = job + 10 * stalled.len() as u8;
            client
                .submit(job, encode_request("big", 1_000_000), vec![])
                .await;
        }
        stalled.push(client);
    }
    server.idle().await;
    let mut reader = Client::connect_as(&server, "reader").await;
    for job in 101..=104 {
        let request = encode_request("smaller", 300_000);
        reader.submit(job, request, vec![]).await;
        assert!(matches!(reader.end(job).await.0, End::Done(..)));
    }
    // Clients that were not evicted can still read.
    let mut dropped = 0;
    for mut client in stalled {
        loop {
            match client.try_next().await {
                None => {
                    dropped += 1;
                    break;
                }
                Some(WorkerMessage::Chunk(chunk))
                    if chunk.offset + (chunk.data.len() as u64) == 32_000_000 =>
                {
                    break
                }
                Some(_) => {}
            }
        }
    }
    assert!(dropped >= 1);
}

/// A client that reconnects for every job does not overtake one that waits.
#[tokio::test]
async fn reconnecting_gains_nothing() {
    let server = server_with(options(), 99, 30).await;
    let mut patient = Client::connect_as(&server, "patient").await;
    for job in 1..=6 {
        patient
            .submit(job, encode_request(&format!("p{job}"), 4), vec![])
            .await;
    }
    for job in 11..=13 {
        let mut restless = Client::connect_as(&server, "restless").await;
        restless
            .submit(job, encode_request(&format!("r{job}"), 4), vec![])
            .await;
        assert!(matches!(restless.end(job).await.0, End::Done(..)));
    }
    assert!(matches!(patient.end(6).await.0, End::Done(..)));
    let log = server.log();
    let restless: Vec<_> = (0..log.len())
        .filter(|&i| log[i].starts_with("encode r"))
        .collect();
    assert!(restless.windows(2).all(|w| w[1] > w[0] + 1), "{log:?}");
}

#[tokio::test]
async fn one_client_leaves_places_for_others() {
    let server = server_with(options(), 12, 50).await;
    let mut greedy = Client::connect_as(&server, "greedy").await;
    greedy.denoise(1, 200).await;
    server.until("step 1 1").await;
    for job in 2..=12 {
        greedy.denoise(job, 200).await;
    }
    let (End::Failed(error), _) = greedy.end(12).await else {
        panic!("it took all places");
    };
    assert_eq!(error.code, ErrorCode::QueueFull);
    assert!(error.message.contains("4 of the 12 places"), "{error}");
    let mut other = Client::connect_as(&server, "other").await;
    other.submit(99, encode_request("quick", 4), vec![]).await;
    assert!(matches!(other.end(99).await.0, End::Done(..)));
}
