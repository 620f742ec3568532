//! Kernels, addresses and launches.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use candle_core::cuda_backend::cudarc::driver::{
    CudaFunction, CudaModule, DevicePtr, LaunchConfig, PushKernelArg,
};
use candle_core::cuda_backend::cudarc::nvrtc::Ptx;
use candle_core::cuda_backend::{CudaStorageSlice, WrapErr};
use candle_core::{bail, CudaDevice, DType, Device, Result, Storage, Tensor};

use super::copy::dense;
use super::cudnn::Cudnn;
use super::hopper::Hopper;
use super::products::Products;

/// Compiled kernels, by the name of their source file.
const FAMILIES: &[(&str, &[u8])] = &[
    (
        "channels_last",
        include_bytes!(concat!(env!("OUT_DIR"), "/channels_last.fatbin")),
    ),
    (
        "copy",
        include_bytes!(concat!(env!("OUT_DIR"), "/copy.fatbin")),
    ),
    (
        "elementwise",
        include_bytes!(concat!(env!("OUT_DIR"), "/elementwise.fatbin")),
    ),
    (
        "fp8",
        include_bytes!(concat!(env!("OUT_DIR"), "/fp8.fatbin")),
    ),
    (
        "fp8_heads",
        include_bytes!(concat!(env!("OUT_DIR"), "/fp8_heads.fatbin")),
    ),
    (
        "group_norm",
        include_bytes!(concat!(env!("OUT_DIR"), "/group_norm.fatbin")),
    ),
    (
        "hopper_product",
        include_bytes!(concat!(env!("OUT_DIR"), "/hopper_product.fatbin")),
    ),
    (
        "latents",
        include_bytes!(concat!(env!("OUT_DIR"), "/latents.fatbin")),
    ),
    (
        "norm",
        include_bytes!(concat!(env!("OUT_DIR"), "/norm.fatbin")),
    ),
    (
        "pointwise",
        include_bytes!(concat!(env!("OUT_DIR"), "/pointwise.fatbin")),
    ),
    (
        "rope",
        include_bytes!(concat!(env!("OUT_DIR"), "/rope.fatbin")),
    ),
    (
        "rows",
        include_bytes!(concat!(env!("OUT_DIR"), "/rows.fatbin")),
    ),
];

/// Threads of a block, unless there is less to do.
pub(super) const THREADS: usize = 256;

/// What one thread keeps of one GPU between calls.
pub(super) struct Gpu {
    modules: HashMap<&'static str, Arc<CudaModule>>,
    functions: HashMap<String, CudaFunction>,
    products: Option<Rc<Products>>,
    hopper: Option<Option<Rc<Hopper>>>,
    cudnn: Option<std::result::Result<Arc<Cudnn>, String>>,
}

thread_local! {
    static GPUS: RefCell<HashMap<usize, Gpu>> = RefCell::new(HashMap::new());
}

/// Runs `body` with this thread's state of `device`.
fn with_gpu<R>(device: &CudaDevice, body: impl FnOnce(&mut Gpu) -> Result<R>) -> Result<R> {
    let ordinal = device.cuda_stream().context().ordinal();
    GPUS.with_borrow_mut(|gpus| {
        body(gpus.entry(ordinal).or_insert_with(|| Gpu {
            modules: HashMap::new(),
            functions: HashMap::new(),
            products: None,
            hopper: None,
            cudnn: None,
        }))
    })
}

/// A kernel of `kernels/FAMILY.cu`, loaded at its first use.
pub(super) fn function(
    device: &CudaDevice,
    family: &'static str,
    name: String,
) -> Result<CudaFunction> {
    with_gpu(device, |gpu| {
        if let Some(function) = gpu.functions.get(&name) {
            return Ok(function.clone());
        }
        let module = match gpu.modules.get(family) {
            Some(module) => module.clone(),
            None => {
                let Some((_, image)) = FAMILIES.iter().find(|(known, _)| *known == family) else {
                    bail!("there is no kernel family {family}");
                };
                let module = device
                    .cuda_stream()
                    .context()
                    .load_module(Ptx::from_binary(image.to_vec()))
                    .w()?;
                gpu.modules.insert(family, module.clone());
                module
            }
        };
        let function = module.load_function(&name).w()?;
        gpu.functions.insert(name, function.clone());
        Ok(function)
    })
}

/// This thread's cuBLASLt.
pub(super) fn products(device: &CudaDevice) -> Result<Rc<Products>> {
    with_gpu(device, |gpu| match &gpu.products {
        Some(products) => Ok(products.clone()),
        None => {
            let products = Rc::new(Products::new(device.cuda_stream())?);
            gpu.products = Some(products.clone());
            Ok(products)
        }
    })
}

