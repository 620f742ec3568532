//! The engine with a backend whose operations last until they are told to end.

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{channel, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ovis_protocol::{
    Capabilities, DenoiseRequest, EncodeRequest, ErrorCode, JobId, PromptCut, WireError,
};

use super::*;
use crate::nn::check_cancelled;
use crate::pipeline::{
    Budget, Conditioning, Cost, DenoiseInputs, Forwards, Image, Latent, Preview, Result, StepReport,
};

const SOON: Duration = Duration::from_secs(10);

/// A latent's cost is its batch: so many bytes kept, and as many more for a step.
struct ByBatch;

impl JobCosts for ByBatch {
    fn cost(&self, ask: Ask) -> Cost {
        let batch = match ask {
            Ask::Denoise { latent, .. } | Ask::Decode { latent } => latent[0] as u64,
            _ => 0,
        };
        Cost {
            host: batch,
            kept: batch,
            working: batch,
            result: batch,
        }
    }
}

/// Every step and decode waits for a word on its channel, and looks whether it was cancelled.
struct Slow {
    go_on: Receiver<()>,
    device_is_lost: Arc<AtomicBool>,
    budget: Budget,
}

impl Slow {
    fn wait(&self) -> Result<()> {
        loop {
            check_cancelled()?;
            if self.device_is_lost.load(Ordering::Relaxed) {
                return Err(candle_core::Error::Msg("an illegal address".into()).into());
            }
            if self.go_on.recv_timeout(Duration::from_millis(1)).is_ok() {
                return Ok(());
            }
        }
    }
}

impl Backend for Slow {
    type Denoise = (u32, u32, Latent);

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            operations: Vec::new(),
            samplers: Vec::new(),
            model: String::new(),
            device: String::new(),
            precision: String::new(),
            latent_channels: 16,
            conditioning_width: 8,
            size_multiple: 16,
            max_pixels: 1 << 22,
            schedulers: Vec::new(),
            previews: Vec::new(),
        }
    }

    fn encode(&mut self, _: &EncodeRequest) -> Result<(Conditioning, Vec<PromptCut>)> {
        let nothing = Conditioning::from_values(vec![f32::NAN; 8], &[1, 1, 8])?;
        Ok((nothing, Vec::new()))
    }

    fn start_denoise(
        &mut self,
        request: &DenoiseRequest,
        inputs: DenoiseInputs,
    ) -> Result<Self::Denoise> {
        Ok((0, request.steps, inputs.latent))
    }

    fn step(&mut self, (step, total, _): &mut Self::Denoise) -> Result<StepReport> {
        self.wait()?;
        *step += 1;
        Ok(StepReport {
            step: *step,
            total: *total,
            sigma: 0.5,
        })
    }

    fn forwards(&self, _: &Self::Denoise) -> Forwards {
        Forwards::default()
    }

    fn preview(&mut self, _: &Self::Denoise) -> Result<Option<Preview>> {
        Ok(None)
    }

    fn finish_denoise(&mut self, (_, _, latent): Self::Denoise) -> Result<Latent> {
        Ok(latent)
    }

    fn decode(&mut self, _: Latent) -> Result<Image> {
        self.wait()?;
        Image::from_values(vec![0.5; 3], &[1, 1, 1, 3])
    }

    fn vae_encode(&mut self, _: Image) -> Result<Latent> {
        unreachable!("no test asks for it")
    }

    fn memory(&self) -> (u64, u64) {
        (0, 0)
    }

    fn costs(&self) -> Arc<dyn JobCosts> {
        Arc::new(ByBatch)
    }

    fn budget(&self) -> Budget {
        self.budget
    }

    fn check_device(&self) -> Result<()> {
        match self.device_is_lost.load(Ordering::Relaxed) {
            true => Err(candle_core::Error::Msg("an illegal address".into()).into()),
            false => Ok(()),
        }
    }
}

/// What was told of all jobs, in order.
#[derive(Default)]
struct Events(Mutex<Vec<(JobId, Event)>>);

impl EventSink for Events {
    fn send(&self, job: JobId, event: Event) {
        self.0.lock().unwrap().push((job, event));
    }
}

struct Engine {
    engine: EngineHandle,
    events: Arc<Events>,
    go_on: Sender<()>,
    device_is_lost: Arc<AtomicBool>,
}

fn id(number: u8) -> JobId {
    [number; 16]
}

