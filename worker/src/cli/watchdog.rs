//! How long an operation of the device may take before it counts as hanging.

use std::time::Duration;

use super::values::{seconds, ValueError};

/// The limit on a GPU unless configured otherwise. The longest operation, a step or a decode of
/// the largest batch, takes less than a minute there.
const ON_A_GPU: Duration = Duration::from_secs(300);

/// The `--watchdog` argument.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Watchdog {
    /// On a GPU only: a CPU does not hang, and a step on a slow one may take an hour.
    Auto,
    /// Never.
    Off,
    /// After so many seconds.
    Seconds(f64),
}

impl Watchdog {
    /// Parses `auto`, `off` or a number of seconds.
    ///
    /// # Errors
    /// The text is none of these.
    pub fn parse(text: &str) -> Result<Self, ValueError> {
        match text.trim() {
            "auto" => Ok(Self::Auto),
            "off" => Ok(Self::Off),
            text => match seconds(text) {
                Ok(seconds) if seconds > 0.0 => Ok(Self::Seconds(seconds)),
                _ => Err(ValueError::NotWatchdog),
            },
        }
    }

    /// The limit for a device, if it is watched.
    pub fn limit(self, is_cpu: bool) -> Option<Duration> {
        match self {
            Self::Auto => (!is_cpu).then_some(ON_A_GPU),
            Self::Off => None,
            Self::Seconds(seconds) => Some(Duration::from_secs_f64(seconds)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_gpu_is_watched_unless_asked() {
        let limit = |text, is_cpu| Watchdog::parse(text).unwrap().limit(is_cpu);
        assert_eq!(limit("auto", true), None);
        assert_eq!(limit("auto", false), Some(ON_A_GPU));
        assert_eq!(limit("off", false), None);
        assert_eq!(limit("2.5", true), Some(Duration::from_millis(2500)));
        for text in ["0", "-1", "soon", "", "NaN", "100000"] {
            assert!(Watchdog::parse(text).is_err(), "{text}");
        }
    }
}
