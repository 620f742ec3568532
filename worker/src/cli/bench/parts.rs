//! What a forward of the transformer spends its time on: each of its operations alone, at
//! the sizes it has there.

use std::time::Instant;

use candle_core::{Result, Tensor};
use serde_json::{json, Value};

use crate::layers::{
    attention, attention_and_swiglu, gated_residual, modulated_layer_norm, qk_norm_rope, swiglu,
    HeadNorms, Linear, Mask, Pairs, Placement, RopeTable,
};
use crate::models::mmdit::MmditConfig;

/// Runs in a row between two looks at the clock, so that starting them costs nothing.
const RUNS: u32 = 20;

/// One kind of operation.
pub struct Part {
    /// Its name and, where it has several, its size.
    pub name: String,
    /// How often a forward does it.
    pub count: usize,
    /// Seconds that it takes once.
    pub seconds: f64,
}

impl Part {
    /// Seconds of a forward.
    pub fn total(&self) -> f64 {
        self.count as f64 * self.seconds
    }

    /// For scripts.
    pub fn json(&self) -> Value {
        json!({"name": self.name, "count": self.count, "seconds": self.seconds})
    }
}

/// Measures the operations of all blocks, in a forward's order.
///
/// # Errors
/// The device fails.
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
    /// Normal values: what a GPU clocks itself down for, which zeros are not.
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
        // The first chooses its kernels.
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

    fn linear(
        &self,
        name: &str,
        count: usize,
        (rows, input, output): (usize, usize, usize),
    ) -> Result<Part> {
        let weight = self.random(&[output, input], (input as f32).powf(-0.5))?;
        let linear = Linear::new(weight, Some(self.random(&[output], 1.0)?));
        let x = self.random(&[1, rows, input], 1.0)?;
        let name = format!("{name}, {rows} x {input} x {output}");
        self.part(name, count, || linear.forward(&x).map(drop))
    }

    /// Norm, and gated residual, of so many tokens.
    fn modulated(&self, count: usize, tokens: usize) -> Result<[Part; 2]> {
        let hidden = self.config.hidden_size;
        let x = self.random(&[1, tokens, hidden], 1.0)?;
        let row = self.random(&[1, hidden], 1.0)?;
        Ok([
            self.part(format!("modulated norm, {tokens} tokens"), count, || {
                modulated_layer_norm(&x, &row, &row, 1e-6).map(drop)
            })?,
            self.part(format!("gated residual, {tokens} tokens"), count, || {
                gated_residual(&x, &row, &x).map(drop)
            })?,
        ])
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

    fn double_stream(&self, text: usize, image: usize) -> Result<Vec<Part>> {
        let (hidden, inner) = (self.config.hidden_size, self.config.mlp_hidden);
        let blocks = self.config.depth_double;
        let mut parts = Vec::new();
        for tokens in [image, text] {
            parts.extend(self.modulated(2 * blocks, tokens)?);
            parts.push(self.linear("q, k, v", blocks, (tokens, hidden, 3 * hidden))?);
            parts.push(self.linear("projection", blocks, (tokens, hidden, hidden))?);
            parts.push(self.linear("up and gate", blocks, (tokens, hidden, 2 * inner))?);
            parts.push(self.linear("down", blocks, (tokens, inner, hidden))?);
            let up_gate = self.random(&[1, tokens, 2 * inner], 1.0)?;
            parts.push(self.part(format!("SwiGLU, {tokens} tokens"), blocks, || {
                swiglu(&up_gate).map(drop)
            })?);
        }
        let (norms, rope) = (self.head_norms()?, self.rope(text + image)?);
        let text_qkv = self.random(&[1, text, 3 * hidden], 1.0)?;
        let image_qkv = self.random(&[1, image, 3 * hidden], 1.0)?;
        let streams = [(&text_qkv, &norms), (&image_qkv, &norms)];
        let turn = || {
            qk_norm_rope(
                &streams,
                self.config.heads(),
                Pairs::Neighbours,
                &rope,
                1e-6,
            )
        };
        parts.push(self.part("head norms and RoPE, two streams", blocks, || {
            turn().map(drop)
        })?);
        let (q, k, v) = turn()?;
        parts.push(self.part("attention", blocks, || {
            attention(&q, &k, &v, Mask::None).map(drop)
        })?);
        Ok(parts)
    }

    fn single_stream(&self, tokens: usize) -> Result<Vec<Part>> {
        let (hidden, inner) = (self.config.hidden_size, self.config.mlp_hidden);
        let blocks = self.config.depth_single;
        let columns = 3 * hidden + 2 * inner;
        let mut parts: Vec<Part> = self.modulated(blocks, tokens)?.into();
        parts.push(self.linear("linear 1", blocks, (tokens, hidden, columns))?);
        parts.push(self.linear("linear 2", blocks, (tokens, hidden + inner, hidden))?);
        let (norms, rope) = (self.head_norms()?, self.rope(tokens)?);
        let projected = self.random(&[1, tokens, columns], 1.0)?;
        let streams = [(&projected, &norms)];
        let turn = || {
            qk_norm_rope(
                &streams,
                self.config.heads(),
                Pairs::Neighbours,
                &rope,
                1e-6,
            )
        };
        parts.push(self.part("head norms and RoPE, one stream", blocks, || {
            turn().map(drop)
        })?);
        let (q, k, v) = turn()?;
        let up_gate = projected.narrow(2, 3 * hidden, 2 * inner)?;
        parts.push(self.part("attention and SwiGLU", blocks, || {
            attention_and_swiglu(&q, &k, &v, &up_gate).map(drop)
        })?);
        Ok(parts)
    }
}
