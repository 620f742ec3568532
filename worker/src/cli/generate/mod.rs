//! `generate`: makes images in this process and writes them to picture files, without a server.

mod args;
mod checks;
mod outputs;

use std::time::Instant;

use ovis_protocol::{DenoiseRequest, PromptCut};

pub use self::args::GenerateArgs;

use self::checks::{check_fits, check_pixels, check_prompts};
use self::outputs::Outputs;
use super::error::CliError;
use super::picture::Format;
use super::planning::Goal;
use super::{loading, signals};
use crate::logging;
use crate::pipeline::{
    check_length, check_request, AdapterStack, Budget, DenoiseInputs, Forwards, Latent, Pipeline,
    Target,
};

/// Runs the command: loads the model, makes the images and writes them.
///
/// # Errors
/// An argument is out of range, a file cannot be read or written, the model or the images do
/// not fit the memory, or the device fails.
pub fn run(args: &GenerateArgs) -> Result<(), CliError> {
    signals::exit_on_stop_signal()?;
    let request = args.request();
    // Loading can take minutes: everything that can be checked first is.
    let format = Format::of(&args.out)?;
    check_length(args.max_sequence_length as usize)?;
    check_prompts(args)?;
    args.adapters.check()?;
    let checkpoint = loading::open_complete(&args.model)?;
    let native = checkpoint.native_size();
    let size = (args.width.unwrap_or(native), args.height.unwrap_or(native));
    check_request(&request, args.batch, size)?;
    check_pixels(args.batch, size)?;
    let outputs = Outputs::check(args, format, size)?;
    let placement = args.device.placement(logging::say)?;
    let target = Target {
        batch: args.batch,
        is_guided: args.cfg != 1.0,
        ..Target::image(size.0, size.1)
    };
    let goal = Goal {
        vram: args.vram.budget(),
        target,
        link: None,
    };
    let pipeline = loading::load(&checkpoint, &placement, &goal, logging::say)?;
    let budget = Budget::now(&placement.device, args.device.host_memory());
    let adapters = args.adapters.open(&pipeline)?;
    let rest = budget.without(pipeline.stack_bytes(&adapters));
    check_fits(args, &request, size, &pipeline, rest)?;
    budget.operation().run(|| {
        let latent = denoise(args, &request, size, &pipeline, &adapters)?;
        outputs.write(args, &pipeline, &latent)
    })
}

/// Encodes the prompts and denoises, and reports each step on standard error. Returns raw VAE
/// latents.
fn denoise(
    args: &GenerateArgs,
    request: &DenoiseRequest,
    size: (usize, usize),
    pipeline: &Pipeline,
    adapters: &AdapterStack,
) -> Result<Latent, CliError> {
    let encode = |prompt: &String, name: &str| -> Result<_, CliError> {
        let (conditioning, cuts) = pipeline.encode_adapted(
            std::slice::from_ref(prompt),
            args.max_sequence_length as usize,
            adapters,
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
    let mut job = pipeline.start_adapted(request, inputs, adapters)?;
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

/// A truncated prompt as the sentence of a warning.
fn describe_cut(name: &str, cut: &PromptCut) -> String {
    match cut.lost_tokens {
        0 => format!(
            "the {name} is so long that {} tokens of the chat template's ending were cut; none of its own were lost",
            cut.lost_template_tokens
        ),
        n => format!("the {name} is too long: its last {n} tokens were cut"),
    }
}
