//! Which adapters the current thread computes with.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;

use candle_core::{Result, Tensor, TensorId};

use super::change::LayerChange;
use super::low_rank::size;
use super::replaced::{self, Replaced};

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
    replaced: Arc<Replaced>,
    bytes: u64,
}

thread_local! {
    static CURRENT: RefCell<Option<Arc<AdapterSet>>> = const { RefCell::new(None) };
}

/// Restores the previous set when dropped, also if the work panics.
struct Restore {
    set: Option<Arc<AdapterSet>>,
    replaced: Option<Arc<Replaced>>,
}

impl Drop for Restore {
    fn drop(&mut self) {
        CURRENT.set(self.set.take());
        replaced::make_current(self.replaced.take());
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
        Arc::make_mut(&mut self.replaced).replace(own, tensor)
    }

    /// Whether the set changes nothing.
    pub fn is_empty(&self) -> bool {
        self.layers.is_empty() && self.replaced.is_empty()
    }

    /// Bytes of all tensors, on the network's device.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Runs `work` with a set, or without any, on the current thread.
    pub fn with<T>(set: Option<&Arc<Self>>, work: impl FnOnce() -> T) -> T {
        let _restore = Restore {
            set: CURRENT.replace(set.cloned()),
            replaced: replaced::make_current(set.map(|set| set.replaced.clone())),
        };
        work()
    }
}

/// What the current set changes in a layer.
pub(in crate::nn) fn current_layer(layer: LayerId) -> Option<Arc<LayerChange>> {
    CURRENT.with_borrow(|set| set.as_ref()?.layers.get(&layer).cloned())
}
