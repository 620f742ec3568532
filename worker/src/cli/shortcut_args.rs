//! Arguments that trade exactness for time.

use std::fmt;

use clap::{Args, ValueEnum};
use ovis_protocol::{DenoiseRequest, GuidanceInterval, StepCaching};

use super::values::parsed;

/// What may be left out of an image's work.
#[derive(Clone, Debug, Args)]
pub struct ShortcutArgs {
    /// Reuse work of one step in the next: off, or as far as it is safe, or fast.
    #[arg(long, value_enum, default_value = "off")]
    pub cache: Cache,
    /// The sigmas between which guidance is applied, the larger first; all of them
    /// if not given.
    #[arg(long, value_name = "START,END", value_parser = parsed(parse_interval), allow_hyphen_values = true)]
    pub guidance_interval: Option<GuidanceInterval>,
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

/// What follows the other settings of an image in a heading: `, cache safe`, or nothing.
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
    /// As it is written on the command line.
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

fn parse_interval(text: &str) -> Result<GuidanceInterval, String> {
    let sigma = |text: &str| text.trim().parse::<f64>().ok();
    text.split_once(',')
        .and_then(|(start, end)| {
            Some(GuidanceInterval {
                start: sigma(start)?,
                end: sigma(end)?,
            })
        })
        .ok_or_else(|| "it is not two numbers with a comma, such as 0.9,0.2".into())
}
