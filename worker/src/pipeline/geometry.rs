//! The sizes of a model, and models of such sizes with random weights instead of a checkpoint.

use std::sync::Arc;

use super::load::Pipeline;
use super::loading::Loader;
use crate::checkpoint::{
    MmditConfig, Qwen3Config, RandomWeights, VaeConfig, WeightsError, FLUX_SCALING_FACTOR,
    FLUX_SHIFT_FACTOR,
};
use crate::nn::{Pager, Placement, Residence};
use crate::sampling::batch_noise;

/// Number of normal values that random weights are cut from.
const POOL: usize = 1 << 22;

/// The sizes of a model's parts.
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

    /// Builds the model with random weights and without a tokenizer.
    ///
    /// # Errors
    /// The device has too little memory, or fails.
    pub fn with_random_weights(
        &self,
        name: &str,
        placement: &Placement,
    ) -> Result<Pipeline, WeightsError> {
        self.with_random_weights_in(name, placement, &Residence::ALL)
    }

    /// [`with_random_weights`](Self::with_random_weights), of which some stay on the device and
    /// others are streamed.
    ///
    /// # Errors
    /// A device has too little memory, or fails.
    pub fn with_random_weights_in(
        &self,
        name: &str,
        placement: &Placement,
        residence: &Residence,
    ) -> Result<Pipeline, WeightsError> {
        self.with_weights_from_pool(POOL, name, placement, Loader::pager(placement, residence))
    }

    /// [`with_random_weights`](Self::with_random_weights) cut from `pool` normal values.
    pub(super) fn with_weights_from_pool(
        &self,
        pool: usize,
        name: &str,
        placement: &Placement,
        pager: Pager,
    ) -> Result<Pipeline, WeightsError> {
        let pool = batch_noise(0, 1, pool, None)
            .map_err(|error| WeightsError::device(name.as_ref(), "random values", &error))?;
        let weights = RandomWeights::new(pool);
        let text_encoder = Arc::new(weights.text_encoder(&self.text_encoder)?);
        let transformer = Arc::new(weights.transformer(&self.transformer)?);
        let vae = Arc::new(weights.vae(&self.vae)?);
        let mut loader = Loader::new(placement, pager);
        let text_encoder = loader.text_encoder(&self.text_encoder, &text_encoder)?;
        let transformer = loader.transformer(&self.transformer, &transformer)?;
        let vae = loader.vae(&self.vae, &vae)?;
        loader.pipeline(name, Some(text_encoder), Some(transformer), Some(vae))
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;
    use ovis_protocol::DenoiseRequest;

    use super::*;
    use crate::nn::{test_gpu, WeightFormat};
    use crate::pipeline::testing::{on_cpu, tiny_geometry};
    use crate::pipeline::{DenoiseInputs, Latent};

    /// The latents after one step from noise, and the model that made them.
    fn one_step(placement: &Placement) -> (Latent, Pipeline) {
        let pipeline = tiny_geometry()
            .with_random_weights("tiny", placement)
            .unwrap();
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

    #[test]
    fn random_weights_make_finite_images() {
        let (latent, pipeline) = one_step(&on_cpu(WeightFormat::Dense));
        let image = pipeline.decode(&latent).unwrap();
        assert_eq!(image.dims(), [1, 32, 32, 3]);
        let pixels = image.tensor().flatten_all().unwrap();
        let pixels = pixels.to_vec1::<f32>().unwrap();
        assert!(pixels.iter().any(|&p| p > 0.0 && p < 1.0));
    }

    /// Relative distance between the latents of two placements after one step.
    fn distance(one: &Placement, other: &Placement) -> f64 {
        let latents = |placement| one_step(placement).0.tensor().to_device(&Device::Cpu);
        let (one, other) = (latents(one).unwrap(), latents(other).unwrap());
        f64::from(crate::nn::relative_error(&one, &other))
    }

    #[test]
    fn fp8_changes_a_step_a_little() {
        let distance = distance(&on_cpu(WeightFormat::Fp8), &on_cpu(WeightFormat::Dense));
        assert!(distance > 0.0 && distance < 0.03, "{distance}");
    }

    #[test]
    fn fp8_on_a_gpu_is_near_bf16_and_fp8_on_a_cpu() {
        let Some(device) = test_gpu() else { return };
        let on_gpu = |products| Placement {
            device: device.clone(),
            weights: candle_core::DType::BF16,
            products,
        };
        let to_bf16 = distance(&on_gpu(WeightFormat::Fp8), &on_gpu(WeightFormat::Dense));
        assert!(to_bf16 > 0.0 && to_bf16 < 0.05, "{to_bf16}");
        // Both quantize. bf16 between the products rounds some values to neighbouring fp8
        // values, and only the GPU computes attention in fp8.
        let to_cpu = distance(&on_gpu(WeightFormat::Fp8), &on_cpu(WeightFormat::Fp8));
        assert!(to_cpu < 0.05, "{to_cpu}");
    }
}
