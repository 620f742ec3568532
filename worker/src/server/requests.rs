//! A client's messages as calls on its jobs.

use std::collections::HashMap;
use std::sync::Arc;

use ovis_protocol::{
    AdapterList, Assembler, Chunk, ClientMessage, ErrorCode, JobOptions, Request, TensorError,
    TensorHeader, WireError, WorkerMessage,
};
use tokio::time::Instant;
use uuid::Uuid;

use super::sender::Sender;
use super::tokens::{Roles, Verdict};
use super::upload::{Purpose, Upload, UPLOAD_PATIENCE};
use super::{adapters, job_options, tensors, upload, values};
use crate::jobs::{Admitted, Client, ClientId, Content, Found, Submission};
use crate::pipeline::AdapterLibrary;

/// Handles one connection's requests.
pub struct Requests {
    client: Client,
    sender: Arc<Sender>,
    uploads: HashMap<Uuid, Upload>,
    roles: Roles,
    adapters: Option<Arc<AdapterLibrary>>,
}

impl Requests {
    /// Requests of `client`, which has these roles, answered through `sender`. Jobs may name the
    /// adapters of a library.
    pub fn new(
        client: Client,
        sender: Arc<Sender>,
        roles: Roles,
        adapters: Option<Arc<AdapterLibrary>>,
    ) -> Self {
        Self {
            client,
            sender,
            uploads: HashMap::new(),
            roles,
            adapters,
        }
    }

    /// The client's number.
    pub fn client(&self) -> ClientId {
        self.client.id()
    }

