//! What a client's messages do, once it has said hello.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use ovis_protocol::{
    Assembler, Chunk, ClientMessage, ErrorCode, JobId, Request, TensorError, TensorHeader,
    WireError, WorkerMessage,
};

use super::outbox::Outbox;
use super::tensors;
use crate::engine::{ClientId, EngineHandle, Reservation};

/// How many jobs that need no more chunks are remembered, so that chunks that
/// were already under way for them are passed over.
const REMEMBERED: usize = 1024;

/// A submitted job whose tensors are still arriving.
struct Upload {
    request: Request,
    assembler: Assembler,
    reservation: Reservation,
}

/// One connection's requests.
pub struct Requests {
    engine: EngineHandle,
    client: ClientId,
    outbox: Arc<Outbox>,
    uploads: HashMap<JobId, Upload>,
    over: HashSet<JobId>,
    over_order: VecDeque<JobId>,
}

impl Requests {
    /// A new client of `engine` whose answers go to `outbox`.
    pub fn new(engine: EngineHandle, outbox: Arc<Outbox>) -> Self {
        Self {
            client: engine.new_client(),
            engine,
            outbox,
            uploads: HashMap::new(),
            over: HashSet::new(),
            over_order: VecDeque::new(),
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
                if self.uploads.remove(&job).is_some() {
                    self.forget(job);
                    self.outbox.push(WorkerMessage::Cancelled { job });
                } else {
                    self.engine.cancel(self.client, job);
                }
                Ok(())
            }
            ClientMessage::Status => {
                let status = self.engine.status();
                self.outbox.push(WorkerMessage::Status(status));
                Ok(())
            }
            ClientMessage::Claim { job } => {
                let error = WireError::new(
                    ErrorCode::UnknownJob,
                    "This worker keeps no jobs of earlier connections.",
                    "Submit the job again.",
                );
                self.outbox.push(WorkerMessage::Failed { job, error });
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
        if self.outbox.has_job(job) {
            // A Failed would be taken for the other job's end.
            return Err(WireError::new(
                ErrorCode::UnknownJob,
                "A Submit has the UUID of a job that has not ended.",
                "Choose a new UUID for every job.",
            ));
        }
        match self.accept(job, &request, headers) {
            Ok((assembler, reservation)) => {
                let is_complete = assembler.is_complete();
                let upload = Upload {
                    request,
                    assembler,
                    reservation,
                };
                match is_complete {
                    true => self.queue(job, upload).await,
                    false => drop(self.uploads.insert(job, upload)),
                }
            }
            Err(error) => self.fail(job, error),
        }
        Ok(())
    }

    fn accept(
        &self,
        job: JobId,
        request: &Request,
        headers: Vec<TensorHeader>,
    ) -> Result<(Assembler, Reservation), WireError> {
        let announced = headers
            .iter()
            .map(TensorHeader::byte_len)
            .sum::<Result<u64, TensorError>>()
            .map_err(|e| WireError::new(ErrorCode::InvalidRequest, sentence(&e), ""))?;
        let assembler = Assembler::new(headers.clone())
            .map_err(|e| WireError::new(ErrorCode::InvalidRequest, sentence(&e), ""))?;
        tensors::check(request, &headers, self.engine.capabilities())?;
        self.engine.admits(job)?;
        let reservation = self.engine.reserve(tensors::ask(request, &headers))?;
        self.outbox.open_job(job, announced)?;
        Ok((assembler, reservation))
    }

    async fn chunk(&mut self, chunk: Chunk) {
        let job = chunk.job;
        let Some(upload) = self.uploads.get_mut(&job) else {
            if !self.over.contains(&job) && !self.outbox.has_job(job) {
                let error = WireError::new(
                    ErrorCode::UnknownJob,
                    "A chunk came for a job that was never submitted.",
                    "Submit the job before its chunks.",
                );
                self.fail(job, error);
            }
            return;
        };
        match upload
            .assembler
            .push(chunk.tensor, chunk.offset, &chunk.data)
        {
            Ok(false) => {}
            Ok(true) => {
                if let Some(upload) = self.uploads.remove(&job) {
                    self.queue(job, upload).await;
                }
            }
            Err(error) => {
                self.uploads.remove(&job);
                self.fail(
                    job,
                    WireError::new(ErrorCode::BadMessage, sentence(&error), ""),
                );
            }
        }
    }

    async fn queue(&mut self, job: JobId, upload: Upload) {
        // Converting a large tensor takes long enough to keep other sockets
        // waiting, so it has a thread of its own.
        let Upload {
            request,
            assembler,
            reservation,
        } = upload;
        let work = tokio::task::spawn_blocking(move || tensors::work(request, assembler.finish()))
            .await
            .unwrap_or_else(|error| {
                Err(WireError::new(
                    ErrorCode::Internal,
                    format!("Reading the job's tensors failed: {error}."),
                    "",
                ))
            });
        let queued = work.and_then(|work| {
            self.engine
                .submit(self.client, job, work, self.outbox.clone(), reservation)
        });
        if let Err(error) = queued {
            self.fail(job, error);
        }
    }

    fn fail(&mut self, job: JobId, error: WireError) {
        tracing::info!(
            job = %uuid::Uuid::from_bytes(job),
            code = error.code.name(),
            %error,
            "job not accepted"
        );
        self.forget(job);
        self.outbox.push(WorkerMessage::Failed { job, error });
    }

    fn forget(&mut self, job: JobId) {
        if self.over.insert(job) {
            self.over_order.push_back(job);
        }
        if self.over_order.len() > REMEMBERED {
            if let Some(oldest) = self.over_order.pop_front() {
                self.over.remove(&oldest);
            }
        }
    }
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
