//! The encoder and the decoder.

use super::blocks::{AttentionBlock, ResidualBlock};
use super::steps::Step;
use super::{VaeConfig, EPS};
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

/// One resolution: residual blocks, then a change of resolution unless it is
/// the last.
struct Level {
    blocks: Vec<ResidualBlock>,
    resample: Option<Conv2d>,
}

impl Level {
    fn steps(&self) -> impl Iterator<Item = Step<'_>> {
        self.blocks.iter().map(Step::Residual)
    }
}

/// The residual blocks of one level; the first changes the channels.
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

/// Pixels to latents.
pub struct Encoder {
    conv_in: Conv2d,
    levels: Vec<Level>,
    middle: Middle,
    norm_out: GroupNorm,
    conv_out: Conv2d,
}

impl Encoder {
    /// From its place in the names.
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

    /// From pixels `[B, 3, H, W]` to the moments of their posterior, and after how many of them
    /// the image has become smaller: the first first.
    pub fn steps(&self) -> (Vec<Step<'_>>, Vec<usize>) {
        let mut steps = vec![Step::Conv(&self.conv_in, 1, 1)];
        let mut smaller = Vec::new();
        for level in &self.levels {
            steps.extend(level.steps());
            if let Some(downsample) = &level.resample {
                steps.push(Step::Conv(downsample, 0, 1));
                smaller.push(steps.len());
            }
        }
        steps.extend(self.middle.steps());
        steps.push(Step::Norm(&self.norm_out));
        steps.push(Step::Conv(&self.conv_out, 1, 1));
        (steps, smaller)
    }
}

/// Latents to pixels.
pub struct Decoder {
    conv_in: Conv2d,
    middle: Middle,
    /// From the lowest resolution up.
    levels: Vec<Level>,
    norm_out: GroupNorm,
    conv_out: Conv2d,
}

impl Decoder {
    /// From its place in the names.
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

    /// From latents to pixels, and before which of them the image becomes larger: the last
    /// first.
    pub fn steps(&self) -> (Vec<Step<'_>>, Vec<usize>) {
        let mut steps = vec![Step::Conv(&self.conv_in, 1, 1)];
        let mut larger = Vec::new();
        steps.extend(self.middle.steps());
        for level in &self.levels {
            steps.extend(level.steps());
            if let Some(upsample) = &level.resample {
                larger.insert(0, steps.len());
                steps.push(Step::Double);
                steps.push(Step::Conv(upsample, 1, 1));
            }
        }
        steps.push(Step::Norm(&self.norm_out));
        steps.push(Step::Conv(&self.conv_out, 1, 1));
        (steps, larger)
    }
}
