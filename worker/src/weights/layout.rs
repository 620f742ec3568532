//! Which layout a path is, and where in it each part may lie.

use std::path::{Path, PathBuf};

use super::error::WeightsError;
use super::set::{file_names, TensorSet};
use super::tokenizer::TokenizerFiles;
use super::{mmdit, qwen3, vae, CheckpointArgs};

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
}

/// The original release's names.
const ORIGINAL_TRANSFORMER: &str = "ovis_image.safetensors";
const ORIGINAL_VAE: &str = "ae.safetensors";
const ORIGINAL_TEXT_ENCODER: &str = "Ovis2.5-2B";

/// ComfyUI's folders for each part.
const COMFY_TRANSFORMER: [&str; 2] = ["diffusion_models", "unet"];
const COMFY_TEXT_ENCODER: [&str; 2] = ["text_encoders", "clip"];
const COMFY_VAE: [&str; 1] = ["vae"];
/// How deep below those folders files are looked for.
const COMFY_DEPTH: usize = 3;

/// Looks at what the arguments name.
///
/// # Errors
/// A path does not exist, or holds nothing that is recognised.
pub(super) fn find(args: &CheckpointArgs) -> Result<Found, WeightsError> {
    let mut found = match &args.model {
        Some(path) => recognise(path)?,
        None => Found {
            layout: Layout::Files,
            transformer: Places::default(),
            text_encoder: Places::default(),
            vae: Places::default(),
            tokenizer: Vec::new(),
        },
    };
    if let Some(path) = &args.transformer {
        found.transformer = Places::named(path.clone());
    }
    if let Some(path) = &args.text_encoder {
        found.text_encoder = Places::named(path.clone());
        let mut near = tokenizer_near(path);
        near.append(&mut found.tokenizer);
        found.tokenizer = near;
    }
    if let Some(path) = &args.vae {
        found.vae = Places::named(path.clone());
    }
    Ok(found)
}

fn recognise(path: &Path) -> Result<Found, WeightsError> {
    if !path.exists() {
        return Err(WeightsError::Unreadable {
            file: path.to_owned(),
            reason: "there is no such file or folder".into(),
        });
    }
    if !path.is_dir() {
        return one_part(path);
    }
    let has_dir = |name: &str| path.join(name).is_dir();
    let component_folders = ["transformer", "text_encoder", "vae"].map(has_dir);
    if has_dir("transformer")
        || (path.join("model_index.json").is_file() && component_folders.contains(&true))
    {
        return Ok(diffusers(path));
    }
    if path.join(ORIGINAL_TRANSFORMER).is_file() || has_dir(ORIGINAL_TEXT_ENCODER) {
        return Ok(original(path));
    }
    // The `models` folder, or the ComfyUI that holds it.
    for root in [path.to_owned(), path.join("models")] {
        let mut folders = COMFY_TRANSFORMER
            .iter()
            .chain(&COMFY_TEXT_ENCODER)
            .chain(&COMFY_VAE);
        if folders.any(|name| root.join(name).is_dir()) {
            return comfy(&root);
        }
    }
    one_part(path)
}

fn diffusers(root: &Path) -> Found {
    Found {
        layout: Layout::Diffusers,
        transformer: Places::existing(root.join("transformer")),
        text_encoder: Places::existing(root.join("text_encoder")),
        vae: Places::existing(root.join("vae")),
        tokenizer: vec![root.join("tokenizer"), root.join("text_encoder")],
    }
}

fn original(root: &Path) -> Found {
    let text_encoder = root.join(ORIGINAL_TEXT_ENCODER);
    Found {
        layout: Layout::Original,
        transformer: Places::existing(root.join(ORIGINAL_TRANSFORMER)),
        vae: Places::existing(root.join(ORIGINAL_VAE)),
        tokenizer: vec![text_encoder.clone(), root.join("tokenizer")],
        text_encoder: Places::existing(text_encoder),
    }
}

