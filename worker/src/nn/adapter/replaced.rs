//! Tensors that adapters put in the place of a network's norms and other small parameters.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

use candle_core::{Result, Tensor, TensorId};

use crate::nn::heads::{HeadNorms, QkBounds};

/// A tensor in place of a network's own.
#[derive(Clone, Debug)]
struct Replacement {
    tensor: Tensor,
    /// The bounds of heads that are normalised with it.
    bounds: QkBounds,
}

/// The tensors that a set of adapters puts in the place of a network's own.
#[derive(Clone, Debug, Default)]
pub(super) struct Replaced(HashMap<TensorId, Replacement>);

thread_local! {
    static CURRENT: RefCell<Option<Arc<Replaced>>> = const { RefCell::new(None) };
}

impl Replaced {
    /// Puts `tensor` in the place of the parameter `own`.
    ///
    /// # Errors
    /// The tensor cannot be copied from its device.
    pub fn replace(&mut self, own: TensorId, tensor: Tensor) -> Result<()> {
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
        self.0.insert(own, Replacement { tensor, bounds });
        Ok(())
    }

    /// Whether nothing is replaced.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Makes tensors, or none, the current ones of this thread. Returns the previous ones.
pub(super) fn make_current(replaced: Option<Arc<Replaced>>) -> Option<Arc<Replaced>> {
    CURRENT.replace(replaced)
}

/// The tensor that the current set has for a parameter, or the parameter itself.
pub(in crate::nn) fn current(own: &Tensor) -> Tensor {
    let replaced = CURRENT.with_borrow(|replaced| {
        let replacement = replaced.as_ref()?.0.get(&own.id())?;
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
    CURRENT.with_borrow(|replaced| {
        let find = |tensor: &Tensor| replaced.as_ref()?.0.get(&tensor.id());
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
