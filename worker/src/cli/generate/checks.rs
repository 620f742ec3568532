//! Checks of a request's size, made before the model is loaded or anything is computed.

use ovis_protocol::limits::{MAX_PROMPT_BYTES, MAX_TENSOR_BYTES};
use ovis_protocol::DenoiseRequest;

use super::args::GenerateArgs;
use crate::cli::error::CliError;
use crate::pipeline::{most_conditioning, Ask, Budget, Pipeline};

/// Checks that every job of the run fits the memory budget of a loaded pipeline.
///
/// # Errors
/// The first job that does not fit, with a size that would.
pub fn check_fits(
    args: &GenerateArgs,
    request: &DenoiseRequest,
    (width, height): (usize, usize),
    pipeline: &Pipeline,
    budget: Budget,
) -> Result<(), CliError> {
    let channels = pipeline.latent_channels().unwrap_or(16);
    let latent = [args.batch, channels, height / 8, width / 8];
    let max_sequence_length = args.max_sequence_length as usize;
    let prompts = [args.prompt.clone(), args.negative.clone()];
    // Prompts are encoded one after the other.
    let encodes = prompts.chunks(1).map(|prompts| Ask::Encode {
        prompts,
        max_sequence_length,
        adapters: &[],
    });
    let longest = prompts.iter().map(String::len).max().unwrap_or(0);
    let text = most_conditioning(longest, max_sequence_length);
    let rest = [
        Ask::Denoise {
            request,
            latent,
            text,
        },
        Ask::Decode { latent },
    ];
    for ask in encodes.chain(rest) {
        pipeline.check_fits(budget, ask)?;
    }
    Ok(())
}

/// Checks that the images together are no larger than a worker's result may be, which keeps
/// `generate` and `serve` to the same sizes.
///
/// # Errors
/// The images together have more than [`MAX_TENSOR_BYTES`] as float32 RGB.
pub fn check_pixels(batch: usize, (width, height): (usize, usize)) -> Result<(), CliError> {
    let most = MAX_TENSOR_BYTES / (3 * size_of::<f32>() as u64);
    if batch as u64 * width as u64 * height as u64 > most {
        return Err(CliError::new(
            format!("{batch} image(s) of {width} x {height} have more than {most} pixels in all"),
            "Make fewer at a time, or smaller ones.",
        ));
    }
    Ok(())
}

/// Checks that neither prompt is longer than a worker accepts.
///
/// # Errors
/// A prompt has more than [`MAX_PROMPT_BYTES`].
pub fn check_prompts(args: &GenerateArgs) -> Result<(), CliError> {
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
