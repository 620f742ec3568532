//! The one place that constructs weights.

use std::sync::Arc;

use candle_core::{DType, Result, Tensor};

use super::contract::Weight;
use super::dense::Dense;
use super::fp8::Fp8;
use super::packed::{Packed, PackedRows};
use crate::nn::placement::WeightFormat;

/// Stores a weight `[out, in]` in a format; as a tensor where its shape does not allow the format.
///
/// # Errors
/// The weight cannot be converted on its device.
pub fn store(weight: Tensor, format: WeightFormat) -> Result<Arc<dyn Weight>> {
    Ok(match format {
        WeightFormat::Dense => dense(weight),
        WeightFormat::Fp8 => match Fp8::new(&weight)? {
            Some(stored) => Arc::new(stored),
            None => dense(weight),
        },
    })
}

/// Keeps a weight `[out, in]` as the tensor that it is.
pub fn dense(weight: Tensor) -> Arc<dyn Weight> {
    Arc::new(Dense(weight))
}

/// Keeps a weight of `inputs` columns in its blocks, for products in the precision of `dtype`;
/// `None` if rows do not consist of whole ones.
pub fn packed(rows: Vec<PackedRows>, inputs: usize, dtype: DType) -> Option<Arc<dyn Weight>> {
    Some(Arc::new(Packed::new(rows, inputs, dtype)?))
}