/// This thread's products of Hopper, if the GPU is one. Tried once.
pub(super) fn hopper(device: &CudaDevice) -> Result<Option<Rc<Hopper>>> {
    if let Some(known) = with_gpu(device, |gpu| Ok(gpu.hopper.clone()))? {
        return Ok(known);
    }
    let opened = match Hopper::open(device) {
        Ok(opened) => opened.map(Rc::new),
        Err(reason) => {
            tracing::warn!(%reason, "this GPU's own matrix products are not used");
            None
        }
    };
    with_gpu(device, |gpu| {
        gpu.hopper = Some(opened.clone());
        Ok(opened)
    })
}

/// This thread's cuDNN handle, or why there is none. Tried once.
pub(super) fn cudnn(device: &CudaDevice) -> Result<std::result::Result<Arc<Cudnn>, String>> {
    with_gpu(device, |gpu| {
        if gpu.cudnn.is_none() {
            device.cuda_stream().context().bind_to_thread().w()?;
            let opened = Cudnn::open().map(Arc::new);
            if let Err(reason) = &opened {
                tracing::warn!(
                    %reason,
                    "cuDNN is not used: attention and convolutions will be slower and need more \
                     memory; put the folder of libcudnn.so.9 into LD_LIBRARY_PATH"
                );
            }
            gpu.cudnn = Some(opened);
        }
        match &gpu.cudnn {
            Some(opened) => Ok(opened.clone()),
            None => bail!("cuDNN was not opened"),
        }
    })
}

/// The GPU that holds every one of `tensors`, if they are on one and all of one
/// type that the kernels take (bf16 or f32).
pub(super) fn shared_gpu(tensors: &[&Tensor]) -> Option<CudaDevice> {
    let first = tensors.first()?;
    let Device::Cuda(device) = first.device() else {
        return None;
    };
    let fits = |t: &&Tensor| t.dtype() == first.dtype() && t.device().same_device(first.device());
    (matches!(first.dtype(), DType::BF16 | DType::F32) && tensors.iter().all(fits))
        .then(|| device.clone())
}

/// Address of a tensor's first element. Good for launches on this thread's
/// stream while the tensor lives.
pub(super) fn address(tensor: &Tensor) -> Result<u64> {
    let (storage, layout) = tensor.storage_and_layout();
    let Storage::Cuda(storage) = &*storage else {
        bail!("a tensor for a CUDA kernel is on {:?}", tensor.device());
    };
    let stream = storage.device.cuda_stream();
    // Work on other streams is not waited for: there are none (see the module).
    let base = match &storage.slice {
        CudaStorageSlice::BF16(slice) => slice.device_ptr(&stream).0,
        CudaStorageSlice::F32(slice) => slice.device_ptr(&stream).0,
        CudaStorageSlice::F8E4M3(slice) => slice.device_ptr(&stream).0,
        CudaStorageSlice::U8(slice) => slice.device_ptr(&stream).0,
        CudaStorageSlice::U32(slice) => slice.device_ptr(&stream).0,
        _ => bail!("CUDA kernels take bf16 and f32, not {:?}", tensor.dtype()),
    };
    Ok(base + (layout.start_offset() * tensor.dtype().size_in_bytes()) as u64)
}

/// A new tensor, of the type and on the device of another, whose elements a
/// kernel is about to write.
pub(super) fn output(shape: &[usize], like: &Tensor) -> Result<Tensor> {
    typed_output(shape, like.dtype(), like.device())
}

/// A new tensor whose elements a kernel is about to write.
pub(super) fn typed_output(shape: &[usize], dtype: DType, device: &Device) -> Result<Tensor> {
    // SAFETY: every caller launches a kernel that writes all elements before
    // anything on the same stream reads them.
    unsafe { Tensor::empty(shape, dtype, device) }
}

/// A kernel's argument.
#[derive(Clone, Copy)]
pub(super) enum Arg {
    /// A device address.
    At(u64),
    /// A count or a stride in elements.
    Count(usize),
    /// A number.
    Real(f32),
}

/// Which kernel: its source file, its name without the type, its element type
/// and how many neighbouring elements a thread moves at once.
pub(super) struct Kernel {
    pub family: &'static str,
    pub name: &'static str,
    pub dtype: DType,
    pub pack: usize,
}

impl Kernel {
    /// Enqueues the kernel on this thread's stream.
    ///
    /// # Safety
    /// The arguments are the kernel's own, in its order, and the memory it
    /// reads and writes lies in tensors alive now.
    pub(super) unsafe fn launch(
        &self,
        device: &CudaDevice,
        grid: (usize, usize),
        threads: usize,
        args: &[Arg],
    ) -> Result<()> {
        let dtype = match self.dtype {
            DType::BF16 => "bf16",
            _ => "f32",
        };
        let name = format!("{}_{dtype}_v{}", self.name, self.pack);
        // SAFETY: as the caller's.
        unsafe { launch(device, self.family, name, grid, threads, args) }
    }
}

