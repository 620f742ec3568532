//! The VAE of a model, on the device always or only while it is used.

use std::sync::Arc;

use super::error::{Error, Result};
use crate::checkpoint::{PartTensors, VaeConfig, WeightsError};
use crate::models::builder::Builder;
use crate::models::swapped::Swapped;
use crate::models::vae::{Vae, VaeMemory};
use crate::nn::Placement;

/// The VAE, and what is known of it while it is not on the device.
pub(super) struct VaePart {
    network: Swapped<Vae>,
    config: VaeConfig,
    can_encode: bool,
    memory: VaeMemory,
    bytes: u64,
}

impl VaePart {
    /// Loads a VAE. If it does not stay, it leaves the device again.
    ///
    /// # Errors
    /// A tensor is missing, misshapen or unreadable, or the device has no memory for it.
    pub fn new(
        config: &VaeConfig,
        tensors: &Arc<PartTensors>,
        placement: &Placement,
        stays: bool,
    ) -> std::result::Result<Self, WeightsError> {
        let again = (config.clone(), tensors.clone(), placement.clone());
        let load = move || {
            let (config, tensors, placement) = &again;
            Vae::new(config, &Builder::new(tensors, placement))
        };
        let network = Swapped::new(load, stays);
        let facts = |vae: &Vae| Ok((vae.can_encode(), vae.memory()));
        let (can_encode, memory) = network.with(|error: WeightsError| error, facts)?;
        Ok(Self {
            network,
            config: config.clone(),
            can_encode,
            memory,
            bytes: tensors.parameters() * placement.weights.size_in_bytes() as u64,
        })
    }

    /// Its geometry, and the scale and shift of its latents.
    pub fn config(&self) -> &VaeConfig {
        &self.config
    }

    /// Whether there is an encoder.
    pub fn can_encode(&self) -> bool {
        self.can_encode
    }

    /// Estimates of the memory of decodes and encodes, beside the weights'.
    pub fn memory(&self) -> VaeMemory {
        self.memory.clone()
    }

    /// Runs `body` with the network on the device.
    ///
    /// # Errors
    /// The network cannot be loaded again, or `body` fails.
    pub fn with<R>(&self, body: impl FnOnce(&Vae) -> Result<R>) -> Result<R> {
        let failed = |error| Error::Device(candle_core::Error::wrap(error));
        self.network.with(failed, body)
    }

    /// Bytes of its weights on the device.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The network in its place.
    pub fn network(&self) -> &Swapped<Vae> {
        &self.network
    }
}
