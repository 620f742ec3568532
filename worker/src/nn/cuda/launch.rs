//! Kernel launches: every kernel of ours is enqueued here.

use std::sync::Arc;

use candle_core::cuda_backend::cudarc::driver::{
    CudaFunction, CudaStream, DeviceRepr, LaunchArgs, LaunchConfig, PushKernelArg,
};
use candle_core::cuda_backend::WrapErr;
use candle_core::{CudaDevice, DType, Result};

use super::layout::THREADS;
use super::modules::function;

/// A kernel's argument.
#[derive(Clone, Copy)]
pub(super) enum Arg<'a> {
    /// A device address.
    At(u64),
    /// A count or a stride in elements, passed as 64 bits.
    Count(usize),
    /// A number, passed as float32.
    Real(f32),
    /// A structure, passed by value.
    Struct(&'a dyn Parameter),
}

/// A value that a launch copies into a kernel's parameters.
pub(super) trait Parameter {
    /// Appends the value to a launch's arguments.
    fn push<'a>(&'a self, to: &mut LaunchArgs<'a>);
}

impl<T: DeviceRepr> Parameter for T {
    fn push<'a>(&'a self, to: &mut LaunchArgs<'a>) {
        to.arg(self);
    }
}

/// Blocks and threads of a launch.
#[derive(Clone, Copy)]
pub(super) struct Grid {
    /// Blocks in x and y.
    pub blocks: (usize, usize),
    /// Threads per block.
    pub threads: usize,
    /// Bytes of dynamic shared memory per block.
    pub shared_bytes: usize,
}

impl Grid {
    /// Blocks in x and y of so many threads each, without dynamic shared memory.
    pub fn new(blocks: (usize, usize), threads: usize) -> Self {
        Self {
            blocks,
            threads,
            shared_bytes: 0,
        }
    }
}

/// Enqueues a kernel on a stream; nothing if the grid has no blocks.
///
/// # Safety
/// The arguments are the kernel's own, in its order, and the memory it reads and writes lies in
/// tensors that are alive now.
pub(super) unsafe fn enqueue(
    stream: &Arc<CudaStream>,
    kernel: &CudaFunction,
    grid: Grid,
    args: &[Arg],
) -> Result<()> {
    let (x, y) = grid.blocks;
    if x == 0 || y == 0 {
        return Ok(());
    }
    let counts: Vec<i64> = args
        .iter()
        .map(|arg| match arg {
            Arg::Count(count) => *count as i64,
            _ => 0,
        })
        .collect();
    let mut builder = stream.launch_builder(kernel);
    for (arg, count) in args.iter().zip(&counts) {
        match arg {
            Arg::At(address) => address.push(&mut builder),
            Arg::Count(_) => count.push(&mut builder),
            Arg::Real(real) => real.push(&mut builder),
            Arg::Struct(value) => value.push(&mut builder),
        }
    }
    builder
        .launch(LaunchConfig {
            grid_dim: (x as u32, y as u32, 1),
            block_dim: (grid.threads as u32, 1, 1),
            shared_mem_bytes: grid.shared_bytes as u32,
        })
        .w()?;
    Ok(())
}

/// Enqueues a kernel by its full name on this thread's stream.
///
/// # Safety
/// As [`enqueue`].
pub(super) unsafe fn launch(
    device: &CudaDevice,
    family: &'static str,
    name: String,
    grid: Grid,
    args: &[Arg],
) -> Result<()> {
    let kernel = function(device, family, name)?;
    // SAFETY: as the caller's.
    unsafe { enqueue(&device.cuda_stream(), &kernel, grid, args) }
}

/// A kernel that is compiled for several types and access widths.
pub(super) struct Kernel {
    /// Name of its source file.
    pub family: &'static str,
    /// Its name without the suffix for type and width.
    pub name: &'static str,
    /// Its element type.
    pub dtype: DType,
    /// Neighbouring elements that a thread moves at once.
    pub pack: usize,
}

impl Kernel {
    /// Enqueues the kernel on this thread's stream.
    ///
    /// # Safety
    /// As [`enqueue`].
    pub unsafe fn launch(
        &self,
        device: &CudaDevice,
        blocks: (usize, usize),
        threads: usize,
        args: &[Arg],
    ) -> Result<()> {
        let dtype = match self.dtype {
            DType::BF16 => "bf16",
            _ => "f32",
        };
        let name = format!("{}_{dtype}_v{}", self.name, self.pack);
        let grid = Grid::new(blocks, threads);
        // SAFETY: as the caller's.
        unsafe { launch(device, self.family, name, grid, args) }
    }

    /// Enqueues a kernel whose threads each take a pack of `count` elements. Its arguments are
    /// `addresses`, `count`, then `others`.
    ///
    /// # Safety
    /// As [`enqueue`].
    pub unsafe fn launch_elementwise(
        &self,
        device: &CudaDevice,
        count: usize,
        addresses: &[u64],
        others: &[Arg],
    ) -> Result<()> {
        let mut args: Vec<Arg> = addresses.iter().copied().map(Arg::At).collect();
        args.push(Arg::Count(count));
        args.extend_from_slice(others);
        let blocks = (count.div_ceil(self.pack * THREADS), 1);
        // SAFETY: as the caller's.
        unsafe { self.launch(device, blocks, THREADS, &args) }
    }
}
