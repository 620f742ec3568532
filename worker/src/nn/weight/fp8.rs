//! A weight stored as rows of 8-bit floats.

use std::sync::Arc;

use candle_core::{DType, Result, Tensor};

use super::contract::{Input, Weight};
use crate::nn::backend::fused;
use crate::nn::factors::Operands;
use crate::nn::fused::Fused;
use crate::nn::gradients::tracked;
use crate::nn::norm::{modulated_layer_norm, modulated_layer_norm_fp8};
use crate::nn::product::multiply;
use crate::nn::quantize::quantize_rows;
use crate::nn::scaled_rows::{ScaledRows, MULTIPLE};

/// A weight `[out, in]` in E4M3 with a scale per output. Inputs are quantized row by row.
#[derive(Debug)]
pub(super) struct Fp8(ScaledRows);

impl Fp8 {
    /// Quantizes a weight, or returns `None` if a dimension is not a multiple of [`MULTIPLE`].
    pub(super) fn new(weight: &Tensor) -> Result<Option<Self>> {
        match weight.dims().iter().all(|dim| dim % MULTIPLE == 0) {
            true => quantize_rows(weight).map(|rows| Some(Self(rows))),
            false => Ok(None),
        }
    }

    /// Products of E4M3 numbers are exact. Sums are float32 on a CPU and keep about 14 bits on a
    /// GPU, where cuBLASLt accumulates fast.
    fn rows_product(&self, x: &ScaledRows, bias: Option<&Tensor>) -> Result<Tensor> {
        if let Some(y) = fused().fp8_linear(x, &self.0, bias)? {
            return Ok(y);
        }
        self.widened_product(&x.dequantize()?, bias)?
            .to_dtype(x.dtype)
    }

    /// The product with float32 inputs.
    fn widened_product(&self, x: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
        let bias = bias.map(|bias| bias.to_dtype(DType::F32)).transpose()?;
        multiply(x, &self.0.dequantize()?, bias.as_ref())
    }
}

impl Weight for Fp8 {
    fn input(&self, x: &Tensor) -> Result<Input> {
        match tracked(&[x]) {
            true => Ok(Input::Dense(x.clone())),
            false => quantize_rows(x).map(Input::Fp8),
        }
    }

    fn normed_input(&self, x: &Tensor, shift: &Tensor, scale: &Tensor, eps: f64) -> Result<Input> {
        match tracked(&[x, shift, scale]) {
            true => modulated_layer_norm(x, shift, scale, eps).map(Input::Dense),
            false => modulated_layer_norm_fp8(x, shift, scale, eps).map(Input::Fp8),
        }
    }

    fn product(&self, input: &Input, bias: Option<&Tensor>) -> Result<Tensor> {
        match input {
            Input::Fp8(rows) => self.rows_product(rows, bias),
            Input::Dense(x) | Input::Opened { x, .. } if !tracked(&[x]) => {
                self.rows_product(&quantize_rows(x)?, bias)
            }
            Input::Dense(x) | Input::Opened { x, .. } => {
                // Rounding has no derivative, so the gradient passes through it unchanged
                // (Bengio et al. 2013).
                let wide = x.to_dtype(DType::F32)?;
                let rounded = quantize_rows(&x.detach())?.dequantize()?;
                let rounded = (&wide + (rounded - wide.detach())?)?;
                self.widened_product(&rounded, bias)?.to_dtype(x.dtype())
            }
        }
    }

    fn operands<'a>(&'a self, input: &'a Input) -> Option<Operands<'a>> {
        match input {
            Input::Fp8(x) => Some(Operands::Fp8(x, &self.0)),
            Input::Dense(_) | Input::Opened { .. } => None,
        }
    }

    fn bulk(&self) -> Option<&Tensor> {
        Some(&self.0.values)
    }

    fn moved(&self, bulk: Tensor) -> Option<Arc<dyn Weight>> {
        Some(Arc::new(Self(ScaledRows {
            values: bulk,
            ..self.0.clone()
        })))
    }

    fn with_own_scales(&self) -> Result<Option<Arc<dyn Weight>>> {
        Ok(Some(Arc::new(Self(ScaledRows {
            scales: self.0.scales.copy()?,
            ..self.0.clone()
        }))))
    }
}
