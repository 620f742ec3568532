//! The text encoder's table of embeddings, which stays on the host.

use candle_core::{Device, Result, Tensor};

use super::builder::{Builder, Built};
use crate::nn::embed;

/// A table of embeddings in the type of the network's weights. An encode needs a few of its rows,
/// so only those are copied to the device.
pub struct EmbeddingTable(Tensor);

impl EmbeddingTable {
    /// Reads the table of `rows` tokens.
    ///
    /// # Errors
    /// The tensor is missing, misshapen or unreadable.
    pub fn new(at: &Builder, rows: usize, width: usize) -> Built<Self> {
        let table = at.on_host().tensor("embed_tokens.weight", &[rows, width])?;
        Ok(Self(table))
    }

    /// The rows of token ids, `[S, D]`, on a device.
    ///
    /// # Errors
    /// An id is outside the table, or the device fails.
    pub fn rows(&self, ids: &[u32], device: &Device) -> Result<Tensor> {
        embed(&self.0, ids)?.to_device(device)
    }
}
