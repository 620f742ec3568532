//! Jobs of an owner over several connections: claims, repeated submissions, states.

use ovis_protocol::{
    Chunk, ClientMessage, DType, ErrorCode, JobOptions, Request, StateInterval, TensorHeader,
    WireError, WorkerMessage,
};

use super::client::*;
use super::fake::*;

fn failure(end: End) -> WireError {
    match end {
        End::Failed(error) => error,
        other => panic!("{other:?}"),
    }
}

/// The bytes of a result's first tensor.
fn bytes(end: End) -> Vec<u8> {
    match end {
        End::Done(mut tensors, _) => tensors.remove(0).1,
        other => panic!("{other:?}"),
    }
}

fn steps(log: &[String]) -> usize {
    log.iter().filter(|line| line.starts_with("step")).count()
}

#[tokio::test]
async fn a_job_goes_on_without_its_connection_and_is_claimed_by_the_next() {
    let server = server_with(options(), 24, 20).await;
    let mut client = Client::lasting(&server, 1).await;
    client.denoise(1, 20).await;
    client.denoise(2, 2).await;
    server.until("step 1 2").await;
    drop(client);
    server.until("step 1 4").await;
    let mut again = Client::lasting(&server, 1).await;
    again.claim(1, 0).await;
    let (end, before) = again.end(1).await;
    assert!(matches!(before[0], WorkerMessage::Started { .. }));
    let WorkerMessage::Progress(progress) = &before[1] else {
        panic!("{before:?}");
    };
    assert!(progress.step >= 3, "it goes on from where it stands");
    assert_eq!(bytes(end).len(), 4 * 16 * 4);
    server.idle().await;
    again.claim(2, 0).await;
    let (end, before) = again.end(2).await;
    assert!(before.is_empty() && matches!(end, End::Done(..)));
    assert_eq!(steps(&server.log()), 22, "every step was run once");
    // Both are acknowledged, hence forgotten.
    for job in [1, 2] {
        again.claim(job, 0).await;
        assert_eq!(failure(again.end(job).await.0).code, ErrorCode::UnknownJob);
    }
    assert_eq!(server.jobs.kept().bytes, 0);
}

#[tokio::test]
async fn the_latest_connection_that_claims_a_job_has_it() {
    let server = server_with(options(), 24, 20).await;
    let mut first = Client::lasting(&server, 1).await;
    first.denoise(1, 10).await;
    server.until("step 1 2").await;
    let mut second = Client::lasting(&server, 1).await;
    second.claim(1, 0).await;
    assert!(matches!(second.end(1).await.0, End::Done(..)));
    first.send(&ClientMessage::Status).await;
    loop {
        match first.next().await {
            WorkerMessage::Status(_) => break,
            WorkerMessage::Done { .. } | WorkerMessage::Chunk(_) => panic!("it was claimed"),
            _ => {}
        }
    }
}

#[tokio::test]
async fn a_transfer_goes_on_from_the_byte_where_it_broke_off() {
    let server = server_with(options(), 24, 1).await;
    let mut client = Client::lasting(&server, 1).await;
    client.submit(1, encode_request("a", 100_000), vec![]).await;
    let whole = bytes(client.end_unacknowledged(1).await.0);
    drop(client);
    for received in [0, 4, 1 << 20, whole.len() - 4] {
        let mut again = Client::lasting(&server, 1).await;
        again.claim(1, received as u64).await;
        assert!(matches!(again.next().await, WorkerMessage::Done { .. }));
        let mut rest = Vec::new();
        while received + rest.len() < whole.len() {
            let WorkerMessage::Chunk(chunk) = again.next().await else {
                panic!("no chunk");
            };
            assert_eq!(chunk.offset, (received + rest.len()) as u64);
            rest.extend(chunk.data);
        }
        assert!(rest == whole[received..], "from {received}");
    }
    let mut again = Client::lasting(&server, 1).await;
    again.claim(1, whole.len() as u64).await;
    assert!(matches!(again.next().await, WorkerMessage::Done { .. }));
    for received in [1, whole.len() as u64 + 4, u64::MAX] {
        again.claim(1, received).await;
        let error = failure(again.end_unacknowledged(1).await.0);
        assert_eq!(error.code, ErrorCode::InvalidRequest, "{received}");
    }
    again.claim(1, 0).await;
    assert_eq!(bytes(again.end(1).await.0), whole);
}

