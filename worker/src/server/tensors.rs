//! Which tensors each operation takes, and from wire bytes to typed tensors.

use candle_core::{Device, Tensor};
use half::{bf16, f16};
use ovis_protocol::limits::MAX_PROMPT_BYTES;
use ovis_protocol::{Capabilities, DType, ErrorCode, Request, TensorHeader, WireError};

use crate::engine::{wire_error, Work};
use crate::pipeline::{check_request, Ask, Conditioning, DenoiseInputs, Image, Latent};

/// Most prompts in one encode job; a batch larger than this fits no size.
const MAX_PROMPTS: usize = 64;

fn invalid(message: impl Into<String>, hint: &str) -> WireError {
    WireError::new(ErrorCode::InvalidRequest, message, hint)
}

/// Names of the tensors a request must have, and those it may have.
fn names(request: &Request) -> (&'static [&'static str], &'static [&'static str]) {
    match request {
        Request::Encode(_) => (&[], &[]),
        Request::Denoise(r) if r.cfg == 1.0 => {
            (&["positive", "latent"], &["negative", "noise_mask"])
        }
        Request::Denoise(_) => (&["positive", "negative", "latent"], &["noise_mask"]),
        Request::Decode => (&["latent"], &[]),
        Request::VaeEncode => (&["image"], &[]),
    }
}

/// Checks a request against what the worker can do, before its bytes arrive.
///
/// # Errors
/// One sentence about the first thing that does not fit.
pub fn check(
    request: &Request,
    headers: &[TensorHeader],
    can: &Capabilities,
) -> Result<(), WireError> {
    let operation = request.name();
    if !can.operations.iter().any(|name| name == operation) {
        return Err(WireError::new(
            ErrorCode::MissingModel,
            format!("This worker's checkpoint cannot {operation}."),
            "Start the worker with a checkpoint that has the missing part.",
        ));
    }
    check_values(request, can)?;
    let (required, optional) = names(request);
    for (i, header) in headers.iter().enumerate() {
        let name = header.name.as_str();
        if !required.contains(&name) && !optional.contains(&name) {
            let name: String = name.chars().take(64).collect();
            return Err(invalid(
                format!("A {operation} job takes no tensor `{name}`."),
                "",
            ));
        }
        if headers[..i].iter().any(|other| other.name == name) {
            return Err(invalid(format!("The tensor `{name}` is there twice."), ""));
        }
        if header.dtype == DType::U8 && name != "image" {
            return Err(invalid(
                format!("The tensor `{name}` has the type U8, only an image may."),
                "Send it as F32, F16 or BF16.",
            ));
        }
    }
    for name in required {
        if !headers.iter().any(|header| header.name == *name) {
            return Err(invalid(
                format!("The {operation} job lacks the tensor `{name}`."),
                "",
            ));
        }
    }
    check_shapes(headers, can)?;
    let latent = headers.iter().find(|header| header.name == "latent");
    match (request, latent.map(|header| &header.shape[..])) {
        (Request::Denoise(request), Some(&[batch, _, height, width])) => {
            let size = (8 * width as usize, 8 * height as usize);
            let checked = check_request(request, batch as usize, size);
            checked.map(drop).map_err(|e| wire_error(&e))
        }
        _ => Ok(()),
    }
}

fn check_values(request: &Request, can: &Capabilities) -> Result<(), WireError> {
    match request {
        Request::Encode(r) => {
            if r.prompts.is_empty() || r.prompts.len() > MAX_PROMPTS {
                return Err(invalid(
                    format!(
                        "An encode job has 1 to {MAX_PROMPTS} prompts, not {}.",
                        r.prompts.len()
                    ),
                    "",
                ));
            }
            match r.prompts.iter().map(String::len).max() {
                Some(bytes) if bytes > MAX_PROMPT_BYTES => Err(invalid(
                    format!("A prompt has {bytes} bytes, the most is {MAX_PROMPT_BYTES}."),
                    "Shorten the prompt.",
                )),
                _ => Ok(()),
            }
        }
        Request::Denoise(r) if !can.samplers.contains(&r.sampler) => {
            let sampler: String = r.sampler.chars().take(64).collect();
            Err(invalid(
                format!("This worker has no sampler `{sampler}`."),
                &format!("It has: {}.", can.samplers.join(", ")),
            ))
        }
        Request::Denoise(r) => match r.preview.map(|preview| preview.kind.name()) {
            Some(kind) if !can.previews.iter().any(|known| known == kind) => Err(invalid(
                format!("This worker's checkpoint makes no previews of the kind `{kind}`."),
                "Ask for another kind, or for none.",
            )),
            _ => Ok(()),
        },
        _ => Ok(()),
    }
}

