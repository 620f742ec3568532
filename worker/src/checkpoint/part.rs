//! A part's tensors under their canonical names, and where their bytes lie.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::error::WeightsError;
use super::mapped::MappedFile;
use super::piece::{ModelTensor, Piece};
use super::read_ahead::read_ahead;
use super::set::TensorSet;
use super::source::TensorSource;

/// Progress of loading one part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoadProgress {
    /// The part: `transformer`, `text encoder` or `VAE`.
    pub part: &'static str,
    /// Bytes loaded so far, counted in the files' types.
    pub bytes: u64,
    /// Bytes of all the part's tensors.
    pub total: u64,
}

/// Called after each tensor of a part is loaded.
pub type Watch = Arc<dyn Fn(LoadProgress) + Send + Sync>;

/// A group of tensors in a part's files that the part does not use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ignored {
    /// Pattern of their names: `visual_tokenizer.*`.
    pub name: String,
    /// Number of tensors.
    pub tensors: usize,
    /// Sum of their bytes.
    pub bytes: u64,
}

struct Entry {
    tensor: ModelTensor,
    is_loaded: AtomicBool,
}

/// The map from each tensor of a part, by its canonical name, to tensors and rows in files.
///
/// It holds the mapped files open, so the bytes of any tensor stay readable after loading.
pub struct PartTensors {
    part: &'static str,
    path: PathBuf,
    files: usize,
    sources: Vec<Arc<dyn TensorSource>>,
    entries: BTreeMap<String, Entry>,
    file_tensors: usize,
    ignored: Vec<Ignored>,
    loaded: AtomicU64,
    watch: Mutex<Option<Watch>>,
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
    /// A map over the files of `set`, of which it uses `file_tensors` tensors.
    pub(super) fn new(
        part: &'static str,
        set: &TensorSet,
        tensors: BTreeMap<String, ModelTensor>,
        file_tensors: usize,
        ignored: Vec<Ignored>,
    ) -> Self {
        let mut sources: Vec<Arc<dyn TensorSource>> = Vec::new();
        for source in set.tensors().map(|(_, tensor)| tensor.source()) {
            if !sources.iter().any(|other| Arc::ptr_eq(other, source)) {
                sources.push(source.clone());
            }
        }
        let entries = tensors.into_iter().map(|(name, tensor)| {
            let is_loaded = AtomicBool::new(false);
            (name, Entry { tensor, is_loaded })
        });
        Self {
            part,
            path: set.path().to_owned(),
            files: set.files(),
            sources,
            entries: entries.collect(),
            file_tensors,
            ignored,
            loaded: AtomicU64::new(0),
            watch: Mutex::new(None),
        }
    }

