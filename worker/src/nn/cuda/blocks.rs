//! Decodes weights in ggml's blocks.

use candle_core::{bail, DType, Result, Tensor};

use super::address::{address, shared_gpu};
use super::launch::{launch, Arg, Grid};
use super::layout::THREADS;
use crate::quants::BlockType;

/// Values that a thread decodes.
const VALUES: usize = 8;

/// See [`Fused::decode_blocks`](crate::nn::fused::Fused::decode_blocks).
pub fn decode(bytes: &Tensor, at: usize, kind: BlockType, out: &Tensor) -> Result<bool> {
    let Some(device) = shared_gpu(&[out]) else {
        return Ok(false);
    };
    let (rows, columns) = out.dims2()?;
    let count = rows * columns;
    let size = count / kind.values() * kind.bytes();
    let fits = columns.is_multiple_of(kind.values()) && at + size <= bytes.elem_count();
    if bytes.dtype() != DType::U8 || !out.is_contiguous() || !fits {
        bail!("{rows} x {columns} values of {kind} do not lie at byte {at} of {bytes:?}");
    }
    let dtype = match out.dtype() {
        DType::BF16 => "bf16",
        _ => "f32",
    };
    let name = format!("decode_{}_{dtype}", kind.lower_name());
    let grid = Grid::new((count.div_ceil(VALUES * THREADS), 1), THREADS);
    let args = [
        Arg::At(address(bytes)? + at as u64),
        Arg::At(address(out)?),
        Arg::Count(count),
    ];
    // SAFETY: the blocks lie in `bytes`, and `out` is contiguous and holds `count` values.
    unsafe { launch(&device, "blocks", name, grid, &args)? };
    Ok(true)
}
