//! Rotations of rows and columns by OFT and BOFT.
//!
//! Sources: LyCORIS 4.1 `functional/diag_oft.py` (`get_r`, `diff_weight`), `functional/boft.py`
//! (`diff_weight`) and `modules/diag_oft.py` (the constraint is multiplied by the number of rows);
//! peft 0.21 `tuners/oft/layer.py` (`OFTRotationModule`).
//!
//! At other strengths than 1, LyCORIS interpolates OFT's rotation and each stage of BOFT towards
//! the identity. The factors of `rescale` are interpolated towards 1 here, so that strength 0
//! changes nothing; LyCORIS leaves them as they are.

use rayon::prelude::*;

use super::delta::Rotation;
use crate::checkpoint::error::WeightsError;

/// Added to norms before a division, as in LyCORIS's `get_r`.
const NORM_EPS: f64 = 1e-8;

/// Rotates a weight of `columns` columns.
pub(super) fn rotate(
    rotation: &Rotation,
    weight: &mut [f32],
    columns: usize,
    strength: f64,
) -> Result<(), WeightsError> {
    match rotation {
        Rotation::Rows {
            blocks,
            size,
            stages,
            constraint,
            rescale,
        } => {
            let mut skew = skew_of_blocks(&blocks.to_f32()?, *size);
            constrain(&mut skew, *constraint);
            let rotations = by_block(&skew, *size, |skew| cayley(skew, *size));
            match stages {
                None => rotate_blocks(weight, columns, *size, &rotations, strength),
                Some(stages) => {
                    let stage_length = rotations.len() / stages;
                    let mut stages = rotations.chunks_exact(stage_length).zip(0..);
                    stages.try_for_each(|(rotations, stage)| {
                        butterfly(weight, columns, *size, rotations, stage, strength);
                        Ok::<_, WeightsError>(())
                    })?;
                }
            }
            if let Some(rescale) = rescale {
                let factors = rescale.to_f32()?;
                for (row, factor) in weight.chunks_exact_mut(columns).zip(factors) {
                    let factor = 1.0 + strength * (f64::from(factor) - 1.0);
                    row.iter_mut()
                        .for_each(|value| *value = (f64::from(*value) * factor) as f32);
                }
            }
        }
        Rotation::Columns {
            triangles,
            size,
            terms,
            constraint,
        } => {
            let mut skew = skew_of_triangles(&triangles.to_f32()?, *size);
            if let Some(limit) = constraint {
                let limit = limit / (triangles.rows() as f64).sqrt();
                for block in skew.chunks_exact_mut(size * size) {
                    let norm = frobenius(block);
                    if norm > limit {
                        block.iter_mut().for_each(|value| *value *= limit / norm);
                    }
                }
            }
            let rotations = by_block(&skew, *size, |skew| match terms {
                Some(terms) => neumann(skew, *size, *terms),
                None => {
                    // peft's transform is (I - Q) (I + Q)^-1.
                    let negated: Vec<f64> = skew.iter().map(|value| -value).collect();
                    cayley(&negated, *size)
                }
            });
            rotate_columns(weight, columns, *size, &rotations, strength);
        }
    }
    Ok(())
}

/// `B - B^T` of each block.
fn skew_of_blocks(blocks: &[f32], size: usize) -> Vec<f64> {
    let mut skew = Vec::with_capacity(blocks.len());
    for block in blocks.chunks_exact(size * size) {
        for row in 0..size {
            skew.extend((0..size).map(|column| {
                f64::from(block[row * size + column]) - f64::from(block[column * size + row])
            }));
        }
    }
    skew
}

/// Skew-symmetric blocks from their upper triangles.
fn skew_of_triangles(triangles: &[f32], size: usize) -> Vec<f64> {
    let length = size * (size - 1) / 2;
    let count = triangles.len() / length.max(1);
    let mut skew = vec![0.0; count * size * size];
    let blocks = skew.chunks_exact_mut(size * size);
    for (block, triangle) in blocks.zip(triangles.chunks_exact(length.max(1))) {
        let mut values = triangle.iter();
        for row in 0..size {
            for column in row + 1..size {
                let value = values.next().map_or(0.0, |value| f64::from(*value));
                block[row * size + column] = value;
                block[column * size + row] = -value;
            }
        }
    }
    skew
}

fn frobenius(values: &[f64]) -> f64 {
    values.iter().map(|value| value * value).sum::<f64>().sqrt()
}

