//! Adapters that are opened, and the sets made of them, within a limit of device memory.

use std::path::Path;
use std::sync::Arc;

use super::build::build;
use super::fitted::{FittedAdapter, Stamp};
use super::network::{AdaptedPart, Network};
use super::stack::StackedAdapter;
use crate::checkpoint::{AdaptedModel, Adapter};
use crate::nn::AdapterSet;
use crate::pipeline::error::Result;

/// Bytes of device memory that adapters may keep between jobs, unless the operator says otherwise.
/// An adapter of rank 16 for every projection of the 7 B model takes about 0.15 GiB in bf16.
pub const DEFAULT_ADAPTER_MEMORY: u64 = 2 << 30;

/// Most adapters that stay opened. Each keeps its file mapped.
const MAX_OPEN: usize = 64;

/// What makes two sets the same: the part, and each adapter with its strength and block weights.
#[derive(Clone, Debug, PartialEq)]
struct SetKey {
    part: AdaptedPart,
    adapters: Vec<(u64, f64, Vec<f64>)>,
}

impl SetKey {
    fn of(part: AdaptedPart, stack: &[&StackedAdapter]) -> Self {
        let adapters = stack.iter().map(|one| match part {
            AdaptedPart::Transformer => (one.adapter.id(), one.transformer, one.blocks.clone()),
            AdaptedPart::TextEncoder => (one.adapter.id(), one.text_encoder, Vec::new()),
        });
        Self {
            part,
            adapters: adapters.collect(),
        }
    }
}

/// Opened adapters, and sets made of them, the most recently used last.
#[derive(Debug)]
pub struct AdapterStore {
    limit: u64,
    opened: Vec<(bool, Arc<FittedAdapter>)>,
    sets: Vec<(SetKey, Option<Arc<AdapterSet>>)>,
}

impl Default for AdapterStore {
    fn default() -> Self {
        Self {
            limit: DEFAULT_ADAPTER_MEMORY,
            opened: Vec::new(),
            sets: Vec::new(),
        }
    }
}

impl AdapterStore {
    /// Sets the bytes of device memory that may be kept between jobs.
    pub fn set_limit(&mut self, bytes: u64) {
        self.limit = bytes;
        self.evict(bytes);
    }

    /// The adapter in a file, opened and fitted, or as it was opened before if the file has not
    /// changed since.
    ///
    /// # Errors
    /// The file is no adapter, or does not fit the model.
    pub fn open(
        &mut self,
        path: &Path,
        model: AdaptedModel,
        strict: bool,
    ) -> Result<Arc<FittedAdapter>> {
        let stamp = Stamp::of(path);
        let is_same = |(was_strict, adapter): &(bool, Arc<FittedAdapter>)| {
            *was_strict == strict && *adapter.stamp() == stamp
        };
        let found = match self.opened.iter().position(is_same) {
            Some(place) => self.opened.remove(place).1,
            None => {
                let adapter = Adapter::open(path, model, strict)?;
                Arc::new(FittedAdapter::new(stamp, adapter))
            }
        };
        self.opened.push((strict, found.clone()));
        if self.opened.len() > MAX_OPEN {
            self.opened.remove(0);
        }
        Ok(found)
    }

    /// What a stack changes in a network, or `None` if nothing.
    ///
    /// # Errors
    /// A file cannot be read, or the device has no memory.
    pub fn set(
        &mut self,
        network: &Network,
        stack: &[&StackedAdapter],
    ) -> Result<Option<Arc<AdapterSet>>> {
        if stack.is_empty() {
            return Ok(None);
        }
        let key = SetKey::of(network.part, stack);
        let place = self.sets.iter().position(|(known, _)| *known == key);
        let (key, set) = match place {
            Some(place) => self.sets.remove(place),
            None => (key, build(network, stack)?),
        };
        self.sets.push((key, set.clone()));
        self.evict(self.limit);
        Ok(set)
    }

    /// Bytes of device memory that are kept. Jobs under way may hold more.
    pub fn bytes(&self) -> u64 {
        let sets = self.sets.iter().flat_map(|(_, set)| set);
        let sets: u64 = sets.map(|set| set.bytes()).sum();
        let opened = self.opened.iter().map(|(_, adapter)| adapter.bytes());
        sets + opened.sum::<u64>()
    }

    /// Drops the least recently used sets, then what the least recently used adapters have on the
    /// device, until no more than `limit` bytes are kept. Jobs under way keep theirs.
    pub fn evict(&mut self, limit: u64) {
        while self.bytes() > limit && !self.sets.is_empty() {
            self.sets.remove(0);
        }
        for (_, adapter) in &self.opened {
            if self.bytes() <= limit {
                break;
            }
            adapter.forget();
        }
    }
}
