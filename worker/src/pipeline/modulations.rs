//! The transformer's modulations for the sigmas of a job, made in portions.

use candle_core::Result;

use crate::models::mmdit::{Mmdit, Modulations};

/// Sigmas whose modulations are made at once. One matrix product a block serves all of them,
/// and a job never holds more, however many steps it has.
pub const SIGMAS_PER_PORTION: usize = 64;

/// The modulations of a job's sigmas, of which one portion is held at a time.
pub struct ModulationPortions {
    /// All sigmas at which the job evaluates the model, descending, each once.
    sigmas: Vec<f32>,
    /// The portion that is held, and its index.
    held: Option<(usize, Modulations)>,
}

impl ModulationPortions {
    /// For the sigmas at which a job evaluates the model, in any order.
    pub fn new(mut sigmas: Vec<f32>) -> Self {
        sigmas.sort_by(|a, b| b.total_cmp(a));
        sigmas.dedup();
        Self { sigmas, held: None }
    }

    /// Drops the portion that is held: the model's adapters are others now.
    pub fn forget(&mut self) {
        self.held = None;
    }

    /// The portion with a sigma's modulations, and the sigma's row in it.
    ///
    /// # Errors
    /// The sigma is not one of the job's, or the device fails.
    pub fn at(&mut self, model: &Mmdit, sigma: f32) -> Result<(&Modulations, usize)> {
        let Some(index) = self.sigmas.iter().position(|&known| known == sigma) else {
            candle_core::bail!("the solver evaluates at sigma {sigma}, which was not prepared");
        };
        let portion = index / SIGMAS_PER_PORTION;
        let made = match self.held.take() {
            Some((held, made)) if held == portion => made,
            // `take` has freed the old portion, so that never two are held.
            _ => {
                let start = portion * SIGMAS_PER_PORTION;
                let end = (start + SIGMAS_PER_PORTION).min(self.sigmas.len());
                model.modulations(&self.sigmas[start..end])?
            }
        };
        let (_, made) = self.held.insert((portion, made));
        Ok((made, index % SIGMAS_PER_PORTION))
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Tensor};

    use super::*;
    use crate::models::mmdit::BranchInput;
    use crate::nn::relative_error;
    use crate::pipeline::testing::tiny_pipeline;

    #[test]
    fn a_row_of_a_portion_is_the_modulation_of_its_sigma() {
        let pipeline = tiny_pipeline();
        let model = pipeline.denoiser().unwrap();
        let wave = |shape: (usize, usize, usize)| {
            let values = (0..shape.0 * shape.1 * shape.2).map(|i| (i as f32 * 0.3).sin());
            Tensor::from_vec(values.collect::<Vec<_>>(), shape, &Device::Cpu).unwrap()
        };
        let config = model.config();
        let text = model.embed_text(&wave((1, 3, config.context_dim))).unwrap();
        let image = wave((1, 4, config.in_channels));
        let rope = model.rope(3, 2, 2).unwrap();
        let velocity = |modulations: &Modulations, row| {
            let branch = BranchInput {
                image: &image,
                text: &text,
                rope: &rope,
                cache: None,
            };
            let velocities = model.forward_all(vec![branch], modulations, row);
            velocities.unwrap().remove(0)
        };
        let sigmas: Vec<f32> = (0..=SIGMAS_PER_PORTION).map(|i| i as f32 / 100.0).collect();
        let mut portions = ModulationPortions::new([&sigmas[..], &sigmas[..]].concat());
        // The highest sigmas fill the first portion; the lowest is alone in the second.
        for sigma in [0.64, 0.01, 0.0, 0.3] {
            let single = velocity(&model.modulations(&[sigma]).unwrap(), 0);
            let (made, row) = portions.at(model, sigma).unwrap();
            assert!(relative_error(&velocity(made, row), &single) < 1e-5);
        }
        assert!(portions.at(model, 0.005).is_err());
    }
}
