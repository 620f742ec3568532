//! A part's table: canonical tensor names, and how each is made of the file's.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use candle_core::{DType, Device, Tensor};
use safetensors::Dtype;

use super::error::WeightsError;
use super::file::SafetensorsFile;
use super::read_ahead::read_ahead;
use super::scaled_fp8;
use super::set::{Source, TensorSet};
use crate::nn::concat;

/// How far the loading of a part is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoadProgress {
    /// The part: `transformer`, `text encoder` or `VAE`.
    pub part: &'static str,
    /// Bytes of its files that have been taken.
    pub bytes: u64,
    /// Bytes of its files in all.
    pub total: u64,
}

/// Called after each tensor of a part is loaded.
pub type Watch = Arc<dyn Fn(LoadProgress) + Send + Sync>;

/// How a canonical tensor is made.
#[derive(Debug)]
enum Recipe {
    /// The source as it is; a trailing 1 x 1 of a convolution is dropped.
    Whole(Source),
    /// Sources one below the other.
    Rows(Vec<Source>),
    /// The source with its upper and lower half of rows exchanged.
    SwappedHalves(Source),
}

impl Recipe {
    fn sources(&self) -> &[Source] {
        match self {
            Self::Whole(source) | Self::SwappedHalves(source) => std::slice::from_ref(source),
            Self::Rows(sources) => sources,
        }
    }
}

#[derive(Debug)]
struct Entry {
    shape: Vec<usize>,
    recipe: Recipe,
    taken: AtomicBool,
}

/// Tensors that are in a part's files and not in the part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ignored {
    /// What they have in common: `visual_tokenizer.*`.
    pub name: String,
    /// How many there are.
    pub tensors: usize,
    /// Their bytes together.
    pub bytes: u64,
}

/// The tensors of one part under their canonical names, still in the mapped
/// files.
pub struct PartTensors {
    part: &'static str,
    path: PathBuf,
    files: usize,
    entries: BTreeMap<String, Entry>,
    ignored: Vec<Ignored>,
    loaded: AtomicU64,
    watch: OnceLock<Watch>,
}

impl fmt::Debug for PartTensors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PartTensors")
            .field("part", &self.part)
            .field("path", &self.path)
            .field("tensors", &self.entries.len())
            .finish_non_exhaustive()
    }
}

impl PartTensors {
    /// The tensor of a canonical name, converted to `dtype`, on `device`.
    ///
    /// # Errors
    /// The part has no such tensor, it has another shape, or the device
    /// refuses it.
    pub fn get(
        &self,
        name: &str,
        shape: &[usize],
        dtype: DType,
        device: &Device,
    ) -> Result<Tensor, WeightsError> {
        let entry = self
            .entries
            .get(name)
            .ok_or_else(|| self.table_error(name, "it is not in the file".into()))?;
        if entry.shape != shape {
            let reason = format!("the model wants {shape:?}, the file has {:?}", entry.shape);
            return Err(self.table_error(name, reason));
        }
        let tensor = build(&entry.recipe, shape, dtype, device)
            .map_err(|source| self.device_error(name, source))?;
        if !entry.taken.swap(true, Ordering::Relaxed) {
            let bytes = recipe_bytes(&entry.recipe);
            let bytes = self.loaded.fetch_add(bytes, Ordering::Relaxed) + bytes;
            if let Some(watch) = self.watch.get() {
                watch(LoadProgress {
                    part: self.part,
                    bytes,
                    total: self.bytes(),
                });
            }
        }
        Ok(tensor)
    }

    /// The device's refusal of a tensor.
    pub fn device_error(&self, name: &str, source: candle_core::Error) -> WeightsError {
        WeightsError::Device {
            file: self.path.clone(),
            tensor: name.to_owned(),
            source: Box::new(source),
        }
    }

    /// Whether there is a tensor of this canonical name.
    pub fn contains(&self, canonical: &str) -> bool {
        self.entries.contains_key(canonical)
    }

    /// Checks that every tensor has been taken by [`get`](Self::get).
    ///
    /// # Errors
    /// One has not: the model is smaller than the file.
    pub fn finish(&self) -> Result<(), WeightsError> {
        let left = self
            .entries
            .iter()
            .find(|(_, entry)| !entry.taken.load(Ordering::Relaxed));
        match left {
            Some((name, _)) => Err(self.table_error(name, "the model does not use it".into())),
            None => Ok(()),
        }
    }

