//! Rows of 8-bit floats with a scale each.

use candle_core::{DType, Result, Tensor, D};

#[cfg(feature = "cuda")]
use super::cuda;

/// The largest number of E4M3 (4 bits of exponent, 3 of mantissa, no infinity).
///
/// Source: Micikevicius et al. 2022, "FP8 formats for deep learning".
pub const LARGEST: f64 = 448.0;

/// The largest magnitude that a row is taken to have at least, so that a row of zeros has
/// a scale that can be divided by.
pub const LEAST: f64 = 1e-30;

/// Products of fp8 want their inner and outer dimension to be multiples of this
/// (cuBLASLt's alignment of 16 bytes).
pub const MULTIPLE: usize = 16;

/// A tensor `[.., W]` whose rows are E4M3 numbers times a float32 scale each.
#[derive(Clone, Debug)]
pub struct ScaledRows {
    /// The numbers, `[.., W]`.
    pub(super) values: Tensor,
    /// The scales, one for each row, `[rows]`.
    pub(super) scales: Tensor,
    /// Type of what these rows were made of, and of products of them.
    pub(super) dtype: DType,
}

impl ScaledRows {
    /// The shape `[.., W]`.
    pub fn dims(&self) -> &[usize] {
        self.values.dims()
    }

    /// The numbers that the rows stand for, float32.
    ///
    /// # Errors
    /// The device fails; a GPU has no kernel for it.
    pub fn dequantize(&self) -> Result<Tensor> {
        let width = self.values.dim(D::Minus1)?;
        let rows = self.scales.elem_count();
        self.values
            .to_dtype(DType::F32)?
            .reshape((rows, width))?
            .broadcast_mul(&self.scales.unsqueeze(1)?)?
            .reshape(self.dims())
    }
}

/// `x` `[.., W]` with the largest magnitude of each row brought to [`LARGEST`], rounded to
/// the nearest.
///
/// # Errors
/// `x` has no dimension, or the device fails.
pub fn quantize_rows(x: &Tensor) -> Result<ScaledRows> {
    #[cfg(feature = "cuda")]
    if let Some(rows) = cuda::quantize_rows(x)? {
        return Ok(rows);
    }
    let wide = x.to_dtype(DType::F32)?;
    let most = wide.abs()?.max_keepdim(D::Minus1)?.maximum(LEAST)?;
    let largest = (most.ones_like()? * LARGEST)?;
    Ok(ScaledRows {
        values: wide
            .broadcast_mul(&(&largest / &most)?)?
            .to_dtype(DType::F8E4M3)?,
        scales: (&most / &largest)?.flatten_all()?,
        dtype: x.dtype(),
    })
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    /// All numbers of E4M3 that are not negative, by the format's definition.
    fn numbers() -> Vec<f32> {
        let number = |exponent: i32, mantissa: i32| match exponent {
            0 => mantissa as f32 * 2f32.powi(-9),
            _ => (8 + mantissa) as f32 * 2f32.powi(exponent - 10),
        };
        let all = (0..16).flat_map(|e| (0..8).map(move |m| (e, m)));
        // The last pattern is no number.
        all.filter(|pattern| *pattern != (15, 7))
            .map(|(e, m)| number(e, m))
            .collect()
    }

    #[test]
    fn rounds_to_the_nearest_number() {
        let numbers = numbers();
        assert_eq!(numbers.last(), Some(&448.0));
        let width = 4000;
        // The first of a row is the largest: its scale is one.
        let mut row = vec![448f32];
        row.extend((1..width).map(|i| (i as f32 * 0.37).sin() * 2f32.powi(8 - i % 20)));
        let x = Tensor::from_vec(row.clone(), (1, width as usize), &Device::Cpu).unwrap();
        let rows = quantize_rows(&x).unwrap();
        assert_eq!(rows.scales.to_vec1::<f32>().unwrap(), [1.0]);
        let found = rows.dequantize().unwrap().flatten_all().unwrap();
        for (x, found) in row.iter().zip(found.to_vec1::<f32>().unwrap()) {
            assert!(numbers.contains(&found.abs()), "{found} is no E4M3");
            let distance = |n: &f32| (x.abs() - n).abs();
            let least = numbers.iter().map(distance).fold(f32::MAX, f32::min);
            assert_eq!((x - found).abs(), least, "{x} became {found}");
        }
    }

    #[test]
    fn rows_of_zeros_and_of_tiny_and_huge_numbers() {
        let rows: [f32; 8] = [0.0, 0.0, 1e-35, -1e-36, 3e38, -1.0, 2.0, -2.0];
        let x = Tensor::from_slice(&rows, (2, 2, 2), &Device::Cpu).unwrap();
        let made = quantize_rows(&x).unwrap();
        assert_eq!(made.dims(), [2, 2, 2]);
        let scales = made.scales.to_vec1::<f32>().unwrap();
        assert!(scales.iter().all(|s| s.is_normal()), "{scales:?}");
        let found = made.dequantize().unwrap().flatten_all().unwrap();
        let found = found.to_vec1::<f32>().unwrap();
        assert!(found.iter().all(|v| v.is_finite()), "{found:?}");
        assert_eq!(found[..2], [0.0, 0.0]);
        assert!((found[4] / 3e38 - 1.0).abs() < 1e-6);
        assert_eq!(found[6..], [2.0, -2.0]);
    }
}
