//! The new weight of a changed module, computed on the host: float32 values, float64 sums.
//!
//! At strength 1 the result is the trainer's own: peft's `get_delta_weight` and `DoraLinearLayer`
//! (0.21), LyCORIS's `forward` of each module (4.1). A difference D is added as `W + s D`, as all
//! three (peft, LyCORIS, ComfyUI) do.
//!
//! With a magnitude m, the weight at full strength is `V = m (W + D) / |W + D|`, and at strength s
//! it is `W + s (V - W)`, ComfyUI's rule (`comfy/weight_adapter/base.py`, `weight_decompose`): the
//! norm is that of the merged weight at strength 1, the one which m was trained with, and strength
//! 0 changes nothing. peft scales D before the norm, and LyCORIS keeps D at every strength, so
//! theirs differ from this at other strengths than 1. ComfyUI takes the norm of W alone for a
//! magnitude of rows, so its result differs at every strength.

use rayon::prelude::*;

use super::delta::{Change, Delta, Magnitude};
use super::error::AdapterError;
use super::rotate::rotate;
use super::rows::Rows;
use crate::checkpoint::error::WeightsError;

/// Added to norms before a division, as LyCORIS and ComfyUI do.
const NORM_EPS: f64 = f32::EPSILON as f64;

/// Rows that one task adds up before the sums are combined.
const ROWS: usize = 64;

