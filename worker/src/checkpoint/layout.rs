//! Recognises the layout of a path, and finds where each part may lie in it.

use std::path::{Path, PathBuf};

use super::args::CheckpointArgs;
use super::error::WeightsError;
use super::folder::{self, Skipped, Walk};
use super::part_names::VAE;
use super::set::TensorSet;
use super::tokenizer::TokenizerFiles;
use super::{absent, comfy, mixed, mmdit, named, qwen3, shards, vae, vae_others};

/// Arrangement of a checkpoint's files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// A diffusers folder: `transformer/`, `text_encoder/`, `vae/`, `tokenizer/`.
    Diffusers,
    /// The original release: `ovis_image.safetensors`, `ae.safetensors`,
    /// `Ovis2.5-2B/`.
    Original,
    /// ComfyUI's split files in its `models` folder.
    ComfyUi,
    /// Files that were named one by one, or a path that is one part.
    Files,
}

impl Layout {
    /// Name in reports: `diffusers`, `original`, `comfyui` or `files`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Diffusers => "diffusers",
            Self::Original => "original",
            Self::ComfyUi => "comfyui",
            Self::Files => "files",
        }
    }
}

/// Paths at which a part may lie.
#[derive(Debug, Default)]
pub(super) struct Places {
    pub candidates: Vec<PathBuf>,
    /// Whether a search found the candidates, so that files of other models among them are no
    /// mistake.
    pub searched: bool,
}

impl Places {
    fn named(path: PathBuf) -> Self {
        Self {
            candidates: vec![path],
            searched: false,
        }
    }

    fn existing(path: PathBuf) -> Self {
        Self {
            candidates: Some(path).filter(|p| p.exists()).into_iter().collect(),
            searched: false,
        }
    }

    fn searched(candidates: Vec<PathBuf>) -> Self {
        Self {
            candidates,
            searched: true,
        }
    }
}

/// Contents of a path, judged by names.
#[derive(Debug)]
pub(super) struct Found {
    pub layout: Layout,
    pub transformer: Places,
    pub text_encoder: Places,
    pub vae: Places,
    /// Folders that may contain the tokenizer, the likeliest first.
    pub tokenizer: Vec<PathBuf>,
    /// Files and folders that the search skipped.
    pub skipped: Vec<Skipped>,
}

impl Found {
    fn nothing(layout: Layout) -> Self {
        Self {
            layout,
            transformer: Places::default(),
            text_encoder: Places::default(),
            vae: Places::default(),
            tokenizer: Vec::new(),
            skipped: Vec::new(),
        }
    }
}

/// Names in the original release.
const ORIGINAL_TRANSFORMER: &str = "ovis_image";
const ORIGINAL_VAE: &str = "ae";
const ORIGINAL_TEXT_ENCODER: &str = "Ovis2.5-2B";

/// Finds the candidates of each part under the paths that a person named.
///
/// # Errors
/// A path does not exist or contains no known layout.
pub(super) fn find(args: &CheckpointArgs) -> Result<Found, WeightsError> {
    let mut found = match &args.model {
        Some(path) => recognise(&named::resolve(path)?)?,
        None => Found::nothing(Layout::Files),
    };
    if let Some(path) = &args.transformer {
        found.transformer = Places::named(of_part(path, "transformer")?);
    }
    if let Some(path) = &args.text_encoder {
        let path = of_part(path, "text_encoder")?;
        let mut near = tokenizer_near(&path);
        near.append(&mut found.tokenizer);
        found.tokenizer = near;
        found.text_encoder = Places::named(path);
    }
    if let Some(path) = &args.vae {
        found.vae = Places::named(of_part(path, "vae")?);
    }
    Ok(found)
}

/// A file of the original release with either of the extensions of safetensors.
fn stored(root: &Path, stem: &str) -> PathBuf {
    let short = root.join(format!("{stem}.sft"));
    match short.is_file() {
        true => short,
        false => root.join(format!("{stem}.safetensors")),
    }
}

/// The path that a person named for one part; in a whole diffusers folder, that of the part's
/// own folder.
///
/// # Errors
/// The path does not exist.
pub(super) fn of_part(path: &Path, part: &str) -> Result<PathBuf, WeightsError> {
    let path = named::resolve(path)?;
    let inner = path.join(part);
    let is_whole = path.join("model_index.json").is_file() && inner.is_dir();
    Ok(if is_whole { inner } else { path })
}

