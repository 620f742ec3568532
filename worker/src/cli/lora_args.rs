//! Arguments that name adapters.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::{Args, ValueEnum};

/// Largest magnitude of a strength. Images are noise long before it.
const MAX_STRENGTH: f64 = 100.0;

/// Which adapters to apply.
#[derive(Clone, Debug, Args)]
pub struct LoraArgs {
    /// An adapter (LoRA, DoRA, LoKr, LoHa, OFT or a full difference) in safetensors, or a folder
    /// that peft saved, with its strength after the last `=`: 1 if there is none. Repeat it to
    /// apply several, one after another.
    #[arg(
        long = "lora",
        value_name = "FILE[=STRENGTH]",
        value_parser = OsStringValueParser::new().try_map(parse_lora)
    )]
    pub loras: Vec<LoraArg>,
    /// `off` leaves out tensors of an adapter that fit nothing in the model, instead of refusing
    /// the adapter.
    #[arg(long, value_enum, default_value_t = Strictness::On, value_name = "on|off")]
    pub lora_strict: Strictness,
}

/// An adapter's file, and its strength.
#[derive(Clone, Debug, PartialEq)]
pub struct LoraArg {
    /// The file or folder.
    pub path: PathBuf,
    /// Factor of its changes.
    pub strength: f64,
}

/// Whether an adapter must fit the model whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Strictness {
    /// Every tensor must change something.
    On,
    /// Tensors that fit nothing are left out.
    Off,
}

/// The value after the last `=` is not a strength.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a strength is a number from -{MAX_STRENGTH} to {MAX_STRENGTH}")]
pub struct NotStrength;

/// Parses `FILE` or `FILE=STRENGTH`. A name with `=` and no number after it is a name.
///
/// # Errors
/// The strength is too large or not a number.
fn parse_lora(value: OsString) -> Result<LoraArg, NotStrength> {
    let parts = value.to_str().and_then(|text| text.rsplit_once('='));
    let parsed = parts.and_then(|(path, text)| Some((path, text.parse::<f64>().ok()?)));
    match parsed {
        Some((path, strength)) if strength.abs() <= MAX_STRENGTH => Ok(LoraArg {
            path: path.into(),
            strength,
        }),
        Some(_) => Err(NotStrength),
        None => Ok(LoraArg {
            path: value.into(),
            strength: 1.0,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_equals_sign_splits() {
        let parsed = |text: &str| parse_lora(text.into()).map(|lora| (lora.path, lora.strength));
        let wanted = |path: &str, strength| Ok((PathBuf::from(path), strength));
        assert_eq!(parsed("a.safetensors"), wanted("a.safetensors", 1.0));
        assert_eq!(parsed("a.safetensors=0.5"), wanted("a.safetensors", 0.5));
        assert_eq!(parsed("a=1=-2"), wanted("a=1", -2.0));
        assert_eq!(parsed("a=b.safetensors"), wanted("a=b.safetensors", 1.0));
        for text in ["a=nan", "a=inf", "a=1e3"] {
            assert_eq!(parsed(text), Err(NotStrength));
        }
    }
}
