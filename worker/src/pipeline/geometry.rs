//! Geometries by name, for models without a checkpoint.

use std::sync::Arc;

use super::load::Pipeline;
use crate::checkpoint::{
    MmditConfig, Qwen3Config, RandomWeights, VaeConfig, WeightsError, FLUX_SCALING_FACTOR,
    FLUX_SHIFT_FACTOR,
};
use crate::models::builder::Builder;
use crate::models::mmdit::Mmdit;
use crate::models::qwen3::Qwen3;
use crate::models::vae::Vae;
use crate::nn::Placement;
use crate::sampling::batch_noise;

/// Values that random weights are cut from.
const POOL: usize = 1 << 22;

/// How large a model's parts are.
#[derive(Clone, Debug, PartialEq)]
pub struct Geometry {
    /// The text encoder.
    pub text_encoder: Qwen3Config,
    /// The diffusion transformer.
    pub transformer: MmditConfig,
    /// The autoencoder.
    pub vae: VaeConfig,
}

impl Geometry {
    /// Ovis-Image-7B, with Ovis2.5-2B's language model and FLUX.1's autoencoder.
    ///
    /// Source: the release's `config.json` files.
    pub fn ovis_image_7b() -> Self {
        Self {
            text_encoder: Qwen3Config {
                vocab_size: 151_936,
                hidden_size: 2048,
                intermediate_size: 6144,
                num_layers: 28,
                num_heads: 16,
                num_kv_heads: 8,
                head_dim: 128,
                rope_theta: 1e6,
                rms_norm_eps: 1e-6,
            },
            transformer: MmditConfig {
                in_channels: 64,
                context_dim: 2048,
                hidden_size: 3072,
                num_heads: 24,
                mlp_hidden: 12_288,
                depth_double: 6,
                depth_single: 27,
                axes_dim: [16, 56, 56],
                theta: 10_000.0,
            },
            vae: VaeConfig {
                block_channels: vec![128, 256, 512, 512],
                layers_per_block: 2,
                latent_channels: 16,
                norm_groups: 32,
                scaling_factor: FLUX_SCALING_FACTOR,
                shift_factor: FLUX_SHIFT_FACTOR,
                native_size: 1024,
            },
        }
    }

    /// The model with random weights, and without a tokenizer.
    ///
    /// # Errors
    /// The device fails.
    pub fn with_random_weights(
        &self,
        name: &str,
        placement: &Placement,
    ) -> Result<Pipeline, WeightsError> {
        let pool = batch_noise(0, 1, POOL, None)
            .map_err(|error| WeightsError::device(name.as_ref(), "random values", &error))?;
        let weights = RandomWeights::new(pool);
        let text_encoder = Arc::new(weights.text_encoder(&self.text_encoder)?);
        let transformer = Arc::new(weights.transformer(&self.transformer)?);
        let vae = Arc::new(weights.vae(&self.vae)?);
        Ok(Pipeline::of_parts(
            name,
            placement,
            Qwen3::new(&self.text_encoder, &Builder::new(&text_encoder, placement))?,
            Mmdit::new(&self.transformer, &Builder::new(&transformer, placement))?,
            Vae::new(&self.vae, &Builder::new(&vae, placement))?,
            vec![text_encoder, transformer, vae],
        ))
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};
    use ovis_protocol::DenoiseRequest;

    use super::*;
    use crate::pipeline::{DenoiseInputs, Latent};

    /// The 7 B model in miniature.
    fn small() -> Geometry {
        let mut small = Geometry::ovis_image_7b();
        small.text_encoder = Qwen3Config {
            vocab_size: 40,
            hidden_size: 32,
            intermediate_size: 64,
            num_layers: 2,
            num_heads: 2,
            num_kv_heads: 1,
            head_dim: 16,
            ..small.text_encoder
        };
        small.transformer = MmditConfig {
            context_dim: 32,
            hidden_size: 64,
            num_heads: 2,
            mlp_hidden: 128,
            depth_double: 2,
            depth_single: 3,
            axes_dim: [4, 14, 14],
            ..small.transformer
        };
        small.vae.block_channels = vec![32, 32, 32, 64];
        small
    }

    /// The latents that one step makes of noise, and the model that made them.
    fn one_step(placement: &Placement) -> (Latent, Pipeline) {
        let pipeline = small().with_random_weights("small", placement).unwrap();
        let ids: Vec<u32> = (0..36).collect();
        let inputs = DenoiseInputs {
            positive: pipeline.encode_ids(&[&ids], 16).unwrap(),
            negative: None,
            latent: Latent::from_values(vec![0.0; 16 * 4 * 4], &[1, 16, 4, 4]).unwrap(),
            noise_mask: None,
        };
        let request = DenoiseRequest::new(0, 1, 1.0);
        let mut job = pipeline.start_denoise(&request, inputs).unwrap();
        job.step(pipeline.denoiser().unwrap()).unwrap();
        (job.finish().unwrap(), pipeline)
    }

    fn on_cpu(fp8: bool) -> Placement {
        Placement {
            device: Device::Cpu,
            weights: DType::F32,
            fp8,
        }
    }

    #[test]
    fn random_weights_make_finite_images() {
        let (latent, pipeline) = one_step(&on_cpu(false));
        let image = pipeline.decode(&latent).unwrap();
        assert_eq!(image.dims(), [1, 32, 32, 3]);
        let pixels = image.tensor().flatten_all().unwrap();
        let pixels = pixels.to_vec1::<f32>().unwrap();
        assert!(pixels.iter().any(|&p| p > 0.0 && p < 1.0));
    }

    /// Relative distance of what one step makes.
    fn distance(one: &Placement, other: &Placement) -> f64 {
        let latents = |placement| one_step(placement).0.tensor().to_device(&Device::Cpu);
        let (one, other) = (latents(one).unwrap(), latents(other).unwrap());
        f64::from(crate::nn::relative_error(&one, &other))
    }

    #[test]
    fn fp8_changes_a_step_a_little() {
        let distance = distance(&on_cpu(true), &on_cpu(false));
        assert!(distance > 0.0 && distance < 0.03, "{distance}");
    }

    #[cfg(feature = "cuda")]
    #[test]
    fn fp8_on_a_gpu_is_near_bf16_and_fp8_on_a_cpu() {
        let on_gpu = |fp8| Placement {
            device: Device::new_cuda(0).expect("this test needs a GPU"),
            weights: DType::BF16,
            fp8,
        };
        let to_bf16 = distance(&on_gpu(true), &on_gpu(false));
        assert!(to_bf16 > 0.0 && to_bf16 < 0.05, "{to_bf16}");
        // Both quantize; bf16 in between moves some numbers to the next, and only the GPU's
        // attention is in fp8.
        let to_cpu = distance(&on_gpu(true), &on_cpu(true));
        assert!(to_cpu < 0.05, "{to_cpu}");
    }
}
