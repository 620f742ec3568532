//! Matrix products with fused epilogues for Hopper (`kernels/hopper_product.cu`).

use std::cell::Cell;
use std::mem::MaybeUninit;
use std::sync::Arc;

use candle_core::cuda_backend::cudarc::driver::{
    sys, CudaFunction, CudaSlice, CudaStream, DevicePtr, DeviceRepr,
};
use candle_core::cuda_backend::WrapErr;
use candle_core::{CudaDevice, DType, Result, Tensor};

use super::address::address;
use super::launch::{enqueue, Arg, Grid, Parameter};
use super::modules::function;
use crate::nn::factors::{Factors, Operands, Update, WideUp};

/// Rows of the result that a thread block computes: its tile.
const TILE_ROWS: usize = 128;

/// Columns of a tile.
pub(super) const TILE_COLUMNS: usize = 256;

/// Thread blocks per cluster; their tiles are stacked vertically.
const BLOCKS: usize = 2;

/// Bytes along K that are loaded at a time.
const ROW_BYTES: usize = 128;

/// Threads per block.
const THREADS: usize = 384;

/// `Shared` of the kernel: three stages of 128 + 256 rows of [`ROW_BYTES`], a tile in bf16, the
/// biases and scales of four tiles' columns, eight barriers and a flag.
const SHARED_BYTES: usize = 3 * 384 * 128 + 128 * 256 * 2 + 4 * 256 * 6 + 8 * 8 + 8;

/// Bytes of a tile's float32 sums.
const PARTIAL_TILE: usize = TILE_ROWS * TILE_COLUMNS * 4;

/// Row tiles per group: all columns of a group are computed before the next group begins. Of 5, 9
/// and 17, 9 gave the fastest bf16 steps at 1024 x 1024 on an H100, by 1 %; in fp8, 9 and 17 were
/// equal.
const GROUP_ROW_TILES: usize = 9;

/// Smallest number of steps along K for which splitting a tile's sum pays off.
const FEWEST_STEPS: usize = 8;

/// A matrix as the tensor memory accelerator reads it, in the driver's encoding.
#[repr(transparent)]
struct TensorMap(sys::CUtensorMap);

// SAFETY: the driver defines it as a kernel argument.
unsafe impl DeviceRepr for TensorMap {}

/// The kernel's `Product`.
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
    group_row_tiles: i32,
    uncut: i32,
    parts: i32,
}

// SAFETY: the fields match the structure in the kernel.
unsafe impl DeviceRepr for Product {}

/// The kernel's `Projected`: addresses, and counts and strides in elements.
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

// SAFETY: the fields match the structure in the kernel.
unsafe impl DeviceRepr for Projected {}

/// The kernel's `Gated`.
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

// SAFETY: the fields match the structure in the kernel.
unsafe impl DeviceRepr for Gated {}

/// The operation fused to a product.
pub(super) enum Epilogue {
    /// Head norms and rotation, and SwiGLU.
    Projected(Projected),
    /// A gated residual.
    Gated(Gated),
}

/// The kernels of one GPU and the buffers for partial sums of split tiles.
pub(super) struct Hopper {
    stream: Arc<CudaStream>,
    /// Kernels without and with low-rank updates, for bf16 and for fp8.
    projected: [[CudaFunction; 2]; 2],
    gated: [[CudaFunction; 2]; 2],
    partial: CudaSlice<u8>,
    arrived: CudaSlice<i32>,
    clusters: usize,
    /// Whether bf16 and fp8 factors have been multiplied so far.
    used: Cell<[bool; 2]>,
}

impl Hopper {
    /// Loads the kernels, or returns `None` on another GPU than Hopper.
    pub fn open(device: &CudaDevice) -> Result<Option<Self>> {
        let stream = device.cuda_stream();
        let context = stream.context();
        // The kernels are compiled for this capability alone.
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
        let both = |name: &str| {
            Ok::<_, candle_core::Error>([kernels(name)?, kernels(&format!("updated_{name}"))?])
        };
        Ok(Some(Self {
            projected: both("projected")?,
            gated: both("gated")?,
            // SAFETY: a kernel writes partial sums before it reads them.
            partial: unsafe { stream.alloc(clusters * BLOCKS * PARTIAL_TILE) }.w()?,
            arrived: stream.alloc_zeros(clusters * BLOCKS).w()?,
            clusters,
            used: Cell::default(),
            stream,
        }))
    }

    /// Whether factors in fp8, or otherwise in bf16, have been multiplied so far.
    pub fn has(&self, fp8: bool) -> bool {
        self.used.get()[usize::from(fp8)]
    }

