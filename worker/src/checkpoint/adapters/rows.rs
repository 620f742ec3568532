//! Rows of the differences that adapters add to a weight, in float64.

use rayon::prelude::*;

use super::delta::{Delta, Product, Side};
use crate::checkpoint::error::WeightsError;

/// A matrix of float32 values, row by row.
pub(super) struct Matrix {
    pub values: Vec<f32>,
    pub columns: usize,
}

impl Matrix {
    pub fn row(&self, row: usize) -> &[f32] {
        &self.values[row * self.columns..][..self.columns]
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.values.len() / self.columns.max(1)
    }
}

/// A product's two factors, with the core multiplied into the left one.
pub(super) struct Factors {
    /// `[out, rank]`.
    pub up: Matrix,
    /// `[rank, in]`.
    pub down: Matrix,
}

impl Factors {
    /// Reads a product.
    pub fn of(product: &Product) -> Result<Self, WeightsError> {
        let mut up = Matrix {
            values: product.up.to_f32()?,
            columns: product.up.columns(),
        };
        let down = Matrix {
            values: product.down.to_f32()?,
            columns: product.down.columns(),
        };
        if let Some(mid) = &product.mid {
            let mid = Matrix {
                values: mid.to_f32()?,
                columns: mid.columns(),
            };
            up = Self { up, down: mid }.multiply();
        }
        Ok(Self { up, down })
    }

    /// Adds a row of the product to `sums`.
    fn add_row(&self, row: usize, sums: &mut [f64]) {
        for (factor, down) in self.up.row(row).iter().zip(0..) {
            let factor = f64::from(*factor);
            for (sum, value) in sums.iter_mut().zip(self.down.row(down)) {
                *sum += factor * f64::from(*value);
            }
        }
    }

    /// The product as a matrix.
    pub fn multiply(&self) -> Matrix {
        let columns = self.down.columns;
        let mut values = vec![0f32; self.up.rows() * columns];
        let rows = values.par_chunks_mut(columns.max(1)).enumerate();
        rows.for_each_init(
            || vec![0f64; columns],
            |sums, (row, values)| {
                sums.fill(0.0);
                self.add_row(row, sums);
                for (value, sum) in values.iter_mut().zip(sums.iter()) {
                    *value = *sum as f32;
                }
            },
        );
        Matrix { values, columns }
    }
}

/// A difference that is added to a weight, ready to give its rows.
pub(super) enum Rows {
    LowRank(Factors, f64),
    Kron(Matrix, Matrix, f64),
    Hadamard(Factors, Factors, f64),
    Full(Matrix),
}

impl Rows {
    /// Reads a difference; `None` for a rotation, which is none.
    pub fn of(delta: &Delta) -> Result<Option<Self>, WeightsError> {
        Ok(Some(match delta {
            Delta::LowRank { product, scale } => {
                Self::LowRank(Factors::of(product)?, f64::from(*scale))
            }
            Delta::Kron { left, right, scale } => {
                Self::Kron(whole(left)?, whole(right)?, f64::from(*scale))
            }
            Delta::Hadamard { left, right, scale } => {
                let (left, right) = (Factors::of(left)?, Factors::of(right)?);
                Self::Hadamard(left, right, f64::from(*scale))
            }
            Delta::Full(factor) => Self::Full(Matrix {
                values: factor.to_f32()?,
                columns: factor.columns(),
            }),
            Delta::Vector { values, scale } => {
                let mut values = values.to_f32()?;
                values.iter_mut().for_each(|value| *value *= scale);
                Self::Full(Matrix { values, columns: 1 })
            }
            Delta::Orthogonal(_) => return Ok(None),
        }))
    }

    /// Writes a row of the difference. `spare` is overwritten and has the same length.
    pub fn write(&self, row: usize, sums: &mut [f64], spare: &mut [f64]) {
        sums.fill(0.0);
        match self {
            Self::LowRank(factors, scale) => {
                factors.add_row(row, sums);
                sums.iter_mut().for_each(|sum| *sum *= scale);
            }
            Self::Kron(left, right, scale) => {
                let left_row = left.row(row / right.rows().max(1));
                let right_row = right.row(row % right.rows().max(1));
                let parts = sums.chunks_exact_mut(right.columns.max(1));
                for (part, factor) in parts.zip(left_row) {
                    let factor = f64::from(*factor) * scale;
                    for (sum, value) in part.iter_mut().zip(right_row) {
                        *sum = factor * f64::from(*value);
                    }
                }
            }
            Self::Hadamard(left, right, scale) => {
                spare.fill(0.0);
                left.add_row(row, sums);
                right.add_row(row, spare);
                for (sum, factor) in sums.iter_mut().zip(spare) {
                    *sum *= *factor * scale;
                }
            }
            Self::Full(matrix) => {
                for (sum, value) in sums.iter_mut().zip(matrix.row(row)) {
                    *sum = f64::from(*value);
                }
            }
        }
    }
}

/// A side of a Kronecker product as a matrix.
pub(super) fn whole(side: &Side) -> Result<Matrix, WeightsError> {
    match side {
        Side::Whole(factor) => Ok(Matrix {
            values: factor.to_f32()?,
            columns: factor.columns(),
        }),
        Side::Product(product) => Ok(Factors::of(product)?.multiply()),
    }
}
