//! Encodes the types whose groups have a scale and a minimum: `Q2_K`, `Q4_K` and `Q5_K`.
//!
//! The scales and minima of a block are then rounded to a few bits, and all values are rounded
//! again with the rounded ones.

use super::k_decode::{six_bit_pairs, LEN};
use super::search::{nearest, nearest_within, scale_and_min, Search};
use super::simple::put_half;

/// Rounds the values of a group with the stored scale and minimum, unless the scale is 0.
fn round_again(values: &[f32], scale: f32, min: f32, most: i32, numbers: &mut [u8]) {
    if scale == 0.0 {
        return;
    }
    for (number, &x) in numbers.iter_mut().zip(values) {
        *number = nearest_within((x + min) / scale, 0, most) as u8;
    }
}

/// The largest value above 0, or 0.
fn largest(values: &[f32]) -> f32 {
    let larger = |most: f32, &value: &f32| if value > most { value } else { most };
    values.iter().fold(0.0, larger)
}

pub(super) fn encode_q2_k(values: &[f32; LEN], block: &mut [u8; 84]) {
    const SEARCH: Search = Search {
        most: 3,
        first: -0.5,
        steps: 15,
        absolute: true,
    };
    let groups = values.as_chunks::<16>().0;
    let mut numbers = [0u8; LEN];
    let (mut scales, mut mins) = ([0.0f32; 16], [0.0f32; 16]);
    for (j, (group, numbers)) in groups.iter().zip(numbers.chunks_mut(16)).enumerate() {
        let weights = group.map(f32::abs);
        (scales[j], mins[j]) = scale_and_min(group, &weights, &SEARCH, numbers);
    }
    let four_bits = |values: &[f32; 16]| {
        let most = largest(values);
        let inverse = if most > 0.0 { 15.0 / most } else { 0.0 };
        (
            most / 15.0,
            values.map(|value| nearest(inverse * value) as u8),
        )
    };
    let (scale, scales) = four_bits(&scales);
    let (min, mins) = four_bits(&mins);
    let (scale, min) = (put_half(block, 80, scale), put_half(block, 82, min));
    for (j, (group, numbers)) in groups.iter().zip(numbers.chunks_mut(16)).enumerate() {
        let packed = scales[j] | mins[j] << 4;
        block[j] = packed;
        let (scale, min) = (scale * f32::from(packed & 15), min * f32::from(packed >> 4));
        round_again(group, scale, min, SEARCH.most, numbers);
    }
    put_pairs(&numbers, &mut block[16..80]);
}

/// Stores 2 bits of all values.
pub(super) fn put_pairs(numbers: &[u8; LEN], bytes: &mut [u8]) {
    for (i, byte) in bytes.iter_mut().enumerate() {
        let at = i / 32 * 128 + i % 32;
        let bits = [0, 1, 2, 3].map(|row| numbers[at + 32 * row] << (2 * row));
        *byte = bits.into_iter().fold(0, |byte, bits| byte | bits);
    }
}

pub(super) fn encode_q4_k(values: &[f32; LEN], block: &mut [u8; 144]) {
    const SEARCH: Search = Search {
        most: 15,
        first: -1.0,
        steps: 20,
        absolute: false,
    };
    let numbers = groups_of_32(values, &SEARCH, block);
    put_low(&numbers, &mut block[16..]);
}

pub(super) fn encode_q5_k(values: &[f32; LEN], block: &mut [u8; 176]) {
    const SEARCH: Search = Search {
        most: 31,
        first: -0.5,
        steps: 15,
        absolute: false,
    };
    let numbers = groups_of_32(values, &SEARCH, block);
    block[16..48].fill(0);
    for (i, number) in numbers.iter().enumerate() {
        block[16 + i % 32] |= (number >> 4) << (i / 32);
    }
    put_low(&numbers, &mut block[48..]);
}

/// Stores the lower 4 bits of all values.
fn put_low(numbers: &[u8; LEN], bytes: &mut [u8]) {
    for (i, byte) in bytes.iter_mut().enumerate() {
        let at = i / 32 * 64 + i % 32;
        *byte = numbers[at] & 15 | (numbers[at + 32] & 15) << 4;
    }
}

/// Finds and stores scales and minima of 6 bits for the groups of 32, and returns the numbers
/// of all values.
fn groups_of_32(values: &[f32; LEN], search: &Search, block: &mut [u8]) -> [u8; LEN] {
    let groups = values.as_chunks::<32>().0;
    let mut numbers = [0u8; LEN];
    let (mut scales, mut mins) = ([0.0f32; 8], [0.0f32; 8]);
    for (j, (group, numbers)) in groups.iter().zip(numbers.chunks_mut(32)).enumerate() {
        let mut square = 0.0f32;
        for x in group {
            square += x * x;
        }
        let mean = (square / 32.0).sqrt();
        let weights = group.map(|x| mean + x.abs());
        (scales[j], mins[j]) = scale_and_min(group, &weights, search, numbers);
    }
    let (scale, min) = (largest(&scales), largest(&mins));
    let six_bits = |values: &[f32; 8], most: f32| {
        let inverse = if most > 0.0 { 63.0 / most } else { 0.0 };
        values.map(|value| (nearest(inverse * value) as u8).min(63))
    };
    let (scales, mins) = (six_bits(&scales, scale), six_bits(&mins, min));
    let packed = &mut block[4..16];
    for j in 0..4 {
        packed[j] = scales[j] | scales[j + 4] >> 4 << 6;
        packed[j + 4] = mins[j] | mins[j + 4] >> 4 << 6;
        packed[j + 8] = scales[j + 4] & 15 | (mins[j + 4] & 15) << 4;
    }
    let pairs = six_bit_pairs(&block[4..16]);
    let (scale, min) = (
        put_half(block, 0, scale / 63.0),
        put_half(block, 2, min / 63.0),
    );
    for (j, (group, numbers)) in groups.iter().zip(numbers.chunks_mut(32)).enumerate() {
        let (scale, min) = (scale * f32::from(pairs[j].0), min * f32::from(pairs[j].1));
        round_again(group, scale, min, search.most, numbers);
    }
    numbers
}
