//! The bound of the libraries' plan caches.

use std::num::NonZeroUsize;

/// Largest number of plans that each library keeps. An image of one size takes about sixty; a plan
/// is up to some hundreds of kilobytes of host memory.
pub(super) const MAX_PLANS: NonZeroUsize = NonZeroUsize::new(512).unwrap();
