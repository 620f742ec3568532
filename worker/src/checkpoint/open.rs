//! Opens a checkpoint: finds its parts and checks their headers, without reading weights.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::args::CheckpointArgs;
use super::choose::{choose, Chosen};
use super::config::Config;
use super::error::WeightsError;
use super::folder::Skipped;
use super::geometry::{MmditConfig, Qwen3Config, VaeConfig, NATIVE_SIZE};
use super::layout::{self, Layout, Places};
use super::part::{PartTensors, Watch};
use super::part_names::{TEXT_ENCODER, TRANSFORMER, VAE};
use super::set::TensorSet;
use super::tokenizer::TokenizerFiles;
use super::{comfy, folder, hub, mixed, mmdit, named, qwen3, shards, text, vae, vae_others};

/// The transformer's geometry and tensors.
#[derive(Debug)]
pub struct TransformerPart {
    /// Sizes of the network.
    pub config: MmditConfig,
    /// Where its tensors lie. Whoever keeps it can read them after the checkpoint is dropped.
    pub tensors: Arc<PartTensors>,
}

/// The text encoder's geometry and tensors.
#[derive(Debug)]
pub struct TextEncoderPart {
    /// Sizes of the network.
    pub config: Qwen3Config,
    /// Where its tensors lie. Whoever keeps it can read them after the checkpoint is dropped.
    pub tensors: Arc<PartTensors>,
}

/// The VAE's geometry and tensors.
#[derive(Debug)]
pub struct VaePart {
    /// Sizes of the network.
    pub config: VaeConfig,
    /// Where its tensors lie. Whoever keeps it can read them after the checkpoint is dropped.
    pub tensors: Arc<PartTensors>,
}

/// The parts that were found under the paths a person named. Any of them may be absent.
#[derive(Debug)]
pub struct Checkpoint {
    /// Name for reports and logs.
    pub name: String,
    /// The path that was given for the whole model.
    pub model: Option<PathBuf>,
    /// Arrangement of the files.
    pub layout: Layout,
    /// The diffusion transformer.
    pub transformer: Option<TransformerPart>,
    /// The text encoder.
    pub text_encoder: Option<TextEncoderPart>,
    /// The autoencoder.
    pub vae: Option<VaePart>,
    /// The tokenizer's files, not yet read.
    pub tokenizer: Option<TokenizerFiles>,
    /// Files and folders that a search did not use.
    pub skipped: Vec<Skipped>,
    /// Notes on the choice of files, a sentence each.
    pub notes: Vec<String>,
}

impl Checkpoint {
    /// Finds the parts, reads their headers and checks every tensor's name, type, shape and
    /// place in the file. No weights are read.
    ///
    /// # Errors
    /// No path was given, none has weights, a file is damaged or of another model, or the
    /// parts do not fit each other. The message names the file.
    pub fn open(args: &CheckpointArgs) -> Result<Self, WeightsError> {
        if args.is_empty() {
            return Err(WeightsError::NoPath);
        }
        let found = layout::find(args)?;
        let mut chosen = Chosen {
            skipped: found.skipped,
            notes: Vec::new(),
        };
        let transformer = choose(&found.transformer, TRANSFORMER, &mut chosen, |path| {
            let (set, config) =
                open_part(path, &found.transformer, TRANSFORMER, mmdit::recognises)?;
            let (config, tensors) = mmdit::open(set, config.as_ref())?;
            Ok((tensors, config))
        })?;
        let transformer = transformer.map(|(tensors, config)| TransformerPart {
            config,
            tensors: Arc::new(tensors),
        });
        let wanted = transformer.as_ref().map(|part| &part.config);
        let text_encoder = choose(&found.text_encoder, TEXT_ENCODER, &mut chosen, |path| {
            let (set, config) =
                open_part(path, &found.text_encoder, TEXT_ENCODER, qwen3::recognises)?;
            let (config, tensors) = qwen3::open(set, config.as_ref())?;
            let width = wanted.map(|w| w.context_dim);
            fits(path, TEXT_ENCODER, "width", config.hidden_size, width)?;
            Ok((tensors, config))
        })?;
        let text_encoder = text_encoder.map(|(tensors, config)| TextEncoderPart {
            config,
            tensors: Arc::new(tensors),
        });
        let vae = choose(&found.vae, VAE, &mut chosen, |path| {
            let (set, config) = open_part(path, &found.vae, VAE, vae::recognises)?;
            let (config, tensors) = vae::open(set, config.as_ref())?;
            // The transformer's input channels are patches of 2 x 2 latent pixels.
            let patch = 4 * config.latent_channels;
            fits(
                path,
                VAE,
                "latent patch",
                patch,
                wanted.map(|w| w.in_channels),
            )?;
            Ok((tensors, config))
        })?;
        let vae = vae.map(|(tensors, config)| VaePart {
            config,
            tensors: Arc::new(tensors),
        });
        let tokenizer = match &args.tokenizer {
            Some(path) => Some(TokenizerFiles::named(&layout::of_part(path, "tokenizer")?)?),
            None => layout::first_tokenizer(&found.tokenizer)?,
        };
        if transformer.is_none() && text_encoder.is_none() && vae.is_none() && tokenizer.is_none() {
            let path = args.model.clone().unwrap_or_default();
            return Err(WeightsError::Nothing {
                seen: match chosen.skipped.first() {
                    Some(first) => format!("left aside: {}", first.reason),
                    None => folder::seen(&path),
                },
                hint: "ovis-worker inspect says what lies there.".into(),
                path,
            });
        }
        let mut checkpoint = Self {
            name: name(args, transformer.as_ref()),
            layout: found.layout,
            transformer,
            text_encoder,
            vae,
            tokenizer,
            model: args.model.clone(),
            skipped: Vec::new(),
            notes: chosen.notes,
        };
        checkpoint.skipped = checkpoint.left_aside(chosen.skipped);
        Ok(checkpoint)
    }