    /// The part: `transformer`, `text encoder` or `VAE`.
    pub fn part(&self) -> &'static str {
        self.part
    }

    /// The sources of the part's tensors and of those that it ignores.
    pub fn sources(&self) -> &[Arc<dyn TensorSource>] {
        &self.sources
    }

    /// Canonical names of all tensors, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    /// Whether there is a tensor of this canonical name.
    pub fn contains(&self, canonical: &str) -> bool {
        self.entries.contains_key(canonical)
    }

    /// Shape and pieces of the tensor of a canonical name.
    pub fn tensor(&self, canonical: &str) -> Option<&ModelTensor> {
        self.entries.get(canonical).map(|entry| &entry.tensor)
    }

    /// The tensor of a canonical name, of any shape.
    ///
    /// # Errors
    /// [`WeightsError::Table`] if the part has no such tensor.
    pub(super) fn expect_any(&self, canonical: &str) -> Result<&ModelTensor, WeightsError> {
        self.tensor(canonical)
            .ok_or_else(|| self.table_error(canonical, "it is not in the file".into()))
    }

    /// The tensor of a canonical name, which the model needs in this shape.
    ///
    /// # Errors
    /// [`WeightsError::Table`] if the part has no such tensor or it has another shape.
    pub fn expect(&self, canonical: &str, shape: &[usize]) -> Result<&ModelTensor, WeightsError> {
        let tensor = self.expect_any(canonical)?;
        match tensor.shape == shape {
            true => Ok(tensor),
            false => Err(self.table_error(
                canonical,
                format!("the model wants {shape:?}, the file has {:?}", tensor.shape),
            )),
        }
    }

    /// Counts a tensor as loaded, once however often it is loaded, and reports the progress
    /// to the watcher.
    pub fn mark_loaded(&self, canonical: &str) {
        let Some(entry) = self.entries.get(canonical) else {
            return;
        };
        if entry.is_loaded.swap(true, Ordering::Relaxed) {
            return;
        }
        let bytes = entry.tensor.byte_count();
        let bytes = self.loaded.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let watch = self.lock_watch().clone();
        if let Some(watch) = watch {
            watch(LoadProgress {
                part: self.part,
                bytes,
                total: self.bytes(),
            });
        }
    }

    /// Ends the loading: checks that every tensor was loaded, drops the watcher, and
    /// releases the files' pages, which stay readable.
    ///
    /// # Errors
    /// [`WeightsError::Table`] if a tensor was not loaded: the model is smaller than the
    /// file.
    pub fn finish(&self) -> Result<(), WeightsError> {
        let mut entries = self.entries.iter();
        if let Some((name, _)) = entries.find(|(_, entry)| !entry.is_loaded.load(Ordering::Relaxed))
        {
            return Err(self.table_error(name, "the model does not use it".into()));
        }
        *self.lock_watch() = None;
        for file in self.opened() {
            file.release();
        }
        Ok(())
    }

    /// Calls `watch` after each tensor that is loaded from now on, until
    /// [`finish`](Self::finish). It takes the place of an earlier watcher.
    pub fn watch(&self, watch: Watch) {
        *self.lock_watch() = Some(watch);
    }

    fn lock_watch(&self) -> std::sync::MutexGuard<'_, Option<Watch>> {
        self.watch.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Number of parameters.
    pub fn parameters(&self) -> u64 {
        let count = |entry: &Entry| -> u64 {
            let shape = entry.tensor.shape.iter();
            shape.map(|&dimension| dimension as u64).product()
        };
        self.entries.values().map(count).sum()
    }

    /// Starts to read the part's files into memory in the background.
    pub fn read_ahead(&self) {
        read_ahead(&self.opened());
    }

    fn pieces(&self) -> impl Iterator<Item = &Piece> {
        self.entries.values().flat_map(|entry| &entry.tensor.pieces)
    }

    /// The mapped files that the part's tensors lie in.
    fn opened(&self) -> Vec<Arc<MappedFile>> {
        let mut files: Vec<Arc<MappedFile>> = Vec::new();
        for file in self.pieces().filter_map(|p| p.tensor().source().file()) {
            if !files.iter().any(|other| Arc::ptr_eq(other, file)) {
                files.push(file.clone());
            }
        }
        files
    }

    /// Whether another part's files have the same bytes. Reads both up to the first
    /// difference.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        let (ours, theirs) = (self.opened(), other.opened());
        let mut pairs = ours.iter().zip(&theirs);
        ours.len() == theirs.len() && pairs.all(|(a, b)| a.is_same(b))
    }

    /// Bytes of the part's tensors in the files.
    pub fn bytes(&self) -> u64 {
        self.pieces().map(Piece::byte_count).sum()
    }

    /// Number of tensors in the files that the part consists of.
    pub fn tensors(&self) -> usize {
        self.file_tensors
    }

    /// Types that the values are stored in, by descending size, as safetensors names them:
    /// `BF16`.
    pub fn dtypes(&self) -> Vec<String> {
        let mut bytes: BTreeMap<String, u64> = BTreeMap::new();
        for piece in self.pieces() {
            *bytes.entry(piece.stored().to_string()).or_default() += piece.byte_count();
        }
        let mut dtypes: Vec<_> = bytes.into_iter().collect();
        dtypes.sort_by_key(|(_, bytes)| std::cmp::Reverse(*bytes));
        dtypes.into_iter().map(|(dtype, _)| dtype).collect()
    }

    /// The file or folder that the part was opened from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Number of files.
    pub fn files(&self) -> usize {
        self.files
    }

    /// Known tensors in the files that the part does not use.
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

