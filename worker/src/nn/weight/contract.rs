//! What a weight format provides.

use std::borrow::Cow;
use std::fmt::Debug;
use std::sync::Arc;

use candle_core::{Result, Tensor, TensorId};

use crate::nn::factors::Operands;
use crate::nn::scaled_rows::ScaledRows;

/// A linear layer's input in the form that its weight multiplies.
pub enum Input {
    /// A tensor `[.., in]`.
    Dense(Tensor),
    /// Rows quantized to fp8.
    Fp8(ScaledRows),
    /// A tensor `[.., in]`, and beside it the weight that is to multiply it, decoded for this use.
    Opened {
        /// The tensor.
        x: Tensor,
        /// The decoded weight `[out, in]`, in the type of `x`.
        weight: Tensor,
        /// The stored weight's tensor.
        of: TensorId,
    },
}

impl Input {
    /// The input as a tensor.
    ///
    /// # Errors
    /// Quantized rows cannot be converted back.
    pub fn tensor(&self) -> Result<Cow<'_, Tensor>> {
        Ok(match self {
            Self::Dense(x) | Self::Opened { x, .. } => Cow::Borrowed(x),
            Self::Fp8(rows) => Cow::Owned(rows.dequantize()?.to_dtype(rows.dtype)?),
        })
    }
}

/// A stored weight `[out, in]`.
pub trait Weight: Debug + Send + Sync {
    /// Converts `x` `[.., in]` once for several uses.
    ///
    /// # Errors
    /// The conversion fails.
    fn input(&self, x: &Tensor) -> Result<Input>;

    /// [`input`](Self::input) of a [`modulated_layer_norm`](crate::nn::modulated_layer_norm).
    ///
    /// # Errors
    /// The shapes do not fit.
    fn normed_input(&self, x: &Tensor, shift: &Tensor, scale: &Tensor, eps: f64) -> Result<Input>;

    /// `x W^T + b` in the type of the input; every weight takes inputs of any form.
    ///
    /// # Errors
    /// The shapes do not fit, or the operation was cancelled.
    fn product(&self, input: &Input, bias: Option<&Tensor>) -> Result<Tensor>;

    /// What a fused product multiplies, or `None` if there is none for this weight and input.
    fn operands<'a>(&'a self, input: &'a Input) -> Option<Operands<'a>>;

    /// The one large tensor, contiguous, which can be kept elsewhere; scales are not part of it.
    /// `None` if nothing of the weight can leave its device.
    fn bulk(&self) -> Option<&Tensor> {
        None
    }

    /// The same weight with another large tensor of the same type and shape in place of
    /// [`bulk`](Self::bulk); `None` if there is none.
    fn moved(&self, _bulk: Tensor) -> Option<Arc<dyn Weight>> {
        None
    }

    /// The same weight with copies of all that [`bulk`](Self::bulk) leaves out; `None` if that is
    /// nothing.
    ///
    /// # Errors
    /// The device has too little memory.
    fn with_own_scales(&self) -> Result<Option<Arc<dyn Weight>>> {
        Ok(None)
    }
}
