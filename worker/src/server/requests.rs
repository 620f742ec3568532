//! What a client's messages do, once it has said hello.

use std::collections::HashMap;
use std::sync::Arc;

use ovis_protocol::{
    Assembler, Chunk, ClientMessage, ErrorCode, JobId, Request, TensorError, TensorHeader,
    WireError, WorkerMessage,
};

use super::jobs::OpenJob;
use super::outbox::Outbox;
use super::sink::JobSink;
use super::{tensors, values};
use crate::engine::{ClientId, EngineHandle, Event, EventSink, Owner, Place, Reservation};

/// A submitted job whose tensors are still arriving, with all that it holds: its place in the
/// queue, and that among its connection's jobs.
struct Upload {
    request: Request,
    assembler: Assembler,
    place: Place,
    open: OpenJob,
    reservation: Reservation,
}

/// One connection's requests.
pub struct Requests {
    engine: EngineHandle,
    client: ClientId,
    owner: Owner,
    outbox: Arc<Outbox>,
    uploads: HashMap<JobId, Upload>,
}

impl Requests {
    /// A new client of `engine` whose answers go to `outbox`.
    pub fn new(engine: EngineHandle, outbox: Arc<Outbox>, owner: Owner) -> Self {
        Self {
            client: engine.new_client(),
            engine,
            owner,
            outbox,
            uploads: HashMap::new(),
        }
    }

    /// The engine's number for this client.
    pub fn client(&self) -> ClientId {
        self.client
    }

    /// Does what a message asks.
    ///
    /// # Errors
    /// The message ends the connection.
    pub async fn handle(&mut self, message: ClientMessage) -> Result<(), WireError> {
        match message {
            ClientMessage::Hello(_) => Err(WireError::new(
                ErrorCode::BadMessage,
                "A second Hello came on this connection.",
                "",
            )),
            ClientMessage::Submit {
                job,
                request,
                tensors,
            } => self.submit(job, request, tensors).await,
            ClientMessage::Chunk(chunk) => {
                self.chunk(chunk).await;
                Ok(())
            }
            ClientMessage::Cancel { job } => {
                match self.uploads.remove(&job) {
                    Some(upload) => self.end(job, upload.open, Event::Cancelled),
                    None => self.engine.cancel(self.client, job),
                }
                Ok(())
            }
            ClientMessage::Status => {
                let status = self.engine.status();
                self.outbox.push(WorkerMessage::Status(status));
                Ok(())
            }
            ClientMessage::Claim { job } => {
                // What is this connection's own need not be claimed, and a Failed would be
                // taken for its end.
                if !self.outbox.jobs.has(job) {
                    let error = WireError::new(
                        ErrorCode::UnknownJob,
                        "This worker keeps no jobs of earlier connections.",
                        "Submit the job again.",
                    );
                    self.outbox.push(WorkerMessage::Failed { job, error });
                }
                Ok(())
            }
        }
    }

    async fn submit(
        &mut self,
        job: JobId,
        request: Request,
        headers: Vec<TensorHeader>,
    ) -> Result<(), WireError> {
        if self.outbox.jobs.has(job) {
            // A Failed would be taken for the other job's end.
            return Err(WireError::new(
                ErrorCode::UnknownJob,
                "A Submit has the UUID of a job that has not ended.",
                "Choose a new UUID for every job.",
            ));
        }
        match self.accept(job, request, headers) {
            Ok(upload) if upload.assembler.is_complete() => self.queue(job, upload).await,
            Ok(upload) => {
                self.uploads.insert(job, upload);
            }
            Err(error) => self.refuse(job, error),
        }
        Ok(())
    }

    /// All that can be known of a job before its bytes arrive is judged here.
    fn accept(
        &self,
        job: JobId,
        request: Request,
        headers: Vec<TensorHeader>,
    ) -> Result<Upload, WireError> {
        let announced = headers
            .iter()
            .map(TensorHeader::byte_len)
            .try_fold(0_u64, |sum, bytes| Ok(sum.saturating_add(bytes?)))
            .map_err(|e: TensorError| {
                WireError::new(ErrorCode::InvalidRequest, sentence(&e), "")
            })?;
        let assembler = Assembler::new(headers.clone())
            .map_err(|e| WireError::new(ErrorCode::InvalidRequest, sentence(&e), ""))?;
        tensors::check(&request, &headers, self.engine.capabilities())?;
        let open = self.outbox.jobs.open(job, announced)?;
        let reservation = self.engine.admit(tensors::ask(&request, &headers))?;
        let place = self.engine.reserve(&self.owner, job)?;
        Ok(Upload {
            request,
            assembler,
            place,
            open,
            reservation,
        })
    }

    async fn chunk(&mut self, chunk: Chunk) {
        let job = chunk.job;
        let Some(upload) = self.uploads.get_mut(&job) else {
            if !self.outbox.jobs.passes_over(job) {
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
                self.fail(job, upload.open, error);
            }
        }
    }

    async fn queue(&mut self, job: JobId, upload: Upload) {
        let Upload {
            request,
            assembler,
            place,
            open,
            reservation,
        } = upload;
        // Converting a large tensor takes long enough to keep other sockets
        // waiting, so it has a thread of its own.
        let work = tokio::task::spawn_blocking(move || values::work(request, assembler.finish()))
            .await
            .unwrap_or_else(|_| {
                Err(WireError::new(
                    ErrorCode::Internal,
                    "Reading the job's tensors failed unexpectedly.",
                    "This is a defect of the worker; its log says where.",
                ))
            });
        let work = match work {
            Ok(work) => work,
            Err(error) => return self.fail(job, open, error),
        };
        let sink = Arc::new(JobSink::new(self.outbox.clone(), open));
        let queued = self
            .engine
            .submit(self.client, place, work, sink.clone(), reservation);
        if let Err(error) = queued {
            note(job, &error);
            sink.send(job, Event::Failed(error));
        }
    }

    /// Answers a job that was not taken, and holds nothing.
    fn refuse(&self, job: JobId, error: WireError) {
        note(job, &error);
        self.outbox.jobs.remember(job);
        self.outbox.push(WorkerMessage::Failed { job, error });
    }

    /// Ends a job that was taken and is not queued yet.
    fn fail(&self, job: JobId, open: OpenJob, error: WireError) {
        note(job, &error);
        self.end(job, open, Event::Failed(error));
    }

    fn end(&self, job: JobId, open: OpenJob, event: Event) {
        JobSink::new(self.outbox.clone(), open).send(job, event);
    }
}

fn note(job: JobId, error: &WireError) {
    tracing::info!(
        job = %uuid::Uuid::from_bytes(job),
        code = error.code.name(),
        %error,
        "job not accepted"
    );
}

impl Drop for Requests {
    /// However the connection ends, its jobs end with it.
    fn drop(&mut self) {
        self.engine.drop_client(self.client);
    }
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
