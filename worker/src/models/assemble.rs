//! Assembles a model's tensors on a device from the pieces that a checkpoint maps them to.

use std::cell::OnceCell;

use candle_core::{DType, Device, Result, Tensor};
use half::bf16;

use crate::checkpoint::{Fill, ModelTensor, Piece, StoredType, WeightsError};
use crate::nn::concat;
use crate::quants::{decode, decode_bytes};

/// Why a tensor cannot be assembled.
#[derive(Debug, thiserror::Error)]
pub(super) enum AssembleError {
    /// The checkpoint does not give its bytes.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// The device does not take it.
    #[error(transparent)]
    Device(#[from] candle_core::Error),
}

/// Creates tensors on one device, in one type.
pub(super) struct Assembler {
    device: Device,
    dtype: DType,
    /// The values that random weights repeat, copied to the device once.
    pool: OnceCell<Tensor>,
}

impl Assembler {
    /// For tensors of type `dtype` on `device`.
    pub fn new(device: &Device, dtype: DType) -> Self {
        Self {
            device: device.clone(),
            dtype,
            pool: OnceCell::new(),
        }
    }

    /// The tensor, converted to the assembler's type. Stored bytes go from the mapped file
    /// to the device and are converted there, so that host memory holds no copy of them.
    ///
    /// # Errors
    /// A piece's rows cannot be read, or the device runs out of memory.
    pub fn tensor(&self, tensor: &ModelTensor) -> std::result::Result<Tensor, AssembleError> {
        let shape = &tensor.shape[..];
        if let [piece] = &tensor.pieces[..] {
            return self.piece(piece, shape);
        }
        let pieces = tensor
            .pieces
            .iter()
            .map(|piece| {
                let shape = [&[piece.rows().len()], &shape[1..]].concat();
                self.piece(piece, &shape)
            })
            .collect::<std::result::Result<Vec<_>, _>>()?;
        Ok(concat(&pieces.iter().collect::<Vec<_>>(), 0)?)
    }

    fn piece(&self, piece: &Piece, shape: &[usize]) -> std::result::Result<Tensor, AssembleError> {
        if let Some(fill) = piece.fill() {
            return Ok(self.filled(fill, shape)?);
        }
        let bytes = piece.bytes()?;
        let stored = match piece.stored() {
            StoredType::F64 => DType::F64,
            StoredType::F32 => DType::F32,
            StoredType::F16 => DType::F16,
            StoredType::Bf16 => DType::BF16,
            StoredType::Byte(kind) => {
                let coding = piece.tensor().coding();
                let width = shape[1..].iter().product();
                let (scales, rotation) = (coding.scales(piece.rows()), coding.rotation());
                let f32s = || decode_bytes(*kind, &bytes, width, scales, rotation);
                let bf16s = || decode_bytes(*kind, &bytes, width, scales, rotation);
                return Ok(self.decoded(f32s, bf16s, shape)?);
            }
            StoredType::Block(kind) => {
                let (f32s, bf16s) = (|| decode(*kind, &bytes), || decode(*kind, &bytes));
                return Ok(self.decoded(f32s, bf16s, shape)?);
            }
            StoredType::Other(name) => {
                let reason = format!("{name} cannot be computed with");
                return Err(candle_core::Error::Msg(reason).into());
            }
        };
        let tensor = Tensor::from_raw_buffer(&bytes, stored, shape, &self.device)?;
        Ok(tensor.to_dtype(self.dtype)?)
    }

    /// Values that the CPU decodes, in the assembler's type on its device.
    fn decoded(
        &self,
        f32s: impl FnOnce() -> Vec<f32>,
        bf16s: impl FnOnce() -> Vec<bf16>,
        shape: &[usize],
    ) -> Result<Tensor> {
        let values = match self.dtype {
            DType::BF16 => Tensor::from_vec(bf16s(), shape, &Device::Cpu),
            _ => Tensor::from_vec(f32s(), shape, &Device::Cpu),
        };
        values?.to_device(&self.device)?.to_dtype(self.dtype)
    }

