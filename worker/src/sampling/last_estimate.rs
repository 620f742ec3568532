//! The memory of the solvers that remember one denoised estimate.

use candle_core::Tensor;

use super::snapshot::{Result, Snapshot};

/// Its name in a snapshot.
const NAME: &str = "solver.last_estimate";

/// The denoised estimate of the step before; none before the first step.
#[derive(Default)]
pub struct LastEstimate(Option<Tensor>);

impl LastEstimate {
    /// The estimate.
    pub fn get(&self) -> Option<&Tensor> {
        self.0.as_ref()
    }

    /// Remembers an estimate instead of the last.
    pub fn set(&mut self, estimate: &Tensor) {
        self.0 = Some(estimate.clone());
    }

    /// Stores the estimate.
    ///
    /// # Errors
    /// It cannot be copied from the device.
    pub fn save(&self, snapshot: &mut Snapshot) -> Result<()> {
        match &self.0 {
            Some(estimate) => snapshot.put_tensor(NAME, estimate),
            None => Ok(()),
        }
    }

    /// The estimate that was stored before step `step`, of the shape of `x`.
    ///
    /// # Errors
    /// The snapshot has none although the step is not the first, or one of another shape.
    pub fn restored(snapshot: &Snapshot, step: usize, x: &Tensor) -> Result<Self> {
        match step {
            0 => Ok(Self(None)),
            _ => Ok(Self(Some(snapshot.tensor_like(NAME, x)?))),
        }
    }
}
