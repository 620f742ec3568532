//! A checkpoint: its parts, found and checked, their weights not yet read.

use std::path::{Path, PathBuf};

use super::error::WeightsError;
use super::json::Config;
use super::layout::{self, Layout, Places};
use super::part::{PartTensors, Watch};
use super::set::TensorSet;
use super::tokenizer::TokenizerFiles;
use super::{mmdit, qwen3, vae, TEXT_ENCODER, TRANSFORMER, VAE};
use crate::models::mmdit::MmditConfig;
use crate::models::qwen3::Qwen3Config;
use crate::models::vae::VaeConfig;

/// What a person named.
#[derive(Clone, Debug, Default)]
pub struct CheckpointArgs {
    /// A diffusers folder, the original release's folder, a ComfyUI `models`
    /// folder, or one part.
    pub model: Option<PathBuf>,
    /// The transformer's file or folder, instead of what `model` has.
    pub transformer: Option<PathBuf>,
    /// The text encoder's file or folder, instead of what `model` has.
    pub text_encoder: Option<PathBuf>,
    /// The VAE's file or folder, instead of what `model` has.
    pub vae: Option<PathBuf>,
    /// The tokenizer's folder or file, instead of what is found.
    pub tokenizer: Option<PathBuf>,
}

impl CheckpointArgs {
    /// Whether nothing was named.
    pub fn is_empty(&self) -> bool {
        let named = [
            &self.model,
            &self.transformer,
            &self.text_encoder,
            &self.vae,
            &self.tokenizer,
        ];
        named.into_iter().all(Option::is_none)
    }
}

/// The transformer: geometry and tensors.
#[derive(Debug)]
pub struct TransformerPart {
    /// Its geometry.
    pub config: MmditConfig,
    /// Its tensors.
    pub tensors: PartTensors,
}

/// The text encoder: geometry and tensors.
#[derive(Debug)]
pub struct TextEncoderPart {
    /// Its geometry.
    pub config: Qwen3Config,
    /// Its tensors.
    pub tensors: PartTensors,
}

/// The VAE: geometry and tensors.
#[derive(Debug)]
pub struct VaePart {
    /// Its geometry.
    pub config: VaeConfig,
    /// Its tensors.
    pub tensors: PartTensors,
}

/// A file in a searched folder that was left aside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    /// The file.
    pub path: PathBuf,
    /// Why, as a sentence.
    pub reason: String,
}

/// Everything that was found under the paths a person named. Any part may be
/// absent.
#[derive(Debug)]
pub struct Checkpoint {
    /// A name for people.
    pub name: String,
    /// How the files are arranged.
    pub layout: Layout,
    /// The diffusion transformer.
    pub transformer: Option<TransformerPart>,
    /// The text encoder.
    pub text_encoder: Option<TextEncoderPart>,
    /// The autoencoder.
    pub vae: Option<VaePart>,
    /// The tokenizer's files, not yet read.
    pub tokenizer: Option<TokenizerFiles>,
    /// Files in searched folders that were left aside.
    pub skipped: Vec<Skipped>,
}

impl Checkpoint {
    /// Finds the parts, reads their headers and checks every tensor's name,
    /// shape and place in the file. No weights are read.
    ///
    /// # Errors
    /// Nothing was named or found, or a file is not what it should be; the
    /// sentence names it.
    pub fn open(args: &CheckpointArgs) -> Result<Self, WeightsError> {
        if args.is_empty() {
            return Err(WeightsError::NoPath);
        }
        let found = layout::find(args)?;
        let mut skipped = Vec::new();
        let transformer = resolve(&found.transformer, TRANSFORMER, &mut skipped, |path| {
            let opened = open_part(path, TRANSFORMER, mmdit::recognises, mmdit::accepts_config);
            let (set, config) = opened?;
            let (config, tensors) = mmdit::open(set, config.as_ref())?;
            Ok(TransformerPart { config, tensors })
        })?;
        let wanted = transformer.as_ref().map(|part| &part.config);
        let text_encoder = resolve(&found.text_encoder, TEXT_ENCODER, &mut skipped, |path| {
            let opened = open_part(path, TEXT_ENCODER, qwen3::recognises, qwen3::accepts_config);
            let (set, config) = opened?;
            let (config, tensors) = qwen3::open(set, config.as_ref())?;
            fits(
                path,
                TEXT_ENCODER,
                "width",
                config.hidden_size,
                wanted.map(|w| w.context_dim),
            )?;
            Ok(TextEncoderPart { config, tensors })
        })?;
        let vae = resolve(&found.vae, VAE, &mut skipped, |path| {
            let (set, config) = open_part(path, VAE, vae::recognises, vae::accepts_config)?;
            let (config, tensors) = vae::open(set, config.as_ref())?;
            // The transformer sees patches of 2 x 2 latent pixels.
            let patch = 4 * config.latent_channels;
            fits(
                path,
                VAE,
                "latent patch",
                patch,
                wanted.map(|w| w.in_channels),
            )?;
            Ok(VaePart { config, tensors })
        })?;
        let tokenizer = match &args.tokenizer {
            Some(path) => Some(TokenizerFiles::named(path)?),
            None => layout::first_tokenizer(&found.tokenizer),
        };
        if transformer.is_none() && text_encoder.is_none() && vae.is_none() && tokenizer.is_none() {
            return Err(WeightsError::Nothing {
                path: args.model.clone().unwrap_or_default(),
            });
        }
        Ok(Self {
            name: name(args, transformer.as_ref()),
            layout: found.layout,
            transformer,
            text_encoder,
            vae,
            tokenizer,
            skipped,
        })
    }

