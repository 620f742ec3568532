//! The commands of the program. Each parses its arguments and calls the library.
//!
//! - `serve`: keeps a model on a device and serves clients; `listening` binds its address,
//!   `runtime` starts its threads
//! - `generate`: makes images in this process; `picture` encodes them, `out_file` writes them
//! - `bench`: measures speed
//! - `inspect`, `inspect_adapter`, `inspect_plan`: describe checkpoint files, adapters, and what a
//!   budget of GPU memory means; `report_text` writes their values
//! - `doctor`: says whether `serve` would work on this machine
//! - `quantize`: writes a part in another precision
//! - `merge`: merges adapters into a checkpoint
//! - `model_args`, `shortcut_args`, `lora_args`, `adapter_args`, `values`: arguments that several
//!   commands share, and the parsers of their values
//! - `vram_args`, `planning`: the budget of GPU memory, and plans for it
//! - `token_args`, `tls_args`: who may connect to `serve`, and with which encryption
//! - `lora_dir_args`: the adapters that clients of `serve` may name
//! - `otlp`: where `serve` delivers the traces of its jobs
//! - `service_manager`: tells systemd how `serve` is doing
//! - `loading`: from a checkpoint's name to a loaded pipeline
//! - `error`, `signals`, `terminal`: how a command ends, and where its output goes

mod adapter_args;
mod also;
mod bench;
mod doctor;
mod error;
mod generate;
mod inspect;
mod inspect_adapter;
mod inspect_plan;
mod keeping_args;
mod listening;
mod loading;
mod lora_args;
mod lora_dir_args;
mod merge;
mod model_args;
mod otlp;
mod out_file;
mod picture;
mod planning;
mod precision;
mod quantize;
mod report_text;
mod runtime;
mod serve;
mod served_models;
mod service_manager;
mod shortcut_args;
mod signals;
mod terminal;
mod tls_args;
mod token_args;
mod values;
mod vram_args;
mod watchdog;

use std::panic::catch_unwind;
use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Parser, Subcommand};

pub use self::error::CliError;

use crate::logging;
use crate::text::excerpt;

/// Most bytes of an argument's value that an error quotes.
const MAX_QUOTED: usize = 200;

/// Most bytes of the message about a command line that cannot be parsed.
const MAX_USAGE: usize = 4 << 10;

/// Exit status when the command line cannot be parsed.
const USAGE: u8 = 2;

/// The command line. Its help begins with the description of the package.
#[derive(Debug, Parser)]
#[command(version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Load a model once and serve ComfyUI clients over a websocket.
    Serve(serve::ServeArgs),
    /// Make images without a server and write them as PNG, JPEG or WebP files.
    Generate(generate::GenerateArgs),
    /// Measure how fast this machine makes images, with the time of each stage.
    Bench(bench::BenchArgs),
    /// Describe checkpoint files or an adapter without loading weights.
    Inspect(inspect::InspectArgs),
    /// Say whether `serve` would work on this machine, and what to do where it would not.
    Doctor(doctor::DoctorArgs),
    /// Write a transformer or text encoder in another precision: as GGUF or as scaled fp8.
    Quantize(quantize::QuantizeArgs),
    /// Merge adapters (LoRA and its relatives) into a model's file, for other programs.
    Merge(merge::MergeArgs),
}

/// Parses the command line, runs the command and returns the exit status.
pub fn main() -> ExitCode {
    // With RUST_BACKTRACE set, libraries append a backtrace to their error messages, which would
    // end up in messages to users. Setting a variable is safe here: no other thread runs yet.
    std::env::set_var("RUST_LIB_BACKTRACE", "0");
    logging::install_panic_hook();
    let status = catch_unwind(run).unwrap_or_else(|_| {
        // The panic hook has reported the panic itself.
        logging::say("hint: This is a defect of ovis-worker; report it with the line above.");
        ExitCode::FAILURE
    });
    logging::flush();
    status
}

fn run() -> ExitCode {
    let result = match Cli::try_parse() {
        Ok(Cli { command }) => match command {
            Command::Serve(args) => serve::run(&args),
            Command::Generate(args) => generate::run(&args),
            Command::Bench(args) => bench::run(&args),
            Command::Inspect(args) => inspect::run(&args),
            Command::Doctor(args) => doctor::run(&args),
            Command::Quantize(args) => quantize::run(&args),
            Command::Merge(args) => merge::run(&args),
        },
        Err(error) => return print_help_or_error(&error),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            error.say();
            ExitCode::from(error.status)
        }
    }
}

/// Handles a command line that clap did not turn into a command: prints the help or the version
/// if it asked for one, else reports the error.
fn print_help_or_error(error: &clap::Error) -> ExitCode {
    let text = error.render();
    if !error.use_stderr() {
        let text = match logging::has_colours(&std::io::stdout()) {
            true => text.ansi().to_string(),
            false => text.to_string(),
        };
        return match terminal::print_own(&text) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                error.say();
                ExitCode::FAILURE
            }
        };
    }
    let context = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.as_str()),
        _ => None,
    };
    let named = (
        context(ContextKind::InvalidArg),
        context(ContextKind::InvalidValue),
    );
    match (error.kind(), named, std::error::Error::source(error)) {
        (ErrorKind::ValueValidation, (Some(argument), Some(value)), Some(why)) => {
            let name = argument.split(' ').next().unwrap_or(argument);
            let value = excerpt(value, MAX_QUOTED);
            CliError::new(
                format!("{name} is `{value}`: {why}"),
                "--help says what each argument takes.",
            )
            .say();
        }
        _ => logging::say_lines(&excerpt(&text.to_string(), MAX_USAGE)),
    }
    ExitCode::from(USAGE)
}
