//! `generate`: the whole path in one process, to PNG files.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use candle_core::{Device, Tensor};
use clap::Args;
use ovis_protocol::{DenoiseRequest, PromptCut, Schedule};
use serde_json::json;

use super::model_args::{DeviceArgs, ModelArgs};
use super::shortcut_args::ShortcutArgs;
use super::{loading, png_file, CliError};
use crate::pipeline::{
    check_length, check_request, DenoiseInputs, Forwards, Image, Latent, Pipeline,
};

/// What to make, and of what.
#[derive(Clone, Debug, Args)]
pub struct GenerateArgs {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    device: DeviceArgs,
    /// What the image shows.
    #[arg(long, value_name = "TEXT")]
    prompt: String,
    /// What it does not show.
    #[arg(long, value_name = "TEXT", default_value = "")]
    negative: String,
    /// Width in pixels, a multiple of 16; the model's native size if not given.
    #[arg(long, value_name = "W")]
    width: Option<usize>,
    /// Height in pixels, a multiple of 16; the model's native size if not given.
    #[arg(long, value_name = "H")]
    height: Option<usize>,
    /// Denoising steps.
    #[arg(long, value_name = "N", default_value_t = 50)]
    steps: u32,
    /// Guidance scale; 1 switches guidance off.
    #[arg(
        long,
        value_name = "X",
        default_value_t = 5.0,
        allow_negative_numbers = true
    )]
    cfg: f64,
    /// Seed of the noise, as torch.manual_seed takes it.
    #[arg(long, value_name = "K", default_value_t = 0)]
    seed: u64,
    /// Images to make from one draw of noise.
    #[arg(long, value_name = "B", default_value_t = 1)]
    batch: usize,
    /// Shift of the schedule: auto (the model's own), or a constant.
    #[arg(
        long,
        value_name = "auto|X",
        default_value = "auto",
        value_parser = parse_shift,
        allow_negative_numbers = true
    )]
    shift: Shift,
    /// Solver, as in ComfyUI: euler, euler_ancestral, heun, dpm_2, dpmpp_2m,
    /// dpmpp_2m_sde, dpmpp_sde, res_multistep, uni_pc, lms, ddim.
    #[arg(long, value_name = "NAME", default_value = "euler")]
    sampler: String,
    /// Where the sigmas stand: flux (the model's own), or one of ComfyUI's:
    /// simple, normal, sgm_uniform, ddim_uniform, karras, exponential, beta,
    /// linear_quadratic, kl_optimal.
    #[arg(long, value_name = "NAME", default_value = "flux")]
    scheduler: String,
    #[command(flatten)]
    shortcuts: ShortcutArgs,
    /// Longest prompt in tokens; above 256 nothing is cut.
    #[arg(long, value_name = "N", default_value_t = 256)]
    max_sequence_length: usize,
    /// The PNG file; with a batch, files are numbered before the extension.
    #[arg(long, value_name = "FILE.png")]
    out: PathBuf,
    /// Also write the latents: `latents`, f32, `[B, 16, H/8, W/8]`.
    #[arg(long, value_name = "FILE.safetensors")]
    latents_out: Option<PathBuf>,
}

/// The `--shift` argument.
#[derive(Clone, Copy, Debug)]
enum Shift {
    Auto,
    Constant(f64),
}

fn parse_shift(text: &str) -> Result<Shift, String> {
    match text {
        "auto" => Ok(Shift::Auto),
        _ => text
            .parse()
            .map(Shift::Constant)
            .map_err(|_| "it is neither `auto` nor a number".into()),
    }
}

/// Runs the command.
///
/// # Errors
/// An argument, a file or the device is at fault.
pub fn run(args: &GenerateArgs) -> Result<(), CliError> {
    let request = request(args);
    // Before minutes are spent on loading.
    if args.batch == 0 {
        return Err(CliError::new(
            "a batch of 0 makes no image",
            "Use --batch 1 or more.",
        ));
    }
    check_length(args.max_sequence_length)?;
    let checkpoint = loading::open_whole(&args.model)?;
    let native = checkpoint.native_size();
    let size = (args.width.unwrap_or(native), args.height.unwrap_or(native));
    check_request(&request, args.batch, size)?;
    let placement = args.device.placement()?;
    let pipeline = loading::load(&checkpoint, &placement, |line| eprintln!("{line}"))?;
    let latent = denoise(args, &request, size, &pipeline)?;
    if let Some(path) = &args.latents_out {
        write_latents(path, &latent)?;
    }
    let image = pipeline.decode(&latent)?;
    for path in write_images(args, &pipeline, &image)? {
        println!("{}", path.display());
    }
    Ok(())
}

fn request(args: &GenerateArgs) -> DenoiseRequest {
    DenoiseRequest {
        sampler: args.sampler.clone(),
        schedule: Schedule::Named(args.scheduler.clone()),
        shift: match args.shift {
            Shift::Auto => None,
            Shift::Constant(shift) => Some(shift),
        },
        ..args
            .shortcuts
            .applied(DenoiseRequest::new(args.seed, args.steps, args.cfg))
    }
}

