//! What a job is, and what becomes of it.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::time::Instant;

use candle_core::{CpuStorage, Device, Storage, Tensor};
use ovis_protocol::{
    DenoiseRequest, EncodeRequest, ErrorCode, JobId, Outcome, PromptCut, WireError,
};

use super::admission::Reservation;
use super::ClientId;
use crate::pipeline::{
    Conditioning, DenoiseInputs, Error, Image, Latent, Preview, Result, StepReport,
};

/// What to do, with its tensors on the CPU.
pub enum Work {
    /// Prompts to conditioning.
    Encode(EncodeRequest),
    /// Conditioning and latent to latent.
    Denoise(Box<DenoiseRequest>, DenoiseInputs),
    /// Latent to image.
    Decode(Latent),
    /// Image to latent.
    VaeEncode(Image),
}

impl Work {
    /// The operation's name, as `Request::name` has it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Encode(_) => "encode",
            Self::Denoise(..) => "denoise",
            Self::Decode(_) => "decode",
            Self::VaeEncode(_) => "vae-encode",
        }
    }

    /// A denoise job's steps times the elements of its latent; nothing for the others, which
    /// are short enough to run between two steps.
    pub fn denoise_work(&self) -> Option<u64> {
        match self {
            Self::Denoise(request, inputs) => {
                Some(u64::from(request.steps) * inputs.latent.tensor().elem_count() as u64)
            }
            _ => None,
        }
    }
}

/// A job's tensor, as float32 on the CPU.
#[derive(Clone, Debug)]
pub struct Output {
    /// `conditioning`, `latent` or `image`.
    pub name: &'static str,
    /// Row-major. Cut into bytes only when they are sent: an image's are many.
    values: Tensor,
}

impl Output {
    fn new(name: &'static str, tensor: &Tensor) -> Result<Self> {
        let values = tensor.to_device(&Device::Cpu)?.contiguous()?;
        let output = Self { name, values };
        match output.with_values(|values| values.iter().all(|value| value.is_finite())) {
            true => Ok(output),
            false => Err(Error::NotFinite { name }),
        }
    }

    /// Lends the values, row-major.
    fn with_values<T>(&self, see: impl FnOnce(&[f32]) -> T) -> T {
        let (storage, layout) = self.values.storage_and_layout();
        let Storage::Cpu(CpuStorage::F32(all)) = &*storage else {
            unreachable!("an output is float32 on the CPU");
        };
        see(&all[layout.start_offset()..][..self.values.elem_count()])
    }

    /// The tensor `conditioning`.
    ///
    /// # Errors
    /// The copy from the device failed; so for each of these.
    pub fn conditioning(conditioning: &Conditioning) -> Result<Self> {
        Self::new("conditioning", conditioning.tensor())
    }

    /// The tensor `latent`.
    ///
    /// # Errors
    /// As [`conditioning`](Self::conditioning).
    pub fn latent(latent: &Latent) -> Result<Self> {
        Self::new("latent", latent.tensor())
    }

    /// The tensor `image`.
    ///
    /// # Errors
    /// As [`conditioning`](Self::conditioning).
    pub fn image(image: &Image) -> Result<Self> {
        Self::new("image", image.tensor())
    }

    /// Dimensions, outermost first.
    pub fn shape(&self) -> Vec<u64> {
        self.values.dims().iter().map(|&d| d as u64).collect()
    }

