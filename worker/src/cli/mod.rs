//! The commands. Each parses its arguments and calls the rooms below.

mod bench;
mod generate;
mod inspect;
mod listening;
mod loading;
mod model_args;
mod out_file;
mod picture;
mod serve;
mod shortcut_args;
mod signals;
mod terminal;
mod values;

use std::panic::catch_unwind;
use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Parser, Subcommand};

use crate::logging;
use crate::text::excerpt;

/// Most bytes of a value that an error quotes.
const MAX_QUOTED: usize = 200;

/// Most bytes of what is said of a command line that cannot be understood.
const MAX_USAGE: usize = 4 << 10;

/// Exit status of a command line that cannot be understood.
const USAGE: u8 = 2;

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
    /// Make images in this process and write them as PNG, JPEG or WebP files.
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
    /// The program's exit status.
    status: u8,
}

impl CliError {
    /// A sentence and a hint, which may be empty.
    pub fn new(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            hint: hint.into(),
            status: 1,
        }
    }

    /// The error with another exit status than 1.
    pub fn with_status(self, status: u8) -> Self {
        Self { status, ..self }
    }

    /// One error of several, none of which kept the others from happening.
    ///
    /// # Errors
    /// There is one.
    pub fn all(errors: Vec<Self>) -> Result<(), Self> {
        let hint = errors.last().map(|error| error.hint.clone());
        let Some(hint) = hint else { return Ok(()) };
        let messages: Vec<_> = errors.into_iter().map(|error| error.message).collect();
        Err(Self::new(messages.join("; "), hint))
    }

    /// Says it on standard error.
    fn say(&self) {
        logging::say(&format!("error: {}", self.message));
        if !self.hint.is_empty() {
            logging::say(&format!("hint: {}", self.hint));
        }
    }
}

impl From<String> for CliError {
    fn from(message: String) -> Self {
        Self::new(message, "")
    }
}

impl From<crate::checkpoint::WeightsError> for CliError {
    fn from(error: crate::checkpoint::WeightsError) -> Self {
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
pub fn main() -> ExitCode {
    // Libraries add a backtrace to the words of their errors where RUST_BACKTRACE asks for
    // it. A person is told what was wrong, not where in the program; no other thread runs yet.
    std::env::set_var("RUST_LIB_BACKTRACE", "0");
    logging::install_panic_hook();
    let status = catch_unwind(run).unwrap_or_else(|_| {
        // The hook has said what happened.
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
        },
        Err(error) => return answer(&error),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            error.say();
            ExitCode::from(error.status)
        }
    }
}

/// Answers a command line that is not a command: with help where that was asked for, or
/// else with what is wrong in it.
fn answer(error: &clap::Error) -> ExitCode {
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
