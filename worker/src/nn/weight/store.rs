//! The one place that constructs weights.

use std::sync::Arc;

use candle_core::{Result, Tensor};

use super::contract::Weight;
use super::dense::Dense;
use super::fp8::Fp8;
use super::packed::{Packed, PackedRows};
use crate::nn::placement::{Placement, WeightFormat};

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
        // A weight that is a tensor already has a shape that does not allow blocks.
        WeightFormat::Blocks(_) => dense(weight),
    })
}

/// Keeps a weight `[out, in]` as the tensor that it is.
pub fn dense(weight: Tensor) -> Arc<dyn Weight> {
    Arc::new(Dense(weight))
}

/// Keeps a weight of `inputs` columns in its blocks on the placement's device, for products in the
/// precision of its weights; `None` if rows do not consist of whole blocks.
///
/// # Errors
/// The device does not take the blocks.
pub fn packed(
    rows: &[PackedRows],
    inputs: usize,
    placement: &Placement,
) -> Result<Option<Arc<dyn Weight>>> {
    let packed = Packed::new(rows, inputs, placement.weights, &placement.device)?;
    Ok(packed.map(|packed| Arc::new(packed) as Arc<dyn Weight>))
}
