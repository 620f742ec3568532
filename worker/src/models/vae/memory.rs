//! The memory that the autoencoder needs for an image, estimated before it runs.

use super::coders::{Decoder, Encoder};
use super::plan::{Batch, Plan};
use super::shapes::{Scratch, Size, StepShape};
use super::steps::{shapes, Step};
use crate::checkpoint::VaeConfig;
use crate::nn::Placement;

/// The shapes of an encoder's or decoder's steps, and the steps between which it can be split to
/// run one side in bands.
#[derive(Clone, Debug, PartialEq)]
struct Coder {
    steps: Vec<StepShape>,
    splits: Vec<usize>,
}

/// Estimates of the memory of decodes and encodes. It holds no weights, so any thread can use it.
#[derive(Clone, Debug, PartialEq)]
pub struct VaeMemory {
    decoder: Coder,
    encoder: Option<Coder>,
    latent_channels: usize,
    value_bytes: usize,
    scratch: Scratch,
}

impl VaeMemory {
    /// Estimates for a network whose latents have `latent_channels` channels.
    pub(super) fn new(
        decoder: &Decoder,
        encoder: Option<&Encoder>,
        latent_channels: usize,
        placement: &Placement,
    ) -> Self {
        let coder = |(steps, splits): (Vec<Step>, Vec<usize>)| Coder {
            steps: shapes(&steps),
            splits,
        };
        Self {
            decoder: coder(decoder.steps()),
            encoder: encoder.map(|encoder| coder(encoder.steps())),
            latent_channels,
            value_bytes: placement.compute().size_in_bytes(),
            scratch: Scratch::of(&placement.device),
        }
    }

    /// Estimates for a network of a geometry, before it is built, with the arithmetic of a GPU in
    /// values of `value_bytes`.
    pub fn of_geometry(config: &VaeConfig, can_encode: bool, value_bytes: usize) -> Self {
        Self {
            decoder: decoder(config),
            encoder: can_encode.then(|| encoder(config)),
            latent_channels: config.latent_channels,
            value_bytes,
            scratch: Scratch::of_gpu(),
        }
    }

    /// Number of parameters of the network.
    pub fn parameters(&self) -> u64 {
        let encoder = self.encoder.iter().map(|coder| parameters(&coder.steps, 3));
        encoder.sum::<u64>() + parameters(&self.decoder.steps, self.latent_channels)
    }

    /// What a decode of `entries` latents can be split into, the fastest first: in words, and the
    /// bytes that it takes then. `latent` is their number of rows and columns.
    pub fn decode_plans(&self, entries: usize, latent: (usize, usize)) -> Vec<(String, u64)> {
        let batch = self.batch(entries, self.latent_channels, latent);
        let Coder { steps, splits } = &self.decoder;
        let plans = Plan::for_decode(steps, splits, batch);
        let named = plans.iter().map(|plan| (plan.to_string(), plan.bytes()));
        named.collect()
    }

    fn batch(&self, entries: usize, channels: usize, (rows, columns): (usize, usize)) -> Batch {
        Batch {
            entries,
            size: Size {
                channels,
                rows,
                columns,
            },
            value_bytes: self.value_bytes,
            scratch: self.scratch,
        }
    }

    /// Number of channels of a latent.
    pub fn latent_channels(&self) -> usize {
        self.latent_channels
    }

    /// Bytes that decoding `entries` latents takes with the plan that needs the fewest; `latent`
    /// is their number of rows and columns.
    pub fn decode_bytes(&self, entries: usize, latent: (usize, usize)) -> u64 {
        let batch = self.batch(entries, self.latent_channels, latent);
        let Coder { steps, splits } = &self.decoder;
        least(&Plan::for_decode(steps, splits, batch))
    }

    /// Bytes that encoding `entries` images takes with the plan that needs the fewest; `pixels` is
    /// their number of rows and columns. 0 without an encoder.
    pub fn encode_bytes(&self, entries: usize, pixels: (usize, usize)) -> u64 {
        let Some(Coder { steps, splits }) = &self.encoder else {
            return 0;
        };
        least(&Plan::for_encode(
            steps,
            splits,
            self.batch(entries, 3, pixels),
        ))
    }
}

/// A residual block's shape.
fn residual(inputs: usize, outputs: usize) -> StepShape {
    StepShape::Residual {
        outputs,
        has_shortcut: inputs != outputs,
    }
}

