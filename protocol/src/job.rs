//! A job's identity, and what a worker reports about it while and after it runs.

use bincode::{Decode, Encode};

/// A job's UUID (version 4, chosen by the client), as its 16 bytes.
pub type JobId = [u8; 16];

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
