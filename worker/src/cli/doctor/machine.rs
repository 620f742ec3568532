//! The program, the device and the memory.

use std::cell::RefCell;

use ovis_protocol::limits::PROTOCOL_VERSION;

use super::finding::{Finding, Report};
use crate::cli::model_args::DeviceArgs;
use crate::nn::{available_memory, describe_paths, device_memory, Placement};
use crate::pipeline::{free_host_memory, shown_bytes};
use crate::text::first_line;

/// The program's version, and whether it can use GPUs.
pub fn program() -> Finding {
    let gpus = match cfg!(feature = "cuda") {
        true => "with",
        false => "without",
    };
    Finding::good(
        "program",
        format!(
            "ovis-worker {} for protocol {PROTOCOL_VERSION}, built {gpus} GPU support",
            env!("CARGO_PKG_VERSION")
        ),
    )
}

/// The device that `serve` would use, and what it computes with. `None` if there is none.
pub fn device(args: &DeviceArgs, report: &mut Report) -> Option<Placement> {
    let said = RefCell::new(String::new());
    let placement = match args.placement(|line| line.clone_into(&mut said.borrow_mut())) {
        Ok(placement) => placement,
        Err(error) => {
            report.add(Finding::fault("device", error));
            return None;
        }
    };
    let found = format!("{} as {}", placement.device_name(), placement.precision());
    report.add(match said.into_inner() {
        told if told.is_empty() => Finding::good("device", found),
        told => Finding::note("device", found, told),
    });
    match describe_paths(&placement) {
        Ok(text) => report.add(Finding::good("arithmetic", text)),
        Err(error) => report.add(Finding::note("arithmetic", first_line(&error), "")),
    }
    Some(placement)
}

/// What is free of the GPU's and of the host's memory.
pub fn memory(placement: Option<&Placement>, report: &mut Report) {
    if let Some(Placement { device, .. }) = placement.filter(|p| !p.device.is_cpu()) {
        let (used, total) = device_memory(device);
        let free = available_memory(device).unwrap_or(total.saturating_sub(used));
        report.add(Finding::good(
            "GPU memory",
            format!("{} of {} is free", shown_bytes(free), shown_bytes(total)),
        ));
    }
    report.add(match free_host_memory() {
        Some(free) => Finding::good("memory", format!("{} is free", shown_bytes(free))),
        None => Finding::note("memory", "the system does not tell how much is free", ""),
    });
}
