//! Numbers without blocks: floats of 8 to 64 bits.

use half::{bf16, f16};
use rayon::prelude::*;

use super::e4m3;

/// The float32 value of each `N` bytes.
fn each<const N: usize>(bytes: &[u8], number: impl Fn([u8; N]) -> f32 + Sync) -> Vec<f32> {
    let numbers = bytes.as_chunks().0.par_iter();
    numbers.map(|bytes| number(*bytes)).collect()
}

/// Values of float64 numbers, rounded.
pub fn of_f64(bytes: &[u8]) -> Vec<f32> {
    each(bytes, |bytes| f64::from_le_bytes(bytes) as f32)
}

/// Values of float32 numbers.
pub fn of_f32(bytes: &[u8]) -> Vec<f32> {
    each(bytes, f32::from_le_bytes)
}

/// Values of half-precision numbers.
pub fn of_f16(bytes: &[u8]) -> Vec<f32> {
    each(bytes, |bytes| f16::from_le_bytes(bytes).to_f32())
}

/// Values of bfloat16 numbers.
pub fn of_bf16(bytes: &[u8]) -> Vec<f32> {
    each(bytes, |bytes| bf16::from_le_bytes(bytes).to_f32())
}

/// Bytes of float32 numbers.
pub fn to_f32(values: &[f32]) -> Vec<u8> {
    values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect()
}

/// Bytes of half-precision numbers, rounded to nearest.
pub fn to_f16(values: &[f32]) -> Vec<u8> {
    let halves = values.iter().map(|&value| f16::from_f32(value));
    halves.flat_map(f16::to_le_bytes).collect()
}

/// Bytes of bfloat16 numbers, rounded to nearest.
pub fn to_bf16(values: &[f32]) -> Vec<u8> {
    let halves = values.iter().map(|&value| bf16::from_f32(value));
    halves.flat_map(bf16::to_le_bytes).collect()
}

/// Bytes of E4M3 numbers of `values` divided by `scale`.
pub fn to_f8(values: &[f32], scale: f32) -> Vec<u8> {
    let values = values.par_iter();
    values.map(|value| e4m3::nearest(value / scale)).collect()
}
