//! The formats that a linear layer's weight can be stored in, one per file.
//!
//! To add a format: implement [`Weight`] in a file of its own, add a variant to
//! [`WeightFormat`](super::WeightFormat), and construct it in [`store`].

mod contract;
mod dense;
mod fp8;
mod packed;
mod store;

pub use contract::{Input, Weight};
pub use packed::PackedRows;
pub use store::{dense, packed, store};