    /// Side of the square images that the model was trained on, as its VAE has
    /// it.
    pub fn native_size(&self) -> usize {
        self.vae
            .as_ref()
            .map_or(vae::NATIVE_SIZE, |part| part.config.native_size)
    }

    /// The parts that are not there, as messages call them.
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

    /// The tensors of every part that is there, with the part's name.
    pub fn parts(&self) -> Vec<(&'static str, &PartTensors)> {
        let transformer = self.transformer.as_ref().map(|p| (TRANSFORMER, &p.tensors));
        let text_encoder = self
            .text_encoder
            .as_ref()
            .map(|p| (TEXT_ENCODER, &p.tensors));
        let vae = self.vae.as_ref().map(|p| (VAE, &p.tensors));
        [transformer, text_encoder, vae]
            .into_iter()
            .flatten()
            .collect()
    }

    /// Has `watch` called after each tensor that any part loads.
    pub fn watch(&self, watch: &Watch) {
        for (_, tensors) in self.parts() {
            tensors.watch(watch.clone());
        }
    }
}

/// A name for people: the folder's, or the transformer file's where folders
/// say nothing.
fn name(args: &CheckpointArgs, transformer: Option<&TransformerPart>) -> String {
    let from_transformer = transformer
        .map(|part| part.tensors.path())
        .filter(|path| path.is_file())
        .and_then(Path::file_stem);
    let from_folder = args
        .model
        .as_ref()
        .and_then(|path| path.canonicalize().ok())
        .filter(|path| path.is_dir())
        .and_then(|path| path.file_name().map(ToOwned::to_owned));
    from_transformer
        .map(ToOwned::to_owned)
        .or(from_folder)
        .map_or_else(|| "unnamed".into(), |name| name.to_string_lossy().into())
}

/// Opens a part's tensors, and the `config.json` beside them if it is theirs.
fn open_part(
    path: &Path,
    part: &'static str,
    recognises: impl Fn(&TensorSet) -> bool,
    accepts_config: impl Fn(&serde_json::Value) -> bool,
) -> Result<(TensorSet, Option<Config>), WeightsError> {
    let set = TensorSet::open(path)?;
    if !recognises(&set) {
        return Err(WeightsError::OtherPart {
            file: path.to_owned(),
            part,
            tensor: set.names().next().unwrap_or("(none)").to_owned(),
        });
    }
    let folder = if path.is_dir() {
        path
    } else {
        path.parent().unwrap_or(Path::new(""))
    };
    let config = Config::beside(folder, accepts_config)?;
    Ok((set, config))
}

/// Whether a part's width is the one the transformer works with.
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

/// Opens the one candidate that is the part. A path that was named must be it;
/// among files that were searched for, others are left aside.
fn resolve<P>(
    places: &Places,
    part: &'static str,
    skipped: &mut Vec<Skipped>,
    open: impl Fn(&Path) -> Result<P, WeightsError>,
) -> Result<Option<P>, WeightsError> {
    if !places.searched {
        return places.candidates.first().map(|path| open(path)).transpose();
    }
    let mut good = Vec::new();
    let mut refused: Option<(u8, WeightsError)> = None;
    for path in &places.candidates {
        match open(path) {
            Ok(part) => good.push((path, part)),
            Err(error) => {
                skipped.push(Skipped {
                    path: path.clone(),
                    reason: error.to_string(),
                });
                let rank = blame(path, &error);
                if rank > refused.as_ref().map_or(0, |(rank, _)| *rank) {
                    refused = Some((rank, error));
                }
            }
        }
    }
    if good.is_empty() {
        return refused.map_or(Ok(None), |(_, error)| Err(error));
    }
    if good.len() > 1 && good.iter().any(|(path, _)| named_like_ours(path)) {
        good.retain(|(path, _)| named_like_ours(path));
    }
    if good.len() > 1 {
        let folder = good[0].0.parent().unwrap_or(Path::new(""));
        return Err(WeightsError::Ambiguous {
            folder: folder.to_owned(),
            part,
            candidates: good.iter().map(|(path, _)| (*path).clone()).collect(),
        });
    }
    Ok(good.pop().map(|(_, part)| part))
}

/// How likely a refused file is the one that was meant: 0 when it is healthy
/// and simply another model's.
fn blame(path: &Path, error: &WeightsError) -> u8 {
    let damaged = matches!(
        error,
        WeightsError::Truncated { .. }
            | WeightsError::BadHeader { .. }
            | WeightsError::NotSafetensors { .. }
            | WeightsError::Unreadable { .. }
    );
    match (named_like_ours(path), damaged) {
        (true, _) => 2,
        (false, true) => 1,
        (false, false) => 0,
    }
}

/// Whether a file has the name that the releases give it.
fn named_like_ours(path: &Path) -> bool {
    path.file_name().is_some_and(|name| {
        let name = name.to_string_lossy().to_ascii_lowercase();
        name.contains("ovis") || name == "ae.safetensors"
    })
}
