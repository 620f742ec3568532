//! `merge`: writes a part of a checkpoint with adapters merged into it, for programs that cannot
//! apply them.

use std::io;
use std::path::PathBuf;

use clap::Args;

use super::error::CliError;
use super::lora_args::{LoraArgs, Strictness};
use super::out_file::OutFile;
use super::{signals, terminal};
use crate::checkpoint::{
    AdaptedModel, Adapter, Change, Checkpoint, CheckpointArgs, MergeError, MergedFile, PartTensors,
};
use crate::logging;

/// What to merge, and where to.
#[derive(Clone, Debug, Args)]
pub struct MergeArgs {
    /// The model in bf16, f16 or f32: a file of the transformer or the text encoder, or anything
    /// else that --model of the other commands takes. Of a checkpoint with both, the transformer
    /// is merged; name the text encoder's file or folder to merge it.
    #[arg(value_name = "IN")]
    pub model: PathBuf,
    /// The safetensors file to write, with the names and types of the tensors in IN.
    #[arg(value_name = "OUT")]
    pub out: PathBuf,
    #[command(flatten)]
    pub lora: LoraArgs,
}

/// The part that is merged.
struct Target<'a> {
    name: &'static str,
    other: &'static str,
    tensors: &'a PartTensors,
    model: AdaptedModel<'a>,
    changes: fn(&Adapter) -> &[Change],
}

/// Runs the command.
///
/// # Errors
/// The model or an adapter cannot be read, an adapter changes nothing in the model, or the file
/// cannot be written.
pub fn run(args: &MergeArgs) -> Result<(), CliError> {
    signals::exit_on_stop_signal()?;
    if args.lora.loras.is_empty() {
        return Err(CliError::new(
            "merge was given no adapter",
            "Name one with --lora FILE or --lora FILE=STRENGTH.",
        ));
    }
    let out = OutFile::check(&args.out, 0)?;
    let checkpoint = Checkpoint::open(&CheckpointArgs {
        model: Some(args.model.clone()),
        ..CheckpointArgs::default()
    })?;
    let target = target(&checkpoint).ok_or_else(|| {
        let reason = format!(
            "`{}` has no part that adapters change",
            args.model.display()
        );
        CliError::new(
            reason,
            "Name a file of the transformer or the text encoder.",
        )
    })?;
    let strict = args.lora.lora_strict == Strictness::On;
    let mut adapters = Vec::with_capacity(args.lora.loras.len());
    for lora in &args.lora.loras {
        let adapter = Adapter::open(&lora.path, target.model, strict)?;
        report(&adapter, &target)?;
        adapters.push((adapter, lora.strength));
    }
    let adapters = adapters.iter();
    let stacks: Vec<_> = adapters
        .map(|(adapter, strength)| ((target.changes)(adapter), *strength))
        .collect();
    let merged = MergedFile::new(target.tensors, &stacks)?;
    let mut refused = None;
    let written = out.write_with(|file| {
        merged.write(file).map_err(|error| match error {
            MergeError::Io(error) => error,
            MergeError::Adapter(error) => {
                refused = Some(CliError::from(error));
                io::ErrorKind::Other.into()
            }
        })
    });
    match refused {
        Some(error) => return Err(error),
        None => written?,
    }
    logging::say(&format!(
        "{} tensors of the {} were changed",
        merged.changed(),
        target.name
    ));
    terminal::print(&out.path().display().to_string())
}

fn target(checkpoint: &Checkpoint) -> Option<Target<'_>> {
    if let Some(part) = &checkpoint.transformer {
        return Some(Target {
            name: "transformer",
            other: "text encoder",
            tensors: &part.tensors,
            model: AdaptedModel {
                transformer: Some(&part.config),
                text_encoder: None,
            },
            changes: |adapter| &adapter.transformer,
        });
    }
    let part = checkpoint.text_encoder.as_ref()?;
    Some(Target {
        name: "text encoder",
        other: "transformer",
        tensors: &part.tensors,
        model: AdaptedModel {
            transformer: None,
            text_encoder: Some(&part.config),
        },
        changes: |adapter| &adapter.text_encoder,
    })
}

/// Says what of an adapter is not merged.
///
/// # Errors
/// Nothing of it is.
fn report(adapter: &Adapter, target: &Target) -> Result<(), CliError> {
    let path = adapter.path.display();
    let Target { name, other, .. } = target;
    if (target.changes)(adapter).is_empty() {
        let reason = format!("the adapter `{path}` changes nothing in the {name}");
        let hint = match adapter.elsewhere {
            0 => String::new(),
            _ => format!("It changes the {other}: name that part's file as IN."),
        };
        return Err(CliError::new(reason, hint));
    }
    if adapter.elsewhere > 0 {
        logging::say(&format!(
            "note: {} tensors of `{path}` change the {other}, which is not merged here",
            adapter.elsewhere
        ));
    }
    if let Some(first) = adapter.unused.first() {
        logging::say(&format!(
            "warning: {} tensors of `{path}` fit nothing in the model and are left out, such as `{}`",
            adapter.unused.len(),
            crate::checkpoint::shown(first)
        ));
    }
    Ok(())
}
