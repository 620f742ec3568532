//! `bench`: measures how fast this machine makes images, stage by stage, and compares that with
//! the machine's peak throughput.
//!
//! The images are made by the worker's own server for a client in the same process, so the
//! figures include everything that a ComfyUI user waits for.
//!
//! - `source`: where the model comes from; `timed`: the model with a stopwatch
//! - `client`, `images`: one image as a client makes it
//! - `ceilings`: the operations of a forward pass, and the machine's peak throughput
//! - `parts`: the time of each operation of a forward pass
//! - `memory`: peak memory; `report`: the output
//! - `vram`: runs within several budgets of GPU memory, side by side

mod args;
mod ceilings;
mod client;
mod images;
mod memory;
mod parts;
mod report;
mod source;
mod timed;
mod vram;

use std::net::SocketAddr;
use std::sync::mpsc;
use std::time::Instant;

use tokio::net::TcpListener;
use tokio::sync::oneshot;

pub use self::args::BenchArgs;

use self::args::TEXT_POSITIONS;
use self::ceilings::{Ceilings, Work};
use self::client::Client;
use self::memory::Peak;
use self::report::{Report, Times};
use self::source::Source;
use self::timed::{Clock, Timed};
use super::error::CliError;
use super::planning::Goal;
use super::{loading, runtime, terminal};
use crate::device::{self, DEFAULT_MODEL};
use crate::jobs::{Jobs, Limits};
use crate::logging;
use crate::nn::{pool_memory, Placement};
use crate::pipeline::{MemoryReport, Target, SIZE_MULTIPLE};
use crate::server;

/// Runs the command: loads the model, makes the images and prints the figures.
///
/// # Errors
/// An argument is out of range, the model cannot be loaded or does not fit, or the device fails.
pub fn run(args: &BenchArgs) -> Result<(), CliError> {
    let vram = match args.vram[..] {
        [] => None,
        [budget] => Some(budget),
        ref budgets => return vram::compare(args, budgets),
    };
    let placement = args.device.placement(logging::say)?;
    let peak = Peak::watch(&placement.device);
    let source = Source::open(args.random_weights, &args.model)?;
    let native = source.native_size();
    let size = (args.width.unwrap_or(native), args.height.unwrap_or(native));
    crate::pipeline::check_request(&args.request(), 1, size)?;
    let config = source.transformer()?;
    let image_tokens = size.0 / SIZE_MULTIPLE * (size.1 / SIZE_MULTIPLE);
    let tokens = (TEXT_POSITIONS, image_tokens);

    let clock = Clock::default();
    let target = Target {
        is_guided: args.cfg != 1.0,
        ..Target::image(size.0, size.1)
    };
    let goal = Goal {
        vram,
        target,
        link: args.link,
    };
    let (jobs, start) = start_device(source, &placement, goal, clock.clone())?;
    let model = jobs.capabilities().model.clone();
    let runtime = runtime::start()?;
    let (stop, stopped) = oneshot::channel::<()>();
    let (server, times) = runtime
        .block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await?;
            let address = listener.local_addr()?;
            let channels = u64::from(jobs.capabilities().latent_channels);
            let shape = [channels, size.1 as u64, size.0 as u64];
            let shutdown = async { drop(stopped.await) };
            let options = server::Options::default();
            let server = tokio::spawn(server::serve(listener, jobs, options, shutdown));
            Ok((server, make_images(args, address, &clock, shape).await))
        })
        .map_err(|e: std::io::Error| {
            CliError::new(
                format!("this machine's own network cannot be used: {e}"),
                "",
            )
        })?;
    let times = times?;
    let report = Report {
        model,
        device: placement.device_name(),
        precision: placement.precision(),
        paths: start.paths,
        size,
        steps: args.steps,
        cfg: args.cfg,
        shortcuts: args.shortcuts.clone(),
        load_seconds: start.load,
        warm_up_seconds: start.warm_up,
        peak_bytes: peak.bytes(),
        pool: pool_memory(&placement.device),
        memory: start.memory,
        forward: Work::of_forward(&config, tokens),
        answered_forward: Work::of_answered_forward(&config, tokens),
        // Measured last, while the device is idle.
        ceilings: Ceilings::measure(&config, tokens.0 + tokens.1, &placement)
            .map_err(crate::pipeline::Error::from)?,
        parts: match args.parts {
            true => parts::measure(&config, tokens, &placement),
            false => Ok(Vec::new()),
        }
        .map_err(crate::pipeline::Error::from)?,
        times,
    };
    drop(stop);
    let ended = runtime.block_on(server);
    ended
        .map_err(|e| CliError::new(format!("the server has ended unexpectedly: {e}"), ""))?
        .map_err(|e| CliError::new(e.to_string(), ""))?;
    match args.json {
        true => terminal::print(&format!("{:#}", report.json())),
        false => terminal::print(&report.to_string()),
    }
}

/// Makes the warm-up images and the measured ones, one after the other. `shape` is latent
/// channels, height and width. Returns the times of the measured images.
async fn make_images(
    args: &BenchArgs,
    address: SocketAddr,
    clock: &Clock,
    shape: [u64; 3],
) -> Result<Times, CliError> {
    let mut client = Client::connect(address).await?;
    let mut times = Times::default();
    for image in 0..args.warmup + args.repeats {
        let mut one = images::make(args, &mut client, clock, shape).await?;
        logging::say(&format!("image {}: {:.3} s", image + 1, one.image[0]));
        if image == 0 {
            times.first_image = one.first_image;
        }
        if image >= args.warmup {
            times.append(&mut one);
        }
    }
    Ok(times)
}

/// How long the start took.
struct Start {
    /// Seconds to load the model.
    load: f64,
    /// Seconds to warm it up, as `serve` does before it is ready.
    warm_up: f64,
    /// The kernels and libraries it computes with, in words.
    paths: String,
    /// The plan within the budget of GPU memory.
    memory: Option<MemoryReport>,
}

/// Loads and warms up the model as `serve` does, on the thread that owns the device.
fn start_device(
    source: Source,
    placement: &Placement,
    goal: Goal,
    clock: Clock,
) -> Result<(Jobs, Start), CliError> {
    let placement = placement.clone();
    let (tell, told) = mpsc::channel();
    let jobs = device::start(Limits::default(), DEFAULT_MODEL, move || {
        let begun = Instant::now();
        let pipeline = source.load(&placement, &goal)?;
        pipeline.throttle_streaming(goal.link)?;
        let load = begun.elapsed().as_secs_f64();
        let begun = Instant::now();
        pipeline.warm_up()?;
        let warm_up = begun.elapsed().as_secs_f64();
        // The receiver is below, and waits.
        let _ = tell.send(Start {
            load,
            warm_up,
            paths: loading::paths(&pipeline)?,
            memory: pipeline.memory_report().cloned(),
        });
        Ok::<_, CliError>(Timed { pipeline, clock })
    })?;
    let start = told.recv().map_err(|e| CliError::new(e.to_string(), ""))?;
    Ok((jobs, start))
}
