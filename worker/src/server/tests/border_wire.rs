//! What messages can come in which order and with what in them, and what they get.

use futures_util::SinkExt;
use ovis_protocol::{
    chunks, Chunk, ClientMessage, DType, EncodeRequest, ErrorCode, Request, SamplerOptions,
    Schedule, TensorHeader, WorkerMessage,
};
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::Message;

use super::fake::*;

fn submit(job: u8, request: Request, tensors: Vec<TensorHeader>) -> ClientMessage {
    ClientMessage::Submit {
        job: id(job),
        request,
        tensors,
    }
}

fn chunk(job: u8, offset: u64, bytes: usize) -> ClientMessage {
    ClientMessage::Chunk(Chunk {
        job: id(job),
        tensor: 0,
        offset,
        data: vec![0; bytes],
    })
}

/// What a connection has said up to the answer of a `Status` that was sent last.
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

/// After any of these, as often as they come, a large upload that was announced counts, and
/// ends once.
#[tokio::test]
async fn no_order_of_messages_frees_what_is_still_held() {
    let server = server_with(super::fake::options(), 99, 1).await;
    let between: [(&str, Vec<ClientMessage>); 6] = [
        ("claims", vec![ClientMessage::Claim { job: id(1) }; 50]),
        (
            "claims of another",
            vec![ClientMessage::Claim { job: id(9) }; 50],
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
        // And then there is room.
        client
            .send(&submit(3, denoise_request(1, 1), large()))
            .await;
        assert_eq!(ends_of(&said(&mut client).await, 3), 0, "{name}");
    }
}

/// A job has one end, whatever its client says meanwhile.
#[tokio::test]
async fn a_running_job_ends_once() {
    let server = server_with(super::fake::options(), 99, 10).await;
    let meanwhile: [(&str, Vec<ClientMessage>); 4] = [
        ("nothing", vec![]),
        ("claims", vec![ClientMessage::Claim { job: id(1) }; 3]),
        ("chunks too many", vec![chunk(1, 0, 8), chunk(1, 4096, 1)]),
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

/// An upload holds its place and its UUID until it ends, and no longer.
#[tokio::test]
async fn an_upload_has_a_place_and_a_uuid() {
    let server = server_with(super::fake::options(), 1, 1).await;
    let mut first = Client::connect_as(&server, "first").await;
    let mut second = Client::connect_as(&server, "second").await;
    let decode = |job| submit(job, Request::Decode, vec![latent(2).0]);
    first.send(&decode(1)).await;
    assert!(said(&mut first).await.is_empty());
    for (job, code) in [(1, ErrorCode::UnknownJob), (2, ErrorCode::QueueFull)] {
        second.send(&decode(job)).await;
        let said = said(&mut second).await;
        assert!(
            matches!(&said[..], [WorkerMessage::Failed { error, .. }] if error.code == code),
            "{said:?}"
        );
    }
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

fn denoise_with(change: impl FnOnce(&mut ovis_protocol::DenoiseRequest)) -> Request {
    let Request::Denoise(mut request) = denoise_request(1, 4) else {
        unreachable!();
    };
    change(&mut request);
    Request::Denoise(request)
}

/// What can be known at `Submit` is refused at `Submit`: no byte of a tensor is sent here.
#[tokio::test]
async fn every_value_is_judged_before_the_upload() {
    let server = server_with(super::fake::options(), 99, 1).await;
    let header =
        |name: &str, shape: &[u64]| TensorHeader::new(name, DType::F32, shape.iter().copied());
    let encode = |prompts: Vec<String>, max_sequence_length| {
        Request::Encode(EncodeRequest {
            prompts,
            max_sequence_length,
        })
    };
    let denoise_tensors = || vec![positive().0, latent(2).0];
    let image = |h, w| vec![header("image", &[1, h, w, 3])];
    let latent_of = |shape: &[u64]| vec![header("latent", shape)];
    let options = |options| denoise_with(|r| r.options = options);
    let sized = |h, w| vec![positive().0, header("latent", &[1, 16, h, w])];
    let most = u64::MAX;
    let plain = || denoise_with(|_| {});
    let named = |name: &str| {
        let name = name.to_owned();
        denoise_with(|r| r.sampler = name)
    };
    let cases: Vec<(Request, Vec<TensorHeader>, &str)> = vec![
        (encode(vec![], 256), vec![], "1 to 64 prompts"),
        (encode(vec!["a".into(); 65], 256), vec![], "1 to 64 prompts"),
        (
            encode(vec!["a".into()], 0),
            vec![],
            "max_sequence_length is 0",
        ),
        (encode(vec!["a".repeat(49_153)], 256), vec![], "49153 bytes"),
        (
            encode(vec!["a".into()], 256),
            latent_of(&[1, 16, 2, 2]),
            "no tensor `latent`",
        ),
        (
            Request::VaeEncode,
            image(56, 72),
            "72 x 56 pixels is not a multiple of 16",
        ),
        (Request::VaeEncode, image(1, 16), "multiple of 16"),
        (
            Request::VaeEncode,
            vec![header("image", &[1, 16, 16, 4])],
            "[B, H, W, 3]",
        ),
        (
            Request::VaeEncode,
            vec![header("image", &[16, 16, 3])],
            "[B, H, W, 3]",
        ),
        (Request::VaeEncode, image(16, 1 << 20), "the most is"),
        (
            Request::VaeEncode,
            vec![header("image", &[1, most, most, 3])],
            "larger than",
        ),
        (
            Request::VaeEncode,
            vec![header("image", &[0, 16, 16, 3])],
            "dimension is zero",
        ),
        (
            Request::Decode,
            latent_of(&[1, 16, most, most]),
            "larger than",
        ),
        (
            Request::Decode,
            latent_of(&[1 << 62, 16, 1 << 62, 4]),
            "larger than",
        ),
        (Request::Decode, latent_of(&[1; 9]), "8 dimensions"),
        (Request::Decode, latent_of(&[]), "[B, 16, H/8, W/8]"),
        (plain(), sized(2, 10), "longer than 4 to 1"),
        (plain(), sized(3, 2), "multiple of 16"),
        (
            denoise_with(|r| r.steps = 0),
            denoise_tensors(),
            "steps is 0",
        ),
        (
            denoise_with(|r| r.steps = 1001),
            denoise_tensors(),
            "outside 1 to 1000",
        ),
        (
            denoise_with(|r| r.cfg = f64::NAN),
            denoise_tensors(),
            "`negative`",
        ),
        (
            denoise_with(|r| r.denoise = 0.0),
            denoise_tensors(),
            "denoise is 0",
        ),
        (
            denoise_with(|r| r.denoise = f64::NAN),
            denoise_tensors(),
            "denoise is NaN",
        ),
        (
            denoise_with(|r| r.shift = Some(0.0)),
            denoise_tensors(),
            "shift is 0",
        ),
        (
            denoise_with(|r| r.shift = Some(f64::INFINITY)),
            denoise_tensors(),
            "shift is inf",
        ),
        (
            denoise_with(|r| r.batch_index = Some(vec![0, 1])),
            denoise_tensors(),
            "2 entries",
        ),
        (
            denoise_with(|r| r.batch_index = Some(vec![4096])),
            denoise_tensors(),
            "past 4095",
        ),
        (
            denoise_with(|r| r.schedule = Schedule::Sigmas(vec![1.0, f32::NAN, 0.0, 0.0, 0.0])),
            denoise_tensors(),
            "sigmas",
        ),
        (
            denoise_with(|r| r.schedule = Schedule::Named("x\n\u{1b}[2J".into())),
            denoise_tensors(),
            "`x\\n\\u{1b}[2J`",
        ),
        (
            options(SamplerOptions {
                eta: Some(1.0),
                ..SamplerOptions::default()
            }),
            denoise_tensors(),
            "no option `eta`",
        ),
        (
            named(&"s".repeat(1 << 19)),
            denoise_tensors(),
            "no sampler `sss",
        ),
        (
            named("a\r\nERROR forged"),
            denoise_tensors(),
            "`a\\r\\nERROR forged`",
        ),
        (
            plain(),
            vec![header(&"t".repeat(1 << 19), &[1])],
            "no tensor `ttt",
        ),
        (plain(), vec![header("a\nb", &[1])], "`a\\nb`"),
        (plain(), vec![positive().0, positive().0], "is there twice"),
        (
            plain(),
            vec![header("latent", &[1]); 9],
            "9 tensors, the most is 8",
        ),
    ];
    let mut client = Client::connect(&server).await;
    for (n, (request, tensors, words)) in cases.into_iter().enumerate() {
        client.send(&submit(n as u8, request, tensors)).await;
        let (End::Failed(error), before) = client.end(n as u8).await else {
            panic!("{words}: it was taken");
        };
        assert!(before.is_empty(), "{words}: {before:?}");
        assert_eq!(error.code, ErrorCode::InvalidRequest, "{words}");
        assert!(error.message.contains(words), "{words}: {error}");
        assert!(error.message.len() < 1500 && !error.message.contains('\n'));
    }
}

/// A value that is no number is refused with the last byte, and names its tensor.
#[tokio::test]
async fn what_is_no_number_is_refused_before_it_is_queued() {
    let server = server_with(super::fake::options(), 99, 1).await;
    let mut client = Client::connect(&server).await;
    let f32s = |header: &TensorHeader, value: f32| {
        let count = header.byte_len().unwrap() as usize / 4;
        let mut values = vec![0.25_f32; count];
        values[count - 1] = value;
        values
            .iter()
            .flat_map(|v| v.to_le_bytes())
            .collect::<Vec<_>>()
    };
    let mask = || TensorHeader::new("noise_mask", DType::F32, [1, 2, 2]);
    let image = || TensorHeader::new("image", DType::F32, [1, 16, 16, 3]);
    let mut job = 0;
    for (value, is_number) in [
        (f32::NAN, false),
        (f32::INFINITY, false),
        (f32::NEG_INFINITY, false),
        (-3.0, true),
        (7.5, true),
    ] {
        let cases = [
            (Request::Decode, vec![latent(2).0], "latent"),
            (Request::VaeEncode, vec![image()], "image"),
            (
                denoise_request(1, 1),
                vec![latent(2).0, positive().0],
                "positive",
            ),
            (
                denoise_request(1, 1),
                vec![positive().0, latent(2).0],
                "latent",
            ),
            (
                denoise_request(1, 1),
                vec![positive().0, latent(2).0, mask()],
                "noise_mask",
            ),
        ];
        for (request, headers, name) in cases {
            job += 1;
            let data: Vec<_> = headers
                .iter()
                .map(|h| f32s(h, if h.name == name { value } else { 0.5 }))
                .collect();
            client.send(&submit(job, request, headers)).await;
            for chunk in chunks(id(job), data.iter().map(Vec::as_slice)) {
                client.send(&ClientMessage::Chunk(chunk)).await;
            }
            match client.end(job).await {
                (End::Done(..), _) => assert!(is_number, "{name} {value}"),
                (End::Failed(error), before) => {
                    assert!(!is_number, "{error}");
                    assert!(before.is_empty(), "{before:?}");
                    assert_eq!(error.code, ErrorCode::InvalidRequest);
                    assert!(error.message.contains(&format!("`{name}`")), "{error}");
                }
                other => panic!("{other:?}"),
            }
        }
    }
}

/// Floods of what is allowed harm nobody else.
#[tokio::test]
async fn floods_are_answered_and_others_served() {
    let server = server_with(super::fake::options(), 99, 1).await;
    let mut flood = Client::connect_as(&server, "flood").await;
    let mut other = Client::connect_as(&server, "other").await;
    for _ in 0..3000 {
        flood.send(&ClientMessage::Claim { job: id(200) }).await;
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
    // A chunk without bytes is out of turn.
    let header = latent(2).0;
    flood.send(&submit(2, Request::Decode, vec![header])).await;
    flood.send(&chunk(2, 0, 0)).await;
    let (End::Failed(error), _) = flood.end(2).await else {
        panic!("a chunk without bytes was taken");
    };
    assert_eq!(error.code, ErrorCode::BadMessage);
}

/// A message may come in any fragments; a frame that breaks the rules ends the connection.
#[tokio::test]
async fn frames_of_every_kind() {
    let server = server_with(super::fake::options(), 99, 1).await;
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
