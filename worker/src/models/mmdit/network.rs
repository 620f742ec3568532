//! The whole transformer.

use std::rc::Rc;

use candle_core::{Result, Tensor};

use super::double::DoubleBlock;
use super::head_norms::{heads, EPS};
use super::modulation::Modulations;
use super::modulators::Modulators;
use super::single::SingleBlock;
use crate::checkpoint::{MmditConfig, TIME_EMBEDDING_WIDTH};
use crate::models::builder::{Builder, Built};
use crate::models::sites::Sites;
use crate::models::step_cache::StepCache;
use crate::nn::{
    add, cast, concat, dense, modulated_layer_norm, rms_norm, silu, subtract, timestep_embedding,
    Blocks, Group, Linear, PagedBlocks, Pager, Placement, RopeTable,
};

/// One branch of guidance in a step.
pub struct BranchInput<'a> {
    /// Image tokens `[B, N, 64]`.
    pub image: &'a Tensor,
    /// Embedded text `[B, T, H]`.
    pub text: &'a Tensor,
    /// Rotary position embedding of both.
    pub rope: &'a RopeTable,
    /// May replace all blocks but the first.
    pub cache: Option<&'a mut StepCache>,
}

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
    modulators: Modulators,
    final_modulation: Linear,
    final_linear: Linear,
    sites: Sites,
}