/// Bounds the norm of all blocks together, as LyCORIS does.
fn constrain(skew: &mut [f64], constraint: f64) {
    if constraint <= 0.0 {
        return;
    }
    let norm = frobenius(skew) + NORM_EPS;
    if norm > constraint {
        skew.iter_mut()
            .for_each(|value| *value *= constraint / norm);
    }
}

fn by_block(
    skew: &[f64],
    size: usize,
    transform: impl Fn(&[f64]) -> Vec<f64> + Sync + Send,
) -> Vec<f64> {
    let blocks = skew.par_chunks_exact(size * size);
    let rotations: Vec<_> = blocks.map(transform).collect();
    rotations.concat()
}

/// The Cayley transform `(I + Q) (I - Q)^-1` of a skew-symmetric matrix. `I - Q` has an inverse
/// for every such Q, and the two factors commute, so that the equation `(I - Q) R = I + Q` is
/// solved, by Gaussian elimination with partial pivoting.
fn cayley(skew: &[f64], size: usize) -> Vec<f64> {
    let identity = |row: usize, column: usize| f64::from(u8::from(row == column));
    let width = 2 * size;
    let mut system = vec![0.0; size * width];
    for row in 0..size {
        for column in 0..size {
            let value = skew[row * size + column];
            system[row * width + column] = identity(row, column) - value;
            system[row * width + size + column] = identity(row, column) + value;
        }
    }
    for step in 0..size {
        let magnitude = |row: &usize| system[row * width + step].abs();
        let pivot = (step..size).max_by(|a, b| magnitude(a).total_cmp(&magnitude(b)));
        let pivot = pivot.unwrap_or(step);
        if pivot != step {
            for column in step..width {
                system.swap(pivot * width + column, step * width + column);
            }
        }
        let divisor = system[step * width + step];
        for column in step..width {
            system[step * width + column] /= divisor;
        }
        let reduced = system[step * width..][..width].to_vec();
        for (row, values) in system.chunks_exact_mut(width).enumerate() {
            let factor = values[step];
            if row != step && factor != 0.0 {
                for column in step..width {
                    values[column] -= factor * reduced[column];
                }
            }
        }
    }
    let rows = system.chunks_exact(width);
    rows.flat_map(|row| row[size..].to_vec()).collect()
}

/// The first terms of the series `I + 2Q + 2Q^2 + ...` for the Cayley transform, as peft sums
/// them: the last term has the factor 1, and three terms are summed as four.
fn neumann(skew: &[f64], size: usize, terms: usize) -> Vec<f64> {
    let mut sum = vec![0.0; size * size];
    (0..size).for_each(|i| sum[i * size + i] = 1.0);
    let mut add = |power: &[f64], factor: f64| {
        for (sum, value) in sum.iter_mut().zip(power) {
            *sum += factor * value;
        }
    };
    if terms > 1 {
        add(skew, 2.0);
    }
    if terms > 2 {
        let mut power = multiply(skew, skew, size);
        add(&power, 2.0);
        for _ in 3..terms - 1 {
            power = multiply(&power, skew, size);
            add(&power, 2.0);
        }
        power = multiply(&power, skew, size);
        add(&power, 1.0);
    }
    sum
}

fn multiply(left: &[f64], right: &[f64], size: usize) -> Vec<f64> {
    let mut product = vec![0.0; size * size];
    for (row, left) in product.chunks_exact_mut(size).zip(left.chunks_exact(size)) {
        for (factor, right) in left.iter().zip(right.chunks_exact(size)) {
            for (sum, value) in row.iter_mut().zip(right) {
                *sum += factor * value;
            }
        }
    }
    product
}

/// `I + strength (R - I)` at a place of the matrix.
fn interpolated(rotation: &[f64], size: usize, row: usize, column: usize, strength: f64) -> f64 {
    let identity = f64::from(u8::from(row == column));
    identity + strength * (rotation[row * size + column] - identity)
}

/// OFT: each block of rows is multiplied by the transpose of its rotation.
fn rotate_blocks(
    weight: &mut [f32],
    columns: usize,
    size: usize,
    rotations: &[f64],
    strength: f64,
) {
    let blocks = weight.par_chunks_exact_mut(size * columns);
    let rotations = rotations.par_chunks_exact(size * size);
    blocks.zip(rotations).for_each(|(block, rotation)| {
        let before = block.to_vec();
        let mut sums = vec![0f64; columns];
        for (out, row) in block.chunks_exact_mut(columns).enumerate() {
            sums.fill(0.0);
            for (from, old) in before.chunks_exact(columns).enumerate() {
                let factor = interpolated(rotation, size, from, out, strength);
                add(&mut sums, factor, old);
            }
            write(row, &sums);
        }
    });
}

