//! Why a file has no usable safetensors header. The `safetensors` crate does not say which
//! tensor is wrong, so the header is parsed again here once the crate has refused it.

use std::collections::btree_map::Entry;
use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use safetensors::tensor::TensorInfo;
use safetensors::Dtype;
use serde::de::value::{Error as ValueError, StrDeserializer};
use serde::de::{Deserializer, Error, IgnoredAny, MapAccess, Visitor};
use serde::Deserialize;

use super::error::WeightsError;
use super::foreign::Foreign;
use super::text;

/// Longest header in bytes, the limit of the `safetensors` crate.
const MAX_BYTES: u64 = 100_000_000;

/// A tensor as a header describes it, its type not yet recognised.
#[derive(Deserialize)]
struct Described {
    dtype: String,
    shape: Vec<usize>,
    data_offsets: (usize, usize),
}

/// Tensors by name, each name once.
struct Tensors(BTreeMap<String, Described>);

impl<'de> Deserialize<'de> for Tensors {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(TensorsVisitor)
    }
}

struct TensorsVisitor;

impl<'de> Visitor<'de> for TensorsVisitor {
    type Value = Tensors;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of tensors")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Tensors, M::Error> {
        let mut tensors = BTreeMap::new();
        while let Some(name) = map.next_key::<String>()? {
            if name == "__metadata__" {
                map.next_value::<IgnoredAny>()?;
                continue;
            }
            match tensors.entry(name) {
                Entry::Occupied(twin) => return Err(M::Error::custom(twice(twin.key()))),
                Entry::Vacant(place) => {
                    // serde's own words would name this program's types.
                    let info = map.next_value().map_err(|_| {
                        M::Error::custom(format!(
                            "tensor `{}` is not described by a type, a shape and two offsets",
                            place.key()
                        ))
                    })?;
                    place.insert(info);
                }
            }
        }
        Ok(Tensors(tensors))
    }
}

fn twice(name: &str) -> String {
    format!("it names tensor `{name}` twice")
}

/// The refusal of a header that names a tensor twice.
pub(super) fn named_twice(path: &Path, name: &str) -> WeightsError {
    WeightsError::BadHeader {
        file: path.to_owned(),
        reason: twice(name),
    }
}

/// Finds what is wrong with a file that the crate has refused. Where all tensors are in
/// order, only `__metadata__` is unusual, which is never read: the data's offset in the file
/// and the tensors are returned.
///
/// # Errors
/// The file is not safetensors, is truncated, or its header contradicts itself.
pub(super) fn diagnose(
    path: &Path,
    file: &[u8],
) -> Result<(usize, BTreeMap<String, TensorInfo>), WeightsError> {
    let foreign = || WeightsError::NotSafetensors {
        file: path.to_owned(),
        kind: Foreign::of(file),
    };
    let Some(length) = file.first_chunk::<8>() else {
        return Err(foreign());
    };
    let length = u64::from_le_bytes(*length);
    if !(2..=MAX_BYTES).contains(&length) || file.get(8).is_some_and(|&byte| byte != b'{') {
        return Err(foreign());
    }
    let data_start = 8 + length as usize;
    let Some(header) = file.get(8..data_start) else {
        return Err(WeightsError::Truncated {
            file: path.to_owned(),
            tensor: "(the header)".into(),
            needed: data_start as u64,
            present: file.len() as u64,
        });
    };
    let Tensors(tensors) = serde_json::from_slice(header).map_err(|e| WeightsError::BadHeader {
        file: path.to_owned(),
        reason: match e.is_data() {
            true => without_place(&e),
            false => format!("it is not JSON ({e})"),
        },
    })?;
    let typed = tensors.into_iter().map(|(name, tensor)| {
        let info = typed(path, &name, tensor)?;
        Ok((name, info))
    });
    let tensors = typed.collect::<Result<BTreeMap<_, _>, _>>()?;
    check_offsets(path, &tensors, data_start as u64, file.len() as u64)?;
    Ok((data_start, tensors))
}

/// An error's words without the line and column at their end.
fn without_place(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let words = text.rsplit_once(" at line ").map(|(words, _)| words);
    words.unwrap_or(&text).to_owned()
}

/// Recognises a tensor's type.
///
/// # Errors
/// [`WeightsError::NewDtype`] if the `safetensors` crate does not know the type.
fn typed(path: &Path, name: &str, tensor: Described) -> Result<TensorInfo, WeightsError> {
    let dtype = Dtype::deserialize(StrDeserializer::<ValueError>::new(&tensor.dtype));
    Ok(TensorInfo {
        dtype: dtype.map_err(|_| WeightsError::NewDtype {
            file: path.to_owned(),
            tensor: name.to_owned(),
            dtype: text::shown(&tensor.dtype),
        })?,
        shape: tensor.shape,
        data_offsets: tensor.data_offsets,
    })
}

/// Checks that every tensor has the bytes its shape asks for, and that together they fill the
/// file without gap or overlap.
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
        let bytes = bits
            .filter(|bits| bits.is_multiple_of(8))
            .map(|bits| bits / 8);
        if bytes.is_none() || bytes != to.checked_sub(from) {
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
