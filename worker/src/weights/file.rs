//! One memory-mapped safetensors file, its header checked against its length.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use memmap2::Mmap;
use safetensors::tensor::TensorInfo;

use super::error::WeightsError;

/// Longest header that is believed, as in the safetensors library.
const MAX_HEADER_BYTES: u64 = 100_000_000;

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
        let unreadable = |e: std::io::Error| WeightsError::Unreadable {
            file: path.to_owned(),
            reason: e.to_string(),
        };
        let file = File::open(path).map_err(unreadable)?;
        // SAFETY: the map is read-only and private to this process. Weights are
        // not rewritten in place while a worker has them open; if they are,
        // the values read are wrong, and a shortened file ends the process,
        // as with every memory-mapped model loader.
        let map = unsafe { Mmap::map(&file) }.map_err(unreadable)?;
        let (data_start, tensors) = parse_header(path, &map)?;
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

/// The offset of the data, and the tensors.
fn parse_header(
    path: &Path,
    map: &[u8],
) -> Result<(usize, BTreeMap<String, TensorInfo>), WeightsError> {
    let damaged = |reason: String| WeightsError::BadHeader {
        file: path.to_owned(),
        reason,
    };
    let length = match map.first_chunk::<8>() {
        Some(bytes) => u64::from_le_bytes(*bytes),
        None => return Err(not_safetensors(path, map)),
    };
    if !(2..=MAX_HEADER_BYTES).contains(&length) || map.get(8).is_some_and(|&b| b != b'{') {
        return Err(not_safetensors(path, map));
    }
    let data_start = 8 + length as usize;
    let Some(header) = map.get(8..data_start) else {
        return Err(WeightsError::Truncated {
            file: path.to_owned(),
            tensor: "(the header)".into(),
            needed: data_start as u64,
            present: map.len() as u64,
        });
    };
    let raw: BTreeMap<String, serde_json::Value> =
        serde_json::from_slice(header).map_err(|e| damaged(format!("it is not JSON ({e})")))?;
    let mut tensors = BTreeMap::new();
    for (name, value) in raw {
        if name != "__metadata__" {
            let info: TensorInfo = serde_json::from_value(value)
                .map_err(|e| damaged(format!("tensor `{name}` is not described ({e})")))?;
            tensors.insert(name, info);
        }
    }
    check_offsets(path, &tensors, data_start as u64, map.len() as u64)?;
    Ok((data_start, tensors))
}

/// Every tensor has the bytes its shape asks for, inside the file, one after
/// the other.
fn check_offsets(
    path: &Path,
    tensors: &BTreeMap<String, TensorInfo>,
    data_start: u64,
    file_len: u64,
) -> Result<(), WeightsError> {
    let damaged = |reason: String| WeightsError::BadHeader {
        file: path.to_owned(),
        reason,
    };
    let mut by_offset: Vec<_> = tensors.iter().collect();
    by_offset.sort_by_key(|(_, info)| info.data_offsets);
    let mut end = 0;
    for (name, info) in by_offset {
        let bits = info
            .shape
            .iter()
            .try_fold(info.dtype.bitsize(), |n, &d| n.checked_mul(d));
        let (from, to) = info.data_offsets;
        if bits.map(|b| b.div_ceil(8)) != to.checked_sub(from) {
            return Err(damaged(format!(
                "tensor `{name}` of shape {:?} cannot lie at bytes {from} to {to}",
                info.shape
            )));
        }
        if from != end {
            return Err(damaged(format!(
                "tensor `{name}` starts at byte {from}, the one before it ends at {end}"
            )));
        }
        end = to;
        let needed = data_start.saturating_add(end as u64);
        if needed > file_len {
            return Err(WeightsError::Truncated {
                file: path.to_owned(),
                tensor: name.clone(),
                needed,
                present: file_len,
            });
        }
    }
    let used = data_start + end as u64;
    if used < file_len {
        return Err(damaged(format!(
            "{} bytes follow the last tensor",
            file_len - used
        )));
    }
    Ok(())
}

/// Says what a file that does not start like safetensors looks like.
fn not_safetensors(path: &Path, map: &[u8]) -> WeightsError {
    let what = if map.is_empty() {
        "an empty file"
    } else if map.starts_with(b"PK\x03\x04") || matches!(map, [0x80, 2..=5, ..]) {
        "a PyTorch pickle"
    } else if map.starts_with(b"GGUF") {
        "a GGUF file"
    } else if map.starts_with(b"version https://git-lfs") {
        "a Git LFS pointer (the real file was not downloaded)"
    } else {
        "a file of some other kind"
    };
    WeightsError::NotSafetensors {
        file: path.to_owned(),
        what,
    }
}
