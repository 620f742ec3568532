//! A weight kept in the blocks of a file.

use std::fmt;
use std::sync::Arc;

use candle_core::{DType, Device, Result, Tensor};
use half::bf16;

use super::contract::{Input, Weight};
use crate::nn::fused::Factors;
use crate::nn::norm::modulated_layer_norm;
use crate::nn::product::multiply;
use crate::quants::{decode, BlockType};

/// Rows that are decoded at a time: enough for a product to be fast, and little memory.
const TILE: usize = 256;

/// Bytes that somebody else keeps, such as those of a mapped file.
pub type SharedBytes = Arc<dyn AsRef<[u8]> + Send + Sync>;

/// Rows of a weight that one file tensor stores.
#[derive(Clone)]
pub struct PackedRows {
    /// How each row's values are stored; a row consists of whole blocks.
    pub kind: BlockType,
    /// Number of rows.
    pub rows: usize,
    /// The rows' blocks.
    pub bytes: SharedBytes,
}

impl fmt::Debug for PackedRows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} rows of {}", self.rows, self.kind)
    }
}

/// A weight `[out, in]` in blocks on the host. Products decode some rows at a time to the type of
/// the network's weights and multiply in float32, so that they equal those of the decoded weight
/// but need no memory for it.
#[derive(Debug)]
pub(super) struct Packed {
    parts: Vec<PackedRows>,
    inputs: usize,
    dtype: DType,
}

impl Packed {
    /// A weight of `inputs` columns whose rows are those of `parts`, one after another, in the
    /// precision of `dtype`. `None` if rows do not consist of whole blocks, or bytes are missing.
    pub(super) fn new(parts: Vec<PackedRows>, inputs: usize, dtype: DType) -> Option<Self> {
        let is_whole = |part: &PackedRows| {
            inputs.is_multiple_of(part.kind.values())
                && (*part.bytes).as_ref().len() == part.rows * row_bytes(part.kind, inputs)
        };
        parts.iter().all(is_whole).then_some(Self {
            parts,
            inputs,
            dtype,
        })
    }

    /// The product with the rows of one tile, `[.., rows]`.
    fn tile(&self, x: &Tensor, part: &PackedRows, first: usize, rows: usize) -> Result<Tensor> {
        let row = row_bytes(part.kind, self.inputs);
        let bytes = &(*part.bytes).as_ref()[first * row..(first + rows) * row];
        let shape = (rows, self.inputs);
        let weight = match self.dtype {
            DType::BF16 => Tensor::from_vec(decode::<bf16>(part.kind, bytes), shape, &Device::Cpu),
            _ => Tensor::from_vec(decode::<f32>(part.kind, bytes), shape, &Device::Cpu),
        };
        multiply(x, &weight?.to_dtype(DType::F32)?, None)
    }
}

/// Bytes of a row of `inputs` values.
fn row_bytes(kind: BlockType, inputs: usize) -> usize {
    inputs / kind.values() * kind.bytes()
}

impl Weight for Packed {
    fn input(&self, x: &Tensor) -> Result<Input> {
        Ok(Input::Dense(x.clone()))
    }

    fn normed_input(&self, x: &Tensor, shift: &Tensor, scale: &Tensor, eps: f64) -> Result<Input> {
        modulated_layer_norm(x, shift, scale, eps).map(Input::Dense)
    }

    fn product(&self, input: &Input, bias: Option<&Tensor>) -> Result<Tensor> {
        let x = match input {
            Input::Dense(x) => x.clone(),
            Input::Fp8(rows) => rows.dequantize()?.to_dtype(rows.dtype)?,
        };
        let wide = x.to_dtype(DType::F32)?;
        let mut tiles = Vec::new();
        for part in &self.parts {
            for first in (0..part.rows).step_by(TILE) {
                tiles.push(self.tile(&wide, part, first, TILE.min(part.rows - first))?);
            }
        }
        let y = Tensor::cat(&tiles, candle_core::D::Minus1)?;
        let y = match bias {
            Some(bias) => y.broadcast_add(&bias.to_dtype(DType::F32)?)?,
            None => y,
        };
        y.to_dtype(x.dtype())
    }

    fn factors<'a>(&'a self, _: &'a Input) -> Option<Factors<'a>> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::relative_error;
    use crate::nn::weight::dense;
    use crate::quants::encode;

    fn random(shape: &[usize]) -> Tensor {
        Tensor::randn(0f32, 1f32, shape, &Device::Cpu).unwrap()
    }

    /// Blocks of random values, and the decoded weight.
    fn packed(kind: BlockType, rows: usize, inputs: usize) -> (PackedRows, Tensor) {
        let values = random(&[rows * inputs]).to_vec1::<f32>().unwrap();
        let bytes = encode(kind, &values);
        let decoded = Tensor::from_vec(decode::<f32>(kind, &bytes), (rows, inputs), &Device::Cpu);
        let bytes: SharedBytes = Arc::new(bytes);
        (PackedRows { kind, rows, bytes }, decoded.unwrap())
    }

    #[test]
    fn products_are_those_of_the_decoded_weight() {
        let (bias, x) = (random(&[600 + 33]), random(&[2, 5, 512]));
        let types = [DType::F32, DType::BF16].into_iter();
        for (kind, dtype) in types.flat_map(|dtype| BlockType::ALL.map(|kind| (kind, dtype))) {
            let (long, first) = packed(kind, 600, 512);
            let (short, second) = packed(BlockType::Q8_0, 33, 512);
            let decoded = Tensor::cat(&[first, second], 0).unwrap();
            let decoded = decoded.to_dtype(dtype).unwrap();
            let decoded = decoded.to_dtype(DType::F32).unwrap();
            let weight = Packed::new(vec![long, short], 512, dtype).unwrap();
            let input = weight.input(&x).unwrap();
            let found = weight.product(&input, Some(&bias)).unwrap();
            let wanted = dense(decoded).product(&input, Some(&bias)).unwrap();
            assert_eq!(found.dims(), [2, 5, 633]);
            let error = relative_error(&found, &wanted);
            assert!(error < 1e-6, "{kind} {dtype:?}: {error}");
        }
    }

    #[test]
    fn rows_must_be_whole() {
        let (part, _) = packed(BlockType::Q4K, 4, 256);
        let whole =
            |part: PackedRows, inputs| Packed::new(vec![part], inputs, DType::F32).is_some();
        assert!(whole(part.clone(), 256));
        assert!(!whole(part.clone(), 128));
        assert!(!whole(PackedRows { rows: 5, ..part }, 256));
    }
}
