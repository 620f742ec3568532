//! The tensors of one part, from one file or from shards.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use safetensors::tensor::TensorInfo;

use super::error::WeightsError;
use super::file::SafetensorsFile;
use super::shards::{self, Stored};
use super::{folder, scaled_fp8};

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
    /// Opens a safetensors file, one of several shards (which stands for all), their index,
    /// or a folder that holds any of these.
    ///
    /// # Errors
    /// Nothing usable is there, or a file is refused.
    pub fn open(path: &Path) -> Result<Self, WeightsError> {
        let mut set = Self::open_as_it_is(path)?.rename("model", unwrapped)?;
        scaled_fp8::fold(&mut set.tensors)?;
        Ok(set)
    }

    fn open_as_it_is(path: &Path) -> Result<Self, WeightsError> {
        if !folder::metadata(path)?.is_dir() {
            let folder = folder::around(path);
            return match (shards::is_index(path), shards::siblings(path)?) {
                (true, _) => Self::from_index(&folder, path),
                (false, Some(shards)) => Self::from_files(&folder, &shards),
                (false, None) => Self::from_files(path, &[path.to_owned()]),
            };
        }
        match shards::in_folder(path)? {
            Stored::Index(index) => Self::from_index(path, &index),
            Stored::Files(files) => Self::from_files(path, &files),
        }
    }

    fn from_index(folder: &Path, index: &Path) -> Result<Self, WeightsError> {
        let wrong = |reason: String| WeightsError::Json {
            file: index.to_owned(),
            reason,
        };
        let map = shards::read_index(index)?;
        let shards: BTreeSet<_> = map.values().collect();
        let shards: Vec<_> = shards.into_iter().map(|name| folder.join(name)).collect();
        if let Some(missing) = shards.iter().find(|path| shards::is_gone(path)) {
            return Err(WeightsError::Unfinished {
                file: index.to_owned(),
                reason: format!("its shard `{}` is missing", folder::name_of(missing)),
            });
        }
        let set = Self::from_files(folder, &shards)?;
        for (name, shard) in &map {
            let Some(source) = set.tensors.get(name) else {
                return Err(wrong(format!("none of the shards has its tensor `{name}`")));
            };
            let found = folder::name_of(source.file.path());
            if found != *shard {
                return Err(wrong(format!(
                    "it says that tensor `{name}` is in `{shard}`, and it is in `{found}`"
                )));
            }
        }
        Ok(set)
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

/// What PyTorch's wrappers put between the names of modules: `torch.compile`, FSDP and
/// activation checkpointing.
const WRAPPERS: [&str; 3] = [
    "_orig_mod",
    "_fsdp_wrapped_module",
    "_checkpoint_wrapped_module",
];

/// A tensor's name without wrappers; those of data parallelism stand in front.
fn unwrapped(name: &str) -> String {
    let kept: Vec<_> = name
        .split('.')
        .filter(|part| !WRAPPERS.contains(part))
        .collect();
    let mut name = &kept.join(".")[..];
    while let Some(inner) = name.strip_prefix("module.") {
        name = inner;
    }
    name.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrappers_are_taken_off() {
        let cases = [
            ("_orig_mod.img_in.weight", "img_in.weight"),
            ("module._orig_mod.module.img_in.weight", "img_in.weight"),
            (
                "model.diffusion_model._orig_mod.x.bias",
                "model.diffusion_model.x.bias",
            ),
            (
                "double_blocks.0._orig_mod.img_mod.lin.weight",
                "double_blocks.0.img_mod.lin.weight",
            ),
            ("submodule.x", "submodule.x"),
        ];
        for (name, plain) in cases {
            assert_eq!(unwrapped(name), plain);
        }
    }
}
