//! A client that checks what the server sends.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use ovis_protocol::limits::{MAGIC, PROTOCOL_VERSION, SECRET_BYTES};
use ovis_protocol::{
    chunks, decode_worker, encode, Assembler, ClientHello, ClientMessage, DType, DenoiseRequest,
    EncodeRequest, JobId, JobOptions, Request, TensorHeader, WireError, WorkerMessage,
};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::WebSocketStream;

use super::fake::{TestServer, WIDTH};

/// How a job ended.
#[derive(Debug)]
pub enum End {
    Done(Vec<(TensorHeader, Vec<u8>)>, ovis_protocol::Outcome),
    Failed(WireError),
    Cancelled,
}

pub struct Client {
    pub socket: WebSocketStream<TcpStream>,
    /// Messages of other jobs than the one that was waited for.
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
        WorkerMessage::State(part) => Some(part.job),
        _ => None,
    }
}

pub fn hello() -> ClientHello {
    ClientHello {
        magic: MAGIC,
        protocol: PROTOCOL_VERSION,
        client: "test".into(),
        token: None,
        secret: None,
    }
}

pub fn id(n: u8) -> JobId {
    [n; 16]
}

pub fn encode_request(name: &str, length: u32) -> Request {
    Request::Encode(EncodeRequest {
        prompts: vec![name.into()],
        max_sequence_length: length,
        adapters: vec![],
    })
}

pub fn denoise_request(seed: u64, steps: u32) -> Request {
    Request::Denoise(Box::new(DenoiseRequest::new(seed, steps, 1.0)))
}

/// A `Submit` without its chunks.
pub fn submit(job: u8, request: Request, tensors: Vec<TensorHeader>) -> ClientMessage {
    ClientMessage::Submit {
        job: id(job),
        request,
        tensors,
        options: JobOptions::default(),
    }
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
        Self::over(socket)
    }

    /// A client that uses this websocket.
    pub fn over(socket: WebSocketStream<TcpStream>) -> Self {
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

    /// A connection of the owner that a secret of this byte makes.
    pub async fn lasting(server: &TestServer, secret: u8) -> Self {
        let mut client = Self::raw(server).await;
        let hello = ClientHello {
            secret: Some([secret; SECRET_BYTES]),
            ..hello()
        };
        client.send(&ClientMessage::Hello(hello)).await;
        let WorkerMessage::Hello(hello) = client.next().await else {
            panic!("no hello");
        };
        assert_eq!(hello.keeping, server.jobs.keeping());
        client
    }

    pub async fn claim(&mut self, job: u8, received: u64) {
        let job = id(job);
        self.send(&ClientMessage::Claim { job, received }).await;
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
            options: JobOptions::default(),
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

    /// The next message of a job, from those kept for later or from the socket.
    pub async fn next_of(&mut self, job: JobId) -> WorkerMessage {
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

    /// Reads until the job ends, and acknowledges that. Also returns its earlier messages.
    pub async fn end(&mut self, job: u8) -> (End, Vec<WorkerMessage>) {
        let ended = self.end_unacknowledged(job).await;
        self.send(&ClientMessage::Acknowledge { job: id(job) })
            .await;
        ended
    }

    /// Reads until the job ends. Also returns its earlier messages.
    pub async fn end_unacknowledged(&mut self, job: u8) -> (End, Vec<WorkerMessage>) {
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