#[tokio::test]
async fn an_owner_finds_no_jobs_of_another() {
    let server = server_with(options(), 24, 1).await;
    let mut client = Client::lasting(&server, 1).await;
    client.denoise(1, 2).await;
    server.idle().await;
    let mut anonymous = Client::connect(&server).await;
    let mut other = Client::lasting(&server, 2).await;
    for stranger in [&mut anonymous, &mut other] {
        stranger.claim(1, 0).await;
        assert_eq!(failure(stranger.end(1).await.0).code, ErrorCode::UnknownJob);
        stranger.cancel(1).await;
        // Its UUIDs are its own.
        stranger.submit(1, encode_request("mine", 4), vec![]).await;
        assert!(matches!(stranger.end(1).await.0, End::Done(..)));
    }
    assert!(matches!(client.end(1).await.0, End::Done(..)));
}

#[tokio::test]
async fn the_same_job_twice_is_computed_once() {
    let server = server_with(options(), 24, 20).await;
    let mut client = Client::lasting(&server, 1).await;
    client.denoise(1, 6).await;
    server.until("step 1 2").await;
    // On the same connection, on another one, and after its end.
    client.denoise(1, 6).await;
    let mut other = Client::lasting(&server, 1).await;
    other.denoise(1, 6).await;
    let first = bytes(other.end_unacknowledged(1).await.0);
    client.denoise(1, 6).await;
    let second = bytes(client.end_unacknowledged(1).await.0);
    assert_eq!(first, second);
    assert_eq!(steps(&server.log()), 6);
    // Once it is acknowledged, the UUID is free.
    client
        .send(&ClientMessage::Acknowledge { job: id(1) })
        .await;
    client.submit(1, encode_request("other", 4), vec![]).await;
    assert!(matches!(client.end(1).await.0, End::Done(..)));
}

#[tokio::test]
async fn another_request_under_a_used_uuid_is_refused() {
    let server = server_with(options(), 24, 20).await;
    let mut client = Client::lasting(&server, 1).await;
    client.denoise(1, 30).await;
    server.until("step 1 1").await;
    let mut other = Client::lasting(&server, 1).await;
    other.denoise(1, 31).await;
    assert_eq!(failure(other.end(1).await.0).code, ErrorCode::Conflict);
    let (header, mut changed) = latent(2);
    changed[5] = 1;
    let tensors = vec![positive(), (header, changed)];
    other.submit(1, denoise_request(1, 30), tensors).await;
    assert_eq!(failure(other.end(1).await.0).code, ErrorCode::Conflict);
    let one = TensorHeader::new("latent", DType::F32, [1, 16, 2, 4]);
    let tensors = vec![positive(), (one, vec![0; 512])];
    other.submit(1, denoise_request(1, 30), tensors).await;
    assert_eq!(failure(other.end(1).await.0).code, ErrorCode::Conflict);
    // On the connection that reads the job, a Failed would be taken for the job's end.
    client.submit(1, encode_request("again", 4), vec![]).await;
    assert_eq!(client.refusal().await.code, ErrorCode::Conflict);
    other.claim(1, 0).await;
    assert!(matches!(other.end(1).await.0, End::Done(..)));
    assert_eq!(steps(&server.log()), 30, "the job was not disturbed");
}

#[tokio::test]
async fn a_new_connection_repeats_an_upload_that_the_old_one_left_unfinished() {
    let server = server_with(options(), 3, 1).await;
    let mut stuck = Client::lasting(&server, 1).await;
    let (header, data) = latent(2);
    let submit = submit(1, Request::Decode, vec![header]);
    stuck.send(&submit).await;
    stuck.send(&ClientMessage::Status).await;
    stuck.next().await;
    // The old connection still counts as open.
    let mut client = Client::lasting(&server, 1).await;
    client.claim(1, 0).await;
    assert_eq!(failure(client.end(1).await.0).code, ErrorCode::UnknownJob);
    client.send(&submit).await;
    let chunk = ClientMessage::Chunk(Chunk {
        job: id(1),
        tensor: 0,
        offset: 0,
        data,
    });
    client.send(&chunk).await;
    assert!(matches!(client.end(1).await.0, End::Done(..)));
    stuck.send(&chunk).await;
    let error = failure(stuck.end(1).await.0);
    assert_eq!(error.code, ErrorCode::UnknownJob, "{error}");
    drop(stuck);
    // No place of the queue was lost or given back twice.
    for _ in 0..9 {
        client.denoise(2, 1).await;
        assert!(matches!(client.end(2).await.0, End::Done(..)));
    }
}

#[tokio::test]
async fn unacknowledged_jobs_count_as_unfinished() {
    let server = server_with(options(), 500, 0).await;
    let mut client = Client::lasting(&server, 1).await;
    let most = ovis_protocol::limits::MAX_JOBS_PER_OWNER as u8;
    for job in 0..most {
        client.submit(job, encode_request("x", 1), vec![]).await;
        client.end_unacknowledged(job).await;
    }
    client.submit(99, encode_request("x", 1), vec![]).await;
    let error = failure(client.end(99).await.0);
    assert_eq!(error.code, ErrorCode::QueueFull, "{error}");
    client
        .send(&ClientMessage::Acknowledge { job: id(0) })
        .await;
    client.submit(99, encode_request("x", 1), vec![]).await;
    assert!(matches!(client.end(99).await.0, End::Done(..)));
}

