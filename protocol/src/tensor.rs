//! Tensor headers, their checks, and assembly from chunks.

use bincode::{Decode, Encode};

use crate::limits::{MAX_CHUNK_BYTES, MAX_RANK, MAX_TENSORS, MAX_TENSOR_BYTES};
use crate::message::{Chunk, JobId};
use crate::text::shown;

/// Element type of a tensor's bytes; all little-endian. On the wire a `u32`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub enum DType {
    /// `0`: IEEE float32.
    F32,
    /// `1`: IEEE float16.
    F16,
    /// `2`: bfloat16.
    Bf16,
    /// `3`: Unsigned bytes.
    U8,
}

impl DType {
    /// Bytes of one element.
    pub fn size(self) -> u64 {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
            Self::U8 => 1,
        }
    }
}

/// Announces a tensor whose bytes follow in chunks, row-major and contiguous.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct TensorHeader {
    /// What the tensor is in its message, for instance `positive` or `latent`.
    pub name: String,
    /// Element type.
    pub dtype: DType,
    /// Dimensions, outermost first.
    pub shape: Vec<u64>,
}

/// Why a tensor could not be taken.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum TensorError {
    /// The header asks for more than the limits allow, or for nothing.
    #[error("tensor `{name}` of shape {shape:?} is not acceptable: {reason}")]
    BadHeader {
        /// The tensor's name.
        name: String,
        /// The announced shape.
        shape: Vec<u64>,
        /// What is wrong with it.
        reason: String,
    },
    /// The message announces too many tensors, or too many bytes together.
    #[error("the message's tensors are not acceptable: {0}")]
    BadSet(String),
    /// A chunk does not continue its tensor.
    #[error("chunk of tensor {index} at byte {offset}: {reason}")]
    BadChunk {
        /// Which of the message's tensors.
        index: u32,
        /// Where in it the chunk says it belongs.
        offset: u64,
        /// What is wrong with it.
        reason: String,
    },
}

impl TensorHeader {
    /// A header; nothing is checked until [`byte_len`](Self::byte_len).
    pub fn new(
        name: impl Into<String>,
        dtype: DType,
        shape: impl IntoIterator<Item = u64>,
    ) -> Self {
        Self {
            name: name.into(),
            dtype,
            shape: shape.into_iter().collect(),
        }
    }

    /// Bytes the tensor occupies.
    ///
    /// # Errors
    /// More than [`MAX_RANK`] dimensions, a dimension of zero, or more than
    /// [`MAX_TENSOR_BYTES`].
    pub fn byte_len(&self) -> Result<u64, TensorError> {
        let bad = |reason: String| TensorError::BadHeader {
            name: shown(&self.name),
            shape: self.shape.iter().copied().take(MAX_RANK + 1).collect(),
            reason,
        };
        if self.shape.len() > MAX_RANK {
            return Err(bad(format!("it has more than {MAX_RANK} dimensions")));
        }
        if self.shape.contains(&0) {
            return Err(bad("a dimension is zero".into()));
        }
        self.shape
            .iter()
            .try_fold(self.dtype.size(), |n, &d| n.checked_mul(d))
            .filter(|&n| n <= MAX_TENSOR_BYTES)
            .ok_or_else(|| bad(format!("it is larger than {MAX_TENSOR_BYTES} bytes")))
    }
}

/// The chunks in which a message's tensors follow it, given each tensor's bytes in the order
/// of the headers.
pub fn chunks<'a, I: IntoIterator<Item = &'a [u8]>>(
    job: JobId,
    tensors: I,
) -> impl Iterator<Item = Chunk> + use<'a, I> {
    (0..).zip(tensors).flat_map(move |(tensor, bytes)| {
        let parts = bytes.chunks(MAX_CHUNK_BYTES).enumerate();
        parts.map(move |(part, data)| Chunk {
            job,
            tensor,
            offset: (part * MAX_CHUNK_BYTES) as u64,
            data: data.to_vec(),
        })
    })
}

/// Collects the chunks of one message's tensors. Chunks come tensor by tensor
/// and front to back, so memory grows only with bytes that really arrived.
#[derive(Debug)]
pub struct Assembler {
    headers: Vec<TensorHeader>,
    lengths: Vec<u64>,
    done: Vec<Vec<u8>>,
    current: Vec<u8>,
}

impl Assembler {
    /// Ready to take the chunks of `headers`.
    ///
    /// # Errors
    /// A header is out of limits, or there are too many of them, or they are
    /// too large together.
    pub fn new(headers: Vec<TensorHeader>) -> Result<Self, TensorError> {
        if headers.len() > MAX_TENSORS {
            return Err(TensorError::BadSet(format!(
                "{} tensors, the most is {MAX_TENSORS}",
                headers.len()
            )));
        }
        let lengths = headers
            .iter()
            .map(TensorHeader::byte_len)
            .collect::<Result<Vec<_>, _>>()?;
        // At most `MAX_TENSORS` times `MAX_TENSOR_BYTES`.
        let total: u64 = lengths.iter().sum();
        if total > MAX_TENSOR_BYTES {
            return Err(TensorError::BadSet(format!(
                "{total} bytes together, the most is {MAX_TENSOR_BYTES}"
            )));
        }
        Ok(Self {
            headers,
            lengths,
            done: Vec::new(),
            current: Vec::new(),
        })
    }

    /// Whether every byte has arrived.
    pub fn is_complete(&self) -> bool {
        self.done.len() == self.headers.len()
    }

    /// Takes the next chunk; `Ok(true)` once every byte has arrived.
    ///
    /// # Errors
    /// The chunk is empty, too large, or does not continue where the last one
    /// ended.
    pub fn push(&mut self, index: u32, offset: u64, data: &[u8]) -> Result<bool, TensorError> {
        let bad = |reason: String| TensorError::BadChunk {
            index,
            offset,
            reason,
        };
        if self.is_complete() {
            return Err(bad("every tensor is already complete".into()));
        }
        let expected = (self.done.len() as u32, self.current.len() as u64);
        if (index, offset) != expected {
            return Err(bad(format!(
                "expected tensor {} at byte {}",
                expected.0, expected.1
            )));
        }
        if data.is_empty() || data.len() > MAX_CHUNK_BYTES {
            return Err(bad(format!(
                "{} bytes, a chunk has 1 to {MAX_CHUNK_BYTES}",
                data.len()
            )));
        }
        let length = self.lengths[self.done.len()];
        // The offset is where the bytes so far end, so the sum stays small.
        if offset + data.len() as u64 > length {
            return Err(bad(format!("it runs past the tensor's {length} bytes")));
        }
        if self.current.capacity() - self.current.len() < data.len() {
            // At most twice what has arrived, whatever the header announces.
            let missing = length as usize - self.current.len();
            let more = self.current.len().max(data.len()).min(missing);
            self.current.reserve_exact(more);
        }
        self.current.extend_from_slice(data);
        if self.current.len() as u64 == length {
            self.done.push(std::mem::take(&mut self.current));
        }
        Ok(self.is_complete())
    }

    /// The headers and their bytes.
    ///
    /// # Panics
    /// If [`is_complete`](Self::is_complete) is false.
    pub fn finish(self) -> Vec<(TensorHeader, Vec<u8>)> {
        assert!(self.is_complete(), "tensors are still arriving");
        self.headers.into_iter().zip(self.done).collect()
    }
}
