//! What a loaded model's jobs cost.

use super::costs::Costs;
use super::load::Pipeline;

impl Pipeline {
    /// Estimates of what this model's jobs take. Call it on the thread that computes.
    pub fn costs(&self) -> Costs {
        let transformer = self.denoiser().ok();
        Costs::of_parts(
            self.text_costs(),
            transformer.map(|model| model.config().clone()),
            self.vae_memory(),
            self.placement(),
            self.library.clone(),
        )
    }
}
