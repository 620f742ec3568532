//! Fetches a network's tensors by name while it is built.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use candle_core::{Device, Tensor};

use super::assemble::{AssembleError, Assembler};
use super::blocks;
use super::origin::origin;
use super::sites::Sites;
use crate::checkpoint::{PartTensors, WeightsError};
use crate::nn::{
    concat, in_transit, Conv2d, GroupNorm, HeadNorms, HostBytes, Linear, Placement, QkBounds,
    WeightFormat,
};

/// A module's position in a part's tree of names, and the device and types of its tensors.
#[derive(Clone)]
pub struct Builder<'a> {
    tensors: &'a PartTensors,
    placement: &'a Placement,
    assembler: Rc<Assembler>,
    sites: Rc<RefCell<Sites>>,
    prefix: String,
    /// Whether weights of linear layers are in transit.
    is_in_transit: bool,
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
            sites: Rc::default(),
            prefix: String::new(),
            is_in_transit: false,
        }
    }

    /// The submodule called `name`.
    pub fn at(&self, name: impl std::fmt::Display) -> Self {
        Self {
            prefix: self.path(&name.to_string()),
            ..self.clone()
        }
    }

    /// The same position, for a block: the weights of its linear layers are
    /// [in transit](in_transit) until [`Blocks::push`](crate::nn::Blocks::push) has found a place for
    /// them.
    pub fn in_transit(&self) -> Self {
        Self {
            is_in_transit: true,
            ..self.clone()
        }
    }

    /// Runs `body`, which makes a linear layer's weight.
    fn weight<T>(&self, body: impl FnOnce() -> Built<T>) -> Built<T> {
        match self.is_in_transit {
            true => self.placed(in_transit(&self.placement.device, body))?,
            false => body(),
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

    /// Where adapters find the tensors of all that was built so far.
    pub fn sites(&self) -> Sites {
        self.sites.borrow().clone()
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
        let tensor = self.part_of_layer(name, shape)?;
        let mut sites = self.sites.borrow_mut();
        sites.add_parameter(self.path(name), &tensor);
        Ok(tensor)
    }

    /// A [`tensor`](Self::tensor) that a layer stores in its own form.
    fn part_of_layer(&self, name: &str, shape: &[usize]) -> Built<Tensor> {
        let path = self.path(name);
        let wanted = self.tensors.expect(&path, shape)?;
        let tensor = self.assembler.tensor(wanted);
        let tensor = tensor.map_err(|error| self.assemble_error(&path, error))?;
        self.tensors.mark_loaded(&path);
        Ok(tensor)
    }

    fn assemble_error(&self, name: &str, error: AssembleError) -> WeightsError {
        match error {
            AssembleError::Weights(error) => error,
            AssembleError::Device(source) => self.device_error(name, source),
        }
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
        let bias = at.part_of_layer("bias", &[outputs])?;
        let layers = [(name, outputs)];
        if let Some(linear) = self.in_blocks(&layers, inputs, Some(&bias), format)? {
            return Ok(self.with_site(linear, &layers, inputs, format));
        }
        let linear = self.weight(|| {
            let weight = at.part_of_layer("weight", &[outputs, inputs])?;
            at.placed(Linear::in_format(weight, Some(bias), format))
        })?;
        let linear = at.placed(linear.with_own_scales())?;
        let origin = match format {
            WeightFormat::Dense => self.origin(&layers, inputs)?,
            _ => None,
        };
        Ok(self.with_site(linear.with_origin(origin), &layers, inputs, format))
    }

    /// Registers a linear layer that consists of several layers of the file.
    fn with_site(
        &self,
        linear: Linear,
        layers: &[(&str, usize)],
        inputs: usize,
        format: WeightFormat,
    ) -> Linear {
        let rows = layers
            .iter()
            .map(|(name, outputs)| (self.path(name), *outputs));
        let mut sites = self.sites.borrow_mut();
        sites.add_layer(linear.id(), rows.collect(), inputs, format);
        linear
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
        if let Some(linear) = self.in_blocks(layers, inputs, None, WeightFormat::Dense)? {
            return Ok(self.with_site(linear, layers, inputs, WeightFormat::Dense));
        }
        let weight = self.weight(|| {
            let weights = layers
                .iter()
                .map(|(name, outputs)| self.at(name).part_of_layer("weight", &[*outputs, inputs]))
                .collect::<Built<Vec<_>>>()?;
            self.placed(concat(&weights.iter().collect::<Vec<_>>(), 0))
        })?;
        let linear = Linear::new(weight, None).with_origin(self.origin(layers, inputs)?);
        Ok(self.with_site(linear, layers, inputs, WeightFormat::Dense))
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

    /// Layers of one input as a layer whose weight is in blocks: those of the files, unless the
    /// placement asks for fp8, which is faster; or those that `format` asks for. `None` if there
    /// are neither, or if a row does not consist of whole blocks.
    fn in_blocks(
        &self,
        layers: &[(&str, usize)],
        inputs: usize,
        bias: Option<&Tensor>,
        format: WeightFormat,
    ) -> Built<Option<Linear>> {
        if self.placement.products == WeightFormat::Fp8 {
            return Ok(None);
        }
        let mut rows = Vec::new();
        for (name, outputs) in layers {
            let path = self.at(name).path("weight");
            let weight = self.tensors.expect(&path, &[*outputs, inputs])?;
            match (blocks::stored(weight)?, format) {
                (Some(stored), _) => rows.extend(stored),
                (None, WeightFormat::Blocks(kind)) if inputs.is_multiple_of(kind.values()) => {
                    let encoded = blocks::encoded(weight, kind);
                    rows.push(encoded.map_err(|error| self.assemble_error(&path, error))?);
                }
                _ => return Ok(None),
            }
        }
        let linear = self.weight(|| {
            self.placed(Linear::in_blocks(
                &rows,
                inputs,
                bias.cloned(),
                self.placement,
            ))
        })?;
        if linear.is_some() {
            for (name, _) in layers {
                self.tensors.mark_loaded(&self.at(name).path("weight"));
            }
        }
        Ok(linear)
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
        let weight = at.part_of_layer("weight", &[outputs, inputs, kernel, kernel])?;
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
