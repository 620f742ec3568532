//! Affine maps.

use candle_core::{DType, Result, Tensor};

use super::attention::{attention_and_swiglu, attention_and_swiglu_fp8};
#[cfg(feature = "cuda")]
use super::cuda;
use super::fp8::{quantize_rows, ScaledRows, MULTIPLE};
use super::mlp::{swiglu, swiglu_fp8};
use super::norm::{modulated_layer_norm, modulated_layer_norm_fp8};
use super::rope::QkBounds;

/// `x W^T + b`, with the weight kept as `[out, in]`.
#[derive(Clone, Debug)]
pub struct Linear {
    weight: Weight,
    bias: Option<Tensor>,
}

#[derive(Clone, Debug)]
enum Weight {
    Whole(Tensor),
    /// A scale for each output; inputs are brought to fp8 row by row as they come.
    Fp8(ScaledRows),
}

impl Linear {
    /// From a weight `[out, in]` and a bias `[out]`.
    pub fn new(weight: Tensor, bias: Option<Tensor>) -> Self {
        Self {
            weight: Weight::Whole(weight),
            bias,
        }
    }

    /// The layer with its weight in fp8, or as it is where its sizes are no
    /// [`MULTIPLE`] of what such products take.
    ///
    /// # Errors
    /// The device fails.
    pub fn into_fp8(self) -> Result<Self> {
        let weight = match self.weight {
            Weight::Whole(whole) if whole.dims().iter().all(|dim| dim % MULTIPLE == 0) => {
                Weight::Fp8(quantize_rows(&whole)?)
            }
            other => other,
        };
        Ok(Self { weight, ..self })
    }

    /// `[.., in]` to `[.., out]`, in the type of `x`.
    ///
    /// # Errors
    /// The shapes do not fit, or the device fails.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        match &self.weight {
            Weight::Whole(weight) => self.product(x, weight),
            Weight::Fp8(_) => self.forward_rows(&quantize_rows(x)?),
        }
    }

    /// [`forward`](Self::forward) of [`modulated_layer_norm`].
    ///
    /// # Errors
    /// As [`forward`](Self::forward).
    pub fn of_modulated_layer_norm(
        &self,
        x: &Tensor,
        shift: &Tensor,
        scale: &Tensor,
        eps: f64,
    ) -> Result<Tensor> {
        match &self.weight {
            Weight::Whole(weight) => {
                self.product(&modulated_layer_norm(x, shift, scale, eps)?, weight)
            }
            Weight::Fp8(_) => self.forward_rows(&modulated_layer_norm_fp8(x, shift, scale, eps)?),
        }
    }

    /// [`forward`](Self::forward) of [`swiglu`].
    ///
    /// # Errors
    /// As [`forward`](Self::forward).
    pub fn of_swiglu(&self, up_gate: &Tensor) -> Result<Tensor> {
        match &self.weight {
            Weight::Whole(weight) => self.product(&swiglu(up_gate)?, weight),
            Weight::Fp8(_) => self.forward_rows(&swiglu_fp8(up_gate)?),
        }
    }

    /// [`forward`](Self::forward) of [`attention_and_swiglu`]; where the weight is in fp8 and
    /// `bounds` are given, the attention may be so too, as [`attention_and_swiglu_fp8`] says.
    ///
    /// # Errors
    /// As [`forward`](Self::forward).
    pub fn of_attention_and_swiglu(
        &self,
        q: &Tensor,
        k: &Tensor,
        v: &Tensor,
        up_gate: &Tensor,
        bounds: Option<QkBounds>,
    ) -> Result<Tensor> {
        match &self.weight {
            Weight::Whole(weight) => self.product(&attention_and_swiglu(q, k, v, up_gate)?, weight),
            Weight::Fp8(_) => {
                self.forward_rows(&attention_and_swiglu_fp8(q, k, v, up_gate, bounds)?)
            }
        }
    }

    /// [`forward`](Self::forward) of rows that are in fp8 already, in the type they were
    /// made of. Products are exact and summed in float32 (of about 14 bits on a GPU: cuBLASLt's
    /// fast accumulation).
    ///
    /// # Errors
    /// As [`forward`](Self::forward).
    pub fn forward_rows(&self, x: &ScaledRows) -> Result<Tensor> {
        let weight = match &self.weight {
            Weight::Whole(weight) => {
                return self.product(&x.dequantize()?.to_dtype(x.dtype)?, weight)
            }
            Weight::Fp8(weight) => weight,
        };
        #[cfg(feature = "cuda")]
        if let Some(y) = cuda::fp8_linear(x, weight, self.bias.as_ref())? {
            return Ok(y);
        }
        let bias = match &self.bias {
            Some(bias) => Some(bias.to_dtype(DType::F32)?),
            None => None,
        };
        plain(&x.dequantize()?, &weight.dequantize()?, bias.as_ref())?.to_dtype(x.dtype)
    }

    fn product(&self, x: &Tensor, weight: &Tensor) -> Result<Tensor> {
        #[cfg(feature = "cuda")]
        if let Some(y) = cuda::linear(x, weight, self.bias.as_ref())? {
            return Ok(y);
        }
        // A weight stored narrower than the arithmetic (bf16 on a CPU) is
        // widened for the product and dropped again.
        let weight = weight.to_dtype(x.dtype())?;
        let bias = match &self.bias {
            Some(bias) => Some(bias.to_dtype(x.dtype())?),
            None => None,
        };
        plain(x, &weight, bias.as_ref())
    }
}

/// `x W^T + b` of tensors of one type.
fn plain(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let (out_dim, in_dim) = weight.dims2()?;
    let mut shape = x.dims().to_vec();
    let rows = x.elem_count() / in_dim;
    let y = x.reshape((rows, in_dim))?.matmul(&weight.t()?)?;
    let y = match bias {
        Some(bias) => y.broadcast_add(bias)?,
        None => y,
    };
    if let Some(last) = shape.last_mut() {
        *last = out_dim;
    }
    y.reshape(shape)
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
        let whole = Linear::new(weight, Some(bias));
        let fp8 = whole.clone().into_fp8().unwrap();
        let x = random(&[2, 5, 160]);
        let wanted = whole.forward(&x).unwrap();
        let found = fp8.forward(&x).unwrap();
        assert_eq!(found.dims(), [2, 5, 48]);
        let error = relative_error(&found, &wanted);
        // Both factors are rounded to 4 bits: 2^-4 / sqrt(3) / 2 each at the least.
        assert!(error > 0.01 && error < 0.06, "{error}");
    }

    #[test]
    fn sizes_that_do_not_fit_stay_as_they_are() {
        for (out_dim, in_dim) in [(40, 32), (32, 40)] {
            let whole = Linear::new(random(&[out_dim, in_dim]), None);
            let kept = whole.clone().into_fp8().unwrap();
            let x = random(&[3, in_dim]);
            let (kept, wanted) = (kept.forward(&x).unwrap(), whole.forward(&x).unwrap());
            assert_eq!(relative_error(&kept, &wanted), 0.0);
        }
    }
}
