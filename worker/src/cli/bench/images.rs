//! One image, made by the server for a client on the same machine.

use std::time::Instant;

use ovis_protocol::{DType, EncodeRequest, Outcome, Request, TensorHeader};

use super::args::{BenchArgs, TEXT_POSITIONS};
use super::client::{Client, WireTensor};
use super::report::Times;
use super::timed::Clock;
use crate::cli::error::CliError;

/// Number of words in the positive and the negative prompt, typical of a poster.
const WORDS: [usize; 2] = [80, 26];

/// Makes one image with the same jobs as a ComfyUI graph: encodes two prompts, denoises, decodes.
/// Returns its times.
///
/// # Errors
/// The worker fails or refuses a job, or the connection breaks.
pub async fn make(
    args: &BenchArgs,
    client: &mut Client,
    clock: &Clock,
    [channels, height, width]: [u64; 3],
) -> Result<Times, CliError> {
    let mut jobs = Jobs {
        client,
        running: 0.0,
    };
    clock.take();
    let begun = Instant::now();
    let positive = jobs.encode(WORDS[0], "positive").await?;
    let negative = match args.cfg == 1.0 {
        true => None,
        false => Some(jobs.encode(WORDS[1], "negative").await?),
    };
    let header = TensorHeader::new("latent", DType::F32, [1, channels, height / 8, width / 8]);
    let zeros = vec![0; header.shape.iter().product::<u64>() as usize * size_of::<f32>()];
    let empty = (header, zeros);
    let mut tensors = vec![&positive, &empty];
    tensors.extend(&negative);
    let denoise = Request::Denoise(Box::new(args.request()));
    let latent = jobs.run(denoise, &tensors).await?;
    jobs.run(Request::Decode, &[&latent]).await?;
    let whole = begun.elapsed().as_secs_f64();
    let laps = clock.take();
    let inside: f64 = [&laps.encode, &laps.step, &laps.decode]
        .into_iter()
        .flatten()
        .sum();
    Ok(Times {
        transport: vec![whole - jobs.running],
        overhead: vec![whole - inside],
        image: vec![whole],
        encode: laps.encode,
        step: laps.step,
        decode: laps.decode,
        forwards: laps.forwards,
        first_image: whole,
    })
}

/// Runs the jobs of one image and adds up their time.
struct Jobs<'a> {
    client: &'a mut Client,
    /// Seconds that the jobs spent on the device's thread.
    running: f64,
}

impl Jobs<'_> {
    async fn run(
        &mut self,
        request: Request,
        tensors: &[&WireTensor],
    ) -> Result<WireTensor, CliError> {
        let (
            made,
            Outcome {
                seconds_running, ..
            },
        ) = self.client.run(request, tensors).await?;
        self.running += f64::from(seconds_running);
        Ok(made)
    }

    /// Encodes a prompt of `words` words. Returns the conditioning as the tensor `name` of a
    /// denoise job.
    async fn encode(&mut self, words: usize, name: &str) -> Result<WireTensor, CliError> {
        let request = Request::Encode(EncodeRequest {
            prompts: vec!["word ".repeat(words)],
            max_sequence_length: TEXT_POSITIONS as u32,
            adapters: vec![],
        });
        let (mut header, bytes) = self.run(request, &[]).await?;
        header.name = name.to_owned();
        Ok((header, bytes))
    }
}
