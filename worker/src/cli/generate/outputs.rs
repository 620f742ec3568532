//! The files that `generate` writes: pictures with their parameters, and latents.

use std::collections::HashMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use serde_json::{json, Value};

use super::args::{GenerateArgs, Shift};
use crate::cli::error::CliError;
use crate::cli::out_file::OutFile;
use crate::cli::picture::{Format, Picture};
use crate::cli::terminal;
use crate::logging;
use crate::pipeline::{Latent, Pipeline};

/// The files to write. [`Outputs::check`] has tried each of them.
pub struct Outputs {
    format: Format,
    pictures: Vec<OutFile>,
    latents: Option<OutFile>,
}

impl Outputs {
    /// Checks that every file can be written, by writing a temporary file beside it.
    ///
    /// # Errors
    /// A file cannot be written, a picture and the latents are the same file, or the format
    /// does not support pictures of this size.
    pub fn check(
        args: &GenerateArgs,
        format: Format,
        (width, height): (usize, usize),
    ) -> Result<Self, CliError> {
        if width.max(height) > format.most_pixels() {
            return Err(CliError::new(
                format!(
                    "{width} x {height} pixels are too many for `{}`: such a file's sides have at most {} pixels",
                    args.out.display(),
                    format.most_pixels()
                ),
                "Write a .png file.",
            ));
        }
        // An estimate: compressed pictures rarely exceed half their pixels' size. The size of
        // the latents is exact, except for the header.
        let picture_bytes = width * height * 3 / 2;
        let latent_bytes = args.batch * (width / 8) * (height / 8) * 16 * size_of::<f32>();
        let paths = match args.batch {
            1 => vec![args.out.clone()],
            batch => (0..batch).map(|i| numbered(&args.out, i)).collect(),
        };
        let pictures = paths.iter().map(|path| OutFile::check(path, picture_bytes));
        let pictures = pictures.collect::<Result<Vec<_>, _>>()?;
        let latents = args.latents_out.as_deref();
        let latents = latents.map(|path| OutFile::check(path, latent_bytes));
        let latents = latents.transpose()?;
        if let Some(latents) = &latents {
            if pictures.iter().any(|picture| picture.is(latents)) {
                return Err(CliError::new(
                    format!(
                        "{} is to hold both a picture and the latents",
                        latents.path().display()
                    ),
                    "Give --out and --latents-out different names.",
                ));
            }
        }
        Ok(Self {
            format,
            pictures,
            latents,
        })
    }

    /// Decodes the latents, writes all files and prints the paths of the pictures. An error
    /// with one file does not stop the others from being written.
    ///
    /// # Errors
    /// The errors of all files that could not be written, or of the decoding.
    pub fn write(
        &self,
        args: &GenerateArgs,
        pipeline: &Pipeline,
        latent: &Latent,
    ) -> Result<(), CliError> {
        let mut failures = Vec::new();
        if let Some(file) = &self.latents {
            failures.extend(
                latent_bytes(latent)
                    .and_then(|bytes| file.write(&bytes))
                    .err(),
            );
        }
        let mut written = Vec::new();
        match pictures(pipeline, latent) {
            Ok(pictures) => {
                for (index, (file, picture)) in self.pictures.iter().zip(&pictures).enumerate() {
                    match self.write_picture(args, pipeline, index, file, picture) {
                        Ok(()) => written.push(file.path().display().to_string()),
                        Err(error) => failures.push(error),
                    }
                }
            }
            Err(error) => failures.push(error),
        }
        if !written.is_empty() {
            failures.extend(terminal::print(&written.join("\n")).err());
        }
        CliError::all(failures)
    }

    fn write_picture(
        &self,
        args: &GenerateArgs,
        pipeline: &Pipeline,
        index: usize,
        file: &OutFile,
        picture: &Picture,
    ) -> Result<(), CliError> {
        let parameters = parameters(args, picture, pipeline, index);
        if !self.format.holds(&parameters) {
            let (path, bytes) = (file.path().display(), parameters.len());
            logging::say(&format!(
                "warning: {path} does not hold its parameters: they have {bytes} bytes, more than a JPEG takes"
            ));
        }
        let bytes = self.format.encode(picture, &parameters);
        let bytes = bytes.map_err(|why| {
            let path = file.path().display();
            CliError::new(format!("{path} cannot be written: {why}"), "")
        })?;
        file.write(&bytes)
    }
}

/// The bytes of a safetensors file with one tensor, `latents`.
fn latent_bytes(latent: &Latent) -> Result<Vec<u8>, CliError> {
    let tensors: HashMap<&str, Tensor> = HashMap::from([("latents", latent.tensor().clone())]);
    let bytes = safetensors::serialize(&tensors, None);
    bytes.map_err(|e| CliError::new(format!("the latents cannot be written: {e}"), ""))
}

/// Decodes raw VAE latents to one picture for each batch entry.
fn pictures(pipeline: &Pipeline, latent: &Latent) -> Result<Vec<Picture>, CliError> {
    let image = pipeline.decode(latent)?;
    let [_, height, width, channels] = *image.dims() else {
        unreachable!("an image has four dimensions");
    };
    let pixels = image.tensor().to_device(&Device::Cpu);
    let pixels: Vec<f32> = pixels
        .and_then(|t| t.flatten_all()?.to_vec1())
        .map_err(crate::pipeline::Error::from)?;
    let each = pixels.chunks_exact(height * width * channels);
    Ok(each
        .map(|p| Picture::from_floats(width, height, p))
        .collect())
}

/// The path of one picture of a batch: `poster.png` becomes `poster-2.png`.
fn numbered(path: &Path, index: usize) -> PathBuf {
    let mut name = OsString::from(path.file_stem().unwrap_or_default());
    name.push(format!("-{index}"));
    if let Some(suffix) = path.extension() {
        name.push(".");
        name.push(suffix);
    }
    path.with_file_name(name)
}

/// The adapters, by the names of their files.
fn loras(args: &GenerateArgs) -> Vec<Value> {
    let loras = args.adapters.lora.loras.iter();
    let described = loras.map(|lora| {
        let name = lora.path.file_name().unwrap_or_default();
        json!({ "name": name.to_string_lossy(), "strength": lora.strength })
    });
    described.collect()
}

/// All settings that determine the image, as JSON. The picture file carries them.
fn parameters(args: &GenerateArgs, picture: &Picture, pipeline: &Pipeline, index: usize) -> String {
    json!({
        "worker": concat!("ovis-worker ", env!("CARGO_PKG_VERSION")),
        "model": pipeline.name(),
        "prompt": args.prompt,
        "negative": args.negative,
        "width": picture.width,
        "height": picture.height,
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
        "loras": loras(args),
        "guidance_interval": args.shortcuts.guidance_interval.map(|at| [at.start, at.end]),
        "device": pipeline.placement().device_name(),
        "precision": pipeline.placement().precision(),
        "max_sequence_length": args.max_sequence_length,
    })
    .to_string()
}
