//! FLUX.1's autoencoder.
//!
//! Source: AIDC-AI/Ovis-Image `ovis_image/model/autoencoder.py`.

mod bands;
mod blocks;
mod coders;
mod memory;
mod norms;
mod plan;
mod shapes;
mod steps;

use candle_core::{DType, Result, Tensor};

use self::coders::{Decoder, Encoder};
pub use self::memory::VaeMemory;
use self::plan::{run_first_that_fits, Batch, Plan};
use self::steps::shapes;
use super::builder::{Builder, Built};
use crate::checkpoint::VaeConfig;
use crate::nn::{cast, dense, Placement};

/// The autoencoder. A checkpoint may lack the encoder.
pub struct Vae {
    config: VaeConfig,
    placement: Placement,
    encoder: Option<Encoder>,
    decoder: Decoder,
}

impl Vae {
    /// Builds the network. Without an encoder in the checkpoint, it can only decode.
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

    /// The network's geometry, and the scale and shift of its latents.
    pub fn config(&self) -> &VaeConfig {
        &self.config
    }

    /// Whether there is an encoder.
    pub fn can_encode(&self) -> bool {
        self.encoder.is_some()
    }

    /// Decodes raw latents `[B, 16, H/8, W/8]` to pixels `[B, 3, H, W]` in about -1..1. If the
    /// device has too little memory for the whole batch, it runs image by image or in bands,
    /// with the same result.
    ///
    /// # Errors
    /// The shapes do not fit, the job is cancelled, or the device fails or has too little memory
    /// even for bands.
    pub fn decode(&self, latents: &Tensor) -> Result<Tensor> {
        let latents = self.placed(latents)?;
        let (steps, splits) = self.decoder.steps();
        let plans = Plan::for_decode(&shapes(&steps), &splits, Batch::of(&latents)?);
        run_first_that_fits(&plans, &self.placement.device, |plan| {
            plan.decode(&steps, &latents)
        })
    }

    /// Encodes pixels `[B, 3, H, W]` in -1..1 to the mean of their posterior, raw float32
    /// latents `[B, 16, H/8, W/8]`; `None` without an encoder. With too little memory it runs in
    /// parts as [`decode`](Self::decode) does.
    ///
    /// # Errors
    /// The shapes do not fit, the job is cancelled, or the device fails or has too little memory
    /// even for bands.
    pub fn encode(&self, pixels: &Tensor) -> Result<Option<Tensor>> {
        let Some(encoder) = &self.encoder else {
            return Ok(None);
        };
        let pixels = self.placed(pixels)?;
        let (steps, splits) = encoder.steps();
        let plans = Plan::for_encode(&shapes(&steps), &splits, Batch::of(&pixels)?);
        let moments = run_first_that_fits(&plans, &self.placement.device, |plan| {
            plan.encode(&steps, &pixels)
        })?;
        let mean = moments.narrow(1, 0, self.config.latent_channels)?;
        Ok(Some(cast(&dense(&mean)?, DType::F32)?))
    }

    /// Estimates of the memory of decodes and encodes, beside the weights'.
    pub fn memory(&self) -> VaeMemory {
        VaeMemory::new(
            &self.decoder,
            self.encoder.as_ref(),
            self.config.latent_channels,
            &self.placement,
        )
    }

    /// A tensor on the network's device, in the type of its arithmetic.
    fn placed(&self, x: &Tensor) -> Result<Tensor> {
        cast(
            &x.to_device(&self.placement.device)?,
            self.placement.compute(),
        )
    }
}
