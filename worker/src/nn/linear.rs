//! Affine maps.

use std::sync::Arc;

use candle_core::{Result, Tensor};

use super::adapter::{current_layer, LayerChange, LayerId, LowRank};
use super::factors::Factors;
use super::norm::modulated_layer_norm;
use super::placement::{Placement, WeightFormat};
use super::scaled_rows::ScaledRows;
use super::stream::HostBytes;
use super::weight::{dense, packed, store, Input, PackedRows, Weight};

/// `x W^T + b`, with what the current [`AdapterSet`](super::AdapterSet) changes in it.
#[derive(Clone, Debug)]
pub struct Linear {
    base: Arc<dyn Weight>,
    bias: Option<Tensor>,
    origin: Option<Arc<dyn HostBytes>>,
    id: LayerId,
}

impl Linear {
    /// A layer with weight `[out, in]`, kept as a tensor, and bias `[out]`.
    pub fn new(weight: Tensor, bias: Option<Tensor>) -> Self {
        Self::of(dense(weight), bias)
    }

    /// A layer with its weight stored in `format`, or as a tensor if its shape does not allow
    /// that.
    ///
    /// # Errors
    /// The weight cannot be converted on its device.
    pub fn in_format(weight: Tensor, bias: Option<Tensor>, format: WeightFormat) -> Result<Self> {
        Ok(Self::of(store(weight, format)?, bias))
    }

    /// A layer whose weight of `inputs` columns stays in blocks and has the precision of the
    /// placement's weights in products; `None` if its rows do not consist of whole blocks.
    ///
    /// # Errors
    /// The device does not take the blocks.
    pub fn in_blocks(
        rows: &[PackedRows],
        inputs: usize,
        bias: Option<Tensor>,
        placement: &Placement,
    ) -> Result<Option<Self>> {
        let base = packed(rows, inputs, placement)?;
        Ok(base.map(|base| Self::of(base, bias)))
    }

    fn of(base: Arc<dyn Weight>, bias: Option<Tensor>) -> Self {
        Self {
            base,
            bias,
            origin: None,
            id: LayerId::new(),
        }
    }

    /// The id that an adapter set knows the layer by. Clones of a layer share it.
    pub fn id(&self) -> LayerId {
        self.id
    }

    /// The same layer with copies of its weight's scales, if it has any: those made
    /// [in transit](super::in_transit) would keep that memory from being freed.
    ///
    /// # Errors
    /// The device has too little memory.
    pub fn with_own_scales(mut self) -> Result<Self> {
        if let Some(base) = self.base.with_own_scales()? {
            self.base = base;
        }
        Ok(self)
    }

    /// The same layer, whose [`bulk`](Self::bulk) has the bytes of `origin`, which can be read at
    /// any time.
    pub fn with_origin(self, origin: Option<Arc<dyn HostBytes>>) -> Self {
        Self { origin, ..self }
    }

    /// Where the bytes of [`bulk`](Self::bulk) can be read, if they are somewhere.
    pub(super) fn origin(&self) -> Option<&Arc<dyn HostBytes>> {
        self.origin.as_ref()
    }

    /// The large tensor of the weight, which can be kept elsewhere; `None` if the weight cannot leave
    /// its device.
    pub(super) fn bulk(&self) -> Option<&Tensor> {
        self.base.bulk()
    }

    /// Replaces the large tensor of the weight by one of the same type and shape, and returns the
    /// old one.
    pub(super) fn move_bulk(&mut self, to: Tensor) -> Option<Tensor> {
        let old = self.base.bulk()?.clone();
        self.base = self.base.moved(to)?;
        Some(old)
    }

