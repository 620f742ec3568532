//! A client's messages as calls on its jobs.

use std::collections::HashMap;
use std::sync::Arc;

use ovis_protocol::{
    Assembler, Chunk, ClientMessage, ErrorCode, JobId, Request, TensorError, TensorHeader,
    WireError, WorkerMessage,
};
use uuid::Uuid;

use super::sender::Sender;
use super::tokens::{Roles, Verdict};
use super::{tensors, values};
use crate::jobs::{Admitted, Client, ClientId};

/// An admitted job whose tensors are still arriving.
struct Upload {
    request: Request,
    assembler: Assembler,
    admitted: Admitted,
}

/// Handles one connection's requests. Dropping it cancels the client's jobs.
pub struct Requests {
    client: Client,
    sender: Arc<Sender>,
    uploads: HashMap<Uuid, Upload>,
    roles: Roles,
}

impl Requests {
    /// Requests of `client`, which has these roles, answered through `sender`.
    pub fn new(client: Client, sender: Arc<Sender>, roles: Roles) -> Self {
        Self {
            client,
            sender,
            uploads: HashMap::new(),
            roles,
        }
    }

    /// The client's number.
    pub fn client(&self) -> ClientId {
        self.client.id()
    }

    /// Does what a message asks.
    ///
    /// # Errors
    /// The message is a second `Hello`, or a `Submit` with the UUID of an unfinished job. The
    /// connection must then end, as no answer could be told from the other job's events.
    pub async fn handle(&mut self, message: ClientMessage) -> Result<(), WireError> {
        match self.roles.judge(&message) {
            Verdict::Allowed => {}
            Verdict::Forbidden(answer) => {
                self.sender.push(*answer);
                return Ok(());
            }
            Verdict::Ignored => return Ok(()),
        }
        match message {
            ClientMessage::Hello(_) => {
                return Err(WireError::new(
                    ErrorCode::BadMessage,
                    "A second Hello came on this connection.",
                    "",
                ));
            }
            ClientMessage::Submit {
                job,
                request,
                tensors,
                options: _,
            } => {
                let job = Uuid::from_bytes(job);
                return self.submit(job, request, tensors).await;
            }
            ClientMessage::Chunk(chunk) => self.chunk(chunk).await,
            ClientMessage::Cancel { job } => self.cancel(Uuid::from_bytes(job)),
            ClientMessage::Status => {
                let status = self.client.jobs().status();
                self.sender.push(WorkerMessage::Status(status));
            }
            ClientMessage::Claim { job, received: _ } => self.claim(job),
            ClientMessage::Acknowledge { job: _ } => {}
        }
        Ok(())
    }

    async fn submit(
        &mut self,
        job: Uuid,
        request: Request,
        headers: Vec<TensorHeader>,
    ) -> Result<(), WireError> {
        if self.client.has(job) {
            // A Failed would be taken for the other job's end.
            return Err(WireError::new(
                ErrorCode::UnknownJob,
                "A Submit has the UUID of a job that has not ended.",
                "Choose a new UUID for every job.",
            ));
        }
        match self.admit(job, request, headers) {
            Ok(upload) if upload.assembler.is_complete() => self.queue(job, upload).await,
            Ok(upload) => {
                self.uploads.insert(job, upload);
            }
            Err(error) => self.refuse(job, error),
        }
        Ok(())
    }

    /// Checks everything that can be known of a job before its bytes arrive, and reserves what
    /// it needs.
    fn admit(
        &self,
        job: Uuid,
        request: Request,
        headers: Vec<TensorHeader>,
    ) -> Result<Upload, WireError> {
        let invalid = |e: TensorError| WireError::new(ErrorCode::InvalidRequest, sentence(&e), "");
        let announced = headers
            .iter()
            .map(TensorHeader::byte_len)
            .try_fold(0_u64, |sum, bytes| Ok(sum.saturating_add(bytes?)))
            .map_err(invalid)?;
        let assembler = Assembler::new(headers.clone()).map_err(invalid)?;
        tensors::check(&request, &headers, self.client.jobs().capabilities())?;
        let ask = tensors::ask(&request, &headers);
        let admitted = self.client.admit(job, announced, ask)?;
        Ok(Upload {
            request,
            assembler,
            admitted,
        })
    }

    async fn chunk(&mut self, chunk: Chunk) {
        let job = Uuid::from_bytes(chunk.job);
        let Some(upload) = self.uploads.get_mut(&job) else {
            // Chunks may still be on their way for a job that was refused or cancelled.
            if !self.client.may_know(job) {
                let error = WireError::new(
                    ErrorCode::UnknownJob,
                    "A chunk came for a job that was never submitted.",
                    "Submit the job before its chunks.",
                );
                self.refuse(job, error);
            }
            return;
        };
        let pushed = upload
            .assembler
            .push(chunk.tensor, chunk.offset, &chunk.data);
        if let Ok(false) = pushed {
            return;
        }
        let Some(upload) = self.uploads.remove(&job) else {
            return;
        };
        match pushed {
            Ok(_) => self.queue(job, upload).await,
            Err(error) => {
                let error = WireError::new(ErrorCode::BadMessage, sentence(&error), "");
                log_refusal(job, &error);
                self.client.fail(upload.admitted, error);
            }
        }
    }

    /// Queues a job whose tensors are complete.
    async fn queue(&mut self, job: Uuid, upload: Upload) {
        let Upload {
            request,
            assembler,
            admitted,
        } = upload;
        // Converting a large tensor takes long enough to delay other connections, so it runs
        // on a thread for blocking work.
        let work = tokio::task::spawn_blocking(move || values::work(request, assembler.finish()))
            .await
            .unwrap_or_else(|_| {
                Err(WireError::new(
                    ErrorCode::Internal,
                    "Reading the job's tensors failed unexpectedly.",
                    "This is a defect of the worker; its log says where.",
                ))
            });
        match work {
            Ok(work) => {
                if let Err(error) = self.client.submit(admitted, work) {
                    log_refusal(job, &error);
                }
            }
            Err(error) => {
                log_refusal(job, &error);
                self.client.fail(admitted, error);
            }
        }
    }

    fn cancel(&mut self, job: Uuid) {
        match self.uploads.remove(&job) {
            Some(upload) => self.client.withdraw(upload.admitted),
            None => self.client.cancel(job),
        }
    }

    fn claim(&self, job: JobId) {
        // A job of this connection need not be claimed, and a Failed would be taken for its
        // end.
        if !self.client.has(Uuid::from_bytes(job)) {
            let error = WireError::new(
                ErrorCode::UnknownJob,
                "This worker keeps no jobs of earlier connections.",
                "Submit the job again.",
            );
            self.sender.push(WorkerMessage::Failed { job, error });
        }
    }

    /// Answers a job that was not admitted.
    fn refuse(&self, job: Uuid, error: WireError) {
        log_refusal(job, &error);
        self.client.remember(job);
        let job = job.into_bytes();
        self.sender.push(WorkerMessage::Failed { job, error });
    }
}

fn log_refusal(job: Uuid, error: &WireError) {
    tracing::info!(%job, code = error.code.name(), %error, "job not accepted");
}

/// An error's text as a sentence.
fn sentence(error: &TensorError) -> String {
    let text = error.to_string();
    let mut letters = text.chars();
    match letters.next() {
        Some(first) => format!("{}{}.", first.to_uppercase(), letters.as_str()),
        None => text,
    }
}
