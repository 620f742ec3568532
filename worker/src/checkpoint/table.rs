//! Resolves a name map against the files that are there.

use std::collections::{BTreeMap, BTreeSet};

use super::error::WeightsError;
use super::name_map::{MappedPiece, NameMap};
use super::part::{Ignored, PartTensors};
use super::piece::{FileTensor, ModelTensor, Piece};
use super::set::TensorSet;
use super::source::StoredType;
use crate::quants::ByteType;

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
            let entry = tensor.entry();
            entry.checked_row_bytes(tensor.path(), piece.rows.clone())?;
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
    // Whole numbers are values with the factors beside them only.
    let is_bare = entry.stored == StoredType::Byte(ByteType::I8) && tensor.coding().is_none();
    match &entry.stored {
        StoredType::Other(_) => Err(()),
        _ if is_bare => Err(()),
        _ => Ok(tensor),
    }
    .map_err(|()| WeightsError::Dtype {
        file: tensor.path().to_owned(),
        tensor: entry.name.clone(),
        dtype: entry.stored.to_string(),
    })
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

#[cfg(test)]
mod tests {
    use super::super::test_files::{write, Stored};
    use super::*;

    #[test]
    fn a_set_that_does_not_match_the_map_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.safetensors");
        let conv = Stored::f32("conv", &[2, 1, 1, 1], &[1., 2.]);
        let plain = Stored::f32("plain", &[2], &[1., 2.]);
        let integers = Stored::raw("integers", "I32", &[1], vec![0; 4]);
        write(&path, &[conv, plain, integers]);
        let set = TensorSet::open(&path).unwrap();
        let refused = |build: &dyn Fn(&mut NameMap)| {
            let mut map = NameMap::default();
            build(&mut map);
            resolve("test", &map, &set, |_| None).unwrap_err()
        };
        let error = refused(&|map| map.whole("a".into(), "a", &[1]));
        assert!(matches!(error, WeightsError::Missing { .. }), "{error}");
        let error = refused(&|map| map.whole("conv".into(), "conv", &[2, 1]));
        assert!(matches!(error, WeightsError::Shape { .. }), "{error}");
        let error = refused(&|map| map.whole("integers".into(), "integers", &[1]));
        assert!(matches!(error, WeightsError::Dtype { .. }), "{error}");
        // The convolution may be a matrix here; `plain` is in no place of the map.
        let error = refused(&|map| {
            map.matrix_or_conv("conv".into(), "conv", &[2, 1]);
        });
        let WeightsError::Unknown { tensor, .. } = error else {
            panic!("{error}");
        };
        assert_eq!(tensor, "integers");
    }
}
