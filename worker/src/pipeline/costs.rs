//! The memory that a job takes, estimated from its shapes before it runs.
//!
//! The figures are upper estimates of what is held at the peak: by fused kernels where the device
//! has them (`nn`'s `block_bytes`), else by the plain expressions.

use std::sync::Arc;

use ovis_protocol::{AdapterUse, DenoiseRequest, StepCaching};
use tokenizers::Tokenizer;

use super::adapters::AdaptedPart;
use super::ask::{Ask, Cost};
use super::library::AdapterLibrary;
use super::modulations::SIGMAS_PER_PORTION;
use super::prompt::{most_positions, tokenize, MAX_CUT_LENGTH};
use crate::checkpoint::{MmditConfig, Qwen3Config};
use crate::models::vae::VaeMemory;
use crate::nn::{block_bytes, block_path, BlockPath, Placement, MAX_SCORES, MAX_SCORES_ON_CPU};

/// Bytes of one value on the host, a float32.
const HOST_VALUE: u64 = 4;

/// Estimates the costs of a model's jobs. It holds no weights, so any thread can use it.
#[derive(Clone)]
pub struct Costs {
    text: Option<(Qwen3Config, Arc<Tokenizer>)>,
    transformer: Option<MmditConfig>,
    vae: Option<VaeMemory>,
    /// How the transformer's blocks are computed.
    path: BlockPath,
    /// Bytes of a value in the arithmetic.
    value: u64,
    /// Bytes of a value of the weights. A CPU widens them for each product.
    weight: u64,
    /// The adapters that jobs name.
    library: Option<Arc<AdapterLibrary>>,
}

/// A product that saturates instead of overflowing.
fn product(factors: &[usize]) -> u64 {
    let factors = factors.iter().map(|&factor| factor as u64);
    factors.fold(1, u64::saturating_mul)
}

/// A sum that saturates instead of overflowing.
fn sum(terms: &[u64]) -> u64 {
    terms.iter().fold(0, |sum, &term| sum.saturating_add(term))
}

impl Costs {
    /// For the jobs of a model that has these parts. Call it on the thread that computes.
    pub(super) fn of_parts(
        text: Option<(Qwen3Config, Arc<Tokenizer>)>,
        transformer: Option<MmditConfig>,
        vae: Option<VaeMemory>,
        placement: &Placement,
        library: Option<Arc<AdapterLibrary>>,
    ) -> Self {
        let head_dim = transformer.as_ref().map_or(0, MmditConfig::head_dim);
        Self {
            text,
            transformer,
            vae,
            path: block_path(placement, head_dim),
            value: placement.compute().size_in_bytes() as u64,
            weight: placement.weights.size_in_bytes() as u64,
            library,
        }
    }

    /// For denoises and decodes on a GPU, without prompts, by a model that is not loaded. Values have
    /// `value` bytes.
    pub(super) fn of_shapes(
        transformer: Option<MmditConfig>,
        vae: Option<VaeMemory>,
        path: BlockPath,
        value: u64,
    ) -> Self {
        Self {
            text: None,
            transformer,
            vae,
            path,
            value,
            weight: value,
            library: None,
        }
    }

    fn on_cpu(&self) -> bool {
        self.path == BlockPath::Cpu
    }

    /// The cost of a job. It is 0 if a part that the job needs is not loaded: such a job is
    /// refused for that reason when it starts.
    pub fn cost(&self, ask: Ask) -> Cost {
        match ask {
            Ask::Encode {
                prompts,
                max_sequence_length,
                adapters,
            } => {
                let mut cost = self.encode(prompts, max_sequence_length);
                let bytes = self.adapters(adapters, AdaptedPart::TextEncoder);
                cost.working = cost.working.saturating_add(bytes);
                cost
            }
            Ask::Denoise {
                request,
                latent,
                text,
            } => {
                let mut cost = self.denoise(request, latent, text);
                let bytes = self.adapters(&request.adapters, AdaptedPart::Transformer);
                cost.kept = cost.kept.saturating_add(bytes);
                cost
            }
            Ask::Decode { latent } => self.decode(latent),
            Ask::VaeEncode { image } => self.vae_encode(image),
        }
    }

