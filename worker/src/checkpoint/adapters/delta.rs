//! The kinds of changes, typed.

use super::factor::Factor;
use super::places::Place;

/// A change of one tensor of the model, or of some of its rows.
#[derive(Clone, Debug)]
pub struct Change {
    /// The module's name in the adapter's file.
    pub module: String,
    /// The rows of the model that it changes.
    pub place: Place,
    /// How it changes them.
    pub delta: Delta,
    /// DoRA's magnitude, which replaces the norm of each changed row or column.
    pub magnitude: Option<Magnitude>,
}

/// How the rows of a module change.
#[derive(Clone, Debug)]
pub enum Delta {
    /// LoRA (Hu et al. 2021): `scale * product`.
    LowRank {
        /// `[out, in]` as a product.
        product: Product,
        /// Alpha over rank, or 1.
        scale: f32,
    },
    /// LoKr (Yeh et al. 2023): `scale * left (x) right`, the Kronecker product.
    Kron {
        /// The coarse factor.
        left: Side,
        /// The fine factor.
        right: Side,
        /// Alpha over rank, or 1.
        scale: f32,
    },
    /// LoHa (Hyeon-Woo et al. 2021): `scale * left . right`, element by element.
    Hadamard {
        /// `[out, in]` as a product.
        left: Product,
        /// `[out, in]` as a product.
        right: Product,
        /// Alpha over rank, or 1.
        scale: f32,
    },
    /// The difference itself, `[out, in]`.
    Full(Factor),
    /// The difference of a bias or a norm's weight, `[1, out]`.
    Vector {
        /// The values.
        values: Factor,
        /// Factor of all values.
        scale: f32,
    },
    /// OFT and BOFT: a rotation of the rows or columns.
    Orthogonal(Rotation),
}

/// A product `up mid down` of shape `[out, in]`.
#[derive(Clone, Debug)]
pub struct Product {
    /// `[out, rank]`.
    pub up: Factor,
    /// `[rank, rank]`; the identity if it is absent.
    pub mid: Option<Factor>,
    /// `[rank, in]`.
    pub down: Factor,
}

impl Product {
    /// Number of columns of `up`.
    pub fn rank(&self) -> usize {
        self.up.columns()
    }
}

/// A factor of a Kronecker product.
#[derive(Clone, Debug)]
pub enum Side {
    /// The matrix itself.
    Whole(Factor),
    /// A product.
    Product(Product),
}

impl Side {
    /// Number of rows.
    pub fn rows(&self) -> usize {
        match self {
            Self::Whole(factor) => factor.rows(),
            Self::Product(product) => product.up.rows(),
        }
    }

    /// Number of columns.
    pub fn columns(&self) -> usize {
        match self {
            Self::Whole(factor) => factor.columns(),
            Self::Product(product) => product.down.columns(),
        }
    }

    /// The rank of a product.
    pub fn rank(&self) -> Option<usize> {
        match self {
            Self::Whole(_) => None,
            Self::Product(product) => Some(product.rank()),
        }
    }
}

/// The magnitude of weight-decomposed adaptation (DoRA, Liu et al. 2024).
#[derive(Clone, Debug)]
pub struct Magnitude {
    /// `[1, out]` or `[1, in]`.
    pub values: Factor,
    /// Whether there is one of each row; else of each column.
    pub of_rows: bool,
}

/// A rotation in blocks.
#[derive(Clone, Debug)]
pub enum Rotation {
    /// LyCORIS's OFT (Qiu et al. 2023) and BOFT (Liu et al. 2023), which rotate rows.
    Rows {
        /// Skew-symmetric after `blocks - blocks^T`: `stages * blocks` matrices of
        /// `[size, size]`, one under another.
        blocks: Factor,
        /// Number of rows and columns of a block.
        size: usize,
        /// Stages of the butterfly; `None` in OFT, which has one stage and no permutation.
        stages: Option<usize>,
        /// Largest Frobenius norm of all skew-symmetric blocks together; 0 is none.
        constraint: f64,
        /// Factor of each row after the rotation, `[1, out]`.
        rescale: Option<Factor>,
    },
    /// peft's OFT, which rotates columns.
    Columns {
        /// The upper triangle of each block without its diagonal, row by row:
        /// `[blocks, size (size - 1) / 2]`. One block stands for all.
        triangles: Factor,
        /// Number of rows and columns of a block.
        size: usize,
        /// Terms of the Neumann series for the Cayley transform; `None` is the transform itself.
        terms: Option<usize>,
        /// Largest Frobenius norm of a block (COFT), before it is divided by the square root of
        /// the number of blocks.
        constraint: Option<f64>,
    },
}
