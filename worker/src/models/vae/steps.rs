//! An autoencoder's half as a row of steps, that can be run on a part of an image.

use candle_core::{Result, Tensor};

use super::blocks::{AttentionBlock, ResidualBlock};
use super::shapes::StepShape;
use crate::nn::{upsample_nearest, Conv2d, GroupNorm};

/// Where group norms, which are about a whole image, get their moments from.
pub trait Norms {
    /// A norm and SiLU of `x`, or `None` to go no further.
    ///
    /// # Errors
    /// The device fails.
    fn norm(&mut self, norm: &GroupNorm, x: &Tensor) -> Result<Option<Tensor>>;
}

/// From the image itself, which is whole.
pub struct OfTheWhole;

impl Norms for OfTheWhole {
    fn norm(&mut self, norm: &GroupNorm, x: &Tensor) -> Result<Option<Tensor>> {
        norm.forward(x, true).map(Some)
    }
}

/// A part of a network that takes an image and gives one.
#[derive(Clone, Copy)]
pub enum Step<'a> {
    /// A convolution behind so many rows and columns of zeros, and in front of others.
    Conv(&'a Conv2d, usize, usize),
    /// Twice the height and width.
    Double,
    /// A residual block.
    Residual(&'a ResidualBlock),
    /// An attention over the whole image.
    Attention(&'a AttentionBlock),
    /// A group norm and SiLU.
    Norm(&'a GroupNorm),
}

/// Runs steps one after the other; `None` where `norms` went no further.
///
/// # Errors
/// The shapes do not fit, or the device fails.
pub fn run(steps: &[Step], x: Tensor, norms: &mut dyn Norms) -> Result<Option<Tensor>> {
    let mut x = x;
    for step in steps {
        let y = match step {
            Step::Conv(conv, before, after) => conv.forward(&x, *before, *after)?,
            Step::Double => upsample_nearest(&x)?,
            Step::Attention(block) => block.forward(x)?,
            Step::Residual(block) => match block.forward(x, norms)? {
                Some(y) => y,
                None => return Ok(None),
            },
            Step::Norm(norm) => match norms.norm(norm, &x)? {
                Some(y) => y,
                None => return Ok(None),
            },
        };
        x = y;
    }
    Ok(Some(x))
}

impl Step<'_> {
    /// Its shape.
    pub fn shape(&self) -> StepShape {
        match self {
            Step::Conv(conv, before, after) => StepShape::Conv {
                outputs: conv.outputs(),
                kernel: conv.kernel(),
                stride: conv.stride(),
                padding: before + after,
            },
            Step::Double => StepShape::Double,
            Step::Residual(block) => StepShape::Residual {
                outputs: block.outputs(),
                has_shortcut: block.has_shortcut(),
            },
            Step::Attention(_) => StepShape::Attention,
            Step::Norm(_) => StepShape::Norm,
        }
    }
}

/// The shapes of steps.
pub fn shapes(steps: &[Step]) -> Vec<StepShape> {
    steps.iter().map(Step::shape).collect()
}
