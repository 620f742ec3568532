//! The driver's pool of memory for tensors. All of candle's allocations and ours come from the
//! GPU's current pool.

use std::collections::HashMap;
use std::mem;
use std::sync::{LazyLock, Mutex, PoisonError};

use candle_core::cuda_backend::cudarc::driver::{result, sys};
use candle_core::{CudaDevice, Error, Result};

use super::device::device_memory;
use crate::nn::memory::PoolBytes;

use sys::CUmemPool_attribute as Attribute;

/// The limits, by the number of their GPU.
static LIMITED: LazyLock<Mutex<HashMap<usize, Limited>>> = LazyLock::new(Mutex::default);

/// The pools of a GPU whose memory is limited. They live as long as the process: tensors may be left
/// in them.
#[derive(Clone, Copy)]
struct Limited {
    bytes: u64,
    pool: Pool,
    /// Of weights on their way. It returns to the driver what is freed.
    transit: Pool,
}

#[derive(Clone, Copy)]
struct Pool(sys::CUmemoryPool);

// SAFETY: a handle, which the driver's functions take on any thread.
unsafe impl Send for Pool {}

fn limits() -> std::sync::MutexGuard<'static, HashMap<usize, Limited>> {
    LIMITED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A new pool on the context's device, with a limit or none.
fn created(gpu: sys::CUdevice, limit: Option<u64>) -> Result<sys::CUmemoryPool> {
    // SAFETY: a struct of numbers and pointers, for which zero means "not set".
    let mut properties: sys::CUmemPoolProps = unsafe { mem::zeroed() };
    properties.allocType = sys::CUmemAllocationType::CU_MEM_ALLOCATION_TYPE_PINNED;
    properties.location.type_ = sys::CUmemLocationType::CU_MEM_LOCATION_TYPE_DEVICE;
    properties.location.id = gpu;
    properties.maxSize = limit.map_or(0, |bytes| usize::try_from(bytes).unwrap_or(usize::MAX));
    // SAFETY: the properties of a pool on the context's own device.
    unsafe { result::mem_pool::create(&raw const properties) }.map_err(Error::wrap)
}

/// The GPU's current pool.
fn current(device: &CudaDevice) -> Result<sys::CUmemoryPool> {
    let stream = device.cuda_stream();
    // SAFETY: the context's own device.
    unsafe { result::device::get_mem_pool(stream.context().cu_device()) }.map_err(Error::wrap)
}

fn read(pool: sys::CUmemoryPool, attribute: Attribute) -> Result<u64> {
    let mut bytes = 0u64;
    // SAFETY: pools are never destroyed here; the attributes that are read are u64s.
    unsafe { result::mem_pool::get_attribute(pool, attribute, (&raw mut bytes).cast()) }
        .map_err(Error::wrap)?;
    Ok(bytes)
}

/// Configures a pool to never return memory to the driver by itself.
fn keep(pool: sys::CUmemoryPool) -> Result<()> {
    let mut bytes = u64::MAX;
    let attribute = Attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD;
    // SAFETY: pools are never destroyed here; the attribute is a u64.
    unsafe { result::mem_pool::set_attribute(pool, attribute, (&raw mut bytes).cast()) }
        .map_err(Error::wrap)
}

/// See [`keep_freed_memory`](crate::nn::keep_freed_memory).
pub fn keep_freed_memory(device: &CudaDevice) -> Result<()> {
    keep(current(device)?)
}

/// See [`limit_memory`](crate::nn::limit_memory).
pub fn limit(device: &CudaDevice, bytes: Option<u64>) -> Result<bool> {
    let context = device.cuda_stream().context().clone();
    context.bind_to_thread().map_err(Error::wrap)?;
    let (gpu, ordinal) = (context.cu_device(), context.ordinal());
    let Some(bytes) = bytes else {
        // SAFETY: the context's own device and its default pool.
        unsafe {
            let pool = result::device::get_default_mem_pool(gpu).map_err(Error::wrap)?;
            result::device::set_mem_pool(gpu, pool).map_err(Error::wrap)?;
        }
        limits().remove(&ordinal);
        return Ok(true);
    };
    // A pool of its own for each model would let every one of them take as much.
    if limits().contains_key(&ordinal) {
        return Ok(true);
    }
    let pool = created(gpu, Some(bytes))?;
    keep(pool)?;
    let transit = Pool(created(gpu, None)?);
    // SAFETY: the context's own device, and a pool that is never destroyed.
    unsafe { result::device::set_mem_pool(gpu, pool) }.map_err(Error::wrap)?;
    let pool = Pool(pool);
    let limited = Limited {
        bytes,
        pool,
        transit,
    };
    limits().insert(ordinal, limited);
    Ok(true)
}

/// See [`in_transit`](crate::nn::in_transit).
pub fn set_transit(device: &CudaDevice, is_on: bool) -> Result<bool> {
    let context = device.cuda_stream().context().clone();
    let Some(limited) = limits().get(&context.ordinal()).copied() else {
        return Ok(false);
    };
    let pool = match is_on {
        true => limited.transit,
        false => limited.pool,
    };
    context.bind_to_thread().map_err(Error::wrap)?;
    // SAFETY: the context's own device, and a pool that is never destroyed.
    unsafe { result::device::set_mem_pool(context.cu_device(), pool.0) }.map_err(Error::wrap)?;
    Ok(true)
}

/// See [`pool_memory`](crate::nn::pool_memory).
pub fn bytes(device: &CudaDevice) -> Option<PoolBytes> {
    let stream = device.cuda_stream();
    stream.context().bind_to_thread().ok()?;
    let pool = current(device).ok()?;
    let read = |attribute| read(pool, attribute).ok();
    Some(PoolBytes {
        reserved: read(Attribute::CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT)?,
        used: read(Attribute::CU_MEMPOOL_ATTR_USED_MEM_CURRENT)?,
        most_reserved: read(Attribute::CU_MEMPOOL_ATTR_RESERVED_MEM_HIGH)?,
        most_used: read(Attribute::CU_MEMPOOL_ATTR_USED_MEM_HIGH)?,
        limit: limits()
            .get(&stream.context().ordinal())
            .map(|limited| limited.bytes),
    })
}

/// Bytes that new tensors can take, including what freed ones have left in the pool.
pub fn available_memory(device: &CudaDevice) -> Option<u64> {
    let (used, total) = device_memory(device)?;
    let pool = bytes(device)?;
    let free = total.saturating_sub(used);
    let growth = match pool.limit {
        Some(limit) => free.min(limit.saturating_sub(pool.reserved)),
        None => free,
    };
    (total > 0).then(|| growth + pool.reserved.saturating_sub(pool.used))
}

/// See [`give_back_memory`](crate::nn::give_back_memory).
pub fn give_back_memory(device: &CudaDevice) -> Result<()> {
    let stream = device.cuda_stream();
    stream.synchronize().map_err(Error::wrap)?;
    // SAFETY: the current pool is never destroyed here.
    unsafe { result::mem_pool::trim_to(current(device)?, 0) }.map_err(Error::wrap)
}
