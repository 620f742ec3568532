//! Decodes and encodes whole rows of blocks, on all cores.

use half::bf16;
use rayon::prelude::*;

use super::block_type::BlockType;
use super::{iq4, k_decode, k_mins, k_signed, simple};

/// Values that a task decodes or encodes at a time: a multiple of every block's length.
const TASK: usize = 1 << 14;

/// A number that values are decoded to.
pub trait Decoded: Copy + Default + Send + Sync {
    /// Converts a decoded value.
    fn of(value: f32) -> Self;
}

impl Decoded for f32 {
    fn of(value: f32) -> Self {
        value
    }
}

impl Decoded for bf16 {
    /// Rounds to nearest, ties to even.
    fn of(value: f32) -> Self {
        Self::from_f32(value)
    }
}

/// The values of whole blocks. Bytes after the last whole block are ignored.
pub fn decode<T: Decoded>(kind: BlockType, bytes: &[u8]) -> Vec<T> {
    let blocks = bytes.len() / kind.bytes();
    let task = TASK / kind.values();
    let mut values = vec![T::default(); blocks * kind.values()];
    let tasks = bytes[..blocks * kind.bytes()].par_chunks(task * kind.bytes());
    values.par_chunks_mut(TASK).zip(tasks).for_each_init(
        || vec![0.0; TASK],
        |buffer, (values, bytes)| {
            let buffer = &mut buffer[..values.len()];
            decode_blocks(kind, bytes, buffer);
            for (value, decoded) in values.iter_mut().zip(buffer) {
                *value = T::of(*decoded);
            }
        },
    );
    values
}

/// Blocks of values. Values after the last whole block are ignored.
pub fn encode(kind: BlockType, values: &[f32]) -> Vec<u8> {
    let blocks = values.len() / kind.values();
    let task = TASK / kind.values() * kind.bytes();
    let mut bytes = vec![0; blocks * kind.bytes()];
    bytes
        .par_chunks_mut(task)
        .zip(values[..blocks * kind.values()].par_chunks(TASK))
        .for_each(|(bytes, values)| encode_blocks(kind, values, bytes));
    bytes
}

fn decode_blocks(kind: BlockType, bytes: &[u8], values: &mut [f32]) {
    fn each<const B: usize, const N: usize>(
        bytes: &[u8],
        values: &mut [f32],
        block: impl Fn(&[u8; B], &mut [f32; N]),
    ) {
        let blocks = bytes.as_chunks().0.iter();
        for (bytes, values) in blocks.zip(values.as_chunks_mut().0) {
            block(bytes, values);
        }
    }
    match kind {
        BlockType::Q8_0 => each(bytes, values, simple::decode_q8_0),
        BlockType::Q6K => each(bytes, values, k_decode::decode_q6_k),
        BlockType::Q5K => each(bytes, values, k_decode::decode_q5_k),
        BlockType::Q5_1 => each(bytes, values, simple::decode_q5_1),
        BlockType::Q5_0 => each(bytes, values, simple::decode_q5_0),
        BlockType::Q4K => each(bytes, values, k_decode::decode_q4_k),
        BlockType::Q4_1 => each(bytes, values, simple::decode_q4_1),
        BlockType::Q4_0 => each(bytes, values, simple::decode_q4_0),
        BlockType::Q3K => each(bytes, values, k_decode::decode_q3_k),
        BlockType::Q2K => each(bytes, values, k_decode::decode_q2_k),
        BlockType::Iq4Nl => each(bytes, values, iq4::decode_iq4_nl),
        BlockType::Iq4Xs => each(bytes, values, iq4::decode_iq4_xs),
    }
}

fn encode_blocks(kind: BlockType, values: &[f32], bytes: &mut [u8]) {
    fn each<const N: usize, const B: usize>(
        values: &[f32],
        bytes: &mut [u8],
        block: impl Fn(&[f32; N], &mut [u8; B]),
    ) {
        let blocks = values.as_chunks().0.iter();
        for (values, bytes) in blocks.zip(bytes.as_chunks_mut().0) {
            block(values, bytes);
        }
    }
    match kind {
        BlockType::Q8_0 => each(values, bytes, simple::encode_q8_0),
        BlockType::Q6K => each(values, bytes, k_signed::encode_q6_k),
        BlockType::Q5K => each(values, bytes, k_mins::encode_q5_k),
        BlockType::Q5_1 => each(values, bytes, simple::encode_q5_1),
        BlockType::Q5_0 => each(values, bytes, simple::encode_q5_0),
        BlockType::Q4K => each(values, bytes, k_mins::encode_q4_k),
        BlockType::Q4_1 => each(values, bytes, simple::encode_q4_1),
        BlockType::Q4_0 => each(values, bytes, simple::encode_q4_0),
        BlockType::Q3K => each(values, bytes, k_signed::encode_q3_k),
        BlockType::Q2K => each(values, bytes, k_mins::encode_q2_k),
        BlockType::Iq4Nl => each(values, bytes, iq4::encode_iq4_nl),
        BlockType::Iq4Xs => each(values, bytes, iq4::encode_iq4_xs),
    }
}

#[cfg(test)]
mod tests;
