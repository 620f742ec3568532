//! `quantize`: writes a transformer or a text encoder in another precision.

mod args;

use std::io;

pub use self::args::QuantizeArgs;

use self::args::Part;
use super::error::CliError;
use super::out_file::OutFile;
use super::signals;
use crate::checkpoint::{Checkpoint, CheckpointArgs, Conversion, WriteError};
use crate::logging;

/// Percent between two progress reports.
const REPORT_EVERY: u64 = 10;

/// Runs the command: opens the checkpoint, plans the file and writes it.
///
/// # Errors
/// The checkpoint lacks the part, a file cannot be read or written, or a file of that name
/// exists and may not be replaced.
pub fn run(args: &QuantizeArgs) -> Result<(), CliError> {
    signals::exit_on_stop_signal()?;
    args.check_name()?;
    if args.output.exists() && !args.force {
        return Err(CliError::new(
            format!("{} exists", args.output.display()),
            "--force replaces it.",
        ));
    }
    let checkpoint = Checkpoint::open(&CheckpointArgs {
        model: Some(args.input.clone()),
        ..CheckpointArgs::default()
    })?;
    let file = OutFile::check(&args.output, 0)?;
    let conversion = plan(args, &checkpoint)?;
    let (before, after) = (conversion.bytes_before(), conversion.bytes_after());
    logging::say(&format!(
        "{} -> {}: {} to {}",
        args.input.display(),
        file.path().display(),
        gigabytes(before),
        gigabytes(after),
    ));
    for (kind, tensors, bytes) in conversion.types() {
        logging::say(&format!("{kind}: {tensors} tensors, {}", gigabytes(bytes)));
    }
    write(&conversion, &file)?;
    logging::say(&format!("wrote {}", file.path().display()));
    Ok(())
}

/// Plans the file of the part that the arguments name, or of the only or first one there is.
fn plan(args: &QuantizeArgs, checkpoint: &Checkpoint) -> Result<Conversion, CliError> {
    let (transformer, text_encoder) = (&checkpoint.transformer, &checkpoint.text_encoder);
    let target = args.target();
    match (args.part, transformer, text_encoder) {
        (None | Some(Part::Transformer), Some(part), _) => Ok(Conversion::of_transformer(
            part,
            target,
            args.layout.into(),
        )?),
        (None | Some(Part::TextEncoder), _, Some(part)) => {
            let tokenizer = checkpoint.tokenizer.as_ref();
            let tokenizer = tokenizer.map(|files| files.load(checkpoint.embeddings()));
            let tokenizer = tokenizer.transpose()?;
            if tokenizer.is_none() {
                logging::say("no tokenizer was found: the file gets no vocabulary");
            }
            Ok(Conversion::of_text_encoder(
                part,
                target,
                tokenizer.as_ref(),
            )?)
        }
        (part, ..) => Err(CliError::new(
            format!(
                "{} has no {}",
                args.input.display(),
                part.map_or("transformer or text encoder", Part::name)
            ),
            "inspect says what it has.",
        )),
    }
}

/// Writes the file, with a line for every [`REPORT_EVERY`] percent.
fn write(conversion: &Conversion, file: &OutFile) -> Result<(), CliError> {
    let total = conversion.bytes_after().max(1);
    let mut last = 0;
    let mut refusal = None;
    let written = file.write_with(|out| {
        let result = conversion.write(out, |done| {
            let percent = done * 100 / total;
            if percent >= last + REPORT_EVERY {
                last = percent;
                logging::say(&format!("quantizing: {percent} %"));
            }
        });
        result.map_err(|error| match error {
            WriteError::Io(error) => error,
            WriteError::Weights(error) => {
                refusal = Some(error);
                io::ErrorKind::InvalidData.into()
            }
        })
    });
    match refusal {
        Some(refusal) => Err(refusal.into()),
        None => written,
    }
}

fn gigabytes(bytes: u64) -> String {
    match bytes {
        0..1_000_000_000 => format!("{:.1} MB", bytes as f64 / 1e6),
        _ => format!("{:.2} GB", bytes as f64 / 1e9),
    }
}
