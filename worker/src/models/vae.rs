//! FLUX.1's autoencoder.
//!
//! Source: AIDC-AI/Ovis-Image `ovis_image/model/autoencoder.py`.

use candle_core::{DType, Result, Tensor};

use super::builder::{Builder, Built};
use crate::layers::{
    add, cast, dense, single_head, upsample_nearest, Conv2d, GroupNorm, Linear, Placement,
};

/// Epsilon of the group norms.
const EPS: f64 = 1e-6;

/// Geometry of the autoencoder, and how its latents are normalised.
#[derive(Clone, Debug, PartialEq)]
pub struct VaeConfig {
    /// Channels at each level, from full resolution down: (128, 256, 512, 512).
    pub block_channels: Vec<usize>,
    /// Residual blocks a level in the encoder; the decoder has one more: 2.
    pub layers_per_block: usize,
    /// Latent channels: 16.
    pub latent_channels: usize,
    /// Groups of the group norms: 32.
    pub norm_groups: usize,
    /// The model sees `(latent - shift_factor) * scaling_factor`: 0.3611.
    pub scaling_factor: f64,
    /// 0.1159.
    pub shift_factor: f64,
    /// Side of the square images that the model was trained on: 1024.
    pub native_size: usize,
}

impl VaeConfig {
    /// How many times smaller than the image a latent is: 8.
    pub fn scale_factor(&self) -> usize {
        1 << (self.block_channels.len() - 1)
    }
}

/// Two convolutions around a shortcut.
struct ResidualBlock {
    norm1: GroupNorm,
    conv1: Conv2d,
    norm2: GroupNorm,
    conv2: Conv2d,
    shortcut: Option<Conv2d>,
}

impl ResidualBlock {
    fn new(at: &Builder, inputs: usize, outputs: usize, groups: usize) -> Built<Self> {
        let shortcut = match inputs == outputs {
            true => None,
            false => Some(at.conv("nin_shortcut", inputs, outputs, 1, 1)?),
        };
        Ok(Self {
            norm1: at.group_norm("norm1", inputs, groups, EPS)?,
            conv1: at.conv("conv1", inputs, outputs, 3, 1)?,
            norm2: at.group_norm("norm2", outputs, groups, EPS)?,
            conv2: at.conv("conv2", outputs, outputs, 3, 1)?,
            shortcut,
        })
    }

    /// Takes `x`, for every tensor here is hundreds of megabytes at full resolution and
    /// goes as soon as it is used up.
    fn forward(&self, x: Tensor) -> Result<Tensor> {
        let shortcut = match &self.shortcut {
            Some(shortcut) => shortcut.forward(&x, 0, 0)?,
            None => x.clone(),
        };
        let y = self.norm1.forward(&x, true)?;
        drop(x);
        let y = self.norm2.forward(&self.conv1.forward(&y, 1, 1)?, true)?;
        let y = self.conv2.forward(&y, 1, 1)?;
        add(&shortcut, &y)
    }
}

/// Single-head self-attention over all positions.
struct AttentionBlock {
    norm: GroupNorm,
    query: Linear,
    key: Linear,
    value: Linear,
    output: Linear,
}

impl AttentionBlock {
    fn new(at: &Builder, channels: usize, groups: usize) -> Built<Self> {
        Ok(Self {
            norm: at.group_norm("norm", channels, groups, EPS)?,
            query: at.linear("q", channels, channels)?,
            key: at.linear("k", channels, channels)?,
            value: at.linear("v", channels, channels)?,
            output: at.linear("proj_out", channels, channels)?,
        })
    }

    fn forward(&self, x: Tensor) -> Result<Tensor> {
        let (b, c, h, w) = x.dims4()?;
        let y = self
            .norm
            .forward(&x, false)?
            .permute((0, 2, 3, 1))?
            .reshape((b, h * w, c))?;
        let y = single_head(
            &self.query.forward(&y)?,
            &self.key.forward(&y)?,
            &self.value.forward(&y)?,
        )?;
        let y = self
            .output
            .forward(&y)?
            .reshape((b, h, w, c))?
            .permute((0, 3, 1, 2))?;
        add(&x, &y)
    }
}

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

    fn forward(&self, x: Tensor) -> Result<Tensor> {
        let x = self.block_1.forward(x)?;
        let x = self.attention.forward(x)?;
        self.block_2.forward(x)
    }
}

