//! A weight stored as a tensor.

use std::sync::Arc;

use candle_core::{Result, Tensor};

use super::contract::{Input, Weight};
use crate::nn::backend::fused;
use crate::nn::factors::Operands;
use crate::nn::fused::Fused;
use crate::nn::norm::modulated_layer_norm;
use crate::nn::product::multiply;

/// A weight `[out, in]` in f32 or bf16.
#[derive(Debug)]
pub(super) struct Dense(pub(super) Tensor);

impl Weight for Dense {
    fn input(&self, x: &Tensor) -> Result<Input> {
        Ok(Input::Dense(x.clone()))
    }

    fn normed_input(&self, x: &Tensor, shift: &Tensor, scale: &Tensor, eps: f64) -> Result<Input> {
        modulated_layer_norm(x, shift, scale, eps).map(Input::Dense)
    }

    fn product(&self, input: &Input, bias: Option<&Tensor>) -> Result<Tensor> {
        let x = input.tensor()?;
        if let Some(y) = fused().linear(&x, &self.0, bias)? {
            return Ok(y);
        }
        // A weight in bf16 on a CPU is widened for each product and dropped again.
        let weight = self.0.to_dtype(x.dtype())?;
        let bias = bias.map(|bias| bias.to_dtype(x.dtype())).transpose()?;
        multiply(&x, &weight, bias.as_ref())
    }

    fn operands<'a>(&'a self, input: &'a Input) -> Option<Operands<'a>> {
        match input {
            Input::Dense(x) | Input::Opened { x, .. } => Some(Operands::Dense(x, &self.0)),
            Input::Fp8(_) => None,
        }
    }

    fn bulk(&self) -> Option<&Tensor> {
        Some(&self.0)
    }

    fn moved(&self, bulk: Tensor) -> Option<Arc<dyn Weight>> {
        Some(Arc::new(Self(bulk)))
    }
}
