//! Rows of 8-bit floats with one scale per row.

use candle_core::{DType, Result, Tensor, D};

/// The largest number of E4M3 (4 bits of exponent, 3 of mantissa, no infinity).
///
/// Source: Micikevicius et al. 2022, "FP8 formats for deep learning".
pub const LARGEST: f64 = 448.0;

/// Lower bound on the magnitude that a row is scaled by, so that a row of zeros does not divide
/// by zero.
pub const LEAST: f64 = 1e-30;

/// Both dimensions of an fp8 weight must be multiples of this: cuBLASLt requires 16-byte alignment.
pub const MULTIPLE: usize = 16;

/// A tensor `[.., W]` stored as E4M3 numbers and one float32 scale per row.
#[derive(Clone, Debug)]
pub struct ScaledRows {
    /// E4M3 numbers, `[.., W]`.
    pub(super) values: Tensor,
    /// Scales `[rows]`: a row is its numbers times its scale.
    pub(super) scales: Tensor,
    /// Type of the tensor that was quantized, and of products with these rows.
    pub(super) dtype: DType,
}

impl ScaledRows {
    /// The shape `[.., W]`.
    pub fn dims(&self) -> &[usize] {
        self.values.dims()
    }

    /// The numbers times their scales, float32.
    ///
    /// # Errors
    /// Candle has no kernel that widens E4M3 on a GPU.
    pub fn dequantize(&self) -> Result<Tensor> {
        let width = self.values.dim(D::Minus1)?;
        let rows = self.scales.elem_count();
        self.values
            .to_dtype(DType::F32)?
            .reshape((rows, width))?
            .broadcast_mul(&self.scales.unsqueeze(1)?)?
            .reshape(self.dims())
    }
}