/// One stage of BOFT. Rows are visited in pairs that lie `2^stage size / 2` apart, `size` of them
/// are a block, and each block is multiplied by its rotation.
fn butterfly(
    weight: &mut [f32],
    columns: usize,
    size: usize,
    rotations: &[f64],
    stage: usize,
    strength: f64,
) {
    let apart = (size / 2) << stage;
    let before = weight.to_vec();
    let row_at = |position: usize| {
        let (group, within) = (position / (2 * apart), position % (2 * apart));
        group * 2 * apart + within % 2 * apart + within / 2
    };
    let position_of = |row: usize| {
        let (group, within) = (row / (2 * apart), row % (2 * apart));
        group * 2 * apart + within % apart * 2 + within / apart
    };
    let rows = weight.par_chunks_exact_mut(columns).enumerate();
    rows.for_each_init(
        || vec![0f64; columns],
        |sums, (row, values)| {
            let position = position_of(row);
            let (block, out) = (position / size, position % size);
            let rotation = &rotations[block * size * size..][..size * size];
            sums.fill(0.0);
            for from in 0..size {
                let factor = interpolated(rotation, size, out, from, strength);
                let old = &before[row_at(block * size + from) * columns..][..columns];
                add(sums, factor, old);
            }
            write(values, sums);
        },
    );
}

/// peft's OFT: each block of columns is multiplied by the transpose of its rotation.
fn rotate_columns(
    weight: &mut [f32],
    columns: usize,
    size: usize,
    rotations: &[f64],
    strength: f64,
) {
    let shares = rotations.len() == size * size;
    weight.par_chunks_exact_mut(columns).for_each(|row| {
        let mut sums = vec![0f64; size];
        for (number, block) in row.chunks_exact_mut(size).enumerate() {
            let number = if shares { 0 } else { number };
            let rotation = &rotations[number * size * size..][..size * size];
            for (out, sum) in sums.iter_mut().enumerate() {
                let products = block.iter().enumerate().map(|(from, value)| {
                    f64::from(*value) * interpolated(rotation, size, out, from, strength)
                });
                *sum = products.sum();
            }
            write(block, &sums);
        }
    });
}

fn add(sums: &mut [f64], factor: f64, row: &[f32]) {
    for (sum, value) in sums.iter_mut().zip(row) {
        *sum += factor * f64::from(*value);
    }
}

fn write(row: &mut [f32], sums: &[f64]) {
    for (value, sum) in row.iter_mut().zip(sums) {
        *value = *sum as f32;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A skew-symmetric matrix.
    fn skew(size: usize) -> Vec<f64> {
        let value = |row: usize, column: usize| ((row * 7 + column * 3) % 5) as f64 * 0.1;
        let pairs = (0..size).flat_map(|row| (0..size).map(move |column| (row, column)));
        pairs.map(|(r, c)| value(r, c) - value(c, r)).collect()
    }

    #[test]
    fn cayley_gives_rotations() {
        for size in [1, 2, 5, 8] {
            let rotation = cayley(&skew(size), size);
            let transposed: Vec<f64> = (0..size * size)
                .map(|i| rotation[i % size * size + i / size])
                .collect();
            let product = multiply(&rotation, &transposed, size);
            for (i, value) in product.iter().enumerate() {
                let wanted = f64::from(u8::from(i / size == i % size));
                assert!((value - wanted).abs() < 1e-12, "{size}: {value}");
            }
        }
    }

    #[test]
    fn the_series_approaches_the_transform() {
        let small: Vec<f64> = skew(4).iter().map(|value| value * 0.05).collect();
        let exact = cayley(&small, 4);
        let difference = |terms| {
            let series = neumann(&small, 4, terms);
            let pairs = series.iter().zip(&exact);
            pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
        };
        assert!(difference(9) < 1e-10);
        assert!(difference(5) < difference(4) && difference(4) < difference(2));
        assert_eq!(neumann(&small, 4, 3), neumann(&small, 4, 4));
    }
}
