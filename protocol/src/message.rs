//! Every message, in the order a job meets them.
//!
//! A connection starts with a hello each way. Then a client submits jobs, each
//! under a UUID it chose, and every message about a job carries that UUID.
//! Variants and fields are only ever appended, and never without a new
//! [`PROTOCOL_VERSION`](crate::limits::PROTOCOL_VERSION).

use std::fmt;

use bincode::{Decode, Encode};

use crate::error::WireError;
use crate::tensor::TensorHeader;

/// A job's UUID (version 4, chosen by the client), as its 16 bytes.
pub type JobId = [u8; 16];

/// What a client sends.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub enum ClientMessage {
    /// `0`: First message of a connection.
    Hello(ClientHello),
    /// `1`: A new job. Its tensors follow in [`ClientMessage::Chunk`]s, one
    /// tensor after the other; the job is queued when the last byte is there.
    Submit {
        /// The new job.
        job: JobId,
        /// What to do.
        request: Request,
        /// The tensors that follow, named as the request says.
        tensors: Vec<TensorHeader>,
    },
    /// `2`: Bytes of a submitted job's tensor.
    Chunk(Chunk),
    /// `3`: Drop the job: at once when queued, before its next step when running.
    /// Answered by [`WorkerMessage::Cancelled`], or by the job's end if that
    /// came first.
    Cancel {
        /// The job to drop.
        job: JobId,
    },
    /// `4`: Ask for a [`WorkerMessage::Status`].
    Status,
    /// `5`: Reserved: take over a job that an earlier connection submitted. A
    /// worker whose capabilities lack `claim` answers [`WorkerMessage::Failed`].
    Claim {
        /// The job to take over.
        job: JobId,
    },
}

/// First message of a client. Its `Debug` form leaves the token out.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
pub struct ClientHello {
    /// [`MAGIC`](crate::limits::MAGIC).
    pub magic: u32,
    /// [`PROTOCOL_VERSION`](crate::limits::PROTOCOL_VERSION).
    pub protocol: u32,
    /// Name and version of the client, for logs.
    pub client: String,
    /// The worker's shared secret, when it asks for one.
    pub token: Option<String>,
}

impl fmt::Debug for ClientHello {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientHello")
            .field("magic", &self.magic)
            .field("protocol", &self.protocol)
            .field("client", &self.client)
            .finish_non_exhaustive()
    }
}

/// What a job does, with everything but its tensors.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub enum Request {
    /// `0`: Prompts to `conditioning`.
    Encode(EncodeRequest),
    /// `1`: `positive`, `latent` and, unless cfg is 1, `negative` (and, for
    /// inpainting, `noise_mask`) to `latent`.
    Denoise(Box<DenoiseRequest>),
    /// `2`: `latent` (f32 `[B, 16, H/8, W/8]`, raw VAE latents) to `image` (f32
    /// `[B, H, W, 3]`, 0 to 1).
    Decode,
    /// `3`: `image` (f32 `[B, H, W, 3]`, 0 to 1) to `latent` (f32
    /// `[B, 16, H/8, W/8]`, raw VAE latents, the posterior's mean).
    VaeEncode,
}

impl Request {
    /// The operation's name, for logs and sentences.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Encode(_) => "encode",
            Self::Denoise(_) => "denoise",
            Self::Decode => "decode",
            Self::VaeEncode => "vae-encode",
        }
    }
}

/// Prompts to turn into `conditioning` (f32 `[B, T, D]`).
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct EncodeRequest {
    /// The prompts, one a batch entry, without the chat template.
    pub prompts: Vec<String>,
    /// T. Up to 256 a longer prompt is cut to it; above, nothing is cut and T
    /// is as long as the longest prompt needs, at least 256.
    pub max_sequence_length: u32,
}

/// How to denoise. Tensors: `positive` and `negative` f32 `[1 or B, T, D]`,
/// `latent` f32 `[B, 16, H/8, W/8]` raw VAE latents (all zero means an empty
/// latent), `noise_mask` f32 `[1 or B, H/8, W/8]`, 1 where the latent is to be
/// denoised.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub struct DenoiseRequest {
    /// Seed of the initial noise, as `torch.manual_seed` takes it.
    pub seed: u64,
    /// Steps of the schedule.
    pub steps: u32,
    /// Guidance scale; 1 skips the unconditional branch.
    pub cfg: f64,
    /// Solver: one of the capabilities' `samplers`.
    pub sampler: String,
    /// Where the sigmas come from.
    pub schedule: Schedule,
    /// Share of the noise that is added and removed, above 0 and at most 1.
    pub denoise: f64,
    /// ComfyUI's `batch_index`: which draw of the noise each batch entry takes.
    pub batch_index: Option<Vec<u64>>,
    /// The solver's options.
    pub options: SamplerOptions,
    /// The model's shift, as ComfyUI's ModelSamplingAuraFlow /
    /// ModelSamplingSD3 set it; `None` for the model's own, which is `exp(mu)`
    /// with mu linear in the number of image tokens.
    pub shift: Option<f64>,
    /// Steps of the schedule to skip: KSamplerAdvanced's `start_at_step`.
    pub start_step: u32,
    /// The step before which the job ends, if that is before the last:
    /// KSamplerAdvanced's `end_at_step`.
    pub end_step: Option<u32>,
    /// Whether noise is added to the latent before the first step.
    pub add_noise: bool,
    /// Whether a job that ends early returns the noise that is still there,
    /// rather than removing it with its last step.
    pub leftover_noise: bool,
    /// Which previews to send, if any.
    pub preview: Option<PreviewRequest>,
    /// Where guidance is applied; `None` is everywhere. Elsewhere the unconditional
    /// branch is skipped, as with a cfg of 1.
    pub guided: Option<GuidanceInterval>,
    /// Whether steps may reuse work of those before.
    pub cache: StepCaching,
}

