//! A client of the worker's own server, which runs one job at a time.

use std::net::SocketAddr;

use futures_util::{SinkExt, StreamExt};
use ovis_protocol::limits::{MAGIC, PROTOCOL_VERSION};
use ovis_protocol::{
    chunks, decode_worker, encode, Assembler, ClientHello, ClientMessage, JobId, JobOptions,
    Outcome, Request, TensorHeader, WireError, WorkerMessage,
};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::WebSocketStream;

use crate::cli::error::CliError;

/// A tensor as it is sent: its header and its bytes.
pub type WireTensor = (TensorHeader, Vec<u8>);

/// An open connection, after the handshake.
pub struct Client {
    socket: WebSocketStream<TcpStream>,
    /// Number of jobs so far. Each takes its number as its id.
    jobs: u128,
}

impl Client {
    /// Connects and exchanges hellos.
    ///
    /// # Errors
    /// The connection fails, or the worker refuses it.
    pub async fn connect(address: SocketAddr) -> Result<Self, CliError> {
        let stream = TcpStream::connect(address).await.map_err(broken)?;
        stream.set_nodelay(true).map_err(broken)?;
        let (socket, _) = tokio_tungstenite::client_async("ws://localhost/", stream)
            .await
            .map_err(broken)?;
        let mut client = Self { socket, jobs: 0 };
        client
            .send(&ClientMessage::Hello(ClientHello {
                magic: MAGIC,
                protocol: PROTOCOL_VERSION,
                client: "ovis-worker bench".into(),
                token: None,
                secret: None,
            }))
            .await?;
        match client.next().await? {
            WorkerMessage::Hello(_) => Ok(client),
            _ => Err(broken("it does not say hello")),
        }
    }

    /// Runs a job and waits for its result: one tensor, and the outcome.
    ///
    /// # Errors
    /// The worker fails or refuses the job, or the connection breaks.
    pub async fn run(
        &mut self,
        request: Request,
        tensors: &[&WireTensor],
    ) -> Result<(WireTensor, Outcome), CliError> {
        self.jobs += 1;
        let job: JobId = self.jobs.to_le_bytes();
        let headers = tensors.iter().map(|(header, _)| header.clone()).collect();
        self.send(&ClientMessage::Submit {
            job,
            request,
            tensors: headers,
            options: JobOptions::default(),
        })
        .await?;
        for chunk in chunks(job, tensors.iter().map(|(_, bytes)| bytes.as_slice())) {
            self.send(&ClientMessage::Chunk(chunk)).await?;
        }
        let (outcome, headers) = loop {
            match self.next().await? {
                WorkerMessage::Done {
                    outcome, tensors, ..
                } => break (outcome, tensors),
                WorkerMessage::Failed { error, .. } | WorkerMessage::Refused { error, .. } => {
                    return Err(failed(error))
                }
                _ => {}
            }
        };
        let mut assembler = Assembler::new(headers).map_err(broken)?;
        while !assembler.is_complete() {
            if let WorkerMessage::Chunk(chunk) = self.next().await? {
                assembler
                    .push(chunk.tensor, chunk.offset, &chunk.data)
                    .map_err(broken)?;
            }
        }
        self.send(&ClientMessage::Acknowledge { job }).await?;
        let made = assembler.finish().pop();
        made.map(|tensor| (tensor, outcome))
            .ok_or_else(|| broken("a job has made no tensor"))
    }

    async fn send(&mut self, message: &ClientMessage) -> Result<(), CliError> {
        let bytes = encode(message).map_err(broken)?;
        let message = Message::Binary(bytes.into());
        self.socket.send(message).await.map_err(broken)
    }

    async fn next(&mut self) -> Result<WorkerMessage, CliError> {
        loop {
            match self.socket.next().await {
                Some(Ok(Message::Binary(bytes))) => return decode_worker(&bytes).map_err(broken),
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                Some(Err(error)) => return Err(broken(error)),
                Some(Ok(_)) | None => return Err(broken("the connection was closed")),
            }
        }
    }
}

fn broken(why: impl std::fmt::Display) -> CliError {
    CliError::new(format!("the worker's own server cannot be used: {why}"), "")
}

fn failed(error: WireError) -> CliError {
    CliError::new(error.message, error.hint)
}
