//! Which adapters the current thread computes with.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;

use candle_core::{Result, Tensor, TensorId};

use super::change::LayerChange;
use super::low_rank::size;
use crate::nn::heads::{HeadNorms, QkBounds};

/// Identifies a linear layer, of all that this process has made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LayerId(u64);

impl LayerId {
    /// An id that no other layer has.
    pub(in crate::nn) fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

/// What a stack of adapters changes in a network. Layers and norms look themselves up in the set
/// that is current on their thread, so the network itself never changes: jobs with different sets
/// alternate by changing a pointer, and without a set everything is computed as if there were no
/// adapters.
#[derive(Debug, Default)]
pub struct AdapterSet {
    layers: HashMap<LayerId, Arc<LayerChange>>,
    tensors: HashMap<TensorId, Replacement>,
    bytes: u64,
}

/// A tensor in place of a network's own.
#[derive(Debug)]
struct Replacement {
    tensor: Tensor,
    /// The bounds of heads that are normalised with it.
    bounds: QkBounds,
}

thread_local! {
    static CURRENT: RefCell<Option<Arc<AdapterSet>>> = const { RefCell::new(None) };
}

/// Restores the previous set when dropped, also if the work panics.
struct Restore(Option<Arc<AdapterSet>>);

impl Drop for Restore {
    fn drop(&mut self) {
        CURRENT.set(self.0.take());
    }
}

impl AdapterSet {
    /// Changes a layer.
    pub fn change(&mut self, layer: LayerId, change: LayerChange) {
        self.bytes += change.bytes();
        self.layers.insert(layer, Arc::new(change));
    }

    /// Puts a tensor in the place of a parameter that is not a linear layer's, such as a norm's
    /// weight.
    ///
    /// # Errors
    /// The tensor cannot be copied from its device.
    pub fn replace(&mut self, own: TensorId, tensor: Tensor) -> Result<()> {
        self.bytes += size(&tensor);
        let norms = HeadNorms {
            query: tensor.clone(),
            key: tensor.clone(),
        };
        let bounds = match tensor.rank() {
            1 => QkBounds::of(&[&norms])?,
            _ => QkBounds {
                query: 0.0,
                key: 0.0,
            },
        };
        self.tensors.insert(own, Replacement { tensor, bounds });
        Ok(())
    }

    /// Whether the set changes nothing.
    pub fn is_empty(&self) -> bool {
        self.layers.is_empty() && self.tensors.is_empty()
    }

    /// Bytes of all tensors, on the network's device.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Runs `work` with a set, or without any, on the current thread.
    pub fn with<T>(set: Option<&Arc<Self>>, work: impl FnOnce() -> T) -> T {
        let _restore = Restore(CURRENT.replace(set.cloned()));
        work()
    }
}

/// What the current set changes in a layer.
pub(in crate::nn) fn current_layer(layer: LayerId) -> Option<Arc<LayerChange>> {
    CURRENT.with_borrow(|set| set.as_ref()?.layers.get(&layer).cloned())
}

/// The tensor that the current set has for a parameter, or the parameter itself.
pub(in crate::nn) fn current(own: &Tensor) -> Tensor {
    let replaced = CURRENT.with_borrow(|set| {
        let replacement = set.as_ref()?.tensors.get(&own.id())?;
        Some(replacement.tensor.clone())
    });
    replaced.unwrap_or_else(|| own.clone())
}

/// The norms of heads in the current set; and, if it has others than the network, bounds that hold
/// for them as well.
pub(in crate::nn) fn current_norms(
    own: &HeadNorms,
    bounds: Option<QkBounds>,
) -> (HeadNorms, Option<QkBounds>) {
    CURRENT.with_borrow(|set| {
        let find = |tensor: &Tensor| set.as_ref()?.tensors.get(&tensor.id());
        let (query, key) = (find(&own.query), find(&own.key));
        let of = |found: Option<&Replacement>, own: &Tensor| {
            found.map_or_else(|| own.clone(), |found| found.tensor.clone())
        };
        let norms = HeadNorms {
            query: of(query, &own.query),
            key: of(key, &own.key),
        };
        let wider = bounds.map(|bounds| QkBounds {
            query: query.map_or(bounds.query, |found| bounds.query.max(found.bounds.query)),
            key: key.map_or(bounds.key, |found| bounds.key.max(found.bounds.key)),
        });
        (norms, wider)
    })
}