    /// Maps `[.., in]` to `[.., out]` in the type of `x`.
    ///
    /// # Errors
    /// The shapes do not fit, or the operation was cancelled.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.ready(x)?.product()
    }

    /// [`forward`](Self::forward) of rows that are already quantized, in the type that they were
    /// quantized from.
    ///
    /// # Errors
    /// The shapes do not fit, or the operation was cancelled.
    pub fn forward_rows(&self, x: &ScaledRows) -> Result<Tensor> {
        let layer = self.current();
        let input = Input::Fp8(x.clone());
        let dense = match layer.low_rank() {
            Some(_) => Some(x.dequantize()?.to_dtype(x.dtype)?),
            None => None,
        };
        layer.with(input, dense)?.product()
    }

    /// The layer with what the current adapter set changes in it.
    pub(super) fn current(&self) -> Current {
        let change = current_layer(self.id);
        let changed = change.as_deref();
        let base = changed.and_then(LayerChange::weight);
        let bias = changed.and_then(LayerChange::bias);
        Current {
            base: base.unwrap_or(&self.base).clone(),
            bias: bias.or(self.bias.as_ref()).cloned(),
            change,
        }
    }

    /// The layer with an input `x` `[.., in]`.
    pub(super) fn ready(&self, x: &Tensor) -> Result<Ready> {
        let layer = self.current();
        let input = layer.base.input(x)?;
        let dense = layer.low_rank().map(|_| x.clone());
        layer.with(input, dense)
    }

    /// [`ready`](Self::ready) for [`modulated_layer_norm`].
    pub(super) fn ready_normed(
        &self,
        x: &Tensor,
        shift: &Tensor,
        scale: &Tensor,
        eps: f64,
    ) -> Result<Ready> {
        let layer = self.current();
        if layer.low_rank().is_none() {
            let input = layer.base.normed_input(x, shift, scale, eps)?;
            return layer.with(input, None);
        }
        let x = modulated_layer_norm(x, shift, scale, eps)?;
        let input = layer.base.input(&x)?;
        layer.with(input, Some(x))
    }
}

/// A layer as the current adapter set has it.
pub(super) struct Current {
    base: Arc<dyn Weight>,
    bias: Option<Tensor>,
    change: Option<Arc<LayerChange>>,
}

impl Current {
    fn low_rank(&self) -> Option<&LowRank> {
        self.change.as_ref()?.low_rank()
    }

    fn with(self, input: Input, dense: Option<Tensor>) -> Result<Ready> {
        let inner = match (self.low_rank(), &dense) {
            (Some(updates), Some(x)) => updates.wide_inner(x)?,
            _ => None,
        };
        Ok(Ready {
            layer: self,
            input,
            dense,
            inner,
        })
    }
}

/// A layer and its input, in the form that it multiplies.
pub(super) struct Ready {
    layer: Current,
    input: Input,
    /// The input as a tensor, if there are low-rank updates, which multiply nothing else.
    dense: Option<Tensor>,
    /// The products of the updates' lower factors, if fused products take them.
    inner: Option<Tensor>,
}

impl Ready {
    /// `[.., out]`.
    ///
    /// # Errors
    /// The shapes do not fit, or the operation was cancelled.
    pub fn product(&self) -> Result<Tensor> {
        let Current { base, bias, change } = &self.layer;
        let y = match change {
            Some(change) => change.product(&**base, &self.input, bias.as_ref())?,
            None => base.product(&self.input, bias.as_ref())?,
        };
        match (self.layer.low_rank(), &self.dense) {
            (Some(updates), Some(x)) => updates.add_to(y, x),
            _ => Ok(y),
        }
    }

    /// The bias `[out]`.
    pub fn bias(&self) -> Option<&Tensor> {
        self.layer.bias.as_ref()
    }

    /// The factors of a fused product, or `None` where the product must be computed by
    /// [`product`](Self::product).
    pub fn factors(&self) -> Option<Factors<'_>> {
        let change = self.layer.change.as_ref();
        if change.is_some_and(|change| change.has_factors()) {
            return None;
        }
        let update = match (self.layer.low_rank(), &self.inner) {
            (None, _) => None,
            (Some(updates), Some(inner)) => Some(updates.wide_update(inner)?),
            (Some(_), None) => return None,
        };
        let operands = self.layer.base.operands(&self.input)?;
        Some(Factors { operands, update })
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::super::adapter::{AdapterSet, LowRankPart};
    use super::super::relative_error;
    use super::*;

    fn random(shape: &[usize]) -> Tensor {
        Tensor::randn(0f32, 1f32, shape, &Device::Cpu).unwrap()
    }

    #[test]
    fn fp8_costs_a_few_percent() {
        let (weight, bias) = (random(&[48, 160]), random(&[48]));
        let dense = Linear::new(weight.clone(), Some(bias.clone()));
        let fp8 = Linear::in_format(weight, Some(bias), WeightFormat::Fp8).unwrap();
        let x = random(&[2, 5, 160]);
        let wanted = dense.forward(&x).unwrap();
        let found = fp8.forward(&x).unwrap();
        assert_eq!(found.dims(), [2, 5, 48]);
        let error = relative_error(&found, &wanted);
        // Both factors are rounded to 4 bits: 2^-4 / sqrt(3) / 2 each at the least.
        assert!(error > 0.01 && error < 0.06, "{error}");
    }

