//! Resolves a name map against the files that are there.

use std::collections::{BTreeMap, BTreeSet};

use super::error::WeightsError;
use super::name_map::{MappedPiece, NameMap};
use super::part::{Ignored, PartTensors};
use super::piece::{FileTensor, ModelTensor, Piece};
use super::set::TensorSet;
use super::source::StoredType;

/// Finds every tensor of `map` in `set`. `known_extra` gives a group's name to a tensor that
/// the files may have beside the part's own.
///
/// # Errors
/// A tensor of the map is missing, misshapen or stored in a type that cannot be loaded, or
/// the files have a tensor that neither the map nor `known_extra` knows.
pub(super) fn resolve(
    part: &'static str,
    map: &NameMap,
    set: &TensorSet,
    known_extra: impl Fn(&str) -> Option<String>,
) -> Result<PartTensors, WeightsError> {
    let mut used = BTreeSet::new();
    let mut tensors = BTreeMap::new();
    for mapped in map.tensors() {
        let mut pieces = Vec::with_capacity(mapped.pieces.len());
        for piece in &mapped.pieces {
            let tensor = find(part, set, piece)?;
            used.insert(&piece.name[..]);
            pieces.push(Piece::new(tensor.clone(), piece.rows.clone()));
        }
        let shape = mapped.shape.clone();
        tensors.insert(mapped.name.clone(), ModelTensor { shape, pieces });
    }
    let ignored = ignored(part, set, &used, known_extra)?;
    Ok(PartTensors::new(part, set, tensors, used.len(), ignored))
}

fn find<'a>(
    part: &'static str,
    set: &'a TensorSet,
    piece: &MappedPiece,
) -> Result<&'a FileTensor, WeightsError> {
    let tensor = set.get(&piece.name).ok_or_else(|| WeightsError::Missing {
        file: set.path().to_owned(),
        part,
        tensor: piece.name.clone(),
    })?;
    let entry = tensor.entry();
    let found = match entry.shape[..] {
        [ref kept @ .., 1, 1] if piece.may_be_conv && kept.len() == piece.shape.len() => kept,
        _ => &entry.shape[..],
    };
    if found != piece.shape {
        return Err(WeightsError::Shape {
            file: tensor.path().to_owned(),
            part,
            tensor: entry.name.clone(),
            found: entry.shape.clone(),
            expected: piece.shape.clone(),
        });
    }
    match &entry.stored {
        StoredType::Other(dtype) => Err(WeightsError::Dtype {
            file: tensor.path().to_owned(),
            tensor: entry.name.clone(),
            dtype: dtype.clone(),
        }),
        _ => Ok(tensor),
    }
}

/// Groups the tensors that are not used.
///
/// # Errors
/// [`WeightsError::Unknown`] for a tensor that belongs to no known group.
fn ignored(
    part: &'static str,
    set: &TensorSet,
    used: &BTreeSet<&str>,
    known_extra: impl Fn(&str) -> Option<String>,
) -> Result<Vec<Ignored>, WeightsError> {
    let mut groups: BTreeMap<String, (usize, u64)> = BTreeMap::new();
    for (name, tensor) in set.tensors().filter(|(name, _)| !used.contains(name)) {
        let group = known_extra(name).ok_or_else(|| WeightsError::Unknown {
            file: tensor.path().to_owned(),
            part,
            tensor: tensor.entry().name.clone(),
        })?;
        let (tensors, bytes) = groups.entry(group).or_default();
        *tensors += 1;
        *bytes += tensor.entry().bytes.len() as u64;
    }
    let groups = groups.into_iter();
    Ok(groups
        .map(|(name, (tensors, bytes))| Ignored {
            name,
            tensors,
            bytes,
        })
        .collect())
}
