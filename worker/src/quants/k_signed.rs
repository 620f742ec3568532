//! Encodes the types whose groups have a scale alone: `Q3_K` and `Q6_K`.

use super::k_decode::{six_bits, LEN};
use super::k_mins::put_pairs;
use super::search::{nearest, nearest_within, signed_scale, signed_scale_by_turns, LEAST};
use super::simple::{extreme, put_half};

/// Rounds the values of a group with the stored scale to numbers counted from `-most`, unless
/// the scale is 0.
fn round_again(values: &[f32], scale: f32, most: i32, numbers: &mut [u8]) {
    if scale == 0.0 {
        return;
    }
    for (number, &x) in numbers.iter_mut().zip(values) {
        *number = (nearest_within(x / scale, -most, most - 1) + most) as u8;
    }
}

pub(super) fn encode_q3_k(values: &[f32; LEN], block: &mut [u8; 110]) {
    const MOST: i32 = 4;
    let groups = values.as_chunks::<16>().0;
    let mut numbers = [0u8; LEN];
    let mut scales = [0.0f32; 16];
    for (j, (group, numbers)) in groups.iter().zip(numbers.chunks_mut(16)).enumerate() {
        let (scale, found) = signed_scale_by_turns(group, MOST);
        scales[j] = scale;
        numbers.copy_from_slice(&found);
    }
    let max = extreme(&scales);
    block[96..108].fill(0);
    let mut scale = 0.0;
    if max != 0.0 {
        let inverse = -32.0 / max;
        let packed = &mut block[96..108];
        for (j, &scale) in scales.iter().enumerate() {
            let bits = (nearest_within(inverse * scale, -32, 31) + 32) as u8;
            packed[j % 8] |= (bits & 15) << (j / 8 * 4);
            packed[8 + j % 4] |= bits >> 4 << (2 * (j / 4));
        }
        scale = 1.0 / inverse;
    }
    let scale = put_half(block, 108, scale);
    let scales = six_bits(&block[96..108]);
    for (j, (group, numbers)) in groups.iter().zip(numbers.chunks_mut(16)).enumerate() {
        round_again(group, scale * f32::from(scales[j]), MOST, numbers);
    }
    block[..32].fill(0);
    for (i, number) in numbers.iter_mut().enumerate() {
        block[i % 32] |= (*number >> 2) << (i / 32);
        *number &= 3;
    }
    put_pairs(&numbers, &mut block[32..96]);
}

pub(super) fn encode_q6_k(values: &[f32; LEN], block: &mut [u8; 210]) {
    const MOST: i32 = 32;
    let groups = values.as_chunks::<16>().0;
    let mut numbers = [0u8; LEN];
    let mut scales = [0.0f32; 16];
    for (j, (group, numbers)) in groups.iter().zip(numbers.chunks_mut(16)).enumerate() {
        let (scale, found) = signed_scale(group, MOST);
        scales[j] = scale;
        numbers.copy_from_slice(&found);
    }
    let max = extreme(&scales);
    if max.abs() < LEAST {
        block.fill(0);
        return;
    }
    let inverse = -128.0 / max;
    let scale = put_half(block, 208, 1.0 / inverse);
    for (j, (group, numbers)) in groups.iter().zip(numbers.chunks_mut(16)).enumerate() {
        let bits = nearest(inverse * scales[j]).min(127) as i8;
        block[192 + j] = bits as u8;
        round_again(group, scale * f32::from(bits), MOST, numbers);
    }
    for half in 0..2 {
        for l in 0..32 {
            let q = [0, 1, 2, 3].map(|row| numbers[128 * half + 32 * row + l]);
            block[64 * half + l] = q[0] & 15 | (q[2] & 15) << 4;
            block[64 * half + 32 + l] = q[1] & 15 | (q[3] & 15) << 4;
            block[128 + 32 * half + l] =
                q[0] >> 4 | q[1] >> 4 << 2 | q[2] >> 4 << 4 | q[3] >> 4 << 6;
        }
    }
}