impl Mmdit {
    /// Builds the network. `pager` moves its blocks' weights, and knows which of them stay on the
    /// device.
    ///
    /// # Errors
    /// A tensor is missing, misshapen or unreadable.
    pub fn new(config: &MmditConfig, at: &Builder, pager: &Rc<Pager>) -> Built<Self> {
        let hidden = config.hidden_size;
        let mut modulators = Modulators::new(pager);
        let mut double_blocks = Blocks::new(pager, Group::Double);
        for i in 0..config.depth_double {
            let at = at.at("double_blocks").at(i).in_transit();
            at.placed(double_blocks.push(DoubleBlock::new(&at, config)?))?;
            modulators.push_double(&at, config)?;
        }
        let mut single_blocks = Blocks::new(pager, Group::Single);
        for i in 0..config.depth_single {
            let at = at.at("single_blocks").at(i).in_transit();
            at.placed(single_blocks.push(SingleBlock::new(&at, config)?))?;
            modulators.push_single(&at, config)?;
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
            modulators,
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

    /// The blocks whose weights can be moved, in the order of [`Group::ALL`].
    pub fn paged(&self) -> [&dyn PagedBlocks; 4] {
        let [double, single] = self.modulators.paged();
        [&self.double_blocks, &self.single_blocks, double, single]
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
        Ok(Modulations {
            double: self.modulators.double(&time)?,
            single: self.modulators.single(&time)?,
            last: self.final_modulation.forward(&time)?,
        })
    }

    /// Velocities of the image tokens of each branch at the time of row `step` of the modulations.
    /// Each block runs for all branches before the next block does, so that its weights are needed
    /// on the device once. A branch's cache may replace all blocks but the first.
    ///
    /// # Errors
    /// The shapes do not fit, or the operation was cancelled.
    pub fn forward_all(
        &self,
        branches: Vec<BranchInput>,
        modulations: &Modulations,
        step: usize,
    ) -> Result<Vec<Tensor>> {
        let mut passes = branches
            .into_iter()
            .map(|branch| {
                Ok(Pass {
                    image: self.image_in.forward(branch.image)?,
                    text: branch.text.clone(),
                    rope: branch.rope,
                    cache: branch.cache,
                    begun: None,
                    is_answered: false,
                })
            })
            .collect::<Result<Vec<_>>>()?;
        self.run_double_blocks(&mut passes, modulations, step)?;
        self.run_single_blocks(&mut passes, modulations, step)?;
        let last = modulations.last.narrow(0, step, 1)?.chunk(2, 1)?;
        let velocities = passes
            .iter()
            .map(|pass| {
                let image = modulated_layer_norm(&pass.image, &last[0], &last[1], EPS)?;
                self.final_linear.forward(&image)
            })
            .collect::<Result<Vec<_>>>()?;
        // Caches change only when nothing can fail any more but they themselves.
        for pass in passes {
            if let (Some(cache), Some(Begun { first, image })) = (pass.cache, pass.begun) {
                cache.keep(first, subtract(&pass.image, &image)?)?;
            }
        }
        Ok(velocities)
    }

    /// Runs the double-stream blocks for all branches that no cache answers after the first one.
    fn run_double_blocks(
        &self,
        passes: &mut [Pass],
        modulations: &Modulations,
        step: usize,
    ) -> Result<()> {
        let heads = heads(&self.config);
        for (i, [image_row, text_row]) in modulations.double.iter().enumerate() {
            let rows = [
                &image_row.narrow(0, step, 1)?,
                &text_row.narrow(0, step, 1)?,
            ];
            if passes.iter().all(|pass| pass.is_answered) {
                break;
            }
            let before: Vec<Tensor> = match i {
                0 => passes.iter().map(|pass| pass.image.clone()).collect(),
                _ => Vec::new(),
            };
            self.double_blocks.with(i, |block| {
                for pass in passes.iter_mut().filter(|pass| !pass.is_answered) {
                    let Pass {
                        image, text, rope, ..
                    } = pass;
                    (*image, *text) = block.forward(image, text, rows, heads, rope)?;
                }
                Ok(())
            })?;
            for (pass, before) in passes.iter_mut().zip(before) {
                pass.ask_cache(&before)?;
            }
        }
        Ok(())
    }

    /// Runs all single-stream blocks for the branches that no cache has answered.
    fn run_single_blocks(
        &self,
        passes: &mut [Pass],
        modulations: &Modulations,
        step: usize,
    ) -> Result<()> {
        let mut open: Vec<&mut Pass> = passes.iter_mut().filter(|pass| !pass.is_answered).collect();
        if open.is_empty() {
            return Ok(());
        }
        let joined = |pass: &&mut Pass| concat(&[&pass.text, &pass.image], 1);
        let mut joint = open.iter().map(joined).collect::<Result<Vec<_>>>()?;
        for (i, rows) in modulations.single.iter().enumerate() {
            let row = rows.narrow(0, step, 1)?;
            self.single_blocks.with(i, |block| {
                for (joint, pass) in joint.iter_mut().zip(&open) {
                    *joint = block.forward(joint, &row, heads(&self.config), pass.rope)?;
                }
                Ok(())
            })?;
        }
        for (pass, joint) in open.iter_mut().zip(joint) {
            let (text_len, image_len) = (pass.text.dim(1)?, pass.image.dim(1)?);
            pass.image = dense(&joint.narrow(1, text_len, image_len)?)?;
        }
        Ok(())
    }
}

/// A branch on its way through the blocks.
struct Pass<'a> {
    /// Image tokens `[B, N, H]`.
    image: Tensor,
    /// Text tokens `[B, T, H]`.
    text: Tensor,
    rope: &'a RopeTable,
    cache: Option<&'a mut StepCache>,
    begun: Option<Begun>,
    /// Whether `image` is what all blocks would make of it, by the cache.
    is_answered: bool,
}

/// What the first block did, to keep in the cache.
struct Begun {
    /// What it added.
    first: Tensor,
    /// Its result, image tokens.
    image: Tensor,
}

impl Pass<'_> {
    /// Asks the cache, if there is one, for what all blocks but the first would add. `before` are
    /// the image tokens before the first block.
    fn ask_cache(&mut self, before: &Tensor) -> Result<()> {
        let Some(cache) = &mut self.cache else {
            return Ok(());
        };
        let first = subtract(&self.image, before)?;
        if let Some(rest) = cache.recall(&first)? {
            self.image = add(&self.image, rest)?;
            self.is_answered = true;
        } else {
            self.begun = Some(Begun {
                first,
                image: self.image.clone(),
            });
        }
        Ok(())
    }
}
