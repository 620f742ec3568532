//! The state of a run between two steps as bytes, so that the run can be resumed later or by
//! another process.
//!
//! The bytes are a safetensors file. Its tensors are those of the run; its metadata has the one
//! key [`KEY`], whose text is JSON with the format's version and all other values. Floats among
//! them are stored as the integers of their bits: a JSON parser may round a decimal fraction,
//! and a resumed run must not differ in the last bit.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};

use candle_core::{DType, Device, Tensor};
use safetensors::tensor::{Dtype, View};
use safetensors::SafeTensors;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The metadata key that makes a safetensors file a snapshot.
const KEY: &str = "ovis_denoise_snapshot";

/// Version of the format: of the names, and of what the values under them mean.
const VERSION: u32 = 1;

/// Most characters of a file's own text in an error.
const MAX_QUOTED: usize = 80;

/// Why a snapshot cannot be made, read or resumed.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The bytes are no safetensors file, or a damaged one.
    #[error("the snapshot is not a readable safetensors file: {0}")]
    Container(#[from] safetensors::SafeTensorError),
    /// A safetensors file of something else.
    #[error("the file is not a snapshot of a denoise run: its metadata has no `{KEY}`")]
    NotASnapshot,
    /// Made by a worker with another format.
    #[error("the snapshot has format version {found}, this worker reads version {VERSION}")]
    Version {
        /// The version the file states.
        found: u64,
    },
    /// A tensor or a value is missing.
    #[error("the snapshot has no `{name}`")]
    Missing {
        /// Its name.
        name: String,
    },
    /// A value is not of the type that its name has.
    #[error("`{name}` of the snapshot cannot be read: {source}")]
    Value {
        /// The value's name.
        name: String,
        /// The parser's complaint.
        source: serde_json::Error,
    },
    /// A value is of the right type and impossible.
    #[error("`{name}` of the snapshot is {found}, the most is {most}")]
    OutOfRange {
        /// The value's name.
        name: String,
        /// The value.
        found: u64,
        /// The largest that is possible.
        most: u64,
    },
    /// A tensor has another type or shape than this run's.
    #[error("the tensor `{name}` of the snapshot is {found}, this run needs {wanted}")]
    Tensor {
        /// The tensor's name.
        name: String,
        /// Its type and shape.
        found: String,
        /// The type and shape that the run needs.
        wanted: String,
    },
    /// The snapshot is of another run.
    #[error("the snapshot belongs to another job: its {what} differs from this one's")]
    Foreign {
        /// What differs: `sampler`, `schedule`, `request`, `latent` and so on.
        what: &'static str,
    },
    /// A tensor could not be copied to or from the device.
    #[error(transparent)]
    Device(#[from] candle_core::Error),
}

/// Result of writing or reading a snapshot.
pub type Result<T> = std::result::Result<T, SnapshotError>;

/// Values and tensors by name, on the CPU.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Snapshot {
    values: BTreeMap<String, Value>,
    tensors: BTreeMap<String, Stored>,
}

/// A tensor's bytes as the file has them. They become a [`Tensor`] only once their type and
/// shape are known to be the wanted ones, so that no shape of a damaged file reaches candle.
#[derive(Clone, Debug, PartialEq)]
struct Stored {
    dtype: Dtype,
    shape: Vec<usize>,
    data: Vec<u8>,
}

impl View for &Stored {
    fn dtype(&self) -> Dtype {
        self.dtype
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(&self.data)
    }

    fn data_len(&self) -> usize {
        self.data.len()
    }
}

/// What the metadata's text holds.
#[derive(Serialize, Deserialize)]
struct Header<'a> {
    version: u64,
    values: Cow<'a, BTreeMap<String, Value>>,
}

impl Snapshot {
    /// Stores a value. A float is stored as its bits, see the module.
    pub fn put(&mut self, name: &str, value: impl Into<Value>) {
        self.values.insert(name.to_owned(), value.into());
    }

    /// Reads a value.
    ///
    /// # Errors
    /// [`SnapshotError::Missing`], or [`SnapshotError::Value`] for another type.
    pub fn get<T: DeserializeOwned>(&self, name: &str) -> Result<T> {
        let value = self.values.get(name).ok_or_else(|| missing(name))?;
        T::deserialize(value).map_err(|source| SnapshotError::Value {
            name: name.to_owned(),
            source,
        })
    }

    /// Reads a count that is at most `most`.
    ///
    /// # Errors
    /// Those of [`get`](Self::get), or [`SnapshotError::OutOfRange`].
    pub fn count(&self, name: &str, most: usize) -> Result<usize> {
        let (found, most) = (self.get::<u64>(name)?, most as u64);
        match found <= most {
            true => Ok(found as usize),
            false => Err(SnapshotError::OutOfRange {
                name: name.to_owned(),
                found,
                most,
            }),
        }
    }