    #[test]
    fn sizes_that_do_not_fit_stay_as_they_are() {
        for (out_dim, in_dim) in [(40, 32), (32, 40)] {
            let weight = random(&[out_dim, in_dim]);
            let dense = Linear::new(weight.clone(), None);
            let kept = Linear::in_format(weight, None, WeightFormat::Fp8).unwrap();
            let x = random(&[3, in_dim]);
            let (kept, wanted) = (kept.forward(&x).unwrap(), dense.forward(&x).unwrap());
            assert_eq!(relative_error(&kept, &wanted), 0.0);
        }
    }

    /// Two updates of all rows and one of the middle rows, of other strengths.
    fn parts() -> Vec<LowRankPart> {
        let part = |rows: std::ops::Range<usize>, rank, strength: f64| LowRankPart {
            down: random(&[rank, 32]),
            up: (random(&[rows.len(), rank]) * strength).unwrap(),
            rows,
        };
        vec![
            part(0..48, 4, 0.5),
            part(16..32, 3, 1.5),
            part(0..48, 1, -2.0),
        ]
    }

    fn merged(weight: &Tensor, parts: &[LowRankPart]) -> Tensor {
        let mut merged = weight.clone();
        for part in parts {
            let update = part.up.matmul(&part.down).unwrap();
            let (before, after) = (part.rows.start, 48 - part.rows.end);
            let update = update.pad_with_zeros(0, before, after).unwrap();
            merged = (merged + update).unwrap();
        }
        merged
    }

    fn set_of(linear: &Linear, change: LayerChange) -> Arc<AdapterSet> {
        let mut set = AdapterSet::default();
        set.change(linear.id(), change);
        Arc::new(set)
    }

    #[test]
    fn updates_equal_a_merged_weight_and_leave_no_trace() {
        let (weight, bias, parts) = (random(&[48, 32]), random(&[48]), parts());
        let wanted = Linear::new(merged(&weight, &parts), Some(bias.clone()));
        let x = random(&[2, 5, 32]);
        let wanted = wanted.forward(&x).unwrap();
        for (format, tolerance) in [(WeightFormat::Dense, 1e-6), (WeightFormat::Fp8, 0.06)] {
            let linear = Linear::in_format(weight.clone(), Some(bias.clone()), format).unwrap();
            let before = linear.forward(&x).unwrap();
            let updates = LowRank::new(&parts, 48).unwrap();
            let set = set_of(&linear, LayerChange::default().with_low_rank(updates));
            AdapterSet::with(Some(&set), || {
                let ready = linear.ready(&x).unwrap();
                assert!(ready.factors().is_none());
                let found = ready.product().unwrap();
                let error = relative_error(&found, &wanted);
                assert!(error < tolerance, "{format:?}: {error}");
                let rows = super::super::quantize_rows(&x).unwrap();
                let error = relative_error(&linear.forward_rows(&rows).unwrap(), &wanted);
                assert!(error < 0.06, "{format:?}: {error}");
                let other = Linear::new(weight.clone(), Some(bias.clone()));
                let plain = other.forward(&x).unwrap();
                assert!(relative_error(&plain, &wanted) > 0.1);
            });
            let after = linear.forward(&x).unwrap();
            let bits = |y: &Tensor| y.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            assert_eq!(bits(&after), bits(&before));
        }
    }

    #[test]
    fn weights_biases_and_factors_are_changed() {
        let (weight, bias) = (random(&[48, 32]), random(&[48]));
        let (other_weight, other_bias, factors) = (random(&[48, 32]), random(&[48]), random(&[48]));
        let (x, parts) = (random(&[3, 32]), parts());
        let linear = Linear::new(weight.clone(), Some(bias.clone()));
        let forward = |change: LayerChange| {
            let set = set_of(&linear, change);
            assert!(set.bytes() > 0 && !set.is_empty());
            AdapterSet::with(Some(&set), || linear.forward(&x)).unwrap()
        };
        let change = LayerChange::default().with_bias(other_bias.clone());
        let change = change.with_weight(other_weight.clone(), WeightFormat::Dense);
        let wanted = Linear::new(other_weight, Some(other_bias))
            .forward(&x)
            .unwrap();
        assert_eq!(relative_error(&forward(change.unwrap()), &wanted), 0.0);
        let scaled = weight
            .broadcast_mul(&factors.unsqueeze(1).unwrap())
            .unwrap();
        let wanted = Linear::new(merged(&scaled, &parts), Some(bias))
            .forward(&x)
            .unwrap();
        let change = LayerChange::default().with_factors(factors);
        let change = change.with_low_rank(LowRank::new(&parts, 48).unwrap());
        assert!(relative_error(&forward(change), &wanted) < 1e-6);
    }
}