fn recognise(path: &Path) -> Result<Found, WeightsError> {
    if !folder::metadata(path)?.is_dir() {
        return one_part(path);
    }
    let has_dir = |name: &str| path.join(name).is_dir();
    let component_folders = ["transformer", "text_encoder", "vae"].map(has_dir);
    if has_dir("transformer")
        || (path.join("model_index.json").is_file() && component_folders.contains(&true))
    {
        return Ok(diffusers(path));
    }
    if stored(path, ORIGINAL_TRANSFORMER).is_file() || has_dir(ORIGINAL_TEXT_ENCODER) {
        return Ok(original(path));
    }
    // The `models` folder, or the ComfyUI that holds it.
    for root in [path.to_owned(), path.join("models")] {
        if comfy::folders().any(|name| root.join(name).is_dir()) {
            return Ok(comfy(&root));
        }
    }
    match side_by_side(path)? {
        Some(found) => Ok(found),
        None => one_part(path),
    }
}

fn diffusers(root: &Path) -> Found {
    Found {
        transformer: Places::existing(root.join("transformer")),
        text_encoder: Places::existing(root.join("text_encoder")),
        vae: Places::existing(root.join("vae")),
        tokenizer: vec![root.join("tokenizer"), root.join("text_encoder")],
        ..Found::nothing(Layout::Diffusers)
    }
}

fn original(root: &Path) -> Found {
    let text_encoder = root.join(ORIGINAL_TEXT_ENCODER);
    Found {
        transformer: Places::existing(stored(root, ORIGINAL_TRANSFORMER)),
        vae: Places::existing(stored(root, ORIGINAL_VAE)),
        tokenizer: vec![text_encoder.clone(), root.join("tokenizer")],
        text_encoder: Places::existing(text_encoder),
        ..Found::nothing(Layout::Original)
    }
}

fn comfy(root: &Path) -> Found {
    let mut found = Found::nothing(Layout::ComfyUi);
    let mut places = |folders: &[&str]| {
        let mut walk = Walk::default();
        for folder in folders {
            walk.add(&root.join(folder), comfy::DEPTH);
        }
        found.skipped.append(&mut walk.skipped);
        Places::searched(candidates(&walk))
    };
    let transformer = places(&comfy::TRANSFORMER_FOLDERS);
    let text_encoder = places(&comfy::TEXT_ENCODER_FOLDERS);
    let vae = places(&comfy::VAE_FOLDERS);
    let mut walk = Walk::default();
    for folder in comfy::TEXT_ENCODER_FOLDERS
        .iter()
        .chain(&["tokenizers", "tokenizer"])
    {
        walk.add(&root.join(folder), comfy::DEPTH);
    }
    let mut tokenizer: Vec<_> = walk.folders.into_iter().map(|(folder, _)| folder).collect();
    // A folder may hold tokenizers of several models; ours by name first.
    tokenizer.sort_by_key(|folder| {
        let name = folder.to_string_lossy().to_ascii_lowercase();
        (!name.contains("ovis"), !name.contains("qwen"))
    });
    tokenizer.extend(comfy::own_tokenizer(root));
    Found {
        transformer,
        text_encoder,
        vae,
        tokenizer,
        ..found
    }
}

/// Candidates for a part in the folders of a walk: single files, and folders that contain
/// shards. Files of other formats are among them, so that they can be reported.
fn candidates(walk: &Walk) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for (folder, listing) in &walk.folders {
        let in_shards = shards::has_shards(listing);
        if in_shards {
            found.push(folder.clone());
        }
        let files = listing.files.iter().filter(|file| {
            let weights = folder::is_weights(file) && !(in_shards && shards::is_shard(file));
            weights || folder::is_foreign_weights(file)
        });
        found.extend(files.cloned());
    }
    found
}

/// A folder with files of several parts side by side, each of which may be any part.
///
/// # Errors
/// [`WeightsError::Unreadable`] if the folder cannot be listed.
fn side_by_side(path: &Path) -> Result<Option<Found>, WeightsError> {
    let listing = folder::list(path)?;
    let weights = listing.files.iter().filter(|file| folder::is_weights(file));
    let weights: Vec<_> = weights.cloned().collect();
    if weights.len() < 2
        || shards::has_shards(&listing)
        || weights.iter().any(|f| shards::has_library_name(f))
    {
        return Ok(None);
    }
    let places = || Places::searched(weights.clone());
    Ok(Some(Found {
        transformer: places(),
        text_encoder: places(),
        vae: places(),
        tokenizer: vec![path.to_owned(), path.join("tokenizer")],
        ..Found::nothing(Layout::Files)
    }))
}

/// The part in messages about a path that may be any part.
const ANY_PART: &str = "part of Ovis-Image";

