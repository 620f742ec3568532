//! Decodes 8-bit floats E4M3 into tensors.

use candle_core::{DType, Device, Result, Tensor};
use half::bf16;
use rayon::prelude::*;

use crate::quants::e4m3::NUMBERS;

/// Decodes E4M3 values and multiplies them with `scale`, into a tensor on the CPU: of bf16 if
/// `dtype` is, so that the product is rounded once, else of float32.
///
/// # Errors
/// The shape has another number of elements than there are bytes.
pub(super) fn decode(bytes: &[u8], scale: f32, shape: &[usize], dtype: DType) -> Result<Tensor> {
    let numbers = NUMBERS.map(|number| number * scale);
    if dtype == DType::BF16 {
        let numbers = numbers.map(bf16::from_f32);
        let values: Vec<bf16> = bytes.par_iter().map(|&b| numbers[usize::from(b)]).collect();
        return Tensor::from_vec(values, shape, &Device::Cpu);
    }
    let values: Vec<f32> = bytes.par_iter().map(|&b| numbers[usize::from(b)]).collect();
    Tensor::from_vec(values, shape, &Device::Cpu)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_those_of_candle() {
        let patterns: Vec<u8> = (0..=255).collect();
        let plain = Tensor::from_raw_buffer(&patterns, DType::F8E4M3, &[256], &Device::Cpu);
        let plain = plain.unwrap().to_dtype(DType::F32).unwrap();
        let plain = plain.to_vec1::<f32>().unwrap();
        for dtype in [DType::F32, DType::BF16] {
            let ours = decode(&patterns, 0.5, &[256], dtype).unwrap();
            assert_eq!(ours.dtype(), dtype);
            let ours = ours.to_dtype(DType::F32).unwrap().to_vec1::<f32>().unwrap();
            for (ours, plain) in ours.iter().zip(&plain) {
                // Powers of two scale without rounding, and bf16 has bits to spare.
                assert!(*ours == plain * 0.5 || (ours.is_nan() && plain.is_nan()));
            }
        }
    }
}
