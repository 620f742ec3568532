//! Single-stream blocks: one sequence of text and image tokens, attention and MLP in parallel.

use candle_core::{Result, Tensor};

use super::head_norms::{head_norms, EPS};
use super::modulation::split;
use crate::checkpoint::MmditConfig;
use crate::models::builder::{Builder, Built};
use crate::nn::{
    gated_linear, project_jointly, Block, HeadNorms, HeadProjection, Heads, Linear, QkBounds,
    RopeTable,
};

/// A single-stream block (Dehghani et al. 2023).
pub(super) struct SingleBlock {
    /// Projects to q, k, v, up and gate.
    linear1: Linear,
    norm: HeadNorms,
    /// Projects attention and MLP back.
    linear2: Linear,
    /// Bounds for attention in fp8, or `None` where it does not run in fp8.
    bounds: Option<QkBounds>,
}

impl SingleBlock {
    pub fn new(at: &Builder, config: &MmditConfig) -> Built<Self> {
        let (hidden, inner) = (config.hidden_size, config.mlp_hidden);
        let norm = head_norms(&at.at("norm"), config.head_dim())?;
        Ok(Self {
            bounds: at.fp8_bounds(&[&norm])?,
            linear1: at.large_linear("linear1", hidden, 3 * hidden + 2 * inner)?,
            norm,
            linear2: at.large_linear("linear2", hidden + inner, hidden)?,
        })
    }

    /// Maps tokens `[B, T + N, H]`, given one modulation row.
    pub fn forward(
        &self,
        x: &Tensor,
        row: &Tensor,
        heads: Heads,
        rope: &RopeTable,
    ) -> Result<Tensor> {
        let [modulation] = split::<1>(row)?;
        let projection = HeadProjection {
            normed: modulation.before(&self.linear1, x),
            norms: &self.norm,
            eps: EPS,
        };
        let joint = project_jointly(&projection, heads, rope, self.bounds)?.attend()?;
        gated_linear(x, &modulation.gate, &self.linear2, &joint)
    }
}

impl Block for SingleBlock {
    fn pages(&mut self) -> Vec<Vec<&mut Linear>> {
        vec![vec![&mut self.linear1, &mut self.linear2]]
    }
}
