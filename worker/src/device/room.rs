//! Memory that a model's weights give up for a job, and take back when the device is idle.

use ovis_protocol::WireError;

use super::backend::Backend;
use super::catalog::Catalog;
use crate::jobs::no_device_memory;
use crate::pipeline::Cost;

/// Makes room for jobs on a GPU. Other programs may have taken memory since a job was admitted.
#[derive(Default)]
pub(super) struct Room {
    /// The most memory that a job has needed so far. Weights leave it free when they come back.
    largest: u64,
}

impl Room {
    /// Makes sure that a GPU has the memory that a job of a model needs: if it has not, weights of
    /// the model leave the device, and are streamed from then on.
    ///
    /// # Errors
    /// Even so, there is too little.
    pub fn make<B: Backend>(
        &mut self,
        models: &mut Catalog<B>,
        model: &str,
        cost: Cost,
    ) -> Result<(), WireError> {
        let needed = cost.device();
        self.largest = self.largest.max(needed);
        let Some(left) = models.probe().gpu_memory_left() else {
            return Ok(());
        };
        if needed <= left {
            return Ok(());
        }
        if let Some(backend) = models.get_mut(model) {
            if let Err(error) = backend.make_room(needed - left) {
                tracing::warn!(%error, "weights could not make room for a job");
            }
        }
        match models.probe().gpu_memory_left() {
            Some(left) if needed > left => Err(no_device_memory(needed, left)),
            _ => Ok(()),
        }
    }

    /// Brings weights back to an idle GPU, as far as the largest job so far leaves room for them.
    pub fn settle<B: Backend>(&self, models: &mut Catalog<B>) {
        for name in models.loaded_names() {
            let Some(left) = models.probe().gpu_memory_left() else {
                return;
            };
            let Some(backend) = models.get_mut(&name) else {
                continue;
            };
            if let Err(error) = backend.settle(left.saturating_sub(self.largest)) {
                tracing::warn!(%error, "weights could not come back to the device");
            }
        }
    }
}
