//! The time of each operation of the transformer's forward pass, measured separately at its real
//! size.

use std::time::Instant;

use candle_core::{Result, Tensor};
use serde_json::{json, Value};

use super::ceilings::typical_bounds;
use crate::checkpoint::MmditConfig;
use crate::models::mmdit::heads;
use crate::nn::{
    gated_linear, project_heads, project_jointly, project_swiglu, unmasked_attention, HeadNorms,
    HeadProjection, Linear, Normed, Placement, QkBounds, RopeTable,
};

/// Number of runs that are timed together, so that launch overhead does not count.
const RUNS: u32 = 20;

const EPS: f64 = 1e-6;

/// One operation.
pub struct Part {
    /// Its name, with its size where there are several.
    pub name: String,
    /// How often a forward pass runs it.
    pub count: usize,
    /// Seconds of one run.
    pub seconds: f64,
}

impl Part {
    /// Seconds in one forward pass.
    pub fn total(&self) -> f64 {
        self.count as f64 * self.seconds
    }

    /// The figures as JSON.
    pub fn json(&self) -> Value {
        json!({"name": self.name, "count": self.count, "seconds": self.seconds})
    }
}

/// Measures the operations of both kinds of block, in the order of a forward pass, over
/// `(text, image)` tokens.
///
/// # Errors
/// The device fails or runs out of memory.
pub fn measure(
    config: &MmditConfig,
    (text, image): (usize, usize),
    placement: &Placement,
) -> Result<Vec<Part>> {
    let bench = Bench { config, placement };
    let mut parts = bench.double_stream(text, image)?;
    parts.extend(bench.single_stream(text + image)?);
    Ok(parts)
}

struct Bench<'a> {
    config: &'a MmditConfig,
    placement: &'a Placement,
}

impl Bench<'_> {
    /// Normally distributed values, because a GPU draws less power on zeros and clocks higher.
    fn random(&self, shape: &[usize], deviation: f32) -> Result<Tensor> {
        Tensor::randn(0f32, deviation, shape, &self.placement.device)?
            .to_dtype(self.placement.compute())
    }

    fn part(
        &self,
        name: impl Into<String>,
        count: usize,
        mut run: impl FnMut() -> Result<()>,
    ) -> Result<Part> {
        let device = &self.placement.device;
        // The first run includes choosing kernels.
        run()?;
        device.synchronize()?;
        let begun = Instant::now();
        for _ in 0..RUNS {
            run()?;
        }
        device.synchronize()?;
        Ok(Part {
            name: name.into(),
            count,
            seconds: begun.elapsed().as_secs_f64() / f64::from(RUNS),
        })
    }

    /// A linear layer with random weights, in the precision of the transformer's.
    fn linear(&self, input: usize, output: usize) -> Result<Linear> {
        let weight = self.random(&[output, input], (input as f32).powf(-0.5))?;
        let bias = self.random(&[output], 1.0)?;
        Linear::in_format(weight, Some(bias), self.placement.products)
    }

    fn head_norms(&self) -> Result<HeadNorms> {
        let weight = self.random(&[self.config.head_dim()], 1.0)?;
        Ok(HeadNorms {
            query: weight.clone(),
            key: weight,
        })
    }

    fn rope(&self, tokens: usize) -> Result<RopeTable> {
        let positions: Vec<[f64; 3]> = (0..tokens).map(|i| [0.0, i as f64, i as f64]).collect();
        let (axes, theta) = (&self.config.axes_dim, self.config.theta);
        RopeTable::new(&positions, axes, theta, &self.placement.device)
    }

    /// A linear layer and the gated residual that its result is added to.
    fn gated(&self, name: &str, count: usize, (tokens, input): (usize, usize)) -> Result<Part> {
        let hidden = self.config.hidden_size;
        let linear = self.linear(input, hidden)?;
        let x = self.random(&[1, tokens, hidden], 1.0)?;
        let y = self.random(&[1, tokens, input], 1.0)?;
        let gate = self.random(&[1, hidden], 1.0)?;
        let name = format!("{name} and gated residual, {tokens} x {input} x {hidden}");
        self.part(name, count, || {
            gated_linear(&x, &gate, &linear, &y).map(drop)
        })
    }

    fn attention(&self, count: usize, tokens: usize) -> Result<Part> {
        let (heads, head_dim) = (self.config.num_heads, self.config.head_dim());
        let [q, k, v] = [(); 3].map(|()| self.random(&[1, tokens, heads, head_dim], 1.0));
        let (q, k, v) = (q?, k?, v?);
        let bounds = self.bounds();
        self.part(format!("attention, {tokens} tokens"), count, || {
            unmasked_attention(&q, &k, &v, bounds).map(drop)
        })
    }

    fn bounds(&self) -> Option<QkBounds> {
        typical_bounds(self.config, self.placement)
    }

    fn double_stream(&self, text: usize, image: usize) -> Result<Vec<Part>> {
        let (hidden, inner) = (self.config.hidden_size, self.config.mlp_hidden);
        let blocks = self.config.depth_double;
        let row = self.random(&[1, hidden], 1.0)?;
        let (norms, rope) = (self.head_norms()?, self.rope(text + image)?);
        let qkv = self.linear(hidden, 3 * hidden)?;
        let x = |tokens| self.random(&[1, tokens, hidden], 1.0);
        let streams = [x(text)?, x(image)?];
        let projections = streams.each_ref().map(|x| HeadProjection {
            normed: normed(x, &row, &qkv),
            norms: &norms,
            eps: EPS,
        });
        let name = "norm, q, k, v, head norms and RoPE, two streams";
        let mut parts = vec![
            self.part(name, blocks, || {
                project_heads(&projections, heads(self.config), &rope, self.bounds()).map(drop)
            })?,
            self.attention(blocks, text + image)?,
        ];
        let up_gate = self.linear(hidden, 2 * inner)?;
        for x in &streams {
            let tokens = x.dim(1)?;
            parts.push(self.gated("projection", blocks, (tokens, hidden))?);
            let name = format!("norm, up, gate and SwiGLU, {tokens} tokens");
            parts.push(self.part(name, blocks, || {
                project_swiglu(&normed(x, &row, &up_gate)).map(drop)
            })?);
            parts.push(self.gated("down", blocks, (tokens, inner))?);
        }
        Ok(parts)
    }

    fn single_stream(&self, tokens: usize) -> Result<Vec<Part>> {
        let (hidden, inner) = (self.config.hidden_size, self.config.mlp_hidden);
        let blocks = self.config.depth_single;
        let row = self.random(&[1, hidden], 1.0)?;
        let (norms, rope) = (self.head_norms()?, self.rope(tokens)?);
        let linear1 = self.linear(hidden, 3 * hidden + 2 * inner)?;
        let x = self.random(&[1, tokens, hidden], 1.0)?;
        let projection = HeadProjection {
            normed: normed(&x, &row, &linear1),
            norms: &norms,
            eps: EPS,
        };
        let name = "norm, linear 1, head norms, RoPE and SwiGLU";
        Ok(vec![
            self.part(name, blocks, || {
                project_jointly(&projection, heads(self.config), &rope, self.bounds()).map(drop)
            })?,
            self.attention(blocks, tokens)?,
            self.gated("linear 2", blocks, (tokens, hidden + inner))?,
        ])
    }
}

fn normed<'a>(x: &'a Tensor, row: &'a Tensor, linear: &'a Linear) -> Normed<'a> {
    Normed {
        x,
        shift: row,
        scale: row,
        eps: EPS,
        linear,
    }
}
