//! One websocket from its handshake to its close.

use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use ovis_protocol::limits::{MAGIC, MAX_MESSAGE_BYTES, PROTOCOL_VERSION};
use ovis_protocol::{
    decode_client, encode, shown, ErrorCode, WireError, WorkerHello, WorkerMessage,
};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::{timeout, timeout_at, Instant};
use tokio_tungstenite::tungstenite::error::ProtocolError;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::WebSocketStream;

use super::gate::{Entry, Guest};
use super::handshake;
use super::http::Upgraded;
use super::outbox::{Closing, Outbox};
use super::requests::Requests;
use super::{House, Leaving, WORKER};
use crate::engine::Owner;

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
    /// The client does not read, and others need the room.
    Cut,
    /// The client sent what cannot be answered otherwise.
    Refuse(WireError),
    /// The worker is going away, for this reason.
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

/// A websocket whose two ends run apart from each other.
struct Ends {
    stream: SplitStream<Socket>,
    writer: JoinHandle<()>,
    outbox: Arc<Outbox>,
    close_timeout: Duration,
}

impl Ends {
    /// Says the last and closes.
    async fn close(mut self, end: End) {
        match end {
            End::Gone | End::Cut => {
                self.outbox.abandon();
                self.writer.abort();
                return;
            }
            End::Refuse(error) => {
                tracing::warn!(code = error.code.name(), %error, "connection refused");
                self.outbox.push(refused(error));
                self.outbox.close(Closing::Refused);
            }
            End::ShuttingDown(reason) => {
                self.outbox.push(WorkerMessage::ShuttingDown {
                    reason: reason.into(),
                });
                self.outbox.close(Closing::ShuttingDown);
            }
        }
        // Reading on lets the client's close arrive, and keeps bytes it still
        // sends from resetting the socket.
        let drain = async { while let Some(Ok(_)) = self.stream.next().await {} };
        let writer = &mut self.writer;
        let both = async { tokio::join!(&mut *writer, timeout(CLOSE_TIMEOUT, drain)) };
        if timeout(self.close_timeout, both).await.is_err() {
            self.writer.abort();
        }
        self.outbox.abandon();
    }
}

impl Drop for Ends {
    /// However the connection ends, so does its writer.
    fn drop(&mut self) {
        self.writer.abort();
    }
}

/// A client that has said hello.
pub struct Session {
    ends: Ends,
    requests: Requests,
    ping_interval: Duration,
    _entry: Entry,
}

/// Waits until `deadline` for the client's hello and answers it. Nothing where it is refused
/// or does not come.
pub async fn greet(
    upgraded: Upgraded,
    house: &House,
    guest: &Guest,
    deadline: Instant,
) -> Option<Session> {
    let config = WebSocketConfig::default()
        .max_message_size(Some(MAX_MESSAGE_BYTES))
        .max_frame_size(Some(MAX_MESSAGE_BYTES));
    let Upgraded { stream, read } = upgraded;
    let socket =
        WebSocketStream::from_partially_read(stream, read, Role::Server, Some(config)).await;
    let (sink, stream) = socket.split();
    let outbox = Outbox::new(&house.budget);
    let writer = write(sink, outbox.clone(), house.options.ping_interval);
    let mut ends = Ends {
        stream,
        writer: tokio::spawn(writer),
        outbox,
        close_timeout: house.options.close_timeout,
    };
    let hello = timeout_at(deadline, first(&mut ends.stream)).await;
    let late = || {
        Err(End::Refuse(bad_message(
            "No Hello came within the handshake's time.",
        )))
    };
    let hello = hello.unwrap_or_else(|_| late()).and_then(|bytes| {
        let token = house.options.token.as_ref();
        let hello = handshake::judge(&bytes, token).map_err(End::Refuse)?;
        let entry = guest.enter().map_err(End::Refuse)?;
        Ok((hello, entry))
    });
    let (hello, entry) = match hello {
        Ok(hello) => hello,
        Err(end) => {
            ends.close(end).await;
            return None;
        }
    };
    let name = shown(&hello.client);
    tracing::info!(name, "hello");
    ends.outbox.push(WorkerMessage::Hello(WorkerHello {
        magic: MAGIC,
        protocol: PROTOCOL_VERSION,
        worker: WORKER.into(),
        capabilities: house.engine.capabilities().clone(),
    }));
    let owner = Owner::new(guest.address, name);
    Some(Session {
        requests: Requests::new(house.engine.clone(), ends.outbox.clone(), owner),
        ends,
        ping_interval: house.options.ping_interval,
        _entry: entry,
    })
}

/// The first binary message.
async fn first(stream: &mut SplitStream<Socket>) -> Result<bytes::Bytes, End> {
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

/// How a session ends whose socket gives an error.
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
    /// Serves the client until it closes or `leaving` has a reason.
    pub async fn run(mut self, mut leaving: Leaving) {
        let client = self.requests.client();
        tracing::info!(client, "connected");
        let end = self.read(&mut leaving).await;
        if matches!(end, End::Cut) {
            tracing::warn!(
                client,
                "dropped: it does not read, and others need the room"
            );
        }
        // Its jobs end before its last message.
        drop(self.requests);
        tracing::info!(client, "disconnected");
        self.ends.close(end).await;
    }

    async fn read(&mut self, leaving: &mut Leaving) -> End {
        let Ends { stream, outbox, .. } = &mut self.ends;
        loop {
            // A client that floods questions and reads no answers waits here.
            tokio::select! {
                room = timeout(WRITE_TIMEOUT, outbox.has_room()) => {
                    if room.is_err() {
                        return End::Gone;
                    }
                }
                () = outbox.was_cut() => return End::Cut,
                reason = leave(leaving) => return End::ShuttingDown(reason),
            }
            let silence = Instant::now() + 3 * self.ping_interval;
            let message = tokio::select! {
                message = stream.next() => message,
                () = outbox.was_cut() => return End::Cut,
                reason = leave(leaving) => return End::ShuttingDown(reason),
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

/// Waits until the server leaves, and says why.
async fn leave(leaving: &mut Leaving) -> &'static str {
    match leaving.wait_for(Option::is_some).await {
        Ok(reason) => (*reason).unwrap_or_default(),
        // The server itself is gone.
        Err(_) => "The worker has ended.",
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
            Ok(Ok(())) => outbox.has_sent(),
            Ok(Err(_)) => return,
            Err(_) => {
                tracing::info!("the client does not read");
                return;
            }
        }
    }
    let code = match outbox.closing() {
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
