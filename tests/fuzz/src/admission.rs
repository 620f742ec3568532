//! Admission of jobs: frames of several clients, and a device that this target plays.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use candle_core::{DType, Device};
use ovis_protocol::limits::MAX_MESSAGE_BYTES;
use ovis_protocol::{
    decode_client, encode, Capabilities, ClientMessage, DenoiseRequest, EncodeRequest, ErrorCode,
    JobId, JobOptions, Outcome, Priority, Request, WireError, WorkerMessage,
};
use ovis_worker::jobs::{Client, Event, Job, Jobs, Limits, Model, ModelList, Next, Owner, Party, Wanted};
use ovis_worker::nn::{Placement, WeightFormat};
use ovis_worker::pipeline::{Ask, Budget, Costs, Latent, Output, Pipeline};
use ovis_worker::server::fuzzing::Connection;
use tokio::runtime::Runtime;
use uuid::Uuid;

use crate::{demo, frames};

/// Few places and little memory, so that short inputs reach the bounds.
const PLACES: usize = 6;
const JOB_BYTES: u64 = 64 << 20;
const KEPT_BYTES: u64 = 4096;

/// The first two connections are of one owner, which has a secret; the third has none.
const CONNECTIONS: usize = 3;
const TAKE: u8 = 3;
const DONE: u8 = 4;
const FAIL: u8 = 5;
const READ: u8 = 6;
const LEAVE: u8 = 7;

static MODEL: LazyLock<(Costs, Capabilities)> = LazyLock::new(|| {
    let placement = Placement {
        device: Device::Cpu,
        weights: DType::F32,
        products: WeightFormat::Dense,
    };
    let pipeline = Pipeline::load(&demo::checkpoint(), &placement);
    let pipeline = pipeline.expect("the demo model loads");
    (pipeline.costs(), pipeline.capabilities())
});

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    let built = tokio::runtime::Builder::new_current_thread().build();
    built.expect("a runtime can be built")
});

static FREE_PLACES: LazyLock<usize> = LazyLock::new(|| free_places(&jobs()));

fn jobs() -> Jobs {
    let limits = Limits {
        queue: PLACES,
        queue_per_owner: PLACES / 2,
        kept_bytes: KEPT_BYTES,
        kept_for: Duration::ZERO,
        ..Limits::default()
    };
    let (costs, capabilities) = &*MODEL;
    let model = Model::new("demo", capabilities.clone(), Arc::new(costs.clone()), 0);
    Jobs::new(limits, ModelList::new(model, []), Budget::OneMemory(Some(JOB_BYTES)))
}

/// A connection, and how often it asked for each job and was told of its end.
struct Peer {
    connection: Connection,
    jobs: HashMap<JobId, (usize, usize)>,
}

impl Peer {
    fn new(jobs: &Jobs, number: usize) -> Self {
        let party = Party::Address(Ipv4Addr::LOCALHOST.into());
        let owner = match number {
            0 | 1 => Owner::of_secret(party, "lasting", &[1; 32]),
            _ => Owner::anonymous(party, "anonymous"),
        };
        Self {
            connection: Connection::new(jobs, owner),
            jobs: HashMap::new(),
        }
    }

    /// Handles a frame and says whether the connection goes on.
    fn handle(&mut self, frame: &[u8]) -> bool {
        match decode_client(frame) {
            Ok(ClientMessage::Submit { job, .. } | ClientMessage::Claim { job, .. }) => {
                self.jobs.entry(job).or_default().0 += 1;
            }
            // The first chunk of a job that was never submitted is answered.
            Ok(ClientMessage::Chunk(chunk)) => {
                self.jobs.entry(chunk.job).or_insert((1, 0));
            }
            _ => {}
        }
        RUNTIME.block_on(self.connection.handle(frame))
    }

    /// Reads everything that waits. Returns the number of jobs that are done.
    fn read(&mut self) -> usize {
        let mut done = 0;
        while let Some(message) = self.connection.sent() {
            let bytes = encode(&message).expect("every message can be sent");
            assert!(bytes.len() <= MAX_MESSAGE_BYTES);
            let job = match &message {
                WorkerMessage::Done { job, .. } => {
                    done += 1;
                    job
                }
                WorkerMessage::Failed { job, .. } | WorkerMessage::Cancelled { job } => job,
                _ => continue,
            };
            let (asked, ended) = self.jobs.entry(*job).or_default();
            *ended += 1;
            assert!(ended <= asked, "{message:?} came unasked, or twice");
        }
        done
    }
}

