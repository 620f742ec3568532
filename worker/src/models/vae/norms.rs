//! How steps apply group norms: with the moments of the tensor they have, or with others.

use candle_core::{Result, Tensor};

use crate::nn::GroupNorm;

/// Applies the group norms of a run. The moments of a group norm are those of the whole image,
/// which a run on a part of it does not see.
pub trait Norms {
    /// A group norm and SiLU of `x`; `None` ends the run there.
    ///
    /// # Errors
    /// The shapes do not fit, or the device fails.
    fn norm(&mut self, norm: &GroupNorm, x: &Tensor) -> Result<Option<Tensor>>;
}

/// Norms of a run on whole images, with the moments of the tensors themselves.
pub struct WholeImage;

impl Norms for WholeImage {
    fn norm(&mut self, norm: &GroupNorm, x: &Tensor) -> Result<Option<Tensor>> {
        norm.forward(x, true).map(Some)
    }
}
