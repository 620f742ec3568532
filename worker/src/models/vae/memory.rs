//! The memory that the autoencoder needs for an image, estimated before it runs.

use super::coders::{Decoder, Encoder};
use super::plan::{Batch, Plan};
use super::shapes::{Scratch, Size, StepShape};
use super::steps::{shapes, Step};
use crate::nn::Placement;

/// The shapes of an encoder's or decoder's steps, and the steps between which it can be split to
/// run one side in bands.
#[derive(Clone, Debug)]
struct Coder {
    steps: Vec<StepShape>,
    splits: Vec<usize>,
}

/// Estimates of the memory of decodes and encodes. It holds no weights, so any thread can use it.
#[derive(Clone, Debug)]
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

/// The fewest bytes among plans.
fn least(plans: &[Plan]) -> u64 {
    plans.iter().map(Plan::bytes).min().unwrap_or(0)
}
