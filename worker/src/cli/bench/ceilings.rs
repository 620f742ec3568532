//! What a forward is made of, and how fast this machine does that at best.

use std::ops::{Add, Mul};
use std::time::Instant;

use candle_core::{Result, Tensor};
use serde_json::{json, Value};

use crate::checkpoint::MmditConfig;
use crate::nn::{quantize_rows, unmasked_attention, Linear, Placement, QkBounds, WeightFormat};

/// Measured this often; the median counts.
const REPEATS: usize = 9;

/// Floating-point operations of one forward of the transformer, a multiplication and an
/// addition being two.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Work {
    /// Of the matrix products.
    pub gemm: f64,
    /// Of the attention.
    pub attention: f64,
}

impl Work {
    /// Of one forward over so many text and image tokens.
    pub fn of_forward(config: &MmditConfig, tokens: (usize, usize)) -> Self {
        Self::of_blocks(config, tokens, config.depth_double + config.depth_single)
    }

    /// Of one of which the step cache answers all but the first block.
    pub fn of_answered_forward(config: &MmditConfig, tokens: (usize, usize)) -> Self {
        Self::of_blocks(config, tokens, 1)
    }

    /// For scripts.
    pub fn json(&self) -> Value {
        json!({"gemm": self.gemm, "attention": self.attention})
    }

    fn of_blocks(config: &MmditConfig, (text, image): (usize, usize), blocks: usize) -> Self {
        let (hidden, inner) = (config.hidden_size as f64, config.mlp_hidden as f64);
        let blocks = blocks as f64;
        let tokens = (text + image) as f64;
        // q, k, v and the output; up, gate and down: the same in both kinds of block.
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

/// The most operations a second that our own layers reach on this machine.
#[derive(Clone, Copy, Debug)]
pub struct Ceilings {
    /// Of a large square matrix product, in fp8 where the blocks' are.
    pub gemm: f64,
    /// Of attention over the image's tokens, in fp8 where the blocks' is.
    pub attention: f64,
}

impl Ceilings {
    /// Measures both.
    ///
    /// # Errors
    /// The device fails.
    pub fn measure(config: &MmditConfig, tokens: usize, placement: &Placement) -> Result<Self> {
        let side = if placement.device.is_cpu() {
            1024
        } else {
            8192
        };
        // Random values: a GPU runs faster on even ones, which take less power.
        let matrix = |rows: usize, columns: usize| {
            Tensor::randn(0f32, 1f32, (rows, columns), &placement.device)?
                .to_dtype(placement.compute())
        };
        let linear = Linear::in_format(matrix(side, side)?, None, placement.products)?;
        let input = matrix(side, side)?.unsqueeze(0)?;
        let gemm = if placement.products == WeightFormat::Fp8 {
            // What makes the rows is memory's work, and not the product's.
            let rows = quantize_rows(&input)?;
            median_seconds(placement, || linear.forward_rows(&rows).map(drop))?
        } else {
            median_seconds(placement, || linear.forward(&input).map(drop))?
        };
        let shape = (1, tokens, config.num_heads, config.head_dim());
        let q = matrix(tokens, config.hidden_size)?.reshape(shape)?;
        let bounds = usual_bounds(config, placement);
        let attended = median_seconds(placement, || {
            unmasked_attention(&q, &q, &q, bounds).map(drop)
        })?;
        Ok(Self {
            gemm: 2.0 * (side as f64).powi(3) / gemm,
            attention: 4.0 * (tokens * tokens * config.hidden_size) as f64 / attended,
        })
    }

    /// Seconds that this much work takes at best.
    pub fn seconds(&self, work: &Work) -> f64 {
        work.gemm / self.gemm + work.attention / self.attention
    }
}

/// Where attention is in fp8, bounds as of norms that leave heads as long as they should be.
pub fn usual_bounds(config: &MmditConfig, placement: &Placement) -> Option<QkBounds> {
    let bound = (config.head_dim() as f32).sqrt();
    (placement.products == WeightFormat::Fp8).then_some(QkBounds {
        query: bound,
        key: bound,
    })
}

fn median_seconds(placement: &Placement, mut run: impl FnMut() -> Result<()>) -> Result<f64> {
    let mut seconds = Vec::with_capacity(REPEATS);
    for _ in 0..=REPEATS {
        let begun = Instant::now();
        run()?;
        placement.device.synchronize()?;
        seconds.push(begun.elapsed().as_secs_f64());
    }
    // The first chose its kernels.
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
