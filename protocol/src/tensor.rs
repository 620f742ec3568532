//! Tensor headers: element types, shapes, and the checks against the limits.

use bincode::{Decode, Encode};

use crate::limits::{MAX_RANK, MAX_TENSOR_BYTES};
use crate::text::shown;

/// Element type of a tensor. Elements are little-endian; the type itself is a `u32` on the
/// wire.
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
    /// Size of one element in bytes.
    pub fn size(self) -> u64 {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
            Self::U8 => 1,
        }
    }
}

/// Announces a tensor. Its bytes follow in chunks: row-major, contiguous, without padding.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct TensorHeader {
    /// The tensor's role in its message, for instance `positive` or `latent`.
    pub name: String,
    /// Element type.
    pub dtype: DType,
    /// Dimensions, outermost first.
    pub shape: Vec<u64>,
}

/// Why a tensor was refused.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum TensorError {
    /// The header exceeds a limit, or a dimension is zero.
    #[error("tensor `{name}` of shape {shape:?} is not acceptable: {reason}")]
    BadHeader {
        /// The tensor's name.
        name: String,
        /// The announced shape.
        shape: Vec<u64>,
        /// What is wrong with it.
        reason: String,
    },
    /// The message announces too many tensors, or too many bytes in total.
    #[error("the message's tensors are not acceptable: {0}")]
    BadSet(String),
    /// The chunk is not the one that comes next.
    #[error("chunk of tensor {index} at byte {offset}: {reason}")]
    BadChunk {
        /// Index of the tensor in its message.
        index: u32,
        /// The chunk's offset in the tensor, in bytes.
        offset: u64,
        /// What is wrong with it.
        reason: String,
    },
}

impl TensorHeader {
    /// A header. The limits are checked by [`byte_len`](Self::byte_len).
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

    /// Size of the tensor in bytes.
    ///
    /// # Errors
    /// The tensor has more than [`MAX_RANK`] dimensions, a dimension of zero, or more than
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
