//! Affine maps.

use std::sync::Arc;

use candle_core::{Result, Tensor};

use super::adapter::Adapter;
use super::fused::Factors;
use super::norm::modulated_layer_norm;
use super::placement::{Placement, WeightFormat};
use super::scaled_rows::ScaledRows;
use super::weight::{dense, packed, store, Input, PackedRows, Weight};

/// `x W^T + b`, plus the updates of any adapters.
#[derive(Clone, Debug)]
pub struct Linear {
    base: Arc<dyn Weight>,
    bias: Option<Tensor>,
    /// Low-rank updates, applied after the base product.
    pub adapters: Vec<Adapter>,
}

impl Linear {
    /// A layer with weight `[out, in]`, kept as a tensor, and bias `[out]`.
    pub fn new(weight: Tensor, bias: Option<Tensor>) -> Self {
        Self {
            base: dense(weight),
            bias,
            adapters: Vec::new(),
        }
    }

    /// A layer with its weight stored in `format`, or as a tensor if its shape does not allow
    /// that.
    ///
    /// # Errors
    /// The weight cannot be converted on its device.
    pub fn in_format(weight: Tensor, bias: Option<Tensor>, format: WeightFormat) -> Result<Self> {
        Ok(Self {
            base: store(weight, format)?,
            bias,
            adapters: Vec::new(),
        })
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
        Ok(base.map(|base| Self {
            base,
            bias,
            adapters: Vec::new(),
        }))
    }

    /// Maps `[.., in]` to `[.., out]` in the type of `x`.
    ///
    /// # Errors
    /// The shapes do not fit, or the operation was cancelled.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.product(&self.input(x)?)
    }

    /// [`forward`](Self::forward) of rows that are already quantized, in the type that they were
    /// quantized from.
    ///
    /// # Errors
    /// The shapes do not fit, or the operation was cancelled.
    pub fn forward_rows(&self, x: &ScaledRows) -> Result<Tensor> {
        self.product(&Input::Fp8(x.clone()))
    }

    /// `x` in the form that this layer multiplies. Adapters multiply a tensor, so with adapters it
    /// stays one.
    pub(super) fn input(&self, x: &Tensor) -> Result<Input> {
        match self.adapters.is_empty() {
            true => self.base.input(x),
            false => Ok(Input::Dense(x.clone())),
        }
    }

    /// [`input`](Self::input) of [`modulated_layer_norm`].
    pub(super) fn normed_input(
        &self,
        x: &Tensor,
        shift: &Tensor,
        scale: &Tensor,
        eps: f64,
    ) -> Result<Input> {
        match self.adapters.is_empty() {
            true => self.base.normed_input(x, shift, scale, eps),
            false => modulated_layer_norm(x, shift, scale, eps).map(Input::Dense),
        }
    }

    /// [`forward`](Self::forward) of an [`input`](Self::input).
    pub(super) fn product(&self, input: &Input) -> Result<Tensor> {
        let mut y = self.base.product(input, self.bias.as_ref())?;
        if self.adapters.is_empty() {
            return Ok(y);
        }
        let x = input.tensor()?;
        for adapter in &self.adapters {
            y = (y + adapter.update(&x)?)?;
        }
        Ok(y)
    }

    /// The bias `[out]`.
    pub(super) fn bias(&self) -> Option<&Tensor> {
        self.bias.as_ref()
    }

    /// The factors of a fused product, or `None` where the product must be computed by
    /// [`product`](Self::product): no fused product includes adapters.
    pub(super) fn factors<'a>(&'a self, input: &'a Input) -> Option<Factors<'a>> {
        match self.adapters.is_empty() {
            true => self.base.factors(input),
            false => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

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

    #[test]
    fn adapters_equal_a_merged_weight() {
        let (weight, bias) = (random(&[48, 32]), random(&[48]));
        let adapters = [(4, 0.5), (1, -2.0)].map(|(rank, scale)| Adapter {
            down: random(&[rank, 32]),
            up: random(&[48, rank]),
            scale,
        });
        let mut merged = weight.clone();
        for adapter in &adapters {
            let update = adapter.up.matmul(&adapter.down).unwrap();
            merged = (merged + (update * adapter.scale).unwrap()).unwrap();
        }
        let wanted = Linear::new(merged, Some(bias.clone()));
        let x = random(&[2, 5, 32]);
        let wanted = wanted.forward(&x).unwrap();
        for (format, tolerance) in [(WeightFormat::Dense, 1e-6), (WeightFormat::Fp8, 0.06)] {
            let mut linear = Linear::in_format(weight.clone(), Some(bias.clone()), format).unwrap();
            linear.adapters = adapters.to_vec();
            let input = linear.input(&x).unwrap();
            assert!(linear.factors(&input).is_none());
            let found = linear.product(&input).unwrap();
            let error = relative_error(&found, &wanted);
            assert!(error < tolerance, "{format:?}: {error}");
            let rows = super::super::quantize_rows(&x).unwrap();
            let error = relative_error(&linear.forward_rows(&rows).unwrap(), &wanted);
            assert!(error < 0.06, "{format:?}: {error}");
        }
    }
}
