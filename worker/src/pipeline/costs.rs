//! What a job takes before it runs: bytes of memory, by its shapes alone.
//!
//! The figures are upper estimates of what the plain expressions in `layers` and `models`
//! hold at their worst moment; fused kernels hold less.

use std::sync::Arc;

use candle_core::Device;
use ovis_protocol::{DenoiseRequest, StepCaching};
use tokenizers::Tokenizer;

use super::denoise::SIGMAS_A_PORTION;
use super::load::Pipeline;
use super::prompt::{most_positions, tokenize, MAX_CUT_LENGTH};
use crate::checkpoint::{MmditConfig, Qwen3Config};
use crate::models::vae::VaeMemory;
use crate::nn::{MAX_SCORES, MAX_SCORES_ON_CPU};

/// Bytes that one value takes on the host: float32.
const HOST_VALUE: u64 = 4;

/// A job by its shapes.
#[derive(Clone, Copy, Debug)]
pub enum Ask<'a> {
    /// Prompts to conditioning.
    Encode {
        /// The prompts.
        prompts: &'a [String],
        /// The request's `max_sequence_length`.
        max_sequence_length: usize,
    },
    /// Conditioning and latent to latent.
    Denoise {
        /// What is asked for.
        request: &'a DenoiseRequest,
        /// The latent, `[B, C, H/8, W/8]`.
        latent: [usize; 4],
        /// Positions of the longest conditioning.
        text: usize,
    },
    /// Latent to image.
    Decode {
        /// The latent, `[B, C, H/8, W/8]`.
        latent: [usize; 4],
    },
    /// Image to latent.
    VaeEncode {
        /// Batch, height and width in pixels.
        image: [usize; 3],
    },
}

/// Bytes that a job takes. On a CPU all of them are the host's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Of host memory, for its tensors and its result, from its submission to its end.
    pub host: u64,
    /// Of its device's memory between two of its steps.
    pub kept: u64,
    /// Of its device's memory, more than `kept`, while one of its operations runs.
    pub working: u64,
    /// Of its result, as it is sent.
    pub result: u64,
}

impl Cost {
    /// Of its device's memory, at the most.
    pub fn device(&self) -> u64 {
        self.kept.saturating_add(self.working)
    }
}

/// Tells what jobs take. It holds no weights, so any thread may ask it.
#[derive(Clone)]
pub struct Costs {
    text: Option<(Qwen3Config, Arc<Tokenizer>)>,
    transformer: Option<MmditConfig>,
    vae: Option<VaeMemory>,
    on_cpu: bool,
    /// Bytes of a value that is computed with.
    value: u64,
    /// Bytes of a value of the weights, which a CPU widens for each product.
    weight: u64,
}

/// A product that ends at the largest number instead of wrapping around.
fn product(factors: &[usize]) -> u64 {
    let factors = factors.iter().map(|&factor| factor as u64);
    factors.fold(1, u64::saturating_mul)
}

fn sum(terms: &[u64]) -> u64 {
    terms.iter().fold(0, |sum, &term| sum.saturating_add(term))
}

impl Costs {
    /// Of a loaded model's jobs.
    pub(super) fn of(pipeline: &Pipeline) -> Self {
        let placement = pipeline.placement();
        Self {
            text: pipeline.text_costs(),
            transformer: pipeline.denoiser().ok().map(|model| model.config().clone()),
            vae: pipeline.vae_memory(),
            on_cpu: matches!(placement.device, Device::Cpu),
            value: placement.compute().size_in_bytes() as u64,
            weight: placement.weights.size_in_bytes() as u64,
        }
    }

    /// What a job takes. A part that is not loaded costs nothing: its jobs are refused for
    /// that reason.
    pub fn cost(&self, ask: Ask) -> Cost {
        match ask {
            Ask::Encode {
                prompts,
                max_sequence_length,
            } => self.encode(prompts, max_sequence_length),
            Ask::Denoise {
                request,
                latent,
                text,
            } => self.denoise(request, latent, text),
            Ask::Decode { latent } => self.decode(latent),
            Ask::VaeEncode { image } => self.vae_encode(image),
        }
    }

    /// Attention scores of `heads` heads over `length` positions, which a CPU holds three
    /// times over in pieces, with the heads of keys and values repeated; on a GPU a fused
    /// kernel holds none, or the plain expression a piece.
    fn attention(&self, heads: usize, head_dim: usize, length: usize, batch: usize) -> u64 {
        let scores = product(&[batch, heads, length, length]);
        let heads = product(&[batch, heads, length, head_dim]);
        match self.on_cpu {
            true => sum(&[
                3 * scores.min(MAX_SCORES_ON_CPU as u64),
                heads.saturating_mul(4),
            ]),
            false => sum(&[scores.min(MAX_SCORES as u64), heads]),
        }
    }

    /// A weight widened for its product, on a CPU that keeps it narrower.
    fn widened(&self, values: u64) -> u64 {
        match self.on_cpu && self.weight < self.value {
            true => values.saturating_mul(self.value),
            false => 0,
        }
    }

    fn encode(&self, prompts: &[String], max_sequence_length: usize) -> Cost {
        let Some((config, tokenizer)) = &self.text else {
            return Cost::default();
        };
        let positions = |prompt: &String| most_positions(prompt, max_sequence_length);
        let estimate = |longest: usize| self.encoded(config, prompts.len(), longest);
        let bound = estimate(prompts.iter().map(positions).max().unwrap_or(0));
        if bound.device().saturating_add(bound.host) < SMALL {
            return bound;
        }
        // A byte a token is the worst there is; the true count is worth its time here.
        let counted = |prompt: &String| match tokenize(tokenizer, prompt, max_sequence_length) {
            Ok(tokenized) => tokenized.ids.len(),
            Err(_) => positions(prompt),
        };
        estimate(prompts.iter().map(counted).max().unwrap_or(0))
    }