/// Reads `data` as what happens, a byte each: a frame of one of the connections, with its length;
/// the device takes a job, ends one, or fails one; the clients read; a client leaves and comes
/// back. Says whether a job was done and its client told.
///
/// # Panics
/// If a message cannot be sent, a job has two ends for a client, or memory, queue places or jobs
/// are left once all clients are gone.
pub fn run(mut data: &[u8]) -> bool {
    let jobs = jobs();
    let mut peers: Vec<_> = (0..CONNECTIONS)
        .map(|number| Peer::new(&jobs, number))
        .collect();
    let mut running: Vec<Box<Job>> = Vec::new();
    let mut done = 0;
    while let [what, rest @ ..] = data {
        data = rest;
        match *what {
            number @ 0..TAKE => {
                let number = usize::from(number);
                let Some(frame) = frames::take(&mut data) else {
                    break;
                };
                if !peers[number].handle(frame) {
                    done += peers[number].read();
                    peers[number] = Peer::new(&jobs, number);
                }
            }
            TAKE => {
                if let Next::Job(job) = jobs.next(&Wanted::If(&|_| true)) {
                    running.push(job);
                }
            }
            DONE if !running.is_empty() => {
                let job = running.remove(0);
                jobs.end(&job.ticket, finished());
                // What comes after a job's end is ignored.
                jobs.end(&job.ticket, Event::Cancelled);
            }
            FAIL if !running.is_empty() => {
                let job = running.remove(0);
                let error = WireError::new(ErrorCode::Internal, "it failed", "");
                jobs.end(&job.ticket, Event::Failed(error));
            }
            READ => done += peers.iter_mut().map(Peer::read).sum::<usize>(),
            LEAVE => {
                let number = data.split_off_first().map_or(0, |n| usize::from(*n)) % CONNECTIONS;
                peers[number] = Peer::new(&jobs, number);
            }
            _ => {}
        }
    }
    done += peers.iter_mut().map(Peer::read).sum::<usize>();
    drop(peers);
    for job in running {
        jobs.end(&job.ticket, finished());
    }
    jobs.sweep();
    let status = jobs.status();
    assert_eq!((status.queued, status.running), (0, 0), "jobs are left");
    assert_eq!(jobs.ledger().reserved(), 0, "memory is left reserved");
    jobs.sweep();
    assert_eq!(jobs.kept().bytes, 0, "results are left");
    assert_eq!(free_places(&jobs), *FREE_PLACES, "queue places are left");
    done > 0
}

/// A job's end with a small result.
fn finished() -> Event {
    let latent = Latent::from_values(vec![0.5; 4], &[1, 1, 2, 2]);
    let output = Output::latent(&latent.expect("the shape has 4 values"));
    let outcome = Outcome {
        seconds_queued: 0.0,
        seconds_running: 0.0,
        cuts: vec![],
    };
    Event::Done(outcome, output.expect("the values are finite"))
}

/// How many jobs of different owners find a place.
fn free_places(jobs: &Jobs) -> usize {
    let ask = Ask::Decode {
        latent: [1, 16, 2, 2],
    };
    let mut held = Vec::new();
    for number in 1..=2 * PLACES as u8 {
        let subscription = jobs.subscribe();
        let owner = Owner::new(Ipv4Addr::new(10, 0, 0, number).into(), "counting");
        let client = Client::new(jobs.clone(), &subscription, owner);
        match client.admit(Uuid::from_bytes([number; 16]), jobs.models().default_model(), 0, ask, 0) {
            Ok(admitted) => held.push((admitted, client, subscription)),
            Err(error) => {
                assert_eq!(error.code, ErrorCode::QueueFull, "{error}");
                break;
            }
        }
    }
    held.len()
}

/// Jobs of each operation, twice submitted, claimed, cancelled, acknowledged and given up.
pub fn seeds() -> Vec<Vec<u8>> {
    let says = |number: u8, messages: &[ClientMessage]| -> Vec<u8> {
        let framed = messages
            .iter()
            .flat_map(|m| [vec![number], frames::frame(m)]);
        framed.flatten().collect()
    };
    let latent: [(&str, &[u64]); 1] = [("latent", &[1, 16, 2, 2])];
    let (_, can) = &*MODEL;
    let text = [1, 4, u64::from(can.conditioning_width)];
    let denoised: [(&str, &[u64]); 3] = [
        ("positive", &text),
        ("negative", &text),
        ("latent", latent[0].1),
    ];
    let decode = frames::job([1; 16], Request::Decode, &latent, JobOptions::default());
    let denoise = frames::job(
        [2; 16],
        Request::Denoise(Box::new(DenoiseRequest::new(7, 20, 4.5))),
        &denoised,
        JobOptions {
            priority: Priority::High,
            deadline: Some(100.0),
            ..JobOptions::default()
        },
    );
    let encoded = EncodeRequest {
        prompts: vec!["a red fox".into()],
        max_sequence_length: 64,
        adapters: vec![],
    };
    let encode = frames::job(
        [3; 16],
        Request::Encode(encoded),
        &[],
        JobOptions::default(),
    );
    let image: [(&str, &[u64]); 1] = [("image", &[1, 16, 16, 3])];
    let vae_encode = frames::job([4; 16], Request::VaeEncode, &image, JobOptions::default());
    let claim = |job| ClientMessage::Claim { job, received: 0 };
    let first = [
        says(0, &decode),
        says(1, &decode),
        vec![TAKE, DONE, READ],
        says(0, &[claim([1; 16]), ClientMessage::Status]),
        vec![READ],
        says(0, &[ClientMessage::Acknowledge { job: [1; 16] }]),
    ];
    let second = [
        says(2, &denoise),
        says(0, &encode),
        says(1, &vae_encode),
        says(2, &decode[..1]),
        vec![TAKE, TAKE, DONE, FAIL, LEAVE, 2, READ, TAKE, DONE, READ],
        says(1, &[ClientMessage::Cancel { job: [4; 16] }]),
    ];
    vec![first.concat(), second.concat()]
}
