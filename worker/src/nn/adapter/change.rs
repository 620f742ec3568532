//! What adapters change in one linear layer.

use std::sync::Arc;

use candle_core::{Result, Tensor};

use super::low_rank::{size, LowRank};
use crate::nn::placement::WeightFormat;
use crate::nn::weight::{store, Input, Weight};

/// What a stack of adapters changes in one linear layer. By default nothing.
#[derive(Debug, Default)]
pub struct LayerChange {
    weight: Option<Arc<dyn Weight>>,
    bias: Option<Tensor>,
    factors: Option<Tensor>,
    low_rank: Option<LowRank>,
    bytes: u64,
}

impl LayerChange {
    /// Replaces the layer's weight by `weight` `[out, in]`, stored in `format`, or as a tensor
    /// where the layer's own is in blocks: those would round the change away.
    ///
    /// # Errors
    /// The weight cannot be converted on its device.
    pub fn with_weight(mut self, weight: Tensor, format: WeightFormat) -> Result<Self> {
        self.bytes += match format {
            WeightFormat::Fp8 => weight.elem_count() as u64,
            WeightFormat::Dense | WeightFormat::Blocks(_) => size(&weight),
        };
        self.weight = Some(store(weight, format)?);
        Ok(self)
    }

    /// Replaces the layer's bias.
    pub fn with_bias(mut self, bias: Tensor) -> Self {
        self.bytes += size(&bias);
        self.bias = Some(bias);
        self
    }

    /// Multiplies each output of the layer's product, before the bias, by a factor `[out]`.
    pub fn with_factors(mut self, factors: Tensor) -> Self {
        self.bytes += size(&factors);
        self.factors = Some(factors);
        self
    }

    /// Adds low-rank updates to the layer's result.
    pub fn with_low_rank(mut self, low_rank: LowRank) -> Self {
        self.bytes += low_rank.bytes();
        self.low_rank = Some(low_rank);
        self
    }

    /// Bytes of all tensors.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(in crate::nn) fn weight(&self) -> Option<&Arc<dyn Weight>> {
        self.weight.as_ref()
    }

    pub(in crate::nn) fn bias(&self) -> Option<&Tensor> {
        self.bias.as_ref()
    }

    pub(in crate::nn) fn low_rank(&self) -> Option<&LowRank> {
        self.low_rank.as_ref()
    }

    /// Whether the layer's product is multiplied by factors.
    pub(in crate::nn) fn has_factors(&self) -> bool {
        self.factors.is_some()
    }

    /// The layer's product and bias with the factors, without low-rank updates.
    pub(in crate::nn) fn product(
        &self,
        base: &dyn Weight,
        input: &Input,
        bias: Option<&Tensor>,
    ) -> Result<Tensor> {
        let Some(factors) = &self.factors else {
            return base.product(input, bias);
        };
        let y = base.product(input, None)?;
        let y = y.broadcast_mul(&factors.to_dtype(y.dtype())?)?;
        match bias {
            Some(bias) => y.broadcast_add(&bias.to_dtype(y.dtype())?),
            None => Ok(y),
        }
    }
}
