//! The floating-point operations of a forward pass, and the throughput at which this machine
//! could do them.

use std::ops::{Add, Mul};
use std::time::Instant;

use candle_core::{Result, Tensor};
use serde_json::{json, Value};

use crate::checkpoint::MmditConfig;
use crate::nn::{quantize_rows, unmasked_attention, Linear, Placement, QkBounds, WeightFormat};

/// Number of measurements; the median is used.
const REPEATS: usize = 9;

/// Floating-point operations of the transformer. A multiply-add counts as two.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Work {
    /// Operations of matrix products.
    pub gemm: f64,
    /// Operations of attention.
    pub attention: f64,
}

impl Work {
    /// The operations of one forward pass over `(text, image)` tokens.
    pub fn of_forward(config: &MmditConfig, tokens: (usize, usize)) -> Self {
        Self::of_blocks(config, tokens, config.depth_double + config.depth_single)
    }

    /// The operations of a forward pass that runs only the first block and takes the rest from
    /// the step cache.
    pub fn of_answered_forward(config: &MmditConfig, tokens: (usize, usize)) -> Self {
        Self::of_blocks(config, tokens, 1)
    }

    /// The operations as JSON.
    pub fn json(&self) -> Value {
        json!({"gemm": self.gemm, "attention": self.attention})
    }

    fn of_blocks(config: &MmditConfig, (text, image): (usize, usize), blocks: usize) -> Self {
        let (hidden, inner) = (config.hidden_size as f64, config.mlp_hidden as f64);
        let blocks = blocks as f64;
        let tokens = (text + image) as f64;
        // Weights of q, k, v and output, then up, gate and down. Double-stream and single-stream
        // blocks have the same sizes.
        let block = 4.0 * hidden * hidden + 3.0 * hidden * inner;
        let ends = 2.0 * image as f64 * config.in_channels as f64 * hidden;
        Self {
            gemm: 2.0 * (tokens * blocks * block + ends),
            attention: 4.0 * tokens * tokens * hidden * blocks,
        }
    }
}

impl Add for Work {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            gemm: self.gemm + other.gemm,
            attention: self.attention + other.attention,
        }
    }
}

impl Mul<Work> for f64 {
    type Output = Work;

    fn mul(self, work: Work) -> Work {
        Work {
            gemm: self * work.gemm,
            attention: self * work.attention,
        }
    }
}

/// Peak throughput of this program's own layers on this machine, in operations per second.
#[derive(Clone, Copy, Debug)]
pub struct Ceilings {
    /// A large square matrix product, in fp8 if the transformer's are.
    pub gemm: f64,
    /// Attention over all tokens of the image, in fp8 if the transformer's is.
    pub attention: f64,
}

impl Ceilings {
    /// Measures both for attention over `tokens` tokens.
    ///
    /// # Errors
    /// The device fails or runs out of memory.
    pub fn measure(config: &MmditConfig, tokens: usize, placement: &Placement) -> Result<Self> {
        let side = if placement.device.is_cpu() {
            1024
        } else {
            8192
        };
        // Random values, because a GPU draws less power on constant ones and clocks higher.
        let matrix = |rows: usize, columns: usize| {
            Tensor::randn(0f32, 1f32, (rows, columns), &placement.device)?
                .to_dtype(placement.compute())
        };
        let linear = Linear::in_format(matrix(side, side)?, None, placement.products)?;
        let input = matrix(side, side)?.unsqueeze(0)?;
        let gemm = if placement.products == WeightFormat::Fp8 {
            // Quantizing the input is bound by memory bandwidth and not part of the product.
            let rows = quantize_rows(&input)?;
            median_seconds(placement, || linear.forward_rows(&rows).map(drop))?
        } else {
            median_seconds(placement, || linear.forward(&input).map(drop))?
        };
        let shape = (1, tokens, config.num_heads, config.head_dim());
        let q = matrix(tokens, config.hidden_size)?.reshape(shape)?;
        let bounds = typical_bounds(config, placement);
        let attended = median_seconds(placement, || {
            unmasked_attention(&q, &q, &q, bounds).map(drop)
        })?;
        Ok(Self {
            gemm: 2.0 * (side as f64).powi(3) / gemm,
            attention: 4.0 * (tokens * tokens * config.hidden_size) as f64 / attended,
        })
    }

    /// Seconds that `work` takes at peak throughput.
    pub fn seconds(&self, work: &Work) -> f64 {
        work.gemm / self.gemm + work.attention / self.attention
    }
}

/// Bounds of q and k for attention in fp8, as if the norms' weights were 1; `None` without fp8.
pub fn typical_bounds(config: &MmditConfig, placement: &Placement) -> Option<QkBounds> {
    let bound = (config.head_dim() as f32).sqrt();
    (placement.products == WeightFormat::Fp8).then_some(QkBounds {
        query: bound,
        key: bound,
    })
}

/// Median seconds of `run`, until the device has finished it.
fn median_seconds(placement: &Placement, mut run: impl FnMut() -> Result<()>) -> Result<f64> {
    let mut seconds = Vec::with_capacity(REPEATS);
    for _ in 0..=REPEATS {
        let begun = Instant::now();
        run()?;
        placement.device.synchronize()?;
        seconds.push(begun.elapsed().as_secs_f64());
    }
    // The first run includes choosing kernels.
    seconds.remove(0);
    seconds.sort_by(f64::total_cmp);
    Ok(seconds[REPEATS / 2])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::Geometry;

    #[test]
    fn a_forward_of_the_7b_model_at_1024_pixels() {
        let config = Geometry::ovis_image_7b().transformer;
        let work = Work::of_forward(&config, (256, 4096));
        assert!((work.gemm / 43.4e12 - 1.0).abs() < 0.01, "{work:?}");
        assert!((work.attention / 7.7e12 - 1.0).abs() < 0.01, "{work:?}");
        let answered = Work::of_answered_forward(&config, (256, 4096));
        assert!((answered.gemm / work.gemm * 33.0 - 1.0).abs() < 0.01);
        assert_eq!(answered.attention * 33.0, work.attention);
    }
}
