//! The two message types, one for each direction, in the order in which a job meets them.
//!
//! A connection starts with a hello in each direction. Then the client submits jobs, each
//! under a UUID of its choice, and every message about a job carries that UUID. Variants and
//! fields are only ever appended, and only together with a new
//! [`PROTOCOL_VERSION`](crate::limits::PROTOCOL_VERSION).

use bincode::{Decode, Encode};

use crate::adapter::AdapterList;
use crate::chunk::Chunk;
use crate::error::WireError;
use crate::hello::{ClientHello, WorkerHello};
use crate::job::{JobId, JobOptions, Outcome, Preview, Progress, StatePart};
use crate::request::Request;
use crate::status::Status;
use crate::tensor::TensorHeader;

/// A message from a client to a worker.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub enum ClientMessage {
    /// `0`: First message of a connection.
    Hello(ClientHello),
    /// `1`: Submits a job. Its tensors follow in [`ClientMessage::Chunk`]s, one tensor after
    /// the other; the job is queued when the last byte has arrived. If the owner has a job
    /// with this UUID and this request, the message acts as [`ClientMessage::Claim`], and the
    /// job is computed once.
    Submit {
        /// The new job.
        job: JobId,
        /// The operation and its parameters.
        request: Request,
        /// The tensors that follow, under the names that the request defines.
        tensors: Vec<TensorHeader>,
        /// How the job is to be run.
        options: JobOptions,
    },
    /// `2`: Bytes of a submitted job's tensor.
    Chunk(Chunk),
    /// `3`: Cancels a job: at once while it is queued, before its next step while it runs.
    /// Answered by [`WorkerMessage::Cancelled`], or by the job's result if the job ended
    /// first.
    Cancel {
        /// The job to cancel.
        job: JobId,
    },
    /// `4`: Asks for a [`WorkerMessage::Status`].
    Status,
    /// `5`: Takes over a job of the same owner that another connection submitted. The worker
    /// answers with the job's present state, and sends all later messages about the job to this
    /// connection: [`WorkerMessage::Queued`], or [`WorkerMessage::Started`] and the latest
    /// progress, or the job's end. If there is no such job, it answers
    /// [`WorkerMessage::Failed`].
    Claim {
        /// The job to take over.
        job: JobId,
        /// Bytes of the result that the client already has: the result's chunks begin there.
        received: u64,
    },
    /// `6`: Acknowledges a job's end, result included. The worker then forgets the job.
    Acknowledge {
        /// The job.
        job: JobId,
    },
    /// `7`: Asks for the worker's adapters, in [`WorkerMessage::Adapters`].
    ListAdapters,
}

/// A message from a worker to a client.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub enum WorkerMessage {
    /// `0`: Accepts the client's hello.
    Hello(WorkerHello),
    /// `1`: Refuses the client's hello, or reports an error that ends the connection. The
    /// worker closes the socket after it.
    Refused {
        /// [`MAGIC`](crate::limits::MAGIC), so that a client of any version can tell that a
        /// worker answered.
        magic: u32,
        /// The worker's protocol version.
        protocol: u32,
        /// Why the connection ends.
        error: WireError,
    },
    /// `2`: The job is in the queue. Sent when the job is accepted and whenever its position
    /// changes.
    Queued {
        /// The job.
        job: JobId,
        /// Number of jobs that run before it; 0 when it is next.
        position: u32,
    },
    /// `3`: The job has started on the device.
    Started {
        /// The job.
        job: JobId,
    },
    /// `4`: A denoise step has ended.
    Progress(Progress),
    /// `5`: The job has succeeded. Its tensors follow in [`WorkerMessage::Chunk`]s, and the
    /// job is finished when the last byte has arrived.
    Done {
        /// The job.
        job: JobId,
        /// Timings and warnings.
        outcome: Outcome,
        /// The tensors that follow.
        tensors: Vec<TensorHeader>,
    },
    /// `6`: Bytes of a finished job's tensor.
    Chunk(Chunk),
    /// `7`: The job has failed. This is the last message about it.
    Failed {
        /// The job.
        job: JobId,
        /// Why it failed.
        error: WireError,
    },
    /// `8`: The job was cancelled by its owner. This is the last message about it.
    Cancelled {
        /// The job.
        job: JobId,
    },
    /// `9`: Answers [`ClientMessage::Status`].
    Status(Status),
    /// `10`: The worker is stopping. If its jobs are durable, they go on when it is back;
    /// otherwise those of this connection that have not ended have failed.
    ShuttingDown {
        /// Why the worker stops.
        reason: String,
    },
    /// `11`: A preview of a denoise job's image.
    Preview(Preview),
    /// `12`: A part of a denoise job's state, which the job's options ask for.
    State(StatePart),
    /// `13`: Answers [`ClientMessage::ListAdapters`], in one message or several.
    Adapters(AdapterList),
}
