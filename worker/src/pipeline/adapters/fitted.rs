//! An adapter that is opened and fitted to a model.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use candle_core::Tensor;

use super::network::{AdaptedPart, Network};
use crate::checkpoint::{Adapter, Change};
use crate::pipeline::error::Result;

/// What tells that a file is still the one that was opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stamp {
    path: PathBuf,
    bytes: u64,
    modified: Option<SystemTime>,
}

impl Stamp {
    /// The stamp of a file or folder; that of nothing if it cannot be read.
    pub fn of(path: &Path) -> Self {
        let found = std::fs::metadata(path);
        Self {
            path: path.to_owned(),
            bytes: found.as_ref().map_or(0, std::fs::Metadata::len),
            modified: found.and_then(|found| found.modified()).ok(),
        }
    }
}

/// A low-rank change at strength 1, on the device: rows `rows` of its tensor grow by `up down`.
#[derive(Clone, Debug)]
pub(super) struct Thin {
    pub rows: std::ops::Range<usize>,
    pub down: Tensor,
    pub up: Tensor,
}

impl Thin {
    fn bytes(&self) -> u64 {
        let size = |t: &Tensor| (t.elem_count() * t.dtype().size_in_bytes()) as u64;
        size(&self.down) + size(&self.up)
    }
}

/// An adapter that is opened and fitted to a model, with what of it has been brought to the
/// model's device.
#[derive(Debug)]
pub struct FittedAdapter {
    id: u64,
    stamp: Stamp,
    adapter: Adapter,
    cache: Mutex<Cache>,
}

#[derive(Debug, Default)]
struct Cache {
    /// `None` for changes that are no low-rank update.
    thin: HashMap<(AdaptedPart, usize), Option<Thin>>,
    /// DoRA's factors of rows, in the order of the model's rows.
    factors: HashMap<(AdaptedPart, usize), Arc<Vec<f32>>>,
    bytes: u64,
}

impl FittedAdapter {
    pub(super) fn new(stamp: Stamp, adapter: Adapter) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            stamp,
            adapter,
            cache: Mutex::default(),
        }
    }

    /// The adapter.
    pub fn adapter(&self) -> &Adapter {
        &self.adapter
    }

    /// A number that no other opened adapter has.
    pub(super) fn id(&self) -> u64 {
        self.id
    }

    pub(super) fn stamp(&self) -> &Stamp {
        &self.stamp
    }

    /// Bytes on the device.
    pub(super) fn bytes(&self) -> u64 {
        self.cached(|cache| cache.bytes)
    }

    /// Drops what is on the device.
    pub(super) fn forget(&self) {
        self.cached(|cache| *cache = Cache::default());
    }

    /// The changes of a part, each with its index.
    pub(super) fn changes(&self, part: AdaptedPart) -> &[Change] {
        match part {
            AdaptedPart::Transformer => &self.adapter.transformer,
            AdaptedPart::TextEncoder => &self.adapter.text_encoder,
        }
    }

    /// A change as a low-rank update of at most this rank; `None` if it is none.
    pub(super) fn thin(
        &self,
        network: &Network,
        index: usize,
        max_rank: usize,
    ) -> Result<Option<Thin>> {
        let key = (network.part, index);
        if let Some(known) = self.cached(|cache| cache.thin.get(&key).cloned()) {
            return Ok(known);
        }
        let change = &self.changes(network.part)[index];
        let thin = match change.low_rank(max_rank)? {
            None => None,
            Some(found) => {
                let (rank, height) = (found.rank, found.rows.len());
                let dtype = network.placement.compute();
                let width = found.down.len() / rank.max(1);
                Some(Thin {
                    rows: found.rows,
                    down: network.on_device(found.down, &[rank, width], dtype)?,
                    up: network.on_device(found.up, &[height, rank], dtype)?,
                })
            }
        };
        self.cached(|cache| {
            cache.bytes += thin.as_ref().map_or(0, Thin::bytes);
            cache.thin.insert(key, thin.clone());
        });
        Ok(thin)
    }

    /// DoRA's factor of each row of a change that is the first one of its rows, in the order of
    /// the model's rows; `make` computes them where they are not known yet.
    pub(super) fn factors(
        &self,
        key: (AdaptedPart, usize),
        make: impl FnOnce() -> Result<Vec<f32>>,
    ) -> Result<Arc<Vec<f32>>> {
        if let Some(known) = self.cached(|cache| cache.factors.get(&key).cloned()) {
            return Ok(known);
        }
        let made = Arc::new(make()?);
        self.cached(|cache| cache.factors.insert(key, made.clone()));
        Ok(made)
    }

    fn cached<T>(&self, work: impl FnOnce(&mut Cache) -> T) -> T {
        // The cache is whole between any two statements, so a panic elsewhere leaves it usable.
        work(&mut self.cache.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
