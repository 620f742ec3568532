//! What fused products multiply and add.

use candle_core::Tensor;

use super::heads::HeadNorms;
use super::scaled_rows::ScaledRows;

/// What a linear layer multiplies.
pub enum Operands<'a> {
    /// `x` `[.., in]` and the weight `[out, in]`, of one type.
    Dense(&'a Tensor, &'a Tensor),
    /// The same, both in E4M3 with a scale per row.
    Fp8(&'a ScaledRows, &'a ScaledRows),
}

/// Low-rank updates that are added to a product: `inner up^T`.
pub struct Update<'a> {
    /// `[.., R]`, the products of the lower factors.
    pub inner: &'a Tensor,
    /// The upper factors.
    pub up: &'a WideUp,
}

/// The upper factors of all updates of a layer, side by side as one matrix.
#[derive(Debug)]
pub struct WideUp {
    /// `[out, R]`, zero where an update does not change a row. R is a multiple of
    /// [`RANKS`](Self::RANKS).
    pub factors: Tensor,
    /// For each [`ROWS`](Self::ROWS) rows, the first and the end of the pieces of
    /// [`RANKS`](Self::RANKS) columns that have others than zeros: u32 `[out / ROWS, 2]`.
    pub pieces: Tensor,
}

impl WideUp {
    /// Columns that a kernel multiplies at a time.
    pub const RANKS: usize = 64;

    /// Rows that it treats alike.
    pub const ROWS: usize = 128;
}

/// The factors of a linear layer's product with what is added to it.
pub struct Factors<'a> {
    /// The input and the weight.
    pub operands: Operands<'a>,
    /// Low-rank updates, if there are any.
    pub update: Option<Update<'a>>,
}

/// A packed projection to attention heads.
pub struct HeadFactors<'a> {
    /// The input `[B, S, K]` and the weight.
    pub factors: Factors<'a>,
    /// Bias `[out]`.
    pub bias: Option<&'a Tensor>,
    /// RMSNorm weights of the query and key heads.
    pub norms: &'a HeadNorms,
    /// Epsilon of the head norms.
    pub eps: f64,
}