    /// Has `watch` called after each tensor that is loaded from now on. Only
    /// the first watcher of a part is kept.
    pub fn watch(&self, watch: Watch) {
        // A second watcher is not an error, and not kept either.
        let _ = self.watch.set(watch);
    }

    /// How many numbers the part has.
    pub fn parameters(&self) -> u64 {
        let count = |entry: &Entry| entry.shape.iter().map(|&d| d as u64).product::<u64>();
        self.entries.values().map(count).sum()
    }

    /// Starts to bring the part's files into memory, for [`get`](Self::get) to find them
    /// there.
    pub fn read_ahead(&self) {
        read_ahead(&self.opened());
    }

    /// The files that its tensors are in.
    fn opened(&self) -> Vec<Arc<SafetensorsFile>> {
        let mut files: Vec<Arc<SafetensorsFile>> = Vec::new();
        for source in self.entries.values().flat_map(|e| e.recipe.sources()) {
            if !files.iter().any(|file| Arc::ptr_eq(file, &source.file)) {
                files.push(source.file.clone());
            }
        }
        files
    }

    /// Whether another part's files have the same bytes. Reads both as far as they agree.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        let (ours, theirs) = (self.opened(), other.opened());
        let mut pairs = ours.iter().zip(&theirs);
        ours.len() == theirs.len() && pairs.all(|(a, b)| a.is_same(b))
    }

    /// How many bytes they take in the files.
    pub fn bytes(&self) -> u64 {
        self.entries.values().map(|e| recipe_bytes(&e.recipe)).sum()
    }

    /// How many tensors the files have for the part.
    pub fn tensors(&self) -> usize {
        let count = |entry: &Entry| entry.recipe.sources().len();
        self.entries.values().map(count).sum()
    }

    /// The types the numbers are stored in, the most frequent first, by the
    /// safetensors names: `BF16`.
    pub fn dtypes(&self) -> Vec<String> {
        let mut bytes: BTreeMap<String, u64> = BTreeMap::new();
        for source in self.entries.values().flat_map(|e| e.recipe.sources()) {
            let info = source.info();
            *bytes.entry(info.dtype.to_string()).or_default() += source_bytes(source);
        }
        let mut dtypes: Vec<_> = bytes.into_iter().collect();
        dtypes.sort_by_key(|(_, bytes)| std::cmp::Reverse(*bytes));
        dtypes.into_iter().map(|(dtype, _)| dtype).collect()
    }

    /// The file or folder they come from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How many files that is.
    pub fn files(&self) -> usize {
        self.files
    }

    /// Known extras in those files that the part leaves alone.
    pub fn ignored(&self) -> &[Ignored] {
        &self.ignored
    }

    fn table_error(&self, tensor: &str, reason: String) -> WeightsError {
        WeightsError::Table {
            file: self.path.clone(),
            part: self.part,
            tensor: tensor.to_owned(),
            reason,
        }
    }
}

fn source_bytes(source: &Source) -> u64 {
    let (start, end) = source.info().data_offsets;
    (end - start) as u64
}

fn recipe_bytes(recipe: &Recipe) -> u64 {
    recipe.sources().iter().map(source_bytes).sum()
}

fn build(
    recipe: &Recipe,
    shape: &[usize],
    dtype: DType,
    device: &Device,
) -> candle_core::Result<Tensor> {
    let load = |source: &Source| -> candle_core::Result<Tensor> {
        let info = source.info();
        let stored = candle_dtype(info.dtype).ok_or_else(|| {
            candle_core::Error::Msg(format!("{} cannot be computed with", info.dtype))
        })?;
        let bytes = source.file.bytes(info);
        // Copying the stored bytes and converting there is the fast way, but
        // 8-bit floats convert on the CPU only.
        let tensor = match stored {
            DType::F8E4M3 => scaled_fp8::decode(bytes, source.scale, &info.shape, dtype)?,
            _ => Tensor::from_raw_buffer(bytes, stored, &info.shape, device)?,
        };
        tensor.to_device(device)?.to_dtype(dtype)
    };
    match recipe {
        Recipe::Whole(source) => load(source)?.reshape(shape),
        Recipe::Rows(sources) => {
            let pieces = sources.iter().map(load).collect::<Result<Vec<_>, _>>()?;
            concat(&pieces.iter().collect::<Vec<_>>(), 0)
        }
        Recipe::SwappedHalves(source) => {
            let whole = load(source)?;
            let half = shape[0] / 2;
            let (upper, lower) = (whole.narrow(0, 0, half)?, whole.narrow(0, half, half)?);
            concat(&[&lower, &upper], 0)
        }
    }
}

