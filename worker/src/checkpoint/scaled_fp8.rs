//! ComfyUI's files of 8-bit floats: a weight `NAME.weight` in E4M3, and beside it the one
//! number that all of it is multiplied by.
//!
//! The number is `NAME.scale_weight` in files with the marker `scaled_fp8`, and
//! `NAME.weight_scale` in those with `NAME.comfy_quant`. Scales of the layer's inputs
//! (`scale_input`, `input_scale`) are for other arithmetic than ours and left aside.
//!
//! Source: ComfyUI `comfy/utils.py` (`convert_old_quants`), `comfy/ops.py`
//! (`mixed_precision_ops`), `comfy/quant_ops.py`.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use candle_core::{DType, Device, Result, Tensor};
use half::bf16;
use rayon::prelude::*;
use safetensors::Dtype;

use super::error::WeightsError;
use super::set::Source;

/// What the scale of a weight is called.
const SCALES: [&str; 2] = ["scale_weight", "weight_scale"];

/// What else there may be beside a weight.
const EXTRAS: [&str; 3] = ["scale_input", "input_scale", "comfy_quant"];

/// The tensor that marks the older files.
const MARKER: &str = "scaled_fp8";

/// Takes the scales out of a file's tensors and gives each to its weight.
///
/// # Errors
/// A scale is not one float32.
pub(super) fn fold(
    tensors: &mut BTreeMap<String, Source>,
) -> std::result::Result<(), WeightsError> {
    let mut folded = Vec::new();
    let mut scales = Vec::new();
    for (name, source) in tensors.iter() {
        let (layer, last) = name.rsplit_once('.').unwrap_or(("", name));
        let weight = format!("{layer}.weight");
        if last == MARKER {
            folded.push(name.clone());
        } else if tensors.contains_key(&weight) {
            if SCALES.contains(&last) {
                scales.push((weight, scale(source)?));
                folded.push(name.clone());
            } else if EXTRAS.contains(&last) {
                folded.push(name.clone());
            }
        }
    }
    for name in folded {
        tensors.remove(&name);
    }
    for (weight, scale) in scales {
        if let Some(source) = tensors.get_mut(&weight) {
            source.scale = scale;
        }
    }
    Ok(())
}

/// The one number of a scale.
fn scale(source: &Source) -> std::result::Result<f32, WeightsError> {
    let info = source.info();
    let one = <[u8; 4]>::try_from(source.file.bytes(info));
    match (info.dtype, one) {
        (Dtype::F32, Ok(bytes)) => Ok(f32::from_le_bytes(bytes)),
        _ => Err(WeightsError::Scale {
            file: source.file.path().to_owned(),
            tensor: source.name.clone(),
            dtype: info.dtype.to_string(),
            shape: info.shape.clone(),
        }),
    }
}

/// The numbers that E4M3's patterns stand for.
static NUMBERS: LazyLock<[f32; 256]> = LazyLock::new(|| {
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

/// E4M3 numbers times `scale`, as a tensor on the CPU: bf16 if that is the `dtype` wanted in
/// the end, else float32.
///
/// # Errors
/// There are not as many numbers as the shape asks for.
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
