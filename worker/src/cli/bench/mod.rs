//! `bench`: how fast this machine makes images, stage by stage, and how near that is to
//! what it can do at all.

mod ceilings;
mod memory;
mod parts;
mod report;

use std::time::Instant;

use clap::{Args, ValueEnum};
use ovis_protocol::DenoiseRequest;

use self::ceilings::{Ceilings, Work};
use self::memory::Peak;
use self::report::{Report, Times};
use super::model_args::{DeviceArgs, ModelArgs};
use super::shortcut_args::ShortcutArgs;
use super::{loading, CliError};
use crate::pipeline::{DenoiseInputs, Geometry, Latent, Pipeline};

/// Tokens of the prompt that is encoded, the template's included: that of a poster.
const PROMPT_TOKENS: usize = 28 + 80;

/// Positions of a conditioning, as the reference pads it.
const TEXT_POSITIONS: usize = 256;

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
    #[arg(long, value_name = "W")]
    width: Option<usize>,
    /// Height in pixels; the model's native size if not given.
    #[arg(long, value_name = "H")]
    height: Option<usize>,
    /// Denoising steps of an image.
    #[arg(long, value_name = "N", default_value_t = 50)]
    steps: u32,
    /// Guidance scale; 1 is one forward a step instead of two.
    #[arg(long, value_name = "X", default_value_t = 5.0)]
    cfg: f64,
    #[command(flatten)]
    shortcuts: ShortcutArgs,
    /// Images that count.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    repeats: u32,
    /// Images before them, which do not.
    #[arg(long, value_name = "N", default_value_t = 1)]
    warmup: u32,
    /// Also measure each operation of the transformer alone.
    #[arg(long)]
    parts: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Geometries that can be had without a checkpoint.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Named {
    /// Ovis-Image-7B: 11 billion weights.
    #[value(name = "ovis-image-7b")]
    OvisImage7b,
}

/// Runs the command.
///
/// # Errors
/// An argument, a file or the device is at fault.
pub fn run(args: &BenchArgs) -> Result<(), CliError> {
    let placement = args.device.placement()?;
    let peak = Peak::watch(&placement.device);
    let started = Instant::now();
    let (pipeline, native) = match args.random_weights {
        Some(Named::OvisImage7b) => {
            let geometry = Geometry::ovis_image_7b();
            let name = "ovis-image-7b, random weights";
            let native = geometry.vae.native_size;
            (geometry.with_random_weights(name, &placement)?, native)
        }
        None => {
            let checkpoint = loading::open_whole(&args.model)?;
            let native = checkpoint.native_size();
            let pipeline = loading::load(&checkpoint, &placement, |line| eprintln!("{line}"))?;
            (pipeline, native)
        }
    };
    let load = started.elapsed();
    let started = Instant::now();
    pipeline.warm_up()?;
    let warm_up = started.elapsed();
    let size = (args.width.unwrap_or(native), args.height.unwrap_or(native));
    crate::pipeline::check_request(&request(args), 1, size)?;
    let mut times = Times::default();
    for image in 0..args.warmup + args.repeats {
        let mut one = make_image(args, &pipeline, size)?;
        eprintln!("image {}: {:.3} s", image + 1, one.image[0]);
        if image == 0 {
            times.first_image = one.image[0];
        }
        if image >= args.warmup {
            times.append(&mut one);
        }
    }
    let config = pipeline.denoiser()?.config();
    let tokens = (TEXT_POSITIONS, size.0 / 16 * (size.1 / 16));
    let report = Report {
        model: pipeline.name().to_owned(),
        device: placement.device_name(),
        precision: placement.precision(),
        size,
        steps: args.steps,
        cfg: args.cfg,
        shortcuts: args.shortcuts.clone(),
        load_seconds: load.as_secs_f64(),
        warm_up_seconds: warm_up.as_secs_f64(),
        peak_bytes: peak.bytes(),
        forward: Work::of_forward(config, tokens),
        answered_forward: Work::of_answered_forward(config, tokens),
        ceilings: Ceilings::measure(config, tokens.0 + tokens.1, &placement)
            .map_err(crate::pipeline::Error::from)?,
        parts: match args.parts {
            true => parts::measure(config, tokens, &placement),
            false => Ok(Vec::new()),
        }
        .map_err(crate::pipeline::Error::from)?,
        times,
    };
    match args.json {
        true => println!("{:#}", report.json()),
        false => print!("{report}"),
    }
    Ok(())
}

fn request(args: &BenchArgs) -> DenoiseRequest {
    args.shortcuts
        .applied(DenoiseRequest::new(0, args.steps, args.cfg))
}

/// One image from token ids to pixels on the host, as three jobs of a graph make it.
fn make_image(
    args: &BenchArgs,
    pipeline: &Pipeline,
    (width, height): (usize, usize),
) -> Result<Times, CliError> {
    let mut times = Times::default();
    let begun = Instant::now();
    let ids: Vec<u32> = (0..PROMPT_TOKENS as u32).map(|i| 1 + i * 7 % 200).collect();
    let mut encode = |ids: &[u32]| {
        let begun = Instant::now();
        let conditioning = pipeline.encode_ids(&[ids], TEXT_POSITIONS)?;
        times.encode.push(begun.elapsed().as_secs_f64());
        Ok::<_, crate::pipeline::Error>(conditioning)
    };
    let positive = encode(&ids)?;
    let negative = match args.cfg == 1.0 {
        true => None,
        false => Some(encode(&ids[..PROMPT_TOKENS / 2])?),
    };
    let channels = pipeline.latent_channels().unwrap_or(16);
    let shape = [1, channels, height / 8, width / 8];
    let latent = Latent::from_values(vec![0.0; shape.iter().product()], &shape)?;
    let inputs = DenoiseInputs {
        positive,
        negative,
        latent,
        noise_mask: None,
    };
    let mut job = pipeline.start_denoise(&request(args), inputs)?;
    loop {
        let step = Instant::now();
        let report = job.step(pipeline.denoiser()?)?;
        times.step.push(step.elapsed().as_secs_f64());
        if report.step == report.total {
            break;
        }
    }
    times.forwards = job.forwards();
    let latent = job.finish()?;
    let decode = Instant::now();
    let image = pipeline.decode(&latent)?;
    let on_host = image.tensor().to_device(&candle_core::Device::Cpu);
    on_host.map_err(crate::pipeline::Error::from)?;
    times.decode.push(decode.elapsed().as_secs_f64());
    times.image.push(begun.elapsed().as_secs_f64());
    Ok(times)
}
