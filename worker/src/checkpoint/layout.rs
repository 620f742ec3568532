//! Which layout a path is, and where in it each part may lie.

use std::path::{Path, PathBuf};

use super::error::WeightsError;
use super::folder::{self, Skipped, Walk};
use super::set::TensorSet;
use super::tokenizer::TokenizerFiles;
use super::{absent, mixed, mmdit, named, qwen3, shards, vae, vae_others, CheckpointArgs, VAE};

/// How a checkpoint's files are arranged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// A diffusers folder: `transformer/`, `text_encoder/`, `vae/`, `tokenizer/`.
    Diffusers,
    /// The original release: `ovis_image.safetensors`, `ae.safetensors`,
    /// `Ovis2.5-2B/`.
    Original,
    /// ComfyUI's split files in its `models` folder.
    ComfyUi,
    /// Files named one by one, or a path that is one part.
    Files,
}

impl Layout {
    /// Its name, for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Diffusers => "diffusers",
            Self::Original => "original",
            Self::ComfyUi => "comfyui",
            Self::Files => "files",
        }
    }
}

/// Where a part may lie.
#[derive(Debug, Default)]
pub(super) struct Places {
    pub candidates: Vec<PathBuf>,
    /// Whether the candidates were found by searching, so that files of other
    /// models among them are no mistake.
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

/// What a path holds, by names alone.
#[derive(Debug)]
pub(super) struct Found {
    pub layout: Layout,
    pub transformer: Places,
    pub text_encoder: Places,
    pub vae: Places,
    /// Folders that may hold the tokenizer, the likeliest first.
    pub tokenizer: Vec<PathBuf>,
    /// What the search passed over.
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

/// The original release's names.
const ORIGINAL_TRANSFORMER: &str = "ovis_image";
const ORIGINAL_VAE: &str = "ae";
const ORIGINAL_TEXT_ENCODER: &str = "Ovis2.5-2B";

/// ComfyUI's folders for each part.
const COMFY_TRANSFORMER: [&str; 2] = ["diffusion_models", "unet"];
const COMFY_TEXT_ENCODER: [&str; 2] = ["text_encoders", "clip"];
const COMFY_VAE: [&str; 1] = ["vae"];
/// How deep below those folders files are looked for.
const COMFY_DEPTH: usize = 3;

/// Folders that only ComfyUI has beside those: where one lies, configs are anyone's.
const COMFY_MARKS: [&str; 5] = [
    "checkpoints",
    "clip",
    "diffusion_models",
    "loras",
    "text_encoders",
];

/// Looks at what the arguments name.
///
/// # Errors
/// A path does not exist, or holds nothing that is recognised.
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

/// A file of the original release under either ending that safetensors have.
fn stored(root: &Path, stem: &str) -> PathBuf {
    let short = root.join(format!("{stem}.sft"));
    match short.is_file() {
        true => short,
        false => root.join(format!("{stem}.safetensors")),
    }
}

/// What a person named for one part: of a whole diffusers folder, the part's.
///
/// # Errors
/// Nothing is there.
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
        let mut folders = COMFY_TRANSFORMER
            .iter()
            .chain(&COMFY_TEXT_ENCODER)
            .chain(&COMFY_VAE);
        if folders.any(|name| root.join(name).is_dir()) {
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
            walk.add(&root.join(folder), COMFY_DEPTH);
        }
        found.skipped.append(&mut walk.skipped);
        Places::searched(candidates(&walk))
    };
    let transformer = places(&COMFY_TRANSFORMER);
    let text_encoder = places(&COMFY_TEXT_ENCODER);
    let vae = places(&COMFY_VAE);
    let mut walk = Walk::default();
    for folder in COMFY_TEXT_ENCODER
        .iter()
        .chain(&["tokenizers", "tokenizer"])
    {
        walk.add(&root.join(folder), COMFY_DEPTH);
    }
    let mut tokenizer: Vec<_> = walk.folders.into_iter().map(|(folder, _)| folder).collect();
    // A folder may hold tokenizers of several models; ours by name first.
    tokenizer.sort_by_key(|folder| {
        let name = folder.to_string_lossy().to_ascii_lowercase();
        (!name.contains("ovis"), !name.contains("qwen"))
    });
    tokenizer.extend(comfy_own_tokenizer(root));
    Found {
        transformer,
        text_encoder,
        vae,
        tokenizer,
        ..found
    }
}