/// The types that weights may be stored in.
fn candle_dtype(dtype: Dtype) -> Option<DType> {
    match dtype {
        Dtype::F64 => Some(DType::F64),
        Dtype::F32 => Some(DType::F32),
        Dtype::F16 => Some(DType::F16),
        Dtype::BF16 => Some(DType::BF16),
        Dtype::F8_E4M3 => Some(DType::F8E4M3),
        _ => None,
    }
}

/// Largest dimension of any network that is built; keeps products of three in range.
const MAX_DIMENSION: usize = 1 << 20;

/// Checks a dimension that shapes gave, before anything is divided or multiplied by it.
///
/// # Errors
/// It is none that a network can have; the reason says so of `what`.
pub(super) fn in_range(what: &str, dimension: usize) -> Result<(), String> {
    match dimension {
        0 => Err(format!("{what} would be 0")),
        1..=MAX_DIMENSION => Ok(()),
        _ => Err(format!("{what} would be {dimension}")),
    }
}

/// Builds a part's table from a [`TensorSet`], checking as it goes: every
/// tensor that a mapping names must be there, in its shape and a usable type.
pub(super) struct TableBuilder {
    part: &'static str,
    set: TensorSet,
    entries: BTreeMap<String, Entry>,
    used: BTreeSet<String>,
}

impl TableBuilder {
    /// An empty table over `set`.
    pub fn new(part: &'static str, set: TensorSet) -> Self {
        Self {
            part,
            set,
            entries: BTreeMap::new(),
            used: BTreeSet::new(),
        }
    }

    /// The tensors it is made of.
    pub fn set(&self) -> &TensorSet {
        &self.set
    }

    /// `canonical` is the tensor `name` as it is.
    ///
    /// # Errors
    /// The tensor is missing, misshapen or of an unusable type.
    pub fn whole(
        &mut self,
        canonical: String,
        name: &str,
        shape: &[usize],
    ) -> Result<(), WeightsError> {
        let source = self.take(name, shape, false)?;
        self.insert(canonical, shape, Recipe::Whole(source));
        Ok(())
    }

    /// `canonical` of shape `[rows, columns]` is the tensor `name`, which may
    /// be a 1 x 1 convolution.
    ///
    /// # Errors
    /// As [`whole`](Self::whole).
    pub fn squeezed(
        &mut self,
        canonical: String,
        name: &str,
        shape: &[usize],
    ) -> Result<(), WeightsError> {
        let source = self.take(name, shape, true)?;
        self.insert(canonical, shape, Recipe::Whole(source));
        Ok(())
    }

    /// `canonical` is the tensor `name` with the halves of its rows exchanged.
    ///
    /// # Errors
    /// As [`whole`](Self::whole).
    pub fn swapped(
        &mut self,
        canonical: String,
        name: &str,
        shape: &[usize],
    ) -> Result<(), WeightsError> {
        let source = self.take(name, shape, false)?;
        self.insert(canonical, shape, Recipe::SwappedHalves(source));
        Ok(())
    }

    /// `canonical` is these tensors, each with its number of rows, one below
    /// the other; `tail` are the dimensions after the rows.
    ///
    /// # Errors
    /// As [`whole`](Self::whole).
    pub fn rows(
        &mut self,
        canonical: String,
        pieces: &[(String, usize)],
        tail: &[usize],
    ) -> Result<(), WeightsError> {
        let mut sources = Vec::with_capacity(pieces.len());
        for (name, rows) in pieces {
            let shape: Vec<_> = [*rows].iter().chain(tail).copied().collect();
            sources.push(self.take(name, &shape, false)?);
        }
        let rows = pieces.iter().map(|(_, rows)| rows).sum();
        let shape: Vec<_> = [rows].iter().chain(tail).copied().collect();
        self.insert(canonical, &shape, Recipe::Rows(sources));
        Ok(())
    }

