//! Affine maps.

use candle_core::{DType, Result, Tensor};

#[cfg(feature = "cuda")]
use super::cuda;
use super::fp8::{quantize_rows, ScaledRows, MULTIPLE};
use super::norm::{modulated_layer_norm, modulated_layer_norm_fp8};
use super::operation::check_cancelled;

/// Multiplications and additions of one product on a CPU; a larger one is done a few rows at a
/// time, so that a cancel need not wait for all of it. About half a second on two cores.
const MAX_OPERATIONS: usize = 1 << 35;

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

/// What a layer multiplies its weight with, in the form that the weight asks for.
pub(super) enum Input {
    Whole(Tensor),
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
        self.product(&self.input(x)?)
    }

    /// `x` as this layer multiplies it.
    ///
    /// # Errors
    /// The device fails.
    pub(super) fn input(&self, x: &Tensor) -> Result<Input> {
        match &self.weight {
            Weight::Whole(_) => Ok(Input::Whole(x.clone())),
            Weight::Fp8(_) => quantize_rows(x).map(Input::Fp8),
        }
    }

    /// [`input`](Self::input) of [`modulated_layer_norm`].
    ///
    /// # Errors
    /// The shapes do not fit, or the device fails.
    pub(super) fn normed_input(
        &self,
        x: &Tensor,
        shift: &Tensor,
        scale: &Tensor,
        eps: f64,
    ) -> Result<Input> {
        match &self.weight {
            Weight::Whole(_) => modulated_layer_norm(x, shift, scale, eps).map(Input::Whole),
            Weight::Fp8(_) => modulated_layer_norm_fp8(x, shift, scale, eps).map(Input::Fp8),
        }
    }

    /// [`forward`](Self::forward) of what [`input`](Self::input) has made.
    ///
    /// # Errors
    /// As [`forward`](Self::forward).
    pub(super) fn product(&self, input: &Input) -> Result<Tensor> {
        match (input, &self.weight) {
            (Input::Whole(x), Weight::Whole(weight)) => self.whole_product(x, weight),
            (Input::Whole(x), Weight::Fp8(_)) => self.forward_rows(&quantize_rows(x)?),
            (Input::Fp8(rows), _) => self.forward_rows(rows),
        }
    }

    /// The bias `[out]`.
    #[cfg(feature = "cuda")]
    pub(super) fn bias(&self) -> Option<&Tensor> {
        self.bias.as_ref()
    }

    /// What a GPU multiplies for [`product`](Self::product), if `input` is of this layer's kind.
    #[cfg(feature = "cuda")]
    pub(super) fn factors<'a>(&'a self, input: &'a Input) -> Option<cuda::Factors<'a>> {
        match (input, &self.weight) {
            (Input::Whole(x), Weight::Whole(weight)) => Some(cuda::Factors::Bf16(x, weight)),
            (Input::Fp8(x), Weight::Fp8(weight)) => Some(cuda::Factors::Fp8(x, weight)),
            _ => None,
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
                return self.whole_product(&x.dequantize()?.to_dtype(x.dtype)?, weight)
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

    fn whole_product(&self, x: &Tensor, weight: &Tensor) -> Result<Tensor> {
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
    let (x, weight) = (x.reshape((rows, in_dim))?, weight.t()?);
    let most = (MAX_OPERATIONS / (2 * in_dim * out_dim)).max(1);
    let y = match rows <= most {
        true => {
            check_cancelled()?;
            x.matmul(&weight)?
        }
        false => {
            let pieces = (0..rows).step_by(most).map(|start| {
                check_cancelled()?;
                x.narrow(0, start, most.min(rows - start))?.matmul(&weight)
            });
            Tensor::cat(&pieces.collect::<Result<Vec<_>>>()?, 0)?
        }
    };
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
