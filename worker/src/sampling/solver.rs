//! The interface of every solver: a state that takes a latent from one sigma to the next.

use candle_core::{Result, Tensor};

use super::snapshot::{self, Snapshot};
use super::step_noise::StepNoise;

/// The model: from latents and their sigma to the denoised estimate.
pub type Denoiser<'a> = dyn FnMut(&Tensor, f32) -> Result<Tensor> + 'a;

/// The result of a step.
pub struct Stepped {
    /// The latents at the next sigma.
    pub x: Tensor,
    /// The model's denoised estimate at the step's first sigma.
    pub denoised: Tensor,
}

/// The solver of one job, with what it remembers of earlier steps. Latents are float32, of one
/// shape and on one device; steps are numbered from 0 and taken in order.
pub trait Solver {
    /// The sigmas at which a step evaluates the model.
    fn evaluations(&self, step: usize) -> Vec<f32>;

    /// Takes a step.
    ///
    /// # Errors
    /// The model or the device fails, or the job is cancelled within the step.
    fn step(
        &mut self,
        step: usize,
        x: &Tensor,
        model: &mut Denoiser<'_>,
        noise: &mut dyn StepNoise,
    ) -> Result<Stepped>;

    /// The sigma of the last step's result, where it is not the schedule's last.
    fn end(&self) -> Option<f32> {
        None
    }

    /// Stores what the solver remembers of earlier steps. A solver without memory keeps this
    /// default and that of [`restore`](Self::restore).
    ///
    /// # Errors
    /// A tensor cannot be copied from the device.
    fn save(&self, _: &mut Snapshot) -> snapshot::Result<()> {
        Ok(())
    }

    /// Brings a new solver into the state in which another one called
    /// [`save`](Self::save) before step `step`; its tensors are like `x`.
    ///
    /// # Errors
    /// The snapshot lacks a tensor of that step, or has one of another type or shape.
    fn restore(&mut self, _: &Snapshot, _step: usize, _x: &Tensor) -> snapshot::Result<()> {
        Ok(())
    }
}
