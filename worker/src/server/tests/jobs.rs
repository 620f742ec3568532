//! Jobs: round trips, order, cancel, fairness, failure.

use ovis_protocol::limits::{MAX_JOBS_PER_OWNER, MAX_TENSOR_BYTES};
use ovis_protocol::{
    Chunk, ClientMessage, DType, ErrorCode, JobOptions, Request, TensorHeader, WorkerMessage,
};

use super::client::*;
use super::fake::*;

fn failure(end: End) -> ovis_protocol::WireError {
    match end {
        End::Failed(error) => error,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn encode_gives_large_tensors_in_chunks() {
    let server = server_with(options(), 24, 1).await;
    let mut client = Client::connect(&server).await;
    let length = 100_000;
    client.submit(1, encode_request("a", length), vec![]).await;
    let (end, _) = client.end(1).await;
    let End::Done(tensors, outcome) = end else {
        panic!("{end:?}");
    };
    assert_eq!(outcome.cuts[0].lost_tokens, 3);
    let (header, bytes) = &tensors[0];
    let shape = [1, u64::from(length), WIDTH as u64];
    assert_eq!(
        *header,
        TensorHeader::new("conditioning", DType::F32, shape)
    );
    for (i, value) in bytes.chunks_exact(4).enumerate() {
        assert_eq!(value, (i as f32).to_le_bytes());
    }
}

#[tokio::test]
async fn decode_takes_large_tensors_of_every_float_type() {
    let server = server_with(options(), 24, 1).await;
    let mut client = Client::connect(&server).await;
    for (job, dtype) in [(1, DType::F32), (2, DType::F16), (3, DType::Bf16)] {
        let header = TensorHeader::new("latent", dtype, [1, 16, 192, 192]);
        let bytes = vec![0; header.byte_len().unwrap() as usize];
        assert!(bytes.len() > 1 << 20);
        client
            .submit(job, Request::Decode, vec![(header, bytes)])
            .await;
        let (end, _) = client.end(job).await;
        let End::Done(tensors, _) = end else {
            panic!("{end:?}");
        };
        assert_eq!(tensors[0].0.shape, [1, 1536, 1536, 3]);
    }
}

#[tokio::test]
async fn progress_comes_in_order() {
    let server = server().await;
    let mut client = Client::connect(&server).await;
    client.denoise(1, 5).await;
    let (end, before) = client.end(1).await;
    assert!(matches!(end, End::Done(..)));
    assert!(matches!(
        before[0],
        WorkerMessage::Queued { position: 0, .. }
    ));
    assert!(matches!(before[1], WorkerMessage::Started { .. }));
    let steps: Vec<_> = before[2..]
        .iter()
        .map(|message| match message {
            WorkerMessage::Progress(p) => {
                assert_eq!(p.total, 5);
                assert!(p.seconds_left >= 0.0);
                assert_eq!(p.step == 5, p.seconds_left == 0.0);
                p.step
            }
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(steps, [1, 2, 3, 4, 5]);
}

#[tokio::test]
async fn queue_positions_count_down() {
    let server = server().await;
    let mut client = Client::connect(&server).await;
    client.denoise(1, 20).await;
    server.until("step 1 1").await;
    client.denoise(2, 1).await;
    client.denoise(3, 1).await;
    let (_, before) = client.end(3).await;
    let positions: Vec<_> = before
        .iter()
        .filter_map(|message| match message {
            WorkerMessage::Queued { position, .. } => Some(*position),
            _ => None,
        })
        .collect();
    assert_eq!(positions, [1, 0]);
}

#[tokio::test]
async fn no_step_starts_after_a_cancel() {
    let server = server_with(options(), 24, 50).await;
    let mut client = Client::connect(&server).await;
    client.denoise(1, 100).await;
    client.denoise(2, 100).await;
    server.until("step 1 2").await;
    client.cancel(2).await;
    assert!(matches!(client.end(2).await.0, End::Cancelled));
    let at_cancel = server.log().len();
    client.cancel(1).await;
    assert!(matches!(client.end(1).await.0, End::Cancelled));
    let log = server.log();
    assert!(log.len() <= at_cancel + 1, "{log:?}");
    assert!(!log.iter().any(|line| line.starts_with("step 2")));
    tokio::time::sleep(std::time::Duration::from_millis(150)).await;
    assert_eq!(server.log(), log);
}

#[tokio::test]
async fn an_upload_can_be_cancelled() {
    let server = server().await;
    let mut client = Client::connect(&server).await;
    let (header, bytes) = latent(2);
    client
        .send(&ClientMessage::Submit {
            job: id(1),
            request: Request::Decode,
            tensors: vec![header],
            options: JobOptions::default(),
        })
        .await;
    client.cancel(1).await;
    assert!(matches!(client.end(1).await.0, End::Cancelled));
    // A chunk that was already on its way is ignored.
    client
        .send(&ClientMessage::Chunk(Chunk {
            job: id(1),
            tensor: 0,
            offset: 0,
            data: bytes,
        }))
        .await;
    client.send(&ClientMessage::Status).await;
    assert!(matches!(client.next().await, WorkerMessage::Status(_)));
}

#[tokio::test]
async fn a_vanished_client_takes_its_jobs_along() {
    let server = server_with(options(), 24, 50).await;
    let mut client = Client::connect(&server).await;
    client.denoise(1, 100).await;
    client.denoise(2, 100).await;
    server.until("step 1 1").await;
    drop(client);
    server.idle().await;
    let log = server.log();
    assert!(log.len() <= 4, "{log:?}");
    let mut other = Client::connect(&server).await;
    other.denoise(3, 1).await;
    assert!(matches!(other.end(3).await.0, End::Done(..)));
    assert!(!server.log().iter().any(|line| line.starts_with("step 2")));
}

#[tokio::test]
async fn two_clients_take_turns() {
    let server = server().await;
    let mut first = Client::connect_as(&server, "first").await;
    let mut second = Client::connect_as(&server, "second").await;
    first.denoise(1, 10).await;
    server.until("step 1 1").await;
    // None has less work than is left, so none joins the first.
    first.denoise(2, 10).await;
    first.denoise(3, 10).await;
    second.denoise(11, 10).await;
    second.denoise(12, 10).await;
    first.end(3).await;
    second.end(12).await;
    server.idle().await;
    let log = server.log();
    let order: Vec<_> = log.iter().filter(|line| line.ends_with(" 10")).collect();
    let expected = [1, 2, 11, 3, 12].map(|job| format!("step {job} 10"));
    assert_eq!(order, expected.iter().collect::<Vec<_>>());
}

#[tokio::test]
async fn a_short_job_runs_between_two_steps() {
    let server = server().await;
    let mut first = Client::connect(&server).await;
    let mut second = Client::connect(&server).await;
    first.denoise(1, 30).await;
    server.until("step 1 1").await;
    second.submit(2, encode_request("quick", 4), vec![]).await;
    assert!(matches!(second.end(2).await.0, End::Done(..)));
    let log = server.log();
    assert!(log.contains(&"encode quick".to_owned()));
    assert!(!log.contains(&"step 1 30".to_owned()));
    assert!(matches!(first.end(1).await.0, End::Done(..)));
}

/// Whether it is the client's own or another's, a preview does not wait for a poster to end, and
/// the two alternate.
#[tokio::test]
async fn a_preview_shares_the_steps_of_a_poster() {
    for is_own in [false, true] {
        let server = server_with(options(), 24, 20).await;
        let mut long = Client::connect(&server).await;
        let mut other = Client::connect(&server).await;
        long.denoise(1, 60).await;
        server.until("step 1 2").await;
        if is_own {
            // It passes another poster of the client, which does not join the first.
            long.denoise(3, 60).await;
        }
        let short = if is_own { &mut long } else { &mut other };
        short.denoise(2, 3).await;
        assert!(matches!(short.end(2).await.0, End::Done(..)));
        assert!(matches!(long.end(1).await.0, End::Done(..)));
        let log = server.log();
        let at = |line: &str| log.iter().position(|l| l == line).unwrap();
        let begun = at("step 2 1");
        assert!(begun < at("step 1 50"), "{log:?}");
        assert_eq!(at("step 2 3"), begun + 4, "{log:?}");
        assert!(at("step 1 60") > at("step 2 3"), "{log:?}");
        let before = &log[..at("step 1 60")];
        assert!(!before.contains(&"step 3 1".to_owned()), "{log:?}");
    }
}

#[tokio::test]
async fn equal_jobs_run_one_after_the_other() {
    let server = server_with(options(), 24, 10).await;
    let mut first = Client::connect(&server).await;
    let mut second = Client::connect(&server).await;
    first.denoise(1, 6).await;
    server.until("step 1 1").await;
    second.denoise(2, 6).await;
    assert!(matches!(second.end(2).await.0, End::Done(..)));
    let log = server.log();
    let at = |line: &str| log.iter().position(|l| l == line).unwrap();
    assert!(at("step 2 1") > at("step 1 6"), "{log:?}");
}

#[tokio::test]
async fn a_full_queue_says_so() {
    let server = server_with(options(), 1, 50).await;
    let mut client = Client::connect(&server).await;
    client.denoise(1, 100).await;
    server.until("step 1 1").await;
    client.denoise(2, 1).await;
    client.denoise(3, 1).await;
    assert_eq!(failure(client.end(3).await.0).code, ErrorCode::QueueFull);
    client.cancel(1).await;
    assert!(matches!(client.end(2).await.0, End::Done(..)));
}

#[tokio::test]
async fn a_panic_fails_the_job_and_not_the_worker() {
    let server = server_with(options(), 24, 1).await;
    let mut client = Client::connect(&server).await;
    client.submit(1, encode_request("panic", 4), vec![]).await;
    let error = failure(client.end(1).await.0);
    assert_eq!(error.code, ErrorCode::Internal);
    assert!(error.message.contains("asked to panic"));
    client.submit(2, encode_request("invalid", 4), vec![]).await;
    let error = failure(client.end(2).await.0);
    assert_eq!(error.code, ErrorCode::InvalidRequest);
    assert_eq!(error.hint, "ask otherwise");
    client.submit(3, encode_request("fine", 4), vec![]).await;
    assert!(matches!(client.end(3).await.0, End::Done(..)));
}

#[tokio::test]
async fn tensors_that_do_not_fit_are_named() {
    let server = server().await;
    let mut client = Client::connect(&server).await;
    let header =
        |name: &str, shape: &[u64]| TensorHeader::new(name, DType::F32, shape.iter().copied());
    let positive = header("positive", &[1, 4, WIDTH as u64]);
    let latent = header("latent", &[1, 16, 2, 2]);
    let cases = [
        (Request::Decode, vec![], "lacks the tensor `latent`"),
        (
            Request::Decode,
            vec![positive.clone()],
            "takes no tensor `positive`",
        ),
        (
            Request::Decode,
            vec![latent.clone(), latent.clone()],
            "is there twice",
        ),
        (
            Request::Decode,
            vec![header("latent", &[1, 4, 2, 2])],
            "[B, 16, H/8, W/8]",
        ),
        (
            Request::Decode,
            vec![header("latent", &[16, 2, 2])],
            "[B, 16, H/8, W/8]",
        ),
        (
            Request::Decode,
            vec![header("latent", &[1, 16, 512, 512])],
            "the most is",
        ),
        (
            Request::Decode,
            vec![header("latent", &[0, 16, 2, 2])],
            "dimension is zero",
        ),
        (
            Request::Decode,
            vec![TensorHeader::new("latent", DType::U8, [1, 16, 2, 2])],
            "type U8",
        ),
        (
            denoise_request(1, 1),
            vec![header("positive", &[1, 4, 9]), latent.clone()],
            "[1, T, 8]",
        ),
        (
            denoise_request(1, 1),
            vec![positive.clone(), header("latent", &[1, 16, 3, 2])],
            "not a multiple of 16",
        ),
        (
            denoise_request(1, 1),
            vec![positive, latent, header("noise_mask", &[1, 4, 4])],
            "[1, 2, 2]",
        ),
    ];
    for (n, (request, tensors, words)) in cases.into_iter().enumerate() {
        let job = id(n as u8);
        client
            .send(&ClientMessage::Submit {
                job,
                request,
                tensors,
                options: JobOptions::default(),
            })
            .await;
        let error = failure(client.end(n as u8).await.0);
        assert_eq!(error.code, ErrorCode::InvalidRequest);
        assert!(error.message.contains(words), "{error}");
    }
}

#[tokio::test]
async fn announced_bytes_and_jobs_are_bounded() {
    let options = options();
    let server = server_with(options, 3 * MAX_JOBS_PER_OWNER + 8, 50).await;
    let mut client = Client::connect(&server).await;
    // A batch whose latents take nearly half the limit each would be refused
    // for its pixels, so the size comes from long conditionings.
    let length = MAX_TENSOR_BYTES / 4 / WIDTH as u64 / 2;
    let tensors = || {
        vec![
            TensorHeader::new("positive", DType::F32, [1, length, WIDTH as u64]),
            latent(2).0,
        ]
    };
    for job in 1..=2 {
        client
            .send(&ClientMessage::Submit {
                job: id(job),
                request: denoise_request(1, 1),
                tensors: tensors(),
                options: JobOptions::default(),
            })
            .await;
    }
    assert_eq!(failure(client.end(2).await.0).code, ErrorCode::QueueFull);
    client.cancel(1).await;
    client.end(1).await;
    let most = MAX_JOBS_PER_OWNER as u8;
    for job in 100..=100 + most {
        client.denoise(job, 100).await;
    }
    let error = failure(client.end(100 + most).await.0);
    assert!(error.message.contains("unfinished jobs"), "{error}");
}

#[tokio::test]
async fn chunks_out_of_order_fail_their_job() {
    let server = server().await;
    let mut client = Client::connect(&server).await;
    client
        .send(&ClientMessage::Submit {
            job: id(1),
            request: Request::Decode,
            tensors: vec![latent(2).0],
            options: JobOptions::default(),
        })
        .await;
    for job in [1, 2] {
        client
            .send(&ClientMessage::Chunk(Chunk {
                job: id(job),
                tensor: 0,
                offset: 8,
                data: vec![0; 8],
            }))
            .await;
    }
    assert_eq!(failure(client.end(1).await.0).code, ErrorCode::BadMessage);
    assert_eq!(failure(client.end(2).await.0).code, ErrorCode::UnknownJob);
    client
        .send(&ClientMessage::Claim {
            job: id(9),
            received: 0,
        })
        .await;
    assert_eq!(failure(client.end(9).await.0).code, ErrorCode::UnknownJob);
}

/// A client that reads nothing delays neither the device nor other clients.
#[tokio::test]
async fn a_client_that_does_not_read_blocks_no_other() {
    let server = server_with(options(), 24, 1).await;
    let mut stalled = Client::connect(&server).await;
    for job in 1..=4 {
        stalled
            .submit(job, encode_request("big", 1_000_000), vec![])
            .await;
    }
    let mut other = Client::connect(&server).await;
    other.submit(9, encode_request("quick", 4), vec![]).await;
    assert!(matches!(other.end(9).await.0, End::Done(..)));
    server.idle().await;
    for job in 1..=4 {
        assert!(matches!(stalled.end(job).await.0, End::Done(..)));
    }
}
