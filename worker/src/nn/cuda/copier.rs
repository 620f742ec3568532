//! Copies pages of weights to the GPU while it computes.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::HashMap;
use std::sync::mpsc::Receiver;
use std::sync::Arc;
use std::time::Instant;

use candle_core::cuda_backend::cudarc::driver::result;
use candle_core::{CudaDevice, DType, Device, Error, Result, Tensor};

use super::address::{address, typed_output};
use super::copy_stream::{CopyStream, Event, PIECE};
use super::pinned::Pinned;
use super::staging::{Part, Staging};
use crate::nn::stream::{Copier, Home, HostBytes, PageLayout, PinnedBytes, SlotId};

/// Bytes that the link's speed is measured with, in pieces.
const PROBE: usize = 256 << 20;

/// Copies on a stream of its own. Two events a slot order it against the computing stream.
pub struct CudaCopier {
    device: CudaDevice,
    stream: Arc<CopyStream>,
    staging: OnceCell<Staging>,
    slots: RefCell<HashMap<u8, Slot>>,
    /// How often memory was allocated: a slot that is newer than its last use waits for its
    /// allocation.
    allocations: Cell<u64>,
}

struct Slot {
    used: Arc<Event>,
    filled: Arc<Event>,
    /// What the staging thread reports of a copy that it has not begun yet.
    staged: Option<Receiver<Result<()>>>,
    /// The allocations there were when `used` was recorded.
    allocations: u64,
}

impl Slot {
    /// Waits until the staging thread has given its copy to the stream: only then `filled` is
    /// recorded.
    fn settle(&mut self) -> Result<()> {
        match self.staged.take() {
            Some(report) => report.recv().map_err(Error::wrap)?,
            None => Ok(()),
        }
    }
}

impl CudaCopier {
    /// A copier for a GPU.
    ///
    /// # Errors
    /// The driver fails.
    pub fn new(device: &CudaDevice) -> Result<Self> {
        Ok(Self {
            stream: Arc::new(CopyStream::new(device.cuda_stream().context())?),
            device: device.clone(),
            staging: OnceCell::new(),
            slots: RefCell::default(),
            allocations: Cell::new(0),
        })
    }

    fn staging(&self) -> Result<&Staging> {
        if self.staging.get().is_none() {
            let made = Staging::new(&self.stream)?;
            self.staging.get_or_init(|| made);
        }
        self.staging
            .get()
            .ok_or_else(|| Error::Msg("there is no staging thread".into()))
    }

    /// Runs `body` with a slot's events.
    fn with_slot<R>(&self, slot: SlotId, body: impl FnOnce(&mut Slot) -> Result<R>) -> Result<R> {
        self.stream.bind()?;
        let mut slots = self.slots.borrow_mut();
        let slot = match slots.entry(slot.0) {
            std::collections::hash_map::Entry::Occupied(slot) => slot.into_mut(),
            std::collections::hash_map::Entry::Vacant(place) => place.insert(Slot {
                used: Arc::new(Event::new()?),
                filled: Arc::new(Event::new()?),
                staged: None,
                allocations: 0,
            }),
        };
        body(slot)
    }

    /// Begins the copies of a page from pinned memory.
    fn copy_pinned(&self, to: u64, layout: &PageLayout, bytes: &[u8]) -> Result<()> {
        self.stream.begin()?;
        for part in &layout.parts {
            let range = layout.byte_range(part);
            for start in range.clone().step_by(PIECE) {
                let end = range.end.min(start + PIECE);
                // SAFETY: pages are pinned as long as the copier lives, and the slot is free.
                unsafe { self.stream.copy(to + start as u64, &bytes[start..end])? };
            }
        }
        Ok(())
    }
}

/// Shared bytes of a page.
#[derive(Debug)]
struct Shared(Arc<Vec<u8>>);

impl HostBytes for Shared {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn read(&self, from: usize, into: &mut [u8]) -> Result<()> {
        match self.0.get(from..from + into.len()) {
            Some(bytes) => {
                into.copy_from_slice(bytes);
                Ok(())
            }
            None => candle_core::bail!("a page has {} bytes", self.0.len()),
        }
    }
}

/// The parts of a page that is not pinned, for a page at `to`.
fn staged_parts(to: u64, layout: &PageLayout, from: &Home) -> Result<Vec<Part>> {
    let parts = layout.parts.iter().enumerate().map(|(i, part)| {
        let range = layout.byte_range(part);
        let (bytes, first): (Arc<dyn HostBytes>, usize) = match from {
            Home::Pageable(memory) => (Arc::new(Shared(memory.clone())), range.start),
            Home::Origin(parts) => (parts[i].clone(), 0),
            Home::Pinned(_) => candle_core::bail!("pinned pages are not staged"),
        };
        Ok(Part {
            to: to + range.start as u64,
            bytes,
            from: first,
            len: range.len(),
        })
    });
    parts.collect()
}

impl Copier for CudaCopier {
    fn memory(&self, dtype: DType, elements: usize) -> Result<Tensor> {
        self.allocations.set(self.allocations.get() + 1);
        typed_output(&[elements], dtype, &Device::Cuda(self.device.clone()))
    }

    fn pin(&self, bytes: usize) -> Option<Box<dyn PinnedBytes>> {
        self.stream.bind().ok()?;
        match Pinned::new(bytes) {
            Ok(memory) => Some(Box::new(memory)),
            Err(reason) => {
                tracing::debug!(%reason, bytes, "host memory cannot be pinned");
                None
            }
        }
    }

