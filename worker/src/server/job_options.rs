//! Checks how a job asks to be run.

use ovis_protocol::limits::MAX_TRACE_BYTES;
use ovis_protocol::{ErrorCode, JobOptions, WireError};

/// Checks a job's options.
///
/// # Errors
/// `InvalidRequest` if the deadline or an interval is no positive number of seconds, or the
/// trace is no W3C `traceparent`.
pub fn check(options: &JobOptions) -> Result<(), WireError> {
    let invalid =
        |message: String, hint: &str| Err(WireError::new(ErrorCode::InvalidRequest, message, hint));
    if let Some(seconds) = options.deadline {
        if !(seconds.is_finite() && seconds > 0.0) {
            return invalid(
                format!("The job's deadline of {seconds} seconds is no positive number."),
                "Give the seconds from now after which the result is of no use, or no deadline.",
            );
        }
    }
    if let Some(interval) = options.state {
        if !(interval.seconds.is_finite() && interval.seconds >= 0.0) {
            return invalid(
                format!(
                    "The interval of {} seconds between states is not 0 or a positive number.",
                    interval.seconds
                ),
                "Give a number of seconds, or 0 for none.",
            );
        }
    }
    match &options.trace {
        Some(trace) if trace.len() > MAX_TRACE_BYTES || !is_traceparent(trace) => invalid(
            "The job's trace is not a W3C traceparent.".into(),
            "It has the form 00-(32 hexadecimal digits)-(16 hexadecimal digits)-(2 hexadecimal \
             digits).",
        ),
        _ => Ok(()),
    }
}

/// Whether a text is a `traceparent` (W3C Trace Context, section 3.2), of version 00 or a later
/// one, which may have more fields.
fn is_traceparent(text: &str) -> bool {
    let mut fields = text.split('-');
    let mut is_hex = |digits: usize| {
        fields.next().is_some_and(|field| {
            let is_digit = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
            field.len() == digits && field.bytes().all(is_digit)
        })
    };
    let is_version = is_hex(2) && !text.starts_with("ff");
    is_version && is_hex(32) && is_hex(16) && is_hex(2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ovis_protocol::StateInterval;

    #[test]
    fn values_out_of_range_are_refused() {
        let default = JobOptions::default;
        assert!(check(&default()).is_ok());
        let state = |seconds| JobOptions {
            state: Some(StateInterval { steps: 1, seconds }),
            ..default()
        };
        let trace = |text: &str| JobOptions {
            trace: Some(text.into()),
            ..default()
        };
        let deadline = |seconds| JobOptions {
            deadline: Some(seconds),
            ..default()
        };
        let good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        for options in [deadline(0.1), state(0.0), state(15.0), trace(good)] {
            assert!(check(&options).is_ok(), "{options:?}");
        }
        for options in [
            deadline(0.0),
            deadline(-1.0),
            deadline(f64::NAN),
            deadline(f64::INFINITY),
            state(-1.0),
            state(f64::NAN),
            trace(""),
            trace("x"),
            trace(&good.to_uppercase()),
            trace(&good.replacen("00", "ff", 1)),
            trace(&good[..54]),
            trace(&format!("{good}-{}", "0".repeat(MAX_TRACE_BYTES))),
        ] {
            let error = check(&options).unwrap_err();
            assert_eq!(error.code, ErrorCode::InvalidRequest, "{options:?}");
        }
    }
}
