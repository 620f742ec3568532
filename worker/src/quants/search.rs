//! How the encoders find the scale of a group: they try several, and keep the one with the
//! least weighted error.
//!
//! Sums are float32 in the order of the values, as in ggml, because ties and roundings decide
//! between scales.
//!
//! Source: ggml `ggml-quants.c` (`nearest_int`, `make_qx_quants`, `make_q3_quants`,
//! `make_qkx2_quants`).

use super::simple::extreme;

/// Magnitudes below this count as 0 (`GROUP_MAX_EPS`).
pub(super) const LEAST: f32 = 1e-15;

/// Most values in a group.
const MAX_GROUP: usize = 32;

/// The nearest whole number of a value within 4 million, ties to even.
pub(super) fn nearest(value: f32) -> i32 {
    // Adding 1.5 * 2^23 leaves the whole number in the mantissa.
    let bits = (value + 12_582_912.0).to_bits() as i32;
    (bits & 0x007f_ffff) - 0x0040_0000
}

/// `nearest`, within `least..=most`.
pub(super) fn nearest_within(value: f32, least: i32, most: i32) -> i32 {
    nearest(value).clamp(least, most)
}

/// Scale of a group whose values become whole numbers from `-most` to `most - 1`, the best of
/// 19 by errors weighted with the squares of the values, and the numbers counted from `-most`.
pub(super) fn signed_scale(values: &[f32; 16], most: i32) -> (f32, [u8; 16]) {
    let max = extreme(values);
    if max.abs() < LEAST {
        return (0.0, [0; 16]);
    }
    let sums = |inverse: f32| {
        let (mut product, mut square) = (0.0f32, 0.0f32);
        for &x in values {
            let l = nearest_within(inverse * x, -most, most - 1) as f32;
            let weight = x * x;
            product += weight * x * l;
            square += weight * l * l;
        }
        (product, square)
    };
    let limit = most as f32;
    let mut kept = -limit / max;
    let (product, square) = sums(kept);
    let mut scale = if square == 0.0 { 0.0 } else { product / square };
    let mut best = scale * product;
    for step in (-9..=9).filter(|step| *step != 0) {
        let inverse = -(limit + 0.1 * step as f32) / max;
        let (product, square) = sums(inverse);
        if square > 0.0 && product * product > best * square {
            (kept, scale) = (inverse, product / square);
            best = scale * product;
        }
    }
    let number = |x| (nearest_within(kept * x, -most, most - 1) + most) as u8;
    (scale, values.map(number))
}

/// Scale of a group whose values become whole numbers from `-most` to `most - 1`, improved by
/// changing one number at a time, and the numbers counted from `-most`.
pub(super) fn signed_scale_by_turns(values: &[f32; 16], most: i32) -> (f32, [u8; 16]) {
    let max = extreme(values);
    if max.abs() < LEAST {
        return (0.0, [0; 16]);
    }
    let inverse = -(most as f32) / max;
    let (mut product, mut square) = (0.0f32, 0.0f32);
    let mut numbers = values.map(|x| {
        let l = nearest_within(inverse * x, -most, most - 1);
        let weight = x * x;
        product += weight * x * l as f32;
        square += weight * l as f32 * l as f32;
        l
    });
    for _ in 0..5 {
        let mut changed = false;
        for (&x, number) in values.iter().zip(&mut numbers) {
            let weight = x * x;
            let old = *number as f32;
            let mut without = product - weight * x * old;
            if without <= 0.0 {
                continue;
            }
            let mut square_without = square - weight * old * old;
            let new = nearest_within(x * square_without / without, -most, most - 1);
            if new == *number {
                continue;
            }
            without += weight * x * new as f32;
            square_without += weight * new as f32 * new as f32;
            if square_without > 0.0
                && without * without * square > product * product * square_without
            {
                (*number, product, square) = (new, without, square_without);
                changed = true;
            }
        }
        if !changed {
            break;
        }
    }
    let scale = if square > 0.0 { product / square } else { 0.0 };
    (scale, numbers.map(|number| (number + most) as u8))
}

/// How [`scale_and_min`] searches.
pub(super) struct Search {
    /// The largest number that a value becomes; the smallest is 0.
    pub most: i32,
    /// Added to `most` in the first scale that is tried.
    pub first: f32,
    /// Number of scales that are tried after the first, 0.1 apart.
    pub steps: i32,
    /// Whether errors are magnitudes, not squares.
    pub absolute: bool,
}

/// Scale and minimum of a group of at most 32, and the numbers that its values become: a
/// value is `scale * number - min`, where `min` is not below 0.
pub(super) fn scale_and_min(
    values: &[f32],
    weights: &[f32],
    search: &Search,
    numbers: &mut [u8],
) -> (f32, f32) {
    let (mut min, mut max) = (values[0], values[0]);
    let mut sum_weight = weights[0];
    let mut sum_x = sum_weight * values[0];
    for (&x, &weight) in values.iter().zip(weights).skip(1) {
        min = if x < min { x } else { min };
        max = if x > max { x } else { max };
        sum_weight += weight;
        sum_x += weight * x;
    }
    min = if min > 0.0 { 0.0 } else { min };
    if max == min {
        numbers.fill(0);
        return (0.0, -min);
    }
    let most = search.most as f32;
    let error = |scale: f32, min: f32, numbers: &[u8]| {
        let mut sum = 0.0f32;
        for ((&x, &weight), &l) in values.iter().zip(weights).zip(numbers) {
            let difference = scale * f32::from(l) + min - x;
            sum += weight
                * match search.absolute {
                    true => difference.abs(),
                    false => difference * difference,
                };
        }
        sum
    };
    let inverse = most / (max - min);
    let mut scale = 1.0 / inverse;
    for (number, &x) in numbers.iter_mut().zip(values) {
        *number = nearest_within(inverse * (x - min), 0, search.most) as u8;
    }
    let mut best = error(scale, min, numbers);
    let mut tried = [0u8; MAX_GROUP];
    let tried = &mut tried[..values.len()];
    for step in 0..=search.steps {
        let inverse = (search.first + 0.1 * step as f32 + most) / (max - min);
        let (mut sum_l, mut sum_l2, mut sum_xl) = (0.0f32, 0.0f32, 0.0f32);
        for ((number, &x), &weight) in tried.iter_mut().zip(values).zip(weights) {
            let l = nearest_within(inverse * (x - min), 0, search.most);
            *number = l as u8;
            let l = l as f32;
            sum_l += weight * l;
            sum_l2 += weight * l * l;
            sum_xl += weight * l * x;
        }
        let determinant = sum_weight * sum_l2 - sum_l * sum_l;
        if determinant > 0.0 {
            let mut this_scale = (sum_weight * sum_xl - sum_x * sum_l) / determinant;
            let mut this_min = (sum_l2 * sum_x - sum_l * sum_xl) / determinant;
            if this_min > 0.0 {
                this_min = 0.0;
                this_scale = sum_xl / sum_l2;
            }
            let this_error = error(this_scale, this_min, tried);
            if this_error < best {
                numbers.copy_from_slice(tried);
                (best, scale, min) = (this_error, this_scale, this_min);
            }
        }
    }
    (scale, -min)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ties_go_to_even_numbers() {
        let cases = [
            (0.5, 0),
            (1.5, 2),
            (-0.5, 0),
            (-1.5, -2),
            (2.4, 2),
            (-2.6, -3),
        ];
        for (value, wanted) in cases {
            assert_eq!(nearest(value), wanted, "{value}");
        }
    }
}
