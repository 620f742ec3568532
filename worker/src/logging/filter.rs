//! Parses `OVIS_WORKER_LOG`, which sets the level of the log.

use std::ffi::OsStr;

use tracing_subscriber::filter::{Directive, EnvFilter, LevelFilter};

/// The environment variable that sets the level.
pub const VARIABLE: &str = "OVIS_WORKER_LOG";

/// The level where the variable does not set one.
const DEFAULT: LevelFilter = LevelFilter::INFO;

/// Parses the variable's value: levels, and levels for single targets, separated by commas.
/// Levels for targets are added to the default. Returns the filter, and a warning if the value
/// is invalid; the filter is then the default.
pub fn parse(value: Option<&OsStr>) -> (EnvFilter, Option<String>) {
    let default = || EnvFilter::default().add_directive(DEFAULT.into());
    let refused = |why: &str| {
        let value = value.unwrap_or_default().to_string_lossy().into_owned();
        let complaint = format!(
            "{VARIABLE} is {}, {why}; logging at {DEFAULT}; use debug, info, warn or error",
            crate::text::quoted(&value),
        );
        (default(), Some(complaint))
    };
    let Some(text) = value.unwrap_or_default().to_str() else {
        return refused("which is not UTF-8 text");
    };
    let mut filter = default();
    for part in text.split(',').map(str::trim).filter(|p| !p.is_empty()) {
        // `EnvFilter` would take any other single word for a target, and silence all others.
        let is_level = part.parse::<LevelFilter>().is_ok();
        if !is_level && !part.contains(['=', '[']) && !part.starts_with("ovis_") {
            return refused("which is not a level");
        }
        match part.parse::<Directive>() {
            Ok(directive) => filter = filter.add_directive(directive),
            Err(_) => return refused("which is not a log filter"),
        }
    }
    (filter, None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(value: &str) -> (String, Option<String>) {
        let (filter, complaint) = parse(Some(OsStr::new(value)));
        (filter.to_string(), complaint)
    }

    #[test]
    fn what_can_be_used_is_used() {
        for (value, expected) in [
            ("", "info"),
            ("  ", "info"),
            (" , ,", "info"),
            ("debug", "debug"),
            ("WARN", "warn"),
            ("off", "off"),
            (" error ", "error"),
            (
                "ovis_worker::server=debug",
                "ovis_worker::server=debug,info",
            ),
            (
                "warn,ovis_worker::jobs=trace",
                "ovis_worker::jobs=trace,warn",
            ),
        ] {
            assert_eq!(told(value), (expected.into(), None), "{value:?}");
        }
        let (filter, complaint) = parse(None);
        assert_eq!((filter.to_string(), complaint), ("info".into(), None));
    }

    #[test]
    fn what_cannot_leaves_the_default_and_is_told() {
        for value in [
            "debgu",
            "ovis_worker=loud",
            "info,nonsense",
            "a=b=c",
            "[",
            "１",
            "\u{1b}",
        ] {
            let (filter, complaint) = told(value);
            assert_eq!(filter, "info", "{value:?}");
            let complaint = complaint.unwrap();
            assert!(complaint.starts_with("OVIS_WORKER_LOG is "), "{complaint}");
            assert!(!complaint.contains('\u{1b}'));
        }
    }
}
