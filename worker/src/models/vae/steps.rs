//! An autoencoder's half as a row of steps, that can be run on a part of an image.

use candle_core::{Result, Tensor};

use super::blocks::{AttentionBlock, ResidualBlock};
use crate::layers::{upsample_nearest, Conv2d, GroupNorm, MAX_SCORES};

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

/// An image between two steps: channels, rows and columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Channels.
    pub channels: usize,
    /// Rows.
    pub rows: usize,
    /// Columns.
    pub columns: usize,
}

impl Size {
    /// How many values it has.
    pub fn values(self) -> usize {
        self.channels * self.rows * self.columns
    }
}

/// The image that steps make of one of this size.
pub fn output(steps: &[Step], size: Size) -> Size {
    steps.iter().fold(size, |size, step| step.output(size))
}

/// The most values that live at a time while steps run on an image of this size.
pub fn most_values(steps: &[Step], size: Size) -> usize {
    let mut size = size;
    let mut most = 0;
    for step in steps {
        most = most.max(step.most_values(size));
        size = step.output(size);
    }
    most
}

impl Step<'_> {
    /// How many group norms it has.
    pub fn norms(&self) -> usize {
        match self {
            Step::Residual(_) => 2,
            Step::Norm(_) => 1,
            Step::Conv(..) | Step::Double | Step::Attention(_) => 0,
        }
    }

    /// The image that it makes of one of this size.
    pub fn output(&self, size: Size) -> Size {
        match self {
            Step::Conv(conv, before, after) => {
                let length = |of: usize| (of + before + after - conv.kernel()) / conv.stride() + 1;
                Size {
                    channels: conv.outputs(),
                    rows: length(size.rows),
                    columns: length(size.columns),
                }
            }
            Step::Double => Size {
                rows: 2 * size.rows,
                columns: 2 * size.columns,
                ..size
            },
            Step::Residual(block) => Size {
                channels: block.outputs(),
                ..size
            },
            Step::Attention(_) | Step::Norm(_) => size,
        }
    }

    /// The most values that live at a time while it runs on an image of this size.
    pub fn most_values(&self, size: Size) -> usize {
        let (before, after) = (size.values(), self.output(size).values());
        match self {
            Step::Conv(..) | Step::Double | Step::Norm(_) => before + after,
            Step::Residual(block) => {
                // The shortcut is the input itself, or another beside it.
                let (shortcut, other) = match block.has_shortcut() {
                    true => (after, after),
                    false => (before, 0),
                };
                // The input and its norm; then the shortcut, a norm's output and a
                // convolution's.
                (before + other + before).max(shortcut + before.max(after) + after)
            }
            // Its norm, queries, keys, values and result, and scores.
            Step::Attention(_) => {
                let places = size.rows * size.columns;
                6 * before + places.saturating_mul(places).min(MAX_SCORES)
            }
        }
    }

    /// How many rows of its output an edge spoils that is none of the image's, where so many
    /// of its input's are spoilt.
    pub fn spoilt(&self, rows: usize) -> usize {
        match self {
            Step::Conv(conv, ..) => (rows + conv.kernel() / 2).div_ceil(conv.stride()),
            Step::Double => 2 * rows,
            Step::Residual(_) => rows + 2,
            Step::Attention(_) | Step::Norm(_) => rows,
        }
    }
}
