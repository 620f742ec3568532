//! How much of an image is held at a time: as much as there is memory for.

use candle_core::{Device, Result, Tensor};

use super::bands::{alignment, margin, Bands};
use super::shapes::{most_values, output, Scratch, Size, StepShape};
use super::steps::{run, OfTheWhole, Step};
use crate::nn::{available_memory, check_cancelled, concat, is_out_of_memory};

/// Rows, at the resolution where bands begin, that a band answers for: the fewer, the less memory
/// and the more work twice.
const ROWS: [usize; 4] = [256, 128, 64, 32];

/// Bytes left for what is not counted: workspaces of libraries, gaps between tensors.
const MARGIN: u64 = 512 << 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// The batch at once.
    Whole,
    /// One of the batch after the other.
    OneByOne,
    /// The same, and in bands the steps on that side of this one where the image is large.
    InBands(usize, Bands),
}

/// A way to run a network's half, and what it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    way: Way,
    bytes: u64,
}

/// Images of one size that go through a half together.
#[derive(Clone, Copy, Debug)]
pub struct Batch {
    /// How many.
    pub entries: usize,
    /// The size of each.
    pub size: Size,
    /// Bytes of one value.
    pub value_bytes: usize,
    /// What the device holds besides.
    pub scratch: Scratch,
}

impl Batch {
    /// A batch `[B, C, H, W]` where it lives.
    ///
    /// # Errors
    /// It is not of that shape.
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
    /// Plans for a decoder's steps over a batch, the fastest first; `larger` tells before which
    /// steps the image becomes larger.
    pub fn of_a_decode(steps: &[StepShape], larger: &[usize], batch: Batch) -> Vec<Self> {
        Self::all(steps, batch, larger, |split, size, rows| {
            let (before, beyond) = steps.split_at(split);
            let between = output(before, size);
            let bands = bands(beyond, rows);
            let most = bands.most_values(beyond, between, batch.scratch);
            (bands, most.max(most_values(before, size, batch.scratch)))
        })
    }

    /// Plans for an encoder's steps over a batch; `smaller` tells after how many steps the
    /// image has become smaller.
    pub fn of_an_encode(steps: &[StepShape], smaller: &[usize], batch: Batch) -> Vec<Self> {
        Self::all(steps, batch, smaller, |split, size, rows| {
            let (within, after) = steps.split_at(split);
            let between = output(within, size);
            let bands = bands(within, rows);
            let most = bands.most_values(within, size, batch.scratch);
            (bands, most.max(most_values(after, between, batch.scratch)))
        })
    }

