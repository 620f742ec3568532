//! A part of a checkpoint with adapters merged into it, written as one safetensors file.
//!
//! The file has the tensors of the part's own files, under their names and in their types, so that
//! every program that loads those loads it too.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, Seek, SeekFrom, Write};
use std::sync::Arc;

use serde_json::{json, Map, Value};

use super::delta::Change;
use super::error::AdapterError;
use super::factor::{all_finite, decode, encode, is_readable};
use crate::checkpoint::part::PartTensors;
use crate::checkpoint::piece::ModelTensor;
use crate::checkpoint::source::TensorSource;

/// The header is padded with spaces to a multiple of this, so that tensors are aligned.
///
/// Source: the `safetensors` crate, `serialize`.
const ALIGNMENT: usize = 8;

/// Why a merged file cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum MergeError {
    /// The weights do not allow it.
    #[error(transparent)]
    Adapter(#[from] AdapterError),
    /// The file does not take the bytes.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// A part with changes, ready to be written.
pub struct MergedFile<'a> {
    part: &'a PartTensors,
    /// Where each of the files' tensors begins in the new file.
    starts: HashMap<String, u64>,
    header: Vec<u8>,
    /// Changes with their strengths, in the order of the adapters, by canonical name.
    changes: BTreeMap<&'a str, Vec<(&'a Change, f64)>>,
}

impl<'a> MergedFile<'a> {
    /// Plans the file: changes of one adapter after another, each with its strength.
    ///
    /// # Errors
    /// A changed tensor is stored in a type that cannot be merged into.
    pub fn new(
        part: &'a PartTensors,
        adapters: &[(&'a [Change], f64)],
    ) -> Result<Self, AdapterError> {
        let mut changes: BTreeMap<&str, Vec<(&Change, f64)>> = BTreeMap::new();
        for (adapter, strength) in adapters {
            for change in *adapter {
                let tensor = changes.entry(&change.place.tensor).or_default();
                tensor.push((change, *strength));
            }
        }
        for tensor in changes.keys().filter_map(|name| part.tensor(name)) {
            for piece in &tensor.pieces {
                let entry = piece.tensor().entry();
                if !is_readable(&entry.stored) || !piece.tensor().coding().is_none() {
                    return Err(AdapterError::Unmergeable {
                        file: piece.tensor().path().to_owned(),
                        tensor: entry.name.clone(),
                        stored: entry.stored.to_string(),
                    });
                }
            }
        }
        let (header, starts) = lay_out(part.sources());
        Ok(Self {
            part,
            starts,
            header,
            changes,
        })
    }

    /// Number of the model's tensors that change.
    pub fn changed(&self) -> usize {
        self.changes.len()
    }

    /// Writes the file to `out`, from its position 0 on.
    ///
    /// # Errors
    /// The bytes cannot be written, or a merged weight does not fit its type.
    pub fn write(&self, out: &mut (impl Write + Seek)) -> Result<(), MergeError> {
        out.seek(SeekFrom::Start(0))?;
        out.write_all(&self.header)?;
        let changed = self
            .changes
            .keys()
            .filter_map(|name| self.part.tensor(name));
        let pieces = changed.flat_map(|tensor| &tensor.pieces);
        let names: Vec<&str> = pieces
            .map(|piece| &piece.tensor().entry().name[..])
            .collect();
        for source in self.part.sources() {
            for name in source.names().filter(|name| !names.contains(name)) {
                let Some(entry) = source.entry(name) else {
                    continue;
                };
                let bytes = source
                    .bytes(entry, 0..entry.rows())
                    .map_err(AdapterError::from)?;
                self.put(out, name, 0, &bytes)?;
            }
        }
        for (name, changes) in &self.changes {
            if let Some(tensor) = self.part.tensor(name) {
                self.write_changed(out, tensor, changes)?;
            }
        }
        out.flush()?;
        Ok(())
    }

    fn write_changed(
        &self,
        out: &mut (impl Write + Seek),
        tensor: &ModelTensor,
        changes: &[(&Change, f64)],
    ) -> Result<(), MergeError> {
        let mut values = Vec::with_capacity(tensor.shape.iter().product());
        for piece in &tensor.pieces {
            let bytes = piece.bytes().map_err(AdapterError::from)?;
            values.extend(decode(&bytes, piece.stored()));
        }
        for (change, strength) in changes {
            change.merge_into(&mut values, *strength)?;
        }
        let mut rest = &values[..];
        let columns = values.len() / tensor.shape[0].max(1);
        for piece in &tensor.pieces {
            let entry = piece.tensor().entry();
            let (part, after) = rest.split_at(piece.rows().len() * columns);
            rest = after;
            let bytes = encode(part, &entry.stored);
            let bytes = bytes.filter(|bytes| all_finite(bytes, &entry.stored));
            let Some(bytes) = bytes else {
                return Err(MergeError::Adapter(AdapterError::Overflow {
                    tensor: entry.name.clone(),
                    stored: entry.stored.to_string(),
                }));
            };
            let row_bytes = bytes.len() / piece.rows().len().max(1);
            self.put(out, &entry.name, piece.rows().start * row_bytes, &bytes)?;
        }
        Ok(())
    }

    fn put(
        &self,
        out: &mut (impl Write + Seek),
        name: &str,
        offset: usize,
        bytes: &[u8],
    ) -> Result<(), MergeError> {
        if let Some(start) = self.starts.get(name) {
            out.seek(SeekFrom::Start(start + offset as u64))?;
            out.write_all(bytes)?;
        }
        Ok(())
    }
}

/// The header of a file with all tensors of these sources, and where each begins in it.
fn lay_out(sources: &[Arc<dyn TensorSource>]) -> (Vec<u8>, HashMap<String, u64>) {
    let mut tensors = Map::new();
    tensors.insert("__metadata__".into(), json!({ "format": "pt" }));
    let mut starts = HashMap::new();
    let mut end = 0;
    for source in sources {
        let mut entries: Vec<_> = source
            .names()
            .filter_map(|name| source.entry(name))
            .collect();
        entries.sort_by_key(|entry| entry.bytes.start);
        for entry in entries {
            let start = end;
            end += entry.bytes.len();
            starts.insert(entry.name.clone(), start as u64);
            let described = json!({
                "dtype": entry.stored.to_string(),
                "shape": entry.shape,
                "data_offsets": [start, end],
            });
            tensors.insert(entry.name.clone(), described);
        }
    }
    let mut text = Value::Object(tensors).to_string();
    while !text.len().is_multiple_of(ALIGNMENT) {
        text.push(' ');
    }
    let header = [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat();
    for start in starts.values_mut() {
        *start += header.len() as u64;
    }
    (header, starts)
}
