//! Which adapters a job applies.

use std::sync::Arc;

use super::fitted::FittedAdapter;
use super::network::{AdaptedPart, Network};
use crate::pipeline::error::{Error, Result};

/// An adapter in a stack.
#[derive(Clone, Debug)]
pub struct StackedAdapter {
    /// The adapter.
    pub adapter: Arc<FittedAdapter>,
    /// Factor of its changes of the transformer.
    pub transformer: f64,
    /// Factor of its changes of the text encoder.
    pub text_encoder: f64,
    /// The sigmas at which it changes the transformer, from the highest to the lowest, both
    /// included; `None` is all.
    pub interval: Option<(f64, f64)>,
    /// A further factor for each block of the transformer, double-stream blocks first; empty is 1
    /// for all.
    pub blocks: Vec<f64>,
}

impl StackedAdapter {
    /// An adapter with one strength for both parts.
    pub fn new(adapter: Arc<FittedAdapter>, strength: f64) -> Self {
        Self {
            adapter,
            transformer: strength,
            text_encoder: strength,
            interval: None,
            blocks: Vec::new(),
        }
    }

    /// The strength for a tensor of a network.
    pub(super) fn strength_of(&self, network: &Network, tensor: &str) -> f64 {
        match network.part {
            AdaptedPart::TextEncoder => self.text_encoder,
            AdaptedPart::Transformer => {
                let block = network.block_of(tensor);
                let weight = block.and_then(|block| self.blocks.get(block));
                self.transformer * weight.copied().unwrap_or(1.0)
            }
        }
    }

    /// Whether it changes the transformer at a sigma.
    pub(super) fn applies_at(&self, sigma: f32) -> bool {
        // The interval's ends are rounded as sigmas are, so that an equal one counts.
        self.interval
            .is_none_or(|(start, end)| (end as f32..=start as f32).contains(&sigma))
    }

    /// Checks the numbers against the model's.
    ///
    /// # Errors
    /// A number is out of range, or there is not one weight for each block.
    fn check(&self, blocks: usize) -> Result<()> {
        let name = self.adapter.adapter().path.display();
        let numbers = [self.transformer, self.text_encoder];
        if numbers.iter().chain(&self.blocks).any(|n| !n.is_finite()) {
            return Err(Error::invalid(
                format!("a strength of the adapter `{name}` is not a number"),
                "1 is the strength that it was trained with.",
            ));
        }
        if !self.blocks.is_empty() && self.blocks.len() != blocks {
            return Err(Error::invalid(
                format!(
                    "the adapter `{name}` has weights for {} blocks, and the model has {blocks}",
                    self.blocks.len()
                ),
                "Give one weight for each block, double-stream blocks first, or none.",
            ));
        }
        match self.interval {
            Some((start, end)) if !(0.0 <= end && end <= start && start <= 1.0) => {
                Err(Error::invalid(
                    format!(
                        "the adapter `{name}` from sigma {start} to {end} is not a part of 1 to 0"
                    ),
                    "Give the larger sigma first: 1, 0 applies it at every step.",
                ))
            }
            _ => Ok(()),
        }
    }
}

/// The adapters that a job applies, one after another. Cloning is cheap.
#[derive(Clone, Debug, Default)]
pub struct AdapterStack {
    adapters: Vec<StackedAdapter>,
}

impl AdapterStack {
    /// A stack of adapters, of which the first is applied first.
    pub fn new(adapters: Vec<StackedAdapter>) -> Self {
        Self { adapters }
    }

    /// The adapters.
    pub fn adapters(&self) -> &[StackedAdapter] {
        &self.adapters
    }

    /// Checks all numbers, for a transformer of so many blocks.
    ///
    /// # Errors
    /// [`Error::Invalid`] names the adapter and what is out of range.
    pub(in crate::pipeline) fn check(&self, blocks: usize) -> Result<()> {
        self.adapters.iter().try_for_each(|one| one.check(blocks))
    }
}
