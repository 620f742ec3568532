//! The blocks of the encoder and the decoder.

use candle_core::{Result, Tensor};

use super::norms::Norms;
use crate::models::builder::{Builder, Built};
use crate::nn::{add, single_head, Conv2d, GroupNorm, Linear};

/// Epsilon of the group norms.
pub const EPS: f64 = 1e-6;

/// Two convolutions, each after a group norm and SiLU, beside a shortcut.
pub struct ResidualBlock {
    norm1: GroupNorm,
    conv1: Conv2d,
    norm2: GroupNorm,
    conv2: Conv2d,
    shortcut: Option<Conv2d>,
}

impl ResidualBlock {
    /// Builds the block from the tensors under `at`.
    ///
    /// # Errors
    /// A tensor is missing, misshapen or unreadable.
    pub fn new(at: &Builder, inputs: usize, outputs: usize, groups: usize) -> Built<Self> {
        let shortcut = match inputs == outputs {
            true => None,
            false => Some(at.conv("nin_shortcut", inputs, outputs, 1, 1)?),
        };
        Ok(Self {
            norm1: at.group_norm("norm1", inputs, groups, EPS)?,
            conv1: at.conv("conv1", inputs, outputs, 3, 1)?,
            norm2: at.group_norm("norm2", outputs, groups, EPS)?,
            conv2: at.conv("conv2", outputs, outputs, 3, 1)?,
            shortcut,
        })
    }

    /// Runs the block; `None` if `norms` ended the run. It takes `x` by value, because a tensor
    /// here has hundreds of megabytes at full resolution and is freed as soon as possible.
    ///
    /// # Errors
    /// The shapes do not fit, or the device fails or has too little memory.
    pub fn forward(&self, x: Tensor, norms: &mut dyn Norms) -> Result<Option<Tensor>> {
        let shortcut = match &self.shortcut {
            Some(shortcut) => shortcut.forward(&x, 0, 0)?,
            None => x.clone(),
        };
        let y = norms.norm(&self.norm1, &x)?;
        drop(x);
        let Some(y) = y else { return Ok(None) };
        let Some(y) = norms.norm(&self.norm2, &self.conv1.forward(&y, 1, 1)?)? else {
            return Ok(None);
        };
        let y = self.conv2.forward(&y, 1, 1)?;
        add(&shortcut, &y).map(Some)
    }

    /// Number of channels of the output.
    pub fn outputs(&self) -> usize {
        self.conv2.outputs()
    }

    /// Whether the shortcut is a convolution, and so a tensor beside the input.
    pub fn has_shortcut(&self) -> bool {
        self.shortcut.is_some()
    }
}

/// Single-head self-attention over all positions.
pub struct AttentionBlock {
    norm: GroupNorm,
    query: Linear,
    key: Linear,
    value: Linear,
    output: Linear,
}

impl AttentionBlock {
    /// Builds the block from the tensors under `at`.
    ///
    /// # Errors
    /// A tensor is missing, misshapen or unreadable.
    pub fn new(at: &Builder, channels: usize, groups: usize) -> Built<Self> {
        Ok(Self {
            norm: at.group_norm("norm", channels, groups, EPS)?,
            query: at.linear("q", channels, channels)?,
            key: at.linear("k", channels, channels)?,
            value: at.linear("v", channels, channels)?,
            output: at.linear("proj_out", channels, channels)?,
        })
    }

    /// `x` plus its attention.
    ///
    /// # Errors
    /// The shapes do not fit, or the device fails or has too little memory.
    pub fn forward(&self, x: Tensor) -> Result<Tensor> {
        let (b, c, h, w) = x.dims4()?;
        let y = self
            .norm
            .forward(&x, false)?
            .permute((0, 2, 3, 1))?
            .reshape((b, h * w, c))?;
        let y = single_head(
            &self.query.forward(&y)?,
            &self.key.forward(&y)?,
            &self.value.forward(&y)?,
        )?;
        let y = self
            .output
            .forward(&y)?
            .reshape((b, h, w, c))?
            .permute((0, 3, 1, 2))?;
        add(&x, &y)
    }
}
