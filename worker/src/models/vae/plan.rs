//! How much of a batch of images an encoder or decoder processes at a time, so that it fits the
//! memory.

use std::fmt;

use candle_core::{Device, Result, Tensor};

use super::bands::{alignment, halo, Bands};
use super::norms::WholeImage;
use super::shapes::{output, peak_values, Scratch, Size, StepShape};
use super::steps::{run, Step};
use crate::nn::{available_memory, check_cancelled, concat, is_out_of_memory};

/// Rows of a band at the resolution where bands begin. Fewer rows take less memory, and more
/// work, because more halo rows are computed twice.
const BAND_ROWS: [usize; 4] = [256, 128, 64, 32];

/// Bytes of GPU memory kept free for what the estimates leave out: workspaces of libraries and
/// fragmentation.
const GPU_RESERVE: u64 = 512 << 20;

/// What is processed at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tiling {
    /// The whole batch.
    Batch,
    /// One image of the batch.
    Image,
    /// One image; and in bands the steps where it is large: those after the given number of
    /// steps in a decoder, those before in an encoder.
    Bands(usize, Bands),
}

/// A tiling of a batch, and the memory that it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    tiling: Tiling,
    bytes: u64,
}

/// In words: `whole`, `in bands of 128 rows`.
impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.tiling {
            Tiling::Batch => f.write_str("whole"),
            Tiling::Image => f.write_str("one image at a time"),
            Tiling::Bands(_, bands) => write!(f, "in bands of {} rows", bands.rows),
        }
    }
}

/// A batch of images of one size.
#[derive(Clone, Copy, Debug)]
pub struct Batch {
    /// The number of images.
    pub entries: usize,
    /// The size of each image.
    pub size: Size,
    /// Bytes of one value.
    pub value_bytes: usize,
    /// The scratch memory of the device's operations.
    pub scratch: Scratch,
}

impl Batch {
    /// The batch that a tensor `[B, C, H, W]` is.
    ///
    /// # Errors
    /// The tensor has another rank.
    pub fn of(x: &Tensor) -> Result<Self> {
        let (entries, channels, rows, columns) = x.dims4()?;
        Ok(Self {
            entries,
            size: Size {
                channels,
                rows,
                columns,
            },
            value_bytes: x.dtype().size_in_bytes(),
            scratch: Scratch::of(x.device()),
        })
    }
}

impl Plan {
    /// Plans for a decoder's steps, the fastest first. `splits` are the numbers of steps after
    /// which bands can begin.
    pub fn for_decode(steps: &[StepShape], splits: &[usize], batch: Batch) -> Vec<Self> {
        Self::all(steps, batch, splits, |split, size, rows| {
            let (before, banded) = steps.split_at(split);
            let between = output(before, size);
            let bands = bands(banded, rows);
            let peak = bands.peak_values(banded, between, batch.scratch);
            (bands, peak.max(peak_values(before, size, batch.scratch)))
        })
    }

    /// Plans for an encoder's steps, the fastest first. `splits` are the numbers of steps after
    /// which bands can end.
    pub fn for_encode(steps: &[StepShape], splits: &[usize], batch: Batch) -> Vec<Self> {
        Self::all(steps, batch, splits, |split, size, rows| {
            let (banded, after) = steps.split_at(split);
            let between = output(banded, size);
            let bands = bands(banded, rows);
            let peak = bands.peak_values(banded, size, batch.scratch);
            (bands, peak.max(peak_values(after, between, batch.scratch)))
        })
    }

    /// Bytes of memory that the plan takes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// All plans. `in_bands` gives the bands of a split and a number of rows, and the peak of
    /// the values alive for one image.
    fn all(
        steps: &[StepShape],
        batch: Batch,
        splits: &[usize],
        in_bands: impl Fn(usize, Size, usize) -> (Bands, usize),
    ) -> Vec<Self> {
        let Batch { entries, size, .. } = batch;
        let bytes = |values: usize| values.saturating_mul(batch.value_bytes) as u64;
        let one = peak_values(steps, size, batch.scratch);
        let results = entries.saturating_mul(output(steps, size).values());
        let mut plans = vec![Self {
            tiling: Tiling::Batch,
            bytes: bytes(entries.saturating_mul(one)),
        }];
        if entries > 1 {
            plans.push(Self {
                tiling: Tiling::Image,
                bytes: bytes(results.saturating_add(one)),
            });
        }
        for &split in splits {
            for rows in BAND_ROWS {
                let (bands, peak) = in_bands(split, size, rows);
                plans.push(Self {
                    tiling: Tiling::Bands(split, bands),
                    bytes: bytes(results.saturating_add(peak)),
                });
            }
        }
        plans
    }

