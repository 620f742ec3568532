//! The types of 4 bits on a non-linear scale: `IQ4_NL` with a scale for 32 values, and
//! `IQ4_XS` with a scale for 256 and 6 bits more for each group of 32.

use super::search::{nearest_within, LEAST};
use super::simple::{extreme, half_at, inverse, put_half};

/// The scale: the value of each number (`kvalues_iq4nl`).
const LEVELS: [i8; 16] = [
    -127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113,
];

/// Values in a group, and in a block of `IQ4_NL`.
const GROUP: usize = 32;

fn decode_group(scale: f32, bytes: &[u8], values: &mut [f32]) {
    for (i, &q) in bytes[..GROUP / 2].iter().enumerate() {
        values[i] = scale * f32::from(LEVELS[usize::from(q & 15)]);
        values[i + GROUP / 2] = scale * f32::from(LEVELS[usize::from(q >> 4)]);
    }
}

pub(super) fn decode_iq4_nl(block: &[u8; 18], out: &mut [f32; GROUP]) {
    decode_group(half_at(block, 0), &block[2..], out);
}

pub(super) fn decode_iq4_xs(block: &[u8; 136], out: &mut [f32; 256]) {
    let d = half_at(block, 0);
    let high = u16::from_le_bytes([block[2], block[3]]);
    for (group, values) in out.chunks_mut(GROUP).enumerate() {
        let low = block[4 + group / 2] >> (group % 2 * 4) & 15;
        let bits = low | ((high >> (2 * group) & 3) as u8) << 4;
        let scale = d * f32::from(bits as i8 - 32);
        decode_group(scale, &block[8 + group * GROUP / 2..], values);
    }
}

/// The number of the level nearest to a value, the higher one of two.
fn nearest_level(value: f32) -> u8 {
    let twice = value + value;
    let mut level = 0;
    for step in [8, 4, 2, 1] {
        let next = level + step;
        let middle = i16::from(LEVELS[next - 1]) + i16::from(LEVELS[next]);
        if twice >= f32::from(middle) {
            level = next;
        }
    }
    level as u8
}

/// Scale of a group: the best of 16, by errors weighted with the squares of the values.
fn scale_of(values: &[f32]) -> f32 {
    const TRIES: i32 = 7;
    let max = extreme(values);
    if max.abs() < LEAST {
        return 0.0;
    }
    let sums = |inverse: f32| {
        let (mut product, mut square) = (0.0f32, 0.0f32);
        for &x in values {
            let q = f32::from(LEVELS[usize::from(nearest_level(inverse * x))]);
            let weight = x * x;
            product += weight * q * x;
            square += weight * q * q;
        }
        (product, square)
    };
    let lowest = f32::from(LEVELS[0]);
    let (product, square) = sums(1.0 / (-max / lowest));
    let mut scale = if square > 0.0 { product / square } else { 0.0 };
    let mut best = scale * product;
    for step in -TRIES..=TRIES {
        let (product, square) = sums((step as f32 + lowest) / max);
        if square > 0.0 && product * product > best * square {
            scale = product / square;
            best = scale * product;
        }
    }
    scale
}

fn encode_group(inverse: f32, values: &[f32], bytes: &mut [u8]) {
    for i in 0..GROUP / 2 {
        let (low, high) = (inverse * values[i], inverse * values[i + GROUP / 2]);
        bytes[i] = nearest_level(low) | nearest_level(high) << 4;
    }
}

pub(super) fn encode_iq4_nl(values: &[f32; GROUP], block: &mut [u8; 18]) {
    let scale = scale_of(values);
    put_half(block, 0, scale);
    encode_group(inverse(scale), values, &mut block[2..]);
}

pub(super) fn encode_iq4_xs(values: &[f32; 256], block: &mut [u8; 136]) {
    let groups = values.as_chunks::<GROUP>().0;
    let mut scales = [0.0f32; 8];
    for (scale, group) in scales.iter_mut().zip(groups) {
        *scale = scale_of(group);
    }
    let d = -extreme(&scales) / 32.0;
    put_half(block, 0, d);
    let mut high = 0u16;
    block[4..8].fill(0);
    for (j, group) in groups.iter().enumerate() {
        let bits = nearest_within(inverse(d) * scales[j], -32, 31);
        let bytes = &mut block[8 + j * GROUP / 2..][..GROUP / 2];
        encode_group(inverse(d * bits as f32), group, bytes);
        let bits = (bits + 32) as u8;
        block[4 + j / 2] |= (bits & 15) << (j % 2 * 4);
        high |= u16::from(bits >> 4) << (2 * j);
    }
    block[2..4].copy_from_slice(&high.to_le_bytes());
}
