//! Arguments that trade exactness for speed.

use std::fmt;

use clap::{Args, ValueEnum};
use ovis_protocol::{DenoiseRequest, SigmaInterval, StepCaching};

use super::values::{parsed, ValueError};

/// Which computations of a denoise run may be skipped.
#[derive(Clone, Debug, Args)]
pub struct ShortcutArgs {
    /// Reuse results of one denoising step in the next where they hardly change. Fast reuses
    /// more than safe; off computes every step in full.
    #[arg(long, value_enum, default_value = "off")]
    pub cache: Cache,
    /// Apply guidance only between these two sigmas, the larger first, such as 0.9,0.2.
    /// Without it, guidance applies to all steps.
    #[arg(long, value_name = "START,END", value_parser = parsed(parse_interval), allow_hyphen_values = true)]
    pub guidance_interval: Option<SigmaInterval>,
}

impl ShortcutArgs {
    /// The request with these shortcuts.
    pub fn applied(&self, request: DenoiseRequest) -> DenoiseRequest {
        DenoiseRequest {
            guided: self.guidance_interval,
            cache: self.cache.into(),
            ..request
        }
    }
}

/// The shortcuts as the end of a heading that lists settings: `, cache safe`. Empty when no
/// shortcut is on.
impl fmt::Display for ShortcutArgs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.cache != Cache::Off {
            write!(f, ", cache {}", self.cache.name())?;
        }
        match self.guidance_interval {
            Some(at) => write!(f, ", guidance from sigma {} to {}", at.start, at.end),
            None => Ok(()),
        }
    }
}

/// The `--cache` argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Cache {
    Off,
    Safe,
    Fast,
}

impl Cache {
    /// The value as the command line spells it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Safe => "safe",
            Self::Fast => "fast",
        }
    }
}

impl From<Cache> for StepCaching {
    fn from(cache: Cache) -> Self {
        match cache {
            Cache::Off => Self::Off,
            Cache::Safe => Self::Safe,
            Cache::Fast => Self::Fast,
        }
    }
}

/// Two sigmas with a comma between them, the larger first.
///
/// # Errors
/// The text is something else.
pub fn parse_interval(text: &str) -> Result<SigmaInterval, ValueError> {
    let sigma = |text: &str| text.trim().parse::<f64>().ok();
    let interval = text.split_once(',').and_then(|(start, end)| {
        Some(SigmaInterval {
            start: sigma(start)?,
            end: sigma(end)?,
        })
    });
    interval.ok_or(ValueError::NotInterval)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_is_two_numbers_with_a_comma() {
        let interval = SigmaInterval {
            start: 0.9,
            end: 0.2,
        };
        for text in ["0.9,0.2", " 0.9 , 0.2 "] {
            assert_eq!(parse_interval(text), Ok(interval));
        }
        for text in ["", "0.9", "0.9;0.2", "0.9,0.2,0.1", "0.9，0.2"] {
            assert_eq!(parse_interval(text), Err(ValueError::NotInterval), "{text}");
        }
    }
}
