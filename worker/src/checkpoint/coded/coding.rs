//! What turns a weight's stored numbers into values.

use std::ops::Range;
use std::sync::Arc;

use crate::quants::Scales;

/// What turns a weight's stored numbers into values.
#[derive(Clone, Debug, PartialEq)]
pub struct Coding {
    factors: Factors,
    rotation: Option<usize>,
}

#[derive(Clone, Debug, PartialEq)]
enum Factors {
    Whole(f32),
    Rows(Arc<[f32]>),
}

impl Coding {
    /// The numbers are the values.
    pub const NONE: Self = Self {
        factors: Factors::Whole(1.0),
        rotation: None,
    };

    /// The numbers times these factors, one of all rows or one for each, are the values rotated in
    /// groups of `rotation` columns.
    pub(super) fn new(factors: Vec<f32>, rotation: Option<usize>) -> Self {
        let factors = match factors[..] {
            [whole] => Factors::Whole(whole),
            _ => Factors::Rows(factors.into()),
        };
        Self { factors, rotation }
    }

    /// Whether the numbers are the values.
    pub fn is_none(&self) -> bool {
        *self == Self::NONE
    }

    /// The factors of some rows of the weight.
    pub fn scales(&self, rows: Range<usize>) -> Scales<'_> {
        match &self.factors {
            Factors::Whole(scale) => Scales::Whole(*scale),
            Factors::Rows(scales) => Scales::Rows(&scales[rows]),
        }
    }

    /// Number of columns that were rotated together, as [`rotation`](crate::quants::rotation)
    /// describes it.
    pub fn rotation(&self) -> Option<usize> {
        self.rotation
    }
}
