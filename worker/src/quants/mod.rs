//! ggml's block types: values in blocks of 32 or 256 that share scales.
//!
//! - `block_type`: the types, their block lengths and bytes
//! - `rows`: decoding and encoding of many blocks, in parallel
//! - `simple`: the types of 32 values, `Q4_0` to `Q8_0`
//! - `k_decode`, `k_mins`, `k_signed`: the types of 256 values with groups, `Q2_K` to `Q6_K`
//! - `search`: how the encoders of groups find their scales
//! - `iq4`: the types on a non-linear scale, `IQ4_NL` and `IQ4_XS`
//! - `plain`, `e4m3`: floats without blocks
//! - `bytes`, `rotation`: numbers of one byte with scales beside them, and rotated groups of them
//!
//! Decoded values are those of the `gguf` package bit for bit. Encoders are ports of ggml's
//! reference encoders with the same operations in the same order, and give the same bytes as
//! those do where the C compiler does not contract multiplications and additions.
//!
//! Source: ggml `ggml-quants.c` (`quantize_row_*_ref`, `dequantize_row_*`); gguf-py
//! `gguf/quants.py`.

mod block_type;
mod bytes;
pub mod e4m3;
mod iq4;
mod k_decode;
mod k_mins;
mod k_signed;
pub mod plain;
pub mod rotation;
mod rows;
mod search;
mod simple;

pub use block_type::BlockType;
pub use bytes::{decode_bytes, ByteType, Scales};
pub use rows::{decode, encode, Decoded};
