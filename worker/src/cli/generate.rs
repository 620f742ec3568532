//! `generate`: the whole path in one process, to picture files.

mod outputs;

use std::path::PathBuf;
use std::time::Instant;

use clap::Args;
use ovis_protocol::limits::{MAX_PROMPT_BYTES, MAX_TENSOR_BYTES};
use ovis_protocol::{DenoiseRequest, PromptCut, Schedule};

use self::outputs::Outputs;
use super::model_args::{DeviceArgs, ModelArgs};
use super::picture::Format;
use super::shortcut_args::ShortcutArgs;
use super::values::{number, parsed, text, whole, whole_within};
use super::{loading, signals, CliError};
use crate::logging;
use crate::pipeline::{check_length, check_request, DenoiseInputs, Forwards, Latent, Pipeline};

/// Longest side of an image in pixels.
pub const MAX_SIDE: usize = 16_384;

/// Most images of one run.
const MAX_BATCH: usize = 1024;

/// What to make, and of what.
#[derive(Clone, Debug, Args)]
pub struct GenerateArgs {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    device: DeviceArgs,
    /// What the image shows.
    #[arg(long, value_name = "TEXT", value_parser = text(), allow_hyphen_values = true)]
    prompt: String,
    /// What it does not show.
    #[arg(
        long,
        value_name = "TEXT",
        default_value = "",
        value_parser = text(),
        allow_hyphen_values = true
    )]
    negative: String,
    /// Width in pixels, a multiple of 16; the model's native size if not given.
    #[arg(
        long,
        value_name = "W",
        value_parser = whole_within(16, MAX_SIDE),
        allow_hyphen_values = true
    )]
    width: Option<usize>,
    /// Height in pixels, a multiple of 16; the model's native size if not given.
    #[arg(
        long,
        value_name = "H",
        value_parser = whole_within(16, MAX_SIDE),
        allow_hyphen_values = true
    )]
    height: Option<usize>,
    /// Denoising steps, 1 to 1000.
    #[arg(
        long,
        value_name = "N",
        default_value_t = 50,
        value_parser = whole::<u32>(),
        allow_hyphen_values = true
    )]
    steps: u32,
    /// Guidance scale, 0 to 100; 1 switches guidance off.
    #[arg(
        long,
        value_name = "X",
        default_value_t = 5.0,
        value_parser = number(),
        allow_hyphen_values = true
    )]
    cfg: f64,
    /// Seed of the noise, 0 to 2^64 - 1, as torch.manual_seed takes it.
    #[arg(
        long,
        value_name = "K",
        default_value_t = 0,
        value_parser = parsed(parse_seed),
        allow_hyphen_values = true
    )]
    seed: u64,
    /// Images to make from one draw of noise.
    #[arg(
        long,
        value_name = "B",
        default_value_t = 1,
        value_parser = whole_within(1, MAX_BATCH),
        allow_hyphen_values = true
    )]
    batch: usize,
    /// Shift of the schedule: auto (the model's own), or a constant.
    #[arg(
        long,
        value_name = "auto|X",
        default_value = "auto",
        value_parser = parsed(parse_shift),
        allow_hyphen_values = true
    )]
    shift: Shift,
    /// Solver, as in ComfyUI: euler, euler_ancestral, heun, dpm_2, dpmpp_2m,
    /// dpmpp_2m_sde, dpmpp_sde, res_multistep, uni_pc, lms, ddim.
    #[arg(
        long,
        value_name = "NAME",
        default_value = "euler",
        value_parser = text(),
        allow_hyphen_values = true
    )]
    sampler: String,
    /// Where the sigmas stand: flux (the model's own), or one of ComfyUI's:
    /// simple, normal, sgm_uniform, ddim_uniform, karras, exponential, beta,
    /// linear_quadratic, kl_optimal.
    #[arg(
        long,
        value_name = "NAME",
        default_value = "flux",
        value_parser = text(),
        allow_hyphen_values = true
    )]
    scheduler: String,
    #[command(flatten)]
    shortcuts: ShortcutArgs,
    /// Longest prompt in tokens; above 256 nothing is cut.
    #[arg(
        long,
        value_name = "N",
        default_value_t = 256,
        value_parser = whole::<u32>(),
        allow_hyphen_values = true
    )]
    max_sequence_length: u32,
    /// The file to write; its suffix says how: .png, .jpg or .jpeg (lossy, quality 95),
    /// .webp (lossless). With a batch, files are numbered before the suffix.
    #[arg(long, value_name = "FILE", allow_hyphen_values = true)]
    out: PathBuf,
    /// Also write the latents: `latents`, f32, `[B, 16, H/8, W/8]`.
    #[arg(long, value_name = "FILE.safetensors", allow_hyphen_values = true)]
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

fn parse_seed(text: &str) -> Result<u64, String> {
    text.parse()
        .map_err(|_| format!("seeds are whole numbers from 0 to {} (2^64 - 1)", u64::MAX))
}

/// Runs the command.
///
/// # Errors
/// An argument, a file or the device is at fault.
pub fn run(args: &GenerateArgs) -> Result<(), CliError> {
    signals::exit_when_asked()?;
    let request = request(args);
    // Before minutes are spent on loading.
    let format = Format::of(&args.out)?;
    check_length(args.max_sequence_length as usize)?;
    check_prompts(args)?;
    let checkpoint = loading::open_whole(&args.model)?;
    let native = checkpoint.native_size();
    let size = (args.width.unwrap_or(native), args.height.unwrap_or(native));
    check_request(&request, args.batch, size)?;
    check_pixels(args.batch, size)?;
    let outputs = Outputs::check(args, format, size)?;
    let placement = args.device.placement()?;
    let pipeline = loading::load(&checkpoint, &placement, logging::say)?;
    let latent = denoise(args, &request, size, &pipeline)?;
    outputs.write(args, &pipeline, &latent)
}

/// All images together are as large as a worker's answer may be.
fn check_pixels(batch: usize, (width, height): (usize, usize)) -> Result<(), CliError> {
    let most = MAX_TENSOR_BYTES / (3 * size_of::<f32>() as u64);
    if batch as u64 * width as u64 * height as u64 > most {
        return Err(CliError::new(
            format!("{batch} image(s) of {width} x {height} have more than {most} pixels in all"),
            "Make fewer at a time, or smaller ones.",
        ));
    }
    Ok(())
}

/// Prompts are as long as a worker takes them.
fn check_prompts(args: &GenerateArgs) -> Result<(), CliError> {
    for (name, prompt) in [
        ("prompt", &args.prompt),
        ("negative prompt", &args.negative),
    ] {
        if prompt.len() > MAX_PROMPT_BYTES {
            let length = prompt.len();
            return Err(CliError::new(
                format!("the {name} has {length} bytes, the most is {MAX_PROMPT_BYTES}"),
                "Shorten it; the model reads 256 tokens, about 1000 letters.",
            ));
        }
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
        let (conditioning, cuts) = pipeline.encode(
            std::slice::from_ref(prompt),
            args.max_sequence_length as usize,
        )?;
        for cut in cuts {
            logging::say(&format!("warning: {}", describe_cut(name, &cut)));
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
        logging::say(&format!(
            "step {}/{}  {each:.2} s/step  {:.0} s left",
            report.step,
            report.total,
            each * (report.total - report.step) as f32
        ));
        if report.step == report.total {
            let Forwards { asked, answered } = job.forwards();
            if answered > 0 {
                logging::say(&format!(
                    "the cache answered {answered} of {asked} forwards"
                ));
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