fn comfy(root: &Path) -> Result<Found, WeightsError> {
    let files = |folders: &[&str]| -> Result<Places, WeightsError> {
        let mut files = Vec::new();
        for folder in folders {
            collect_files(&root.join(folder), COMFY_DEPTH, &mut files)?;
        }
        Ok(Places::searched(files))
    };
    let mut tokenizer = Vec::new();
    for folder in COMFY_TEXT_ENCODER
        .iter()
        .chain(&["tokenizers", "tokenizer"])
    {
        collect_folders(&root.join(folder), COMFY_DEPTH, &mut tokenizer)?;
    }
    // A folder may hold tokenizers of several models; ours by name first.
    tokenizer.sort_by_key(|folder| {
        let name = folder.to_string_lossy().to_ascii_lowercase();
        (!name.contains("ovis"), !name.contains("qwen"))
    });
    tokenizer.extend(comfy_own_tokenizer(root));
    Ok(Found {
        layout: Layout::ComfyUi,
        transformer: files(&COMFY_TRANSFORMER)?,
        text_encoder: files(&COMFY_TEXT_ENCODER)?,
        vae: files(&COMFY_VAE)?,
        tokenizer,
    })
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

/// A file, or a folder of one part, by what is in it.
fn one_part(path: &Path) -> Result<Found, WeightsError> {
    let set = TensorSet::open(path)?;
    let mut found = Found {
        layout: Layout::Files,
        transformer: Places::default(),
        text_encoder: Places::default(),
        vae: Places::default(),
        tokenizer: Vec::new(),
    };
    let place = Places::named(path.to_owned());
    if mmdit::recognises(&set) {
        found.transformer = place;
    } else if qwen3::recognises(&set) {
        found.tokenizer = tokenizer_near(path);
        found.text_encoder = place;
    } else if vae::recognises(&set) {
        found.vae = place;
    } else {
        return Err(WeightsError::Nothing {
            path: path.to_owned(),
        });
    }
    Ok(found)
}

/// Folders around a text encoder that may hold its tokenizer.
fn tokenizer_near(text_encoder: &Path) -> Vec<PathBuf> {
    let parent = text_encoder.parent().unwrap_or(Path::new(""));
    if text_encoder.is_dir() {
        return vec![text_encoder.to_owned(), parent.join("tokenizer")];
    }
    let mut folders = vec![
        parent.to_owned(),
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
pub(super) fn first_tokenizer(folders: &[PathBuf]) -> Option<TokenizerFiles> {
    let mut tokenizers = folders
        .iter()
        .filter_map(|folder| TokenizerFiles::in_folder(folder));
    tokenizers.find(TokenizerFiles::speaks_chat)
}

/// Safetensors files below a folder, to a depth; nothing when it is not there.
fn collect_files(
    folder: &Path,
    depth: usize,
    files: &mut Vec<PathBuf>,
) -> Result<(), WeightsError> {
    let mut folders = Vec::new();
    collect_folders(folder, depth, &mut folders)?;
    for folder in folders {
        for name in file_names(&folder)? {
            if name.ends_with(".safetensors") {
                files.push(folder.join(name));
            }
        }
    }
    Ok(())
}

/// A folder and those below it, to a depth; nothing when it is not there.
fn collect_folders(
    folder: &Path,
    depth: usize,
    folders: &mut Vec<PathBuf>,
) -> Result<(), WeightsError> {
    if !folder.is_dir() || depth == 0 {
        return Ok(());
    }
    folders.push(folder.to_owned());
    let unreadable = |e: std::io::Error| WeightsError::Unreadable {
        file: folder.to_owned(),
        reason: e.to_string(),
    };
    let mut below = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(unreadable)? {
        below.push(entry.map_err(unreadable)?.path());
    }
    below.sort();
    for path in below {
        collect_folders(&path, depth - 1, folders)?;
    }
    Ok(())
}
