//! Products that end in what follows them in a transformer block, for Hopper
//! (`kernels/hopper_product.cu`).

use std::cell::Cell;
use std::mem::MaybeUninit;
use std::sync::Arc;

use candle_core::cuda_backend::cudarc::driver::{
    sys, CudaFunction, CudaSlice, CudaStream, DevicePtr, DeviceRepr, LaunchConfig, PushKernelArg,
};
use candle_core::cuda_backend::WrapErr;
use candle_core::{CudaDevice, DType, Result, Tensor};

use super::runtime::{address, function};
use crate::nn::ScaledRows;

/// Rows of a block's tile of the result.
const TILE_ROWS: usize = 128;

/// Columns of it.
pub(super) const TILE_COLUMNS: usize = 256;

/// Blocks of a cluster, whose tiles lie below one another.
const BLOCKS: usize = 2;

/// Bytes of K that are fetched at a time.
const ROW_BYTES: usize = 128;

const THREADS: u32 = 384;

/// `Shared` of the kernel: three stages of 128 + 256 rows of [`ROW_BYTES`], a tile in bf16, the
/// biases and scales of four tiles' columns, eight barriers and a flag.
const SHARED_BYTES: u32 = 3 * 384 * 128 + 128 * 256 * 2 + 4 * 256 * 6 + 8 * 8 + 8;

/// Bytes of a tile's float32 sums.
const PARTIAL_TILE: usize = TILE_ROWS * TILE_COLUMNS * 4;

/// Row tiles of a cluster whose columns are worked on before the next ones'. Of 5, 9 and 17 it gave
/// the fastest bf16 steps at 1024 x 1024 on an H100, by 1 %; in fp8 9 and 17 were equal.
const TOGETHER: usize = 9;

/// The fewest steps along K that are worth a part of their own.
const FEWEST_STEPS: usize = 8;

/// What is multiplied: `x` `[.., K]`, dense, and a weight `[N, K]`.
pub enum Factors<'a> {
    /// Both bf16.
    Bf16(&'a Tensor, &'a Tensor),
    /// Both E4M3 with the scales of their rows.
    Fp8(&'a ScaledRows, &'a ScaledRows),
}

/// A matrix as the TMA reads it; the driver's own bytes.
#[repr(transparent)]
struct TensorMap(sys::CUtensorMap);

// SAFETY: made for being a kernel's argument.
unsafe impl DeviceRepr for TensorMap {}

/// `Product` of the kernel.
#[repr(C)]
#[derive(Clone, Copy)]
struct Product {
    bias: u64,
    x_scales: u64,
    w_scales: u64,
    partial: u64,
    arrived: u64,
    rows: i32,
    steps: i32,
    row_tiles: i32,
    column_tiles: i32,
    together: i32,
    uncut: i32,
    parts: i32,
}

// SAFETY: laid out as the kernel has it.
unsafe impl DeviceRepr for Product {}

/// `Projected` of the kernel; addresses, and counts of elements.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(super) struct Projected {
    pub heads: u64,
    pub queries8: u64,
    pub keys8: u64,
    pub largest_value: u64,
    pub query_weight: u64,
    pub key_weight: u64,
    pub cos: u64,
    pub sin: u64,
    pub mlp: u64,
    pub mlp_stride: i64,
    pub tokens: i32,
    pub all_tokens: i32,
    pub offset: i32,
    pub queries: i32,
    pub keys: i32,
    pub head_columns: i32,
    pub inner: i32,
    pub query_factor: f32,
    pub key_factor: f32,
    pub eps: f32,
}

// SAFETY: laid out as the kernel has it.
unsafe impl DeviceRepr for Projected {}

/// `Gated` of the kernel.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct Gated {
    pub out: u64,
    pub x: u64,
    pub gate: u64,
    pub gate_stride: i64,
    pub tokens: i32,
    pub columns: i32,
}

// SAFETY: laid out as the kernel has it.
unsafe impl DeviceRepr for Gated {}

/// What follows a product.
pub(super) enum End {
    Projected(Projected),
    Gated(Gated),
}

/// The kernels of one GPU and what they put parts of tiles into.
pub(super) struct Hopper {
    stream: Arc<CudaStream>,
    /// For bf16 and for fp8.
    projected: [CudaFunction; 2],
    gated: [CudaFunction; 2],
    partial: CudaSlice<u8>,
    arrived: CudaSlice<i32>,
    clusters: usize,
    /// Whether either of bf16 and fp8 has been multiplied.
    used: Cell<[bool; 2]>,
}

impl Hopper {
    /// The kernels, if the GPU runs them.
    ///
    /// # Errors
    /// The driver or the device fails.
    pub fn open(device: &CudaDevice) -> Result<Option<Self>> {
        let stream = device.cuda_stream();
        let context = stream.context();
        // Their machine code runs on no other Hopper-like GPU.
        if context.compute_capability().w()? != (9, 0) {
            return Ok(None);
        }
        let multiprocessors = sys::CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT;
        let clusters = context.attribute(multiprocessors).w()? as usize / BLOCKS;
        let kernels = |name: &str| -> Result<[CudaFunction; 2]> {
            let kernel = |kind| {
                let kernel = function(device, "hopper_product", format!("{name}_{kind}"))?;
                let most =
                    sys::CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
                kernel.set_attribute(most, SHARED_BYTES as i32).w()?;
                Ok::<_, candle_core::Error>(kernel)
            };
            Ok([kernel("bf16")?, kernel("fp8")?])
        };
        Ok(Some(Self {
            projected: kernels("projected")?,
            gated: kernels("gated")?,
            // SAFETY: a kernel writes the parts before it reads them.
            partial: unsafe { stream.alloc(clusters * BLOCKS * PARTIAL_TILE) }.w()?,
            arrived: stream.alloc_zeros(clusters * BLOCKS).w()?,
            clusters,
            used: Cell::default(),
            stream,
        }))
    }

