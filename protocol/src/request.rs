//! What a client can ask of a worker: the operations and their parameters.

use bincode::{Decode, Encode};

use crate::adapter::{AdapterUse, SigmaInterval};

/// The operation a job performs, with all its parameters except tensors.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub enum Request {
    /// `0`: Encodes prompts to `conditioning`.
    Encode(EncodeRequest),
    /// `1`: Denoises. Takes `positive`, `latent`, `negative` unless cfg is 1, and
    /// `noise_mask` for inpainting, and `state` to go on from; returns `latent`.
    Denoise(Box<DenoiseRequest>),
    /// `2`: Decodes `latent` (f32 `[B, 16, H/8, W/8]`, raw VAE latents) to `image` (f32
    /// `[B, H, W, 3]`, 0 to 1).
    Decode,
    /// `3`: Encodes `image` (f32 `[B, H, W, 3]`, 0 to 1) to `latent` (f32
    /// `[B, 16, H/8, W/8]`, raw VAE latents, the posterior's mean).
    VaeEncode,
}

impl Request {
    /// The operation's name, for logs, error messages and capabilities.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Encode(_) => "encode",
            Self::Denoise(_) => "denoise",
            Self::Decode => "decode",
            Self::VaeEncode => "vae-encode",
        }
    }
}

/// Prompts to encode to `conditioning` (f32 `[B, T, D]`).
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub struct EncodeRequest {
    /// One prompt for each batch entry, without the chat template.
    pub prompts: Vec<String>,
    /// Limits T. Up to 256, prompts are padded or truncated to exactly this many tokens.
    /// Above 256, nothing is truncated, and T is the length of the longest prompt, at
    /// least 256.
    pub max_sequence_length: u32,
    /// Adapters to apply, at most [`MAX_ADAPTERS`](crate::limits::MAX_ADAPTERS).
    pub adapters: Vec<AdapterUse>,
}

/// Parameters of a denoise job. Its tensors: `positive` and `negative` f32 `[1 or B, T, D]`,
/// `latent` f32 `[B, 16, H/8, W/8]` raw VAE latents (all zeros stand for an empty
/// latent), `noise_mask` f32 `[1 or B, H/8, W/8]`, 1 where the latent is to be denoised, and
/// `state` u8 `[N]`, from which the job goes on instead of beginning anew.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub struct DenoiseRequest {
    /// Seed of the initial noise, with the meaning it has in `torch.manual_seed`.
    pub seed: u64,
    /// Number of steps in the schedule.
    pub steps: u32,
    /// Guidance (CFG) scale; 1 skips the unconditional forward pass.
    pub cfg: f64,
    /// Solver: one of the capabilities' `samplers`.
    pub sampler: String,
    /// Where the sigmas come from.
    pub schedule: Schedule,
    /// Denoise strength, above 0 and at most 1; lower values keep more of the input latent.
    pub denoise: f64,
    /// ComfyUI's `batch_index`: which draw of the noise each batch entry takes.
    pub batch_index: Option<Vec<u64>>,
    /// The solver's options.
    pub options: SamplerOptions,
    /// The schedule's shift, as ComfyUI's ModelSamplingAuraFlow and ModelSamplingSD3 set it;
    /// `None` is the model's own, `exp(mu)` with mu linear in the number of image tokens.
    pub shift: Option<f64>,
    /// Number of steps to skip at the start of the schedule: KSamplerAdvanced's
    /// `start_at_step`.
    pub start_step: u32,
    /// The job ends before this step, if the schedule has it: KSamplerAdvanced's
    /// `end_at_step`.
    pub end_step: Option<u32>,
    /// Whether noise is added to the latent before the first step.
    pub add_noise: bool,
    /// Whether a job that ends before the schedule does returns the latent with its remaining
    /// noise. Otherwise the last step removes it.
    pub leftover_noise: bool,
    /// Which previews to send, if any.
    pub preview: Option<PreviewRequest>,
    /// Noise levels at which guidance is applied; `None` is all of them. At other levels
    /// the unconditional forward pass is skipped, as with a cfg of 1 (Kynkäänniemi et al. 2024,
    /// "Applying Guidance in a Limited Interval").
    pub guided: Option<SigmaInterval>,
    /// Whether a step may reuse results of earlier steps.
    pub cache: StepCaching,
    /// Adapters to apply, at most [`MAX_ADAPTERS`](crate::limits::MAX_ADAPTERS).
    pub adapters: Vec<AdapterUse>,
}

impl DenoiseRequest {
    /// A full run of `steps` steps on the model's own schedule with sampler `euler`: noise
    /// is added to the latent first, guidance applies to all steps, and no previews are sent.
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
            adapters: Vec::new(),
        }
    }
}

/// When a step reuses the output of the transformer's inner blocks from an earlier step
/// instead of computing it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub enum StepCaching {
    /// `0`: Never; every step is computed in full.
    #[default]
    Off,
    /// `1`: When the first block's output has changed very little.
    Safe,
    /// `2`: At a larger change too: faster, less exact.
    Fast,
}

/// Where the sigmas of a denoise job come from.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub enum Schedule {
    /// `0`: The scheduler `flux` with the request's shift: `linspace(1, 1/n, n)`, shifted.
    Auto,
    /// `1`: The scheduler `flux` with this constant shift; the request's shift is ignored.
    Shift(f64),
    /// `2`: These sigmas, unchanged: descending, one more than there are steps. `denoise`
    /// must be 1.
    Sigmas(Vec<f32>),
    /// `3`: One of the capabilities' `schedulers`, with the request's shift.
    Named(String),
}

/// Options of a solver. `None` selects the solver's default; a solver refuses an option
/// that it does not have.
#[derive(Clone, Debug, Default, PartialEq, Encode, Decode)]
pub struct SamplerOptions {
    /// Share of the noise that is replaced by new noise in each step: `euler_ancestral`,
    /// `dpmpp_2m_sde`, `dpmpp_sde`.
    pub eta: Option<f64>,
    /// Multiplier of the new noise: the same solvers as `eta`.
    pub s_noise: Option<f64>,
    /// Position of the intermediate evaluation within a step: `dpmpp_sde`.
    pub r: Option<f64>,
    /// Number of earlier derivatives the multistep formula uses: `lms`.
    pub order: Option<u32>,
    /// `midpoint` or `heun`: `dpmpp_2m_sde`. `bh1` or `bh2`: `uni_pc`.
    pub solver_type: Option<String>,
}

/// Which previews a denoise job sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct PreviewRequest {
    /// How a preview is computed.
    pub kind: PreviewKind,
    /// Most pixels along the longer side, 1 to
    /// [`MAX_PREVIEW_SIDE`](crate::limits::MAX_PREVIEW_SIDE).
    pub max_side: u32,
}

/// How a preview is computed from a latent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum PreviewKind {
    /// `0`: A linear projection of the latent channels to RGB, one pixel for each latent
    /// position.
    Linear,
    /// `1`: The VAE, on the latent reduced to a quarter of its width and height.
    Vae,
}

impl PreviewKind {
    /// The kind's name in the capabilities' `previews`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Linear => "linear",
            Self::Vae => "vae",
        }
    }
}
