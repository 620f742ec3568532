//! Decodes the types of 256 values, `Q2_K` to `Q6_K`.
//!
//! A block has a scale in half precision for all its values and, in `Q2_K`, `Q4_K` and
//! `Q5_K`, one for all minima; a scale of a few bits for each group of 16 or 32 values; and
//! the values. Each half of 128 values shares bytes: value `i` lies beside the values
//! `i + 32`, `i + 64` and `i + 96` of its half.

use super::simple::half_at;

/// Values in a block.
pub(super) const LEN: usize = 256;

/// Scale and minimum of each group of 32 in `Q4_K` and `Q5_K`, of 6 bits each in 12 bytes.
pub(super) fn six_bit_pairs(packed: &[u8]) -> [(u8, u8); 8] {
    std::array::from_fn(|j| match j {
        0..4 => (packed[j] & 63, packed[j + 4] & 63),
        _ => (
            (packed[j + 4] & 15) | packed[j - 4] >> 6 << 4,
            packed[j + 4] >> 4 | packed[j] >> 6 << 4,
        ),
    })
}

/// Scale of each group of 16 in `Q3_K`, of 6 bits each in 12 bytes.
pub(super) fn six_bits(packed: &[u8]) -> [i8; 16] {
    std::array::from_fn(|j| {
        let low = if j < 8 {
            packed[j] & 15
        } else {
            packed[j - 8] >> 4
        };
        let high = packed[8 + j % 4] >> (2 * (j / 4)) & 3;
        (low | high << 4) as i8 - 32
    })
}

pub(super) fn decode_q2_k(block: &[u8; 84], out: &mut [f32; LEN]) {
    let (scales, qs) = (&block[..16], &block[16..80]);
    let (d, d_min) = (half_at(block, 80), half_at(block, 82));
    for (group, values) in out.as_chunks_mut::<16>().0.iter_mut().enumerate() {
        let scale = d * f32::from(scales[group] & 15);
        let min = d_min * f32::from(scales[group] >> 4);
        let (start, shift) = quarter(group);
        for (value, q) in values.iter_mut().zip(&qs[start..]) {
            *value = scale * f32::from(q >> shift & 3) - min;
        }
    }
}

/// First byte and bit of a group of 16 among 2-bit values.
fn quarter(group: usize) -> (usize, usize) {
    (group / 8 * 32 + group % 2 * 16, group % 8 / 2 * 2)
}

pub(super) fn decode_q3_k(block: &[u8; 110], out: &mut [f32; LEN]) {
    let (high, qs, scales) = (&block[..32], &block[32..96], six_bits(&block[96..108]));
    let d = half_at(block, 108);
    for (group, values) in out.as_chunks_mut::<16>().0.iter_mut().enumerate() {
        let scale = d * f32::from(scales[group]);
        let (start, shift) = quarter(group);
        let (at, bit) = (group % 2 * 16, group / 2);
        for (i, value) in values.iter_mut().enumerate() {
            let low = (qs[start + i] >> shift & 3) as i8;
            let offset = if high[at + i] >> bit & 1 == 1 { 0 } else { 4 };
            *value = scale * f32::from(low - offset);
        }
    }
}

pub(super) fn decode_q4_k(block: &[u8; 144], out: &mut [f32; LEN]) {
    let (d, d_min) = (half_at(block, 0), half_at(block, 2));
    let (pairs, qs) = (six_bit_pairs(&block[4..16]), &block[16..]);
    for (group, values) in out.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        let (scale, min) = (
            d * f32::from(pairs[group].0),
            d_min * f32::from(pairs[group].1),
        );
        let shift = group % 2 * 4;
        for (value, q) in values.iter_mut().zip(&qs[group / 2 * 32..]) {
            *value = scale * f32::from(q >> shift & 15) - min;
        }
    }
}

pub(super) fn decode_q5_k(block: &[u8; 176], out: &mut [f32; LEN]) {
    let (d, d_min) = (half_at(block, 0), half_at(block, 2));
    let (pairs, high, qs) = (six_bit_pairs(&block[4..16]), &block[16..48], &block[48..]);
    for (group, values) in out.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        let (scale, min) = (
            d * f32::from(pairs[group].0),
            d_min * f32::from(pairs[group].1),
        );
        let shift = group % 2 * 4;
        let low = &qs[group / 2 * 32..];
        for ((value, q), high) in values.iter_mut().zip(low).zip(high) {
            let q = (q >> shift & 15) | (high >> group & 1) << 4;
            *value = scale * f32::from(q) - min;
        }
    }
}

pub(super) fn decode_q6_k(block: &[u8; 210], out: &mut [f32; LEN]) {
    let (low, high, scales) = (&block[..128], &block[128..192], &block[192..208]);
    let d = half_at(block, 208);
    for (group, values) in out.as_chunks_mut::<16>().0.iter_mut().enumerate() {
        let scale = d * f32::from(scales[group] as i8);
        let (half, within) = (group / 8, group % 8);
        // Four rows of 32 values in a half; two of them share their low bits' bytes.
        let (row, start) = (within / 2, within % 2 * 16);
        let low = &low[half * 64 + row % 2 * 32 + start..];
        let high = &high[half * 32 + start..];
        let (low_shift, high_shift) = (row / 2 * 4, row * 2);
        for ((value, low), high) in values.iter_mut().zip(low).zip(high) {
            let q = (low >> low_shift & 15) | (high >> high_shift & 3) << 4;
            *value = scale * f32::from(q as i8 - 32);
        }
    }
}