/// The shape of a convolution of 3 x 3.
fn conv(outputs: usize, stride: usize, padding: usize) -> StepShape {
    StepShape::Conv {
        outputs,
        kernel: 3,
        stride,
        padding,
    }
}

/// The middle blocks' shapes.
fn middle(channels: usize) -> [StepShape; 3] {
    let block = residual(channels, channels);
    [block, StepShape::Attention, block]
}

/// The shapes of `blocks` residual blocks of which the first changes the number of channels.
fn level(inputs: usize, outputs: usize, blocks: usize) -> impl Iterator<Item = StepShape> {
    (0..blocks).map(move |block| residual(if block == 0 { inputs } else { outputs }, outputs))
}

/// The [`Decoder`] of a geometry.
fn decoder(config: &VaeConfig) -> Coder {
    let channels = &config.block_channels;
    let last = channels.len() - 1;
    let mut steps = vec![conv(channels[last], 1, 2)];
    let mut splits = Vec::new();
    steps.extend(middle(channels[last]));
    for (l, &outputs) in channels.iter().enumerate().rev() {
        let inputs = channels[(l + 1).min(last)];
        steps.extend(level(inputs, outputs, config.layers_per_block + 1));
        if l > 0 {
            splits.insert(0, steps.len());
            steps.push(StepShape::Upsample);
            steps.push(conv(outputs, 1, 2));
        }
    }
    steps.extend([StepShape::Norm, conv(3, 1, 2)]);
    Coder { steps, splits }
}

/// The [`Encoder`] of a geometry.
fn encoder(config: &VaeConfig) -> Coder {
    let channels = &config.block_channels;
    let last = channels.len() - 1;
    let mut steps = vec![conv(channels[0], 1, 2)];
    let mut splits = Vec::new();
    for (l, &outputs) in channels.iter().enumerate() {
        let inputs = channels[l.saturating_sub(1)];
        steps.extend(level(inputs, outputs, config.layers_per_block));
        if l < last {
            steps.push(conv(outputs, 2, 1));
            splits.push(steps.len());
        }
    }
    steps.extend(middle(channels[last]));
    steps.extend([StepShape::Norm, conv(2 * config.latent_channels, 1, 2)]);
    Coder { steps, splits }
}

/// Number of parameters of steps whose input has `channels` channels.
fn parameters(steps: &[StepShape], channels: usize) -> u64 {
    let mut channels = channels;
    let mut sum = 0;
    for step in steps {
        sum += step.parameters(channels);
        channels = step.outputs(channels);
    }
    sum as u64
}

/// The fewest bytes among plans.
fn least(plans: &[Plan]) -> u64 {
    plans.iter().map(Plan::bytes).min().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};

    use super::*;
    use crate::checkpoint::RandomWeights;
    use crate::models::builder::Builder;
    use crate::models::vae::Vae;
    use crate::nn::{Placement, WeightFormat};

    fn geometry(channels: [usize; 4]) -> VaeConfig {
        VaeConfig {
            block_channels: channels.to_vec(),
            layers_per_block: 2,
            latent_channels: 16,
            norm_groups: 32,
            scaling_factor: crate::checkpoint::FLUX_SCALING_FACTOR,
            shift_factor: crate::checkpoint::FLUX_SHIFT_FACTOR,
            native_size: 64,
        }
    }

    #[test]
    fn a_geometry_has_the_shapes_and_parameters_of_its_network() {
        let config = geometry([32, 32, 64, 96]);
        let weights = RandomWeights::new(vec![0.1; 4096]).vae(&config).unwrap();
        let placement = Placement {
            device: Device::Cpu,
            weights: DType::F32,
            products: WeightFormat::Dense,
        };
        let built = Vae::new(&config, &Builder::new(&weights, &placement)).unwrap();
        let found = VaeMemory {
            scratch: Scratch::of(&Device::Cpu),
            ..VaeMemory::of_geometry(&config, true, 4)
        };
        assert_eq!(found, built.memory());
        assert_eq!(found.parameters(), weights.parameters());
    }

    #[test]
    fn a_decode_can_be_split() {
        let config = geometry([128, 256, 512, 512]);
        let plans = VaeMemory::of_geometry(&config, true, 2).decode_plans(1, (128, 128));
        assert_eq!(plans[0].0, "whole");
        assert_eq!(plans[1].0, "in bands of 256 rows");
        let gib = |bytes: u64| bytes as f64 / f64::from(1 << 30);
        println!("{plans:?}");
        assert!(gib(plans[0].1) < 2.2 && gib(plans[1].1) < 1.0, "{plans:?}");
    }
}
