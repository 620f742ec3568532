//! Tells autoencoders of other models from FLUX.1's, which Ovis-Image uses.

use std::path::Path;

use super::error::WeightsError;
use super::folder;
use super::part_names::VAE;
use super::piece::FileTensor;
use super::set::TensorSet;

/// Name prefixes of tensors that only other models' autoencoders have.
const OTHER_FAMILIES: [(&str, &str); 5] = [
    ("decoder.middle.0.residual.", "Wan or Qwen-Image"),
    ("decoder.conv_in.conv.", "HunyuanVideo"),
    ("decoder.up_blocks.0.res_blocks.", "LTX-Video"),
    ("decoder.stages.", "Sana"),
    ("decoder.layers.", "a tiny preview decoder (TAESD)"),
];

/// Refuses a set that was opened as the VAE and is an autoencoder of another architecture.
///
/// # Errors
/// [`WeightsError::OtherModel`] if the architecture is a known one.
pub(super) fn by_tensors(part: &'static str, set: &TensorSet) -> Result<(), WeightsError> {
    let known = OTHER_FAMILIES
        .iter()
        .find_map(|(marker, model)| Some((set.first_with(marker)?, model)));
    match known {
        Some((tensor, model)) if part == VAE => Err(other_model(tensor, model)),
        _ => Ok(()),
    }
}

fn other_model(tensor: &FileTensor, model: &'static str) -> WeightsError {
    WeightsError::OtherModel {
        file: tensor.path().to_owned(),
        part: VAE,
        model,
        tensor: tensor.entry().name.clone(),
    }
}

/// Refuses an autoencoder of the same architecture with the number of latent channels that
/// another model has.
///
/// # Errors
/// [`WeightsError::OtherModel`] if that model is a known one.
pub(super) fn by_latents(set: &TensorSet) -> Result<(), WeightsError> {
    let Some(tensor) = set.get("decoder.conv_in.weight") else {
        return Ok(());
    };
    match (tensor.entry().shape.get(1), set.any_starts_with("bn.")) {
        (Some(4), _) => Err(other_model(tensor, "Stable Diffusion 1.5 or XL")),
        (Some(32 | 128), true) => Err(other_model(tensor, "FLUX.2")),
        _ => Ok(()),
    }
}

/// Parts of file and folder names of autoencoders whose tensors have the names and shapes of
/// FLUX.1's, so that nothing in the file itself tells them apart.
const OTHER_NAMES: [(&str, &str); 5] = [
    ("sd3", "Stable Diffusion 3"),
    ("sd_3", "Stable Diffusion 3"),
    ("stable-diffusion-3", "Stable Diffusion 3"),
    ("stable_diffusion_3", "Stable Diffusion 3"),
    ("kl-f8-d16", "another 16-channel family"),
];

/// The refusal of an autoencoder whose file or folder has the name of another model's;
/// `None` for other names and parts.
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

/// Latent scales in the `config.json` of other models' autoencoders.
const OTHER_SCALES: [(f64, &str); 3] = [
    (1.5305, "Stable Diffusion 3"),
    (0.18215, "Stable Diffusion 1.5"),
    (0.13025, "Stable Diffusion XL"),
];

/// The latent scale and its model, if a scaling factor is that of another model.
pub(super) fn by_scale(factor: f64) -> Option<(f64, &'static str)> {
    OTHER_SCALES.into_iter().find(|(scale, _)| *scale == factor)
}
