//! A connection without a socket. Only for the fuzz targets in `tests/fuzz`: it has no place in
//! the worker's interface and may change at any time.

use std::sync::Arc;

use futures_util::FutureExt;
use ovis_protocol::{decode_client, WorkerMessage};

use super::requests::Requests;
use super::sender::Sender;
use super::tokens::Roles;
use crate::jobs::{Client, Jobs, Owner};

/// A client that has said hello: its messages are handled, and its answers read, by the same
/// code as those of a websocket. Dropping it is what the end of a session is.
pub struct Connection {
    requests: Requests,
    sender: Arc<Sender>,
}

impl Connection {
    /// A client of `jobs` that speaks for `owner`.
    pub fn new(jobs: &Jobs, owner: Owner) -> Self {
        let sender = Arc::new(Sender::new(jobs.subscribe()));
        let client = Client::new(jobs.clone(), sender.subscription(), owner);
        Self {
            requests: Requests::new(client, sender.clone(), Roles::OPEN, None),
            sender,
        }
    }

    /// Handles a frame and says whether the connection goes on. Needs a Tokio runtime.
    pub async fn handle(&mut self, frame: &[u8]) -> bool {
        match decode_client(frame) {
            Ok(message) => self.requests.handle(message).await.is_ok(),
            Err(_) => false,
        }
    }

    /// What would be sent next, if anything waits.
    pub fn sent(&self) -> Option<WorkerMessage> {
        let sent = self.sender.next().now_or_never().flatten();
        if sent.is_some() {
            self.sender.note_sent();
        }
        sent
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.sender.abandon();
    }
}
