//! One websocket, from hello to close.

use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use metrics::Counter;
use ovis_protocol::limits::{MAGIC, MAX_MESSAGE_BYTES, PROTOCOL_VERSION};
use ovis_protocol::{
    decode_client, encode, shown, ErrorCode, WireError, WorkerHello, WorkerMessage,
};
use tokio::task::JoinHandle;
use tokio::time::{timeout, timeout_at, Instant};
use tokio_tungstenite::tungstenite::error::ProtocolError;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Bytes, Error, Message};
use tokio_tungstenite::WebSocketStream;
use tracing::Instrument;

use super::connections::{ClientSlot, SilentSocket};
use super::context::{Context, Shutdown};
use super::handshake;
use super::http::Upgraded;
use super::options::WORKER;
use super::requests::Requests;
use super::sender::{Closing, Sender};
use super::stream::Stream;
use super::tokens::Identity;
use crate::jobs::{neighbourhood, Client, Owner, Party};

type Websocket = WebSocketStream<Stream>;

/// How long a client may take to read one message before it is dropped.
const WRITE_TIMEOUT: Duration = Duration::from_secs(60);

/// How long closing waits for the client's side to close. Closing at once could reset the
/// connection and lose what was sent last.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// Why a session ends.
enum End {
    /// The client closed, or its socket failed.
    Gone,
    /// The client was evicted: it does not read, and others need the memory.
    Evicted,
    /// The client sent something that ends the connection.
    Refuse(WireError),
    /// The worker ends, for this reason.
    ShuttingDown(&'static str),
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

const TEXT: &str = "A text message came; messages are binary.";

/// A websocket. Reading and writing run independently, so a slow reader does not keep its own
/// requests from being read.
struct Socket {
    stream: SplitStream<Websocket>,
    writer: JoinHandle<()>,
    sender: Arc<Sender>,
    close_timeout: Duration,
}

impl Socket {
    /// Sends the last message and closes.
    async fn close(mut self, end: End) {
        match end {
            End::Gone | End::Evicted => {
                self.sender.abandon();
                self.writer.abort();
                return;
            }
            End::Refuse(error) => {
                tracing::warn!(code = error.code.name(), %error, "connection refused");
                self.sender.push(refused(error));
                self.sender.close(Closing::Refused);
            }
            End::ShuttingDown(reason) => {
                self.sender.push(WorkerMessage::ShuttingDown {
                    reason: reason.into(),
                });
                self.sender.close(Closing::ShuttingDown);
            }
        }
        // Reading on lets the client's close arrive, and keeps bytes that it still sends from
        // resetting the connection.
        let drain = async { while let Some(Ok(_)) = self.stream.next().await {} };
        let writer = &mut self.writer;
        let both = async { tokio::join!(&mut *writer, timeout(CLOSE_TIMEOUT, drain)) };
        if timeout(self.close_timeout, both).await.is_err() {
            self.writer.abort();
        }
        self.sender.abandon();
    }
}

impl Drop for Socket {
    /// However the session ends, its writer ends too.
    fn drop(&mut self) {
        self.writer.abort();
    }
}

/// A client that has said hello.
pub struct Session {
    socket: Socket,
    requests: Requests,
    identity: Identity,
    ping_interval: Duration,
    received: Counter,
    _slot: ClientSlot,
}

/// Waits until `deadline` for the client's hello and answers it. `None` if the client was
/// refused or is gone.
pub async fn greet(
    upgraded: Upgraded,
    context: &Context,
    silent: &SilentSocket,
    deadline: Instant,
) -> Option<Session> {
    let config = WebSocketConfig::default()
        .max_message_size(Some(MAX_MESSAGE_BYTES))
        .max_frame_size(Some(MAX_MESSAGE_BYTES));
    let Upgraded { stream, read } = upgraded;
    let websocket =
        WebSocketStream::from_partially_read(stream, read, Role::Server, Some(config)).await;
    let (sink, stream) = websocket.split();
    let sender = Arc::new(Sender::new(context.jobs.subscribe()));
    let metrics = context.jobs.metrics();
    let sent = metrics.sent_bytes.clone();
    let writer = write(sink, sender.clone(), context.options.ping_interval, sent);
    let mut socket = Socket {
        stream,
        writer: tokio::spawn(writer.in_current_span()),
        sender,
        close_timeout: context.options.close_timeout,
    };
    let hello = timeout_at(deadline, first(&mut socket.stream)).await;
    let late = || {
        Err(End::Refuse(bad_message(
            "No Hello came within the handshake's time.",
        )))
    };
    let hello = hello.unwrap_or_else(|_| late()).and_then(|bytes| {
        let checked = handshake::check(&bytes, &context.options.tokens);
        let (hello, identity) = checked.map_err(|error| {
            metrics.count_error(error.code);
            // A client of another version is no attempt to get in.
            if error.code != ErrorCode::VersionMismatch {
                context.failures.note(silent.address);
            }
            End::Refuse(error)
        })?;
        let slot = silent.promote().map_err(End::Refuse)?;
        Ok((hello, identity, slot))
    });
    let (hello, identity, slot) = match hello {
        Ok(hello) => hello,
        Err(end) => {
            socket.close(end).await;
            return None;
        }
    };
    let name = shown(&hello.client);
    let token = identity.name().map(|name| &**name);
    tracing::info!(name, token, "hello");
    socket.sender.push(WorkerMessage::Hello(WorkerHello {
        magic: MAGIC,
        protocol: PROTOCOL_VERSION,
        worker: WORKER.into(),
        capabilities: context.jobs.capabilities().clone(),
        keeping: context.jobs.keeping(),
    }));
    let party = match identity.name() {
        Some(name) => Party::Token(name.clone()),
        None => Party::Address(neighbourhood(silent.address)),
    };
    let owner = match &hello.secret {
        Some(secret) => Owner::of_secret(party, name, secret),
        None => Owner::anonymous(party, name),
    };
    let client = Client::new(context.jobs.clone(), socket.sender.subscription(), owner);
    tracing::Span::current().record("client", client.id());
    Some(Session {
        requests: Requests::new(
            client,
            socket.sender.clone(),
            identity.roles(),
            context.options.adapters.clone(),
        ),
        identity,
        socket,
        ping_interval: context.options.ping_interval,
        received: metrics.received_bytes.clone(),
        _slot: slot,
    })
}

/// The first binary message.
async fn first(stream: &mut SplitStream<Websocket>) -> Result<Bytes, End> {
    loop {
        match stream.next().await {
            Some(Ok(Message::Binary(bytes))) => return Ok(bytes),
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
            Some(Ok(Message::Close(_))) | None => return Err(End::Gone),
            Some(Ok(_)) => return Err(End::Refuse(bad_message(TEXT))),
            Some(Err(error)) => return Err(broken(&error)),
        }
    }
}

/// How a session ends after an error of its socket.
fn broken(error: &Error) -> End {
    match error {
        Error::Capacity(_) => End::Refuse(bad_message(format!(
            "A message is larger than the limit of {MAX_MESSAGE_BYTES} bytes."
        ))),
        Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => End::Gone,
        Error::Protocol(_) | Error::Utf8(_) => End::Refuse(bad_message(
            "A frame does not keep to the websocket protocol.",
        )),
        _ => End::Gone,
    }
}

impl Session {
    /// Serves the client until either side closes.
    pub async fn run(mut self, mut leaving: Shutdown) {
        let client = self.requests.client();
        tracing::info!(client, "connected");
        let end = self.read(&mut leaving).await;
        if matches!(end, End::Evicted) {
            tracing::warn!(
                client,
                "dropped: it does not read, and others need the room"
            );
        }
        // The jobs of a client without a secret end before its last message is sent.
        drop(self.requests);
        tracing::info!(client, "disconnected");
        self.socket.close(end).await;
    }

    async fn read(&mut self, leaving: &mut Shutdown) -> End {
        let Socket { stream, sender, .. } = &mut self.socket;
        loop {
            // Back-pressure for a client that floods requests and reads no answers.
            tokio::select! {
                room = timeout(WRITE_TIMEOUT, sender.has_room()) => {
                    if room.is_err() {
                        return End::Gone;
                    }
                }
                () = sender.evicted() => return End::Evicted,
                () = self.identity.revoked() => return End::Refuse(handshake::revoked()),
                reason = shutdown(leaving) => return End::ShuttingDown(reason),
            }
            let silence = Instant::now() + 3 * self.ping_interval;
            let stalled = self.requests.next_timeout();
            let stalled = async {
                match stalled {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            let message = tokio::select! {
                () = stalled => {
                    self.requests.fail_stalled();
                    continue;
                }
                message = stream.next() => message,
                () = sender.evicted() => return End::Evicted,
                () = self.identity.revoked() => return End::Refuse(handshake::revoked()),
                reason = shutdown(leaving) => return End::ShuttingDown(reason),
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
                Some(Err(error)) => return broken(&error),
            };
            self.received.increment(bytes.len() as u64);
            let message = match decode_client(&bytes) {
                Ok(message) => message,
                Err(error) => {
                    return End::Refuse(bad_message(format!("A message cannot be read: {error}.")));
                }
            };
            if let Err(error) = self.requests.handle(message).await {
                return End::Refuse(error);
            }
        }
    }
}

/// Waits until the server closes its connections. Returns why.
async fn shutdown(leaving: &mut Shutdown) -> &'static str {
    match leaving.wait_for(Option::is_some).await {
        Ok(reason) => (*reason).unwrap_or_default(),
        // The server itself is gone.
        Err(_) => "The worker has ended.",
    }
}

/// Sends messages and pings until either side closes.
async fn write(
    mut sink: SplitSink<Websocket, Message>,
    sender: Arc<Sender>,
    ping: Duration,
    sent: Counter,
) {
    let mut pings = tokio::time::interval_at(Instant::now() + ping, ping);
    pings.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let message = tokio::select! {
            biased;
            _ = pings.tick() => Message::Ping(Vec::new().into()),
            message = sender.next() => match message.as_ref().map(encode) {
                Some(Ok(bytes)) => Message::Binary(bytes.into()),
                Some(Err(error)) => {
                    tracing::error!(%error, "a message cannot be sent");
                    break;
                }
                None => break,
            },
        };
        let bytes = message.len() as u64;
        match timeout(WRITE_TIMEOUT, sink.send(message)).await {
            Ok(Ok(())) => {
                sent.increment(bytes);
                sender.note_sent();
            }
            Ok(Err(_)) => return,
            Err(_) => {
                tracing::info!("the client does not read");
                return;
            }
        }
    }
    let code = match sender.closing() {
        Some(Closing::Refused) => CloseCode::Policy,
        Some(Closing::ShuttingDown) => CloseCode::Away,
        None => CloseCode::Error,
    };
    let close = Message::Close(Some(CloseFrame {
        code,
        reason: "".into(),
    }));
    let _ = timeout(CLOSE_TIMEOUT, sink.send(close)).await;
}
