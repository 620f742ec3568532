//! `doctor`: says whether `serve` would work on this machine, and what to do where it would not.
//!
//! - `finding`: one line of the report, and the report
//! - `machine`: the program, the device and the memory
//! - `weights`: the checkpoint's parts, and the precisions in which they fit
//! - `plans`: what budgets of GPU memory mean for the model
//! - `network`: the address and the tokens

mod finding;
mod machine;
mod network;
mod plans;
mod weights;

use clap::Args;

use self::finding::Report;
use super::error::CliError;
use super::listening::ListenArgs;
use super::model_args::{DeviceArgs, ModelArgs};
use super::token_args::TokenArgs;
use super::vram_args::VramArgs;
use super::{runtime, terminal};
use crate::pipeline::{Parameters, Sizes};

/// What `serve` would be given. Weights are not loaded, and nothing is changed.
#[derive(Clone, Debug, Args)]
pub struct DoctorArgs {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    device: DeviceArgs,
    #[command(flatten)]
    vram: VramArgs,
    #[command(flatten)]
    listen: ListenArgs,
    #[command(flatten)]
    token: TokenArgs,
    /// Print the report as JSON.
    #[arg(long)]
    json: bool,
}

/// Looks at everything, prints the report, and fails if `serve` would fail.
///
/// # Errors
/// The report has faults, or standard output cannot be written.
pub fn run(args: &DoctorArgs) -> Result<(), CliError> {
    let mut report = Report::default();
    report.add(machine::program());
    let placement = machine::device(&args.device, &mut report);
    machine::memory(placement.as_ref(), &mut report);
    if let Some(checkpoint) = weights::parts(&args.model, &mut report) {
        if let Some(placement) = &placement {
            weights::precisions(Parameters::of(&checkpoint), placement, &mut report);
        }
        if checkpoint.transformer.is_some() {
            let native = checkpoint.native_size();
            let (sizes, vram) = (Sizes::of(&checkpoint), args.vram.budget());
            plans::plans(&sizes, native, placement.as_ref(), vram, &mut report);
        }
    }
    let runtime = runtime::start()?;
    runtime.block_on(network::address(
        &args.listen.address,
        &args.token,
        &mut report,
    ));
    runtime.shutdown_background();
    match args.json {
        true => terminal::print(&format!("{:#}", report.as_json()))?,
        false => terminal::print(&report.to_string())?,
    }
    match report.faults() {
        0 => Ok(()),
        1 => Err(CliError::new("serve would fail for the fault above", "")),
        n => Err(CliError::new(
            format!("serve would fail for the {n} faults above"),
            "",
        )),
    }
}