    fn join(&self, from: &[&Tensor], into: &Tensor, layout: &PageLayout) -> Result<()> {
        self.stream.bind()?;
        let (to, stream) = (address(into)?, self.device.cuda_stream());
        for (tensor, part) in from.iter().zip(&layout.parts) {
            let range = layout.byte_range(part);
            let bytes = tensor.elem_count() * tensor.dtype().size_in_bytes();
            if bytes != range.len() || !tensor.is_contiguous() {
                candle_core::bail!("{tensor:?} does not fit {} bytes of a page", range.len());
            }
            let (to, from) = (to + range.start as u64, address(tensor)?);
            // SAFETY: both are alive, and what frees them comes after the copy on this stream.
            unsafe { result::memcpy_dtod_async(to, from, bytes, stream.cu_stream()) }
                .map_err(Error::wrap)?;
        }
        Ok(())
    }

    fn save(&self, from: &Tensor, into: &mut [u8]) -> Result<()> {
        let bytes = from.elem_count() * from.dtype().size_in_bytes();
        if bytes != into.len() || !from.is_contiguous() {
            candle_core::bail!("{} bytes do not hold {from:?}", into.len());
        }
        self.stream.bind()?;
        let stream = self.device.cuda_stream();
        // SAFETY: the tensor is alive until the copy is done, which is waited for.
        unsafe { result::memcpy_dtoh_async(into, address(from)?, stream.cu_stream()) }
            .map_err(Error::wrap)?;
        stream.synchronize().map_err(Error::wrap)
    }

    fn copy(&self, into: &Tensor, layout: &PageLayout, from: &Home) -> Result<()> {
        self.stream.bind()?;
        let (to, stream) = (address(into)?, self.device.cuda_stream());
        let mut buffer = Vec::new();
        for (i, part) in layout.parts.iter().enumerate() {
            let range = layout.byte_range(part);
            let bytes = match from {
                Home::Pinned(memory) => &memory.bytes()[range.clone()],
                _ => {
                    buffer.resize(range.len(), 0);
                    from.read(i, range.start, 0, &mut buffer)?;
                    &buffer
                }
            };
            let to = to + range.start as u64;
            // SAFETY: the bytes stay as they are until the copy is done, which is waited for.
            unsafe { result::memcpy_htod_async(to, bytes, stream.cu_stream()) }
                .map_err(Error::wrap)?;
            stream.synchronize().map_err(Error::wrap)?;
        }
        Ok(())
    }

    fn fill(&self, slot: SlotId, into: &Tensor, layout: &PageLayout, from: &Home) -> Result<()> {
        let to = address(into)?;
        let allocations = self.allocations.get();
        let computing = self.device.cuda_stream();
        self.with_slot(slot, |slot| {
            // A copy that was given up must not come after this one.
            let _ = slot.settle();
            if slot.allocations < allocations {
                // SAFETY: candle's stream lives as long as its device.
                unsafe { slot.used.record(computing.cu_stream())? };
                slot.allocations = allocations;
            }
            if let Home::Pinned(memory) = from {
                // SAFETY: both streams are alive.
                unsafe { slot.used.delay(self.stream.raw())? };
                self.copy_pinned(to, layout, memory.bytes())?;
                // SAFETY: as above.
                return unsafe { slot.filled.record(self.stream.raw()) };
            }
            let parts = staged_parts(to, layout, from)?;
            slot.staged = Some(self.staging()?.begin(&slot.used, parts, &slot.filled)?);
            Ok(())
        })
    }

    fn ready(&self, slot: SlotId) -> Result<()> {
        let computing = self.device.cuda_stream();
        self.with_slot(slot, |slot| {
            slot.settle()?;
            // SAFETY: candle's stream lives as long as its device.
            unsafe { slot.filled.delay(computing.cu_stream()) }
        })
    }

    fn used(&self, slot: SlotId) -> Result<()> {
        let computing = self.device.cuda_stream();
        let allocations = self.allocations.get();
        self.with_slot(slot, |slot| {
            slot.allocations = allocations;
            // SAFETY: candle's stream lives as long as its device.
            unsafe { slot.used.record(computing.cu_stream()) }
        })
    }

    fn wait(&self) -> Result<()> {
        self.stream.bind()?;
        for slot in self.slots.borrow_mut().values_mut() {
            // A copy that failed is not under way.
            let _ = slot.settle();
        }
        self.stream.wait()
    }

    fn throttle(&self, bytes_per_second: Option<f64>) {
        self.stream.throttle(bytes_per_second);
    }
}

impl Drop for CudaCopier {
    fn drop(&mut self) {
        // The slots and the pinned pages are freed after this.
        let _ = self.wait();
    }
}

/// See [`link_speed`](crate::nn::link_speed).
pub fn link_speed(device: &CudaDevice) -> Result<f64> {
    let stream = CopyStream::new(device.cuda_stream().context())?;
    let host = Pinned::new(PIECE)?;
    let there = typed_output(&[PIECE], DType::U8, &Device::Cuda(device.clone()))?;
    let to = address(&there)?;
    device.cuda_stream().synchronize().map_err(Error::wrap)?;
    let copy = |count: usize| -> Result<f64> {
        let begin = Instant::now();
        for _ in 0..count {
            // SAFETY: both live until the copies are done, which is waited for.
            unsafe { stream.copy(to, host.bytes())? };
        }
        stream.wait()?;
        Ok(begin.elapsed().as_secs_f64())
    };
    // The first copy wakes the link.
    copy(1)?;
    let seconds = copy(PROBE / PIECE)?;
    Ok(PROBE as f64 / seconds)
}