/// One resolution: residual blocks, then a change of resolution unless it is
/// the last.
struct Level {
    blocks: Vec<ResidualBlock>,
    resample: Option<Conv2d>,
}

impl Level {
    fn forward(&self, x: Tensor) -> Result<Tensor> {
        self.blocks.iter().try_fold(x, |x, block| block.forward(x))
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
struct Encoder {
    conv_in: Conv2d,
    levels: Vec<Level>,
    middle: Middle,
    norm_out: GroupNorm,
    conv_out: Conv2d,
}

impl Encoder {
    fn new(config: &VaeConfig, at: &Builder) -> Built<Self> {
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

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let mut x = self.conv_in.forward(x, 1, 1)?;
        for level in &self.levels {
            x = level.forward(x)?;
            if let Some(downsample) = &level.resample {
                x = downsample.forward(&x, 0, 1)?;
            }
        }
        let x = self.middle.forward(x)?;
        self.conv_out
            .forward(&self.norm_out.forward(&x, true)?, 1, 1)
    }
}

/// Latents to pixels.
struct Decoder {
    conv_in: Conv2d,
    middle: Middle,
    /// From the lowest resolution up.
    levels: Vec<Level>,
    norm_out: GroupNorm,
    conv_out: Conv2d,
}

impl Decoder {
    fn new(config: &VaeConfig, at: &Builder) -> Built<Self> {
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

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let x = self.conv_in.forward(x, 1, 1)?;
        let mut x = self.middle.forward(x)?;
        for level in &self.levels {
            x = level.forward(x)?;
            if let Some(upsample) = &level.resample {
                x = upsample_nearest(&x)?;
                x = upsample.forward(&x, 1, 1)?;
            }
        }
        self.conv_out
            .forward(&self.norm_out.forward(&x, true)?, 1, 1)
    }
}

/// The autoencoder. Either half may be absent from a file.
pub struct Vae {
    config: VaeConfig,
    placement: Placement,
    encoder: Option<Encoder>,
    decoder: Decoder,
}

impl Vae {
    /// Builds the network. A file without an encoder makes one that only
    /// decodes.
    ///
    /// # Errors
    /// A tensor is missing, misshapen or unreadable.
    pub fn new(config: &VaeConfig, at: &Builder) -> Built<Self> {
        let encoder = at.at("encoder");
        Ok(Self {
            encoder: match encoder.contains("conv_in.weight") {
                true => Some(Encoder::new(config, &encoder)?),
                false => None,
            },
            decoder: Decoder::new(config, &at.at("decoder"))?,
            placement: at.placement().clone(),
            config: config.clone(),
        })
    }

    /// The network's geometry and normalisation.
    pub fn config(&self) -> &VaeConfig {
        &self.config
    }

    /// Whether [`encode`](Self::encode) can be called.
    pub fn can_encode(&self) -> bool {
        self.encoder.is_some()
    }

    /// Raw latents `[B, 16, H/8, W/8]` to pixels `[B, 3, H, W]` in about -1..1.
    ///
    /// # Errors
    /// The shapes do not fit, or the device fails.
    pub fn decode(&self, latents: &Tensor) -> Result<Tensor> {
        self.decoder.forward(&self.placed(latents)?)
    }

    /// Pixels `[B, 3, H, W]` in -1..1 to the mean of their posterior, raw
    /// latents `[B, 16, H/8, W/8]`, float32; `None` without an encoder.
    ///
    /// # Errors
    /// The shapes do not fit, or the device fails.
    pub fn encode(&self, pixels: &Tensor) -> Result<Option<Tensor>> {
        let Some(encoder) = &self.encoder else {
            return Ok(None);
        };
        let moments = encoder.forward(&self.placed(pixels)?)?;
        let mean = moments.narrow(1, 0, self.config.latent_channels)?;
        Ok(Some(cast(&dense(&mean)?, DType::F32)?))
    }

    fn placed(&self, x: &Tensor) -> Result<Tensor> {
        cast(
            &x.to_device(&self.placement.device)?,
            self.placement.compute(),
        )
    }
}
