//! Checks the adapters that a job applies, before its bytes arrive.

use ovis_protocol::limits::{
    MAX_ADAPTERS, MAX_ADAPTER_NAME_BYTES, MAX_ADAPTER_STRENGTH, MAX_BLOCK_WEIGHTS,
};
use ovis_protocol::{
    is_adapter_name, shown, AdapterUse, ErrorCode, Request, SigmaInterval, WireError,
};

use crate::jobs::wire_error;
use crate::pipeline::AdapterLibrary;

/// Checks the adapters of a request.
///
/// # Errors
/// `InvalidRequest` about the first value that exceeds a limit.
pub fn check(request: &Request) -> Result<(), WireError> {
    let adapters = named(request);
    if adapters.len() > MAX_ADAPTERS {
        return Err(invalid(
            format!(
                "The job applies {} adapters, the most is {MAX_ADAPTERS}.",
                adapters.len()
            ),
            "Merge some of them into one file.",
        ));
    }
    adapters.iter().try_for_each(check_one)
}

/// The adapters that a request names.
fn named(request: &Request) -> &[AdapterUse] {
    match request {
        Request::Encode(request) => &request.adapters,
        Request::Denoise(request) => &request.adapters,
        Request::Decode | Request::VaeEncode => &[],
    }
}

/// Checks that the worker has the adapters of a request, with the contents that the request wants,
/// and that they fit the model. Files that it does not know yet are read, so this blocks.
///
/// # Errors
/// `Unsupported` without a library; `MissingModel` if an adapter is missing or has other
/// contents; `InvalidRequest` if it does not fit.
pub fn find(request: &Request, library: Option<&AdapterLibrary>) -> Result<(), WireError> {
    named(request).iter().try_for_each(|adapter| match library {
        Some(library) => library.find(adapter).map(drop).map_err(|e| wire_error(&e)),
        None => Err(WireError::new(
            ErrorCode::Unsupported,
            format!(
                "This worker cannot apply the adapter `{}`, nor any other.",
                shown(&adapter.name)
            ),
            "Remove the adapters from the job, or update the worker.",
        )),
    })
}

fn invalid(message: String, hint: &str) -> WireError {
    WireError::new(ErrorCode::InvalidRequest, message, hint)
}

