//! A job by its shapes, and the memory that it takes.

use ovis_protocol::{AdapterUse, DenoiseRequest};

/// A job, as far as its shapes go.
#[derive(Clone, Copy, Debug)]
pub enum Ask<'a> {
    /// Prompts to conditioning.
    Encode {
        /// The prompts.
        prompts: &'a [String],
        /// The request's `max_sequence_length`.
        max_sequence_length: usize,
        /// The adapters that the request names.
        adapters: &'a [AdapterUse],
    },
    /// Conditioning and latent to latent.
    Denoise {
        /// The request.
        request: &'a DenoiseRequest,
        /// Shape of the latent, `[B, C, H/8, W/8]`.
        latent: [usize; 4],
        /// Number of positions of the longest conditioning.
        text: usize,
    },
    /// Latent to image.
    Decode {
        /// Shape of the latent, `[B, C, H/8, W/8]`.
        latent: [usize; 4],
    },
    /// Image to latent.
    VaeEncode {
        /// Batch, and height and width in pixels.
        image: [usize; 3],
    },
}

/// Bytes of memory that a job takes. On a CPU all of them are the host's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Host memory for the job's tensors and its result, held from submission to the end.
    pub host: u64,
    /// Device memory that the job holds between two of its steps.
    pub kept: u64,
    /// Device memory on top of `kept` while one of the job's operations runs.
    pub working: u64,
    /// The result as it is sent.
    pub result: u64,
}

impl Cost {
    /// The peak of the job's device memory.
    pub fn device(&self) -> u64 {
        self.kept.saturating_add(self.working)
    }
}