    /// Whether factors in fp8, or else in bf16, have been multiplied yet.
    pub fn has(&self, fp8: bool) -> bool {
        self.used.get()[usize::from(fp8)]
    }

    /// Enqueues the product of `factors`, with `bias` `[N]`, and its end. `false`, and nothing
    /// done, for factors that it does not take.
    ///
    /// # Errors
    /// The driver fails.
    ///
    /// # Safety
    /// What `end` names is alive and of the product's size.
    pub unsafe fn run(&self, factors: &Factors, bias: &Tensor, end: &End) -> Result<bool> {
        let (x, weight, scales, kind) = match factors {
            Factors::Bf16(x, weight) => (*x, *weight, (0, 0), 0),
            Factors::Fp8(x, weight) => {
                let scales = (address(&x.scales)?, address(&weight.scales)?);
                (&x.values, &weight.values, scales, 1)
            }
        };
        let (outputs, inputs) = weight.dims2()?;
        let rows = x.elem_count() / inputs.max(1);
        let size = x.dtype().size_in_bytes();
        let bias_fits =
            bias.dtype() == DType::BF16 && bias.is_contiguous() && bias.dims() == [outputs];
        let bias_at = address(bias)?;
        let at = [address(x)?, address(weight)?, bias_at, scales.1];
        let dense = x.is_contiguous() && weight.is_contiguous();
        if !bias_fits
            || !dense
            || rows == 0
            || x.dims().last() != Some(&inputs)
            || inputs * size % 16 != 0
            || at.iter().any(|at| at % 16 != 0)
        {
            return Ok(false);
        }
        let x_map = tensor_map(at[0], size, (rows, inputs))?;
        let w_map = tensor_map(at[1], size, (outputs, inputs))?;
        let mut product = self.product(rows, outputs, (inputs * size).div_ceil(ROW_BYTES));
        product.bias = bias_at;
        (product.x_scales, product.w_scales) = scales;
        let cut = product.row_tiles * product.column_tiles - product.uncut;
        let units = (product.uncut + cut * product.parts) as usize;
        let config = LaunchConfig {
            grid_dim: ((units.min(self.clusters) * BLOCKS) as u32, 1, 1),
            block_dim: (THREADS, 1, 1),
            shared_mem_bytes: SHARED_BYTES,
        };
        let kernel = match end {
            End::Projected(_) => &self.projected[kind],
            End::Gated(_) => &self.gated[kind],
        };
        let mut builder = self.stream.launch_builder(kernel);
        builder.arg(&x_map).arg(&w_map).arg(&product);
        match end {
            End::Projected(end) => builder.arg(end),
            End::Gated(end) => builder.arg(end),
        };
        builder.launch(config).w()?;
        let mut used = self.used.get();
        used[kind] = true;
        self.used.set(used);
        Ok(true)
    }

    /// How a product is divided.
    fn product(&self, rows: usize, outputs: usize, steps: usize) -> Product {
        let row_tiles = rows.div_ceil(BLOCKS * TILE_ROWS);
        let column_tiles = outputs / TILE_COLUMNS;
        let tiles = row_tiles * column_tiles;
        // The tiles of the last round, where they leave most of the GPU idle.
        let last = tiles % self.clusters;
        let parts = match last {
            0 => 1,
            _ => (self.clusters / last).min(steps / FEWEST_STEPS).max(1),
        };
        let uncut = if parts > 1 { tiles - last } else { tiles };
        Product {
            bias: 0,
            x_scales: 0,
            w_scales: 0,
            partial: self.partial.device_ptr(&self.stream).0,
            arrived: self.arrived.device_ptr(&self.stream).0,
            rows: rows as i32,
            steps: steps as i32,
            row_tiles: row_tiles as i32,
            column_tiles: column_tiles as i32,
            together: TOGETHER.min(row_tiles) as i32,
            uncut: uncut as i32,
            parts: parts as i32,
        }
    }
}

/// A dense matrix of elements of `size` bytes, read in boxes of 128 rows of [`ROW_BYTES`]; what
/// lies outside of it reads as zeros.
fn tensor_map(at: u64, size: usize, (rows, columns): (usize, usize)) -> Result<TensorMap> {
    let kind = match size {
        1 => sys::CUtensorMapDataType::CU_TENSOR_MAP_DATA_TYPE_UINT8,
        _ => sys::CUtensorMapDataType::CU_TENSOR_MAP_DATA_TYPE_BFLOAT16,
    };
    let sizes = [columns as u64, rows as u64];
    let row_stride = [(columns * size) as u64];
    let tile = [(ROW_BYTES / size) as u32, TILE_ROWS as u32];
    let mut map = MaybeUninit::uninit();
    // SAFETY: the arrays are read before this returns; a map that was made is written.
    unsafe {
        sys::cuTensorMapEncodeTiled(
            map.as_mut_ptr(),
            kind,
            2,
            at as *mut _,
            sizes.as_ptr(),
            row_stride.as_ptr(),
            tile.as_ptr(),
            [1, 1].as_ptr(),
            sys::CUtensorMapInterleave::CU_TENSOR_MAP_INTERLEAVE_NONE,
            sys::CUtensorMapSwizzle::CU_TENSOR_MAP_SWIZZLE_128B,
            sys::CUtensorMapL2promotion::CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
            sys::CUtensorMapFloatOOBfill::CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE,
        )
        .result()
        .w()?;
        Ok(TensorMap(map.assume_init()))
    }
}
