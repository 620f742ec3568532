//! The encoder and the decoder, as sequences of steps.

use super::blocks::{AttentionBlock, ResidualBlock, EPS};
use super::steps::Step;
use crate::checkpoint::VaeConfig;
use crate::models::builder::{Builder, Built};
use crate::nn::{Conv2d, GroupNorm};

/// The blocks at the lowest resolution.
struct Middle {
    block_1: ResidualBlock,
    attention: AttentionBlock,
    block_2: ResidualBlock,
}

impl Middle {
    fn new(at: &Builder, channels: usize, groups: usize) -> Built<Self> {
        Ok(Self {
            block_1: ResidualBlock::new(&at.at("block_1"), channels, channels, groups)?,
            attention: AttentionBlock::new(&at.at("attn_1"), channels, groups)?,
            block_2: ResidualBlock::new(&at.at("block_2"), channels, channels, groups)?,
        })
    }

    fn steps(&self) -> [Step<'_>; 3] {
        [
            Step::Residual(&self.block_1),
            Step::Attention(&self.attention),
            Step::Residual(&self.block_2),
        ]
    }
}

/// The blocks at one resolution: residual blocks, then a convolution for the change of
/// resolution, except at the last.
struct Level {
    blocks: Vec<ResidualBlock>,
    resample: Option<Conv2d>,
}

impl Level {
    fn steps(&self) -> impl Iterator<Item = Step<'_>> {
        self.blocks.iter().map(Step::Residual)
    }
}

/// The residual blocks of one level. The first changes the number of channels.
fn residual_blocks(
    at: &Builder,
    inputs: usize,
    outputs: usize,
    blocks: usize,
    groups: usize,
) -> Built<Vec<ResidualBlock>> {
    (0..blocks)
        .map(|b| {
            let inputs = if b == 0 { inputs } else { outputs };
            ResidualBlock::new(&at.at("block").at(b), inputs, outputs, groups)
        })
        .collect()
}

/// From pixels to latents.
pub struct Encoder {
    conv_in: Conv2d,
    levels: Vec<Level>,
    middle: Middle,
    norm_out: GroupNorm,
    conv_out: Conv2d,
}

impl Encoder {
    /// Builds the network from the tensors under `at`.
    ///
    /// # Errors
    /// A tensor is missing, misshapen or unreadable.
    pub fn new(config: &VaeConfig, at: &Builder) -> Built<Self> {
        let (channels, groups) = (&config.block_channels, config.norm_groups);
        let last = channels.len() - 1;
        let mut levels = Vec::with_capacity(channels.len());
        for (l, &outputs) in channels.iter().enumerate() {
            let at = at.at("down").at(l);
            let inputs = channels[l.saturating_sub(1)];
            levels.push(Level {
                blocks: residual_blocks(&at, inputs, outputs, config.layers_per_block, groups)?,
                resample: match l < last {
                    true => Some(at.conv("downsample.conv", outputs, outputs, 3, 2)?),
                    false => None,
                },
            });
        }
        Ok(Self {
            conv_in: at.conv("conv_in", 3, channels[0], 3, 1)?,
            levels,
            middle: Middle::new(&at.at("mid"), channels[last], groups)?,
            norm_out: at.group_norm("norm_out", channels[last], groups, EPS)?,
            conv_out: at.conv("conv_out", channels[last], 2 * config.latent_channels, 3, 1)?,
        })
    }

    /// The steps from pixels `[B, 3, H, W]` to the moments of the posterior; and for each
    /// downsampling, first to last, the number of steps up to and with it.
    pub fn steps(&self) -> (Vec<Step<'_>>, Vec<usize>) {
        let mut steps = vec![Step::Conv(&self.conv_in, 1, 1)];
        let mut downsampled = Vec::new();
        for level in &self.levels {
            steps.extend(level.steps());
            if let Some(downsample) = &level.resample {
                steps.push(Step::Conv(downsample, 0, 1));
                downsampled.push(steps.len());
            }
        }
        steps.extend(self.middle.steps());
        steps.push(Step::Norm(&self.norm_out));
        steps.push(Step::Conv(&self.conv_out, 1, 1));
        (steps, downsampled)
    }
}

/// From latents to pixels.
pub struct Decoder {
    conv_in: Conv2d,
    middle: Middle,
    /// From the lowest resolution to the highest.
    levels: Vec<Level>,
    norm_out: GroupNorm,
    conv_out: Conv2d,
}

impl Decoder {
    /// Builds the network from the tensors under `at`.
    ///
    /// # Errors
    /// A tensor is missing, misshapen or unreadable.
    pub fn new(config: &VaeConfig, at: &Builder) -> Built<Self> {
        let (channels, groups) = (&config.block_channels, config.norm_groups);
        let last = channels.len() - 1;
        let mut levels = Vec::with_capacity(channels.len());
        for (l, &outputs) in channels.iter().enumerate().rev() {
            let at = at.at("up").at(l);
            let inputs = channels[(l + 1).min(last)];
            levels.push(Level {
                blocks: residual_blocks(&at, inputs, outputs, config.layers_per_block + 1, groups)?,
                resample: match l > 0 {
                    true => Some(at.conv("upsample.conv", outputs, outputs, 3, 1)?),
                    false => None,
                },
            });
        }
        Ok(Self {
            conv_in: at.conv("conv_in", config.latent_channels, channels[last], 3, 1)?,
            middle: Middle::new(&at.at("mid"), channels[last], groups)?,
            levels,
            norm_out: at.group_norm("norm_out", channels[0], groups, EPS)?,
            conv_out: at.conv("conv_out", channels[0], 3, 3, 1)?,
        })
    }

    /// The steps from latents to pixels; and for each upsampling, last to first, the number of
    /// steps before it.
    pub fn steps(&self) -> (Vec<Step<'_>>, Vec<usize>) {
        let mut steps = vec![Step::Conv(&self.conv_in, 1, 1)];
        let mut before_upsampling = Vec::new();
        steps.extend(self.middle.steps());
        for level in &self.levels {
            steps.extend(level.steps());
            if let Some(upsample) = &level.resample {
                before_upsampling.insert(0, steps.len());
                steps.push(Step::Upsample);
                steps.push(Step::Conv(upsample, 1, 1));
            }
        }
        steps.push(Step::Norm(&self.norm_out));
        steps.push(Step::Conv(&self.conv_out, 1, 1));
        (steps, before_upsampling)
    }
}