impl DenoiseRequest {
    /// A whole run of `steps` steps: sampler `euler`, the model's own schedule,
    /// noise added, without previews.
    pub fn new(seed: u64, steps: u32, cfg: f64) -> Self {
        Self {
            seed,
            steps,
            cfg,
            sampler: "euler".into(),
            schedule: Schedule::Auto,
            denoise: 1.0,
            batch_index: None,
            options: SamplerOptions::default(),
            shift: None,
            start_step: 0,
            end_step: None,
            add_noise: true,
            leftover_noise: false,
            preview: None,
            guided: None,
            cache: StepCaching::Off,
        }
    }
}

/// The noise levels at which guidance is applied, both included (Kynkäänniemi et al. 2024,
/// "Applying Guidance in a Limited Interval").
#[derive(Clone, Copy, Debug, PartialEq, Encode, Decode)]
pub struct GuidanceInterval {
    /// The first sigma, from 1 down.
    pub start: f64,
    /// The last one, not above `start`.
    pub end: f64,
}

/// How readily a step reuses what the transformer's inner blocks did in one before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub enum StepCaching {
    /// `0`: Never; the numbers are exact.
    #[default]
    Off,
    /// `1`: Where hardly anything changes.
    Safe,
    /// `2`: Where little changes.
    Fast,
}

/// Where the sigmas of a denoise job come from.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub enum Schedule {
    /// `0`: The scheduler `flux` with the request's shift: `linspace(1, 1/n, n)`,
    /// shifted.
    Auto,
    /// `1`: The scheduler `flux` with this constant shift, whatever the
    /// request's.
    Shift(f64),
    /// `2`: These sigmas as they are, descending, one more than the steps.
    /// `denoise` must be 1.
    Sigmas(Vec<f32>),
    /// `3`: One of the capabilities' `schedulers`, with the request's shift.
    Named(String),
}

/// Options of a solver. `None` is its default; a solver refuses what it does
/// not have.
#[derive(Clone, Debug, Default, PartialEq, Encode, Decode)]
pub struct SamplerOptions {
    /// How much of the noise is new: `euler_ancestral`, `dpmpp_2m_sde`,
    /// `dpmpp_sde`.
    pub eta: Option<f64>,
    /// Strength of the new noise: as `eta`.
    pub s_noise: Option<f64>,
    /// Where in a step the second evaluation stands: `dpmpp_sde`.
    pub r: Option<f64>,
    /// How many slopes are remembered: `lms`.
    pub order: Option<u32>,
    /// `midpoint` or `heun`: `dpmpp_2m_sde`. `bh1` or `bh2`: `uni_pc`.
    pub solver_type: Option<String>,
}

/// Which previews a denoise job sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct PreviewRequest {
    /// How they are made.
    pub kind: PreviewKind,
    /// Most pixels along the longer side, 1 to
    /// [`MAX_PREVIEW_SIDE`](crate::limits::MAX_PREVIEW_SIDE).
    pub max_side: u32,
}

/// How a preview is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum PreviewKind {
    /// `0`: A linear projection of the latents, a pixel a latent position.
    Linear,
    /// `1`: The VAE, on latents of a quarter of the width and height.
    Vae,
}

impl PreviewKind {
    /// Its name in the capabilities' `previews`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Linear => "linear",
            Self::Vae => "vae",
        }
    }
}

/// Bytes of a tensor. Tensors come in the order of their headers, and each
/// from its first byte to its last.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Chunk {
    /// The job the tensor belongs to.
    pub job: JobId,
    /// Which of the message's headers, from 0.
    pub tensor: u32,
    /// Where in the tensor these bytes belong.
    pub offset: u64,
    /// The bytes: 1 to [`MAX_CHUNK_BYTES`](crate::limits::MAX_CHUNK_BYTES).
    pub data: Vec<u8>,
}

