//! A backend that sleeps instead of computing, and a client that checks.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use ovis_protocol::limits::{MAGIC, PROTOCOL_VERSION};
use ovis_protocol::{
    chunks, decode_worker, encode, Assembler, Capabilities, ClientHello, ClientMessage, DType,
    DenoiseRequest, EncodeRequest, JobId, PromptCut, Request, TensorHeader, WireError,
    WorkerMessage,
};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::WebSocketStream;

use crate::engine::{self, Backend, EngineHandle};
use crate::pipeline::{
    Conditioning, DenoiseInputs, Error, Forwards, Image, Latent, Preview, Result, StepReport,
};
use crate::server::{serve, Options};

/// Width of the fake's conditioning.
pub const WIDTH: usize = 8;

/// What the device thread did, in order: `encode NAME`, `step SEED N`, `decode`.
pub type Log = Arc<Mutex<Vec<String>>>;

pub struct Fake {
    log: Log,
    pause: Duration,
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
        }
    }

    fn encode(&mut self, request: &EncodeRequest) -> Result<(Conditioning, Vec<PromptCut>)> {
        let name = &request.prompts[0];
        self.note(format!("encode {name}"));
        std::thread::sleep(self.pause);
        match name.as_str() {
            "panic" => panic!("the fake was asked to panic"),
            // Long enough to be caught in.
            "long" => {
                std::thread::sleep(Duration::from_secs(2));
                Err(Error::invalid("it took long", ""))
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

    fn memory(&self) -> (u64, u64) {
        (1, 2)
    }
}

/// A server on a free port, and how to end it.
pub struct TestServer {
    pub address: std::net::SocketAddr,
    pub engine: EngineHandle,
    pub log: Log,
    pub stop: oneshot::Sender<()>,
    pub task: JoinHandle<std::result::Result<(), String>>,
}

pub fn options() -> Options {
    Options {
        handshake_timeout: Duration::from_millis(500),
        ..Options::default()
    }
}

pub async fn server_with(options: Options, queue: usize, pause_ms: u64) -> TestServer {
    let log = Log::default();
    let backend_log = log.clone();
    let engine = engine::start(queue, move || {
        Ok::<_, String>(Fake {
            log: backend_log,
            pause: Duration::from_millis(pause_ms),
        })
    })
    .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel();
    let task = tokio::spawn(serve(listener, engine.clone(), options, async {
        let _ = stopped.await;
    }));
    TestServer {
        address,
        engine,
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

    /// Waits until the device thread has done something.
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
            let status = self.engine.status();
            if status.queued + status.running == 0 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("the engine never became idle");
    }
}

/// How a job ended.
#[derive(Debug)]
pub enum End {
    Done(Vec<(TensorHeader, Vec<u8>)>, ovis_protocol::Outcome),
    Failed(WireError),
    Cancelled,
}

pub struct Client {
    pub socket: WebSocketStream<TcpStream>,
    /// Messages about other jobs than the one that was waited for.
    later: Vec<WorkerMessage>,
}

fn job_of(message: &WorkerMessage) -> Option<JobId> {
    match message {
        WorkerMessage::Queued { job, .. }
        | WorkerMessage::Started { job }
        | WorkerMessage::Done { job, .. }
        | WorkerMessage::Failed { job, .. }
        | WorkerMessage::Cancelled { job } => Some(*job),
        WorkerMessage::Progress(progress) => Some(progress.job),
        WorkerMessage::Preview(preview) => Some(preview.job),
        WorkerMessage::Chunk(chunk) => Some(chunk.job),
        _ => None,
    }
}

pub fn hello() -> ClientHello {
    ClientHello {
        magic: MAGIC,
        protocol: PROTOCOL_VERSION,
        client: "test".into(),
        token: None,
    }
}

pub fn id(n: u8) -> JobId {
    [n; 16]
}

pub fn encode_request(name: &str, length: u32) -> Request {
    Request::Encode(EncodeRequest {
        prompts: vec![name.into()],
        max_sequence_length: length,
    })
}

pub fn denoise_request(seed: u64, steps: u32) -> Request {
    Request::Denoise(Box::new(DenoiseRequest::new(seed, steps, 1.0)))
}

fn zeros(name: &str, shape: &[u64]) -> (TensorHeader, Vec<u8>) {
    let header = TensorHeader::new(name, DType::F32, shape.iter().copied());
    let bytes = vec![0; header.byte_len().unwrap() as usize];
    (header, bytes)
}

pub fn positive() -> (TensorHeader, Vec<u8>) {
    zeros("positive", &[1, 4, WIDTH as u64])
}

pub fn latent(side: u64) -> (TensorHeader, Vec<u8>) {
    zeros("latent", &[1, 16, side, side])
}

impl Client {
    /// A websocket that has not said hello.
    pub async fn raw(server: &TestServer) -> Self {
        let stream = TcpStream::connect(server.address).await.unwrap();
        let (socket, _) = tokio_tungstenite::client_async("ws://localhost/", stream)
            .await
            .unwrap();
        Self {
            socket,
            later: Vec::new(),
        }
    }

    pub async fn connect(server: &TestServer) -> Self {
        Self::connect_as(server, "test").await
    }

    pub async fn connect_as(server: &TestServer, name: &str) -> Self {
        let mut client = Self::raw(server).await;
        let hello = ClientHello {
            client: name.into(),
            ..hello()
        };
        client.send(&ClientMessage::Hello(hello)).await;
        assert!(matches!(client.next().await, WorkerMessage::Hello(_)));
        client
    }

    pub async fn send(&mut self, message: &ClientMessage) {
        self.send_bytes(encode(message).unwrap()).await;
    }

    pub async fn send_bytes(&mut self, bytes: Vec<u8>) {
        let message = Message::Binary(bytes.into());
        self.socket.send(message).await.unwrap();
    }

    /// The next message, or `None` once the socket is closed.
    pub async fn try_next(&mut self) -> Option<WorkerMessage> {
        loop {
            let message = tokio::time::timeout(Duration::from_secs(20), self.socket.next())
                .await
                .expect("the worker is silent");
            match message? {
                Ok(Message::Binary(bytes)) => return Some(decode_worker(&bytes).unwrap()),
                Ok(Message::Close(_)) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    }

    pub async fn next(&mut self) -> WorkerMessage {
        self.try_next().await.expect("the socket is closed")
    }

    /// The error of a refusal, after which the socket closes.
    pub async fn refusal(&mut self) -> WireError {
        loop {
            if let WorkerMessage::Refused { error, .. } = self.next().await {
                assert!(self.try_next().await.is_none());
                return error;
            }
        }
    }

    pub async fn submit(
        &mut self,
        job: u8,
        request: Request,
        tensors: Vec<(TensorHeader, Vec<u8>)>,
    ) {
        let (headers, data): (Vec<_>, Vec<_>) = tensors.into_iter().unzip();
        self.send(&ClientMessage::Submit {
            job: id(job),
            request,
            tensors: headers,
        })
        .await;
        for chunk in chunks(id(job), data.iter().map(Vec::as_slice)) {
            self.send(&ClientMessage::Chunk(chunk)).await;
        }
    }

    pub async fn denoise(&mut self, job: u8, steps: u32) {
        let tensors = vec![positive(), latent(2)];
        self.submit(job, denoise_request(job.into(), steps), tensors)
            .await;
    }

    pub async fn cancel(&mut self, job: u8) {
        self.send(&ClientMessage::Cancel { job: id(job) }).await;
    }

    /// The next message about a job, among those kept for later or new ones.
    async fn next_of(&mut self, job: JobId) -> WorkerMessage {
        if let Some(at) = self.later.iter().position(|m| job_of(m) == Some(job)) {
            return self.later.remove(at);
        }
        loop {
            let message = self.next().await;
            if job_of(&message) == Some(job) {
                return message;
            }
            self.later.push(message);
        }
    }

    /// Reads until the job ends; also gives its messages before that.
    pub async fn end(&mut self, job: u8) -> (End, Vec<WorkerMessage>) {
        let mut before = Vec::new();
        let mut result: Option<(Assembler, ovis_protocol::Outcome)> = None;
        loop {
            match self.next_of(id(job)).await {
                WorkerMessage::Done {
                    outcome, tensors, ..
                } => {
                    result = Some((Assembler::new(tensors).unwrap(), outcome));
                }
                WorkerMessage::Chunk(chunk) => {
                    let (mut assembler, outcome) = result.take().expect("Done comes first");
                    if assembler
                        .push(chunk.tensor, chunk.offset, &chunk.data)
                        .unwrap()
                    {
                        return (End::Done(assembler.finish(), outcome), before);
                    }
                    result = Some((assembler, outcome));
                }
                WorkerMessage::Failed { error, .. } => return (End::Failed(error), before),
                WorkerMessage::Cancelled { .. } => return (End::Cancelled, before),
                message => before.push(message),
            }
        }
    }
}