    /// Bytes that it takes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    fn all(
        steps: &[StepShape],
        batch: Batch,
        splits: &[usize],
        in_bands: impl Fn(usize, Size, usize) -> (Bands, usize),
    ) -> Vec<Self> {
        let Batch { entries, size, .. } = batch;
        let bytes = |values: usize| values.saturating_mul(batch.value_bytes) as u64;
        let one = most_values(steps, size, batch.scratch);
        let results = entries.saturating_mul(output(steps, size).values());
        let mut plans = vec![Self {
            way: Way::Whole,
            bytes: bytes(entries.saturating_mul(one)),
        }];
        if entries > 1 {
            plans.push(Self {
                way: Way::OneByOne,
                bytes: bytes(results.saturating_add(one)),
            });
        }
        for &split in splits {
            for rows in ROWS {
                let (bands, most) = in_bands(split, size, rows);
                plans.push(Self {
                    way: Way::InBands(split, bands),
                    bytes: bytes(results.saturating_add(most)),
                });
            }
        }
        plans
    }

    /// Runs a decoder's steps.
    ///
    /// # Errors
    /// The shapes do not fit, or the device fails.
    pub fn decode(&self, steps: &[Step], latents: &Tensor) -> Result<Tensor> {
        self.run(steps, latents, |split, bands, x| {
            let (before, beyond) = steps.split_at(split);
            bands.run(beyond, &whole(before, x)?)
        })
    }

    /// Runs an encoder's steps.
    ///
    /// # Errors
    /// As [`decode`](Self::decode).
    pub fn encode(&self, steps: &[Step], pixels: &Tensor) -> Result<Tensor> {
        self.run(steps, pixels, |split, bands, x| {
            let (within, after) = steps.split_at(split);
            whole(after, &bands.run(within, x)?)
        })
    }

    fn run(
        &self,
        steps: &[Step],
        x: &Tensor,
        in_bands: impl Fn(usize, Bands, &Tensor) -> Result<Tensor>,
    ) -> Result<Tensor> {
        let one = |x: &Tensor| match self.way {
            Way::Whole | Way::OneByOne => whole(steps, x),
            Way::InBands(split, bands) => in_bands(split, bands, x),
        };
        if self.way == Way::Whole {
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

fn bands(steps: &[StepShape], rows: usize) -> Bands {
    Bands {
        rows: rows.next_multiple_of(alignment(steps)),
        margin: margin(steps),
    }
}

fn whole(steps: &[Step], x: &Tensor) -> Result<Tensor> {
    match run(steps, x.clone(), &mut OfTheWhole)? {
        Some(y) => Ok(y),
        None => candle_core::bail!("a norm of the whole went no further"),
    }
}

/// Runs the first plan that there is memory for, or else the last; where it turns out that there
/// was too little, those after it.
///
/// # Errors
/// `run`'s own.
pub fn run_first_that_fits<R>(
    plans: &[Plan],
    device: &Device,
    run: impl Fn(&Plan) -> Result<R>,
) -> Result<R> {
    let available = available_memory(device);
    let margin = match device.is_cpu() {
        true => 0,
        false => MARGIN,
    };
    let fits = |plan: &Plan| available.is_none_or(|there| plan.bytes + margin <= there);
    let first = plans
        .iter()
        .position(fits)
        .unwrap_or(plans.len().saturating_sub(1));
    if first > 0 {
        tracing::info!(plan = ?plans[first], ?available, "an image is taken in parts");
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
                    "too little memory for this plan of an image"
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
    use crate::checkpoint::VaeConfig;
    use crate::models::builder::Builder;
    use crate::models::random::RandomWeights;
    use crate::models::vae::steps::shapes;
    use crate::models::vae::Vae;
    use crate::nn::{relative_error, test_gpu, Placement, WeightFormat};

    /// A small autoencoder of random weights on a device, in a type.
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
        let weights = RandomWeights::new(pool.collect(), &placement).unwrap();
        Vae::new(&config, &Builder::random(&weights, &placement)).unwrap()
    }

    /// An image whose rows differ, so that its parts have other moments than the whole.
    fn image(shape: (usize, usize, usize, usize)) -> Tensor {
        let row = shape.1 * shape.2 * shape.3;
        let value = |i: usize| (i as f32 * 0.11).sin() + 2.0 * (i % row) as f32 / row as f32 - 0.5;
        let values = (0..shape.0 * row).map(value).collect::<Vec<_>>();
        Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
    }

    /// Either half in bands against the whole, split wherever it can be, on images that bands
    /// divide and do not.
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
            way: Way::InBands(split, bands(&shapes(steps), rows)),
            bytes: 0,
        };
        let (steps, larger) = vae.decoder.steps();
        for (shape, rows) in [((2, 16, 10, 3), 7), ((1, 16, 16, 2), 8)] {
            let latents = placed(image(shape));
            let made = whole(&steps, &latents).unwrap();
            for &split in &larger {
                let plan = plan(split, &steps[split..], rows);
                let parts = plan.decode(&steps, &latents).unwrap();
                hold(parts, &made, &format!("{shape:?}, {plan:?}"));
            }
        }
        let (steps, smaller) = vae.encoder.as_ref().unwrap().steps();
        let pixels = placed(image((2, 3, 112, 16)));
        let made = whole(&steps, &pixels).unwrap();
        for &split in &smaller {
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
        // Each part may be convolved in another order of sums.
        bands_agree(&device, DType::BF16, 2e-2);
    }

    #[test]
    fn less_memory_takes_smaller_parts() {
        let vae = vae(&Device::Cpu, DType::F32);
        let (steps, larger) = vae.decoder.steps();
        let latents = image((3, 16, 512, 1));
        let batch = Batch::of(&latents).unwrap();
        let plans = Plan::of_a_decode(&shapes(&steps), &larger, batch);
        assert_eq!(plans[0].way, Way::Whole);
        assert_eq!(plans[1].way, Way::OneByOne);
        let bytes: Vec<u64> = plans.iter().map(|plan| plan.bytes).collect();
        assert!(bytes[0] > bytes[1] && bytes[1] > bytes[2], "{bytes:?}");
        let least = bytes.iter().min().unwrap();
        assert!(least * 3 < bytes[1], "{bytes:?}");
        assert!(matches!(plans[2].way, Way::InBands(split, bands)
            if split == larger[0] && bands.rows == ROWS[0]));
    }

    #[test]
    fn too_little_memory_falls_back_to_smaller_parts() {
        let plan = |bytes| Plan {
            way: Way::Whole,
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