    /// Bytes that adapters take in a network: their factors as they are and joined to a stack, and
    /// weights of their own.
    fn adapters(&self, wanted: &[AdapterUse], part: AdaptedPart) -> u64 {
        let Some(library) = self.library.as_ref().filter(|_| !wanted.is_empty()) else {
            return 0;
        };
        library.size(wanted, part).bytes(self.value, self.weight)
    }

    /// Values that an attention of `heads` heads over `length` positions holds. A CPU computes
    /// the scores in pieces, of which it holds three, and repeats the key and value heads. On a
    /// GPU the plain expression holds one piece, and a fused kernel no scores.
    fn attention(&self, heads: usize, head_dim: usize, length: usize, batch: usize) -> u64 {
        let scores = product(&[batch, heads, length, length]);
        let heads = product(&[batch, heads, length, head_dim]);
        match self.path {
            BlockPath::Cpu => sum(&[
                3 * scores.min(MAX_SCORES_ON_CPU as u64),
                heads.saturating_mul(4),
            ]),
            BlockPath::Plain => sum(&[scores.min(MAX_SCORES as u64), heads]),
            BlockPath::Library { .. } | BlockPath::Own { .. } => 0,
        }
    }

    /// Bytes of the wider copy that a CPU makes of a weight of `values` values for its product; 0
    /// if the weight already has the type of the arithmetic.
    fn widened(&self, values: u64) -> u64 {
        match self.on_cpu() && self.weight < self.value {
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
        // No prompt has more tokens than bytes. For a large job the true number of tokens is
        // worth the time to count them.
        let counted = |prompt: &String| match tokenize(tokenizer, prompt, max_sequence_length) {
            Ok(tokenized) => tokenized.ids.len(),
            Err(_) => positions(prompt),
        };
        estimate(prompts.iter().map(counted).max().unwrap_or(0))
    }

    /// The cost of encoding prompts of which the longest has `length` positions, with the
    /// template.
    pub(super) fn encoded(&self, config: &Qwen3Config, prompts: usize, length: usize) -> Cost {
        let result = product(&[prompts, length.max(MAX_CUT_LENGTH), config.hidden_size]);
        let result = result.saturating_mul(HOST_VALUE);
        let projected = (config.num_heads + 2 * config.num_kv_heads) * config.head_dim;
        // The residual stream and its norm, beside either q, k and v as projected and by heads
        // with the attention's output, or both halves of the MLP with their product.
        let attended = 2 * projected + config.num_heads * config.head_dim;
        let width = 3 * config.hidden_size + attended.max(3 * config.intermediate_size);
        let attention = self.attention(config.num_heads, config.head_dim, length, 1);
        // Each layer runs for all prompts: the others' residual streams wait.
        let others = prompts.saturating_sub(1);
        let waiting = product(&[others, length, config.hidden_size + config.head_dim]);
        let values = sum(&[product(&[length, width]), attention, waiting]);
        let largest = product(&[config.hidden_size, 2 * config.intermediate_size]);
        let working = sum(&[values.saturating_mul(self.value), self.widened(largest)]);
        Cost {
            // One row for each prompt, then their concatenation.
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
        // The tensors as received and as float32; the latent also as noise, scaled, and as the
        // result.
        let conditioning = texts.saturating_mul(config.context_dim as u64);
        let host = sum(&[conditioning.saturating_mul(2), latents.saturating_mul(6)]);
        // The embedded texts, once for each branch and once batched; a portion of the
        // modulations; the residuals of the step caches; and the latents of the run.
        let text_kept = texts.saturating_mul(2 * hidden as u64);
        let blocks = 12 * config.depth_double + 3 * config.depth_single + 2;
        let modulations = product(&[SIGMAS_PER_PORTION, blocks, hidden]);
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
        // On a GPU both branches of a single image run in one forward.
        let batched = if batch == 1 && !self.on_cpu() {
            branches
        } else {
            1
        };
        let rows = product(&[batch, batched, image_tokens + text]);
        let block = block_bytes(rows, hidden as u64, inner as u64, self.value, self.path);
        let attention = self.attention(
            config.num_heads,
            config.head_dim(),
            image_tokens + text,
            batch * batched,
        );
        // Branches that run apart take turns at each block: the others' tokens wait, joined and
        // not, and with a step cache what the first block has made of each.
        let others = product(&[branches - batched, batch, image_tokens + text]);
        let waiting = sum(&[others.saturating_mul(2 * hidden as u64), cached]);
        let beside = sum(&[attention, waiting]).saturating_mul(self.value);
        let largest = product(&[hidden, 3 * hidden + 2 * inner]);
        Cost {
            host: host.saturating_mul(HOST_VALUE),
            kept,
            working: sum(&[block, beside, self.widened(largest)]),
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
            // The pixels as received, as float32, scaled, and with the channels first.
            host: sum(&[pixels.saturating_mul(4), latents.saturating_mul(2)]),
            kept: 0,
            working: vae.encode_bytes(batch, (height, width)),
            result: latents,
        }
    }
}

/// Bytes below which the tokens of an encode are not counted: the estimate of one token a byte
/// is good enough.
const SMALL: u64 = 256 << 20;

/// Most float32 latents that a job holds between two steps: the current latents, the noise, the
/// mask, the original latents, the estimate for previews, and a solver's memory of four.
const REMEMBERED_LATENTS: u64 = 9;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::testing::tiny_pipeline;

    fn denoise(costs: &Costs, request: &DenoiseRequest, batch: usize) -> Cost {
        costs.cost(Ask::Denoise {
            request,
            latent: [batch, 16, 32, 32],
            text: 256,
        })
    }

    #[test]
    fn larger_jobs_cost_more() {
        let costs = tiny_pipeline().costs();
        let request = DenoiseRequest::new(0, 20, 5.0);
        let one = denoise(&costs, &request, 1);
        let two = denoise(&costs, &request, 2);
        assert_eq!(one.result, 16 * 32 * 32 * 4);
        assert_eq!(two.result, 2 * one.result);
        assert!(two.host > one.host && two.kept > one.kept && two.working > one.working);

        let without_guidance = DenoiseRequest::new(0, 20, 1.0);
        assert!(denoise(&costs, &without_guidance, 1).kept < one.kept);
        let mut cached = request.clone();
        cached.cache = StepCaching::Safe;
        assert!(denoise(&costs, &cached, 1).kept > one.kept);

        let decode = |side| {
            costs.cost(Ask::Decode {
                latent: [1, 16, side, side],
            })
        };
        assert_eq!(decode(32).result, 3 * 256 * 256 * 4);
        assert!(decode(64).device() > decode(32).device());
        let encode = costs.cost(Ask::VaeEncode {
            image: [1, 256, 256],
        });
        assert_eq!(encode.result, one.result);
    }

    /// The tiny model has no tokenizer, so it cannot encode prompts.
    #[test]
    fn a_job_without_its_part_costs_nothing() {
        let prompts = ["a cat".to_owned()];
        let cost = tiny_pipeline().costs().cost(Ask::Encode {
            prompts: &prompts,
            max_sequence_length: 256,
            adapters: &[],
        });
        assert_eq!(cost, Cost::default());
    }

    #[test]
    fn sums_and_products_saturate() {
        assert_eq!(product(&[usize::MAX, 2]), u64::MAX);
        assert_eq!(sum(&[u64::MAX, 1]), u64::MAX);
        let most = Cost {
            kept: u64::MAX,
            working: 1,
            ..Cost::default()
        };
        assert_eq!(most.device(), u64::MAX);
    }
}
