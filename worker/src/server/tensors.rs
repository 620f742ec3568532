//! Which tensors each operation takes: everything that can be checked at `Submit`, before any
//! bytes arrive.

use ovis_protocol::limits::{MAX_PROMPTS, MAX_PROMPT_BYTES};
use ovis_protocol::{shown, Capabilities, DType, ErrorCode, Request, TensorHeader, WireError};

use super::adapters;
use crate::jobs::wire_error;
use crate::pipeline::{check_length, check_request, Ask};

fn invalid(message: impl Into<String>, hint: &str) -> WireError {
    WireError::new(ErrorCode::InvalidRequest, message, hint)
}

/// Names of the tensors that a request must have, and of those it may have.
fn names(request: &Request) -> (&'static [&'static str], &'static [&'static str]) {
    match request {
        Request::Encode(_) => (&[], &[]),
        Request::Denoise(r) if r.cfg == 1.0 => (
            &["positive", "latent"],
            &["negative", "noise_mask", "state"],
        ),
        Request::Denoise(_) => (
            &["positive", "negative", "latent"],
            &["noise_mask", "state"],
        ),
        Request::Decode => (&["latent"], &[]),
        Request::VaeEncode => (&["image"], &[]),
    }
}

/// Checks a request and the headers of its tensors against what the worker can do.
///
/// # Errors
/// `MissingModel` if the checkpoint lacks the operation's part; otherwise `InvalidRequest`,
/// about the first value, tensor or shape that is wrong.
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
    adapters::check(request)?;
    let (required, optional) = names(request);
    for (i, header) in headers.iter().enumerate() {
        let name = header.name.as_str();
        if !required.contains(&name) && !optional.contains(&name) {
            return Err(invalid(
                format!("A {operation} job takes no tensor `{}`.", shown(name)),
                "",
            ));
        }
        if headers[..i].iter().any(|other| other.name == name) {
            return Err(invalid(format!("The tensor `{name}` is there twice."), ""));
        }
        if header.dtype == DType::U8 && !["image", "state"].contains(&name) {
            return Err(invalid(
                format!("The tensor `{name}` has the type U8, only an image may."),
                "Send it as F32, F16 or BF16.",
            ));
        }
        if name == "state" && (header.dtype != DType::U8 || header.shape.len() != 1) {
            return Err(invalid(
                "The tensor `state` is not one row of U8.",
                "Send a state as the bytes that came from the worker.",
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
            let side = |side: u64| {
                usize::try_from(side)
                    .unwrap_or(usize::MAX)
                    .saturating_mul(8)
            };
            let size = (side(width), side(height));
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
                _ => check_length(r.max_sequence_length as usize).map_err(|e| wire_error(&e)),
            }
        }
        Request::Denoise(r) if !can.samplers.contains(&r.sampler) => Err(invalid(
            format!("This worker has no sampler `{}`.", shown(&r.sampler)),
            &format!("It has: {}.", can.samplers.join(", ")),
        )),
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
                shown(&header.name),
                header.shape
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
    let multiple = u64::from(can.size_multiple).max(1);
    let latent = headers.iter().find(|header| header.name == "latent");
    if let Some(header) = latent {
        match header.shape[..] {
            [b, c, h, w] if c == channels => {
                let pixels = product(&[b, h, w, 64]);
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
                [b, h, w, 3] if product(&[b, h, w]) > can.max_pixels => {
                    return Err(too_large(product(&[b, h, w])));
                }
                [_, h, w, 3] if h % multiple == 0 && w % multiple == 0 => {}
                [_, h, w, 3] => {
                    return Err(invalid(
                        format!(
                            "An image of {w} x {h} pixels is not a multiple of {multiple} both ways."
                        ),
                        &format!("Crop or resize it to multiples of {multiple}."),
                    ));
                }
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

/// The shapes of a [checked](check) request, which its memory follows from.
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
            adapters: &request.adapters,
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

/// Bytes of the state that a job goes on from.
pub fn state_bytes(headers: &[TensorHeader]) -> u64 {
    let state = headers.iter().find(|header| header.name == "state");
    state.map_or(0, |header| product(&header.shape))
}

/// The product, or the largest `u64` where it overflows.
fn product(factors: &[u64]) -> u64 {
    factors
        .iter()
        .fold(1, |n, &factor| n.saturating_mul(factor))
}

/// The batch sizes that go with a batch of `batch` entries.
fn one_or(batch: u64) -> String {
    match batch {
        1 => "1".into(),
        n => format!("1 or {n}"),
    }
}
