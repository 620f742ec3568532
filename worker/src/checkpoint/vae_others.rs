//! How autoencoders of other models are told from FLUX.1's, which Ovis-Image uses.

use std::path::Path;

use super::error::WeightsError;
use super::folder;
use super::set::{Source, TensorSet};
use super::VAE;

/// Tensors that autoencoders of other models have, or have in another shape.
const OTHER_FAMILIES: [(&str, &str); 5] = [
    ("decoder.middle.0.residual.", "Wan or Qwen-Image"),
    ("decoder.conv_in.conv.", "HunyuanVideo"),
    ("decoder.up_blocks.0.res_blocks.", "LTX-Video"),
    ("decoder.stages.", "Sana"),
    ("decoder.layers.", "a tiny preview decoder (TAESD)"),
];

/// Refuses an autoencoder that is built unlike Ovis-Image's, if the set is one.
///
/// # Errors
/// It is.
pub(super) fn by_tensors(part: &'static str, set: &TensorSet) -> Result<(), WeightsError> {
    let known = OTHER_FAMILIES
        .iter()
        .find_map(|(marker, model)| Some((set.first_with(marker)?, model)));
    match known {
        Some((source, model)) if part == VAE => Err(other_model(source, model)),
        _ => Ok(()),
    }
}

fn other_model(source: &Source, model: &'static str) -> WeightsError {
    WeightsError::OtherModel {
        file: source.file.path().to_owned(),
        part: VAE,
        model,
        tensor: source.name.clone(),
    }
}

/// Refuses an autoencoder of the same build that has another number of latent channels.
///
/// # Errors
/// It is one of a model that is known.
pub(super) fn by_latents(set: &TensorSet) -> Result<(), WeightsError> {
    let Some(source) = set.get("decoder.conv_in.weight") else {
        return Ok(());
    };
    match (source.info().shape.get(1), set.any_starts_with("bn.")) {
        (Some(4), _) => Err(other_model(source, "Stable Diffusion 1.5 or XL")),
        (Some(32 | 128), true) => Err(other_model(source, "FLUX.2")),
        _ => Ok(()),
    }
}

/// Names of files and folders that other models' autoencoders go by whose tensors have the
/// names and shapes of FLUX.1's: nothing else in the file tells them apart.
const OTHER_NAMES: [(&str, &str); 5] = [
    ("sd3", "Stable Diffusion 3"),
    ("sd_3", "Stable Diffusion 3"),
    ("stable-diffusion-3", "Stable Diffusion 3"),
    ("stable_diffusion_3", "Stable Diffusion 3"),
    ("kl-f8-d16", "another 16-channel family"),
];

/// A refusal, if a file or the folder around it says that it is another model's
/// autoencoder.
pub(super) fn by_name(path: &Path, part: &'static str) -> Option<WeightsError> {
    let around = path.parent().map(folder::name_of).unwrap_or_default();
    let name = format!("{around}/{}", folder::name_of(path)).to_ascii_lowercase();
    let (_, model) = OTHER_NAMES
        .iter()
        .find(|(mark, _)| part == VAE && name.contains(mark) && !name.contains("flux"))?;
    Some(WeightsError::OtherByName {
        file: path.to_owned(),
        part: VAE,
        model,
    })
}

/// Latent scales that tell other models' autoencoders by their `config.json`.
const OTHER_SCALES: [(f64, &str); 3] = [
    (1.5305, "Stable Diffusion 3"),
    (0.18215, "Stable Diffusion 1.5"),
    (0.13025, "Stable Diffusion XL"),
];

/// The latent scale and the model that a scaling factor tells, if it is another's.
pub(super) fn by_scale(factor: f64) -> Option<(f64, &'static str)> {
    OTHER_SCALES.into_iter().find(|(scale, _)| *scale == factor)
}
