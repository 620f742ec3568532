//! The affine map between raw VAE latents and the model's.

use candle_core::{Result, Tensor};

use crate::checkpoint::{VaeConfig, FLUX_SCALING_FACTOR, FLUX_SHIFT_FACTOR};

/// Scale and shift between raw VAE latents and the model's.
#[derive(Clone, Copy, Debug)]
pub struct LatentScaling {
    scale: f64,
    shift: f64,
}

impl LatentScaling {
    /// FLUX.1's constants, for a checkpoint that has no VAE of its own.
    pub const FLUX: Self = Self {
        scale: FLUX_SCALING_FACTOR,
        shift: FLUX_SHIFT_FACTOR,
    };

    /// The constants in a VAE's config.
    pub fn of(config: &VaeConfig) -> Self {
        Self {
            scale: config.scaling_factor,
            shift: config.shift_factor,
        }
    }

    /// `(raw - shift) * scale`: raw latents to the model's.
    pub fn to_model(self, raw: &Tensor) -> Result<Tensor> {
        (raw - self.shift)? * self.scale
    }

    /// `latent / scale + shift`: the model's latents to raw ones.
    pub fn to_raw(self, latent: &Tensor) -> Result<Tensor> {
        (latent / self.scale)? + self.shift
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn raw_latents_come_back() {
        let raw = Tensor::new(&[-3.0f32, 0.1159, 2.5], &Device::Cpu).unwrap();
        let model = LatentScaling::FLUX.to_model(&raw).unwrap();
        let model_values = model.to_vec1::<f32>().unwrap();
        assert!((model_values[0] - (-3.0 - 0.1159) * 0.3611).abs() < 1e-6);
        assert!(model_values[1].abs() < 1e-6);
        let back = LatentScaling::FLUX.to_raw(&model).unwrap();
        let difference = (back - raw).unwrap().abs().unwrap().max_all().unwrap();
        assert!(difference.to_scalar::<f32>().unwrap() < 1e-6);
    }
}
