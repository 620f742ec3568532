//! A safetensors header, read by the `safetensors` crate.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;

use safetensors::tensor::TensorInfo;
use safetensors::{Dtype, SafeTensors};
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};

use super::error::WeightsError;
use super::header_refusal;
use super::source::{StoredType, TensorEntry};
use crate::quants::ByteType;

/// Bytes before the header: its length.
const LENGTH_BYTES: usize = 8;

/// Reads the tensors of a whole file's bytes. The byte range of each entry counts from the
/// file's start.
///
/// # Errors
/// The file is not safetensors, is truncated, or its header contradicts itself or names a
/// tensor twice.
pub(super) fn parse(
    path: &Path,
    file: &[u8],
) -> Result<BTreeMap<String, TensorEntry>, WeightsError> {
    let Ok((length, metadata)) = SafeTensors::read_metadata(file) else {
        return header_refusal::diagnose(path, file).map(|(data_start, tensors)| {
            let tensors = tensors.into_iter();
            tensors
                .map(|(name, info)| (name.clone(), entry(name, &info, data_start)))
                .collect()
        });
    };
    let data_start = LENGTH_BYTES + length;
    // The crate keeps the last of several tensors with the same name.
    if let Some(name) = repeated_name(&file[LENGTH_BYTES..data_start]) {
        return Err(header_refusal::named_twice(path, &name));
    }
    let tensors = metadata.tensors().into_iter();
    Ok(tensors
        .map(|(name, info)| (name.clone(), entry(name, info, data_start)))
        .collect())
}

/// The texts of the `__metadata__` in a header that [`parse`] accepted; none if it holds anything
/// else than texts.
pub(super) fn metadata(file: &[u8]) -> BTreeMap<String, String> {
    let read = SafeTensors::read_metadata(file).ok();
    let texts = read.and_then(|(_, metadata)| metadata.metadata().clone());
    texts.into_iter().flatten().collect()
}

fn entry(name: String, info: &TensorInfo, data_start: usize) -> TensorEntry {
    let (start, end) = info.data_offsets;
    TensorEntry {
        name,
        stored: match info.dtype {
            Dtype::F64 => StoredType::F64,
            Dtype::F32 => StoredType::F32,
            Dtype::F16 => StoredType::F16,
            Dtype::BF16 => StoredType::Bf16,
            Dtype::F8_E4M3 => StoredType::Byte(ByteType::E4m3),
            Dtype::F8_E5M2 => StoredType::Byte(ByteType::E5m2),
            Dtype::I8 => StoredType::Byte(ByteType::I8),
            other => StoredType::Other(other.to_string()),
        },
        shape: info.shape.clone(),
        bytes: data_start + start..data_start + end,
    }
}

/// The first name that occurs twice in a header.
fn repeated_name(header: &[u8]) -> Option<String> {
    let mut deserializer = serde_json::Deserializer::from_slice(header);
    deserializer.deserialize_map(RepeatedName).ok().flatten()
}

struct RepeatedName;

impl<'de> Visitor<'de> for RepeatedName {
    type Value = Option<String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of tensors")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Option<String>, M::Error> {
        let mut names = BTreeSet::new();
        let mut repeated = None;
        while let Some((name, IgnoredAny)) = map.next_entry::<String, _>()? {
            if repeated.is_none() && names.contains(&name) {
                repeated = Some(name);
            } else {
                names.insert(name);
            }
        }
        Ok(repeated)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The number of tensors in a file of this header and so many bytes of data.
    fn parsed(header: &str, data: usize) -> Result<usize, WeightsError> {
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header.as_bytes());
        bytes.resize(bytes.len() + data, 0);
        let tensors = parse(Path::new("x.safetensors"), &bytes)?;
        Ok(tensors.len())
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
            // The size overflows and the end precedes the start: neither may hide the other.
            (format!(r#"{{"a":{good},"b":{overflows}}}"#), "cannot lie"),
            (format!(r#"{{"a":{good},"b":{good}}}"#), "starts at byte 0"),
            (r#"{"a":3}"#.into(), "`a` is not described"),
            (r#"{"a""#.into(), "`a` is not described"),
            ("{x}".into(), "not JSON"),
            (format!("{{{}", r#""a":{"#.repeat(500)), "damaged"),
        ];
        for (header, words) in cases {
            let refusal = parsed(&header, 4).expect_err(&header).to_string();
            assert!(refusal.contains(words), "{header}: {refusal}");
        }
        assert_eq!(parsed(&one("[1]", "0", "4"), 4).unwrap(), 1);
        assert_eq!(parsed(r#"{"__metadata__":{"x":[1,{}]}}"#, 0).unwrap(), 0);
    }

    #[test]
    fn entries_are_placed_after_the_header() {
        let header = r#"{"a":{"dtype":"BF16","shape":[2,1],"data_offsets":[0,4]}}"#;
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header.as_bytes());
        bytes.extend([1, 2, 3, 4]);
        let tensors = parse(Path::new("x.safetensors"), &bytes).unwrap();
        let entry = &tensors["a"];
        assert_eq!(entry.stored, StoredType::Bf16);
        assert_eq!(entry.shape, [2, 1]);
        assert_eq!(bytes[entry.bytes.clone()], [1, 2, 3, 4]);
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
