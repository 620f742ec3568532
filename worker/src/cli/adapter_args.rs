//! Arguments that apply adapters to the images that are made.

use std::path::Path;
use std::sync::Arc;

use clap::Args;

use super::error::CliError;
use super::lora_args::{LoraArgs, Strictness};
use super::shortcut_args::parse_interval;
use super::values::{number, parsed, ValueError};
use crate::checkpoint::shown;
use crate::logging;
use crate::pipeline::{AdapterStack, FittedAdapter, Pipeline, StackedAdapter};

/// Which adapters to apply, how strongly, and when.
#[derive(Clone, Debug, Args)]
pub struct AdapterArgs {
    #[command(flatten)]
    pub lora: LoraArgs,
    /// Strength of an adapter for the text encoder, if it is another than in --lora. Given once, it
    /// is that of every adapter; given several times, the first is that of the first --lora, and so
    /// on.
    #[arg(
        long,
        value_name = "STRENGTH",
        value_parser = number(),
        allow_hyphen_values = true
    )]
    pub lora_text: Vec<f64>,
    /// Apply an adapter to the transformer only between these two sigmas, the larger first, such as
    /// 1,0.5. Once for every adapter, or once for each.
    #[arg(
        long,
        value_name = "START,END",
        value_parser = parsed(|text: &str| parse_interval(text).map(|at| (at.start, at.end))),
        allow_hyphen_values = true
    )]
    pub lora_sigmas: Vec<(f64, f64)>,
    /// Factors of an adapter's strength for each block of the transformer, double-stream blocks
    /// first, such as 1,1,0,0.5. Once for every adapter, or once for each.
    #[arg(
        long,
        value_name = "W,W,...",
        value_parser = parsed(parse_weights),
        allow_hyphen_values = true
    )]
    pub lora_blocks: Vec<Weights>,
}

/// Weights of blocks.
#[derive(Clone, Debug, PartialEq)]
pub struct Weights(Vec<f64>);

fn parse_weights(text: &str) -> Result<Weights, ValueError> {
    let numbers = text.split(',').map(|number| number.trim().parse());
    let numbers: Result<Vec<f64>, _> = numbers.collect();
    numbers.map(Weights).map_err(|_| ValueError::NotNumbers)
}

impl AdapterArgs {
    /// Checks that each option has one value, or one for each adapter, and that every file is
    /// there.
    ///
    /// # Errors
    /// The option that has another number of values, or the file that is missing.
    pub fn check(&self) -> Result<(), CliError> {
        let count = self.lora.loras.len();
        let given = [
            ("--lora-text", self.lora_text.len()),
            ("--lora-sigmas", self.lora_sigmas.len()),
            ("--lora-blocks", self.lora_blocks.len()),
        ];
        for (option, values) in given {
            if values > 1 && values != count || values > 0 && count == 0 {
                return Err(CliError::new(
                    format!("{option} is given {values} times for {count} adapters"),
                    "Give it once for every --lora, or as often as --lora.",
                ));
            }
        }
        match self.lora.loras.iter().find(|lora| !lora.path.exists()) {
            Some(lora) => Err(CliError::new(
                format!("there is no adapter `{}`", lora.path.display()),
                "Name a safetensors file, or a folder that peft saved.",
            )),
            None => Ok(()),
        }
    }

    /// Opens the adapters for a loaded model.
    ///
    /// # Errors
    /// A file is no adapter, or does not fit the model.
    pub fn open(&self, pipeline: &Pipeline) -> Result<AdapterStack, CliError> {
        let strict = self.lora.lora_strict == Strictness::On;
        let mut stack = Vec::with_capacity(self.lora.loras.len());
        for (place, lora) in self.lora.loras.iter().enumerate() {
            let adapter = pipeline.open_adapter(&lora.path, strict)?;
            report(&lora.path, &adapter);
            let mut stacked = StackedAdapter::new(adapter, lora.strength);
            if let Some(strength) = of_adapter(&self.lora_text, place) {
                stacked.text_encoder = *strength;
            }
            stacked.interval = of_adapter(&self.lora_sigmas, place).copied();
            let weights = of_adapter(&self.lora_blocks, place);
            stacked.blocks = weights.map_or(Vec::new(), |weights| weights.0.clone());
            stack.push(stacked);
        }
        Ok(AdapterStack::new(stack))
    }
}

/// The value of an adapter in a list with one for all or one for each.
fn of_adapter<T>(values: &[T], place: usize) -> Option<&T> {
    match values {
        [all] => Some(all),
        values => values.get(place),
    }
}

/// Says what of an adapter is left out.
fn report(path: &Path, adapter: &Arc<FittedAdapter>) {
    let unused = &adapter.adapter().unused;
    if let Some(first) = unused.first() {
        logging::say(&format!(
            "warning: {} tensors of `{}` fit nothing in the model and are left out, such as `{}`",
            unused.len(),
            path.display(),
            shown(first)
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_numbers_with_commas() {
        let weights = parse_weights("1, 0,-0.5").unwrap();
        assert_eq!(weights, Weights(vec![1.0, 0.0, -0.5]));
        for text in ["", "1,", "1;2"] {
            assert_eq!(parse_weights(text), Err(ValueError::NotNumbers), "{text}");
        }
    }

    #[test]
    fn a_value_is_of_all_adapters_or_of_one() {
        assert_eq!(of_adapter(&[7], 3), Some(&7));
        assert_eq!(of_adapter(&[7, 8], 1), Some(&8));
        assert_eq!(of_adapter::<u8>(&[], 0), None);
    }
}
