//! An encoder or decoder as a sequence of steps, which can also run on a part of an image.

use candle_core::{Result, Tensor};

use super::blocks::{AttentionBlock, ResidualBlock};
use super::norms::Norms;
use super::shapes::StepShape;
use crate::nn::{upsample_nearest, Conv2d, GroupNorm};

/// A part of a network from images to images.
#[derive(Clone, Copy)]
pub enum Step<'a> {
    /// A convolution; the numbers are the rows and columns of zeros that pad its input at the top
    /// and left, and at the bottom and right.
    Conv(&'a Conv2d, usize, usize),
    /// Nearest-neighbour upsampling to twice the height and width.
    Upsample,
    /// A residual block.
    Residual(&'a ResidualBlock),
    /// Self-attention over the whole image.
    Attention(&'a AttentionBlock),
    /// A group norm and SiLU.
    Norm(&'a GroupNorm),
}

/// Runs steps one after the other; `None` if `norms` ended the run.
///
/// # Errors
/// The shapes do not fit, or the device fails or has too little memory.
pub fn run(steps: &[Step], x: Tensor, norms: &mut dyn Norms) -> Result<Option<Tensor>> {
    let mut x = x;
    for step in steps {
        let y = match step {
            Step::Conv(conv, before, after) => conv.forward(&x, *before, *after)?,
            Step::Upsample => upsample_nearest(&x)?,
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
    /// The step's shape.
    pub fn shape(&self) -> StepShape {
        match self {
            Step::Conv(conv, before, after) => StepShape::Conv {
                outputs: conv.outputs(),
                kernel: conv.kernel(),
                stride: conv.stride(),
                padding: before + after,
            },
            Step::Upsample => StepShape::Upsample,
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
