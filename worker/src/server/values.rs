//! A request's bytes as typed tensors.

use candle_core::{Device, Tensor};
use half::{bf16, f16};
use ovis_protocol::{shown, DType, ErrorCode, Request, TensorHeader, WireError};

use crate::jobs::{wire_error, Resume, Work};
use crate::pipeline::{Conditioning, DenoiseInputs, Image, Latent};

fn invalid(message: impl Into<String>, hint: &str) -> WireError {
    WireError::new(ErrorCode::InvalidRequest, message, hint)
}

/// Row-major float32 values. U8 pixels are scaled to 0..1.
fn values(dtype: DType, bytes: &[u8]) -> Vec<f32> {
    let pair = |b: &[u8]| [b[0], b[1]];
    match dtype {
        DType::F32 => bytes
            .chunks_exact(4)
            .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
            .collect(),
        DType::F16 => bytes
            .chunks_exact(2)
            .map(|b| f16::from_le_bytes(pair(b)).to_f32())
            .collect(),
        DType::Bf16 => bytes
            .chunks_exact(2)
            .map(|b| bf16::from_le_bytes(pair(b)).to_f32())
            .collect(),
        DType::U8 => bytes.iter().map(|&b| f32::from(b) / 255.0).collect(),
    }
}

/// A float32 tensor whose values are all finite.
fn tensor(header: &TensorHeader, bytes: &[u8]) -> Result<Tensor, WireError> {
    let values = values(header.dtype, bytes);
    if let Some(at) = values.iter().position(|value| !value.is_finite()) {
        return Err(invalid(
            format!(
                "The tensor `{}` has a value that is no number: {} at {:?} of {:?}.",
                shown(&header.name),
                values[at],
                indices(at, &header.shape),
                header.shape
            ),
            "Look at what made it: NaN and infinite values come of a calculation that went wrong.",
        ));
    }
    let shape: Vec<usize> = header.shape.iter().map(|&d| d as usize).collect();
    let made = Tensor::from_vec(values, shape, &Device::Cpu);
    made.map_err(|error| wire_error(&error.into()))
}

/// The indices of the element at offset `at` of a row-major tensor.
fn indices(mut at: usize, shape: &[u64]) -> Vec<usize> {
    let mut indices: Vec<usize> = shape
        .iter()
        .rev()
        .map(|&size| {
            let index = at % size as usize;
            at /= size as usize;
            index
        })
        .collect();
    indices.reverse();
    indices
}

/// The work of a [checked](super::tensors::check) request whose bytes have arrived.
///
/// Values of an image or a mask outside 0..1 are passed on unchanged, as ComfyUI does.
///
/// # Errors
/// `InvalidRequest` if a tensor has values that are infinite or NaN.
pub fn work(request: Request, tensors: Vec<(TensorHeader, Vec<u8>)>) -> Result<Work, WireError> {
    let (states, tensors): (Vec<_>, Vec<_>) = tensors
        .into_iter()
        .partition(|(header, _)| header.name == "state");
    let resume = states.into_iter().next().map(|(_, state)| Resume {
        state,
        is_optional: false,
    });
    let mut tensors: Vec<(String, Tensor)> = tensors
        .into_iter()
        .map(|(header, bytes)| {
            let tensor = tensor(&header, &bytes)?;
            Ok((header.name, tensor))
        })
        .collect::<Result<_, WireError>>()?;
    let mut optional = |name: &str| {
        let at = tensors.iter().position(|(other, _)| other == name)?;
        Some(tensors.swap_remove(at).1)
    };
    let mut required = |name: &str| {
        optional(name).ok_or_else(|| invalid(format!("The job lacks the tensor `{name}`."), ""))
    };
    let typed = |result: crate::pipeline::Result<Work>| result.map_err(|e| wire_error(&e));
    match request {
        Request::Encode(request) => Ok(Work::Encode(request)),
        Request::Decode => {
            let latent = required("latent")?;
            typed(Latent::new(latent).map(Work::Decode))
        }
        Request::VaeEncode => {
            let image = required("image")?;
            typed(Image::new(image).map(Work::VaeEncode))
        }
        Request::Denoise(request) => {
            let (positive, latent) = (required("positive")?, required("latent")?);
            let negative = optional("negative").filter(|_| request.cfg != 1.0);
            let noise_mask = optional("noise_mask");
            typed((|| {
                let inputs = DenoiseInputs {
                    positive: Conditioning::new(positive)?,
                    negative: negative.map(Conditioning::new).transpose()?,
                    latent: Latent::new(latent)?,
                    noise_mask,
                };
                Ok(Work::Denoise(request, inputs, resume))
            })())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn f32s(values: &[f32]) -> Vec<u8> {
        values.iter().flat_map(|v| v.to_le_bytes()).collect()
    }

    #[test]
    fn every_type_is_read_and_values_that_are_not_finite_are_refused() {
        let header = |dtype| TensorHeader::new("latent", dtype, [1, 2, 2]);
        let half = |v: f32| f16::from_f32(v).to_le_bytes();
        let brain = |v: f32| bf16::from_f32(v).to_le_bytes();
        let with = |v: f32| {
            [
                (DType::F32, f32s(&[0.5, 1.5, v, -0.25])),
                (DType::F16, [0.5, 1.5, v, -0.25].map(half).concat()),
                (DType::Bf16, [0.5, 1.5, v, -0.25].map(brain).concat()),
            ]
        };
        for (dtype, bytes) in with(-2.0) {
            let tensor = tensor(&header(dtype), &bytes).unwrap();
            let values: Vec<f32> = tensor.flatten_all().unwrap().to_vec1().unwrap();
            assert_eq!(values, [0.5, 1.5, -2.0, -0.25]);
        }
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            for (dtype, bytes) in with(bad) {
                let error = tensor(&header(dtype), &bytes).unwrap_err();
                assert_eq!(error.code, ErrorCode::InvalidRequest);
                assert!(error.message.contains("`latent`"), "{error}");
                assert!(error.message.contains("[0, 1, 0]"), "{error}");
            }
        }
        let pixels = tensor(&header(DType::U8), &[0, 51, 102, 255]).unwrap();
        let values: Vec<f32> = pixels.flatten_all().unwrap().to_vec1().unwrap();
        assert_eq!(values, [0.0, 0.2, 0.4, 1.0]);
    }
}
