//! The noise that stochastic solvers add during their steps.

use candle_core::{Device, Result, Tensor};

use super::arithmetic::{combine, scaled};
use super::noise::TorchGenerator;
use super::snapshot::{self, Snapshot};

/// Standard normal noise of the latent's shape for a step from one sigma down to another.
pub trait StepNoise {
    /// The next noise. Intervals of sigma that overlap may have noise in common.
    ///
    /// # Errors
    /// The job is cancelled while noise is drawn, or the device fails.
    fn between(&mut self, from: f32, to: f32) -> Result<Tensor>;

    /// Stores what decides all further noise.
    ///
    /// # Errors
    /// A tensor cannot be copied from the device.
    fn save(&self, snapshot: &mut Snapshot) -> snapshot::Result<()>;

    /// Brings new noise of the same kind into the state in which [`save`](Self::save) was
    /// called.
    ///
    /// # Errors
    /// The snapshot lacks a part of the state, or has an impossible one.
    fn restore(&mut self, snapshot: &Snapshot) -> snapshot::Result<()>;
}

/// Draws of a whole batch from PyTorch's CPU generator.
struct Draws {
    generator: TorchGenerator,
    shape: Vec<usize>,
    device: Device,
}

impl Draws {
    /// Seeds the generator one higher than for the initial noise, so that the same noise is not
    /// drawn twice.
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

/// Independent noise for every call, as ComfyUI's ancestral solvers add it: one draw of the
/// generator, whatever the sigmas.
pub struct SeededNoise(Draws);

impl SeededNoise {
    /// For latents of the shape and device of `like`.
    pub fn new(seed: u64, like: &Tensor) -> Self {
        Self(Draws::new(seed, like))
    }
}

impl StepNoise for SeededNoise {
    fn between(&mut self, _: f32, _: f32) -> Result<Tensor> {
        self.0.next()
    }

    fn save(&self, snapshot: &mut Snapshot) -> snapshot::Result<()> {
        self.0.generator.save(snapshot)
    }

    fn restore(&mut self, snapshot: &Snapshot) -> snapshot::Result<()> {
        self.0.generator = TorchGenerator::restored(snapshot)?;
        Ok(())
    }
}

/// A Brownian motion over sigma: an interval and a part of it share the part's increment.
/// Solvers must ask for the part before the whole.
///
/// ComfyUI's Brownian tree is another realisation of the same process.
pub struct BrownianNoise {
    draws: Draws,
    current: Option<Interval>,
}

/// The increments of a Brownian motion from a sigma on.
struct Interval {
    from: f32,
    /// The sigma that the motion has reached.
    reached: f32,
    /// The increment between the two.
    increment: Tensor,
}

/// Names of an interval's parts in a snapshot.
const SIGMAS: &str = "noise.interval";
const INCREMENT: &str = "noise.increment";

impl BrownianNoise {
    /// For latents of the shape and device of `like`.
    pub fn new(seed: u64, like: &Tensor) -> Self {
        Self {
            draws: Draws::new(seed, like),
            current: None,
        }
    }
}

impl StepNoise for BrownianNoise {
    fn between(&mut self, from: f32, to: f32) -> Result<Tensor> {
        let draws = &mut self.draws;
        let mut drawn = |start: f32| -> Result<Tensor> {
            scaled(f64::from((start - to).abs()).sqrt(), &draws.next()?)
        };
        let increment = match self.current.take() {
            Some(current) if current.from == from => {
                let rest = drawn(current.reached)?;
                combine((1.0, &current.increment), &[(1.0, &rest)])?
            }
            _ => drawn(from)?,
        };
        let unit = scaled(f64::from((from - to).abs()).sqrt().recip(), &increment)?;
        self.current = Some(Interval {
            from,
            reached: to,
            increment,
        });
        Ok(unit)
    }

    fn save(&self, snapshot: &mut Snapshot) -> snapshot::Result<()> {
        let current = self.current.as_ref();
        let sigmas = current.map(|at| vec![at.from.to_bits(), at.reached.to_bits()]);
        snapshot.put(SIGMAS, sigmas);
        if let Some(current) = current {
            snapshot.put_tensor(INCREMENT, &current.increment)?;
        }
        self.draws.generator.save(snapshot)
    }

    fn restore(&mut self, snapshot: &Snapshot) -> snapshot::Result<()> {
        let Draws { shape, device, .. } = &self.draws;
        self.current = match snapshot.get::<Option<[u32; 2]>>(SIGMAS)? {
            None => None,
            Some(sigmas) => {
                let [from, reached] = sigmas.map(f32::from_bits);
                Some(Interval {
                    from,
                    reached,
                    increment: snapshot.tensor(
                        INCREMENT,
                        candle_core::DType::F32,
                        shape,
                        device,
                    )?,
                })
            }
        };
        self.draws.generator = TorchGenerator::restored(snapshot)?;
        Ok(())
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

    /// An odd number of elements below 16 leaves a normal over, which must be kept too.
    #[test]
    fn restored_noise_goes_on_as_the_original() {
        let like = Tensor::zeros((1, 1, 3, 1), DType::F32, &Device::Cpu).unwrap();
        let values = |t: Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let new = |brownian: bool, seed: u64| -> Box<dyn StepNoise> {
            match brownian {
                true => Box::new(BrownianNoise::new(seed, &like)),
                false => Box::new(SeededNoise::new(seed, &like)),
            }
        };
        for brownian in [false, true] {
            let mut noise = new(brownian, 7);
            for calls in 0..3 {
                let mut snapshot = Snapshot::default();
                noise.save(&mut snapshot).unwrap();
                let mut restored = new(brownian, 0);
                restored.restore(&snapshot).unwrap();
                let (from, to) = (0.9, 0.7 - 0.1 * calls as f32);
                let wanted = values(noise.between(from, to).unwrap());
                assert_eq!(values(restored.between(from, to).unwrap()), wanted);
            }
        }
    }
}
