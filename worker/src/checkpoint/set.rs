//! The tensors of one part, from one file or from shards.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::error::WeightsError;
use super::piece::FileTensor;
use super::shards::{self, Stored};
use super::source::{TensorEntry, TensorSource};
use super::{coded, file, folder};

/// Largest dimension of any network that is built; keeps products of three in range.
const MAX_DIMENSION: usize = 1 << 20;

/// Tensors by name. A name is the file's own until a part's mapping strips prefixes and
/// unifies spellings; [`FileTensor::entry`] keeps the file's.
#[derive(Debug)]
pub(super) struct TensorSet {
    path: PathBuf,
    tensors: BTreeMap<String, FileTensor>,
    files: usize,
}

impl TensorSet {
    /// Opens a safetensors or GGUF file, all shards of which one is named, an index and its shards, or
    /// a folder that holds any of these.
    ///
    /// # Errors
    /// No weights are there, a shard is missing, or a file's header is refused.
    pub fn open(path: &Path) -> Result<Self, WeightsError> {
        let mut set = Self::open_as_it_is(path)?.rename("model", unwrapped)?;
        coded::fold(&mut set.tensors, unwrapped)?;
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
            let Some(tensor) = set.tensors.get(name) else {
                return Err(wrong(format!("none of the shards has its tensor `{name}`")));
            };
            let found = folder::name_of(tensor.path());
            if found != *shard {
                return Err(wrong(format!(
                    "it says that tensor `{name}` is in `{shard}`, and it is in `{found}`"
                )));
            }
        }
        Ok(set)
    }

    /// The tensors of one source.
    pub fn of(source: Arc<dyn TensorSource>) -> Self {
        Self {
            path: source.path().to_owned(),
            tensors: named_tensors(&source).collect(),
            files: 1,
        }
    }

    fn from_files(path: &Path, files: &[PathBuf]) -> Result<Self, WeightsError> {
        let mut tensors = BTreeMap::new();
        for path in files {
            let source = file::open(path)?;
            for (name, tensor) in named_tensors(&source) {
                if tensors.contains_key(&name) {
                    return Err(WeightsError::BadHeader {
                        file: source.path().to_owned(),
                        reason: format!("another shard also has its tensor `{name}`"),
                    });
                }
                tensors.insert(name, tensor);
            }
        }
        Ok(Self {
            path: path.to_owned(),
            tensors,
            files: files.len(),
        })
    }

    /// A number of the files' metadata.
    pub fn number(&self, key: &str) -> Option<f64> {
        let mut tensors = self.tensors.values();
        tensors.find_map(|tensor| tensor.source().number(key))
    }

    /// The file or folder that was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Number of files.
    pub fn files(&self) -> usize {
        self.files
    }

    /// All names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// All tensors with their names, sorted.
    pub fn tensors(&self) -> impl Iterator<Item = (&str, &FileTensor)> {
        self.tensors
            .iter()
            .map(|(name, tensor)| (&name[..], tensor))
    }

    /// A tensor by name.
    pub fn get(&self, name: &str) -> Option<&FileTensor> {
        self.tensors.get(name)
    }

    /// Shape of a tensor of N dimensions.
    ///
    /// # Errors
    /// There is no such tensor, or it has another number of dimensions.
    pub fn dims<const N: usize>(
        &self,
        part: &'static str,
        name: &str,
    ) -> Result<[usize; N], WeightsError> {
        let tensor = self.get(name).ok_or_else(|| WeightsError::Missing {
            file: self.path.clone(),
            part,
            tensor: name.to_owned(),
        })?;
        let TensorEntry { name, shape, .. } = tensor.entry();
        shape[..].try_into().map_err(|_| WeightsError::Geometry {
            file: tensor.path().to_owned(),
            part,
            reason: format!("tensor `{name}` has the shape {shape:?}, not {N} dimensions"),
        })
    }

    /// Checks dimensions that were read from shapes, each with a description, before
    /// anything is divided or multiplied by them.
    ///
    /// # Errors
    /// [`WeightsError::Geometry`] for one that is 0 or larger than any network's.
    pub fn check_dimensions(
        &self,
        part: &'static str,
        dimensions: &[(&str, usize)],
    ) -> Result<(), WeightsError> {
        let mut dimensions = dimensions.iter();
        match dimensions.find(|(_, dimension)| !(1..=MAX_DIMENSION).contains(dimension)) {
            Some((what, dimension)) => {
                Err(self.geometry_error(part, format!("{what} would be {dimension}")))
            }
            None => Ok(()),
        }
    }

    /// The refusal of a geometry that no Ovis-Image has.
    pub fn geometry_error(&self, part: &'static str, reason: String) -> WeightsError {
        WeightsError::Geometry {
            file: self.path.clone(),
            part,
            reason,
        }
    }

    /// Whether a name starts with `prefix`.
    pub fn any_starts_with(&self, prefix: &str) -> bool {
        self.first_with(prefix).is_some()
    }

    /// The first tensor whose name starts with `prefix`.
    pub fn first_with(&self, prefix: &str) -> Option<&FileTensor> {
        let (name, tensor) = self.tensors.range(prefix.to_owned()..).next()?;
        name.starts_with(prefix).then_some(tensor)
    }

    /// Length of a module list: one more than the highest N among names `{list}.{N}.…`, or 0.
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

    /// Renames every tensor.
    ///
    /// # Errors
    /// [`WeightsError::Unknown`] if two tensors would get the same name.
    pub fn rename(
        self,
        part: &'static str,
        new_name: impl Fn(&str) -> String,
    ) -> Result<Self, WeightsError> {
        let mut tensors = BTreeMap::new();
        for (name, tensor) in self.tensors {
            if let Some(twin) = tensors.insert(new_name(&name), tensor) {
                return Err(WeightsError::Unknown {
                    file: twin.path().to_owned(),
                    part,
                    tensor: name,
                });
            }
        }
        Ok(Self { tensors, ..self })
    }

    /// Strips the first of `prefixes` which some name has in front of one of `anchors`; names
    /// without the prefix stay the same.
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

