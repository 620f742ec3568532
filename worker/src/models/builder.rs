//! Fetches a network's tensors by name while it is built.

use std::rc::Rc;
use std::sync::Arc;

use candle_core::{Device, Tensor};

use super::assemble::{AssembleError, Assembler};
use super::origin::origin;
use crate::checkpoint::{PartTensors, StoredType, WeightsError};
use crate::nn::{
    concat, Conv2d, GroupNorm, HeadNorms, HostBytes, Linear, PackedRows, Placement, QkBounds,
    WeightFormat,
};

/// A module's position in a part's tree of names, and the device and types of its tensors.
#[derive(Clone)]
pub struct Builder<'a> {
    tensors: &'a PartTensors,
    placement: &'a Placement,
    assembler: Rc<Assembler>,
    prefix: String,
}

/// Result of building a network or one of its layers.
pub type Built<T> = Result<T, WeightsError>;

impl<'a> Builder<'a> {
    /// The root of a part.
    pub fn new(tensors: &'a PartTensors, placement: &'a Placement) -> Self {
        Self {
            tensors,
            placement,
            assembler: Rc::new(Assembler::new(&placement.device, placement.weights)),
            prefix: String::new(),
        }
    }

    /// The submodule called `name`.
    pub fn at(&self, name: impl std::fmt::Display) -> Self {
        Self {
            prefix: self.path(&name.to_string()),
            ..self.clone()
        }
    }

    /// The same position, for tensors that stay on the host.
    pub fn on_host(&self) -> Self {
        let assembler = Assembler::new(&Device::Cpu, self.placement.weights);
        Self {
            assembler: Rc::new(assembler),
            ..self.clone()
        }
    }

    /// The result of placing what was built here on a device.
    ///
    /// # Errors
    /// [`WeightsError::Device`] if that failed.
    pub fn placed<T>(&self, result: candle_core::Result<T>) -> Built<T> {
        result.map_err(|source| self.device_error(&self.prefix, source))
    }

