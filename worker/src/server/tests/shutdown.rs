//! How a server ends.

use std::time::{Duration, Instant};

use ovis_protocol::{ErrorCode, WorkerMessage};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::client::*;
use super::fake::*;
use crate::server::Options;

async fn ask(server: &TestServer, head: &str) -> String {
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

/// The server waits for a running step no longer than the grace period. Meanwhile `/health`
/// reports that the worker is stopping, and new clients are refused.
#[tokio::test]
async fn the_grace_period_ends_the_wait() {
    let options = Options {
        grace: Duration::from_millis(400),
        ..options()
    };
    let server = server_with(options, 24, 1).await;
    let mut client = Client::connect(&server).await;
    client.submit(1, encode_request("long", 4), vec![]).await;
    client.submit(2, encode_request("queued", 4), vec![]).await;
    server.until("encode long").await;
    let (address, jobs) = (server.address, server.jobs.clone());
    let begun = Instant::now();
    server.stop.send(()).unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    let server = TestServer {
        address,
        jobs,
        log: server.log,
        stop: tokio::sync::oneshot::channel().0,
        task: server.task,
    };
    let health = ask(&server, "GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    assert!(health.starts_with("HTTP/1.1 503"), "{health}");
    assert!(health.contains("\"status\":\"stopping\""), "{health}");
    let upgrade =
        "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    assert!(ask(&server, upgrade).await.starts_with("HTTP/1.1 503"));

    let mut failed = 0;
    loop {
        match client.next().await {
            WorkerMessage::Failed { error, .. } => {
                assert_eq!(error.code, ErrorCode::ShuttingDown);
                failed += 1;
            }
            WorkerMessage::ShuttingDown { .. } => break,
            WorkerMessage::Queued { .. } | WorkerMessage::Started { .. } => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(failed, 2);
    assert!(client.try_next().await.is_none());
    drop(client);
    server.task.await.unwrap().unwrap();
    let took = begun.elapsed();
    assert!(
        took >= Duration::from_millis(350) && took < Duration::from_millis(1500),
        "{took:?}"
    );
}

/// When the device's thread ends by itself, the server ends with an error and clients are told.
#[tokio::test]
async fn a_device_that_ends_ends_the_server() {
    let server = server().await;
    let mut client = Client::connect(&server).await;
    // A device's thread that finds its device lost does the same.
    server.jobs.stop();
    let WorkerMessage::ShuttingDown { reason } = client.next().await else {
        panic!("it was not told");
    };
    assert!(reason.contains("device has failed"), "{reason}");
    let error = server.task.await.unwrap().unwrap_err();
    assert!(error.to_string().contains("device"), "{error}");
    assert_eq!(server.jobs.health(), crate::jobs::Health::Ended);
}