/// Enqueues a kernel by its whole name on this thread's stream.
///
/// # Safety
/// As [`Kernel::launch`].
pub(super) unsafe fn launch(
    device: &CudaDevice,
    family: &'static str,
    name: String,
    grid: (usize, usize),
    threads: usize,
    args: &[Arg],
) -> Result<()> {
    if grid.0 == 0 || grid.1 == 0 {
        return Ok(());
    }
    let function = function(device, family, name)?;
    let stream = device.cuda_stream();
    let counts: Vec<i64> = args
        .iter()
        .map(|arg| match arg {
            Arg::Count(count) => *count as i64,
            _ => 0,
        })
        .collect();
    let mut builder = stream.launch_builder(&function);
    for (arg, count) in args.iter().zip(&counts) {
        match arg {
            Arg::At(address) => builder.arg(address),
            Arg::Count(_) => builder.arg(count),
            Arg::Real(real) => builder.arg(real),
        };
    }
    builder
        .launch(LaunchConfig {
            grid_dim: (grid.0 as u32, grid.1 as u32, 1),
            block_dim: (threads as u32, 1, 1),
            shared_mem_bytes: 0,
        })
        .w()?;
    Ok(())
}

/// How many elements a 16-byte access moves, if all `counts` (lengths, strides)
/// and `addresses` allow it; else 1.
pub(super) fn pack(dtype: DType, counts: &[usize], addresses: &[u64]) -> usize {
    let wide = 16 / dtype.size_in_bytes();
    let fits = counts.iter().all(|count| count % wide == 0)
        && addresses.iter().all(|address| address % 16 == 0);
    if fits {
        wide
    } else {
        1
    }
}

/// Threads for a block that works through `width` elements, `pack` at a time: no more than
/// [`THREADS`], each with the same number of packs.
pub(super) fn threads_for(width: usize, pack: usize) -> usize {
    threads_up_to(THREADS, width, pack)
}

/// [`threads_for`] with another limit than [`THREADS`].
pub(super) fn threads_up_to(most: usize, width: usize, pack: usize) -> usize {
    let packs = width.div_ceil(pack).max(1);
    let rounds = packs.div_ceil(most);
    packs.div_ceil(rounds).next_multiple_of(32)
}

/// Grid of an elementwise kernel over `rows` of `width` elements: the kernel
/// strides over rows beyond CUDA's limit of 65535.
pub(super) fn row_grid(rows: usize, width: usize, pack: usize) -> (usize, usize) {
    (width.div_ceil(pack * THREADS), rows.min(65_535))
}

/// Rows of a tensor whose last dimension is dense: how many, how wide, and how
/// far apart, if they are evenly spaced.
pub(super) struct Rows {
    pub count: usize,
    pub width: usize,
    pub stride: usize,
}

/// `tensor` as evenly spaced rows, if its layout is one.
pub(super) fn rows(tensor: &Tensor) -> Option<Rows> {
    let (dims, strides) = (tensor.dims(), tensor.stride());
    let (&width, outer) = dims.split_last()?;
    if strides.last() != Some(&1) && width != 1 {
        return None;
    }
    let mut count = 1;
    let mut stride = width;
    // From the innermost outer dimension: each must continue the one within it.
    for (i, &dim) in outer.iter().enumerate().rev() {
        if dim == 1 {
            continue;
        }
        if count == 1 {
            stride = strides[i];
        } else if strides[i] != stride * count {
            return None;
        }
        count *= dim;
    }
    Some(Rows {
        count,
        width,
        stride,
    })
}

/// `tensor` itself when its rows are evenly spaced, else a contiguous copy.
pub(super) fn with_rows(tensor: &Tensor) -> Result<(Tensor, Rows)> {
    if let Some(rows) = rows(tensor) {
        return Ok((tensor.clone(), rows));
    }
    let copy = dense(tensor)?;
    match rows(&copy) {
        Some(rows) => Ok((copy, rows)),
        None => bail!("a tensor without dimensions has no rows"),
    }
}

/// `tensor` `[1 or B, W]` and how far one batch entry's row is from the next: 0
/// when all entries share one.
pub(super) fn one_row_an_entry(tensor: &Tensor) -> Result<(Tensor, usize)> {
    let (tensor, rows) = with_rows(tensor)?;
    let stride = if rows.count == 1 { 0 } else { rows.stride };
    Ok((tensor, stride))
}
