//! A weight kept in blocks.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use candle_core::{bail, DType, Device, Result, Storage, Tensor, D};
use half::bf16;

use super::contract::{Input, Weight};
use super::dense::Dense;
use crate::nn::backend::fused;
use crate::nn::factors::Operands;
use crate::nn::fused::Fused;
use crate::nn::norm::modulated_layer_norm;
use crate::nn::product::multiply;
use crate::quants::{decode, BlockType};

/// Rows that a CPU decodes at a time: enough for a product to be fast, and little memory.
const TILE: usize = 256;

/// The bytes of each part start at a multiple of this, so that a GPU reads them in whole lines.
const ALIGNMENT: usize = 256;

/// Rows of a weight that are stored in one type of blocks.
#[derive(Clone)]
pub struct PackedRows<'a> {
    /// How each row's values are stored; a row consists of whole blocks.
    pub kind: BlockType,
    /// Number of rows.
    pub rows: usize,
    /// The rows' blocks.
    pub bytes: Cow<'a, [u8]>,
}

/// Rows of a weight, and where their blocks start.
#[derive(Clone, Copy)]
struct Part {
    kind: BlockType,
    rows: usize,
    at: usize,
}

impl fmt::Debug for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} rows of {}", self.rows, self.kind)
    }
}

/// A weight `[out, in]` in blocks on its device. A CPU decodes some rows at a time to the type of
/// the network's weights and multiplies in float32; a GPU decodes the whole weight to that type for
/// each product. Products therefore equal those of the decoded weight, without keeping it.
#[derive(Debug)]
pub(super) struct Packed {
    bytes: Tensor,
    parts: Vec<Part>,
    inputs: usize,
    dtype: DType,
}

impl Packed {
    /// A weight of `inputs` columns whose rows are those of `parts`, one after another, in the
    /// precision of `dtype`. `None` if rows do not consist of whole blocks, or bytes are missing.
    ///
    /// # Errors
    /// The device does not take the blocks.
    pub(super) fn new(
        parts: &[PackedRows],
        inputs: usize,
        dtype: DType,
        device: &Device,
    ) -> Result<Option<Self>> {
        let is_whole = |part: &PackedRows| {
            inputs.is_multiple_of(part.kind.values())
                && part.bytes.len() == part.rows * row_bytes(part.kind, inputs)
        };
        if !parts.iter().all(is_whole) {
            return Ok(None);
        }
        let mut bytes = Vec::new();
        let mut placed = Vec::new();
        for PackedRows {
            kind,
            rows,
            bytes: blocks,
        } in parts
        {
            bytes.resize(bytes.len().next_multiple_of(ALIGNMENT), 0);
            placed.push(Part {
                kind: *kind,
                rows: *rows,
                at: bytes.len(),
            });
            bytes.extend_from_slice(blocks);
        }
        let count = bytes.len();
        Ok(Some(Self {
            bytes: Tensor::from_vec(bytes, count, &Device::Cpu)?.to_device(device)?,
            parts: placed,
            inputs,
            dtype,
        }))
    }

    /// The decoded weight, where a device decodes it as a whole.
    fn opened(&self) -> Result<Option<Tensor>> {
        let device = self.bytes.device();
        if device.is_cpu() {
            return Ok(None);
        }
        let rows = self.parts.iter().map(|part| part.rows).sum::<usize>();
        // SAFETY: all rows are decoded below, before anything reads them.
        let weight = unsafe { Tensor::empty((rows, self.inputs), self.dtype, device) }?;
        let mut first = 0;
        for part in &self.parts {
            let out = weight.narrow(0, first, part.rows)?;
            if !fused().decode_blocks(&self.bytes, part.at, part.kind, &out)? {
                bail!("{} is not decoded on {:?}", part.kind, device.location());
            }
            first += part.rows;
        }
        Ok(Some(weight))
    }

    fn input_of(&self, x: Tensor) -> Result<Input> {
        Ok(match self.opened()? {
            None => Input::Dense(x),
            Some(weight) => Input::Opened {
                x,
                weight,
                of: self.bytes.id(),
            },
        })
    }

