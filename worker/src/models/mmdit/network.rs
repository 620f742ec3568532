//! Ovis-Image's multimodal diffusion transformer.
//!
//! Source: AIDC-AI/Ovis-Image `ovis_image/model/{model,layers}.py`.

use std::ops::Range;

use candle_core::{Result, Tensor};

use super::builder::{Builder, Built};
use super::step_cache::StepCache;
use crate::checkpoint::{MmditConfig, TIME_EMBEDDING_WIDTH};
use crate::nn::{
    add, cast, concat, dense, gated_linear, modulated_layer_norm, project_heads, project_jointly,
    project_swiglu, rms_norm, silu, subtract, timestep_embedding, HeadNorms, HeadProjection, Heads,
    Linear, Normed, Placement, QkBounds, RopeTable,
};

/// Query and key head counts are equal (24).
pub fn heads(config: &MmditConfig) -> Heads {
    Heads {
        query: config.num_heads,
        key: config.num_heads,
    }
}

/// Epsilon of every norm in the transformer. diffusers and ComfyUI have it; the
/// original leaves PyTorch's dtype-dependent default for q and k.
const EPS: f64 = 1e-6;

/// Shift, scale and gate of one modulated sublayer, each `[1, H]`.
struct Modulation {
    shift: Tensor,
    scale: Tensor,
    gate: Tensor,
}

impl Modulation {
    /// The modulated norm of `x` in front of a layer.
    fn before<'a>(&'a self, linear: &'a Linear, x: &'a Tensor) -> Normed<'a> {
        Normed {
            x,
            shift: &self.shift,
            scale: &self.scale,
            eps: EPS,
            linear,
        }
    }
}

/// The `N` modulations of a block at one step, from the row `[1, 3 N H]` that
/// its layer has made of the time.
fn split<const N: usize>(row: &Tensor) -> Result<[Modulation; N]> {
    let parts = row.chunk(3 * N, 1)?;
    Ok(std::array::from_fn(|i| Modulation {
        shift: parts[3 * i].clone(),
        scale: parts[3 * i + 1].clone(),
        gate: parts[3 * i + 2].clone(),
    }))
}

/// What the time does to every block, a row for each step of a job.
pub struct Modulations {
    double: Vec<[Tensor; 2]>,
    single: Vec<Tensor>,
    last: Tensor,
}

fn head_norms(at: &Builder, head_dim: usize) -> Built<HeadNorms> {
    Ok(HeadNorms {
        query: at.tensor("query_norm.weight", &[head_dim])?,
        key: at.tensor("key_norm.weight", &[head_dim])?,
    })
}

/// One stream (image or text) of a double-stream block.
struct Stream {
    modulation: Linear,
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
            modulation: at
                .at(format!("{name}_mod"))
                .linear("lin", hidden, 6 * hidden)?,
            qkv: attn.large_linear("qkv", hidden, 3 * hidden)?,
            norm: head_norms(&attn.at("norm"), config.head_dim())?,
            proj: attn.large_linear("proj", hidden, hidden)?,
            up_gate: mlp.large_linear("up_gate", hidden, 2 * config.mlp_hidden)?,
            down: mlp.large_linear("down_proj", config.mlp_hidden, hidden)?,
        })
    }

    /// To q, k and v.
    fn projection<'a>(&'a self, x: &'a Tensor, modulation: &'a Modulation) -> HeadProjection<'a> {
        HeadProjection {
            normed: modulation.before(&self.qkv, x),
            norms: &self.norm,
            eps: EPS,
        }
    }

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

/// Image and text keep their own weights and meet in the attention.
struct DoubleBlock {
    image: Stream,
    text: Stream,
    /// Given where attention is to be done in fp8.
    bounds: Option<QkBounds>,
}

impl DoubleBlock {
    fn new(at: &Builder, config: &MmditConfig) -> Built<Self> {
        let image = Stream::new(at, "img", config)?;
        let text = Stream::new(at, "txt", config)?;
        let bounds = at.fp8_bounds(&[&image.norm, &text.norm])?;
        Ok(Self {
            image,
            text,
            bounds,
        })
    }