fn named_tensors(
    source: &Arc<dyn TensorSource>,
) -> impl Iterator<Item = (String, FileTensor)> + '_ {
    let names = source.names();
    names.filter_map(move |name| Some((name.to_owned(), FileTensor::of(source, name)?)))
}

/// Name components that PyTorch's wrappers insert: `torch.compile`, FSDP and activation
/// checkpointing.
const WRAPPERS: [&str; 3] = [
    "_orig_mod",
    "_fsdp_wrapped_module",
    "_checkpoint_wrapped_module",
];

/// A tensor's name without the components of wrappers, and without the `module.` in front
/// that data parallelism adds.
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
    use super::super::test_files::{write, Stored};
    use super::*;
    use crate::quants::Scales;

    fn one(name: &str) -> Stored {
        Stored::f32(name, &[2, 1], &[1., 2.])
    }

    #[test]
    fn shards_are_one_set() {
        let folder = tempfile::tempdir().unwrap();
        let shard = |number: usize| {
            let name = format!("model-0000{number}-of-00002.safetensors");
            folder.path().join(name)
        };
        write(&shard(1), &[one("layers.0.a"), one("module.layers.2.a")]);
        write(&shard(2), &[one("layers.1.a")]);
        // Any of the shards stands for all, as their folder does.
        for path in [shard(1), shard(2), folder.path().to_owned()] {
            let set = TensorSet::open(&path).unwrap();
            let names: Vec<_> = set.names().collect();
            assert_eq!(names, ["layers.0.a", "layers.1.a", "layers.2.a"]);
            assert_eq!((set.files(), set.count("layers")), (2, 3));
            assert_eq!(set.path(), folder.path());
            assert_eq!(set.get("layers.1.a").unwrap().path(), shard(2));
        }
        std::fs::remove_file(shard(1)).unwrap();
        let error = TensorSet::open(&shard(2)).unwrap_err();
        assert!(matches!(error, WeightsError::Unfinished { .. }), "{error}");
    }

    #[test]
    fn a_tensor_in_two_shards_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        for number in [1, 2] {
            let name = format!("x-{number}-of-2.safetensors");
            write(&folder.path().join(name), &[one("a")]);
        }
        let error = TensorSet::open(folder.path()).unwrap_err().to_string();
        assert!(error.contains("another shard also has"), "{error}");
    }

    #[test]
    fn prefixes_and_scales_are_folded() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.safetensors");
        let weight = Stored::raw("model.q.weight", "F8_E4M3", &[2], vec![1, 2]);
        let scale = Stored::f32("model.q.scale_weight", &[], &[0.5]);
        write(&path, &[weight, scale, one("other")]);
        let set = TensorSet::open(&path).unwrap();
        let set = set.strip_prefix("x", &["", "model."], &["q."]).unwrap();
        assert_eq!(set.names().collect::<Vec<_>>(), ["other", "q.weight"]);
        let weight = set.get("q.weight").unwrap();
        assert_eq!(weight.coding().scales(0..2), Scales::Whole(0.5));
        assert_eq!(weight.entry().name, "model.q.weight");
        assert_eq!(set.dims::<1>("x", "q.weight").unwrap(), [2]);
        let error = set.dims::<2>("x", "q.weight").unwrap_err().to_string();
        assert!(error.contains("[2], not 2 dimensions"), "{error}");
        let error = set.rename("x", |_| "same".into()).unwrap_err();
        assert!(matches!(error, WeightsError::Unknown { .. }), "{error}");
    }

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