    /// The product on a CPU, of some rows at a time.
    fn product_by_tiles(&self, x: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
        let (storage, layout) = self.bytes.storage_and_layout();
        let Storage::Cpu(bytes) = &*storage else {
            bail!("blocks on {:?} are not in memory", self.bytes.device());
        };
        let bytes = &bytes.as_slice::<u8>()?[layout.start_offset()..];
        let wide = x.to_dtype(DType::F32)?;
        let mut tiles = Vec::new();
        for part in &self.parts {
            let row = row_bytes(part.kind, self.inputs);
            for first in (0..part.rows).step_by(TILE) {
                let rows = TILE.min(part.rows - first);
                let blocks = &bytes[part.at + first * row..][..rows * row];
                tiles.push(multiply(&wide, &self.tile(part.kind, blocks, rows)?, None)?);
            }
        }
        let y = Tensor::cat(&tiles, D::Minus1)?;
        let y = match bias {
            Some(bias) => y.broadcast_add(&bias.to_dtype(DType::F32)?)?,
            None => y,
        };
        y.to_dtype(x.dtype())
    }

    /// Decoded rows, `[rows, in]`.
    fn tile(&self, kind: BlockType, blocks: &[u8], rows: usize) -> Result<Tensor> {
        let shape = (rows, self.inputs);
        let decoded = match self.dtype {
            DType::BF16 => Tensor::from_vec(decode::<bf16>(kind, blocks), shape, &Device::Cpu),
            _ => Tensor::from_vec(decode::<f32>(kind, blocks), shape, &Device::Cpu),
        };
        decoded?.to_dtype(DType::F32)
    }
}

/// Bytes of a row of `inputs` values.
fn row_bytes(kind: BlockType, inputs: usize) -> usize {
    inputs / kind.values() * kind.bytes()
}

impl Weight for Packed {
    fn input(&self, x: &Tensor) -> Result<Input> {
        self.input_of(x.clone())
    }

    fn normed_input(&self, x: &Tensor, shift: &Tensor, scale: &Tensor, eps: f64) -> Result<Input> {
        self.input_of(modulated_layer_norm(x, shift, scale, eps)?)
    }

    fn product(&self, input: &Input, bias: Option<&Tensor>) -> Result<Tensor> {
        let weight = match input {
            Input::Opened { weight, of, .. } if *of == self.bytes.id() => Some(weight.clone()),
            _ => self.opened()?,
        };
        match weight {
            Some(weight) => Dense(weight).product(input, bias),
            None => self.product_by_tiles(&*input.tensor()?, bias),
        }
    }

    fn operands<'a>(&'a self, input: &'a Input) -> Option<Operands<'a>> {
        match input {
            Input::Opened { x, weight, of } if *of == self.bytes.id() => {
                Some(Operands::Dense(x, weight))
            }
            _ => None,
        }
    }

    fn bulk(&self) -> Option<&Tensor> {
        Some(&self.bytes)
    }

    fn moved(&self, bulk: Tensor) -> Option<Arc<dyn Weight>> {
        Some(Arc::new(Self {
            bytes: bulk,
            parts: self.parts.clone(),
            ..*self
        }))
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
    fn packed(kind: BlockType, rows: usize, inputs: usize) -> (PackedRows<'static>, Tensor) {
        let values = random(&[rows * inputs]).to_vec1::<f32>().unwrap();
        let bytes = encode(kind, &values);
        let decoded = Tensor::from_vec(decode::<f32>(kind, &bytes), (rows, inputs), &Device::Cpu);
        let bytes = bytes.into();
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
            let weight = Packed::new(&[long, short], 512, dtype, &Device::Cpu);
            let weight = weight.unwrap().unwrap();
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
        let whole = |part: PackedRows, inputs| {
            let packed = Packed::new(&[part], inputs, DType::F32, &Device::Cpu);
            packed.unwrap().is_some()
        };
        assert!(whole(part.clone(), 256));
        assert!(!whole(part.clone(), 128));
        assert!(!whole(PackedRows { rows: 5, ..part }, 256));
    }
}
