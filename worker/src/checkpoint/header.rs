//! A safetensors header, checked against the length of its file.

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

/// Longest header that is believed, as in the safetensors library.
const MAX_BYTES: u64 = 100_000_000;

/// A tensor as a header has it.
#[derive(Deserialize)]
struct Described {
    dtype: String,
    shape: Vec<usize>,
    data_offsets: (usize, usize),
}

/// Tensors by name; a name may stand in a header once.
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
                Entry::Occupied(twin) => {
                    let name = twin.key();
                    return Err(M::Error::custom(format!("it names tensor `{name}` twice")));
                }
                Entry::Vacant(place) => {
                    // The library's words would name types of this program.
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

/// The offset of the data, and the tensors, of a whole file's bytes.
///
/// # Errors
/// The file is not safetensors, is truncated, or its header contradicts itself.
pub(super) fn parse(
    path: &Path,
    map: &[u8],
) -> Result<(usize, BTreeMap<String, TensorInfo>), WeightsError> {
    let foreign = || WeightsError::NotSafetensors {
        file: path.to_owned(),
        kind: Foreign::of(map),
    };
    let Some(length) = map.first_chunk::<8>() else {
        return Err(foreign());
    };
    let length = u64::from_le_bytes(*length);
    if !(2..=MAX_BYTES).contains(&length) || map.get(8).is_some_and(|&byte| byte != b'{') {
        return Err(foreign());
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
    check_offsets(path, &tensors, data_start as u64, map.len() as u64)?;
    Ok((data_start, tensors))
}

/// An error's words without the line and column that are put behind them.
fn without_place(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let words = text.rsplit_once(" at line ").map(|(words, _)| words);
    words.unwrap_or(&text).to_owned()
}

/// A tensor with its type read.
///
/// # Errors
/// The type is none that the safetensors library knows.
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
        let fits = bits.is_some_and(|bits| Some(bits.div_ceil(8)) == to.checked_sub(from));
        if !fits {
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parsed(header: &str, data: usize) -> Result<usize, String> {
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header.as_bytes());
        bytes.resize(bytes.len() + data, 0);
        let tensors = parse(Path::new("x.safetensors"), &bytes);
        tensors.map(|(_, all)| all.len()).map_err(|e| e.to_string())
    }

    #[test]
    fn headers_that_lie() {
        let tensor = |shape: &str, from: &str, to: &str| {
            format!(r#"{{"dtype":"F32","shape":{shape},"data_offsets":[{from},{to}]}}"#)
        };
        let one =
            |shape: &str, from: &str, to: &str| format!(r#"{{"a":{}}}"#, tensor(shape, from, to));
        let good = tensor("[1]", "0", "4");
        let huge = "18446744073709551615";
        let half = "4294967296";
        let overflows = tensor(&format!("[{half},{half}]"), "4", "3");
        let cases = [
            (one("[1]", "4", "8"), "starts at byte 4"),
            (one("[1]", "4", "0"), "cannot lie"),
            (one("[1]", "0", huge), "cannot lie"),
            (one("[2]", "0", "8"), "truncated"),
            (one(&format!("[{half},{half}]"), "0", "0"), "cannot lie"),
            (one("[-1]", "0", "4"), "`a` is not described"),
            (one("[1e3]", "0", "4"), "`a` is not described"),
            (
                one("[1]", "0", "4").replace("F32", "F12"),
                "`F12`, a type that this ovis-worker does not know",
            ),
            (format!(r#"{{"a":{good},"a":{good}}}"#), "`a` twice"),
            // Its bytes overflow and its end is before its start: neither may hide the other.
            (format!(r#"{{"a":{good},"b":{overflows}}}"#), "cannot lie"),
            (format!(r#"{{"a":{good},"b":{good}}}"#), "starts at byte 0"),
            (r#"{"a":3}"#.into(), "`a` is not described"),
            (r#"{"a""#.into(), "`a` is not described"),
            ("{x}".into(), "not JSON"),
            (format!("{{{}", r#""a":{"#.repeat(500)), "damaged"),
        ];
        for (header, words) in cases {
            let refusal = parsed(&header, 4).expect_err(&header);
            assert!(refusal.contains(words), "{header}: {refusal}");
        }
        assert_eq!(parsed(&one("[1]", "0", "4"), 4), Ok(1));
        assert_eq!(parsed(r#"{"__metadata__":{"x":[1,{}]}}"#, 0), Ok(0));
    }

    proptest! {
        #[test]
        fn no_bytes_end_the_program(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(Path::new("x"), &bytes);
            let mut with_length = (bytes.len() as u64 + 1).to_le_bytes().to_vec();
            with_length.push(b'{');
            with_length.extend(&bytes);
            let _ = parse(Path::new("x"), &with_length);
        }
    }
}