impl Engine {
    fn new(budget: Budget) -> Self {
        let (go_on, waiting) = channel();
        let device_is_lost = Arc::new(AtomicBool::new(false));
        let lost = device_is_lost.clone();
        let engine = start(DEFAULT_QUEUE, move || {
            Ok::<_, String>(Slow {
                go_on: waiting,
                device_is_lost: lost,
                budget,
            })
        });
        Self {
            engine: engine.unwrap(),
            events: Arc::default(),
            go_on,
            device_is_lost,
        }
    }

    fn unbounded() -> Self {
        Self::new(Budget::OneMemory(None))
    }

    fn latent(batch: usize) -> Latent {
        let shape = [batch, 16, 2, 2];
        Latent::from_values(vec![0.0; shape.iter().product()], &shape).unwrap()
    }

    /// Submits a denoise job under a number, of a client of the same number.
    fn denoise(&self, number: u8, batch: usize, steps: u32) -> std::result::Result<(), WireError> {
        let request = DenoiseRequest::new(0, steps, 1.0);
        let reservation = self.engine.admit(Ask::Denoise {
            request: &request,
            latent: [batch, 16, 2, 2],
            text: 1,
        })?;
        let inputs = DenoiseInputs {
            positive: Conditioning::from_values(vec![0.0; 8], &[1, 1, 8]).unwrap(),
            negative: None,
            latent: Self::latent(batch),
            noise_mask: None,
        };
        let work = Work::Denoise(Box::new(request), inputs);
        self.submit(number, work, reservation)
    }

    fn decode(&self, number: u8, batch: usize) -> std::result::Result<(), WireError> {
        let latent = [batch, 16, 2, 2];
        let reservation = self.engine.admit(Ask::Decode { latent })?;
        self.submit(number, Work::Decode(Self::latent(batch)), reservation)
    }

    fn submit(
        &self,
        number: u8,
        work: Work,
        reservation: Reservation,
    ) -> std::result::Result<(), WireError> {
        let (client, sink) = (u64::from(number), self.events.clone());
        let owner = Owner::new(Ipv4Addr::LOCALHOST.into(), format!("client {number}"));
        let place = self.engine.reserve(&owner, id(number))?;
        self.engine.submit(client, place, work, sink, reservation)
    }