    /// Runs a decoder's steps on latents `[B, C, H/8, W/8]`.
    ///
    /// # Errors
    /// The shapes do not fit, the job is cancelled, or the device fails or has too little
    /// memory.
    pub fn decode(&self, steps: &[Step], latents: &Tensor) -> Result<Tensor> {
        self.run(steps, latents, |split, bands, x| {
            let (before, banded) = steps.split_at(split);
            bands.run(banded, &whole(before, x)?)
        })
    }

    /// Runs an encoder's steps on pixels `[B, 3, H, W]`.
    ///
    /// # Errors
    /// Those of [`decode`](Self::decode).
    pub fn encode(&self, steps: &[Step], pixels: &Tensor) -> Result<Tensor> {
        self.run(steps, pixels, |split, bands, x| {
            let (banded, after) = steps.split_at(split);
            whole(after, &bands.run(banded, x)?)
        })
    }

    fn run(
        &self,
        steps: &[Step],
        x: &Tensor,
        in_bands: impl Fn(usize, Bands, &Tensor) -> Result<Tensor>,
    ) -> Result<Tensor> {
        let one = |x: &Tensor| match self.tiling {
            Tiling::Batch | Tiling::Image => whole(steps, x),
            Tiling::Bands(split, bands) => in_bands(split, bands, x),
        };
        if self.tiling == Tiling::Batch {
            return one(x);
        }
        let entries = (0..x.dim(0)?).map(|i| {
            check_cancelled()?;
            one(&x.narrow(0, i, 1)?)
        });
        let entries = entries.collect::<Result<Vec<_>>>()?;
        concat(&entries.iter().collect::<Vec<_>>(), 0)
    }
}

/// Bands of at least `rows` rows for steps.
fn bands(steps: &[StepShape], rows: usize) -> Bands {
    Bands {
        rows: rows.next_multiple_of(alignment(steps)),
        halo: halo(steps),
    }
}

/// Runs steps on whole images.
fn whole(steps: &[Step], x: &Tensor) -> Result<Tensor> {
    match run(steps, x.clone(), &mut WholeImage)? {
        Some(y) => Ok(y),
        None => candle_core::bail!("a norm of whole images ended the run"),
    }
}

/// Runs the first plan that fits the free memory, or else the one that takes the least. If the
/// device then runs out of memory after all, the next plan is tried.
///
/// # Errors
/// Those of `run`; out of memory only if the last plan fails so.
pub fn run_first_that_fits<R>(
    plans: &[Plan],
    device: &Device,
    run: impl Fn(&Plan) -> Result<R>,
) -> Result<R> {
    let available = available_memory(device);
    let reserve = match device.is_cpu() {
        true => 0,
        false => GPU_RESERVE,
    };
    let fits = |plan: &Plan| available.is_none_or(|there| plan.bytes + reserve <= there);
    let least = || (0..plans.len()).min_by_key(|&plan| plans[plan].bytes);
    let first = plans.iter().position(fits).or_else(least).unwrap_or(0);
    if first > 0 {
        tracing::info!(plan = ?plans[first], ?available, "images are processed in parts to fit the memory");
    }
    let Some((last, others)) = plans[first..].split_last() else {
        candle_core::bail!("there is no plan");
    };
    for plan in others {
        match run(plan) {
            Err(error) if is_out_of_memory(&error) => {
                tracing::warn!(
                    ?plan,
                    ?available,
                    "out of memory: trying a plan that needs less"
                );
            }
            done => return done,
        }
    }
    run(last)
}

#[cfg(test)]
mod tests {
    use candle_core::DType;

    use super::*;
    use crate::checkpoint::{RandomWeights, VaeConfig};
    use crate::models::builder::Builder;
    use crate::models::vae::steps::shapes;
    use crate::models::vae::Vae;
    use crate::nn::{relative_error, test_gpu, Placement, WeightFormat};

    /// A small autoencoder with random weights.
    fn vae(device: &Device, weights: DType) -> Vae {
        let placement = Placement {
            device: device.clone(),
            weights,
            products: WeightFormat::Dense,
        };
        let config = VaeConfig {
            block_channels: vec![32, 32, 64, 64],
            layers_per_block: 2,
            latent_channels: 16,
            norm_groups: 32,
            scaling_factor: crate::checkpoint::FLUX_SCALING_FACTOR,
            shift_factor: crate::checkpoint::FLUX_SHIFT_FACTOR,
            native_size: 64,
        };
        let pool = (0..40_961).map(|i| ((i * i) as f32 * 0.37).sin() * 1.4);
        let weights = RandomWeights::new(pool.collect()).vae(&config).unwrap();
        Vae::new(&config, &Builder::new(&weights, &placement)).unwrap()
    }

