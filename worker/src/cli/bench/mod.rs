//! `bench`: how fast this machine makes images, stage by stage, and how near that is to
//! what it can do at all.

mod ceilings;
mod client;
mod images;
mod memory;
mod parts;
mod report;
mod source;
mod timed;

use std::net::SocketAddr;
use std::sync::mpsc;
use std::time::Instant;

use clap::Args;
use ovis_protocol::DenoiseRequest;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use self::ceilings::{Ceilings, Work};
use self::client::Client;
use self::memory::Peak;
use self::report::{Report, Times};
use self::source::{Named, Source};
use self::timed::{Clock, Timed};
use super::generate::MAX_SIDE;
use super::model_args::{DeviceArgs, ModelArgs};
use super::shortcut_args::ShortcutArgs;
use super::values::{number, whole, whole_within};
use super::{loading, serve, terminal, CliError};
use crate::device::{self, DEFAULT_MODEL};
use crate::jobs::{Jobs, Limits};
use crate::logging;
use crate::nn::Placement;
use crate::server;

/// Positions of a conditioning, as the reference pads it.
const TEXT_POSITIONS: usize = 256;

/// Most images of one run, and most before them.
const MAX_IMAGES: u32 = 100_000;

/// What to measure.
#[derive(Clone, Debug, Args)]
pub struct BenchArgs {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    device: DeviceArgs,
    /// Weights made up on the device instead of a checkpoint's.
    #[arg(long, value_enum, value_name = "GEOMETRY", conflicts_with = "model")]
    random_weights: Option<Named>,
    /// Width in pixels; the model's native size if not given.
    #[arg(long, value_name = "W", value_parser = whole_within(16, MAX_SIDE), allow_hyphen_values = true)]
    width: Option<usize>,
    /// Height in pixels; the model's native size if not given.
    #[arg(long, value_name = "H", value_parser = whole_within(16, MAX_SIDE), allow_hyphen_values = true)]
    height: Option<usize>,
    /// Denoising steps of an image, 1 to 1000.
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = whole::<u32>(), allow_hyphen_values = true)]
    steps: u32,
    /// Guidance scale; 1 is one forward a step instead of two.
    #[arg(long, value_name = "X", default_value_t = 5.0, value_parser = number(), allow_hyphen_values = true)]
    cfg: f64,
    #[command(flatten)]
    shortcuts: ShortcutArgs,
    /// Images that count.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = whole_within(1, MAX_IMAGES), allow_hyphen_values = true)]
    repeats: u32,
    /// Images before them, which do not.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = whole_within(0, MAX_IMAGES), allow_hyphen_values = true)]
    warmup: u32,
    /// Also measure each operation of the transformer alone.
    #[arg(long)]
    parts: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Runs the command.
///
/// # Errors
/// An argument, a file or the device is at fault.
pub fn run(args: &BenchArgs) -> Result<(), CliError> {
    let placement = args.device.placement()?;
    let peak = Peak::watch(&placement.device);
    let source = Source::open(args.random_weights, &args.model)?;
    let native = source.native_size();
    let size = (args.width.unwrap_or(native), args.height.unwrap_or(native));
    crate::pipeline::check_request(&request(args), 1, size)?;
    let config = source.transformer()?;
    let tokens = (TEXT_POSITIONS, size.0 / 16 * (size.1 / 16));

    let clock = Clock::default();
    let (jobs, start) = start_device(source, &placement, clock.clone())?;
    let model = jobs.capabilities().model.clone();
    let runtime = serve::runtime()?;
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
        .map_err(|e: std::io::Error| format!("this machine's own network cannot be used: {e}"))?;
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
        forward: Work::of_forward(&config, tokens),
        answered_forward: Work::of_answered_forward(&config, tokens),
        // The device's thread only waits by now.
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
        .map_err(|e| format!("the server has ended unexpectedly: {e}"))?
        .map_err(|e| CliError::new(e.to_string(), ""))?;
    match args.json {
        true => terminal::print(&format!("{:#}", report.json())),
        false => terminal::print(&report.to_string()),
    }
}

fn request(args: &BenchArgs) -> DenoiseRequest {
    args.shortcuts
        .applied(DenoiseRequest::new(0, args.steps, args.cfg))
}

/// The images of `shape` `[channels of the latent, height, width]`, one after the other.
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

/// What a worker's start took.
struct Start {
    /// Seconds to load the model.
    load: f64,
    /// Seconds of what `serve` then does before it is ready.
    warm_up: f64,
    /// What it computes with.
    paths: String,
}

/// Loads the model as `serve` does, on the thread that will compute.
fn start_device(
    source: Source,
    placement: &Placement,
    clock: Clock,
) -> Result<(Jobs, Start), CliError> {
    let placement = placement.clone();
    let (tell, told) = mpsc::channel();
    let jobs = device::start(Limits::default(), DEFAULT_MODEL, move || {
        let begun = Instant::now();
        let pipeline = source.load(&placement)?;
        let load = begun.elapsed().as_secs_f64();
        let begun = Instant::now();
        pipeline.warm_up()?;
        let warm_up = begun.elapsed().as_secs_f64();
        // The other end waits below.
        let _ = tell.send(Start {
            load,
            warm_up,
            paths: loading::paths(&pipeline)?,
        });
        Ok::<_, CliError>(Timed { pipeline, clock })
    })?;
    let start = told.recv().map_err(|e| e.to_string())?;
    Ok((jobs, start))
}