    /// A linear layer's `weight` and `bias`, as they are.
    ///
    /// # Errors
    /// As [`whole`](Self::whole).
    pub fn linear(
        &mut self,
        canonical: &str,
        name: &str,
        [out, inner]: [usize; 2],
    ) -> Result<(), WeightsError> {
        self.whole(
            format!("{canonical}.weight"),
            &format!("{name}.weight"),
            &[out, inner],
        )?;
        self.whole(format!("{canonical}.bias"), &format!("{name}.bias"), &[out])
    }

    /// A linear layer made of several, each with its number of outputs, one
    /// below the other.
    ///
    /// # Errors
    /// As [`whole`](Self::whole).
    pub fn linear_rows(
        &mut self,
        canonical: &str,
        pieces: &[(String, usize)],
        inner: usize,
    ) -> Result<(), WeightsError> {
        let named = |end: &str| -> Vec<(String, usize)> {
            let name = |(name, rows): &(String, usize)| (format!("{name}.{end}"), *rows);
            pieces.iter().map(name).collect()
        };
        self.rows(format!("{canonical}.weight"), &named("weight"), &[inner])?;
        self.rows(format!("{canonical}.bias"), &named("bias"), &[])
    }

    /// The finished table. `known_extra` gives a group's name to a tensor that
    /// may be in the files without being in the part.
    ///
    /// # Errors
    /// There is a tensor that no recipe uses and that is no known extra.
    pub fn finish(
        self,
        known_extra: impl Fn(&str) -> Option<String>,
    ) -> Result<PartTensors, WeightsError> {
        let mut groups: BTreeMap<String, (usize, u64)> = BTreeMap::new();
        for name in self.set.names().filter(|n| !self.used.contains(*n)) {
            let source = &self.set.get(name).expect("a name of the set");
            let group = known_extra(name).ok_or_else(|| WeightsError::Unknown {
                file: source.file.path().to_owned(),
                part: self.part,
                tensor: source.name.clone(),
            })?;
            let (tensors, bytes) = groups.entry(group).or_default();
            *tensors += 1;
            *bytes += source_bytes(source);
        }
        let ignored = groups.into_iter().map(|(name, (tensors, bytes))| Ignored {
            name,
            tensors,
            bytes,
        });
        Ok(PartTensors {
            part: self.part,
            path: self.set.path().to_owned(),
            files: self.set.files(),
            entries: self.entries,
            ignored: ignored.collect(),
            loaded: AtomicU64::new(0),
            watch: OnceLock::new(),
        })
    }

    fn insert(&mut self, canonical: String, shape: &[usize], recipe: Recipe) {
        let entry = Entry {
            shape: shape.to_vec(),
            recipe,
            taken: AtomicBool::new(false),
        };
        self.entries.insert(canonical, entry);
    }

    fn take(&mut self, name: &str, shape: &[usize], squeeze: bool) -> Result<Source, WeightsError> {
        let source = self.set.get(name).ok_or_else(|| WeightsError::Missing {
            file: self.set.path().to_owned(),
            part: self.part,
            tensor: name.to_owned(),
        })?;
        let info = source.info();
        let found = match info.shape[..] {
            [ref kept @ .., 1, 1] if squeeze && kept.len() == shape.len() => kept,
            _ => &info.shape[..],
        };
        if found != shape {
            return Err(WeightsError::Shape {
                file: source.file.path().to_owned(),
                part: self.part,
                tensor: source.name.clone(),
                found: info.shape.clone(),
                expected: shape.to_vec(),
            });
        }
        if candle_dtype(info.dtype).is_none() {
            return Err(WeightsError::Dtype {
                file: source.file.path().to_owned(),
                tensor: source.name.clone(),
                dtype: info.dtype.to_string(),
            });
        }
        let source = source.clone();
        self.used.insert(name.to_owned());
        Ok(source)
    }
}
