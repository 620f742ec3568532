//! The whole transformer.

use std::ops::Range;

use candle_core::{Result, Tensor};

use super::double::DoubleBlock;
use super::head_norms::{heads, EPS};
use super::modulation::Modulations;
use super::single::SingleBlock;
use crate::checkpoint::{MmditConfig, TIME_EMBEDDING_WIDTH};
use crate::models::builder::{Builder, Built};
use crate::models::sites::Sites;
use crate::models::step_cache::StepCache;
use crate::nn::{
    add, cast, concat, dense, modulated_layer_norm, rms_norm, silu, subtract, timestep_embedding,
    Blocks, Linear, Placement, RopeTable,
};

/// The diffusion transformer, which predicts the velocity of packed latents.
pub struct Mmdit {
    config: MmditConfig,
    placement: Placement,
    image_in: Linear,
    text_norm: Tensor,
    text_in: Linear,
    time_in: Linear,
    time_out: Linear,
    double_blocks: Blocks<DoubleBlock>,
    single_blocks: Blocks<SingleBlock>,
    final_modulation: Linear,
    final_linear: Linear,
    sites: Sites,
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
            double_blocks: Blocks::Resident(double_blocks),
            single_blocks: Blocks::Resident(single_blocks),
            final_modulation: last.linear("adaLN_modulation.1", hidden, 2 * hidden)?,
            final_linear: last.linear("linear", hidden, config.in_channels)?,
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
    pub fn config(&self) -> &MmditConfig {
        &self.config
    }

    /// Where the network lives.
    pub fn placement(&self) -> &Placement {
        &self.placement
    }

    /// Rotary position embedding of `text_len` text tokens at (0, i, i), followed by
    /// `rows` x `columns` image tokens at (0, y, x).
    ///
    /// # Errors
    /// The table cannot be allocated on the device.
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

    /// Projects text conditioning `[B, T, D]` to the transformer's width, `[B, T, H]`. The result
    /// does not depend on the step, so it is computed once per job.
    ///
    /// # Errors
    /// The shapes do not fit, or the operation was cancelled.
    pub fn embed_text(&self, conditioning: &Tensor) -> Result<Tensor> {
        let text = cast(
            &conditioning.to_device(&self.placement.device)?,
            self.placement.compute(),
        )?;
        self.text_in
            .forward(&rms_norm(&text, &self.text_norm, EPS)?)
    }

    /// The modulations of all blocks at times `sigmas` in 0..1, one row per sigma. They depend on
    /// the times alone, so several steps share one product per block. The result grows with the
    /// number of sigmas: callers with many steps ask for a bounded number at a time.
    ///
    /// # Errors
    /// The rows cannot be allocated, or the operation was cancelled.
    pub fn modulations(&self, sigmas: &[f32]) -> Result<Modulations> {
        let timesteps: Vec<f32> = sigmas.iter().map(|sigma| sigma * 1000.0).collect();
        let embedded =
            timestep_embedding(&timesteps, TIME_EMBEDDING_WIDTH, &self.placement.device)?;
        let embedded = cast(&embedded, self.placement.compute())?;
        let time = silu(&self.time_in.forward(&embedded)?)?;
        let time = silu(&self.time_out.forward(&time)?)?;
        let double = (0..self.double_blocks.len())
            .map(|i| self.double_blocks.with(i, |block| block.modulations(&time)));
        let single = (0..self.single_blocks.len())
            .map(|i| self.single_blocks.with(i, |block| block.modulations(&time)));
        Ok(Modulations {
            double: double.collect::<Result<_>>()?,
            single: single.collect::<Result<_>>()?,
            last: self.final_modulation.forward(&time)?,
        })
    }

    /// Velocity of the image tokens `image` `[B, N, 64]` at the time of row `step` of the
    /// modulations, given embedded text `[B, T, H]`. A `cache` may replace all blocks but the
    /// first.
    ///
    /// # Errors
    /// The shapes do not fit, or the operation was cancelled.
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

    /// Runs a range of the double-stream blocks.
    fn double(
        &self,
        blocks: Range<usize>,
        image: &Tensor,
        text: &Tensor,
        (modulations, step, rope): (&Modulations, usize, &RopeTable),
    ) -> Result<(Tensor, Tensor)> {
        let (mut image, mut text) = (image.clone(), text.clone());
        let heads = heads(&self.config);
        for i in blocks {
            let [image_row, text_row] = &modulations.double[i];
            let rows = [
                &image_row.narrow(0, step, 1)?,
                &text_row.narrow(0, step, 1)?,
            ];
            (image, text) = self
                .double_blocks
                .with(i, |block| block.forward(&image, &text, rows, heads, rope))?;
        }
        Ok((image, text))
    }

    /// Runs the double-stream blocks from `first` on and all single-stream blocks, and returns the
    /// image tokens `[B, N, H]`.
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
        for (i, rows) in modulations.single.iter().enumerate() {
            let row = rows.narrow(0, step, 1)?;
            joint = self.single_blocks.with(i, |block| {
                block.forward(&joint, &row, heads(&self.config), rope)
            })?;
        }
        dense(&joint.narrow(1, text_len, image_len)?)
    }
}
