//! One memory-mapped safetensors file, its header checked against its length.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use memmap2::Mmap;
use safetensors::tensor::TensorInfo;

use super::error::WeightsError;
use super::{folder, header};

/// A mapped file and where its tensors are.
#[derive(Debug)]
pub(super) struct SafetensorsFile {
    path: PathBuf,
    map: Mmap,
    data_start: usize,
    tensors: BTreeMap<String, TensorInfo>,
}

impl SafetensorsFile {
    /// Maps the file and checks its header.
    ///
    /// # Errors
    /// The file cannot be read, is not safetensors, is truncated, or its
    /// header contradicts itself.
    pub fn open(path: &Path) -> Result<Self, WeightsError> {
        let file = folder::open_file(path)?;
        let mut control = path.as_os_str().to_owned();
        control.push(".aria2");
        if Path::new(&control).exists() {
            return Err(WeightsError::Unfinished {
                file: path.to_owned(),
                reason: "aria2's control file beside it says that its download goes on".into(),
            });
        }
        // SAFETY: the map is read-only and private to this process. Weights are
        // not rewritten in place while a worker has them open; if they are,
        // the values read are wrong, and a shortened file ends the process,
        // as with every memory-mapped model loader.
        let map = unsafe { Mmap::map(&file) }.map_err(|error| folder::unreadable(path, &error))?;
        let (data_start, tensors) = header::parse(path, &map)?;
        Ok(Self {
            path: path.to_owned(),
            map,
            data_start,
            tensors,
        })
    }

    /// Where the file is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether another file has the same bytes: it is the same file under another name, or
    /// a copy.
    pub fn is_same(&self, other: &Self) -> bool {
        let same_place = matches!(
            (self.path.canonicalize(), other.path.canonicalize()),
            (Ok(ours), Ok(theirs)) if ours == theirs
        );
        same_place || self.map[..] == other.map[..]
    }

    /// Bytes of the file.
    pub fn len(&self) -> usize {
        self.map.len()
    }

    /// Has the system map some of the file's pages, as far as it goes.
    ///
    /// # Errors
    /// The system does not do that.
    pub fn populate(&self, start: usize, length: usize) -> std::io::Result<()> {
        #[cfg(target_os = "linux")]
        {
            let length = length.min(self.map.len() - start);
            self.map
                .advise_range(memmap2::Advice::PopulateRead, start, length)
        }
        #[cfg(not(target_os = "linux"))]
        {
            let _ = (start, length);
            Err(std::io::ErrorKind::Unsupported.into())
        }
    }

    /// Its tensors by name.
    pub fn tensors(&self) -> &BTreeMap<String, TensorInfo> {
        &self.tensors
    }

    /// The bytes of one of its tensors.
    pub fn bytes(&self, info: &TensorInfo) -> &[u8] {
        let (start, end) = info.data_offsets;
        &self.map[self.data_start + start..self.data_start + end]
    }
}
