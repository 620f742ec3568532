//! A job's result on its way out of the pipeline.

use std::ops::Range;

use candle_core::{CpuStorage, Device, Storage, Tensor};

use super::error::{Error, Result};
use super::types::{Conditioning, Image, Latent};

/// A job's result tensor: float32, row-major, on the CPU. Clones share the values.
///
/// The values are turned into bytes only as they are sent, a range at a time, because an
/// image's bytes would double its memory.
#[derive(Clone, Debug)]
pub struct Output {
    /// `conditioning`, `latent` or `image`.
    pub name: &'static str,
    values: Tensor,
}

impl Output {
    fn new(name: &'static str, tensor: &Tensor) -> Result<Self> {
        let values = tensor.to_device(&Device::Cpu)?.contiguous()?;
        let output = Self { name, values };
        match output.with_values(|values| values.iter().all(|value| value.is_finite())) {
            true => Ok(output),
            false => Err(Error::NotFinite { name }),
        }
    }

    /// Lends the values, row-major.
    fn with_values<T>(&self, read: impl FnOnce(&[f32]) -> T) -> T {
        let (storage, layout) = self.values.storage_and_layout();
        let Storage::Cpu(CpuStorage::F32(all)) = &*storage else {
            unreachable!("an output is float32 on the CPU");
        };
        read(&all[layout.start_offset()..][..self.values.elem_count()])
    }

    /// The result `conditioning`, `[B, T, D]`.
    ///
    /// # Errors
    /// A value is infinite or NaN, or the copy from the device failed.
    pub fn conditioning(conditioning: &Conditioning) -> Result<Self> {
        Self::new("conditioning", conditioning.tensor())
    }

    /// The result `latent`, `[B, C, H/8, W/8]`.
    ///
    /// # Errors
    /// A value is infinite or NaN, or the copy from the device failed.
    pub fn latent(latent: &Latent) -> Result<Self> {
        Self::new("latent", latent.tensor())
    }

    /// The result `image`, `[B, H, W, 3]`.
    ///
    /// # Errors
    /// A value is infinite or NaN, or the copy from the device failed.
    pub fn image(image: &Image) -> Result<Self> {
        Self::new("image", image.tensor())
    }

    /// A result that was written as little-endian bytes. `None` if there is no such result, or
    /// the bytes are not those of finite values of this shape.
    pub fn from_bytes(name: &str, shape: &[u64], bytes: &[u8]) -> Option<Self> {
        let known = ["conditioning", "latent", "image"];
        let name = known.into_iter().find(|known| *known == name)?;
        let shape: Option<Vec<usize>> = shape.iter().map(|&d| usize::try_from(d).ok()).collect();
        let (values, rest) = bytes.as_chunks::<{ size_of::<f32>() }>();
        let values: Vec<f32> = values.iter().map(|b| f32::from_le_bytes(*b)).collect();
        if !rest.is_empty() || !values.iter().all(|value| value.is_finite()) {
            return None;
        }
        let shape = shape?;
        let count = shape.iter().try_fold(1_usize, |n, &d| n.checked_mul(d))?;
        if count != values.len() {
            return None;
        }
        let values = Tensor::from_vec(values, shape, &Device::Cpu).ok()?;
        Some(Self { name, values })
    }

    /// Dimensions, outermost first.
    pub fn shape(&self) -> Vec<u64> {
        self.values.dims().iter().map(|&d| d as u64).collect()
    }

    /// Number of values.
    pub fn len(&self) -> usize {
        self.values.elem_count()
    }

    /// Whether there are no values.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of all values.
    pub fn byte_len(&self) -> u64 {
        (self.len() * size_of::<f32>()) as u64
    }

    /// The values of a range within [`len`](Self::len), as little-endian bytes.
    pub fn bytes(&self, range: Range<usize>) -> Vec<u8> {
        self.with_values(|values| {
            let values = &values[range];
            let mut bytes = vec![0; size_of_val(values)];
            for (bytes, value) in bytes.chunks_exact_mut(size_of::<f32>()).zip(values) {
                bytes.copy_from_slice(&value.to_le_bytes());
            }
            bytes
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_of_values_becomes_bytes() {
        let latent = Latent::from_values(vec![0.0, 1.5, -2.0, 4.0], &[1, 1, 2, 2]).unwrap();
        let output = Output::latent(&latent).unwrap();
        assert_eq!(output.shape(), [1, 1, 2, 2]);
        assert_eq!((output.len(), output.byte_len()), (4, 16));
        let wanted = [1.5_f32.to_le_bytes(), (-2.0_f32).to_le_bytes()].concat();
        assert_eq!(output.bytes(1..3), wanted);
        let read = |name, shape: &[u64]| Output::from_bytes(name, shape, &output.bytes(0..4));
        let again = read("latent", &[1, 1, 2, 2]).unwrap();
        assert_eq!(again.bytes(0..4), output.bytes(0..4));
        for (name, shape) in [
            ("noise", &[4][..]),
            ("latent", &[5]),
            ("latent", &[u64::MAX, 2]),
        ] {
            assert!(read(name, shape).is_none(), "{name} {shape:?}");
        }
        let nan = f32::NAN.to_le_bytes();
        assert!(Output::from_bytes("latent", &[1], &nan).is_none());
    }

    #[test]
    fn values_that_are_not_finite_are_an_error() {
        for value in [f32::NAN, f32::INFINITY] {
            let latent = Latent::from_values(vec![0.0, value], &[1, 1, 1, 2]).unwrap();
            let error = Output::latent(&latent).unwrap_err();
            assert!(matches!(error, Error::NotFinite { name: "latent" }));
        }
    }
}
