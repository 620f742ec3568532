//! The least memory that an image takes in the autoencoder, known before it runs.

use super::plan::{Batch, Plan};
use super::shapes::{Scratch, Size, StepShape};
use super::steps::shapes;
use super::Vae;

/// A half's steps, and where it may be split to run in bands.
#[derive(Clone, Debug)]
struct Half {
    steps: Vec<StepShape>,
    splits: Vec<usize>,
}

/// What decodes and encodes take. It holds no weights, so any thread may ask it.
#[derive(Clone, Debug)]
pub struct VaeMemory {
    decoder: Half,
    encoder: Option<Half>,
    latent_channels: usize,
    value_bytes: usize,
    scratch: Scratch,
}

impl VaeMemory {
    pub(super) fn of(vae: &Vae) -> Self {
        let half = |(steps, splits): (Vec<super::steps::Step>, Vec<usize>)| Half {
            steps: shapes(&steps),
            splits,
        };
        Self {
            decoder: half(vae.decoder.steps()),
            encoder: vae.encoder.as_ref().map(|encoder| half(encoder.steps())),
            latent_channels: vae.config.latent_channels,
            value_bytes: vae.placement.compute().size_in_bytes(),
            scratch: Scratch::of(&vae.placement.device),
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

    /// Channels of a latent.
    pub fn latent_channels(&self) -> usize {
        self.latent_channels
    }

    /// The fewest bytes that decoding a batch of latents takes, each of so many rows and
    /// columns: those of the most frugal plan.
    pub fn decode_bytes(&self, entries: usize, latent: (usize, usize)) -> u64 {
        let batch = self.batch(entries, self.latent_channels, latent);
        let Half { steps, splits } = &self.decoder;
        least(&Plan::of_a_decode(steps, splits, batch))
    }

    /// The fewest bytes that encoding a batch of images takes, each of so many rows and
    /// columns; 0 where there is no encoder.
    pub fn encode_bytes(&self, entries: usize, pixels: (usize, usize)) -> u64 {
        let Some(Half { steps, splits }) = &self.encoder else {
            return 0;
        };
        least(&Plan::of_an_encode(
            steps,
            splits,
            self.batch(entries, 3, pixels),
        ))
    }
}

fn least(plans: &[Plan]) -> u64 {
    plans.iter().map(Plan::bytes).min().unwrap_or(0)
}
