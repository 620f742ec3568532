//! A model and jobs that are small enough for unit tests.

use candle_core::{DType, Device, Tensor};

use super::geometry::Geometry;
use super::load::Pipeline;
use super::loading::Loader;
use super::types::{Conditioning, DenoiseInputs, Latent};
use crate::checkpoint::{MmditConfig, Qwen3Config};
use crate::nn::{Pager, Placement, Residence, WeightFormat};

/// The 7 B model in miniature.
pub fn tiny_geometry() -> Geometry {
    let mut tiny = Geometry::ovis_image_7b();
    tiny.text_encoder = Qwen3Config {
        vocab_size: 40,
        hidden_size: 32,
        intermediate_size: 64,
        num_layers: 2,
        num_heads: 2,
        num_kv_heads: 1,
        head_dim: 16,
        ..tiny.text_encoder
    };
    tiny.transformer = MmditConfig {
        context_dim: 32,
        hidden_size: 64,
        num_heads: 2,
        mlp_hidden: 128,
        depth_double: 2,
        depth_single: 3,
        axes_dim: [4, 14, 14],
        ..tiny.transformer
    };
    tiny.vae.block_channels = vec![32, 32, 32, 64];
    tiny
}

/// Float32 on the CPU, or fp8 for the large products.
pub fn on_cpu(products: WeightFormat) -> Placement {
    Placement {
        device: Device::Cpu,
        weights: DType::F32,
        products,
    }
}

/// [`tiny_geometry`] with random float32 weights on the CPU.
pub fn tiny_pipeline() -> Pipeline {
    let placement = on_cpu(WeightFormat::Dense);
    tiny_pipeline_with(&placement, Loader::pager(&placement, &Residence::ALL))
}

/// [`tiny_geometry`] with random weights that a pager moves.
pub fn tiny_pipeline_with(placement: &Placement, pager: Pager) -> Pipeline {
    tiny_geometry()
        .with_weights_from_pool(1 << 16, "tiny", placement, pager)
        .unwrap()
}

fn wave(pitch: f32, count: usize) -> Vec<f32> {
    (1..=count).map(|i| (i as f32 * pitch).sin()).collect()
}

/// The tensors of a job of `batch` images of 32 x 48 pixels.
pub fn tiny_inputs(batch: usize, masked: bool) -> DenoiseInputs {
    let text = |pitch| Conditioning::from_values(wave(pitch, 7 * 32), &[1, 7, 32]).unwrap();
    let shape = [batch, 16, 4, 6];
    let latent = wave(0.21, shape.iter().product());
    let mask = wave(0.9, 24).into_iter().map(f32::abs).collect();
    DenoiseInputs {
        positive: text(0.3),
        negative: Some(text(0.7)),
        latent: Latent::from_values(latent, &shape).unwrap(),
        noise_mask: masked
            .then(|| Tensor::from_vec::<_, f32>(mask, (1, 4, 6), &Device::Cpu).unwrap()),
    }
}