    /// Prompts of which the longest has `length` positions, the template included.
    fn encoded(&self, config: &Qwen3Config, prompts: usize, length: usize) -> Cost {
        let result = product(&[prompts, length.max(MAX_CUT_LENGTH), config.hidden_size]);
        let result = result.saturating_mul(HOST_VALUE);
        let projected = (config.num_heads + 2 * config.num_kv_heads) * config.head_dim;
        // The stream and its norm; q, k and v as projected and by heads, and what they attend
        // to; or both halves of the MLP and their product.
        let attended = 2 * projected + config.num_heads * config.head_dim;
        let width = 3 * config.hidden_size + attended.max(3 * config.intermediate_size);
        let attention = self.attention(config.num_heads, config.head_dim, length, 1);
        let values = sum(&[product(&[length, width]), attention]);
        let largest = product(&[config.hidden_size, 2 * config.intermediate_size]);
        let working = sum(&[values.saturating_mul(self.value), self.widened(largest)]);
        Cost {
            // A row a prompt, then all of them together.
            host: result.saturating_mul(2),
            kept: 0,
            working,
            result,
        }
    }

    fn denoise(&self, request: &DenoiseRequest, latent: [usize; 4], text: usize) -> Cost {
        let Some(config) = &self.transformer else {
            return Cost::default();
        };
        let [batch, _, height, width] = latent;
        let (hidden, inner) = (config.hidden_size, config.mlp_hidden);
        let latents = product(&latent);
        let image_tokens = product(&[height / 2, width / 2]) as usize;
        let branches = if request.cfg == 1.0 { 1 } else { 2 };
        let texts = product(&[batch, branches, text]);
        // As sent and as float32; the latent also as noise, scaled and as the result.
        let conditioning = texts.saturating_mul(config.context_dim as u64);
        let host = sum(&[conditioning.saturating_mul(2), latents.saturating_mul(6)]);
        // The transformer's text, of both branches also together; the latents that the solver
        // and the mask remember; a portion of the modulations; what a step cache keeps.
        let text_kept = texts.saturating_mul(2 * hidden as u64);
        let blocks = 12 * config.depth_double + 3 * config.depth_single + 2;
        let modulations = product(&[SIGMAS_A_PORTION, blocks, hidden]);
        let cached = match request.cache {
            StepCaching::Off => 0,
            StepCaching::Safe | StepCaching::Fast => {
                product(&[2, branches, batch, image_tokens, hidden])
            }
        };
        let kept = sum(&[
            sum(&[text_kept, modulations, cached]).saturating_mul(self.value),
            latents.saturating_mul(REMEMBERED_LATENTS * HOST_VALUE),
        ]);
        // Both branches of one image run together on a GPU.
        let together = if batch == 1 && !self.on_cpu {
            branches
        } else {
            1
        };
        let rows = product(&[batch, together, image_tokens + text]);
        let width = match self.on_cpu {
            // The stream, its norm in float32 and what that is made of, q, k and v as projected
            // and by heads, what they attend to, and the result; both halves of the MLP, their
            // product, and all of these side by side.
            true => 13 * hidden + 5 * inner,
            false => 9 * hidden + 4 * inner,
        };
        let attention = self.attention(
            config.num_heads,
            config.head_dim(),
            image_tokens + text,
            batch * together,
        );
        let values = sum(&[rows.saturating_mul(width as u64), attention]);
        let largest = product(&[hidden, 3 * hidden + 2 * inner]);
        Cost {
            host: host.saturating_mul(HOST_VALUE),
            kept,
            working: sum(&[values.saturating_mul(self.value), self.widened(largest)]),
            result: latents.saturating_mul(HOST_VALUE),
        }
    }

    fn decode(&self, latent: [usize; 4]) -> Cost {
        let Some(vae) = &self.vae else {
            return Cost::default();
        };
        let [batch, _, height, width] = latent;
        let pixels = product(&[batch, 3, 8 * height, 8 * width]).saturating_mul(HOST_VALUE);
        let latents = product(&latent).saturating_mul(HOST_VALUE);
        Cost {
            host: sum(&[latents.saturating_mul(2), pixels.saturating_mul(2)]),
            kept: 0,
            working: vae.decode_bytes(batch, (height, width)),
            result: pixels,
        }
    }

    fn vae_encode(&self, image: [usize; 3]) -> Cost {
        let Some(vae) = &self.vae else {
            return Cost::default();
        };
        let [batch, height, width] = image;
        let pixels = product(&[batch, 3, height, width]).saturating_mul(HOST_VALUE);
        let channels = vae.latent_channels();
        let latents = product(&[batch, channels, height / 8, width / 8]);
        let latents = latents.saturating_mul(HOST_VALUE);
        Cost {
            // As sent, as float32, scaled and by channels.
            host: sum(&[pixels.saturating_mul(4), latents.saturating_mul(2)]),
            kept: 0,
            working: vae.encode_bytes(batch, (height, width)),
            result: latents,
        }
    }
}

/// An encode that takes less than this, were each byte of its prompts a token, is not worth
/// counting its tokens.
const SMALL: u64 = 256 << 20;

/// Latents, float32, that a job holds at the most between two steps: where it is, its noise,
/// its mask and original, the estimate that previews show, and a solver's memory of four.
const REMEMBERED_LATENTS: u64 = 9;