    /// Stores a tensor, copied from its device.
    ///
    /// # Errors
    /// The copy from the device fails.
    pub fn put_tensor(&mut self, name: &str, tensor: &Tensor) -> Result<()> {
        let tensor = tensor.to_device(&Device::Cpu)?;
        let stored = Stored {
            dtype: View::dtype(&tensor),
            shape: tensor.dims().to_vec(),
            data: View::data(&tensor).into_owned(),
        };
        self.tensors.insert(name.to_owned(), stored);
        Ok(())
    }

    /// Names of all values and tensors.
    #[cfg(test)]
    pub fn names(&self) -> Vec<String> {
        self.values
            .keys()
            .chain(self.tensors.keys())
            .cloned()
            .collect()
    }

    /// Removes a value or a tensor.
    #[cfg(test)]
    pub fn remove(&mut self, name: &str) {
        self.values.remove(name);
        self.tensors.remove(name);
    }

    /// Reads a tensor of a known type and shape onto a device.
    ///
    /// # Errors
    /// [`SnapshotError::Missing`], [`SnapshotError::Tensor`] for another type or shape, or the
    /// copy to the device fails.
    pub fn tensor(
        &self,
        name: &str,
        dtype: DType,
        shape: &[usize],
        device: &Device,
    ) -> Result<Tensor> {
        let stored = self.tensors.get(name).ok_or_else(|| missing(name))?;
        let wanted = Dtype::from(dtype);
        if stored.dtype != wanted || stored.shape != shape {
            let found = format!("{:?} {:?}", stored.dtype, stored.shape);
            return Err(SnapshotError::Tensor {
                name: name.to_owned(),
                found: found.chars().take(MAX_QUOTED).collect(),
                wanted: format!("{wanted:?} {shape:?}"),
            });
        }
        Ok(Tensor::from_raw_buffer(&stored.data, dtype, shape, device)?)
    }

    /// Reads a tensor of the type, shape and device of `like`.
    ///
    /// # Errors
    /// Those of [`tensor`](Self::tensor).
    pub fn tensor_like(&self, name: &str, like: &Tensor) -> Result<Tensor> {
        self.tensor(name, like.dtype(), like.dims(), like.device())
    }

    /// The snapshot as a safetensors file. Equal snapshots give equal bytes.
    ///
    /// # Errors
    /// [`SnapshotError::Container`] where the file format cannot hold it.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let header = Header {
            version: VERSION.into(),
            values: Cow::Borrowed(&self.values),
        };
        let text = serde_json::to_string(&header).map_err(|source| SnapshotError::Value {
            name: KEY.to_owned(),
            source,
        })?;
        let metadata = HashMap::from([(KEY.to_owned(), text)]);
        Ok(safetensors::serialize(&self.tensors, Some(metadata))?)
    }

    /// Reads what [`to_bytes`](Self::to_bytes) wrote. The bytes may be anything; whether the
    /// snapshot fits a run is only seen when the run is resumed.
    ///
    /// # Errors
    /// The bytes are no safetensors file, not a snapshot, or one of another version.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        #[derive(Deserialize)]
        struct Versioned {
            version: u64,
        }
        check_offsets(bytes)?;
        let (_, metadata) = SafeTensors::read_metadata(bytes)?;
        let text = metadata.metadata().as_ref().and_then(|map| map.get(KEY));
        let text = text.ok_or(SnapshotError::NotASnapshot)?;
        let unreadable = |source| SnapshotError::Value {
            name: KEY.to_owned(),
            source,
        };
        // The version alone first: another version's header may have another form.
        let Versioned { version } = serde_json::from_str(text).map_err(unreadable)?;
        if version != u64::from(VERSION) {
            return Err(SnapshotError::Version { found: version });
        }
        let header: Header = serde_json::from_str(text).map_err(unreadable)?;
        let tensors = SafeTensors::deserialize(bytes)?;
        let stored = tensors.iter().map(|(name, view)| {
            let stored = Stored {
                dtype: view.dtype(),
                shape: view.shape().to_vec(),
                data: view.data().to_vec(),
            };
            (name.to_owned(), stored)
        });
        Ok(Self {
            values: header.values.into_owned(),
            tensors: stored.collect(),
        })
    }
}

/// Checks that no tensor of a safetensors file ends beyond the file. The crate's own reader adds
/// a header's offsets to its length without a check for overflow.
///
/// # Errors
/// [`SnapshotError::Container`] for such a tensor. Whatever else is wrong with the header is left
/// to the reader.
fn check_offsets(bytes: &[u8]) -> Result<()> {
    let header = bytes.split_first_chunk().and_then(|(length, rest)| {
        let length = usize::try_from(u64::from_le_bytes(*length)).ok()?;
        serde_json::from_slice::<BTreeMap<String, Value>>(rest.get(..length)?).ok()
    });
    let ends_beyond = |entry: &Value| {
        let end = entry["data_offsets"][1].as_u64();
        end.is_some_and(|end| end > bytes.len() as u64)
    };
    match header.unwrap_or_default().values().any(ends_beyond) {
        true => Err(safetensors::SafeTensorError::MetadataIncompleteBuffer.into()),
        false => Ok(()),
    }
}

