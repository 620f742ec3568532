//! A server whose backend sleeps instead of computing.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ovis_protocol::{Capabilities, DenoiseRequest, EncodeRequest, PromptCut};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::device::{self, Backend, Catalog, Loader, Probe, Retention, DEFAULT_MODEL};
use crate::jobs::{Jobs, Limits, Model};
use crate::pipeline::{
    Budget, Conditioning, DenoiseInputs, Error, Forwards, Image, Latent, Preview, Result,
    StepReport,
};
use crate::server::{serve, Options, ServeError};

/// Width of the fake's conditioning.
pub const WIDTH: usize = 8;

/// Longer than any test waits.
const HANG: Duration = Duration::from_secs(600);

/// What the device's thread did, in order: `encode NAME`, `step SEED N`, `decode`, `vae-encode`.
pub type Log = Arc<Mutex<Vec<String>>>;

/// A backend that sleeps for `pause` instead of computing.
#[derive(Clone)]
pub struct Fake {
    log: Log,
    pause: Duration,
    /// Whether the next query of the device's memory does not come back.
    is_stuck: Arc<AtomicBool>,
}

pub struct FakeDenoise {
    seed: u64,
    step: u32,
    total: u32,
    latent: Latent,
    preview: Option<u32>,
}

impl Fake {
    fn note(&self, line: String) {
        self.log.lock().unwrap().push(line);
    }

    /// Two models: the default, which is loaded, and `other`.
    fn catalog(self) -> Catalog<Self> {
        let model = |name: &str| Model::new(name, self.capabilities(), self.costs(), 0);
        let loader = |name: &'static str| -> Loader<Self> {
            let fake = self.clone();
            Box::new(move || {
                fake.note(format!("load {name}"));
                Ok(fake.clone())
            })
        };
        let (default, other) = (model(DEFAULT_MODEL), model("other"));
        let (reload, load) = (loader(DEFAULT_MODEL), loader("other"));
        let mut models = Catalog::new(default, self, Some(reload), Retention::default());
        models.push(other, load);
        models
    }
}

impl Backend for Fake {
    type Denoise = FakeDenoise;

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            operations: ["encode", "denoise", "decode", "vae-encode"]
                .map(String::from)
                .to_vec(),
            samplers: vec!["euler".into()],
            model: "fake".into(),
            device: "cpu".into(),
            precision: "f32".into(),
            latent_channels: 16,
            conditioning_width: WIDTH as u32,
            size_multiple: 16,
            max_pixels: 1 << 22,
            schedulers: vec!["flux".into()],
            previews: vec!["linear".into()],
            models: vec![],
        }
    }

    fn encode(&mut self, request: &EncodeRequest) -> Result<(Conditioning, Vec<PromptCut>)> {
        let name = &request.prompts[0];
        self.note(format!("encode {name}"));
        std::thread::sleep(self.pause);
        match name.as_str() {
            "panic" => panic!("the fake was asked to panic"),
            // Long enough to be interrupted.
            "long" => {
                std::thread::sleep(Duration::from_secs(2));
                Err(Error::invalid("it took long", ""))
            }
            "hang" => {
                std::thread::sleep(HANG);
                Err(Error::invalid("it hung", ""))
            }
            "stuck" => {
                self.is_stuck.store(true, Ordering::Relaxed);
                Err(Error::invalid("the device is stuck from now on", ""))
            }
            "invalid" => Err(Error::invalid("the fake refuses", "ask otherwise")),
            _ => {
                let (b, t) = (request.prompts.len(), request.max_sequence_length as usize);
                let values = (0..b * t * WIDTH).map(|i| i as f32).collect();
                let cut = PromptCut {
                    prompt: 0,
                    lost_tokens: 3,
                    lost_template_tokens: 9,
                };
                Ok((
                    Conditioning::from_values(values, &[b, t, WIDTH])?,
                    vec![cut],
                ))
            }
        }
    }

    fn start_denoise(
        &mut self,
        request: &DenoiseRequest,
        inputs: DenoiseInputs,
    ) -> Result<FakeDenoise> {
        Ok(FakeDenoise {
            seed: request.seed,
            step: 0,
            total: request.steps,
            latent: inputs.latent,
            preview: request.preview.map(|preview| preview.max_side),
        })
    }

    fn resume_denoise(
        &mut self,
        request: &DenoiseRequest,
        inputs: DenoiseInputs,
        state: &[u8],
    ) -> Result<FakeDenoise> {
        let text = std::str::from_utf8(state).unwrap_or_default();
        let fields: Vec<u64> = text.split(' ').filter_map(|n| n.parse().ok()).collect();
        let &[seed, step] = &fields[..] else {
            return Err(Error::invalid("not a state of the fake", ""));
        };
        if seed != request.seed {
            return Err(Error::invalid("a state of another job", ""));
        }
        self.note(format!("resume {seed} {step}"));
        let job = self.start_denoise(request, inputs)?;
        let step = step as u32;
        Ok(FakeDenoise { step, ..job })
    }

    /// Seed and step, in a form that is longer than one chunk for large seeds.
    fn snapshot(&mut self, job: &FakeDenoise) -> Result<Vec<u8>> {
        let filler = match job.seed >= 1000 {
            true => 3 << 19,
            false => 0,
        };
        let text = format!("{} {}{}", job.seed, job.step, " ".repeat(filler));
        Ok(text.into_bytes())
    }

    fn report(&self, job: &FakeDenoise) -> StepReport {
        StepReport {
            step: job.step,
            total: job.total,
            sigma: 1.0 - job.step as f32 / job.total as f32,
        }
    }

    fn step(&mut self, job: &mut FakeDenoise) -> Result<StepReport> {
        job.step += 1;
        self.note(format!("step {} {}", job.seed, job.step));
        std::thread::sleep(self.pause);
        Ok(StepReport {
            step: job.step,
            total: job.total,
            sigma: 1.0 - job.step as f32 / job.total as f32,
        })
    }

    fn forwards(&self, job: &FakeDenoise) -> Forwards {
        Forwards {
            asked: 2 * u64::from(job.step),
            answered: u64::from(job.step),
        }
    }

    fn preview(&mut self, job: &FakeDenoise) -> Result<Option<Preview>> {
        Ok(job.preview.map(|side| Preview {
            width: side,
            height: side,
            rgb: vec![0; 3 * (side * side) as usize],
        }))
    }

    fn finish_denoise(&mut self, job: FakeDenoise) -> Result<Latent> {
        Latent::new((job.latent.tensor() + 1.0)?)
    }

    fn decode(&mut self, latent: Latent) -> Result<Image> {
        self.note("decode".into());
        std::thread::sleep(self.pause);
        let &[b, _, h, w] = latent.dims() else {
            unreachable!("a latent has four dimensions");
        };
        let shape = [b, h * 8, w * 8, 3];
        Image::from_values(vec![0.5; shape.iter().product()], &shape)
    }

    fn vae_encode(&mut self, image: Image) -> Result<Latent> {
        self.note("vae-encode".into());
        let &[b, h, w, _] = image.dims() else {
            unreachable!("an image has four dimensions");
        };
        let shape = [b, 16, h / 8, w / 8];
        Latent::from_values(vec![0.5; shape.iter().product()], &shape)
    }

    fn probe(&self) -> Box<dyn Probe> {
        Box::new(MayBeStuck(self.is_stuck.clone()))
    }
}