    /// Device and types of the network.
    pub fn placement(&self) -> &'a Placement {
        self.placement
    }

    fn path(&self, name: &str) -> String {
        match self.prefix.as_str() {
            "" => name.to_owned(),
            prefix => format!("{prefix}.{name}"),
        }
    }

    /// Whether the part has the tensor.
    pub fn contains(&self, name: &str) -> bool {
        self.tensors.contains(&self.path(name))
    }

    /// One tensor of exactly this shape.
    ///
    /// # Errors
    /// [`WeightsError::Table`] if it is missing or has another shape,
    /// [`WeightsError::Device`] if the device does not take it.
    pub fn tensor(&self, name: &str, shape: &[usize]) -> Built<Tensor> {
        let path = self.path(name);
        let wanted = self.tensors.expect(&path, shape)?;
        let tensor = self.assembler.tensor(wanted).map_err(|error| match error {
            AssembleError::Weights(error) => error,
            AssembleError::Device(source) => self.device_error(&path, source),
        })?;
        self.tensors.mark_loaded(&path);
        Ok(tensor)
    }

    fn device_error(&self, name: &str, source: candle_core::Error) -> WeightsError {
        WeightsError::device(self.tensors.path(), name, &source)
    }

    /// A linear layer with bias.
    pub fn linear(&self, name: &str, inputs: usize, outputs: usize) -> Built<Linear> {
        self.linear_in(name, inputs, outputs, WeightFormat::Dense)
    }

    /// One of the large linear layers with bias that take most of a network's time and memory: its
    /// weight is stored in the placement's format. The weight read from the file is dropped before
    /// the next one is read.
    pub fn large_linear(&self, name: &str, inputs: usize, outputs: usize) -> Built<Linear> {
        self.linear_in(name, inputs, outputs, self.placement.products)
    }

    fn linear_in(
        &self,
        name: &str,
        inputs: usize,
        outputs: usize,
        format: WeightFormat,
    ) -> Built<Linear> {
        let at = self.at(name);
        let bias = at.tensor("bias", &[outputs])?;
        if let Some(rows) = self.blocks(&[(name, outputs)], inputs)? {
            if let Some(linear) = self.packed(rows, inputs, Some(bias.clone())) {
                return Ok(linear);
            }
        }
        let weight = at.tensor("weight", &[outputs, inputs])?;
        let linear = Linear::in_format(weight, Some(bias), format)
            .map_err(|source| self.device_error(&self.path(name), source))?;
        let is_kept = format == WeightFormat::Dense;
        let origin = is_kept.then(|| self.origin(&[(name, outputs)], inputs));
        Ok(linear.with_origin(origin.transpose()?.flatten()))
    }

    /// Bounds of the queries and keys that these norms produce, or `None` where attention does not
    /// run in fp8.
    ///
    /// # Errors
    /// A norm's weight cannot be read back from the device.
    pub fn fp8_bounds(&self, norms: &[&HeadNorms]) -> Built<Option<QkBounds>> {
        let bounds = (self.placement.products == WeightFormat::Fp8).then(|| QkBounds::of(norms));
        bounds
            .transpose()
            .map_err(|source| self.device_error(&self.prefix, source))
    }

    /// A linear layer without bias.
    pub fn linear_no_bias(&self, name: &str, inputs: usize, outputs: usize) -> Built<Linear> {
        self.joint_linear_no_bias(&[(name, outputs)], inputs)
    }

    /// Several linear layers of the same input, given by name and number of outputs, as one
    /// layer with the concatenated outputs.
    pub fn joint_linear_no_bias(&self, layers: &[(&str, usize)], inputs: usize) -> Built<Linear> {
        if let Some(rows) = self.blocks(layers, inputs)? {
            if let Some(linear) = self.packed(rows, inputs, None) {
                return Ok(linear);
            }
        }
        let weights = layers
            .iter()
            .map(|(name, outputs)| self.at(name).tensor("weight", &[*outputs, inputs]))
            .collect::<Built<Vec<_>>>()?;
        let parts: Vec<&Tensor> = weights.iter().collect();
        let weight = concat(&parts, 0).map_err(|source| self.device_error(&self.prefix, source))?;
        Ok(Linear::new(weight, None).with_origin(self.origin(layers, inputs)?))
    }

    /// Where the bytes of layers' weights can be read again as products take them.
    fn origin(&self, layers: &[(&str, usize)], inputs: usize) -> Built<Option<Arc<dyn HostBytes>>> {
        let mut tensors = Vec::with_capacity(layers.len());
        for (name, outputs) in layers {
            let weight = self.at(name).path("weight");
            tensors.push(self.tensors.expect(&weight, &[*outputs, inputs])?);
        }
        Ok(origin(&tensors, self.placement.weights))
    }

    fn packed(&self, rows: Vec<PackedRows>, inputs: usize, bias: Option<Tensor>) -> Option<Linear> {
        Linear::in_blocks(rows, inputs, self.placement.weights, bias)
    }

    /// The rows of layers' weights as the blocks that a file has, or `None` if it has another
    /// format. Only products on a CPU take blocks: elsewhere weights are decoded once.
    fn blocks(&self, layers: &[(&str, usize)], inputs: usize) -> Built<Option<Vec<PackedRows>>> {
        if !self.placement.device.is_cpu() || self.placement.products != WeightFormat::Dense {
            return Ok(None);
        }
        let mut rows = Vec::new();
        for (name, outputs) in layers {
            let weight = self.at(name).path("weight");
            for piece in &self.tensors.expect(&weight, &[*outputs, inputs])?.pieces {
                let StoredType::Block(kind) = piece.stored() else {
                    return Ok(None);
                };
                rows.push(PackedRows {
                    kind: *kind,
                    rows: piece.rows().len(),
                    bytes: Arc::new(piece.bytes()?.into_owned()),
                });
            }
        }
        for (name, _) in layers {
            self.tensors.mark_loaded(&self.at(name).path("weight"));
        }
        Ok(Some(rows))
    }

    /// A square convolution with bias.
    pub fn conv(
        &self,
        name: &str,
        inputs: usize,
        outputs: usize,
        kernel: usize,
        stride: usize,
    ) -> Built<Conv2d> {
        let at = self.at(name);
        let weight = at.tensor("weight", &[outputs, inputs, kernel, kernel])?;
        Conv2d::new(weight, at.tensor("bias", &[outputs])?, stride)
            .map_err(|source| self.device_error(&self.path(name), source))
    }

    /// A group norm with affine parameters.
    pub fn group_norm(
        &self,
        name: &str,
        channels: usize,
        groups: usize,
        eps: f64,
    ) -> Built<GroupNorm> {
        let at = self.at(name);
        Ok(GroupNorm::new(
            at.tensor("weight", &[channels])?,
            at.tensor("bias", &[channels])?,
            groups,
            eps,
        ))
    }
}
