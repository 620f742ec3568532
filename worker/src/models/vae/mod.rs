//! FLUX.1's autoencoder.
//!
//! Source: AIDC-AI/Ovis-Image `ovis_image/model/autoencoder.py`.

mod bands;
mod blocks;
mod halves;
mod memory;
mod plan;
mod shapes;
mod steps;

use candle_core::{DType, Result, Tensor};

use self::halves::{Decoder, Encoder};
pub use self::memory::VaeMemory;
use self::plan::{run_first_that_fits, Batch, Plan};
use self::steps::shapes;
use super::builder::{Builder, Built};
use crate::checkpoint::VaeConfig;
use crate::nn::{cast, dense, Placement};

/// Epsilon of the group norms.
const EPS: f64 = 1e-6;

/// The autoencoder. Either half may be absent from a file.
pub struct Vae {
    config: VaeConfig,
    placement: Placement,
    encoder: Option<Encoder>,
    decoder: Decoder,
}

impl Vae {
    /// Builds the network. A file without an encoder makes one that only
    /// decodes.
    ///
    /// # Errors
    /// A tensor is missing, misshapen or unreadable.
    pub fn new(config: &VaeConfig, at: &Builder) -> Built<Self> {
        let encoder = at.at("encoder");
        Ok(Self {
            encoder: match encoder.contains("conv_in.weight") {
                true => Some(Encoder::new(config, &encoder)?),
                false => None,
            },
            decoder: Decoder::new(config, &at.at("decoder"))?,
            placement: at.placement().clone(),
            config: config.clone(),
        })
    }

    /// The network's geometry and normalisation.
    pub fn config(&self) -> &VaeConfig {
        &self.config
    }

    /// Whether [`encode`](Self::encode) can be called.
    pub fn can_encode(&self) -> bool {
        self.encoder.is_some()
    }

    /// Raw latents `[B, 16, H/8, W/8]` to pixels `[B, 3, H, W]` in about -1..1: in bands
    /// where the device has too little memory for the whole, with the same result.
    ///
    /// # Errors
    /// The shapes do not fit, or the device fails.
    pub fn decode(&self, latents: &Tensor) -> Result<Tensor> {
        let latents = self.placed(latents)?;
        let (steps, larger) = self.decoder.steps();
        let plans = Plan::of_a_decode(&shapes(&steps), &larger, Batch::of(&latents)?);
        run_first_that_fits(&plans, &self.placement.device, |plan| {
            plan.decode(&steps, &latents)
        })
    }

    /// Pixels `[B, 3, H, W]` in -1..1 to the mean of their posterior, raw
    /// latents `[B, 16, H/8, W/8]`, float32; `None` without an encoder. In bands as
    /// [`decode`](Self::decode).
    ///
    /// # Errors
    /// The shapes do not fit, or the device fails.
    pub fn encode(&self, pixels: &Tensor) -> Result<Option<Tensor>> {
        let Some(encoder) = &self.encoder else {
            return Ok(None);
        };
        let pixels = self.placed(pixels)?;
        let (steps, smaller) = encoder.steps();
        let plans = Plan::of_an_encode(&shapes(&steps), &smaller, Batch::of(&pixels)?);
        let moments = run_first_that_fits(&plans, &self.placement.device, |plan| {
            plan.encode(&steps, &pixels)
        })?;
        let mean = moments.narrow(1, 0, self.config.latent_channels)?;
        Ok(Some(cast(&dense(&mean)?, DType::F32)?))
    }

    /// What decodes and encodes take, without the weights.
    pub fn memory(&self) -> VaeMemory {
        VaeMemory::of(self)
    }

    fn placed(&self, x: &Tensor) -> Result<Tensor> {
        cast(
            &x.to_device(&self.placement.device)?,
            self.placement.compute(),
        )
    }
}