/// A device of two bytes, one in use, that may not answer.
struct MayBeStuck(Arc<AtomicBool>);

impl Probe for MayBeStuck {
    fn memory(&self) -> (u64, u64) {
        if self.0.load(Ordering::Relaxed) {
            std::thread::sleep(HANG);
        }
        (1, 2)
    }
}

/// A server on a free port, and how to stop it.
pub struct TestServer {
    pub address: std::net::SocketAddr,
    pub jobs: Jobs,
    pub log: Log,
    pub stop: oneshot::Sender<()>,
    pub task: JoinHandle<std::result::Result<(), ServeError>>,
}

pub fn options() -> Options {
    Options {
        handshake_timeout: Duration::from_millis(500),
        ..Options::default()
    }
}

pub async fn server_with(options: Options, queue: usize, pause_ms: u64) -> TestServer {
    let limits = Limits {
        queue,
        ..Limits::default()
    };
    server_within(options, limits, pause_ms).await
}

pub async fn server_within(options: Options, limits: Limits, pause_ms: u64) -> TestServer {
    let log = Log::default();
    let backend_log = log.clone();
    let load = move || {
        let fake = Fake {
            log: backend_log,
            pause: Duration::from_millis(pause_ms),
            is_stuck: Arc::default(),
        };
        Ok::<_, Error>((fake.catalog(), Budget::OneMemory(None)))
    };
    let make = move |models, budget| Jobs::new(limits, models, budget);
    let jobs = device::start_with(load, make).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel();
    let task = tokio::spawn(serve(listener, jobs.clone(), options, async {
        let _ = stopped.await;
    }));
    TestServer {
        address,
        jobs,
        log,
        stop,
        task,
    }
}

pub async fn server() -> TestServer {
    server_with(options(), 24, 20).await
}

impl TestServer {
    pub fn log(&self) -> Vec<String> {
        self.log.lock().unwrap().clone()
    }

    /// Waits until the device's thread has logged this line.
    pub async fn until(&self, line: &str) {
        for _ in 0..1000 {
            if self.log().iter().any(|l| l == line) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("`{line}` never happened: {:?}", self.log());
    }

    /// Waits until nothing is queued or running.
    pub async fn idle(&self) {
        for _ in 0..1000 {
            let status = self.jobs.status();
            if status.queued + status.running == 0 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("the device never became idle");
    }
}
