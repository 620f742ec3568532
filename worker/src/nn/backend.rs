//! Selects what implements [`Fused`]: the only place outside `cuda/` that depends on the build.

use super::fused::Fused;

#[cfg(feature = "cuda")]
use super::cuda::Cuda as Backend;

/// Builds without GPU support evaluate the plain expressions.
#[cfg(not(feature = "cuda"))]
struct Backend;

#[cfg(not(feature = "cuda"))]
impl Fused for Backend {}

/// What this build computes faster than the plain expressions.
pub(super) const fn fused() -> impl Fused {
    Backend
}
