//! A device whose operations last until they are told to end, and its clients.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{channel, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ovis_protocol::{
    Capabilities, DenoiseRequest, EncodeRequest, JobOptions, PromptCut, WireError,
};
use uuid::Uuid;

use crate::device::{start_with, Backend, Catalog, Probe, DEFAULT_MODEL};
use crate::jobs::{
    testing, Admitted, Attached, Client, ClientId, Content, Delivered, Event, Found, JobCosts,
    JobKey, JobStore, Jobs, Kept, Limits, NewJob, OpenJob, Owner, OwnerId, Recorder, Submission,
    Subscription, Swept, Wake, Work,
};
use crate::nn::check_cancelled;
use crate::pipeline::{
    Ask, Budget, Conditioning, Cost, DenoiseInputs, Error, Forwards, Image, Latent, Preview,
    Result, StepReport,
};

/// How long a test waits for something that must happen.
const SOON: Duration = Duration::from_secs(10);

/// A job's cost is its latent's batch: as many bytes on the host, kept, and for a step.
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

/// A backend whose steps and decodes wait for a message on a channel, or until cancelled.
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
        testing::capabilities()
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

    fn resume_denoise(
        &mut self,
        _: &DenoiseRequest,
        _: DenoiseInputs,
        _: &[u8],
    ) -> Result<Self::Denoise> {
        Err(Error::invalid("no test resumes a job here", ""))
    }

    fn snapshot(&mut self, _: &Self::Denoise) -> Result<Vec<u8>> {
        Err(Error::invalid("no test asks for a state here", ""))
    }

    fn report(&self, (step, total, _): &Self::Denoise) -> StepReport {
        StepReport {
            step: *step,
            total: *total,
            sigma: 0.5,
        }
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

    fn probe(&self) -> Box<dyn Probe> {
        Box::new(MayBeLost(self.device_is_lost.clone()))
    }

    fn costs(&self) -> Arc<dyn JobCosts> {
        Arc::new(ByBatch)
    }

    fn budget(&self) -> Budget {
        self.budget
    }
}

/// A device that works until it is lost.
struct MayBeLost(Arc<AtomicBool>);

impl Probe for MayBeLost {
    fn check(&self) -> Result<()> {
        match self.0.load(Ordering::Relaxed) {
            true => Err(candle_core::Error::Msg("an illegal address".into()).into()),
            false => Ok(()),
        }
    }
}

/// Keeps every event of all jobs, in order, and no results.
#[derive(Default)]
pub struct Events {
    owners: Mutex<Vec<OwnerId>>,
    jobs: Mutex<HashMap<JobKey, (Uuid, OpenJob)>>,
    pub events: Mutex<Vec<(Uuid, Event)>>,
}

impl JobStore for Events {
    fn attach(&self, owner: &Owner, _: Option<(ClientId, Arc<Wake>)>) -> Attached {
        let mut owners = self.owners.lock().unwrap();
        owners.push(owner.id);
        Attached {
            owner: owners.len() as u64,
            open: Arc::default(),
        }
    }

    fn detach(&self, _: ClientId) {}

    fn close(&self, _: ClientId) {}

    fn put(&self, job: JobKey, new: NewJob) {
        self.jobs.lock().unwrap().insert(job, (new.id, new.open));
    }

    fn append(&self, job: JobKey, event: Event) {
        let mut jobs = self.jobs.lock().unwrap();
        let Some((id, _)) = jobs.get(&job) else {
            return;
        };
        self.events.lock().unwrap().push((*id, event.clone()));
        if event.is_end() {
            jobs.remove(&job);
        }
    }

    fn next(&self, _: ClientId, _: Option<u64>) -> Option<Delivered> {
        None
    }

    fn read(&self, _: ClientId, _: JobKey, _: Range<usize>) -> Option<Vec<u8>> {
        None
    }

    fn find(&self, _: ClientId, _: Uuid) -> Option<Found> {
        None
    }

    fn claim(&self, _: ClientId, _: JobKey, _: usize) {}

    fn acknowledge(&self, _: ClientId, _: Uuid) -> Option<OwnerId> {
        None
    }

    fn note_read(&self, _: ClientId) {}

    fn sweep(&self, _: Instant, _: Duration) -> Swept {
        Swept::default()
    }

    fn kept(&self) -> Kept {
        Kept::default()
    }
}