fn check_one(adapter: &AdapterUse) -> Result<(), WireError> {
    let name = shown(&adapter.name);
    if !is_adapter_name(&adapter.name) {
        return Err(invalid(
            format!("`{name}` is not an adapter's name."),
            &format!(
                "A name is the path below the folder of adapters, with `/` between its parts and at \
                 most {MAX_ADAPTER_NAME_BYTES} bytes."
            ),
        ));
    }
    let range = -MAX_ADAPTER_STRENGTH..=MAX_ADAPTER_STRENGTH;
    let is_out = |strength: &f64| !range.contains(strength);
    if let Some(strength) = [adapter.transformer, adapter.text_encoder]
        .iter()
        .find(|strength| is_out(strength))
    {
        return Err(invalid(
            format!(
                "The strength {strength} of the adapter `{name}` is outside \
                 {:?} to {MAX_ADAPTER_STRENGTH:?}.",
                -MAX_ADAPTER_STRENGTH
            ),
            "1 applies the adapter as it was trained, 0 not at all.",
        ));
    }
    if let Some(SigmaInterval { start, end }) = adapter.interval {
        if !(0.0 <= end && end <= start && start <= 1.0) {
            return Err(invalid(
                format!("The adapter `{name}` applies from sigma {start} to {end}, which is not a part of 1 to 0."),
                "Give the larger sigma first.",
            ));
        }
    }
    if adapter.blocks.len() > MAX_BLOCK_WEIGHTS {
        return Err(invalid(
            format!(
                "The adapter `{name}` has {} block weights, the most is {MAX_BLOCK_WEIGHTS}.",
                adapter.blocks.len()
            ),
            "Give one for each block of the transformer, or none.",
        ));
    }
    match adapter.blocks.iter().find(|weight| is_out(weight)) {
        Some(weight) => Err(invalid(
            format!(
                "The block weight {weight} of the adapter `{name}` is outside \
                 {:?} to {MAX_ADAPTER_STRENGTH:?}.",
                -MAX_ADAPTER_STRENGTH
            ),
            "1 leaves the strength as it is.",
        )),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::AdaptedCheckpoint;
    use ovis_protocol::{DenoiseRequest, EncodeRequest};

    fn code(adapters: Vec<AdapterUse>) -> ErrorCode {
        let denoise = Request::Denoise(Box::new(DenoiseRequest {
            adapters: adapters.clone(),
            ..DenoiseRequest::new(1, 2, 1.0)
        }));
        let encode = Request::Encode(EncodeRequest {
            prompts: vec!["a".into()],
            max_sequence_length: 256,
            adapters,
        });
        let error = check(&denoise).unwrap_err();
        assert_eq!(check(&encode).unwrap_err(), error);
        assert!(
            error.message.ends_with('.') && error.message.len() < 400,
            "{error}"
        );
        error.code
    }

    fn one() -> AdapterUse {
        AdapterUse::new("a.safetensors", 1.0)
    }

    #[test]
    fn a_job_without_adapters_passes() {
        assert_eq!(check(&Request::Decode), Ok(()));
        let denoise = DenoiseRequest::new(1, 2, 1.0);
        assert_eq!(check(&Request::Denoise(Box::new(denoise))), Ok(()));
    }

    #[test]
    fn adapters_within_the_limits_need_a_library() {
        let interval = |start, end| AdapterUse {
            interval: Some(SigmaInterval { start, end }),
            ..one()
        };
        let most = AdapterUse {
            hash: Some([1; 32]),
            transformer: -100.0,
            text_encoder: 100.0,
            blocks: vec![-100.0; MAX_BLOCK_WEIGHTS],
            ..AdapterUse::new("x".repeat(255), 0.0)
        };
        for adapters in [
            vec![one(); MAX_ADAPTERS],
            vec![interval(1.0, 0.0), interval(0.5, 0.5)],
            vec![most],
        ] {
            let request = Request::Denoise(Box::new(DenoiseRequest {
                adapters,
                ..DenoiseRequest::new(1, 2, 1.0)
            }));
            assert_eq!(check(&request), Ok(()));
            assert_eq!(
                find(&request, None).unwrap_err().code,
                ErrorCode::Unsupported
            );
            let library = AdapterLibrary::new(Vec::new(), AdaptedCheckpoint::default(), true);
            let error = find(&request, Some(&library)).unwrap_err();
            assert_eq!(error.code, ErrorCode::MissingModel);
            assert!(error.message.starts_with("missing adapter: `"), "{error}");
            assert!(error.hint.contains("--lora-dir"), "{error}");
        }
    }

    #[test]
    fn values_beyond_the_limits_are_invalid() {
        let named = |name: &str| AdapterUse::new(name, 1.0);
        let interval = |start, end| AdapterUse {
            interval: Some(SigmaInterval { start, end }),
            ..one()
        };
        let strong = |transformer, text_encoder| AdapterUse {
            transformer,
            text_encoder,
            ..one()
        };
        let blocks = |blocks: Vec<f64>| AdapterUse { blocks, ..one() };
        assert_eq!(
            code(vec![one(); MAX_ADAPTERS + 1]),
            ErrorCode::InvalidRequest
        );
        for adapter in [
            named(""),
            named("../a"),
            named(&"x".repeat(256)),
            named(&"\u{202e}".repeat(200)),
            strong(f64::NAN, 1.0),
            strong(1.0, f64::INFINITY),
            strong(100.5, 1.0),
            strong(1.0, -1e300),
            interval(0.0, 0.5),
            interval(1.5, 0.5),
            interval(f64::NAN, 0.0),
            blocks(vec![f64::NAN]),
            blocks(vec![1.0; MAX_BLOCK_WEIGHTS + 1]),
        ] {
            assert_eq!(code(vec![one(), adapter]), ErrorCode::InvalidRequest);
        }
    }
}
