//! Whole images, made by the server for a client on the same machine.

use std::time::Instant;

use ovis_protocol::{DType, EncodeRequest, Outcome, Request, TensorHeader};

use super::client::{Client, WireTensor};
use super::report::Times;
use super::timed::Clock;
use super::{request, BenchArgs, TEXT_POSITIONS};
use crate::cli::CliError;

/// Words of the prompts, positive and negative: those of a poster, and fewer.
const WORDS: [usize; 2] = [80, 26];

/// Makes one image in the jobs that a graph's nodes make it in: two prompts, latents, pixels.
///
/// # Errors
/// A job or the connection fails.
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
    let denoise = Request::Denoise(Box::new(request(args)));
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

/// The jobs of an image.
struct Jobs<'a> {
    client: &'a mut Client,
    /// Seconds that they had the device's thread.
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

    /// The conditioning of a prompt of so many words, as a denoise job takes it.
    async fn encode(&mut self, words: usize, name: &str) -> Result<WireTensor, CliError> {
        let request = Request::Encode(EncodeRequest {
            prompts: vec!["word ".repeat(words)],
            max_sequence_length: TEXT_POSITIONS as u32,
        });
        let (mut header, bytes) = self.run(request, &[]).await?;
        header.name = name.to_owned();
        Ok((header, bytes))
    }
}
