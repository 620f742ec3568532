//! Numbers of one byte, which scales beside them turn into values.

use std::sync::LazyLock;

use half::f16;
use rayon::prelude::*;

use super::e4m3;
use super::rotation::unrotate;
use super::rows::Decoded;

/// How a byte is a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ByteType {
    /// 8-bit float with 4 exponent and 3 mantissa bits, without infinities (`float8_e4m3fn`).
    E4m3,
    /// 8-bit float with 5 exponent and 2 mantissa bits (`float8_e5m2`): the upper byte of a half-precision
    /// float.
    E5m2,
    /// Whole number from -128 to 127.
    I8,
}

impl ByteType {
    /// The safetensors name.
    pub fn name(self) -> &'static str {
        match self {
            Self::E4m3 => "F8_E4M3",
            Self::E5m2 => "F8_E5M2",
            Self::I8 => "I8",
        }
    }

    /// The number of each bit pattern.
    pub fn numbers(self) -> &'static [f32; 256] {
        static E5M2: LazyLock<[f32; 256]> = LazyLock::new(|| {
            std::array::from_fn(|pattern| f16::from_bits((pattern as u16) << 8).to_f32())
        });
        static I8: LazyLock<[f32; 256]> =
            LazyLock::new(|| std::array::from_fn(|pattern| f32::from(pattern as u8 as i8)));
        match self {
            Self::E4m3 => &e4m3::NUMBERS,
            Self::E5m2 => &E5M2,
            Self::I8 => &I8,
        }
    }
}

/// Values that a task decodes at a time where rows do not matter.
const TASK: usize = 1 << 14;

/// The factors of a tensor's rows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Scales<'a> {
    /// One for all of them.
    Whole(f32),
    /// One for each.
    Rows(&'a [f32]),
}

/// The values of rows of `width` numbers: each number times the factor of its row, in float32, and
/// rotated back where the rows were rotated in groups of `rotation` values.
///
/// # Panics
/// There are fewer factors than rows, or groups that do not divide the width.
pub fn decode_bytes<T: Decoded>(
    kind: ByteType,
    bytes: &[u8],
    width: usize,
    scales: Scales,
    rotation: Option<usize>,
) -> Vec<T> {
    let mut values = vec![T::default(); bytes.len()];
    let numbers = kind.numbers();
    let at_once = match (scales, rotation) {
        // Rows do not matter.
        (Scales::Whole(_), None) => TASK,
        _ => width.max(1),
    };
    let rows = values
        .par_chunks_mut(at_once)
        .zip(bytes.par_chunks(at_once));
    rows.enumerate()
        .for_each_init(Vec::new, |buffer: &mut Vec<f32>, (i, (values, bytes))| {
            let scale = match scales {
                Scales::Whole(scale) => scale,
                Scales::Rows(scales) => scales[i],
            };
            let scaled = bytes.iter().map(|&byte| numbers[usize::from(byte)] * scale);
            match rotation {
                None => values
                    .iter_mut()
                    .zip(scaled)
                    .for_each(|(value, number)| *value = T::of(number)),
                Some(group) => {
                    buffer.clear();
                    buffer.extend(scaled);
                    unrotate(buffer, group);
                    values
                        .iter_mut()
                        .zip(buffer)
                        .for_each(|(value, number)| *value = T::of(*number));
                }
            }
        });
    values
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device, Tensor};
    use half::bf16;

    use super::*;

    #[test]
    fn numbers_are_those_of_others() {
        let patterns: Vec<u8> = (0..=255).collect();
        let plain = Tensor::from_raw_buffer(&patterns, DType::F8E4M3, &[256], &Device::Cpu);
        let plain = plain.unwrap().to_dtype(DType::F32).unwrap();
        for (ours, plain) in ByteType::E4m3
            .numbers()
            .iter()
            .zip(plain.to_vec1::<f32>().unwrap())
        {
            assert!(*ours == plain || (ours.is_nan() && plain.is_nan()));
        }
        let numbers = ByteType::E5m2.numbers();
        // The largest number, the smallest, infinity and a NaN of the format's definition.
        assert_eq!((numbers[0x7b], numbers[0x01]), (57_344.0, 2f32.powi(-16)));
        assert!(numbers[0x7c] == f32::INFINITY && numbers[0xff].is_nan());
        let numbers = ByteType::I8.numbers();
        assert_eq!(
            (numbers[127], numbers[128], numbers[255]),
            (127.0, -128.0, -1.0)
        );
    }

    #[test]
    fn each_row_has_its_factor() {
        let bytes = [1u8, 2, 255, 3];
        let decoded = |scales| decode_bytes::<f32>(ByteType::I8, &bytes, 2, scales, None);
        assert_eq!(decoded(Scales::Whole(0.5)), [0.5, 1.0, -0.5, 1.5]);
        assert_eq!(decoded(Scales::Rows(&[2.0, 3.0])), [2.0, 4.0, -3.0, 9.0]);
        let rounded = decode_bytes::<bf16>(ByteType::I8, &[3], 1, Scales::Whole(0.1), None);
        assert_eq!(rounded, [bf16::from_f32(3.0 * 0.1)]);
    }
}
