//! Random weights in place of a file's, for measuring without one.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use super::error::WeightsError;
use super::geometry::{MmditConfig, Qwen3Config, VaeConfig};
use super::name_map::NameMap;
use super::part::PartTensors;
use super::part_names::{TEXT_ENCODER, TRANSFORMER, VAE};
use super::set::TensorSet;
use super::source::{Fill, StoredType, TensorEntry, TensorSource};
use super::{mmdit_names, qwen3, table, vae_names};

/// Bytes of a value.
const VALUE_BYTES: usize = size_of::<f32>();

/// Makes parts whose weights repeat a pool of random values.
///
/// Norm weights are 1 and biases 0. Other weights are scaled by `inputs^-1/2`, so that
/// activations keep their magnitude and stay finite as in a trained network, and their bits
/// are random, so that a GPU draws the power it draws with real ones. Drawing billions of
/// values would take longer than what is to be measured, hence the pool.
pub struct RandomWeights {
    pool: Arc<[f32]>,
}

impl RandomWeights {
    /// Weights from a pool of normally distributed values, which must not be empty.
    pub fn new(pool: Vec<f32>) -> Self {
        Self { pool: pool.into() }
    }

    /// A transformer of this geometry.
    ///
    /// # Errors
    /// [`WeightsError::Shape`] if a tensor of the geometry has no rows.
    pub fn transformer(&self, config: &MmditConfig) -> Result<PartTensors, WeightsError> {
        self.of_map(TRANSFORMER, &mmdit_names::canonical_map(config))
    }

    /// A text encoder of this geometry.
    ///
    /// # Errors
    /// As [`transformer`](Self::transformer).
    pub fn text_encoder(&self, config: &Qwen3Config) -> Result<PartTensors, WeightsError> {
        self.of_map(TEXT_ENCODER, &qwen3::map(config))
    }

    /// An autoencoder of this geometry.
    ///
    /// # Errors
    /// As [`transformer`](Self::transformer).
    pub fn vae(&self, config: &VaeConfig) -> Result<PartTensors, WeightsError> {
        self.of_map(VAE, &vae_names::canonical_map(config))
    }

    fn of_map(&self, part: &'static str, map: &NameMap) -> Result<PartTensors, WeightsError> {
        let tensors = map.tensors().iter();
        let shapes = tensors.map(|tensor| (tensor.name.clone(), tensor.shape.clone()));
        self.part(part, shapes)
    }

    /// A part of tensors with these names and shapes.
    ///
    /// # Errors
    /// As [`transformer`](Self::transformer).
    pub fn part(
        &self,
        part: &'static str,
        shapes: impl IntoIterator<Item = (String, Vec<usize>)>,
    ) -> Result<PartTensors, WeightsError> {
        let mut map = NameMap::default();
        let mut entries = BTreeMap::new();
        for (name, shape) in shapes {
            map.whole(name.clone(), &name, &shape);
            let entry = TensorEntry {
                name: name.clone(),
                stored: StoredType::F32,
                bytes: 0..shape.iter().product::<usize>() * VALUE_BYTES,
                shape,
            };
            entries.insert(name, entry);
        }
        let set = TensorSet::of(Arc::new(RandomTensors {
            pool: self.pool.clone(),
            entries,
        }));
        table::resolve(part, &map, &set, |_| None)
    }
}

#[derive(Debug)]
struct RandomTensors {
    pool: Arc<[f32]>,
    entries: BTreeMap<String, TensorEntry>,
}

impl TensorSource for RandomTensors {
    fn path(&self) -> &Path {
        Path::new("random weights")
    }

    fn names(&self) -> Box<dyn Iterator<Item = &str> + '_> {
        Box::new(self.entries.keys().map(String::as_str))
    }

    fn entry(&self, name: &str) -> Option<&TensorEntry> {
        self.entries.get(name)
    }

    fn bytes(
        &self,
        entry: &TensorEntry,
        rows: Range<usize>,
    ) -> Result<Cow<'_, [u8]>, WeightsError> {
        let range = entry.checked_row_bytes(self.path(), rows)?;
        let fill = fill(entry, &self.pool);
        let values = range.start / VALUE_BYTES..range.end / VALUE_BYTES;
        let bytes = values.flat_map(|i| value(fill, i).to_le_bytes());
        Ok(Cow::Owned(bytes.collect()))
    }

    fn fill(&self, entry: &TensorEntry) -> Option<Fill<'_>> {
        Some(fill(entry, &self.pool))
    }
}

fn fill<'a>(entry: &TensorEntry, pool: &'a Arc<[f32]>) -> Fill<'a> {
    match entry.shape[..] {
        [_] if entry.name.ends_with("bias") => Fill::Zeros,
        [_] => Fill::Ones,
        _ => {
            let inputs: usize = entry.shape.iter().skip(1).product();
            Fill::Repeated {
                values: pool,
                scale: (inputs as f64).powf(-0.5),
            }
        }
    }
}

/// Value `i` of a flattened tensor.
fn value(fill: Fill, i: usize) -> f32 {
    match fill {
        Fill::Zeros => 0.0,
        Fill::Ones => 1.0,
        Fill::Repeated { values, scale } => values[i % values.len()] * scale as f32,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_cut_from_the_repeated_pool() {
        let weights = RandomWeights::new(vec![1.0, 2.0, 3.0]);
        let shapes = [
            ("a.weight".to_owned(), vec![3, 4]),
            ("a.bias".into(), vec![3]),
        ];
        let part = weights.part("test", shapes).unwrap();
        let tensor = part.tensor("a.weight").unwrap();
        let source = tensor.pieces[0].tensor().source();
        let entry = source.entry("a.weight").unwrap();
        let bytes = source.bytes(entry, 1..3).unwrap();
        let values: Vec<f32> = bytes
            .chunks(4)
            .map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap()))
            .collect();
        assert_eq!(values, [1.0, 1.5, 0.5, 1.0, 1.5, 0.5, 1.0, 1.5]);
        let bias = part.tensor("a.bias").unwrap();
        assert_eq!(bias.pieces[0].bytes().unwrap()[..], [0; 12]);
        assert_eq!(bias.pieces[0].fill(), Some(Fill::Zeros));
    }
}