/// A device, with a client for each job number.
pub struct Device {
    pub jobs: Jobs,
    clients: Mutex<HashMap<u8, (Client, Subscription)>>,
    pub events: Arc<Events>,
    go_on: Sender<()>,
    pub is_lost: Arc<AtomicBool>,
}

fn id(number: u8) -> Uuid {
    Uuid::from_bytes([number; 16])
}

impl Device {
    pub fn new(budget: Budget) -> Self {
        let (go_on, waiting) = channel();
        let is_lost = Arc::new(AtomicBool::new(false));
        let lost = is_lost.clone();
        let events = Arc::new(Events::default());
        let store = events.clone();
        let load = move || {
            let slow = Slow {
                go_on: waiting,
                device_is_lost: lost,
                budget,
            };
            let models = Catalog::of_one(DEFAULT_MODEL, slow);
            Ok::<_, Error>((models, budget))
        };
        let jobs = start_with(load, move |models, budget| {
            Jobs::with_store(
                Limits::default(),
                store,
                Recorder::default(),
                models,
                budget,
            )
        });
        Self {
            jobs: jobs.unwrap(),
            clients: Mutex::default(),
            events,
            go_on,
            is_lost,
        }
    }

    pub fn unbounded() -> Self {
        Self::new(Budget::OneMemory(None))
    }

    fn latent(batch: usize) -> Latent {
        let shape = [batch, 16, 2, 2];
        Latent::from_values(vec![0.0; shape.iter().product()], &shape).unwrap()
    }

    /// Submits a denoise job, as the client with the job's number.
    pub fn denoise(
        &self,
        number: u8,
        batch: usize,
        steps: u32,
    ) -> std::result::Result<(), WireError> {
        let request = DenoiseRequest::new(0, steps, 1.0);
        let admitted = self.admit(
            number,
            Ask::Denoise {
                request: &request,
                latent: [batch, 16, 2, 2],
                text: 1,
            },
        )?;
        let inputs = DenoiseInputs {
            positive: Conditioning::from_values(vec![0.0; 8], &[1, 1, 8]).unwrap(),
            negative: None,
            latent: Self::latent(batch),
            noise_mask: None,
        };
        let work = Work::Denoise(Box::new(request), inputs, None);
        self.submit(number, admitted, work)
    }

    pub fn decode(&self, number: u8, batch: usize) -> std::result::Result<(), WireError> {
        let latent = [batch, 16, 2, 2];
        let admitted = self.admit(number, Ask::Decode { latent })?;
        self.submit(number, admitted, Work::Decode(Self::latent(batch)))
    }

    /// Acts as the client with this number.
    fn with_client<T>(&self, number: u8, act: impl FnOnce(&Client) -> T) -> T {
        let mut clients = self.clients.lock().unwrap();
        let (client, _) = clients.entry(number).or_insert_with(|| {
            let owner = Owner::new(Ipv4Addr::LOCALHOST.into(), format!("client {number}"));
            let subscription = self.jobs.subscribe();
            let client = Client::new(self.jobs.clone(), &subscription, owner);
            (client, subscription)
        });
        act(client)
    }

    pub fn admit(&self, number: u8, ask: Ask) -> std::result::Result<Admitted, WireError> {
        let model = self.jobs.models().default_model();
        self.with_client(number, |client| client.admit(id(number), model, 0, ask, 0))
    }

    pub fn submit(
        &self,
        number: u8,
        admitted: Admitted,
        work: Work,
    ) -> std::result::Result<(), WireError> {
        let submission = Submission {
            work,
            options: JobOptions::default(),
            content: Content::default(),
            is_journaled: false,
        };
        self.with_client(number, |client| client.submit(admitted, submission))
    }

    pub fn cancel(&self, number: u8) {
        self.with_client(number, |client| client.cancel(id(number)));
    }

    /// How a job has ended so far: `done`, `cancelled`, or its error's name.
    pub fn ends(&self, number: u8) -> Vec<&'static str> {
        let events = self.events.events.lock().unwrap();
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

    pub fn started(&self, number: u8) -> bool {
        let events = self.events.events.lock().unwrap();
        events
            .iter()
            .any(|(job, event)| *job == id(number) && matches!(event, Event::Started))
    }

    pub fn wait(&self, what: &str, happened: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + SOON;
        while !happened(self) {
            assert!(Instant::now() < deadline, "{what} did not happen");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    pub fn go_on(&self, times: usize) {
        for _ in 0..times {
            self.go_on.send(()).unwrap();
        }
    }
}