    /// Skipped paths that no part was taken from, each once. Where parts lie side by side, the
    /// file of one part is skipped as a candidate for the others.
    fn left_aside(&self, skipped: Vec<Skipped>) -> Vec<Skipped> {
        let mut left: Vec<Skipped> = Vec::new();
        for file in skipped {
            let taken = self
                .parts()
                .iter()
                .any(|(_, part)| part.path() == file.path);
            if !taken && !left.iter().any(|other| other.path == file.path) {
                left.push(file);
            }
        }
        left
    }

    /// Side in pixels of the square images that the model was trained on, from the VAE's
    /// config.
    pub fn native_size(&self) -> usize {
        self.vae
            .as_ref()
            .map_or(NATIVE_SIZE, |part| part.config.native_size)
    }

    /// Rows of the text encoder's embedding table, if there is a text encoder.
    pub fn embeddings(&self) -> Option<usize> {
        self.text_encoder
            .as_ref()
            .map(|part| part.config.vocab_size)
    }

    /// Names of the absent parts.
    pub fn missing(&self) -> Vec<&'static str> {
        let parts = [
            (TRANSFORMER, self.transformer.is_none()),
            (TEXT_ENCODER, self.text_encoder.is_none()),
            (VAE, self.vae.is_none()),
            ("tokenizer", self.tokenizer.is_none()),
        ];
        let absent = parts.into_iter().filter(|(_, absent)| *absent);
        absent.map(|(part, _)| part).collect()
    }

    /// The tensors of every part that is present, with the part's name.
    pub fn parts(&self) -> Vec<(&'static str, &PartTensors)> {
        let transformer = self
            .transformer
            .as_ref()
            .map(|p| (TRANSFORMER, &*p.tensors));
        let text_encoder = self
            .text_encoder
            .as_ref()
            .map(|p| (TEXT_ENCODER, &*p.tensors));
        let vae = self.vae.as_ref().map(|p| (VAE, &*p.tensors));
        [transformer, text_encoder, vae]
            .into_iter()
            .flatten()
            .collect()
    }

    /// Calls `watch` after each tensor that any part loads.
    pub fn watch(&self, watch: &Watch) {
        for (_, tensors) in self.parts() {
            tensors.watch(watch.clone());
        }
    }
}

/// The checkpoint's name: the stem of the transformer's file, else the name of the repository
/// or folder.
fn name(args: &CheckpointArgs, transformer: Option<&TransformerPart>) -> String {
    let from_transformer = transformer
        .map(|part| part.tensors.path())
        .filter(|path| path.is_file())
        .and_then(Path::file_stem)
        .map(|name| name.to_string_lossy().into_owned());
    let from_folder = || {
        let path = named::resolve(args.model.as_ref()?).ok()?;
        let path = path.canonicalize().ok().filter(|path| path.is_dir())?;
        hub::repository_name(&path).or_else(|| Some(folder::name_of(&path)))
    };
    let name = from_transformer.or_else(from_folder);
    text::shown(&name.unwrap_or_else(|| "unnamed".into()))
}

/// Opens a part's tensors and the `config.json` that belongs to them, if there is one. None
/// belongs to a file that a search found.
///
/// # Errors
/// A file or the config is refused, or the tensors are those of another part or model.
fn open_part(
    path: &Path,
    places: &Places,
    part: &'static str,
    recognises: impl Fn(&TensorSet) -> bool,
) -> Result<(TensorSet, Option<Config>), WeightsError> {
    let set = TensorSet::open(path)?;
    mixed::refuse(part, &set)?;
    if !recognises(&set) {
        vae_others::by_tensors(part, &set)?;
        return Err(WeightsError::OtherPart {
            file: path.to_owned(),
            part,
            tensor: set.names().next().unwrap_or_default().to_owned(),
        });
    }
    let config = match config_folder(path).filter(|_| !places.searched) {
        Some(folder) => Config::of_part(folder, part)?,
        None => None,
    };
    Ok((set, config))
}

/// The folder whose `config.json` describes the weights at `path`: a part's own folder, or
/// the one around a file with a library's name. `None` in the folders that ComfyUI's models
/// share.
fn config_folder(path: &Path) -> Option<&Path> {
    let folder = match path.is_dir() {
        true => Some(path),
        false if shards::has_library_name(path) => path.parent(),
        false => None,
    };
    folder.filter(|_| !comfy::is_shared(path))
}

/// Checks that a part has the width that the transformer wants.
///
/// # Errors
/// [`WeightsError::Geometry`] if it has another.
fn fits(
    path: &Path,
    part: &'static str,
    what: &str,
    has: usize,
    wants: Option<usize>,
) -> Result<(), WeightsError> {
    match wants {
        Some(wants) if wants != has => Err(WeightsError::Geometry {
            file: path.to_owned(),
            part,
            reason: format!("its {what} is {has}, the transformer's is {wants}"),
        }),
        _ => Ok(()),
    }
}