    /// How a job ended so far: `done`, `cancelled`, or its error's name.
    fn ends(&self, number: u8) -> Vec<&'static str> {
        let events = self.events.0.lock().unwrap();
        let of_job = events.iter().filter(|(job, _)| *job == id(number));
        of_job
            .filter_map(|(_, event)| match event {
                Event::Done(..) => Some("done"),
                Event::Cancelled => Some("cancelled"),
                Event::Failed(error) => Some(error.code.name()),
                _ => None,
            })
            .collect()
    }

    fn started(&self, number: u8) -> bool {
        let events = self.events.0.lock().unwrap();
        events
            .iter()
            .any(|(job, event)| *job == id(number) && matches!(event, Event::Started))
    }

    fn wait(&self, what: &str, happened: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + SOON;
        while !happened(self) {
            assert!(Instant::now() < deadline, "{what} did not happen");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn go_on(&self, times: usize) {
        for _ in 0..times {
            self.go_on.send(()).unwrap();
        }
    }
}

#[test]
fn a_cancel_within_an_operation_is_answered_at_once_and_frees_the_device() {
    let engine = Engine::unbounded();
    engine.decode(1, 1).unwrap();
    engine.wait("the start", |engine| engine.started(1));
    engine.engine.cancel(1, id(1));
    assert_eq!(engine.ends(1), ["cancelled"]);
    // Nobody let the first decode go on, and yet the next one runs.
    engine.decode(2, 1).unwrap();
    engine.wait("the next start", |engine| engine.started(2));
    engine.go_on(1);
    engine.wait("the next end", |engine| engine.ends(2) == ["done"]);
    assert_eq!(engine.ends(1), ["cancelled"], "a job ends once");
}

#[test]
fn any_of_several_active_jobs_is_cancelled_at_once_and_gives_its_memory_back() {
    let engine = Engine::new(Budget::OneMemory(Some(40)));
    for (number, steps) in [(1, 30), (2, 20), (3, 10)] {
        engine.denoise(number, 4, steps).unwrap();
        engine.wait("the start", |engine| {
            engine.go_on(1);
            engine.started(number)
        });
    }
    engine.engine.cancel(2, id(2));
    assert_eq!(engine.ends(2), ["cancelled"]);
    // Its memory is back after one step of any job at the latest.
    engine.go_on(2);
    engine.wait("room for a job as large as all its memory", |engine| {
        engine.go_on(1);
        engine.denoise(4, 7, 5).is_ok()
    });
    assert!(engine.ends(1).is_empty() && engine.ends(3).is_empty());
    engine.go_on(200);
    for number in [1, 3, 4] {
        engine.wait("the rest", |engine| engine.ends(number) == ["done"]);
    }
}

#[test]
fn the_uuid_of_a_cancelled_job_is_free_while_the_device_still_works() {
    let engine = Engine::unbounded();
    engine.decode(1, 1).unwrap();
    engine.wait("the start", |engine| engine.started(1));
    engine.engine.cancel(1, id(1));
    engine.decode(1, 1).unwrap();
    engine.wait("both ends", |engine| {
        engine.go_on(1);
        engine.ends(1) == ["cancelled", "done"]
    });
}

#[test]
fn a_job_that_can_never_fit_is_refused_and_one_that_does_not_fit_now_is_told_so() {
    let engine = Engine::new(Budget::OneMemory(Some(30)));
    let never = engine.decode(1, 11).unwrap_err();
    assert_eq!(never.code, ErrorCode::OutOfMemory);
    assert!(never.message.contains("33 bytes") && never.message.contains("30 bytes"));
    assert_eq!(never.hint, "A batch of 10 at this size would fit.");
    engine.decode(2, 6).unwrap();
    let now = engine.decode(3, 9).unwrap_err();
    assert_eq!(now.code, ErrorCode::QueueFull);
    engine.go_on(1);
    engine.wait("the end", |engine| engine.ends(2) == ["done"]);
    engine.wait("its memory", |engine| engine.decode(3, 9).is_ok());
}

#[test]
fn jobs_share_the_device_only_where_both_fit() {
    // Each keeps 10 and takes 10 more in a step; tensors take 10 of each.
    let engine = Engine::new(Budget::OneMemory(Some(49)));
    engine.denoise(1, 10, 3).unwrap();
    engine.wait("the start", |engine| engine.started(1));
    engine.denoise(2, 10, 1).unwrap();
    engine.go_on(2);
    engine.wait("two steps", |engine| {
        let events = engine.events.0.lock().unwrap();
        let steps = events
            .iter()
            .filter(|(_, event)| matches!(event, Event::Progress(..)));
        steps.count() == 2
    });
    assert!(
        !engine.started(2),
        "30 for two jobs between steps, 10 for a step, 20 of tensors"
    );
    engine.go_on(2);
    engine.wait("both", |engine| {
        engine.ends(1) == ["done"] && engine.ends(2) == ["done"]
    });
}

#[test]
fn abandoned_jobs_fail_within_their_step() {
    let engine = Engine::unbounded();
    engine.denoise(1, 1, 3).unwrap();
    engine.wait("the start", |engine| engine.started(1));
    engine.engine.stop();
    engine.engine.abandon();
    assert_eq!(engine.ends(1), ["shutting-down"]);
    engine.wait("the thread's end", |engine| *engine.engine.ended.borrow());
    assert_eq!(engine.ends(1), ["shutting-down"]);
}

#[test]
fn a_lost_device_ends_the_engine() {
    let engine = Engine::unbounded();
    engine.denoise(1, 1, 3).unwrap();
    engine.wait("the start", |engine| engine.started(1));
    engine.decode(2, 1).unwrap();
    engine.device_is_lost.store(true, Ordering::Relaxed);
    engine.wait("the thread's end", |engine| *engine.engine.ended.borrow());
    assert_eq!(engine.ends(1), ["internal"]);
    assert_eq!(engine.ends(2), ["shutting-down"]);
    assert!(engine.decode(3, 1).is_err());
}

#[test]
fn a_result_that_is_not_numbers_is_not_sent() {
    let engine = Engine::unbounded();
    let reservation = engine.engine.admit(Ask::Encode {
        prompts: &[],
        max_sequence_length: 1,
    });
    let request = EncodeRequest {
        prompts: vec![String::new()],
        max_sequence_length: 1,
    };
    let work = Work::Encode(request);
    engine.submit(1, work, reservation.unwrap()).unwrap();
    engine.wait("the end", |engine| engine.ends(1) == ["internal"]);
}