fn missing(name: &str) -> SnapshotError {
    SnapshotError::Missing {
        name: name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn snapshot() -> Snapshot {
        let mut snapshot = Snapshot::default();
        let tensor = Tensor::new(&[[1.5f32, f32::NAN, -0.0]], &Device::Cpu).unwrap();
        snapshot.put("step", 7u64);
        snapshot.put("seed", u64::MAX);
        snapshot.put("half", Some(0.1f64.to_bits()));
        snapshot.put_tensor("x", &tensor).unwrap();
        let narrow = tensor.to_dtype(DType::BF16).unwrap();
        snapshot.put_tensor("narrow", &narrow).unwrap();
        snapshot
    }

    #[test]
    fn bytes_give_back_what_was_stored() {
        let bytes = snapshot().to_bytes().unwrap();
        let read = Snapshot::from_bytes(&bytes).unwrap();
        assert_eq!(read, snapshot());
        assert_eq!(read.to_bytes().unwrap(), bytes);
        assert_eq!(read.get::<u64>("seed").unwrap(), u64::MAX);
        let half = read.get::<Option<u64>>("half").unwrap();
        assert_eq!(half.map(f64::from_bits), Some(0.1));
        let cpu = Device::Cpu;
        let x = read.tensor("x", DType::F32, &[1, 3], &cpu).unwrap();
        let bits: Vec<u32> = x.to_vec2::<f32>().unwrap()[0]
            .iter()
            .map(|value| value.to_bits())
            .collect();
        assert_eq!(bits, [1.5f32, f32::NAN, -0.0].map(f32::to_bits));
    }

    #[test]
    fn what_does_not_fit_is_an_error() {
        let read = snapshot();
        let cpu = Device::Cpu;
        let error = |result: Result<Tensor>| result.unwrap_err().to_string();
        assert_eq!(
            error(read.tensor("x", DType::F32, &[3], &cpu)),
            "the tensor `x` of the snapshot is F32 [1, 3], this run needs F32 [3]"
        );
        assert!(error(read.tensor("x", DType::BF16, &[1, 3], &cpu)).contains("needs BF16"));
        assert!(error(read.tensor("y", DType::F32, &[3], &cpu)).contains("no `y`"));
        let too_many = read.count("step", 6).unwrap_err();
        assert!(matches!(
            too_many,
            SnapshotError::OutOfRange {
                found: 7,
                most: 6,
                ..
            }
        ));
        assert!(matches!(
            read.get::<Vec<u32>>("step"),
            Err(SnapshotError::Value { .. })
        ));
    }

    #[test]
    fn other_files_and_versions_are_refused() {
        let file = |metadata: &[(&str, &str)]| {
            let metadata = metadata.iter().map(|&(k, v)| (k.to_owned(), v.to_owned()));
            let none: [(&str, &Stored); 0] = [];
            let bytes = safetensors::serialize(none, Some(metadata.collect())).unwrap();
            Snapshot::from_bytes(&bytes).unwrap_err()
        };
        assert!(matches!(
            file(&[("format", "pt")]),
            SnapshotError::NotASnapshot
        ));
        let newer = r#"{"version": 2, "state": []}"#;
        assert!(matches!(
            file(&[(KEY, newer)]),
            SnapshotError::Version { found: 2 }
        ));
        for damaged in ["", "{", "[]", r#"{"version": 1}"#, r#"{"version": -1}"#] {
            let error = file(&[(KEY, damaged)]);
            assert!(matches!(error, SnapshotError::Value { .. }), "{damaged}");
        }
    }

    #[test]
    fn offsets_near_the_largest_number_are_refused() {
        let length = (1u64 << 61) - 1;
        let entries: Vec<String> = (0..8)
            .map(|i| {
                let (start, end) = (i * length, (i + 1) * length);
                format!(
                    r#""{i}":{{"dtype":"U8","shape":[{length}],"data_offsets":[{start},{end}]}}"#
                )
            })
            .collect();
        let header = format!("{{{}}}", entries.join(","));
        let bytes = [&(header.len() as u64).to_le_bytes(), header.as_bytes()].concat();
        assert!(matches!(
            Snapshot::from_bytes(&bytes),
            Err(SnapshotError::Container(_))
        ));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(Snapshot::from_bytes(&bytes).is_err());
        }

        /// A change anywhere gives another snapshot or an error.
        #[test]
        fn damaged_bytes_are_read_or_refused(
            at in any::<prop::sample::Index>(),
            value in any::<u8>(),
            length in any::<prop::sample::Index>(),
        ) {
            let mut bytes = snapshot().to_bytes().unwrap();
            prop_assert!(Snapshot::from_bytes(&bytes[..length.index(bytes.len())]).is_err());
            let at = at.index(bytes.len());
            bytes[at] = value;
            if let Ok(read) = Snapshot::from_bytes(&bytes) {
                let _ = read.tensor("x", DType::F32, &[1, 3], &Device::Cpu);
                let _ = read.count("step", 10);
            }
        }
    }
}