    /// Generates values on the device: copying billions of repeated values there would take
    /// longer than most measurements.
    fn filled(&self, fill: Fill, shape: &[usize]) -> Result<Tensor> {
        let (values, scale) = match fill {
            Fill::Zeros => return Tensor::zeros(shape, self.dtype, &self.device),
            Fill::Ones => return Tensor::ones(shape, self.dtype, &self.device),
            Fill::Repeated { values, scale } => (values, scale),
        };
        let pool = match self.pool.get() {
            Some(pool) => pool,
            None => {
                let pool = Tensor::from_slice(values, values.len(), &Device::Cpu)?;
                let pool = pool.to_device(&self.device)?;
                self.pool.get_or_init(|| pool)
            }
        };
        let (count, length) = (shape.iter().product::<usize>(), values.len());
        let scaled = (pool * scale)?.to_dtype(self.dtype)?;
        let mut pieces = vec![scaled.clone(); count / length];
        if !count.is_multiple_of(length) {
            pieces.push(scaled.narrow(0, 0, count % length)?);
        }
        Tensor::cat(&pieces, 0)?.reshape(shape)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::test_files::{self, Naming};
    use crate::checkpoint::{Checkpoint, CheckpointArgs, PartTensors, RandomWeights};

    fn assembled(part: &PartTensors, name: &str) -> Tensor {
        let assembler = Assembler::new(&Device::Cpu, DType::F32);
        assembler.tensor(part.tensor(name).unwrap()).unwrap()
    }

    /// Bytes of the rows of a tensor, from the map alone.
    fn mapped_bytes(tensor: &ModelTensor) -> Vec<u8> {
        let pieces = tensor.pieces.iter();
        pieces
            .flat_map(|p| p.bytes().unwrap().into_owned())
            .collect()
    }

    fn bytes_of(tensor: &Tensor) -> Vec<u8> {
        let values = tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        values.into_iter().flat_map(f32::to_le_bytes).collect()
    }

    #[test]
    fn the_map_has_the_bytes_of_every_loaded_tensor() {
        for naming in Naming::ALL {
            let folder = tempfile::tempdir().unwrap();
            test_files::write_checkpoint(folder.path(), naming);
            let checkpoint = Checkpoint::open(&CheckpointArgs {
                model: Some(folder.path().to_owned()),
                ..CheckpointArgs::default()
            })
            .unwrap();
            assert_eq!(checkpoint.layout, naming.layout());
            assert_eq!(checkpoint.missing(), ["tokenizer"]);
            for (_, part) in checkpoint.parts() {
                for name in part.names() {
                    let tensor = part.tensor(name).unwrap();
                    let rows: usize = tensor.pieces.iter().map(|p| p.rows().len()).sum();
                    assert_eq!(rows, tensor.shape[0], "{name}");
                    let loaded = assembled(part, name);
                    assert_eq!(loaded.dims(), tensor.shape, "{name}");
                    assert_eq!(bytes_of(&loaded), mapped_bytes(tensor), "{name}");
                }
            }
        }
    }

    #[test]
    fn generated_values_are_those_of_the_map() {
        let pool = (0..1000).map(|i| (i as f32 * 0.37).sin()).collect();
        let weights = RandomWeights::new(pool);
        let shapes = [
            ("a.weight".to_owned(), vec![33, 100]),
            ("a.bias".into(), vec![33]),
            ("conv.weight".into(), vec![4, 3, 3, 3]),
            ("query_norm.weight".into(), vec![7]),
        ];
        let part = weights.part("test", shapes).unwrap();
        for name in part.names() {
            let loaded = assembled(&part, name);
            let tensor = part.tensor(name).unwrap();
            assert_eq!(bytes_of(&loaded), mapped_bytes(tensor), "{name}");
        }
    }

    #[test]
    fn matrices_keep_the_size_of_what_goes_through_them() {
        let pool = (0..1000).map(|i| if i % 2 == 0 { 1.0 } else { -1.0 });
        let weights = RandomWeights::new(pool.collect());
        let shapes = [
            ("qkv.weight".to_owned(), vec![33, 100]),
            ("query_norm.weight".into(), vec![4]),
            ("proj.bias".into(), vec![4]),
        ];
        let part = weights.part("test", shapes).unwrap();
        let matrix = assembled(&part, "qkv.weight");
        let square = matrix.sqr().unwrap().mean_all().unwrap();
        assert!((square.to_scalar::<f32>().unwrap() - 0.01).abs() < 1e-6);
        let norm = assembled(&part, "query_norm.weight");
        assert_eq!(norm.to_vec1::<f32>().unwrap(), [1.0; 4]);
        let bias = assembled(&part, "proj.bias");
        assert_eq!(bias.to_vec1::<f32>().unwrap(), [0.0; 4]);
    }
}
