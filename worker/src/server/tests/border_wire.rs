//! Messages in every order, and frames of every kind.

use futures_util::SinkExt;
use ovis_protocol::{Chunk, ClientMessage, DType, ErrorCode, Request, TensorHeader, WorkerMessage};
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::Message;

use super::client::*;
use super::fake::*;

fn chunk(job: u8, offset: u64, bytes: usize) -> ClientMessage {
    ClientMessage::Chunk(Chunk {
        job: id(job),
        tensor: 0,
        offset,
        data: vec![0; bytes],
    })
}

/// Everything that the server sends up to its answer to a `Status` that is sent here.
async fn said(client: &mut Client) -> Vec<WorkerMessage> {
    client.send(&ClientMessage::Status).await;
    let mut said = Vec::new();
    loop {
        match client.next().await {
            WorkerMessage::Status(_) => return said,
            message => said.push(message),
        }
    }
}

fn ends_of(said: &[WorkerMessage], job: u8) -> usize {
    let is_end = |message: &&WorkerMessage| match message {
        WorkerMessage::Done { job: other, .. }
        | WorkerMessage::Failed { job: other, .. }
        | WorkerMessage::Cancelled { job: other } => *other == id(job),
        _ => false,
    };
    said.iter().filter(is_end).count()
}

fn large() -> Vec<TensorHeader> {
    let width = WIDTH as u64;
    let length = ovis_protocol::limits::MAX_TENSOR_BYTES / 4 / width / 2;
    let positive = TensorHeader::new("positive", DType::F32, [1, length, width]);
    vec![positive, latent(2).0]
}

/// Whatever messages come between, an announced upload counts until it ends, and ends once.
#[tokio::test]
async fn no_order_of_messages_frees_what_is_still_held() {
    let server = server_with(options(), 99, 1).await;
    let between: [(&str, Vec<ClientMessage>); 6] = [
        (
            "claims",
            vec![
                ClientMessage::Claim {
                    job: id(1),
                    received: 0
                };
                50
            ],
        ),
        (
            "claims of another",
            vec![
                ClientMessage::Claim {
                    job: id(9),
                    received: 0
                };
                50
            ],
        ),
        (
            "a cancel of another",
            vec![ClientMessage::Cancel { job: id(9) }],
        ),
        ("chunks of another", vec![chunk(9, 0, 8); 50]),
        (
            "a job that is refused",
            vec![submit(9, Request::Decode, vec![])],
        ),
        (
            "chunks in turn",
            vec![chunk(1, 0, 1 << 20), chunk(1, 1 << 20, 1)],
        ),
    ];
    for (name, messages) in between {
        let mut client = Client::connect_as(&server, name).await;
        client
            .send(&submit(1, denoise_request(1, 1), large()))
            .await;
        for message in messages {
            client.send(&message).await;
        }
        assert_eq!(ends_of(&said(&mut client).await, 1), 0, "{name}");
        client
            .send(&submit(2, denoise_request(1, 1), large()))
            .await;
        let refused = said(&mut client).await;
        let is_full = |message: &WorkerMessage| {
            matches!(message, WorkerMessage::Failed { job, error }
                if *job == id(2) && error.code == ErrorCode::QueueFull)
        };
        assert!(refused.iter().any(is_full), "{name}: {refused:?}");
        client.cancel(1).await;
        client.cancel(1).await;
        client.send(&chunk(1, 0, 8)).await;
        assert_eq!(ends_of(&said(&mut client).await, 1), 1, "{name}");
        // Once that is acknowledged, there is room again.
        client
            .send(&ClientMessage::Acknowledge { job: id(1) })
            .await;
        client
            .send(&submit(3, denoise_request(1, 1), large()))
            .await;
        assert_eq!(ends_of(&said(&mut client).await, 3), 0, "{name}");
    }
}

/// A job ends exactly once, whatever its client sends meanwhile.
#[tokio::test]
async fn a_running_job_ends_once() {
    let server = server_with(options(), 99, 10).await;
    let meanwhile: [(&str, Vec<ClientMessage>); 4] = [
        ("nothing", vec![]),
        (
            "claims",
            vec![
                ClientMessage::Claim {
                    job: id(1),
                    received: 0
                };
                3
            ],
        ),
        ("surplus chunks", vec![chunk(1, 0, 8), chunk(1, 4096, 1)]),
        ("two cancels", vec![ClientMessage::Cancel { job: id(1) }; 2]),
    ];
    for (name, messages) in meanwhile {
        let mut client = Client::connect_as(&server, name).await;
        client.denoise(1, 10).await;
        while !matches!(client.next().await, WorkerMessage::Started { .. }) {}
        for message in messages {
            client.send(&message).await;
        }
        let mut said_so_far = said(&mut client).await;
        server.idle().await;
        client.send(&chunk(1, 0, 8)).await;
        said_so_far.extend(said(&mut client).await);
        assert_eq!(ends_of(&said_so_far, 1), 1, "{name}: {said_so_far:?}");
    }
}

