//! Conversion of attention heads to 8-bit floats and back (`kernels/fp8_heads.cu`).

use candle_core::{bail, CudaDevice, DType, Device, Result, Tensor};

use super::address::{address, output, shared_gpu, typed_output};
use super::launch::{Arg, Kernel};
use super::layout::{pack, row_grid, rows, threads_for, THREADS};
use crate::nn::heads::QkBounds;

/// Largest number of thread blocks that search for the largest value of a batch entry: enough to
/// fill a GPU.
const MOST_BLOCKS: usize = 512;

/// Number of scalars of an attention, in the order of `Slot` in `kernels/fp8_heads.cu`. The first
/// [`CUDNN_SLOTS`] are inputs and outputs of cuDNN.
const SLOTS: usize = 10;
pub(super) const CUDNN_SLOTS: usize = 8;
const DESCALE_OUTPUT: usize = 8;
const LARGEST_VALUE: usize = 9;

/// Floats per slot: cuDNN assumes that tensors are aligned to 16 bytes.
const SLOT: usize = 4;

/// The result of an attention, `[B, S, H D]` in E4M3, and its scale `[1]` in float32.
pub(super) struct Attended {
    pub values: Tensor,
    pub scale: Tensor,
}

/// The scalars of one attention, initially zeros.
pub(super) struct Slots(Tensor);

impl Slots {
    /// Allocates the scalars.
    pub fn new(device: &CudaDevice) -> Result<Self> {
        Tensor::zeros(SLOTS * SLOT, DType::F32, &Device::Cuda(device.clone())).map(Self)
    }

    /// cuDNN's scalars, in its order.
    pub fn of_cudnn(&self) -> Result<Vec<Tensor>> {
        (0..CUDNN_SLOTS).map(|slot| self.slot(slot)).collect()
    }

    /// The scale of the attention's result.
    pub fn output_scale(&self) -> Result<Tensor> {
        self.slot(DESCALE_OUTPUT)
    }

    /// The largest magnitude of v.
    pub fn largest_value(&self) -> Result<Tensor> {
        self.slot(LARGEST_VALUE)
    }

    fn slot(&self, slot: usize) -> Result<Tensor> {
        self.0.narrow(0, slot * SLOT, 1)
    }

    /// Enqueues the search for v's largest magnitude, without synchronisation.
    pub fn find_largest(&self, device: &CudaDevice, v: &Rows) -> Result<()> {
        let (batch, tokens, _, _) = v.tensor.dims4()?;
        // SAFETY: v has these rows, and there are as many slots as the kernel uses.
        unsafe {
            kernel("largest_value").launch(
                device,
                (tokens.min(MOST_BLOCKS), batch),
                threads_for(v.width, PACK),
                &[
                    Arg::At(address(&v.tensor)?),
                    Arg::At(address(&self.0)?),
                    Arg::Count(tokens),
                    Arg::Count(v.width),
                    Arg::Count(v.batch_stride),
                    Arg::Count(v.row_stride),
                ],
            )
        }
    }

    /// Converts the given ones of q, k and v, whose shapes must fit each other, to contiguous E4M3,
    /// and computes all scalars but those that cuDNN writes. Requires v's largest magnitude.
    pub fn convert(
        &self,
        device: &CudaDevice,
        from: [Option<&Rows>; 3],
        bounds: QkBounds,
    ) -> Result<[Option<Tensor>; 3]> {
        let mut to = [None, None, None];
        let (mut widths, mut most) = ([0; 3], 0);
        let (mut from_at, mut to_at) = ([0; 3], [0; 3]);
        let mut strides = [[0; 2]; 3];
        let mut grid = (0, 0);
        for (i, rows) in from.iter().enumerate() {
            let Some(rows) = rows else { continue };
            let (batch, tokens, _, _) = rows.tensor.dims4()?;
            let new = typed_output(rows.tensor.dims(), DType::F8E4M3, rows.tensor.device())?;
            from_at[i] = address(&rows.tensor)?;
            to_at[i] = address(&new)?;
            widths[i] = rows.width;
            strides[i] = [rows.batch_stride, rows.row_stride];
            most = most.max(rows.width);
            grid = (tokens, batch);
            to[i] = Some(new);
        }
        let mut args: Vec<Arg> = from_at
            .iter()
            .chain(&to_at)
            .map(|at| Arg::At(*at))
            .collect();
        args.push(Arg::At(address(&self.0)?));
        args.extend(
            widths
                .iter()
                .chain(strides.iter().flatten())
                .map(|n| Arg::Count(*n)),
        );
        args.extend([Arg::Real(bounds.query), Arg::Real(bounds.key)]);
        // SAFETY: all tensors have these rows, and the new ones are contiguous.
        unsafe { kernel("heads_to_fp8").launch(device, grid, threads_for(most, PACK), &args)? };
        Ok(to)
    }
}

/// Number of bf16 elements that the kernels move at a time.
const PACK: usize = 8;

fn kernel(name: &'static str) -> Kernel {
    Kernel {
        family: "fp8_heads",
        name,
        dtype: DType::BF16,
        pack: PACK,
    }
}

/// Heads `[B, S, heads, D]` as one row of concatenated heads per token.
pub(super) struct Rows {
    tensor: Tensor,
    width: usize,
    batch_stride: usize,
    row_stride: usize,
}

impl Rows {
    /// Takes the tensor itself, or a contiguous copy if its rows are not dense or not aligned.
    pub fn new(heads: &Tensor) -> Result<Self> {
        let (_, _, count, head_dim) = heads.dims4()?;
        let stride = heads.stride();
        let dense = stride[3] == 1 && (stride[2] == head_dim || count == 1);
        let counts = [head_dim, stride[0], stride[1]];
        let tensor = match dense && pack(heads.dtype(), &counts, &[address(heads)?]) == PACK {
            true => heads.clone(),
            false => heads.force_contiguous()?,
        };
        Ok(Self {
            width: count * head_dim,
            batch_stride: tensor.stride()[0],
            row_stride: tensor.stride()[1],
            tensor,
        })
    }
}

/// An attention's result, converted to the type of `like`.
pub(super) fn widened(attended: &Attended, like: &Tensor) -> Result<Tensor> {
    let y = output(attended.values.dims(), like)?;
    widen_into(attended, &y)?;
    Ok(y)
}

/// Writes an attention's result into `out` of its shape.
pub(super) fn widen_into(attended: &Attended, out: &Tensor) -> Result<()> {
    let (Some(device), Some(to)) = (shared_gpu(&[out]), rows(out)) else {
        bail!("the output of an attention is on another device or has another layout");
    };
    let fits = attended.values.dims() == out.dims()
        && pack(out.dtype(), &[to.width, to.stride], &[address(out)?]) == PACK;
    if !fits {
        bail!("an attention's result does not fit {:?}", out.dims());
    }
    // SAFETY: both hold `to.count` rows of `to.width`, a multiple of a pack.
    unsafe {
        kernel("widen_fp8").launch(
            &device,
            row_grid(to.count, to.width, PACK),
            THREADS,
            &[
                Arg::At(address(&attended.values)?),
                Arg::At(address(&attended.scale)?),
                Arg::At(address(out)?),
                Arg::Count(to.count),
                Arg::Count(to.width),
                Arg::Count(to.stride),
            ],
        )
    }
}
