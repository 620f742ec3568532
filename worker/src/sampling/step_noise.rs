//! The noise that stochastic solvers add on their way.

use candle_core::{Device, Result, Tensor};

use super::noise::TorchGenerator;
use super::solver::{combine, scaled};

/// Standard normal noise for the way from one sigma down to another, of the
/// latent's shape.
pub trait StepNoise {
    /// The next noise. Ways that overlap have noise in common.
    ///
    /// # Errors
    /// The device fails.
    fn between(&mut self, from: f32, to: f32) -> Result<Tensor>;
}

/// Draws of a whole batch from PyTorch's CPU generator.
struct Draws {
    generator: TorchGenerator,
    shape: Vec<usize>,
    device: Device,
}

impl Draws {
    /// Like the initial noise with a seed one higher, so that it is not drawn
    /// again.
    ///
    /// Source: ComfyUI 0.18.1 `k_diffusion/sampling.py` `default_noise_sampler`
    /// on a CPU.
    fn new(seed: u64, like: &Tensor) -> Self {
        Self {
            generator: TorchGenerator::new(seed.wrapping_add(1)),
            shape: like.dims().to_vec(),
            device: like.device().clone(),
        }
    }

    fn next(&mut self) -> Result<Tensor> {
        let values = self.generator.normals(self.shape.iter().product())?;
        Tensor::from_vec(values, &self.shape[..], &self.device)
    }
}

/// One draw a step, whatever the step: what ComfyUI's ancestral solvers add.
pub struct SeededNoise(Draws);

impl SeededNoise {
    /// For latents like this one.
    pub fn new(seed: u64, like: &Tensor) -> Self {
        Self(Draws::new(seed, like))
    }
}

impl StepNoise for SeededNoise {
    fn between(&mut self, _: f32, _: f32) -> Result<Tensor> {
        self.0.next()
    }
}

/// A Brownian motion over sigma, in which a way and a part of it share their
/// increment. The solvers ask for a way's parts before the way itself.
///
/// ComfyUI's Brownian tree is another realisation of the same process.
pub struct BrownianNoise {
    draws: Draws,
    from: f32,
    /// How far the motion has come from `from`, and by how much it moved.
    reached: Option<(f32, Tensor)>,
}

impl BrownianNoise {
    /// For latents like this one.
    pub fn new(seed: u64, like: &Tensor) -> Self {
        Self {
            draws: Draws::new(seed, like),
            from: f32::NAN,
            reached: None,
        }
    }
}

impl StepNoise for BrownianNoise {
    fn between(&mut self, from: f32, to: f32) -> Result<Tensor> {
        if from != self.from {
            (self.from, self.reached) = (from, None);
        }
        let more = |start: f32, draws: &mut Draws| -> Result<Tensor> {
            scaled(f64::from((start - to).abs()).sqrt(), &draws.next()?)
        };
        let moved = match self.reached.take() {
            None => more(from, &mut self.draws)?,
            Some((start, moved)) => {
                let more = more(start, &mut self.draws)?;
                combine((1.0, &moved), &[(1.0, &more)])?
            }
        };
        self.reached = Some((to, moved.clone()));
        scaled(f64::from((from - to).abs()).sqrt().recip(), &moved)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::DType;

    fn correlation(a: &Tensor, b: &Tensor) -> f32 {
        (a * b).unwrap().mean_all().unwrap().to_scalar().unwrap()
    }

    #[test]
    fn brownian_increments_are_shared_in_proportion() {
        let like = Tensor::zeros((1, 4, 64, 64), DType::F32, &Device::Cpu).unwrap();
        let mut noise = BrownianNoise::new(3, &like);
        let part = noise.between(0.9, 0.65).unwrap();
        let whole = noise.between(0.9, 0.5).unwrap();
        let next = noise.between(0.5, 0.1).unwrap();
        for unit in [&part, &whole, &next] {
            assert!((correlation(unit, unit) - 1.0).abs() < 0.05);
        }
        let shared = (0.25f32 / 0.4).sqrt();
        assert!((correlation(&part, &whole) - shared).abs() < 0.05);
        assert!(correlation(&whole, &next).abs() < 0.05);
    }
}