/// From prompts to raw latents, with a line a step.
fn denoise(
    args: &GenerateArgs,
    request: &DenoiseRequest,
    size: (usize, usize),
    pipeline: &Pipeline,
) -> Result<Latent, CliError> {
    let encode = |prompt: &String, name: &str| -> Result<_, CliError> {
        let (conditioning, cuts) =
            pipeline.encode(std::slice::from_ref(prompt), args.max_sequence_length)?;
        for cut in cuts {
            eprintln!("warning: {}", describe_cut(name, &cut));
        }
        Ok(conditioning)
    };
    let guided = args.cfg != 1.0;
    let inputs = DenoiseInputs {
        positive: encode(&args.prompt, "prompt")?,
        negative: match guided {
            true => Some(encode(&args.negative, "negative prompt")?),
            false => None,
        },
        latent: empty_latent(args.batch, size, pipeline)?,
        noise_mask: None,
    };
    let mut job = pipeline.start_denoise(request, inputs)?;
    let started = Instant::now();
    loop {
        let report = job.step(pipeline.denoiser()?)?;
        let each = started.elapsed().as_secs_f32() / report.step as f32;
        eprintln!(
            "step {}/{}  {each:.2} s/step  {:.0} s left",
            report.step,
            report.total,
            each * (report.total - report.step) as f32
        );
        if report.step == report.total {
            let Forwards { asked, answered } = job.forwards();
            if answered > 0 {
                eprintln!("the cache answered {answered} of {asked} forwards");
            }
            return Ok(job.finish()?);
        }
    }
}

fn empty_latent(
    batch: usize,
    (width, height): (usize, usize),
    pipeline: &Pipeline,
) -> Result<Latent, CliError> {
    let channels = pipeline.latent_channels().unwrap_or(16);
    let shape = [batch, channels, height / 8, width / 8];
    let values = vec![0.0; shape.iter().product()];
    Ok(Latent::from_values(values, &shape)?)
}

/// What a cut lost, as a sentence.
fn describe_cut(name: &str, cut: &PromptCut) -> String {
    match cut.lost_tokens {
        0 => format!(
            "the {name} is so long that {} tokens of the chat template's ending were cut; none of its own were lost",
            cut.lost_template_tokens
        ),
        n => format!("the {name} is too long: its last {n} tokens were cut"),
    }
}

fn write_latents(path: &Path, latent: &Latent) -> Result<(), CliError> {
    let tensors: HashMap<&str, Tensor> = HashMap::from([("latents", latent.tensor().clone())]);
    candle_core::safetensors::save(&tensors, path).map_err(|e| {
        CliError::new(
            format!("{} cannot be written: {e}", path.display()),
            "Check that the folder exists and has room.",
        )
    })
}

fn write_images(
    args: &GenerateArgs,
    pipeline: &Pipeline,
    image: &Image,
) -> Result<Vec<PathBuf>, CliError> {
    let [batch, height, width, channels] = *image.dims() else {
        unreachable!("an image has four dimensions");
    };
    let image = image.tensor().to_device(&Device::Cpu);
    let pixels: Vec<f32> = image
        .and_then(|t| t.flatten_all()?.to_vec1())
        .map_err(crate::pipeline::Error::from)?;
    let mut written = Vec::with_capacity(batch);
    for (i, pixels) in pixels.chunks_exact(height * width * channels).enumerate() {
        let path = match batch {
            1 => args.out.clone(),
            _ => numbered(&args.out, i),
        };
        let parameters = parameters(args, (width, height), pipeline, i);
        png_file::write(&path, width, height, pixels, &parameters)?;
        written.push(path);
    }
    Ok(written)
}

/// `poster.png` to `poster-2.png`.
fn numbered(path: &Path, index: usize) -> PathBuf {
    let part = |p: Option<&std::ffi::OsStr>| p.unwrap_or_default().to_string_lossy().into_owned();
    let (stem, extension) = (part(path.file_stem()), part(path.extension()));
    path.with_file_name(format!("{stem}-{index}.{extension}"))
}

/// Everything that made the image, as JSON.
fn parameters(
    args: &GenerateArgs,
    (width, height): (usize, usize),
    pipeline: &Pipeline,
    index: usize,
) -> String {
    json!({
        "worker": concat!("ovis-worker ", env!("CARGO_PKG_VERSION")),
        "model": pipeline.name(),
        "prompt": args.prompt,
        "negative": args.negative,
        "width": width,
        "height": height,
        "steps": args.steps,
        "cfg": args.cfg,
        "seed": args.seed,
        "batch": args.batch,
        "batch_entry": index,
        "shift": match args.shift {
            Shift::Auto => json!("auto"),
            Shift::Constant(shift) => json!(shift),
        },
        "sampler": args.sampler,
        "scheduler": args.scheduler,
        "cache": args.shortcuts.cache.name(),
        "guidance_interval": args.shortcuts.guidance_interval.map(|at| [at.start, at.end]),
        "device": pipeline.placement().device_name(),
        "precision": pipeline.placement().precision(),
        "max_sequence_length": args.max_sequence_length,
    })
    .to_string()
}
