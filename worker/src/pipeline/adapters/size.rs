//! The memory that an adapter takes on the device.

use crate::checkpoint::{Change, PartTensors};

/// Most layers of one size that a network joins to one.
const JOINED: u64 = 2;

/// Numbers of values that adapters take on the device in one network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Size {
    /// Values of thin products, of the type of the arithmetic.
    pub thin: u64,
    /// Values of weights of its own, of the type of the weights.
    pub whole: u64,
}

impl Size {
    /// What changes take in a network: an upper estimate, for weights that become the adapter's own
    /// are counted with the other tensors that a layer may be joined with.
    pub fn of(changes: &[Change], part: Option<&PartTensors>) -> Self {
        let mut size = Self::default();
        let mut whole: Vec<&str> = Vec::new();
        for change in changes {
            match (change.thin_values(), &change.place.shape[..]) {
                (Some(values), _) => size.thin += values,
                (None, [_, _]) => {
                    let name = &change.place.tensor[..];
                    if !whole.contains(&name) {
                        whole.push(name);
                    }
                }
                (None, _) => size.whole += change.place.len() as u64,
            }
        }
        for name in whole {
            let shape = part.and_then(|part| part.tensor(name)).map(|t| &t.shape);
            let values = shape.map_or(0, |shape| shape.iter().product::<usize>()) as u64;
            size.whole += values * JOINED;
        }
        size
    }

    /// The sum of two adapters' sizes.
    pub fn plus(self, other: Self) -> Self {
        Self {
            thin: self.thin.saturating_add(other.thin),
            whole: self.whole.saturating_add(other.whole),
        }
    }

    /// Bytes: factors are kept as they are and joined to a stack. Values have `value` bytes in the
    /// arithmetic and `weight` bytes in weights.
    pub fn bytes(self, value: u64, weight: u64) -> u64 {
        let thin = self.thin.saturating_mul(2 * value);
        thin.saturating_add(self.whole.saturating_mul(weight))
    }
}
