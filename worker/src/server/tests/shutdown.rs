//! How a server ends.

use std::time::{Duration, Instant};

use ovis_protocol::{ErrorCode, Request, WorkerMessage};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::client::*;
use super::fake::*;
use crate::device;
use crate::jobs::Health;
use crate::server::context::Context;
use crate::server::health::{healthz, readyz};
use crate::server::{Options, ServeError};

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
    assert_eq!(server.jobs.health(), Health::Ended);
}

/// An operation that does not come back ends the server within the watchdog's limit and the seconds for
/// the clients, who are told. One that reads nothing does not hold it up.
#[tokio::test]
async fn a_device_that_hangs_ends_the_server() {
    const LIMIT: Duration = Duration::from_millis(200);
    let options = Options {
        close_timeout: Duration::from_secs(60),
        ..options()
    };
    let server = server_with(options, 24, 1).await;
    let context = Context::new(server.jobs.clone(), Options::default());
    assert_eq!(healthz(&context), (true, "{\"alive\":true}\n".into()));
    device::watch(server.jobs.clone(), LIMIT).unwrap();
    let mut client = Client::connect(&server).await;
    // An idle device does not hang, however long it is idle.
    tokio::time::sleep(3 * LIMIT).await;
    assert_eq!(server.jobs.health(), Health::Ok);

    // More than the sockets' buffers hold, for one that does not read it.
    let mut deaf = Client::connect_as(&server, "deaf").await;
    deaf.submit(3, Request::Decode, vec![latent(160)]).await;
    server.until("decode").await;
    server.idle().await;

    let begun = Instant::now();
    client.submit(1, encode_request("hang", 4), vec![]).await;
    client.submit(2, encode_request("queued", 4), vec![]).await;
    let mut failed = Vec::new();
    let reason = loop {
        match client.next().await {
            WorkerMessage::Failed { job, error } => failed.push((job, error.code)),
            WorkerMessage::ShuttingDown { reason } => break reason,
            WorkerMessage::Queued { .. } | WorkerMessage::Started { .. } => {}
            other => panic!("{other:?}"),
        }
    };
    let took = begun.elapsed();
    assert!(took >= LIMIT && took < Duration::from_secs(2), "{took:?}");
    assert!(reason.contains("does not answer"), "{reason}");
    failed.sort_by_key(|(job, _)| *job);
    let codes = [1, 2].map(|n| (id(n), ErrorCode::ShuttingDown));
    assert_eq!(failed, codes);
    assert_eq!(healthz(&context), (false, "{\"alive\":false}\n".into()));
    assert!(!readyz(&context).0);
    let error = server.task.await.unwrap().unwrap_err();
    assert!(matches!(error, ServeError::DeviceHangs), "{error:?}");
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(5), "{took:?}");
    drop((client, deaf));
}

/// Between jobs, too, an operation that does not come back is noticed.
#[tokio::test]
async fn a_query_of_the_device_that_hangs_ends_the_server() {
    let server = server_with(options(), 24, 1).await;
    device::watch(server.jobs.clone(), Duration::from_millis(200)).unwrap();
    let mut client = Client::connect(&server).await;
    client.submit(1, encode_request("stuck", 4), vec![]).await;
    let ended = timeout(Duration::from_secs(10), server.task).await;
    let error = ended.unwrap().unwrap().unwrap_err();
    assert!(matches!(error, ServeError::DeviceHangs), "{error:?}");
    loop {
        match client.next().await {
            WorkerMessage::ShuttingDown { reason } => {
                break assert!(reason.contains("does not answer"), "{reason}")
            }
            WorkerMessage::Failed { error, .. } => {
                assert_eq!(error.code, ErrorCode::InvalidRequest);
            }
            WorkerMessage::Queued { .. } | WorkerMessage::Started { .. } => {}
            other => panic!("{other:?}"),
        }
    }
}