/// What a worker sends.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub enum WorkerMessage {
    /// `0`: Answer to a hello that is accepted.
    Hello(WorkerHello),
    /// `1`: Answer to a hello that is not, and to a message that ends the
    /// connection; the socket is closed after it.
    Refused {
        /// [`MAGIC`](crate::limits::MAGIC), so that a client of any version
        /// can tell what answered.
        magic: u32,
        /// The worker's protocol version.
        protocol: u32,
        /// Why.
        error: WireError,
    },
    /// `2`: The job waits: `position` jobs run before it (0: it is next). Sent
    /// when it is accepted and whenever that changes.
    Queued {
        /// The job.
        job: JobId,
        /// How many jobs run before it.
        position: u32,
    },
    /// `3`: The job has the device.
    Started {
        /// The job.
        job: JobId,
    },
    /// `4`: A denoise step has ended.
    Progress(Progress),
    /// `5`: The job is done; its tensors follow in [`WorkerMessage::Chunk`]s, and
    /// it is finished when the last byte is there.
    Done {
        /// The job.
        job: JobId,
        /// What is worth saying beside the tensors.
        outcome: Outcome,
        /// The tensors that follow.
        tensors: Vec<TensorHeader>,
    },
    /// `6`: Bytes of a finished job's tensor.
    Chunk(Chunk),
    /// `7`: The job has failed; nothing more comes of it.
    Failed {
        /// The job.
        job: JobId,
        /// Why.
        error: WireError,
    },
    /// `8`: The job was dropped because its client asked; nothing more comes.
    Cancelled {
        /// The job.
        job: JobId,
    },
    /// `9`: How the worker is.
    Status(Status),
    /// `10`: The worker is going away; jobs of this connection that have not
    /// ended have failed.
    ShuttingDown {
        /// Why.
        reason: String,
    },
    /// `11`: What a denoise job's image looks like so far.
    Preview(Preview),
}

/// First message of a worker.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct WorkerHello {
    /// [`MAGIC`](crate::limits::MAGIC).
    pub magic: u32,
    /// [`PROTOCOL_VERSION`](crate::limits::PROTOCOL_VERSION).
    pub protocol: u32,
    /// Name and version of the worker.
    pub worker: String,
    /// What it can do.
    pub capabilities: Capabilities,
}

/// What a worker can do with the checkpoint it has loaded.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Capabilities {
    /// Operations by [`Request::name`], and `claim` when jobs can be claimed.
    pub operations: Vec<String>,
    /// Solvers a denoise job may name.
    pub samplers: Vec<String>,
    /// A name for the loaded model, for people.
    pub model: String,
    /// The device, for people: `cpu`, `cuda:0 NVIDIA H200`.
    pub device: String,
    /// Precision of weights and arithmetic, for people: `f32`, `bf16`, `fp8`.
    pub precision: String,
    /// Channels of a latent.
    pub latent_channels: u32,
    /// D of a conditioning.
    pub conditioning_width: u32,
    /// Width and height must be multiples of this many pixels.
    pub size_multiple: u32,
    /// Most pixels (width times height times batch) one job may have.
    pub max_pixels: u64,
    /// Schedulers a denoise job may name.
    pub schedulers: Vec<String>,
    /// Kinds of preview a denoise job may ask for, by [`PreviewKind::name`].
    pub previews: Vec<String>,
}

/// How far a denoise job is.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub struct Progress {
    /// The job.
    pub job: JobId,
    /// Steps done, from 1.
    pub step: u32,
    /// Steps in all.
    pub total: u32,
    /// Sigma the latent has now.
    pub sigma: f32,
    /// Estimate of the seconds left.
    pub seconds_left: f32,
}

/// What the first image of a denoise job's batch looks like before a step.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Preview {
    /// The job.
    pub job: JobId,
    /// The step that was taken from there, from 1.
    pub step: u32,
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// Red, green and blue bytes, row by row from the top.
    pub data: Vec<u8>,
}

/// What is worth saying beside a job's tensors.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub struct Outcome {
    /// Seconds the job waited for the device.
    pub seconds_queued: f32,
    /// Seconds it took there.
    pub seconds_running: f32,
    /// Prompts that were cut, for an encode job.
    pub cuts: Vec<PromptCut>,
}

/// A prompt that did not fit.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct PromptCut {
    /// Which of the request's prompts, from 0.
    pub prompt: u32,
    /// How many of the prompt's own tokens were lost; 0 when only the chat
    /// template's ending was.
    pub lost_tokens: u32,
    /// How many tokens of the template's ending were lost.
    pub lost_template_tokens: u32,
}

/// How a worker is.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub struct Status {
    /// Jobs waiting.
    pub queued: u32,
    /// Jobs on the device.
    pub running: u32,
    /// Jobs ended since the start.
    pub finished: u64,
    /// Seconds since the start.
    pub uptime_seconds: f64,
    /// Bytes of device memory in use, 0 when unknown.
    pub device_bytes_used: u64,
    /// Bytes of device memory, 0 when unknown.
    pub device_bytes_total: u64,
}
