//! Types of 32 values with one scale, and a minimum in those that end in `_1`.
//!
//! A block begins with its scale in half precision, then the minimum if there is one, then
//! the fifth bits of `Q5_*`, then the values: bytes in `Q8_0`, else pairs of 4 bits, of which
//! the lower ones are the first 16 values.

use half::f16;

/// Values in a block.
const LEN: usize = 32;
/// Half of them: value `i` shares a byte with value `i + HALF`.
const HALF: usize = LEN / 2;

/// The half-precision number at byte `at`.
pub(super) fn half_at(block: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([block[at], block[at + 1]]).to_f32()
}

/// Stores a number in half precision at byte `at`, and returns what was stored.
pub(super) fn put_half(block: &mut [u8], at: usize, value: f32) -> f32 {
    let half = f16::from_f32(value);
    block[at..at + 2].copy_from_slice(&half.to_le_bytes());
    half.to_f32()
}

/// Reciprocal, or 0 of 0.
pub(super) fn inverse(value: f32) -> f32 {
    if value == 0.0 {
        0.0
    } else {
        1.0 / value
    }
}

/// The first value of the largest magnitude, with its sign; 0 if all are 0.
pub(super) fn extreme(values: &[f32]) -> f32 {
    let mut extreme = 0.0f32;
    for &value in values {
        if extreme.abs() < value.abs() {
            extreme = value;
        }
    }
    extreme
}

fn range(values: &[f32]) -> (f32, f32) {
    let mut range = (f32::MAX, -f32::MAX);
    for &value in values {
        range.0 = if value < range.0 { value } else { range.0 };
        range.1 = if value > range.1 { value } else { range.1 };
    }
    range
}

pub(super) fn decode_q8_0(block: &[u8; 34], out: &mut [f32; LEN]) {
    let d = half_at(block, 0);
    for (value, &q) in out.iter_mut().zip(&block[2..]) {
        *value = f32::from(q as i8) * d;
    }
}

pub(super) fn decode_q4_0(block: &[u8; 18], out: &mut [f32; LEN]) {
    let d = half_at(block, 0);
    for i in 0..HALF {
        let q = block[2 + i];
        out[i] = d * f32::from((q & 15) as i8 - 8);
        out[i + HALF] = d * f32::from((q >> 4) as i8 - 8);
    }
}

pub(super) fn decode_q4_1(block: &[u8; 20], out: &mut [f32; LEN]) {
    let (d, min) = (half_at(block, 0), half_at(block, 2));
    for i in 0..HALF {
        let q = block[4 + i];
        out[i] = d * f32::from(q & 15) + min;
        out[i + HALF] = d * f32::from(q >> 4) + min;
    }
}

/// The 5-bit values of a block whose fifth bits are at byte `at`, before the others.
fn five_bits(block: &[u8], at: usize) -> [u8; LEN] {
    let high = u32::from_le_bytes([block[at], block[at + 1], block[at + 2], block[at + 3]]);
    std::array::from_fn(|i| {
        let q = block[at + 4 + i % HALF];
        let low = if i < HALF { q & 15 } else { q >> 4 };
        low | ((high >> i & 1) << 4) as u8
    })
}

pub(super) fn decode_q5_0(block: &[u8; 22], out: &mut [f32; LEN]) {
    let d = half_at(block, 0);
    for (value, q) in out.iter_mut().zip(five_bits(block, 2)) {
        *value = d * f32::from(q as i8 - 16);
    }
}

pub(super) fn decode_q5_1(block: &[u8; 24], out: &mut [f32; LEN]) {
    let (d, min) = (half_at(block, 0), half_at(block, 2));
    for (value, q) in out.iter_mut().zip(five_bits(block, 4)) {
        *value = d * f32::from(q) + min;
    }
}

pub(super) fn encode_q8_0(values: &[f32; LEN], block: &mut [u8; 34]) {
    let d = extreme(values).abs() / 127.0;
    let inverse = inverse(d);
    put_half(block, 0, d);
    for (q, &value) in block[2..].iter_mut().zip(values) {
        *q = (value * inverse).round() as i8 as u8;
    }
}

/// Rounds `values` to whole numbers from 0 to `most`, `shift + 0.5` upwards of their product
/// with `inverse`.
fn rounded(values: &[f32; LEN], inverse: f32, shift: f32, most: u8) -> [u8; LEN] {
    values.map(|value| ((value * inverse + (shift + 0.5)) as u8).min(most))
}

/// As [`rounded`], counted from a minimum.
fn rounded_above(values: &[f32; LEN], min: f32, inverse: f32, most: u8) -> [u8; LEN] {
    values.map(|value| (((value - min) * inverse + 0.5) as u8).min(most))
}

/// Stores the lower 4 bits of all values.
fn put_four(q: &[u8; LEN], bytes: &mut [u8]) {
    for i in 0..HALF {
        bytes[i] = (q[i] & 15) | (q[i + HALF] & 15) << 4;
    }
}

/// Stores 5 bits of all values.
fn put_five(q: &[u8; LEN], bytes: &mut [u8]) {
    let bits = q.iter().enumerate();
    let high = bits.fold(0u32, |high, (i, &q)| high | u32::from(q >> 4 & 1) << i);
    bytes[..4].copy_from_slice(&high.to_le_bytes());
    put_four(q, &mut bytes[4..]);
}

pub(super) fn encode_q4_0(values: &[f32; LEN], block: &mut [u8; 18]) {
    let d = extreme(values) / -8.0;
    put_half(block, 0, d);
    put_four(&rounded(values, inverse(d), 8.0, 15), &mut block[2..]);
}

pub(super) fn encode_q5_0(values: &[f32; LEN], block: &mut [u8; 22]) {
    let d = extreme(values) / -16.0;
    put_half(block, 0, d);
    put_five(&rounded(values, inverse(d), 16.0, 31), &mut block[2..]);
}

pub(super) fn encode_q4_1(values: &[f32; LEN], block: &mut [u8; 20]) {
    let (min, max) = range(values);
    let d = (max - min) / 15.0;
    put_half(block, 0, d);
    put_half(block, 2, min);
    put_four(&rounded_above(values, min, inverse(d), 15), &mut block[4..]);
}

pub(super) fn encode_q5_1(values: &[f32; LEN], block: &mut [u8; 24]) {
    let (min, max) = range(values);
    let d = (max - min) / 31.0;
    put_half(block, 0, d);
    put_half(block, 2, min);
    put_five(&rounded_above(values, min, inverse(d), 31), &mut block[4..]);
}
