//! Weights that stay on the host and come to the device when their block runs.
//!
//! The large tensors of a block are *pages*. A page that is not resident has its bytes in a
//! [`Home`] on the host; a [`Pager`] copies it into one of a few *slots* of device memory before its
//! block runs, and the pages of the next blocks into the other slots meanwhile. While the block
//! runs, its weights are views into the slots, so no layer and no kernel knows where they come
//! from, and results are the same in every bit.
//!
//! - `layout`: a page's tensors, one behind the other
//! - `schedule`: which page is copied into which slot, and when; pure
//! - `home`: where a page's bytes are
//! - [`Copier`]: what a device does to copy them
//! - [`Residence`]: which pages stay on the device
//! - [`Pager`]: all of them together

mod copier;
mod home;
mod layout;
mod pager;
mod residence;
mod schedule;
#[cfg(test)]
pub mod testing;

pub use copier::{Copier, HostCopier};
pub use home::{Home, HostBytes, PinnedBytes};
pub use layout::PageLayout;
pub use pager::{MakeCopier, PageFact, Pager, PagerStats};
pub use residence::{Group, Residence, Visits, SLOTS};
pub use schedule::{PageId, SlotId};