impl Change {
    /// Replaces the module's weight by the changed one. `weight` holds the module's rows in the
    /// module's order, `[out, in]` or `[out]`.
    ///
    /// # Errors
    /// [`AdapterError::Size`] if it has another number of values, or a factor cannot be read.
    pub fn merge(&self, weight: &mut [f32], strength: f64) -> Result<(), AdapterError> {
        if weight.len() != self.place.len() {
            return Err(AdapterError::Size {
                module: self.module.clone(),
                found: weight.len(),
                expected: self.place.len(),
            });
        }
        let columns = match self.place.shape[..] {
            [_, columns] => columns,
            _ => 1,
        };
        match (&self.delta, &self.magnitude) {
            (Delta::Orthogonal(rotation), None) => rotate(rotation, weight, columns, strength)?,
            (Delta::Orthogonal(rotation), Some(magnitude)) => {
                let mut rotated = weight.to_vec();
                rotate(rotation, &mut rotated, columns, 1.0)?;
                let merged = |row: usize, sums: &mut [f64], _: &mut [f64]| {
                    let rotated = &rotated[row * columns..][..columns];
                    for (sum, value) in sums.iter_mut().zip(rotated) {
                        *sum = f64::from(*value);
                    }
                };
                rescaled(weight, columns, strength, magnitude, merged)?;
            }
            (delta, magnitude) => {
                let Some(rows) = Rows::of(delta)? else {
                    return Ok(());
                };
                match magnitude {
                    None => add(weight, columns, strength, &rows),
                    Some(magnitude) => {
                        let old = weight.to_vec();
                        let merged = |row: usize, sums: &mut [f64], spare: &mut [f64]| {
                            rows.write(row, sums, spare);
                            let old = &old[row * columns..][..columns];
                            for (sum, value) in sums.iter_mut().zip(old) {
                                *sum += f64::from(*value);
                            }
                        };
                        rescaled(weight, columns, strength, magnitude, merged)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Changes the module's rows inside the whole tensor of the model that they lie in.
    ///
    /// # Errors
    /// As [`merge`](Self::merge); the tensor's rows must have the module's columns.
    pub fn merge_into(&self, tensor: &mut [f32], strength: f64) -> Result<(), AdapterError> {
        let columns = match self.place.shape[..] {
            [_, columns] => columns,
            _ => 1,
        };
        let ranges = self.place.rows.iter();
        let ranges: Vec<_> = ranges
            .map(|rows| rows.start * columns..rows.end * columns)
            .collect();
        if let Some(outside) = ranges.iter().find(|range| range.end > tensor.len()) {
            return Err(AdapterError::Size {
                module: self.module.clone(),
                found: tensor.len(),
                expected: outside.end,
            });
        }
        if let [range] = &ranges[..] {
            return self.merge(&mut tensor[range.clone()], strength);
        }
        let mut module = Vec::with_capacity(self.place.len());
        for range in &ranges {
            module.extend_from_slice(&tensor[range.clone()]);
        }
        self.merge(&mut module, strength)?;
        let mut rest = &module[..];
        for range in ranges {
            let (part, after) = rest.split_at(range.len());
            tensor[range].copy_from_slice(part);
            rest = after;
        }
        Ok(())
    }
}

impl Change {
    /// DoRA's factor of each row, in the module's order: the magnitude over the norm of the merged
    /// weight at strength 1, for a weight as [`merge`](Self::merge) takes it. `None` for a change
    /// without a magnitude of rows.
    ///
    /// With g the factors, d the difference and s the strength, the module's result is
    /// `(1 - s + s g) (W x) + s g (d x)`. So a layer applies DoRA as a difference with scaled rows,
    /// and needs the weight once, to compute g.
    ///
    /// # Errors
    /// As [`merge`](Self::merge).
    pub fn row_factors(&self, weight: &[f32]) -> Result<Option<Vec<f32>>, AdapterError> {
        let (Some(magnitude), [_, columns]) = (&self.magnitude, &self.place.shape[..]) else {
            return Ok(None);
        };
        if !magnitude.of_rows {
            return Ok(None);
        }
        let mut merged = weight.to_vec();
        let without = Self {
            magnitude: None,
            ..self.clone()
        };
        without.merge(&mut merged, 1.0)?;
        let rows = merged.par_chunks_exact(*columns);
        let factors = magnitude.values.to_f32()?.into_par_iter().zip(rows);
        let factors = factors.map(|(magnitude, row)| {
            let squares = row.iter().map(|value| f64::from(*value).powi(2));
            (f64::from(magnitude) / (squares.sum::<f64>().sqrt() + NORM_EPS)) as f32
        });
        Ok(Some(factors.collect()))
    }
}

/// `W + s D`.
fn add(weight: &mut [f32], columns: usize, strength: f64, rows: &Rows) {
    weight
        .par_chunks_exact_mut(columns)
        .enumerate()
        .for_each_init(
            || (vec![0f64; columns], vec![0f64; columns]),
            |(sums, spare), (row, values)| {
                rows.write(row, sums, spare);
                for (value, sum) in values.iter_mut().zip(sums.iter()) {
                    *value = (f64::from(*value) + strength * sum) as f32;
                }
            },
        );
}

/// `W + s (m M / |M| - W)`, where `merged` writes a row of M.
fn rescaled(
    weight: &mut [f32],
    columns: usize,
    strength: f64,
    magnitude: &Magnitude,
    merged: impl Fn(usize, &mut [f64], &mut [f64]) + Sync,
) -> Result<(), WeightsError> {
    let magnitudes = magnitude.values.to_f32()?;
    let row_count = weight.len() / columns;
    let factors = match magnitude.of_rows {
        true => None,
        false => {
            let squares = column_squares(row_count, columns, &merged);
            let pairs = magnitudes.iter().zip(squares);
            Some(
                pairs
                    .map(|(m, square)| f64::from(*m) / (square.sqrt() + NORM_EPS))
                    .collect::<Vec<_>>(),
            )
        }
    };
    weight
        .par_chunks_exact_mut(columns)
        .enumerate()
        .for_each_init(
            || (vec![0f64; columns], vec![0f64; columns]),
            |(sums, spare), (row, values)| {
                merged(row, sums, spare);
                match &factors {
                    Some(factors) => {
                        for (sum, factor) in sums.iter_mut().zip(factors) {
                            *sum *= factor;
                        }
                    }
                    None => {
                        let norm = sums.iter().map(|sum| sum * sum).sum::<f64>().sqrt();
                        let factor = f64::from(magnitudes[row]) / (norm + NORM_EPS);
                        sums.iter_mut().for_each(|sum| *sum *= factor);
                    }
                }
                for (value, sum) in values.iter_mut().zip(sums.iter()) {
                    let old = f64::from(*value);
                    *value = (old + strength * (sum - old)) as f32;
                }
            },
        );
    Ok(())
}

/// The sum of the squares of each column.
fn column_squares(
    row_count: usize,
    columns: usize,
    merged: &(impl Fn(usize, &mut [f64], &mut [f64]) + Sync),
) -> Vec<f64> {
    let starts: Vec<_> = (0..row_count).step_by(ROWS).collect();
    let partial = starts.par_iter().map(|start| {
        let mut squares = vec![0f64; columns];
        let (mut sums, mut spare) = (vec![0f64; columns], vec![0f64; columns]);
        for row in *start..(start + ROWS).min(row_count) {
            merged(row, &mut sums, &mut spare);
            for (square, sum) in squares.iter_mut().zip(&sums) {
                *square += sum * sum;
            }
        }
        squares
    });
    let combine = |mut left: Vec<f64>, right: Vec<f64>| {
        left.iter_mut().zip(right).for_each(|(a, b)| *a += b);
        left
    };
    partial.reduce(|| vec![0f64; columns], combine)
}
