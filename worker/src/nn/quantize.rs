//! Quantization to 8-bit floats.

use candle_core::{DType, Result, Tensor, D};

use super::backend::fused;
use super::fused::Fused;
use super::scaled_rows::{ScaledRows, LARGEST, LEAST};

/// Quantizes `x` `[.., W]`: each row is scaled so that its largest magnitude becomes [`LARGEST`],
/// and rounded to the nearest E4M3 number.
///
/// # Errors
/// `x` is a scalar.
pub fn quantize_rows(x: &Tensor) -> Result<ScaledRows> {
    if let Some(rows) = fused().quantize_rows(x)? {
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
        // The last pattern is NaN.
        all.filter(|pattern| *pattern != (15, 7))
            .map(|(e, m)| number(e, m))
            .collect()
    }

    #[test]
    fn rounds_to_the_nearest_number() {
        let numbers = numbers();
        assert_eq!(numbers.last(), Some(&448.0));
        let width = 4000;
        // The first element is the row's largest magnitude, so that the scale is one.
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
