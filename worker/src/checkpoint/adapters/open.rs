//! Opening an adapter's file, and fitting it to a model.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::build::{build, Built};
use super::delta::Change;
use super::error::AdapterError;
use super::info::AdapterInfo;
use super::key::parse;
use super::module::Module;
use super::names::{Names, Part};
use super::settings::{Settings, PEFT_WEIGHTS};
use super::summary::Summary;
use crate::checkpoint::file::TensorFile;
use crate::checkpoint::folder;
use crate::checkpoint::geometry::{MmditConfig, Qwen3Config};
use crate::checkpoint::mapped::MappedFile;
use crate::checkpoint::piece::FileTensor;
use crate::checkpoint::source::TensorSource;

/// Names of the weights in a folder that peft or diffusers saved.
const IN_FOLDERS: [&str; 2] = [PEFT_WEIGHTS, "pytorch_lora_weights.safetensors"];

/// An adapter's file, before it is fitted to a model. It stays mapped.
#[derive(Debug)]
pub struct AdapterFile {
    path: PathBuf,
    modules: BTreeMap<String, Module>,
    /// Tensors of no known kind of adapter.
    unknown: Vec<String>,
    total: usize,
    settings: Settings,
    info: AdapterInfo,
}

/// An adapter, fitted to a model: every change that it makes, typed and checked.
#[derive(Debug)]
pub struct Adapter {
    /// The file.
    pub path: PathBuf,
    /// Changes of the transformer, by module.
    pub transformer: Vec<Change>,
    /// Changes of the text encoder, by module.
    pub text_encoder: Vec<Change>,
    /// Names of the file's tensors that fit nothing in the model, sorted. Empty if the adapter was
    /// opened strictly.
    pub unused: Vec<String>,
    /// Number of tensors for a part whose geometry was not given.
    pub elsewhere: usize,
    /// What the file says about itself.
    pub info: AdapterInfo,
}

/// The model that an adapter is fitted to. A part that is not there may be changed by the adapter
/// all the same; those changes are counted and left out.
#[derive(Clone, Copy, Debug, Default)]
pub struct AdaptedModel<'a> {
    /// The transformer's geometry.
    pub transformer: Option<&'a MmditConfig>,
    /// The text encoder's geometry.
    pub text_encoder: Option<&'a Qwen3Config>,
}

impl Adapter {
    /// Opens the adapter in a file, or in a folder that peft or diffusers saved, and fits it to a
    /// model. If it is `strict`, every tensor of the file must change something.
    ///
    /// # Errors
    /// The file is damaged or no adapter, its tensors contradict each other or the model, or some
    /// fit nothing in the model and it is strict.
    pub fn open(path: &Path, model: AdaptedModel, strict: bool) -> Result<Self, AdapterError> {
        AdapterFile::open(path)?.fit(model, strict)
    }
}

impl AdapterFile {
    /// Reads the header and the settings of an adapter.
    ///
    /// # Errors
    /// The file is damaged or no adapter, or two tensors have the same meaning.
    pub fn open(path: &Path) -> Result<Self, AdapterError> {
        let path = match path.is_dir() {
            true => {
                let inside = IN_FOLDERS.iter().map(|name| path.join(name));
                let found = inside.clone().find(|inside| inside.is_file());
                found.unwrap_or_else(|| path.to_owned())
            }
            false => path.to_owned(),
        };
        let file = TensorFile::safetensors(MappedFile::open(&path)?)?;
        let metadata = file.metadata();
        let source: Arc<dyn TensorSource> = Arc::new(file);
        let mut modules: BTreeMap<String, Module> = BTreeMap::new();
        let (mut unknown, mut total) = (Vec::new(), 0);
        for key in source.names() {
            total += 1;
            let parsed = parse(key).zip(FileTensor::of(&source, key));
            let Some(((module, role), tensor)) = parsed else {
                unknown.push(key.to_owned());
                continue;
            };
            let tensors = modules.entry(module.clone()).or_default();
            if let Some(twin) = tensors.insert(role, tensor) {
                let twin = &twin.entry().name;
                return Err(AdapterError::module(
                    &path,
                    &module,
                    format!("has both `{twin}` and `{key}`: name one adapter alone in a file"),
                ));
            }
        }
        if modules.is_empty() {
            let tensor = unknown.first().cloned().unwrap_or_default();
            return Err(AdapterError::NotAnAdapter { file: path, tensor });
        }
        let settings = Settings::of(&path, &metadata)?;
        let mut info = AdapterInfo::of(&path, &metadata);
        info.base_model = info.base_model.or(settings.base_model().map(str::to_owned));
        Ok(Self {
            path,
            modules,
            unknown,
            total,
            settings,
            info,
        })
    }

    /// Whether a file looks like an adapter by the names in its header: at least half of its
    /// tensors are of a known kind.
    pub fn recognises(path: &Path) -> bool {
        let is_folder = path.is_dir();
        let is_adapter = !is_folder || IN_FOLDERS.iter().any(|name| path.join(name).is_file());
        is_adapter
            && (is_folder || folder::is_safetensors(path))
            && Self::open(path).is_ok_and(|file| 2 * file.unknown.len() <= file.total)
    }

    /// What the file holds, with its modules looked up by name in a model of any size.
    pub fn summary(&self) -> Summary {
        let names = Names::new(None, None);
        Summary::of(&self.path, &self.modules, &self.unknown, &names, &self.info)
    }

    /// Types every change and checks it against the model.
    ///
    /// # Errors
    /// As [`Adapter::open`].
    pub fn fit(&self, model: AdaptedModel, strict: bool) -> Result<Adapter, AdapterError> {
        let names = Names::new(model.transformer, model.text_encoder);
        let mut adapter = Adapter {
            path: self.path.clone(),
            transformer: Vec::new(),
            text_encoder: Vec::new(),
            unused: self.unknown.clone(),
            elsewhere: 0,
            info: self.info.clone(),
        };
        let mut seen: BTreeMap<(Part, String, usize, usize), &String> = BTreeMap::new();
        for (name, module) in &self.modules {
            let Some(found) = names.find(name) else {
                let names = module
                    .tensors()
                    .map(|(_, tensor)| tensor.entry().name.clone());
                adapter.unused.extend(names);
                continue;
            };
            let changes = match found.part {
                Part::Transformer if model.transformer.is_some() => &mut adapter.transformer,
                Part::TextEncoder if model.text_encoder.is_some() => &mut adapter.text_encoder,
                _ => {
                    adapter.elsewhere += module.tensors().count();
                    continue;
                }
            };
            let Built {
                changes: built,
                unused,
            } = build(&self.path, name, module, found.target, &self.settings)?;
            adapter.unused.extend(unused);
            for Change { place, .. } in &built {
                let first = place.rows.first().map_or(0, |rows| rows.start);
                let rows = (found.part, place.tensor.clone(), first, place.shape[0]);
                let other = *seen.entry(rows).or_insert(name);
                if other != name {
                    return Err(AdapterError::module(
                        &self.path,
                        name,
                        format!("changes the same rows as the module `{other}`"),
                    ));
                }
            }
            changes.extend(built);
        }
        adapter.unused.sort();
        match strict && !adapter.unused.is_empty() {
            true => Err(AdapterError::Unknown {
                file: self.path.clone(),
                tensors: adapter.unused,
                total: self.total,
            }),
            false => Ok(adapter),
        }
    }
}