    /// Images whose rows differ, so that bands have other moments than the whole.
    fn image(shape: (usize, usize, usize, usize)) -> Tensor {
        let row = shape.1 * shape.2 * shape.3;
        let value = |i: usize| (i as f32 * 0.11).sin() + 2.0 * (i % row) as f32 / row as f32 - 0.5;
        let values = (0..shape.0 * row).map(value).collect::<Vec<_>>();
        Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
    }

    /// Decoder and encoder in bands against whole images, at every possible split, on images
    /// whose rows are a multiple of the bands' and on others.
    fn bands_agree(device: &Device, dtype: DType, tolerance: f32) {
        let vae = vae(device, dtype);
        let placed = |t: Tensor| t.to_device(device).unwrap().to_dtype(dtype).unwrap();
        let hold = |made: Tensor, whole: &Tensor, what: &str| {
            let wide = |t: &Tensor| {
                let t = t.to_device(&Device::Cpu).unwrap();
                t.to_dtype(DType::F32).unwrap()
            };
            let error = relative_error(&wide(&made), &wide(whole));
            assert!(error <= tolerance, "{what}: {error:e}");
        };
        let plan = |split, steps: &[Step], rows| Plan {
            tiling: Tiling::Bands(split, bands(&shapes(steps), rows)),
            bytes: 0,
        };
        let (steps, splits) = vae.decoder.steps();
        for (shape, rows) in [((2, 16, 10, 3), 7), ((1, 16, 16, 2), 8)] {
            let latents = placed(image(shape));
            let made = whole(&steps, &latents).unwrap();
            for &split in &splits {
                let plan = plan(split, &steps[split..], rows);
                let parts = plan.decode(&steps, &latents).unwrap();
                hold(parts, &made, &format!("{shape:?}, {plan:?}"));
            }
        }
        let (steps, splits) = vae.encoder.as_ref().unwrap().steps();
        let pixels = placed(image((2, 3, 112, 16)));
        let made = whole(&steps, &pixels).unwrap();
        for &split in &splits {
            let plan = plan(split, &steps[..split], 30);
            let parts = plan.encode(&steps, &pixels).unwrap();
            hold(parts, &made, &format!("{plan:?}"));
        }
    }

    #[test]
    fn bands_make_the_image_of_the_whole() {
        bands_agree(&Device::Cpu, DType::F32, 2e-5);
    }

    #[test]
    fn bands_make_the_image_of_the_whole_on_cuda() {
        let Some(device) = test_gpu() else { return };
        bands_agree(&device, DType::F32, 2e-5);
        // cuDNN may choose another order of sums for each shape.
        bands_agree(&device, DType::BF16, 2e-2);
    }

    #[test]
    fn less_memory_takes_smaller_parts() {
        let vae = vae(&Device::Cpu, DType::F32);
        let (steps, splits) = vae.decoder.steps();
        let latents = image((3, 16, 512, 1));
        let batch = Batch::of(&latents).unwrap();
        let plans = Plan::for_decode(&shapes(&steps), &splits, batch);
        assert_eq!(plans[0].tiling, Tiling::Batch);
        assert_eq!(plans[1].tiling, Tiling::Image);
        let bytes: Vec<u64> = plans.iter().map(|plan| plan.bytes).collect();
        assert!(bytes[0] > bytes[1] && bytes[1] > bytes[2], "{bytes:?}");
        let least = bytes.iter().min().unwrap();
        assert!(least * 3 < bytes[1], "{bytes:?}");
        assert!(matches!(plans[2].tiling, Tiling::Bands(split, bands)
            if split == splits[0] && bands.rows == BAND_ROWS[0]));
    }

    #[test]
    fn too_little_memory_falls_back_to_smaller_parts() {
        let plan = |bytes| Plan {
            tiling: Tiling::Batch,
            bytes,
        };
        let plans = [plan(3), plan(2), plan(1)];
        let short = || candle_core::Error::Msg("CUDA_ERROR_OUT_OF_MEMORY".into());
        let run = |enough: u64| {
            run_first_that_fits(&plans, &Device::Cpu, |plan| match plan.bytes <= enough {
                true => Ok(plan.bytes),
                false => Err(short()),
            })
        };
        assert_eq!(run(9).unwrap(), 3);
        assert_eq!(run(2).unwrap(), 2);
        assert!(is_out_of_memory(&run(0).unwrap_err()));
        let other = run_first_that_fits(&plans, &Device::Cpu, |_| -> Result<()> {
            candle_core::bail!("another failure")
        });
        assert!(!is_out_of_memory(&other.unwrap_err()));
    }
}
