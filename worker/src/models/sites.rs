//! Where a network keeps the tensors that adapters change.

use std::collections::HashMap;
use std::sync::Arc;

use candle_core::{DType, Device, Tensor, TensorId};

use super::assemble::{AssembleError, Assembler};
use crate::checkpoint::{ModelTensor, WeightsError};
use crate::nn::{LayerId, WeightFormat};

/// A linear layer of a network.
#[derive(Clone, Debug)]
pub struct LayerSite {
    /// The layer.
    pub id: LayerId,
    /// The canonical names of the weights that it consists of, and the number of rows of each.
    pub weights: Vec<(String, usize)>,
    /// Number of inputs.
    pub inputs: usize,
    /// How its weight is stored.
    pub format: WeightFormat,
}

impl LayerSite {
    /// Number of outputs.
    pub fn outputs(&self) -> usize {
        self.weights.iter().map(|(_, rows)| rows).sum()
    }

    /// The first row of one of its weights.
    pub fn first_row(&self, weight: &str) -> usize {
        let before = self.weights.iter().take_while(|(name, _)| name != weight);
        before.map(|(_, rows)| rows).sum()
    }
}

/// A tensor that is not a linear layer's, such as a norm's weight.
#[derive(Clone, Copy, Debug)]
pub struct ParameterSite {
    /// The tensor.
    pub id: TensorId,
    /// Its type.
    pub dtype: DType,
}

/// Where a network keeps each of its tensors, by canonical name. It holds no weights.
#[derive(Clone, Debug, Default)]
pub struct Sites {
    layers: HashMap<String, Arc<LayerSite>>,
    parameters: HashMap<String, ParameterSite>,
}

impl Sites {
    /// The layer that a weight or a bias belongs to.
    pub fn layer(&self, tensor: &str) -> Option<&Arc<LayerSite>> {
        let module = tensor
            .strip_suffix(".weight")
            .or(tensor.strip_suffix(".bias"))?;
        self.layers.get(module)
    }

    /// A tensor that is no linear layer's.
    pub fn parameter(&self, tensor: &str) -> Option<ParameterSite> {
        self.parameters.get(tensor).copied()
    }

    pub(super) fn add_layer(
        &mut self,
        id: LayerId,
        modules: Vec<(String, usize)>,
        inputs: usize,
        format: WeightFormat,
    ) {
        let weights = modules
            .iter()
            .map(|(module, rows)| (format!("{module}.weight"), *rows));
        let site = Arc::new(LayerSite {
            id,
            weights: weights.collect(),
            inputs,
            format,
        });
        let modules = modules.into_iter();
        self.layers
            .extend(modules.map(|(module, _)| (module, site.clone())));
    }

    pub(super) fn add_parameter(&mut self, name: String, tensor: &Tensor) {
        let site = ParameterSite {
            id: tensor.id(),
            dtype: tensor.dtype(),
        };
        self.parameters.insert(name, site);
    }
}

/// The values of a tensor of a checkpoint in float32, as a network in float32 has them.
///
/// # Errors
/// Its files cannot be read.
pub fn host_values(tensor: &ModelTensor) -> Result<Vec<f32>, WeightsError> {
    let assembler = Assembler::new(&Device::Cpu, DType::F32);
    let read = || -> Result<Vec<f32>, AssembleError> {
        let values = assembler.tensor(tensor)?;
        Ok(values.flatten_all()?.to_vec1()?)
    };
    read().map_err(|error| match error {
        AssembleError::Weights(error) => error,
        AssembleError::Device(source) => {
            let piece = tensor.pieces.first().map(|piece| piece.tensor());
            let (path, name) = piece.map_or((std::path::Path::new(""), ""), |piece| {
                (piece.path(), &piece.entry().name[..])
            });
            WeightsError::device(path, name, &source)
        }
    })
}
