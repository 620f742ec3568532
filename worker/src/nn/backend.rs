//! Selects what implements [`Fused`]: the only place outside `cuda/` that depends on the build.

use super::fused::Fused;
use super::memory::DeviceMemory;

#[cfg(feature = "cuda")]
use super::cuda::Cuda as Backend;

/// Builds without GPU support evaluate the plain expressions.
#[cfg(not(feature = "cuda"))]
struct Backend;

#[cfg(not(feature = "cuda"))]
impl Fused for Backend {}

#[cfg(not(feature = "cuda"))]
impl DeviceMemory for Backend {}

/// What this build computes faster than the plain expressions.
pub(super) const fn fused() -> impl Fused {
    Backend
}

/// What this build's devices do about their memory.
pub(super) const fn memory() -> impl DeviceMemory {
    Backend
}
