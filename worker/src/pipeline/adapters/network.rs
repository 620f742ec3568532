//! A network that adapters change, and its weights as its files have them.

use candle_core::{DType, Device, Tensor};

use crate::checkpoint::{Change, ModelTensor, PartTensors};
use crate::models::mmdit::Mmdit;
use crate::models::qwen3::Qwen3;
use crate::models::sites::{host_values, Sites};
use crate::nn::Placement;
use crate::pipeline::error::{Error, Result};

/// The parts of a model that adapters change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AdaptedPart {
    /// The transformer.
    Transformer,
    /// The text encoder.
    TextEncoder,
}

/// A loaded network of one of these parts.
#[derive(Clone, Copy)]
pub struct Network<'a> {
    pub part: AdaptedPart,
    pub sites: &'a Sites,
    pub placement: &'a Placement,
    /// Number of double-stream blocks, and of all blocks of a transformer.
    pub blocks: [usize; 2],
    /// The map to the network's files.
    pub weights: &'a PartTensors,
}

impl<'a> Network<'a> {
    /// A loaded transformer.
    pub fn transformer(model: &'a Mmdit, weights: &'a PartTensors) -> Self {
        let config = model.config();
        Self {
            part: AdaptedPart::Transformer,
            sites: model.sites(),
            placement: model.placement(),
            blocks: [
                config.depth_double,
                config.depth_double + config.depth_single,
            ],
            weights,
        }
    }

    /// A loaded text encoder.
    pub fn text_encoder(
        model: &'a Qwen3,
        placement: &'a Placement,
        weights: &'a PartTensors,
    ) -> Self {
        Self {
            part: AdaptedPart::TextEncoder,
            sites: model.sites(),
            placement,
            blocks: [0, 0],
            weights,
        }
    }

    /// The index of the transformer block that a tensor belongs to: double-stream blocks first.
    pub fn block_of(&self, tensor: &str) -> Option<usize> {
        let index = |rest: &str| rest.split('.').next()?.parse::<usize>().ok();
        let [double, _] = self.blocks;
        match tensor.strip_prefix("double_blocks.") {
            Some(rest) => index(rest),
            None => Some(double + index(tensor.strip_prefix("single_blocks.")?)?),
        }
    }

    /// The map of a tensor.
    ///
    /// # Errors
    /// The network has no such tensor.
    pub fn tensor(&self, name: &str) -> Result<&'a ModelTensor> {
        self.weights.tensor(name).ok_or_else(|| {
            let model = self.weights.path().display();
            Error::invalid(format!("`{model}` has no tensor `{name}` to adapt"), "")
        })
    }

    /// The values of a tensor with changes merged into it, in float32.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn merged<'b>(
        &self,
        name: &str,
        changes: impl IntoIterator<Item = (&'b Change, f64)>,
    ) -> Result<Vec<f32>> {
        let mut values = host_values(self.tensor(name)?)?;
        for (change, strength) in changes {
            change.merge_into(&mut values, strength)?;
        }
        Ok(values)
    }

    /// A tensor on the network's device.
    ///
    /// # Errors
    /// The device has no memory for it.
    pub fn on_device(
        &self,
        values: Vec<f32>,
        shape: &[usize],
        dtype: DType,
    ) -> candle_core::Result<Tensor> {
        Tensor::from_vec(values, shape, &Device::Cpu)?
            .to_dtype(dtype)?
            .to_device(&self.placement.device)
    }
}