/// A denoise job that asks for states at this interval, or goes on from one.
async fn denoise(
    client: &mut Client,
    job: u8,
    seed: u64,
    state: Option<StateInterval>,
    from: Option<Vec<u8>>,
) {
    let mut tensors = vec![positive(), latent(2)];
    if let Some(from) = from {
        let header = TensorHeader::new("state", DType::U8, [from.len() as u64]);
        tensors.push((header, from));
    }
    let (headers, data): (Vec<_>, Vec<_>) = tensors.into_iter().unzip();
    client
        .send(&ClientMessage::Submit {
            job: id(job),
            request: denoise_request(seed, 8),
            tensors: headers,
            options: JobOptions {
                state,
                ..JobOptions::default()
            },
        })
        .await;
    for chunk in ovis_protocol::chunks(id(job), data.iter().map(Vec::as_slice)) {
        client.send(&ClientMessage::Chunk(chunk)).await;
    }
}

#[tokio::test]
async fn a_client_that_asks_gets_states_and_goes_on_from_them() {
    let server = server_with(options(), 24, 30).await;
    let mut client = Client::lasting(&server, 1).await;
    let every = |steps| {
        Some(StateInterval {
            steps,
            seconds: 0.0,
        })
    };
    // The states of a large seed have more than one part.
    for (job, seed) in [(1, 5), (2, 1000)] {
        denoise(&mut client, job, seed, every(3), None).await;
        let (end, before) = client.end(job).await;
        let wanted = bytes(end);
        let mut states: Vec<(u32, Vec<u8>)> = Vec::new();
        for message in before {
            if let WorkerMessage::State(part) = message {
                if part.offset == 0 {
                    states.push((part.step, Vec::new()));
                }
                let (step, state) = states.last_mut().unwrap();
                assert_eq!((part.step, part.offset), (*step, state.len() as u64));
                state.extend(part.data);
                assert!(state.len() as u64 <= part.size);
            }
        }
        let of: Vec<_> = states.iter().map(|(step, _)| *step).collect();
        assert_eq!(of, [3, 6]);
        let (_, state) = states.remove(0);
        denoise(&mut client, job, seed, None, Some(state)).await;
        let (end, before) = client.end(job).await;
        assert_eq!(bytes(end), wanted);
        let log = server.log();
        assert!(log.contains(&format!("resume {seed} 3")), "{log:?}");
        let states = before
            .iter()
            .filter(|m| matches!(m, WorkerMessage::State(_)));
        assert_eq!(states.count(), 0, "none was asked for");
    }
    // A foreign or damaged state is an error of its job alone.
    for state in [b"6 3".to_vec(), vec![0xff; 9]] {
        denoise(&mut client, 3, 5, None, Some(state)).await;
        let error = failure(client.end(3).await.0);
        assert_eq!(error.code, ErrorCode::InvalidRequest);
    }
}

#[tokio::test]
async fn a_worker_that_stops_hands_a_last_state_over() {
    let server = server_with(options(), 24, 30).await;
    let mut client = Client::lasting(&server, 1).await;
    let interval = StateInterval {
        steps: 0,
        seconds: 1000.0,
    };
    denoise(&mut client, 1, 5, Some(interval), None).await;
    server.until("step 5 3").await;
    server.stop.send(()).unwrap();
    let (end, before) = client.end_unacknowledged(1).await;
    assert_eq!(failure(end).code, ErrorCode::ShuttingDown);
    let last = before.last().unwrap();
    assert!(
        matches!(last, WorkerMessage::State(part) if part.step >= 3),
        "{last:?}"
    );
}

#[tokio::test]
async fn a_state_is_one_row_of_bytes() {
    let server = server_with(options(), 24, 1).await;
    let mut client = Client::connect(&server).await;
    let state = |dtype, shape: &[u64]| TensorHeader::new("state", dtype, shape.iter().copied());
    for state in [
        state(DType::F32, &[4]),
        state(DType::U8, &[4, 4]),
        state(DType::U8, &[]),
    ] {
        let tensors = vec![positive().0, latent(2).0, state];
        client
            .send(&submit(1, denoise_request(1, 2), tensors))
            .await;
        let error = failure(client.end(1).await.0);
        assert_eq!(error.code, ErrorCode::InvalidRequest, "{error}");
    }
}
