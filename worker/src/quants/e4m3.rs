//! The 8-bit floats E4M3 (`float8_e4m3fn`): 1 sign bit, 4 exponent bits of bias 7 and 3
//! mantissa bits; all ones in exponent and mantissa is NaN, and there are no infinities.
//!
//! Source: Micikevicius et al., FP8 Formats for Deep Learning, arXiv:2209.05433, table 1.

use std::sync::LazyLock;

/// The largest number.
pub const LARGEST: f32 = 448.0;

/// The value of each bit pattern.
pub static NUMBERS: LazyLock<[f32; 256]> = LazyLock::new(|| {
    std::array::from_fn(|pattern| {
        let (exponent, mantissa) = (pattern as i32 >> 3 & 15, (pattern & 7) as f32);
        let magnitude = match (exponent, mantissa) {
            (0, _) => mantissa * 2f32.powi(-9),
            (15, 7.0) => f32::NAN,
            _ => (8.0 + mantissa) * 2f32.powi(exponent - 10),
        };
        magnitude.copysign(if pattern < 128 { 1.0 } else { -1.0 })
    })
});

/// The bit pattern of the number nearest to a finite value, ties to even; larger ones become
/// [`LARGEST`].
pub fn nearest(value: f32) -> u8 {
    let magnitude = value.abs().min(LARGEST);
    // Below 2^-6 numbers are 2^-9 apart, and above it an eighth of a power of two.
    let exponent = ((magnitude.to_bits() >> 23) as i32 - 127).max(-6);
    let steps = (magnitude * 2f32.powi(3 - exponent)).round_ties_even() as i32;
    // A carry out of the mantissa is one more in the exponent.
    let pattern = ((exponent + 6) << 3) + steps;
    pattern as u8 | u8::from(value.is_sign_negative()) << 7
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_number_is_found() {
        let numbers: Vec<u8> = (0..127).collect();
        for pair in numbers.windows(2) {
            let [low, high] = [pair[0], pair[1]].map(|p| NUMBERS[usize::from(p)]);
            let middle = (low + high) / 2.0;
            let even = if pair[0] % 2 == 0 { pair[0] } else { pair[1] };
            for (value, wanted) in [
                (low, pair[0]),
                (middle.next_down(), pair[0]),
                (middle, even),
                (middle.next_up(), pair[1]),
                (high, pair[1]),
            ] {
                assert_eq!(nearest(value), wanted, "{value}");
                assert_eq!(nearest(-value), wanted | 128, "-{value}");
            }
        }
        assert_eq!(nearest(1e9), 126);
        assert_eq!(nearest(f32::MIN_POSITIVE), 0);
    }
}
