//! A job's identity, and what a worker reports about it while and after it runs.

use bincode::{Decode, Encode};

/// A job's UUID, chosen by the client and unique among its owner's jobs, as its 16 bytes.
pub type JobId = [u8; 16];

/// How a job is to be run. The default is what a client needs that has no wishes.
#[derive(Clone, Debug, Default, PartialEq, Encode, Decode)]
pub struct JobOptions {
    /// Which of the owner's own waiting jobs comes first.
    pub priority: Priority,
    /// Seconds after its submission at which the job fails with
    /// [`DeadlineExceeded`](crate::ErrorCode::DeadlineExceeded) unless it is done.
    pub deadline: Option<f64>,
    /// When to send the state of a denoise job, if at all.
    pub state: Option<StateInterval>,
    /// The trace that the job belongs to: the W3C header `traceparent`.
    pub trace: Option<String>,
    /// The model that runs the job, by its name in the capabilities' `models`; `None` is the
    /// default. Another model makes it another job.
    pub model: Option<String>,
}

/// The order of one owner's waiting jobs. It does not change the owner's share of the device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub enum Priority {
    /// `0`: After the owner's other jobs.
    Low,
    /// `1`: In the order of submission.
    #[default]
    Normal,
    /// `2`: Before the owner's other jobs.
    High,
}

/// How often a denoise job's state is sent: after a step when either interval has passed. 0
/// turns an interval off.
#[derive(Clone, Copy, Debug, PartialEq, Encode, Decode)]
pub struct StateInterval {
    /// Steps from one state to the next.
    pub steps: u32,
    /// Seconds from one state to the next.
    pub seconds: f64,
}

/// A part of a denoise job's state after a step. Parts are sent in order, and a state is
/// complete when its last byte has arrived. The same or another worker with the same model goes
/// on from it when it comes as the tensor `state` of a job with the same request and tensors.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct StatePart {
    /// The job.
    pub job: JobId,
    /// Number of steps that the state includes.
    pub step: u32,
    /// Size of the whole state in bytes.
    pub size: u64,
    /// Offset of `data` in the state, in bytes.
    pub offset: u64,
    /// 1 to [`MAX_CHUNK_BYTES`](crate::limits::MAX_CHUNK_BYTES) bytes.
    pub data: Vec<u8>,
}

/// How far a denoise job has got; sent after every step.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub struct Progress {
    /// The job.
    pub job: JobId,
    /// Number of steps done, from 1.
    pub step: u32,
    /// Number of steps the job takes in total.
    pub total: u32,
    /// Noise level of the latent after this step.
    pub sigma: f32,
    /// Estimated seconds until the last step is done.
    pub seconds_left: f32,
}

/// A small picture of what a denoise job is about to produce, for the first image of its
/// batch. It shows the model's estimate of the finished image as predicted in one step.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Preview {
    /// The job.
    pub job: JobId,
    /// The step whose prediction this is, from 1.
    pub step: u32,
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// `height * width * 3` bytes: red, green and blue of each pixel, row by row from the top.
    pub data: Vec<u8>,
}

/// What a finished job reports besides its tensors.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub struct Outcome {
    /// Seconds the job waited in the queue.
    pub seconds_queued: f32,
    /// Seconds the job ran on the device.
    pub seconds_running: f32,
    /// Prompts that were truncated; empty unless this was an encode job.
    pub cuts: Vec<PromptCut>,
}

/// A prompt that was truncated because it has more tokens than the request allows.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct PromptCut {
    /// Index of the prompt in the request, from 0.
    pub prompt: u32,
    /// How many of the prompt's own tokens were dropped; 0 when only tokens of the chat
    /// template's suffix were.
    pub lost_tokens: u32,
    /// How many tokens of the chat template's suffix were dropped.
    pub lost_template_tokens: u32,
}