/// An upload holds its queue place and its UUID exactly until it ends.
#[tokio::test]
async fn an_upload_holds_a_place_and_a_uuid() {
    let server = server_with(options(), 1, 1).await;
    let mut first = Client::connect_as(&server, "first").await;
    let mut second = Client::connect_as(&server, "second").await;
    let decode = |job| submit(job, Request::Decode, vec![latent(2).0]);
    first.send(&decode(1)).await;
    assert!(said(&mut first).await.is_empty());
    for job in [1, 2] {
        second.send(&decode(job)).await;
        let said = said(&mut second).await;
        assert!(
            matches!(&said[..], [WorkerMessage::Failed { error, .. }]
                if error.code == ErrorCode::QueueFull),
            "{said:?}"
        );
    }
    // On one connection, a UUID cannot be told from itself.
    first.send(&decode(1)).await;
    assert_eq!(first.refusal().await.code, ErrorCode::Conflict);
    drop(first);
    for _ in 0..200 {
        second.send(&decode(3)).await;
        if said(&mut second).await.is_empty() {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("the place was not given back");
}

/// A flood of valid messages does not affect other clients.
#[tokio::test]
async fn floods_are_answered_and_others_served() {
    let server = server_with(options(), 99, 1).await;
    let mut flood = Client::connect_as(&server, "flood").await;
    let mut other = Client::connect_as(&server, "other").await;
    for _ in 0..3000 {
        flood
            .send(&ClientMessage::Claim {
                job: id(200),
                received: 0,
            })
            .await;
        flood
            .socket
            .send(Message::Ping(vec![1; 125].into()))
            .await
            .unwrap();
    }
    let header = TensorHeader::new("latent", DType::F32, [1, 16, 8, 8]);
    flood.send(&submit(1, Request::Decode, vec![header])).await;
    for offset in 0..4096 {
        flood.send(&chunk(1, offset, 1)).await;
    }
    other.submit(9, encode_request("quick", 4), vec![]).await;
    assert!(matches!(other.end(9).await.0, End::Done(..)));
    assert!(matches!(flood.end(1).await.0, End::Done(..)));
    // An empty chunk is an error.
    let header = latent(2).0;
    flood.send(&submit(2, Request::Decode, vec![header])).await;
    flood.send(&chunk(2, 0, 0)).await;
    let (End::Failed(error), _) = flood.end(2).await else {
        panic!("an empty chunk was accepted");
    };
    assert_eq!(error.code, ErrorCode::BadMessage);
}

/// A message may arrive in any fragments. A frame that breaks the rules ends the connection.
#[tokio::test]
async fn frames_of_every_kind() {
    let server = server_with(options(), 99, 1).await;
    let frame = |bytes: &[u8], code, last| {
        Message::Frame(Frame::message(bytes.to_vec(), OpCode::Data(code), last))
    };
    let mut client = Client::connect(&server).await;
    let status = ovis_protocol::encode(&ClientMessage::Status).unwrap();
    let mut code = Data::Binary;
    for byte in &status {
        for piece in [&[*byte][..], &[]] {
            client.socket.send(frame(piece, code, false)).await.unwrap();
            code = Data::Continue;
        }
    }
    client.socket.send(frame(&[], code, true)).await.unwrap();
    assert!(matches!(client.next().await, WorkerMessage::Status(_)));

    let bad = [
        frame(b"x", Data::Continue, true),
        frame(b"x", Data::Reserved(3), true),
        frame(b"not binary", Data::Text, true),
        frame(&vec![0; 2 << 20], Data::Binary, true),
    ];
    for frame in bad {
        let mut client = Client::connect(&server).await;
        let _ = client.socket.send(frame).await;
        while client.try_next().await.is_some() {}
    }
    client.send(&ClientMessage::Status).await;
    assert!(matches!(client.next().await, WorkerMessage::Status(_)));
}