fn check_shapes(headers: &[TensorHeader], can: &Capabilities) -> Result<(), WireError> {
    let bad = |header: &TensorHeader, shape: &str| {
        invalid(
            format!(
                "The tensor `{}` has the shape {:?}, it should be {shape}.",
                header.name, header.shape
            ),
            "",
        )
    };
    let too_large = |pixels: u64| {
        invalid(
            format!(
                "The job has {pixels} pixels, the most is {}.",
                can.max_pixels
            ),
            "Use a smaller size or batch.",
        )
    };
    let channels = u64::from(can.latent_channels);
    let width = u64::from(can.conditioning_width);
    let latent = headers.iter().find(|header| header.name == "latent");
    if let Some(header) = latent {
        match header.shape[..] {
            [b, c, h, w] if c == channels => {
                let pixels = b.saturating_mul(h * w).saturating_mul(64);
                if pixels > can.max_pixels {
                    return Err(too_large(pixels));
                }
            }
            _ => return Err(bad(header, &format!("[B, {channels}, H/8, W/8]"))),
        }
    }
    for header in headers {
        let shape = &header.shape[..];
        match (header.name.as_str(), latent) {
            ("image", _) => match *shape {
                [b, h, w, 3] if b.saturating_mul(h * w) > can.max_pixels => {
                    return Err(too_large(b.saturating_mul(h * w)));
                }
                [_, _, _, 3] => {}
                _ => return Err(bad(header, "[B, H, W, 3]")),
            },
            ("positive" | "negative", Some(latent)) => match *shape {
                [b, _, d] if d == width && (b == 1 || b == latent.shape[0]) => {}
                _ => {
                    let batch = latent.shape[0];
                    return Err(bad(header, &format!("[{}, T, {width}]", one_or(batch))));
                }
            },
            ("noise_mask", Some(latent)) => match *shape {
                [b, h, w] if (b == 1 || b == latent.shape[0]) && latent.shape[2..] == [h, w] => {}
                _ => {
                    let (b, h, w) = (latent.shape[0], latent.shape[2], latent.shape[3]);
                    return Err(bad(header, &format!("[{}, {h}, {w}]", one_or(b))));
                }
            },
            _ => {}
        }
    }
    Ok(())
}

/// A [`check`]ed request by its shapes.
pub fn ask<'a>(request: &'a Request, headers: &[TensorHeader]) -> Ask<'a> {
    let shape = |name: &str| -> &[u64] {
        let header = headers.iter().find(|header| header.name == name);
        header.map_or(&[], |header| &header.shape)
    };
    let dim = |name: &str, at: usize| shape(name).get(at).map_or(0, |&d| d as usize);
    let latent = [0, 1, 2, 3].map(|at| dim("latent", at));
    match request {
        Request::Encode(request) => Ask::Encode {
            prompts: &request.prompts,
            max_sequence_length: request.max_sequence_length as usize,
        },
        Request::Denoise(request) => Ask::Denoise {
            request,
            latent,
            text: dim("positive", 1).max(dim("negative", 1)),
        },
        Request::Decode => Ask::Decode { latent },
        Request::VaeEncode => Ask::VaeEncode {
            image: [0, 1, 2].map(|at| dim("image", at)),
        },
    }
}

/// The batches that go with one of `batch` entries.
fn one_or(batch: u64) -> String {
    match batch {
        1 => "1".into(),
        n => format!("1 or {n}"),
    }
}

/// Row-major float32 values; U8 pixels become 0 to 1.
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

/// The engine's work for a [`check`]ed request whose bytes have arrived.
///
/// # Errors
/// A tensor's bytes do not make the tensor.
pub fn work(request: Request, tensors: Vec<(TensorHeader, Vec<u8>)>) -> Result<Work, WireError> {
    let mut tensors: Vec<(String, Tensor)> = tensors
        .into_iter()
        .map(|(header, bytes)| {
            let shape: Vec<usize> = header.shape.iter().map(|&d| d as usize).collect();
            let tensor = Tensor::from_vec(values(header.dtype, &bytes), shape, &Device::Cpu)?;
            Ok((header.name, tensor))
        })
        .collect::<Result<_, candle_core::Error>>()
        .map_err(|error| wire_error(&error.into()))?;
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
                Ok(Work::Denoise(request, inputs))
            })())
        }
    }
}
