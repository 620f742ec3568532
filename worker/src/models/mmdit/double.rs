//! Double-stream blocks: image and text have their own weights and one joint attention.

use candle_core::{Result, Tensor};

use super::head_norms::{head_norms, EPS};
use super::modulation::{split, Modulation};
use crate::checkpoint::MmditConfig;
use crate::models::builder::{Builder, Built};
use crate::nn::{
    dense, gated_linear, project_heads, project_swiglu, Block, HeadNorms, HeadProjection, Heads,
    Linear, QkBounds, RopeTable,
};

/// The weights of one stream, image or text.
struct Stream {
    qkv: Linear,
    norm: HeadNorms,
    proj: Linear,
    up_gate: Linear,
    down: Linear,
}

impl Stream {
    fn new(at: &Builder, name: &str, config: &MmditConfig) -> Built<Self> {
        let hidden = config.hidden_size;
        let attn = at.at(format!("{name}_attn"));
        let mlp = at.at(format!("{name}_mlp"));
        Ok(Self {
            qkv: attn.large_linear("qkv", hidden, 3 * hidden)?,
            norm: head_norms(&attn.at("norm"), config.head_dim())?,
            proj: attn.large_linear("proj", hidden, hidden)?,
            up_gate: mlp.large_linear("up_gate", hidden, 2 * config.mlp_hidden)?,
            down: mlp.large_linear("down_proj", config.mlp_hidden, hidden)?,
        })
    }

    fn linears(&mut self) -> Vec<&mut Linear> {
        vec![
            &mut self.qkv,
            &mut self.proj,
            &mut self.up_gate,
            &mut self.down,
        ]
    }

    /// The modulated projection to q, k and v.
    fn projection<'a>(&'a self, x: &'a Tensor, modulation: &'a Modulation) -> HeadProjection<'a> {
        HeadProjection {
            normed: modulation.before(&self.qkv, x),
            norms: &self.norm,
            eps: EPS,
        }
    }

    /// The rest of the block after the attention: output projection and MLP.
    fn finish(
        &self,
        x: &Tensor,
        attended: &Tensor,
        modulations: &[Modulation; 2],
    ) -> Result<Tensor> {
        let [attn, mlp] = modulations;
        let x = gated_linear(x, &attn.gate, &self.proj, attended)?;
        let inner = project_swiglu(&mlp.before(&self.up_gate, &x))?;
        gated_linear(&x, &mlp.gate, &self.down, &inner)
    }
}

/// A double-stream block (Esser et al. 2024).
pub(super) struct DoubleBlock {
    image: Stream,
    text: Stream,
    /// Bounds for attention in fp8, or `None` where it does not run in fp8.
    bounds: Option<QkBounds>,
}

impl DoubleBlock {
    pub fn new(at: &Builder, config: &MmditConfig) -> Built<Self> {
        let image = Stream::new(at, "img", config)?;
        let text = Stream::new(at, "txt", config)?;
        let bounds = at.fp8_bounds(&[&image.norm, &text.norm])?;
        Ok(Self {
            image,
            text,
            bounds,
        })
    }

    /// Maps image `[B, N, H]` and text `[B, T, H]` tokens, given one modulation row per stream.
    pub fn forward(
        &self,
        image: &Tensor,
        text: &Tensor,
        [image_row, text_row]: [&Tensor; 2],
        heads: Heads,
        rope: &RopeTable,
    ) -> Result<(Tensor, Tensor)> {
        let image_mod = split::<2>(image_row)?;
        let text_mod = split::<2>(text_row)?;
        let streams = [
            self.text.projection(text, &text_mod[0]),
            self.image.projection(image, &image_mod[0]),
        ];
        let attended = project_heads(&streams, heads, rope, self.bounds)?.attend()?;
        let text_len = text.dim(1)?;
        let image_len = image.dim(1)?;
        let text_attended = dense(&attended.narrow(1, 0, text_len)?)?;
        let image_attended = dense(&attended.narrow(1, text_len, image_len)?)?;
        Ok((
            self.image.finish(image, &image_attended, &image_mod)?,
            self.text.finish(text, &text_attended, &text_mod)?,
        ))
    }
}

impl Block for DoubleBlock {
    fn pages(&mut self) -> Vec<Vec<&mut Linear>> {
        vec![self.image.linears(), self.text.linears()]
    }
}