    fn forward(
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

/// One stream of text and image tokens; attention and MLP in parallel
/// (Dehghani et al. 2023).
struct SingleBlock {
    modulation: Linear,
    linear1: Linear,
    norm: HeadNorms,
    linear2: Linear,
    /// Given where attention is to be done in fp8.
    bounds: Option<QkBounds>,
}

impl SingleBlock {
    fn new(at: &Builder, config: &MmditConfig) -> Built<Self> {
        let (hidden, inner) = (config.hidden_size, config.mlp_hidden);
        let norm = head_norms(&at.at("norm"), config.head_dim())?;
        Ok(Self {
            bounds: at.fp8_bounds(&[&norm])?,
            modulation: at.at("modulation").linear("lin", hidden, 3 * hidden)?,
            linear1: at.large_linear("linear1", hidden, 3 * hidden + 2 * inner)?,
            norm,
            linear2: at.large_linear("linear2", hidden + inner, hidden)?,
        })
    }

    fn forward(&self, x: &Tensor, row: &Tensor, heads: Heads, rope: &RopeTable) -> Result<Tensor> {
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

/// The diffusion transformer: predicts the velocity of packed latents.
pub struct Mmdit {
    config: MmditConfig,
    placement: Placement,
    image_in: Linear,
    text_norm: Tensor,
    text_in: Linear,
    time_in: Linear,
    time_out: Linear,
    double_blocks: Vec<DoubleBlock>,
    single_blocks: Vec<SingleBlock>,
    final_modulation: Linear,
    final_linear: Linear,
}

impl Mmdit {
    /// Builds the network.
    ///
    /// # Errors
    /// A tensor is missing, misshapen or unreadable.
    pub fn new(config: &MmditConfig, at: &Builder) -> Built<Self> {
        let hidden = config.hidden_size;
        let mut double_blocks = Vec::with_capacity(config.depth_double);
        for i in 0..config.depth_double {
            double_blocks.push(DoubleBlock::new(&at.at("double_blocks").at(i), config)?);
        }
        let mut single_blocks = Vec::with_capacity(config.depth_single);
        for i in 0..config.depth_single {
            single_blocks.push(SingleBlock::new(&at.at("single_blocks").at(i), config)?);
        }
        let time = at.at("time_in");
        let last = at.at("final_layer");
        Ok(Self {
            image_in: at.linear("img_in", config.in_channels, hidden)?,
            text_norm: at.tensor("txt_norm.weight", &[config.context_dim])?,
            text_in: at.linear("txt_in", config.context_dim, hidden)?,
            time_in: time.linear("in_layer", TIME_EMBEDDING_WIDTH, hidden)?,
            time_out: time.linear("out_layer", hidden, hidden)?,
            double_blocks,
            single_blocks,
            final_modulation: last.linear("adaLN_modulation.1", hidden, 2 * hidden)?,
            final_linear: last.linear("linear", hidden, config.in_channels)?,
            placement: at.placement().clone(),
            config: config.clone(),
        })
    }

    /// The network's geometry.
    pub fn config(&self) -> &MmditConfig {
        &self.config
    }

    /// Where the network lives.
    pub fn placement(&self) -> &Placement {
        &self.placement
    }

    /// Rotations for `text_len` text tokens at (0, i, i), then `rows` x `columns`
    /// image tokens at (0, y, x).
    ///
    /// # Errors
    /// The device fails.
    pub fn rope(&self, text_len: usize, rows: usize, columns: usize) -> Result<RopeTable> {
        let text = (0..text_len).map(|i| [0.0, i as f64, i as f64]);
        let image = (0..rows).flat_map(|y| (0..columns).map(move |x| [0.0, y as f64, x as f64]));
        let positions: Vec<[f64; 3]> = text.chain(image).collect();
        RopeTable::new(
            &positions,
            &self.config.axes_dim,
            self.config.theta,
            &self.placement.device,
        )
    }

    /// Text conditioning `[B, T, D]` to the transformer's width, `[B, T, H]`.
    /// It does not depend on the step, so it is computed once a job.
    ///
    /// # Errors
    /// The shapes do not fit, or the device fails.
    pub fn embed_text(&self, conditioning: &Tensor) -> Result<Tensor> {
        let text = cast(
            &conditioning.to_device(&self.placement.device)?,
            self.placement.compute(),
        )?;
        self.text_in
            .forward(&rms_norm(&text, &self.text_norm, EPS)?)
    }

    /// The modulations of every block at times `sigmas` in 0..1. They depend on
    /// nothing else, so a job's steps share one product a block.
    ///
    /// # Errors
    /// The device fails.
    pub fn modulations(&self, sigmas: &[f32]) -> Result<Modulations> {
        let timesteps: Vec<f32> = sigmas.iter().map(|sigma| sigma * 1000.0).collect();
        let embedded =
            timestep_embedding(&timesteps, TIME_EMBEDDING_WIDTH, &self.placement.device)?;
        let embedded = cast(&embedded, self.placement.compute())?;
        let time = silu(&self.time_in.forward(&embedded)?)?;
        let time = silu(&self.time_out.forward(&time)?)?;
        let double = self.double_blocks.iter().map(|block| {
            Ok([
                block.image.modulation.forward(&time)?,
                block.text.modulation.forward(&time)?,
            ])
        });
        let single = self.single_blocks.iter();
        let single = single.map(|block| block.modulation.forward(&time));
        Ok(Modulations {
            double: double.collect::<Result<_>>()?,
            single: single.collect::<Result<_>>()?,
            last: self.final_modulation.forward(&time)?,
        })
    }

    /// Velocity of the image tokens `image` `[B, N, 64]` at the time of row `step`
    /// of the modulations, given embedded text `[B, T, H]`. With a `cache`, all blocks but
    /// the first may be answered by it.
    ///
    /// # Errors
    /// The shapes do not fit, or the device fails.
    pub fn forward(
        &self,
        image: &Tensor,
        text: &Tensor,
        modulations: &Modulations,
        step: usize,
        rope: &RopeTable,
        cache: Option<&mut StepCache>,
    ) -> Result<Tensor> {
        let image = self.image_in.forward(image)?;
        let at = (modulations, step, rope);
        let image = match (cache, self.double_blocks.is_empty()) {
            (Some(cache), false) => {
                let (begun, text) = self.double(0..1, &image, text, at)?;
                let first = subtract(&begun, &image)?;
                match cache.recall(&first)? {
                    Some(rest) => add(&begun, rest)?,
                    None => {
                        let ended = self.inner(1, &begun, &text, at)?;
                        cache.keep(first, subtract(&ended, &begun)?)?;
                        ended
                    }
                }
            }
            _ => self.inner(0, &image, text, at)?,
        };
        let last = modulations.last.narrow(0, step, 1)?.chunk(2, 1)?;
        let image = modulated_layer_norm(&image, &last[0], &last[1], EPS)?;
        self.final_linear.forward(&image)
    }

    /// Some of the double-stream blocks.
    fn double(
        &self,
        blocks: Range<usize>,
        image: &Tensor,
        text: &Tensor,
        (modulations, step, rope): (&Modulations, usize, &RopeTable),
    ) -> Result<(Tensor, Tensor)> {
        let (mut image, mut text) = (image.clone(), text.clone());
        for (block, rows) in self.double_blocks[blocks.clone()]
            .iter()
            .zip(&modulations.double[blocks])
        {
            let [image_row, text_row] = rows;
            let rows = [
                &image_row.narrow(0, step, 1)?,
                &text_row.narrow(0, step, 1)?,
            ];
            (image, text) = block.forward(&image, &text, rows, heads(&self.config), rope)?;
        }
        Ok((image, text))
    }

    /// The double-stream blocks from `first` on and all single-stream ones: the image
    /// tokens `[B, N, H]` that leave them.
    fn inner(
        &self,
        first: usize,
        image: &Tensor,
        text: &Tensor,
        at: (&Modulations, usize, &RopeTable),
    ) -> Result<Tensor> {
        let (image, text) = self.double(first..self.double_blocks.len(), image, text, at)?;
        let (modulations, step, rope) = at;
        let (text_len, image_len) = (text.dim(1)?, image.dim(1)?);
        let mut joint = concat(&[&text, &image], 1)?;
        for (block, rows) in self.single_blocks.iter().zip(&modulations.single) {
            joint = block.forward(&joint, &rows.narrow(0, step, 1)?, heads(&self.config), rope)?;
        }
        dense(&joint.narrow(1, text_len, image_len)?)
    }
}