    /// Does what a message asks.
    ///
    /// # Errors
    /// The message is a second `Hello`, or a `Submit` with the UUID of another job that this
    /// connection reads. The connection must then end, as no answer could be told from the other
    /// job's events.
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
                options,
            } => {
                let job = Uuid::from_bytes(job);
                return self.submit(job, request, tensors, options).await;
            }
            ClientMessage::Chunk(chunk) => return self.chunk(chunk).await,
            ClientMessage::Cancel { job } => self.cancel(Uuid::from_bytes(job)),
            ClientMessage::Status => {
                let status = self.client.jobs().status();
                self.sender.push(WorkerMessage::Status(status));
            }
            ClientMessage::Claim { job, received } => {
                let id = Uuid::from_bytes(job);
                // Of a job that is still being uploaded here, nothing is to be told yet.
                if !self.uploads.contains_key(&id) {
                    if let Err(error) = self.client.claim(id, received) {
                        self.sender.push(WorkerMessage::Failed { job, error });
                    }
                }
            }
            ClientMessage::Acknowledge { job } => {
                self.client.acknowledge(Uuid::from_bytes(job));
            }
            ClientMessage::ListAdapters => {
                let library = self.adapters.clone();
                let list = move || library.map_or_else(Vec::new, |library| library.list());
                let list = tokio::task::spawn_blocking(list).await;
                // A panic is logged by its hook.
                for part in AdapterList::parts(list.unwrap_or_default()) {
                    self.sender.push(WorkerMessage::Adapters(part));
                }
            }
        }
        Ok(())
    }

    /// When the first of the uploads has waited too long for its next chunk, if any is under
    /// way.
    pub fn next_timeout(&self) -> Option<Instant> {
        self.uploads.values().map(|upload| upload.timeout).min()
    }

    /// Fails the uploads that have waited too long for their next chunk.
    pub fn fail_stalled(&mut self) {
        let now = Instant::now();
        let stalled = self
            .uploads
            .extract_if(|_, upload| upload.timeout <= now)
            .collect::<Vec<_>>();
        for (job, upload) in stalled {
            let seconds = UPLOAD_PATIENCE.as_secs();
            let error = WireError::new(
                ErrorCode::BadMessage,
                format!("No chunk of the job's tensors came for {seconds} seconds."),
                "Send the job again over a connection that works.",
            );
            self.fail(job, upload.purpose, error);
        }
    }

    async fn submit(
        &mut self,
        job: Uuid,
        request: Request,
        headers: Vec<TensorHeader>,
        options: JobOptions,
    ) -> Result<(), WireError> {
        if self.uploads.contains_key(&job) {
            return Err(conflict());
        }
        let upload = match self.client.find(job) {
            Some(found) => repeat(request, options.model.as_deref(), headers, found.content),
            None => self.admit(job, request, headers, options),
        };
        match upload {
            Ok(upload) if upload.is_complete() => return self.complete(job, upload).await,
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
        options: JobOptions,
    ) -> Result<Upload, WireError> {
        let announced = headers
            .iter()
            .map(TensorHeader::byte_len)
            .try_fold(0_u64, |sum, bytes| Ok(sum.saturating_add(bytes?)))
            .map_err(|error: TensorError| upload::invalid(&error))?;
        let assembler = Assembler::new(headers.clone()).map_err(|error| upload::invalid(&error))?;
        job_options::check(&options)?;
        let model = self.client.jobs().models().find(options.model.as_deref())?;
        tensors::check(&request, &headers, &model.capabilities)?;
        if self.adapters.is_none() {
            adapters::find(&request, None)?;
        }
        let ask = tensors::ask(&request, &headers);
        let state = tensors::state_bytes(&headers);
        let admitted = self.client.admit(job, model, announced, ask, state)?;
        let name = options.model.clone();
        let purpose = Purpose::New(Box::new(admitted), Box::new(options));
        Upload::new(request, name.as_deref(), &headers, assembler, purpose)
    }

    async fn chunk(&mut self, chunk: Chunk) -> Result<(), WireError> {
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
            return Ok(());
        };
        let pushed = upload.push(&chunk);
        if let Ok(false) = pushed {
            return Ok(());
        }
        let Some(upload) = self.uploads.remove(&job) else {
            return Ok(());
        };
        match pushed {
            Ok(_) => self.complete(job, upload).await,
            Err(error) => {
                self.fail(job, upload.purpose, error);
                Ok(())
            }
        }
    }

    /// Queues a job whose tensors are complete, or claims the job that it repeats.
    async fn complete(&mut self, job: Uuid, upload: Upload) -> Result<(), WireError> {
        let Upload {
            request,
            assembler,
            hasher,
            purpose,
            begun,
            ..
        } = upload;
        let content = hasher.finish();
        self.client.jobs().metrics().upload_ended(begun.elapsed());
        let (admitted, options) = match purpose {
            Purpose::New(admitted, options) => (*admitted, *options),
            Purpose::Repeat(wanted) => {
                let found = self.client.find(job);
                return match found {
                    Some(Found { is_read_here, .. }) if content != wanted => {
                        if is_read_here {
                            return Err(conflict());
                        }
                        self.refuse(job, conflict());
                        Ok(())
                    }
                    // Without a job, which was acknowledged or has expired meanwhile, the
                    // claim's refusal is the answer.
                    _ => {
                        self.claim(job);
                        Ok(())
                    }
                };
            }
        };
        // Converting a large tensor takes long enough to delay other connections, so it runs
        // on a thread for blocking work.
        let (record, recorder) = (
            self.client
                .record(job, &admitted, &request, &options, content),
            self.client.jobs().recorder().clone(),
        );
        let library = self.adapters.clone();
        let default = self.client.jobs().models().default_model();
        // The adapters of another model are checked against it when the job begins.
        let is_default = Arc::ptr_eq(admitted.model(), default);
        let submission = move || {
            if is_default {
                adapters::find(&request, library.as_deref())?;
            }
            let tensors = assembler.finish();
            let is_journaled = recorder.accept(&record, &tensors);
            let work = values::work(request, tensors).inspect_err(|_| {
                recorder.forget(record.owner.id, record.id);
            })?;
            Ok(Submission {
                work,
                options,
                content,
                is_journaled,
            })
        };
        let submission = tokio::task::spawn_blocking(submission)
            .await
            .unwrap_or_else(|_| Err(defect()));
        match submission {
            Ok(submission) => {
                if let Err(error) = self.client.submit(admitted, submission) {
                    log_refusal(job, &error);
                    if error.code == ErrorCode::UnknownJob {
                        self.refuse(job, error);
                    }
                }
            }
            Err(error) => self.fail_admitted(job, admitted, error),
        }
        Ok(())
    }

    fn claim(&self, job: Uuid) {
        if let Err(error) = self.client.claim(job, 0) {
            self.refuse(job, error);
        }
    }

    fn cancel(&mut self, job: Uuid) {
        match self.uploads.remove(&job).map(|upload| upload.purpose) {
            Some(Purpose::New(admitted, _)) => self.client.withdraw(*admitted),
            Some(Purpose::Repeat(_)) | None => self.client.cancel(job),
        }
    }

    fn fail(&self, job: Uuid, purpose: Purpose, error: WireError) {
        match purpose {
            Purpose::New(admitted, _) => self.fail_admitted(job, *admitted, error),
            Purpose::Repeat(_) => self.refuse(job, error),
        }
    }

    fn fail_admitted(&self, job: Uuid, admitted: Admitted, error: WireError) {
        self.client.jobs().metrics().count_error(error.code);
        log_refusal(job, &error);
        self.client.fail(admitted, error);
    }

    /// Answers a job that was not admitted.
    fn refuse(&self, job: Uuid, error: WireError) {
        self.client.jobs().metrics().count_error(error.code);
        log_refusal(job, &error);
        self.client.remember(job);
        let job = job.into_bytes();
        self.sender.push(WorkerMessage::Failed { job, error });
    }
}

/// The upload of a job that is already there, whose tensors are compared with `content`.
fn repeat(
    request: Request,
    model: Option<&str>,
    headers: Vec<TensorHeader>,
    content: Content,
) -> Result<Upload, WireError> {
    let assembler =
        Assembler::discarding(headers.clone()).map_err(|error| upload::invalid(&error))?;
    Upload::new(
        request,
        model,
        &headers,
        assembler,
        Purpose::Repeat(content),
    )
}

fn log_refusal(job: Uuid, error: &WireError) {
    tracing::info!(%job, code = error.code.name(), %error, "job not accepted");
}

fn conflict() -> WireError {
    WireError::new(
        ErrorCode::Conflict,
        "A Submit has the UUID of another job of this client, which has another request or other \
         tensors.",
        "Choose a new UUID for every job.",
    )
}

fn defect() -> WireError {
    WireError::new(
        ErrorCode::Internal,
        "Reading the job's tensors failed unexpectedly.",
        "This is a defect of the worker; its log says where.",
    )
}
