//! The commands. Each parses its arguments and calls the rooms below.

mod bench;
mod generate;
mod inspect;
mod loading;
mod model_args;
mod png_file;
mod serve;
mod shortcut_args;

use clap::{Parser, Subcommand};

/// A persistent worker for the Ovis-Image text-to-image model.
#[derive(Debug, Parser)]
#[command(version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Keep a model on the device and serve clients on a websocket.
    Serve(serve::ServeArgs),
    /// Make images in this process and write them as PNG files.
    Generate(generate::GenerateArgs),
    /// Measure how fast this machine makes images, stage by stage.
    Bench(bench::BenchArgs),
    /// Say what weights files are, without loading them.
    Inspect(inspect::InspectArgs),
}

/// An error as the commands report it: one sentence, and what to do.
#[derive(Debug)]
pub struct CliError {
    message: String,
    hint: String,
}

impl CliError {
    /// A sentence and a hint, which may be empty.
    pub fn new(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            hint: hint.into(),
        }
    }
}

impl From<String> for CliError {
    fn from(message: String) -> Self {
        Self::new(message, "")
    }
}

impl From<crate::weights::WeightsError> for CliError {
    fn from(error: crate::weights::WeightsError) -> Self {
        Self::new(error.to_string(), error.hint())
    }
}

impl From<crate::pipeline::Error> for CliError {
    fn from(error: crate::pipeline::Error) -> Self {
        let hint = match &error {
            crate::pipeline::Error::Invalid { hint, .. }
            | crate::pipeline::Error::TooLarge { hint, .. } => hint.clone(),
            _ => String::new(),
        };
        Self::new(error.to_string(), hint)
    }
}

/// Runs the command line; the exit status.
pub fn main() -> std::process::ExitCode {
    let result = match Cli::parse().command {
        Command::Serve(args) => serve::run(&args),
        Command::Generate(args) => generate::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::Inspect(args) => inspect::run(&args),
    };
    match result {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", error.message);
            if !error.hint.is_empty() {
                eprintln!("hint: {}", error.hint);
            }
            std::process::ExitCode::FAILURE
        }
    }
}
