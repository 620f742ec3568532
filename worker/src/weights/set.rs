//! The tensors of one part, from one file or from shards.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use safetensors::tensor::TensorInfo;

use super::error::WeightsError;
use super::file::SafetensorsFile;
use super::{json, scaled_fp8};

/// A tensor in a file.
#[derive(Clone, Debug)]
pub(super) struct Source {
    pub file: Arc<SafetensorsFile>,
    /// Its name there.
    pub name: String,
    /// What 8-bit floats are to be multiplied by; 1 for all others.
    pub scale: f32,
}

impl Source {
    /// Its type and shape.
    pub fn info(&self) -> &TensorInfo {
        // A source is only ever made from a name of its file's own table.
        &self.file.tensors()[&self.name]
    }
}

/// Tensors by name. The names are the files' own until a part's mapping strips
/// prefixes and spells variants alike.
#[derive(Debug)]
pub(super) struct TensorSet {
    path: PathBuf,
    tensors: BTreeMap<String, Source>,
    files: usize,
}

impl TensorSet {
    /// Opens a safetensors file, or a folder that holds one, or one in shards.
    ///
    /// # Errors
    /// Nothing usable is there, or a file is refused.
    pub fn open(path: &Path) -> Result<Self, WeightsError> {
        let mut set = Self::open_as_it_is(path)?;
        scaled_fp8::fold(&mut set.tensors)?;
        Ok(set)
    }

    fn open_as_it_is(path: &Path) -> Result<Self, WeightsError> {
        if !path.is_dir() {
            return Self::from_files(path, &[path.to_owned()]);
        }
        let names = file_names(path)?;
        let indexes: Vec<_> = names
            .iter()
            .filter(|n| n.ends_with(".safetensors.index.json"))
            .collect();
        match indexes[..] {
            [] => {}
            [index] => return Self::from_index(path, &path.join(index)),
            _ => return Err(ambiguous(path, indexes)),
        }
        let singles: Vec<_> = names
            .iter()
            .filter(|n| n.ends_with(".safetensors"))
            .collect();
        // Beside the plain file there may be variants, as `model.fp16.safetensors`.
        let plain = ["diffusion_pytorch_model.safetensors", "model.safetensors"];
        if let Some(name) = plain.iter().find(|p| singles.iter().any(|s| s == *p)) {
            return Self::from_files(path, &[path.join(name)]);
        }
        match singles[..] {
            [one] => Self::from_files(path, &[path.join(one)]),
            [] => Err(match names.iter().find(|n| is_pickle_name(n)) {
                Some(pickle) => WeightsError::NotSafetensors {
                    file: path.join(pickle),
                    what: "a PyTorch pickle",
                },
                None => WeightsError::Nothing {
                    path: path.to_owned(),
                },
            }),
            _ => Err(ambiguous(path, singles)),
        }
    }

    fn from_index(folder: &Path, index: &Path) -> Result<Self, WeightsError> {
        let value = json::read(index)?;
        let bad = |reason: &str| WeightsError::Json {
            file: index.to_owned(),
            reason: reason.into(),
        };
        let map = value["weight_map"]
            .as_object()
            .ok_or_else(|| bad("it has no `weight_map`"))?;
        let mut shards = BTreeSet::new();
        for shard in map.values() {
            let name = shard
                .as_str()
                .filter(|n| !n.contains(['/', '\\']))
                .ok_or_else(|| bad("its `weight_map` names something that is not a file"))?;
            shards.insert(folder.join(name));
        }
        let shards: Vec<_> = shards.into_iter().collect();
        let set = Self::from_files(folder, &shards)?;
        match map.keys().find(|name| !set.tensors.contains_key(*name)) {
            Some(name) => Err(WeightsError::Json {
                file: index.to_owned(),
                reason: format!("none of the shards has its tensor `{name}`"),
            }),
            None => Ok(set),
        }
    }

    fn from_files(path: &Path, files: &[PathBuf]) -> Result<Self, WeightsError> {
        let mut tensors = BTreeMap::new();
        for file in files {
            let file = Arc::new(SafetensorsFile::open(file)?);
            for name in file.tensors().keys() {
                let source = Source {
                    file: file.clone(),
                    name: name.clone(),
                    scale: 1.0,
                };
                if tensors.insert(name.clone(), source).is_some() {
                    return Err(WeightsError::BadHeader {
                        file: file.path().to_owned(),
                        reason: format!("another shard also has its tensor `{name}`"),
                    });
                }
            }
        }
        Ok(Self {
            path: path.to_owned(),
            tensors,
            files: files.len(),
        })
    }