    /// How many values it has.
    pub fn len(&self) -> usize {
        self.values.elem_count()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The values of a range within [`len`](Self::len), as little-endian bytes.
    pub fn bytes(&self, range: Range<usize>) -> Vec<u8> {
        self.with_values(|values| {
            let values = &values[range];
            let mut bytes = vec![0; size_of_val(values)];
            for (bytes, value) in bytes.chunks_exact_mut(size_of::<f32>()).zip(values) {
                bytes.copy_from_slice(&value.to_le_bytes());
            }
            bytes
        })
    }
}

/// What happens to a job. `Done`, `Failed` and `Cancelled` are its last.
#[derive(Clone, Debug)]
pub enum Event {
    /// It waits behind this many others.
    Queued(u32),
    /// It has the device.
    Started,
    /// A denoise step has ended; the estimate is in seconds.
    Progress(StepReport, f32),
    /// What the image looks like before the step of this number.
    Preview(u32, Preview),
    /// It is done.
    Done(Outcome, Output),
    /// It has failed.
    Failed(WireError),
    /// It was dropped because its client asked.
    Cancelled,
}

/// Where a client's events go. Called with the engine's lock held and from the
/// device thread, so it must neither block nor call the engine.
pub trait EventSink: Send + Sync {
    /// Takes one event.
    fn send(&self, job: JobId, event: Event);
}

/// A job in the queue or on the device.
pub struct Job {
    pub(super) client: ClientId,
    pub(super) id: JobId,
    pub(super) work: Work,
    pub(super) ticket: Ticket,
    /// Its memory, held until the device is done with it.
    pub(super) reservation: Reservation,
    /// The position its client was last told.
    pub(super) told: Option<u32>,
}

/// The part of a job that outlives its work: whom to tell, and what to measure.
#[derive(Clone)]
pub(super) struct Ticket {
    pub id: JobId,
    pub operation: &'static str,
    pub sink: Arc<dyn EventSink>,
    /// Whether nobody wants its result any more.
    pub cancelled: Arc<AtomicBool>,
    /// Whether its last event was sent; the device may still be busy with it.
    pub ended: Arc<AtomicBool>,
    pub submitted: Instant,
    pub span: tracing::Span,
}

impl Ticket {
    pub fn tell(&self, event: Event) {
        self.sink.send(self.id, event);
    }

    pub fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Acquire)
    }
}

/// What a job's work has given.
pub(super) struct Product {
    pub output: Output,
    pub cuts: Vec<PromptCut>,
}

impl From<Output> for Product {
    fn from(output: Output) -> Self {
        Self {
            output,
            cuts: Vec::new(),
        }
    }
}

/// A pipeline error as the client sees it.
pub fn wire_error(error: &Error) -> WireError {
    let (code, hint) = match error {
        Error::Invalid { hint, .. } => (ErrorCode::InvalidRequest, hint.as_str()),
        Error::TooLarge { hint, .. } => (ErrorCode::OutOfMemory, hint.as_str()),
        Error::MissingPart { .. } => (
            ErrorCode::MissingModel,
            "Start the worker with a checkpoint that has it.",
        ),
        Error::NotFinite { .. } => (
            ErrorCode::Internal,
            "The arithmetic overflowed: check that the weights belong together, and try bf16 or f32, or less guidance.",
        ),
        _ if error.is_out_of_memory() => (
            ErrorCode::OutOfMemory,
            "Use a smaller size or batch, or free memory on the device.",
        ),
        _ => {
            if let Error::Device(cause) = error {
                tracing::error!(%cause, "the device failed");
            }
            (ErrorCode::Internal, "The worker's log says more.")
        }
    };
    WireError::new(code, error.to_string(), hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_keep_their_meaning() {
        let missing = Error::MissingPart {
            part: "VAE",
            operation: "decode",
        };
        assert_eq!(wire_error(&missing).code, ErrorCode::MissingModel);
        let memory = Error::Device(candle_core::Error::Msg("CUDA_ERROR_OUT_OF_MEMORY".into()));
        assert_eq!(wire_error(&memory).code, ErrorCode::OutOfMemory);
        let device = Error::Device(candle_core::Error::Msg("no kernel".into()));
        assert_eq!(wire_error(&device).code, ErrorCode::Internal);
        let invalid = wire_error(&Error::invalid("bad size", "use 1024"));
        assert_eq!(invalid.code, ErrorCode::InvalidRequest);
        assert_eq!(invalid.message, "bad size");
        assert_eq!(invalid.hint, "use 1024");
    }
}
