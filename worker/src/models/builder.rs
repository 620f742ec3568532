//! Fetches a network's tensors by name while it is built.

use candle_core::Tensor;

use super::random::RandomWeights;
use crate::checkpoint::{PartTensors, WeightsError};
use crate::nn::{concat, Conv2d, GroupNorm, HeadNorms, Linear, Placement, QkBounds, WeightFormat};

/// Where tensors come from.
#[derive(Clone, Copy)]
enum Source<'a> {
    Files(&'a PartTensors),
    Random(&'a RandomWeights),
}

/// A place in a part's tree of names, and where its tensors shall live.
#[derive(Clone)]
pub struct Builder<'a> {
    source: Source<'a>,
    placement: &'a Placement,
    prefix: String,
}

/// What building a network returns.
pub type Built<T> = Result<T, WeightsError>;

impl<'a> Builder<'a> {
    /// The root of a part.
    pub fn new(tensors: &'a PartTensors, placement: &'a Placement) -> Self {
        Self {
            source: Source::Files(tensors),
            placement,
            prefix: String::new(),
        }
    }

    /// The root of a part that gets whatever it asks for, at random.
    pub fn random(weights: &'a RandomWeights, placement: &'a Placement) -> Self {
        Self {
            source: Source::Random(weights),
            placement,
            prefix: String::new(),
        }
    }

    /// The subtree called `name`.
    pub fn at(&self, name: impl std::fmt::Display) -> Self {
        Self {
            prefix: self.path(&name.to_string()),
            ..self.clone()
        }
    }

    /// Where the network lives.
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
        match self.source {
            Source::Files(tensors) => tensors.contains(&self.path(name)),
            Source::Random(_) => true,
        }
    }

    /// One tensor of exactly this shape.
    ///
    /// # Errors
    /// It is missing, has another shape, or cannot be read.
    pub fn tensor(&self, name: &str, shape: &[usize]) -> Built<Tensor> {
        let (placement, path) = (self.placement, self.path(name));
        match self.source {
            Source::Files(tensors) => {
                tensors.get(&path, shape, placement.weights, &placement.device)
            }
            Source::Random(weights) => weights
                .tensor(&path, shape)
                .map_err(|source| self.device_error(&path, source)),
        }
    }

    fn device_error(&self, name: &str, source: candle_core::Error) -> WeightsError {
        match self.source {
            Source::Files(tensors) => tensors.device_error(name, source),
            Source::Random(_) => WeightsError::Device {
                file: "random weights".into(),
                tensor: name.to_owned(),
                source: Box::new(source),
            },
        }
    }

    /// A linear layer with bias.
    ///
    /// # Errors
    /// As [`tensor`](Self::tensor).
    pub fn linear(&self, name: &str, inputs: usize, outputs: usize) -> Built<Linear> {
        self.linear_in(name, inputs, outputs, WeightFormat::Dense)
    }

    /// One of the large linear layers with bias that take most of a network's time and memory: its
    /// weight is stored in the placement's format. The weight read from the file is dropped before
    /// the next one is read.
    ///
    /// # Errors
    /// As [`tensor`](Self::tensor).
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
        let weight = at.tensor("weight", &[outputs, inputs])?;
        let bias = at.tensor("bias", &[outputs])?;
        Linear::in_format(weight, Some(bias), format)
            .map_err(|source| self.device_error(&self.path(name), source))
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
    ///
    /// # Errors
    /// As [`tensor`](Self::tensor).
    pub fn linear_no_bias(&self, name: &str, inputs: usize, outputs: usize) -> Built<Linear> {
        self.joint_linear_no_bias(&[(name, outputs)], inputs)
    }

    /// Linear layers of one input, given by name and outputs, as one whose
    /// outputs follow each other.
    ///
    /// # Errors
    /// As [`tensor`](Self::tensor).
    pub fn joint_linear_no_bias(&self, layers: &[(&str, usize)], inputs: usize) -> Built<Linear> {
        let weights = layers
            .iter()
            .map(|(name, outputs)| self.at(name).tensor("weight", &[*outputs, inputs]))
            .collect::<Built<Vec<_>>>()?;
        let parts: Vec<&Tensor> = weights.iter().collect();
        let weight = concat(&parts, 0).map_err(|source| self.device_error(&self.prefix, source))?;
        Ok(Linear::new(weight, None))
    }

    /// A square convolution with bias.
    ///
    /// # Errors
    /// As [`tensor`](Self::tensor).
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
    ///
    /// # Errors
    /// As [`tensor`](Self::tensor).
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
