//! The sets of a denoise job whose adapters apply to some sigmas only.

use std::sync::Arc;

use super::stack::{AdapterStack, StackedAdapter};
use crate::nn::AdapterSet;
use crate::pipeline::error::Result;

/// What a stack changes in the transformer at each of a job's sigmas.
#[derive(Clone, Debug)]
pub struct AdapterPhases {
    stack: AdapterStack,
    /// The sets, with which adapters of the stack each of them consists of.
    sets: Vec<(Vec<bool>, Option<Arc<AdapterSet>>)>,
}

impl AdapterPhases {
    /// The phases of a job that evaluates the transformer at `sigmas`; `make` makes the set of some
    /// adapters.
    ///
    /// # Errors
    /// Those of `make`.
    pub fn new(
        stack: &AdapterStack,
        sigmas: &[f32],
        mut make: impl FnMut(&[&StackedAdapter]) -> Result<Option<Arc<AdapterSet>>>,
    ) -> Result<Self> {
        let mut phases = Self {
            stack: stack.clone(),
            sets: Vec::new(),
        };
        for sigma in sigmas {
            let active = phases.active(*sigma);
            if phases.sets.iter().any(|(known, _)| *known == active) {
                continue;
            }
            let adapters = phases.stack.adapters().iter().zip(&active);
            let adapters: Vec<_> = adapters.filter_map(|(one, on)| on.then_some(one)).collect();
            let set = make(&adapters)?;
            phases.sets.push((active, set));
        }
        Ok(phases)
    }

    /// Which adapters apply at a sigma.
    fn active(&self, sigma: f32) -> Vec<bool> {
        let adapters = self.stack.adapters().iter();
        adapters.map(|one| one.applies_at(sigma)).collect()
    }

    /// Whether there is more than one phase.
    pub fn alternate(&self) -> bool {
        self.sets.len() > 1
    }

    /// The number of the phase that a sigma is in.
    pub fn at(&self, sigma: f32) -> usize {
        if self.sets.len() < 2 {
            return 0;
        }
        let active = self.active(sigma);
        let found = self.sets.iter().position(|(known, _)| *known == active);
        found.unwrap_or(0)
    }

    /// The set of a phase, if it changes anything.
    pub fn set(&self, phase: usize) -> Option<&Arc<AdapterSet>> {
        self.sets.get(phase)?.1.as_ref()
    }
}
