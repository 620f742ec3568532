//! Changes as products of two thin matrices, which a layer applies to its input without changing
//! its weight.

use std::ops::Range;

use super::delta::{Change, Delta, Side};
use super::error::AdapterError;
use super::rows::{whole, Factors, Matrix};
use crate::checkpoint::error::WeightsError;

/// A change at strength 1 as `up down`: the module's result grows by `up (down x)`.
#[derive(Clone, Debug, PartialEq)]
pub struct LowRank {
    /// Rows of the model's tensor that it changes, ascending and without gaps.
    pub rows: Range<usize>,
    /// Number of rows of `down` and of columns of `up`.
    pub rank: usize,
    /// `[rank, in]`.
    pub down: Vec<f32>,
    /// `[out, rank]`, in the order of the model's rows, with the scale multiplied in.
    pub up: Vec<f32>,
}

impl Change {
    /// The change as a product of at most this rank, if it is exactly one.
    ///
    /// LoRA is one of its own rank. LoKr is `(a (x) c) (b (x) d)` of the rank r t where its factors
    /// are `a b` and `c d` of the ranks r and t; a factor that is stored whole is itself times the
    /// identity. LoHa is one of the product of its ranks: element (i, j) of `(a b) . (c d)` is the
    /// sum of `a_ip c_iq b_pj d_qj`. Rotations and full differences are none. A magnitude does not
    /// count here: [`row_factors`](Self::row_factors) says what it adds.
    ///
    /// # Errors
    /// A factor cannot be read.
    pub fn low_rank(&self, max_rank: usize) -> Result<Option<LowRank>, AdapterError> {
        let Some(rank) = self.exact_rank().filter(|rank| *rank <= max_rank) else {
            return Ok(None);
        };
        let (up, down, scale) = match &self.delta {
            Delta::LowRank { product, scale } => {
                let Factors { up, down } = Factors::of(product)?;
                (up, down, scale)
            }
            Delta::Kron { left, right, scale } => {
                let (left, right) = (factors(left)?, factors(right)?);
                let up = kron(&left.up, &right.up);
                (up, kron(&left.down, &right.down), scale)
            }
            Delta::Hadamard { left, right, scale } => {
                let (left, right) = (Factors::of(left)?, Factors::of(right)?);
                let up = by_row(&left.up, &right.up);
                (up, by_column(&left.down, &right.down), scale)
            }
            Delta::Full(_) | Delta::Vector { .. } | Delta::Orthogonal(_) => return Ok(None),
        };
        let mut up = up;
        up.values.iter_mut().for_each(|value| *value *= scale);
        Ok(self.in_model_order(&up).map(|(rows, up)| LowRank {
            rows,
            rank,
            down: down.values,
            up,
        }))
    }

    /// The highest rank at which a change is better applied beside a weight than merged into it:
    /// its two thin products take at most half of the time and memory of the module's own.
    pub fn max_thin_rank(&self) -> usize {
        match self.place.shape[..] {
            [rows, columns] => (rows * columns / (2 * (rows + columns)).max(1)).max(1),
            _ => 0,
        }
    }

    /// Number of values of the two thin matrices that a layer applies this change with; `None` if
    /// it is none of at most [`max_thin_rank`](Self::max_thin_rank), or has a magnitude of columns.
    pub fn thin_values(&self) -> Option<u64> {
        let by_columns = self.magnitude.as_ref().is_some_and(|m| !m.of_rows);
        let rank = self
            .exact_rank()
            .filter(|rank| *rank <= self.max_thin_rank());
        let [rows, columns] = self.place.shape[..] else {
            return None;
        };
        (!by_columns).then_some(rank? as u64 * (rows + columns) as u64)
    }

    /// The rank of the exact product, if there is one.
    fn exact_rank(&self) -> Option<usize> {
        match &self.delta {
            Delta::LowRank { product, .. } => Some(product.rank()),
            Delta::Kron { left, right, .. } => {
                let rank = |side: &Side| side.rank().unwrap_or(side.columns());
                rank(left).checked_mul(rank(right))
            }
            Delta::Hadamard { left, right, .. } => left.rank().checked_mul(right.rank()),
            Delta::Full(_) | Delta::Vector { .. } | Delta::Orthogonal(_) => None,
        }
    }

    /// The rows of `up` in the order of the model's rows, if those follow each other.
    fn in_model_order(&self, up: &Matrix) -> Option<(Range<usize>, Vec<f32>)> {
        let mut ranges: Vec<(Range<usize>, usize)> = Vec::new();
        let mut first = 0;
        for rows in &self.place.rows {
            ranges.push((rows.clone(), first));
            first += rows.len();
        }
        ranges.sort_by_key(|(rows, _)| rows.start);
        let (start, end) = (ranges.first()?.0.start, ranges.last()?.0.end);
        let has_gap = ranges
            .windows(2)
            .any(|pair| pair[0].0.end != pair[1].0.start);
        if has_gap {
            return None;
        }
        let mut values = Vec::with_capacity(up.values.len());
        for (rows, first) in ranges {
            let part = first * up.columns..(first + rows.len()) * up.columns;
            values.extend_from_slice(&up.values[part]);
        }
        Some((start..end, values))
    }
}

/// A side of a Kronecker product as a product; a whole matrix is itself times the identity.
fn factors(side: &Side) -> Result<Factors, WeightsError> {
    match side {
        Side::Product(product) => Factors::of(product),
        Side::Whole(_) => {
            let up = whole(side)?;
            let columns = up.columns;
            let mut values = vec![0f32; columns * columns];
            values
                .iter_mut()
                .step_by(columns + 1)
                .for_each(|v| *v = 1.0);
            Ok(Factors {
                up,
                down: Matrix { values, columns },
            })
        }
    }
}

/// The Kronecker product.
fn kron(left: &Matrix, right: &Matrix) -> Matrix {
    let mut values = Vec::with_capacity(left.values.len() * right.values.len());
    for left_row in 0..left.rows() {
        for right_row in 0..right.rows() {
            for factor in left.row(left_row) {
                values.extend(right.row(right_row).iter().map(|value| factor * value));
            }
        }
    }
    let columns = left.columns * right.columns;
    Matrix { values, columns }
}

/// Row by row, the products of all pairs of columns.
fn by_row(left: &Matrix, right: &Matrix) -> Matrix {
    let mut values = Vec::with_capacity(left.values.len() * right.columns);
    for row in 0..left.rows() {
        for factor in left.row(row) {
            values.extend(right.row(row).iter().map(|value| factor * value));
        }
    }
    let columns = left.columns * right.columns;
    Matrix { values, columns }
}

/// Column by column, the products of all pairs of rows.
fn by_column(left: &Matrix, right: &Matrix) -> Matrix {
    let mut values = Vec::with_capacity(left.values.len() * right.rows());
    for left_row in 0..left.rows() {
        for right_row in 0..right.rows() {
            let pairs = left.row(left_row).iter().zip(right.row(right_row));
            values.extend(pairs.map(|(a, b)| a * b));
        }
    }
    let columns = left.columns;
    Matrix { values, columns }
}
