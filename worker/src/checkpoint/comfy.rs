//! The folders of a ComfyUI `models` folder.

use std::path::{Path, PathBuf};

use super::folder;

/// Folders of diffusion models.
pub(super) const TRANSFORMER_FOLDERS: [&str; 2] = ["diffusion_models", "unet"];
/// Folders of text encoders.
pub(super) const TEXT_ENCODER_FOLDERS: [&str; 2] = ["text_encoders", "clip"];
/// Folders of autoencoders.
pub(super) const VAE_FOLDERS: [&str; 1] = ["vae"];
/// Levels of folders that are searched, those folders included.
pub(super) const DEPTH: usize = 3;

/// Folders that mark a ComfyUI `models` folder, in which a `config.json` may be any model's.
const MARKS: [&str; 5] = [
    "checkpoints",
    "clip",
    "diffusion_models",
    "loras",
    "text_encoders",
];

/// Names of the folders of all parts.
pub(super) fn folders() -> impl Iterator<Item = &'static str> {
    let folders = TRANSFORMER_FOLDERS.iter();
    folders
        .chain(&TEXT_ENCODER_FOLDERS)
        .chain(&VAE_FOLDERS)
        .copied()
}

/// Whether a path lies in one of ComfyUI's folders, which models share, so that a
/// `config.json` there may be any model's. A diffusers folder with adapters beside its parts is none
/// of them.
pub(super) fn is_shared(path: &Path) -> bool {
    let path = path.canonicalize();
    let Ok(path) = path else { return false };
    path.ancestors().take(DEPTH + 2).any(|folder| {
        let name = folder::name_of(folder);
        let root = folder.parent().unwrap_or(Path::new(""));
        let is_one_model = root.join("model_index.json").is_file();
        let has_mark = || !is_one_model && MARKS.iter().any(|mark| root.join(mark).is_dir());
        folders().any(|shared| name == shared) && has_mark()
    })
}

/// The Qwen tokenizer in the source of the ComfyUI that a `models` folder belongs to. The
/// folder may be a link to another disk.
pub(super) fn own_tokenizer(models: &Path) -> Option<PathBuf> {
    let places = [std::path::absolute(models), models.canonicalize()];
    places
        .iter()
        .filter_map(|models| models.as_ref().ok()?.parent())
        .map(|comfyui| comfyui.join("comfy/text_encoders/qwen25_tokenizer"))
        .find(|folder| folder.is_dir())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_with_adapters_is_not_shared() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        for name in ["vae", "loras"] {
            std::fs::create_dir(root.join(name)).unwrap();
        }
        assert!(is_shared(&root.join("vae")));
        std::fs::write(root.join("model_index.json"), "{}").unwrap();
        assert!(!is_shared(&root.join("vae")));
    }
}
