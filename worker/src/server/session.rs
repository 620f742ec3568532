//! One websocket from its handshake to its close.

use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use ovis_protocol::limits::{MAGIC, MAX_MESSAGE_BYTES, PROTOCOL_VERSION};
use ovis_protocol::{decode_client, encode, ErrorCode, WireError, WorkerHello, WorkerMessage};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{timeout, Instant};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::WebSocketStream;

use super::handshake;
use super::outbox::Outbox;
use super::requests::Requests;
use super::{Options, WORKER};
use crate::engine::EngineHandle;

type Socket = WebSocketStream<TcpStream>;

/// How long a client may take to read one message before it counts as gone.
const WRITE_TIMEOUT: Duration = Duration::from_secs(60);

/// How long the close waits for the client's side, so that what was sent last
/// is not lost to a reset.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// Why a session ends.
enum End {
    /// The client closed, or its socket failed.
    Gone,
    /// The client sent what cannot be answered otherwise.
    Refuse(WireError),
    /// The worker is going away.
    ShuttingDown,
}

fn refused(error: WireError) -> WorkerMessage {
    WorkerMessage::Refused {
        magic: MAGIC,
        protocol: PROTOCOL_VERSION,
        error,
    }
}

fn bad_message(message: impl Into<String>) -> WireError {
    WireError::new(ErrorCode::BadMessage, message, "")
}

/// Serves one socket until it closes or `leaving` becomes true.
pub async fn run(
    stream: TcpStream,
    engine: EngineHandle,
    options: Arc<Options>,
    mut leaving: watch::Receiver<bool>,
) {
    let config = WebSocketConfig::default()
        .max_message_size(Some(MAX_MESSAGE_BYTES))
        .max_frame_size(Some(MAX_MESSAGE_BYTES));
    let upgrade = tokio_tungstenite::accept_async_with_config(stream, Some(config));
    let socket = match timeout(options.handshake_timeout, upgrade).await {
        Ok(Ok(socket)) => socket,
        Ok(Err(error)) => return tracing::debug!(%error, "no websocket"),
        Err(_) => return tracing::debug!("no websocket within the handshake's time"),
    };
    let (sink, mut stream) = socket.split();
    let outbox = Arc::new(Outbox::default());
    let writer = tokio::spawn(write(sink, outbox.clone(), options.ping_interval));

    let end = match greet(&mut stream, &engine, &options, &outbox).await {
        Ok(mut requests) => {
            let client = requests.client();
            tracing::info!(client, "connected");
            let end = read(&mut stream, &mut requests, &outbox, &options, &mut leaving).await;
            tracing::info!(client, "disconnected");
            end
        }
        Err(end) => end,
    };
    match end {
        End::Gone => {
            writer.abort();
            return;
        }
        End::Refuse(error) => {
            tracing::warn!(code = error.code.name(), %error, "connection refused");
            outbox.push(refused(error));
            outbox.close(false);
        }
        End::ShuttingDown => {
            outbox.push(WorkerMessage::ShuttingDown {
                reason: "The worker was asked to stop.".into(),
            });
            outbox.close(true);
        }
    }
    // Reading on lets the client's close arrive, and keeps bytes it still
    // sends from resetting the socket.
    let drain = async { while let Some(Ok(_)) = stream.next().await {} };
    let both = async { tokio::join!(writer, timeout(CLOSE_TIMEOUT, drain)) };
    let _ = timeout(options.close_timeout, both).await;
}

/// Waits for the client's hello and answers it.
async fn greet(
    stream: &mut SplitStream<Socket>,
    engine: &EngineHandle,
    options: &Options,
    outbox: &Arc<Outbox>,
) -> Result<Requests, End> {
    let first = async {
        loop {
            match stream.next().await {
                Some(Ok(Message::Binary(bytes))) => return Ok(bytes),
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                Some(Ok(Message::Close(_)) | Err(_)) | None => return Err(End::Gone),
                Some(Ok(_)) => return Err(End::Refuse(bad_message(TEXT))),
            }
        }
    };
    let bytes = timeout(options.handshake_timeout, first)
        .await
        .unwrap_or_else(|_| {
            Err(End::Refuse(bad_message(
                "No Hello came within the handshake's time.",
            )))
        })?;
    let hello = handshake::judge(&bytes, options.token.as_ref()).map_err(End::Refuse)?;
    let name: String = hello.client.chars().take(64).collect();
    tracing::info!(name, "hello");
    outbox.push(WorkerMessage::Hello(WorkerHello {
        magic: MAGIC,
        protocol: PROTOCOL_VERSION,
        worker: WORKER.into(),
        capabilities: engine.capabilities().clone(),
    }));
    Ok(Requests::new(engine.clone(), outbox.clone()))
}

const TEXT: &str = "A text message came; messages are binary.";

async fn read(
    stream: &mut SplitStream<Socket>,
    requests: &mut Requests,
    outbox: &Outbox,
    options: &Options,
    leaving: &mut watch::Receiver<bool>,
) -> End {
    loop {
        // A client that floods questions and reads no answers waits here.
        if timeout(WRITE_TIMEOUT, outbox.has_room()).await.is_err() {
            return End::Gone;
        }
        let silence = Instant::now() + 3 * options.ping_interval;
        let message = tokio::select! {
            message = stream.next() => message,
            // An error means that the server itself is gone.
            _ = leaving.wait_for(|leaving| *leaving) => return End::ShuttingDown,
            () = tokio::time::sleep_until(silence) => {
                tracing::info!("the client answers no pings");
                return End::Gone;
            }
        };
        let bytes = match message {
            Some(Ok(Message::Binary(bytes))) => bytes,
            Some(Ok(Message::Text(_))) => return End::Refuse(bad_message(TEXT)),
            Some(Ok(Message::Close(_))) | None => return End::Gone,
            Some(Ok(_)) => continue,
            Some(Err(Error::Capacity(_))) => {
                return End::Refuse(bad_message(format!(
                    "A message is larger than the limit of {MAX_MESSAGE_BYTES} bytes."
                )));
            }
            Some(Err(_)) => return End::Gone,
        };
        let message = match decode_client(&bytes) {
            Ok(message) => message,
            Err(error) => {
                return End::Refuse(bad_message(format!("A message cannot be read: {error}.")));
            }
        };
        if let Err(error) = requests.handle(message).await {
            return End::Refuse(error);
        }
    }
}

/// Sends what the outbox has, and pings, until either side closes.
async fn write(mut sink: SplitSink<Socket, Message>, outbox: Arc<Outbox>, ping: Duration) {
    let mut pings = tokio::time::interval_at(Instant::now() + ping, ping);
    pings.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let message = tokio::select! {
            biased;
            _ = pings.tick() => Message::Ping(Vec::new().into()),
            message = outbox.next() => match message.as_ref().map(encode) {
                Some(Ok(bytes)) => Message::Binary(bytes.into()),
                Some(Err(error)) => {
                    tracing::error!(%error, "a message cannot be sent");
                    break;
                }
                None => break,
            },
        };
        match timeout(WRITE_TIMEOUT, sink.send(message)).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return,
            Err(_) => {
                tracing::info!("the client does not read");
                return;
            }
        }
    }
    let _ = timeout(CLOSE_TIMEOUT, sink.close()).await;
}
