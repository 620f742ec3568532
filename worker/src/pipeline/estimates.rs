//! What a loaded model's jobs cost.

use super::costs::Costs;
use super::load::Pipeline;
use crate::checkpoint::MmditConfig;
use crate::nn::block_path;

impl Pipeline {
    /// Estimates of what this model's jobs take. Call it on the thread that computes.
    pub fn costs(&self) -> Costs {
        let transformer = self.denoiser().ok().map(|model| model.config().clone());
        let head_dim = transformer.as_ref().map_or(0, MmditConfig::head_dim);
        let placement = self.placement();
        Costs::new(
            self.text_costs(),
            transformer,
            self.vae_memory(),
            block_path(placement, head_dim),
            placement,
        )
    }
}