/// Recognises a file, or a folder of one part, by its tensors.
///
/// # Errors
/// It has no weights, or those of another model.
fn one_part(path: &Path) -> Result<Found, WeightsError> {
    let set = TensorSet::open(path)?;
    mixed::refuse(ANY_PART, &set)?;
    let mut found = Found::nothing(Layout::Files);
    let place = Places::named(path.to_owned());
    if mmdit::recognises(&set) {
        found.transformer = place;
    } else if qwen3::recognises(&set) {
        found.tokenizer = tokenizer_near(path);
        found.text_encoder = place;
    } else if vae::recognises(&set) {
        found.vae = place;
    } else if path.is_dir() {
        return Err(absent::refusal(path));
    } else {
        vae_others::by_tensors(VAE, &set)?;
        return Err(WeightsError::OtherPart {
            file: path.to_owned(),
            part: ANY_PART,
            tensor: set.names().next().unwrap_or_default().to_owned(),
        });
    }
    Ok(found)
}

/// Folders near a text encoder that may contain its tokenizer.
fn tokenizer_near(text_encoder: &Path) -> Vec<PathBuf> {
    let parent = folder::around(text_encoder);
    if text_encoder.is_dir() {
        return vec![text_encoder.to_owned(), parent.join("tokenizer")];
    }
    let mut folders = vec![
        parent.clone(),
        parent.join("tokenizer"),
        parent.join("../tokenizer"),
    ];
    let in_comfy = parent.file_name().is_some_and(|name| {
        comfy::TEXT_ENCODER_FOLDERS
            .iter()
            .any(|folder| name == *folder)
    });
    if in_comfy {
        folders.extend(parent.parent().and_then(comfy::own_tokenizer));
    }
    folders
}

/// The tokenizer in the first of `folders` that has one with the chat markers of the prompt
/// template.
///
/// # Errors
/// None has them, and the files of one are broken: that one was most likely meant.
pub(super) fn first_tokenizer(folders: &[PathBuf]) -> Result<Option<TokenizerFiles>, WeightsError> {
    let mut broken = None;
    for folder in folders {
        let Some(tokenizer) = TokenizerFiles::in_folder(folder) else {
            continue;
        };
        match tokenizer.has_chat_markers() {
            Ok(true) => return Ok(Some(tokenizer)),
            Ok(false) => {}
            Err(error) => broken = broken.or(Some(error)),
        }
    }
    broken.map_or(Ok(None), Err)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::test_files::{write_checkpoint, Naming};
    use super::*;

    /// Paths of a layout's parts below `root`.
    fn candidates_below(root: &Path, found: &Found) -> Vec<String> {
        let places = [&found.transformer, &found.text_encoder, &found.vae];
        let paths = places.into_iter().flat_map(|places| &places.candidates);
        paths
            .map(|path| path.strip_prefix(root).unwrap().display().to_string())
            .collect()
    }

    #[test]
    fn every_layout_is_recognised() {
        for (naming, wanted) in [
            (Naming::Diffusers, ["transformer", "text_encoder", "vae"]),
            (
                Naming::Original,
                ["ovis_image.safetensors", "Ovis2.5-2B", "ae.safetensors"],
            ),
            (
                Naming::ComfyUi,
                [
                    "models/diffusion_models/ovis.safetensors",
                    "models/text_encoders/ovis_2.5.safetensors",
                    "models/vae/ae.safetensors",
                ],
            ),
        ] {
            let folder = tempfile::tempdir().unwrap();
            write_checkpoint(folder.path(), naming);
            let found = recognise(folder.path()).unwrap();
            assert_eq!(found.layout, naming.layout());
            assert_eq!(candidates_below(folder.path(), &found), wanted);
            let searched = found.transformer.searched;
            assert_eq!(searched, naming == Naming::ComfyUi);
        }
    }

    #[test]
    fn a_single_file_is_the_part_that_its_tensors_are() {
        let folder = tempfile::tempdir().unwrap();
        write_checkpoint(folder.path(), Naming::Original);
        for (name, part) in [("ovis_image.safetensors", 0), ("ae.safetensors", 2)] {
            let found = recognise(&folder.path().join(name)).unwrap();
            assert_eq!(found.layout, Layout::Files);
            let places = [&found.transformer, &found.text_encoder, &found.vae];
            for (i, places) in places.into_iter().enumerate() {
                assert_eq!(places.candidates.len(), usize::from(i == part), "{name}");
            }
        }
    }

    #[test]
    fn each_part_is_looked_for_in_files_side_by_side() {
        let folder = tempfile::tempdir().unwrap();
        let models = tempfile::tempdir().unwrap();
        write_checkpoint(models.path(), Naming::ComfyUi);
        for path in ["diffusion_models/ovis", "text_encoders/ovis_2.5", "vae/ae"] {
            let from = models.path().join(format!("models/{path}.safetensors"));
            std::fs::copy(&from, folder.path().join(folder::name_of(&from))).unwrap();
        }
        let found = recognise(folder.path()).unwrap();
        assert_eq!(found.layout, Layout::Files);
        let names = candidates_below(folder.path(), &found);
        assert_eq!(names.len(), 9);
        assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), 3);
    }
}
