//! What a device does to copy pages.

use candle_core::{DType, Device, Result, Tensor};

use super::home::{Home, PinnedBytes};
use super::layout::PageLayout;
use super::schedule::SlotId;

/// Copies pages between host and device. Copies into slots may run while the device computes; the
/// methods order them against the computation.
pub trait Copier {
    /// Memory on the device for pages: a vector whose elements are not set.
    ///
    /// # Errors
    /// The device has too little memory.
    fn memory(&self, dtype: DType, elements: usize) -> Result<Tensor>;

    /// Host memory that [`fill`](Self::fill) copies from fastest; `None` where there is none.
    fn pin(&self, _bytes: usize) -> Option<Box<dyn PinnedBytes>> {
        None
    }

    /// Copies tensors of the device into a page.
    ///
    /// # Errors
    /// The device fails, or a tensor does not fit its part.
    fn join(&self, from: &[&Tensor], into: &Tensor, layout: &PageLayout) -> Result<()> {
        for (tensor, part) in from.iter().zip(&layout.parts) {
            into.slice_set(&tensor.flatten_all()?, 0, part.start)?;
        }
        Ok(())
    }

    /// Copies a tensor's bytes to the host, and waits until they are there.
    ///
    /// # Errors
    /// The device fails, or `into` has another size.
    fn save(&self, from: &Tensor, into: &mut [u8]) -> Result<()>;

    /// Copies a page into `into`, and waits until it is there.
    ///
    /// # Errors
    /// The page cannot be read, or the device fails.
    fn copy(&self, into: &Tensor, layout: &PageLayout, from: &Home) -> Result<()>;

    /// Begins to copy a page into a slot, once the device has [used](Self::used) what the slot held
    /// before.
    ///
    /// # Errors
    /// The page cannot be read, or the device fails.
    fn fill(&self, slot: SlotId, into: &Tensor, layout: &PageLayout, from: &Home) -> Result<()>;

    /// Computations that are started from now on begin when the slot is filled.
    ///
    /// # Errors
    /// The copy failed.
    fn ready(&self, slot: SlotId) -> Result<()>;

    /// The computations that were started so far are the last ones to read the slot.
    ///
    /// # Errors
    /// The device fails.
    fn used(&self, slot: SlotId) -> Result<()>;

    /// Waits until no copy into a slot is under way, so that the slots can be freed.
    ///
    /// # Errors
    /// The device fails.
    fn wait(&self) -> Result<()> {
        Ok(())
    }

    /// Limits the bytes a second that [`fill`](Self::fill) copies, to measure what a slower link
    /// would cost; `None` removes the limit.
    fn throttle(&self, _bytes_per_second: Option<f64>) {}
}

/// Copies on the CPU, at once.
pub struct HostCopier;

impl Copier for HostCopier {
    fn memory(&self, dtype: DType, elements: usize) -> Result<Tensor> {
        Tensor::zeros(elements, dtype, &Device::Cpu)
    }

    fn save(&self, from: &Tensor, mut into: &mut [u8]) -> Result<()> {
        from.write_bytes(&mut into)
    }

    fn copy(&self, into: &Tensor, layout: &PageLayout, from: &Home) -> Result<()> {
        for (i, part) in layout.parts.iter().enumerate() {
            let range = layout.byte_range(part);
            let mut bytes = vec![0; range.len()];
            from.read(i, range.start, 0, &mut bytes)?;
            let values = bytes_to_tensor(&bytes, layout.dtype, part.len())?;
            into.slice_set(&values, 0, part.start)?;
        }
        Ok(())
    }

    fn fill(&self, _slot: SlotId, into: &Tensor, layout: &PageLayout, from: &Home) -> Result<()> {
        self.copy(into, layout, from)
    }

    fn ready(&self, _slot: SlotId) -> Result<()> {
        Ok(())
    }

    fn used(&self, _slot: SlotId) -> Result<()> {
        Ok(())
    }
}

/// A vector of values on the CPU, given by their bytes.
fn bytes_to_tensor(bytes: &[u8], dtype: DType, elements: usize) -> Result<Tensor> {
    Tensor::from_raw_buffer(bytes, dtype, &[elements], &Device::Cpu)
}
