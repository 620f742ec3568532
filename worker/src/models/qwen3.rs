//! The Qwen3 language model as a text encoder: its last hidden states after the final norm.
//!
//! Source: transformers `models/qwen3/modeling_qwen3.py`.

use std::rc::Rc;

use candle_core::{Result, Tensor};

use super::builder::{Builder, Built};
use super::embedding::EmbeddingTable;
use super::sites::Sites;
use crate::checkpoint::Qwen3Config;
use crate::nn::{
    add, attention, cast, qk_norm_rope, rms_norm, swiglu, Block, Blocks, Group, HeadNorms, Heads,
    Linear, Mask, PagedBlocks, Pager, Pairs, Placement, RopeTable,
};

/// Grouped-query causal self-attention with per-head q and k norms.
struct SelfAttention {
    qkv: Linear,
    norms: HeadNorms,
    output: Linear,
}

impl SelfAttention {
    fn new(at: &Builder, config: &Qwen3Config) -> Built<Self> {
        let (hidden, head_dim) = (config.hidden_size, config.head_dim);
        let query_width = config.num_heads * head_dim;
        let key_width = config.num_kv_heads * head_dim;
        let parts = [
            ("q_proj", query_width),
            ("k_proj", key_width),
            ("v_proj", key_width),
        ];
        Ok(Self {
            qkv: at.joint_linear_no_bias(&parts, hidden)?,
            norms: HeadNorms {
                query: at.tensor("q_norm.weight", &[head_dim])?,
                key: at.tensor("k_norm.weight", &[head_dim])?,
            },
            output: at.linear_no_bias("o_proj", query_width, hidden)?,
        })
    }

    fn forward(&self, x: &Tensor, config: &Qwen3Config, rope: &RopeTable) -> Result<Tensor> {
        let qkv = self.qkv.forward(x)?;
        let heads = Heads {
            query: config.num_heads,
            key: config.num_kv_heads,
        };
        let streams = [(&qkv, &self.norms)];
        let (q, k, v) = qk_norm_rope(&streams, heads, Pairs::Halves, rope, config.rms_norm_eps)?;
        self.output.forward(&attention(&q, &k, &v, Mask::Causal)?)
    }
}

/// One decoder layer.
struct Layer {
    input_norm: Tensor,
    attention: SelfAttention,
    mlp_norm: Tensor,
    up_gate: Linear,
    down: Linear,
}

impl Layer {
    fn new(at: &Builder, config: &Qwen3Config) -> Built<Self> {
        let (hidden, inner) = (config.hidden_size, config.intermediate_size);
        let mlp = at.at("mlp");
        Ok(Self {
            input_norm: at.tensor("input_layernorm.weight", &[hidden])?,
            attention: SelfAttention::new(&at.at("self_attn"), config)?,
            mlp_norm: at.tensor("post_attention_layernorm.weight", &[hidden])?,
            up_gate: mlp
                .joint_linear_no_bias(&[("up_proj", inner), ("gate_proj", inner)], hidden)?,
            down: mlp.linear_no_bias("down_proj", inner, hidden)?,
        })
    }

    fn forward(&self, x: &Tensor, config: &Qwen3Config, rope: &RopeTable) -> Result<Tensor> {
        let eps = config.rms_norm_eps;
        let y = rms_norm(x, &self.input_norm, eps)?;
        let x = add(x, &self.attention.forward(&y, config, rope)?)?;
        let y = rms_norm(&x, &self.mlp_norm, eps)?;
        let y = swiglu(&self.up_gate.forward(&y)?)?;
        add(&x, &self.down.forward(&y)?)
    }
}

impl Block for Layer {
    fn pages(&mut self) -> Vec<Vec<&mut Linear>> {
        vec![vec![
            &mut self.attention.qkv,
            &mut self.attention.output,
            &mut self.up_gate,
            &mut self.down,
        ]]
    }
}

/// The text encoder.
pub struct Qwen3 {
    config: Qwen3Config,
    placement: Placement,
    embeddings: EmbeddingTable,
    layers: Blocks<Layer>,
    norm: Tensor,
    sites: Sites,
}

impl Qwen3 {
    /// Builds the network. `pager` moves its layers' weights, and knows which of them stay on the
    /// device.
    ///
    /// # Errors
    /// A tensor is missing, misshapen or unreadable.
    pub fn new(config: &Qwen3Config, at: &Builder, pager: &Rc<Pager>) -> Built<Self> {
        let mut layers = Blocks::new(pager, Group::EncoderLayers);
        for i in 0..config.num_layers {
            let at = at.at("layers").at(i).in_transit();
            at.placed(layers.push(Layer::new(&at, config)?))?;
        }
        Ok(Self {
            embeddings: EmbeddingTable::new(at, config.vocab_size, config.hidden_size)?,
            layers,
            norm: at.tensor("norm.weight", &[config.hidden_size])?,
            placement: at.placement().clone(),
            config: config.clone(),
            sites: at.sites(),
        })
    }

    /// Where adapters find the network's tensors.
    pub fn sites(&self) -> &Sites {
        &self.sites
    }

    /// The network's geometry.
    pub fn config(&self) -> &Qwen3Config {
        &self.config
    }

    /// The layers, whose weights can be moved.
    pub fn paged(&self) -> &dyn PagedBlocks {
        &self.layers
    }

    /// Hidden states `[1, S, D]` after the final norm for each of some sequences of token ids. The
    /// sequences are not padded: padding would come last, where the causal mask hides it from all
    /// others. Each layer runs for all of them before the next layer does, so that its weights are
    /// needed on the device once.
    ///
    /// # Errors
    /// An id is outside the vocabulary, or the operation was cancelled.
    pub fn forward_all(&self, prompts: &[&[u32]]) -> Result<Vec<Tensor>> {
        let mut running = prompts
            .iter()
            .map(|ids| self.begin(ids))
            .collect::<Result<Vec<_>>>()?;
        for i in 0..self.layers.len() {
            self.layers.with(i, |layer| {
                for (x, rope) in &mut running {
                    *x = layer.forward(x, &self.config, rope)?;
                }
                Ok(())
            })?;
        }
        let norm = |(x, _): &(Tensor, RopeTable)| rms_norm(x, &self.norm, self.config.rms_norm_eps);
        running.iter().map(norm).collect()
    }

    /// A sequence's embeddings `[1, S, D]` and its rotary position embedding.
    fn begin(&self, ids: &[u32]) -> Result<(Tensor, RopeTable)> {
        let embedded = self.embeddings.rows(ids, &self.placement.device)?;
        let x = cast(&embedded, self.placement.compute())?.unsqueeze(0)?;
        let positions: Vec<[f64; 1]> = (0..ids.len()).map(|i| [i as f64]).collect();
        let rope = RopeTable::new(
            &positions,
            &[self.config.head_dim],
            self.config.rope_theta,
            &self.placement.device,
        )?;
        Ok((x, rope))
    }
}