/// What may be a part in the folders of a walk: single files, and below the first folder
/// also those that hold a model in shards. Foreign formats are among them, to be told.
fn candidates(walk: &Walk) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for (folder, listing) in &walk.folders {
        let in_shards = shards::has_shards(listing);
        if in_shards {
            found.push(folder.clone());
        }
        let files = listing.files.iter().filter(|file| {
            let weights = folder::is_safetensors(file) && !(in_shards && shards::is_shard(file));
            weights || folder::is_foreign_weights(file)
        });
        found.extend(files.cloned());
    }
    found
}

/// Whether a file or folder lies in the folders that a ComfyUI's models share, where a
/// `config.json` may be any model's.
pub(super) fn is_shared(path: &Path) -> bool {
    let path = path.canonicalize();
    let Ok(path) = path else { return false };
    path.ancestors().take(COMFY_DEPTH + 2).any(|folder| {
        let name = folder::name_of(folder);
        let ours = COMFY_TRANSFORMER
            .iter()
            .chain(&COMFY_TEXT_ENCODER)
            .chain(&COMFY_VAE);
        let root = folder.parent().unwrap_or(Path::new(""));
        let has_mark = || COMFY_MARKS.iter().any(|mark| root.join(mark).is_dir());
        ours.into_iter().any(|shared| name == *shared) && has_mark()
    })
}

/// A folder with files of several parts side by side: each part is looked for in all.
///
/// # Errors
/// The folder cannot be listed.
fn side_by_side(path: &Path) -> Result<Option<Found>, WeightsError> {
    let listing = folder::list(path)?;
    let weights = listing
        .files
        .iter()
        .filter(|file| folder::is_safetensors(file));
    let weights: Vec<_> = weights.cloned().collect();
    if weights.len() < 2
        || shards::has_shards(&listing)
        || weights.iter().any(|f| shards::is_of_a_library(f))
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

/// The Qwen tokenizer in the source of the ComfyUI that owns a `models` folder,
/// which may be a link to a disk with more room.
fn comfy_own_tokenizer(models: &Path) -> Option<PathBuf> {
    let places = [std::path::absolute(models), models.canonicalize()];
    places
        .iter()
        .filter_map(|models| models.as_ref().ok()?.parent())
        .map(|comfyui| comfyui.join("comfy/text_encoders/qwen25_tokenizer"))
        .find(|folder| folder.is_dir())
}

/// What a path that nothing says the part of is opened as.
const ANY_PART: &str = "part of Ovis-Image";

/// A file, or a folder of one part, by what is in it.
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

/// Folders around a text encoder that may hold its tokenizer.
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
    let in_comfy = parent
        .file_name()
        .is_some_and(|name| COMFY_TEXT_ENCODER.iter().any(|folder| name == *folder));
    if in_comfy {
        folders.extend(parent.parent().and_then(comfy_own_tokenizer));
    }
    folders
}

/// The tokenizer in the first of `folders` that has one for chats.
///
/// # Errors
/// None has, and the files of one do not tell: they are the ones that were meant.
pub(super) fn first_tokenizer(folders: &[PathBuf]) -> Result<Option<TokenizerFiles>, WeightsError> {
    let mut broken = None;
    for folder in folders {
        let Some(tokenizer) = TokenizerFiles::in_folder(folder) else {
            continue;
        };
        match tokenizer.speaks_chat() {
            Ok(true) => return Ok(Some(tokenizer)),
            Ok(false) => {}
            Err(error) => broken = broken.or(Some(error)),
        }
    }
    broken.map_or(Ok(None), Err)
}
