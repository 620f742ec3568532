//! The refusal of a folder that has no weights.

use std::path::Path;

use super::error::WeightsError;
use super::folder;
use super::foreign::Foreign;

/// Reports what a folder has instead of weights, and what to do about it.
pub(super) fn refusal(path: &Path) -> WeightsError {
    let listing = match folder::list(path) {
        Ok(listing) => listing,
        Err(error) => return error,
    };
    let mut foreign = listing
        .files
        .iter()
        .filter(|f| folder::is_foreign_weights(f));
    if let Some(file) = foreign.next() {
        let kind = folder::format_of(file).filter(|kind| *kind != Foreign::Other);
        return WeightsError::NotSafetensors {
            file: file.clone(),
            kind: kind.unwrap_or(Foreign::Pickle),
        };
    }
    let unfinished = |reason: String| WeightsError::Unfinished {
        file: path.to_owned(),
        reason,
    };
    if let Some(file) = listing
        .files
        .iter()
        .find(|file| folder::is_unfinished(file))
    {
        let name = folder::name_of(file);
        return unfinished(format!("`{name}` is the start of a download"));
    }
    if path.join("model_index.json").is_file() {
        return unfinished(
            "it has model_index.json, and none of the folders transformer, text_encoder and vae"
                .into(),
        );
    }
    if path.join("config.json").is_file() {
        return unfinished("it has config.json, and no weights beside it".into());
    }
    let inner = listing.folders.iter().find(|inner| is_checkpoint(inner));
    WeightsError::Nothing {
        path: path.to_owned(),
        seen: folder::seen(path),
        hint: match inner {
            Some(inner) => format!("Name its folder `{}`.", folder::name_of(inner)),
            None => "Give a diffusers folder, a folder with ovis_image.safetensors, a ComfyUI models folder, or a repository in Hugging Face's cache.".into(),
        },
    }
}

/// Whether names in a folder are those of a checkpoint.
fn is_checkpoint(path: &Path) -> bool {
    let marks = [
        "model_index.json",
        "ovis_image.safetensors",
        "diffusion_models",
        "snapshots",
    ];
    marks.iter().any(|mark| path.join(mark).exists())
}