#[cfg(test)]
mod tests {
    use super::super::name_map::NameMap;
    use super::super::table;
    use super::super::test_files::{write, Stored};
    use super::*;

    /// A part of two tensors, `ab` from two of the file's and `c` from one with an extra
    /// tensor beside them.
    fn part(folder: &Path) -> PartTensors {
        let path = folder.join("x.safetensors");
        write(
            &path,
            &[
                Stored::f32("a", &[1, 2], &[1., 2.]),
                Stored::f32("b", &[2, 2], &[3., 4., 5., 6.]),
                Stored::raw("c", "BF16", &[2], vec![0, 0, 128, 63]),
                Stored::raw("extra.x", "I64", &[1], vec![0; 8]),
            ],
        );
        let mut map = NameMap::default();
        map.concatenated("ab".into(), &[("a".into(), 1), ("b".into(), 2)], &[2]);
        map.swapped_halves("c".into(), "c", &[2]);
        let set = TensorSet::open(&path).unwrap();
        table::resolve("test", &map, &set, |name| {
            name.starts_with("extra.").then(|| "extra.*".into())
        })
        .unwrap()
    }

    #[test]
    fn a_part_is_described_by_its_files() {
        let folder = tempfile::tempdir().unwrap();
        let part = part(folder.path());
        assert_eq!(part.names().collect::<Vec<_>>(), ["ab", "c"]);
        assert_eq!((part.parameters(), part.bytes()), (8, 28));
        assert_eq!((part.tensors(), part.files()), (3, 1));
        assert_eq!(part.dtypes(), ["F32", "BF16"]);
        let extra = Ignored {
            name: "extra.*".into(),
            tensors: 1,
            bytes: 8,
        };
        assert_eq!(part.ignored(), [extra]);
        let tensor = part.expect("ab", &[3, 2]).unwrap();
        let pieces = tensor.pieces.iter();
        let pieces: Vec<_> = pieces
            .map(|piece| (&piece.tensor().entry().name[..], piece.rows()))
            .collect();
        assert_eq!(pieces, [("a", 0..1), ("b", 0..2)]);
        let swapped = &part.tensor("c").unwrap().pieces;
        assert_eq!(swapped[0].bytes().unwrap()[..], [128, 63]);
        assert_eq!(swapped[1].bytes().unwrap()[..], [0, 0]);
    }

    #[test]
    fn what_the_model_and_the_files_disagree_about() {
        let folder = tempfile::tempdir().unwrap();
        let part = part(folder.path());
        for (name, shape, words) in [
            ("d", &[3, 2][..], "`d`: it is not in the file"),
            ("ab", &[2, 3], "the model wants [2, 3], the file has [3, 2]"),
        ] {
            let error = part.expect(name, shape).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
        part.mark_loaded("ab");
        let error = part.finish().unwrap_err().to_string();
        assert!(error.contains("`c`: the model does not use it"), "{error}");
    }

    #[test]
    fn progress_is_reported_once_a_tensor() {
        let folder = tempfile::tempdir().unwrap();
        let part = part(folder.path());
        let seen = Arc::new(Mutex::new(Vec::new()));
        let watched = Arc::downgrade(&seen);
        let kept = seen.clone();
        part.watch(Arc::new(move |progress| {
            kept.lock().unwrap().push(progress);
        }));
        for name in ["ab", "ab", "c", "unknown"] {
            part.mark_loaded(name);
        }
        let progress = |bytes| LoadProgress {
            part: "test",
            bytes,
            total: 28,
        };
        assert_eq!(*seen.lock().unwrap(), [progress(24), progress(28)]);
        part.finish().unwrap();
        // The watcher is dropped with everything that it holds.
        drop(seen);
        assert!(watched.upgrade().is_none());
        assert_eq!(
            part.tensor("ab").unwrap().pieces[0].bytes().unwrap().len(),
            8
        );
    }
}