    /// Enqueues the product of `factors` with `bias` `[N]` and an epilogue. Returns `false` without
    /// any effect for factors that the kernel does not support.
    ///
    /// # Safety
    /// The tensors that `epilogue` refers to are alive and fit the product.
    pub unsafe fn run(
        &self,
        factors: &Factors,
        bias: &Tensor,
        epilogue: &Epilogue,
    ) -> Result<bool> {
        let (x, weight, scales, kind) = match &factors.operands {
            Operands::Dense(x, weight) => (*x, *weight, (0, 0), 0),
            Operands::Fp8(x, weight) => {
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
        let update = match &factors.update {
            Some(update) => match UpdateMaps::new(update, rows, outputs)? {
                Some(maps) => Some(maps),
                None => return Ok(false),
            },
            None => None,
        };
        let x_map = tensor_map(at[0], size, (rows, inputs))?;
        let w_map = tensor_map(at[1], size, (outputs, inputs))?;
        let mut product = self.product(rows, outputs, (inputs * size).div_ceil(ROW_BYTES));
        product.bias = bias_at;
        (product.x_scales, product.w_scales) = scales;
        let cut = product.row_tiles * product.column_tiles - product.uncut;
        let units = (product.uncut + cut * product.parts) as usize;
        let grid = Grid {
            blocks: (units.min(self.clusters) * BLOCKS, 1),
            threads: THREADS,
            shared_bytes: SHARED_BYTES,
        };
        let updated = usize::from(update.is_some());
        let (kernel, epilogue): (_, &dyn Parameter) = match epilogue {
            Epilogue::Projected(epilogue) => (&self.projected[updated][kind], epilogue),
            Epilogue::Gated(epilogue) => (&self.gated[updated][kind], epilogue),
        };
        let mut args = vec![
            Arg::Struct(&x_map),
            Arg::Struct(&w_map),
            Arg::Struct(&product),
            Arg::Struct(epilogue),
        ];
        if let Some(update) = &update {
            args.extend([
                Arg::Struct(&update.inner),
                Arg::Struct(&update.up),
                Arg::At(update.pieces),
            ]);
        }
        // SAFETY: as the caller's; the kernel takes these by value.
        unsafe { enqueue(&self.stream, kernel, grid, &args)? };
        let mut used = self.used.get();
        used[kind] = true;
        self.used.set(used);
        Ok(true)
    }

    /// How a product is divided into tiles and parts.
    fn product(&self, rows: usize, outputs: usize, steps: usize) -> Product {
        let row_tiles = rows.div_ceil(BLOCKS * TILE_ROWS);
        let column_tiles = outputs / TILE_COLUMNS;
        let tiles = row_tiles * column_tiles;
        // If the last round of tiles leaves most of the GPU idle, its tiles are split along K.
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
            group_row_tiles: GROUP_ROW_TILES.min(row_tiles) as i32,
            uncut: uncut as i32,
            parts: parts as i32,
        }
    }
}

/// The kernel's arguments for low-rank updates.
struct UpdateMaps {
    inner: TensorMap,
    up: TensorMap,
    pieces: u64,
}

impl UpdateMaps {
    /// Of updates of a product of so many rows and outputs; `None` if the kernel does not support
    /// them.
    fn new(update: &Update, rows: usize, outputs: usize) -> Result<Option<Self>> {
        let WideUp { factors, pieces } = update.up;
        let (height, ranks) = factors.dims2()?;
        let both = [update.inner, factors];
        let fits = height == outputs
            && update.inner.elem_count() == rows * ranks
            && ranks.is_multiple_of(WideUp::RANKS)
            && pieces.dims() == [outputs / WideUp::ROWS, 2]
            && pieces.dtype() == DType::U32
            && both
                .iter()
                .all(|t| t.dtype() == DType::BF16 && t.is_contiguous());
        let at = [address(update.inner)?, address(factors)?, address(pieces)?];
        if !fits || at.iter().any(|at| at % 16 != 0) {
            return Ok(None);
        }
        let size = DType::BF16.size_in_bytes();
        Ok(Some(Self {
            inner: tensor_map(at[0], size, (rows, ranks))?,
            up: tensor_map(at[1], size, (outputs, ranks))?,
            pieces: at[2],
        }))
    }
}

/// Describes a dense matrix of elements of `size` bytes that is read in boxes of 128 rows of
/// [`ROW_BYTES`]. Elements outside the matrix read as zeros.
fn tensor_map(at: u64, size: usize, (rows, columns): (usize, usize)) -> Result<TensorMap> {
    let kind = match size {
        1 => sys::CUtensorMapDataType::CU_TENSOR_MAP_DATA_TYPE_UINT8,
        _ => sys::CUtensorMapDataType::CU_TENSOR_MAP_DATA_TYPE_BFLOAT16,
    };
    let sizes = [columns as u64, rows as u64];
    let row_stride = [(columns * size) as u64];
    let tile = [(ROW_BYTES / size) as u32, TILE_ROWS as u32];
    let mut map = MaybeUninit::uninit();
    // SAFETY: the arrays are read before the call returns, and on success it has written the map.
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