    /// The file or folder this was opened from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How many files it is made of.
    pub fn files(&self) -> usize {
        self.files
    }

    /// All names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// A tensor by name.
    pub fn get(&self, name: &str) -> Option<&Source> {
        self.tensors.get(name)
    }

    /// A tensor's shape.
    ///
    /// # Errors
    /// There is no such tensor, or it has another number of dimensions than N.
    pub fn dims<const N: usize>(
        &self,
        part: &'static str,
        name: &str,
    ) -> Result<[usize; N], WeightsError> {
        let source = self.get(name).ok_or_else(|| WeightsError::Missing {
            file: self.path.clone(),
            part,
            tensor: name.to_owned(),
        })?;
        let shape = &source.info().shape;
        shape[..].try_into().map_err(|_| WeightsError::Geometry {
            file: source.file.path().to_owned(),
            part,
            reason: format!(
                "tensor `{}` has the shape {shape:?}, not {N} dimensions",
                source.name
            ),
        })
    }

    /// Whether a name starts so.
    pub fn any_starts_with(&self, prefix: &str) -> bool {
        self.first_with(prefix).is_some()
    }

    /// The first name that starts so.
    pub fn first_with(&self, prefix: &str) -> Option<&Source> {
        let (name, source) = self.tensors.range(prefix.to_owned()..).next()?;
        name.starts_with(prefix).then_some(source)
    }

    /// One more than the highest N among names `{list}.{N}.…`; 0 without any.
    pub fn count(&self, list: &str) -> usize {
        let prefix = format!("{list}.");
        let numbers = self.names().filter_map(|n| {
            n.strip_prefix(&prefix)?
                .split('.')
                .next()?
                .parse::<u16>()
                .ok()
        });
        numbers.max().map_or(0, |n| usize::from(n) + 1)
    }

    /// Spells every name anew.
    ///
    /// # Errors
    /// Two tensors would get the same name.
    pub fn rename(
        self,
        part: &'static str,
        new_name: impl Fn(&str) -> String,
    ) -> Result<Self, WeightsError> {
        let mut tensors = BTreeMap::new();
        for (name, source) in self.tensors {
            if let Some(twin) = tensors.insert(new_name(&name), source) {
                return Err(WeightsError::Unknown {
                    file: twin.file.path().to_owned(),
                    part,
                    tensor: name,
                });
            }
        }
        Ok(Self { tensors, ..self })
    }

    /// Strips the first of `prefixes` under which a name starts with one of
    /// `anchors`; names outside it keep theirs.
    ///
    /// # Errors
    /// As [`rename`](Self::rename).
    pub fn strip_prefix(
        self,
        part: &'static str,
        prefixes: &[&str],
        anchors: &[&str],
    ) -> Result<Self, WeightsError> {
        let prefix = prefixes.iter().find(|prefix| {
            anchors
                .iter()
                .any(|anchor| self.any_starts_with(&format!("{prefix}{anchor}")))
        });
        match prefix {
            Some(prefix) if !prefix.is_empty() => self.rename(part, |name| {
                name.strip_prefix(prefix).unwrap_or(name).to_owned()
            }),
            _ => Ok(self),
        }
    }
}

/// Names of the plain files in a folder, sorted.
///
/// # Errors
/// The folder cannot be listed.
pub(super) fn file_names(folder: &Path) -> Result<Vec<String>, WeightsError> {
    let unreadable = |e: std::io::Error| WeightsError::Unreadable {
        file: folder.to_owned(),
        reason: e.to_string(),
    };
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        if entry.path().is_file() {
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    names.sort();
    Ok(names)
}

/// Whether a file's name is one that PyTorch pickles go by.
fn is_pickle_name(name: &str) -> bool {
    [".bin", ".pt", ".pth", ".ckpt"]
        .iter()
        .any(|ending| name.ends_with(ending))
}

fn ambiguous(folder: &Path, names: Vec<&String>) -> WeightsError {
    WeightsError::Ambiguous {
        folder: folder.to_owned(),
        part: "weights",
        candidates: names.into_iter().map(PathBuf::from).collect(),
    }
}
