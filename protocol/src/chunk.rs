//! Chunks: how tensor bytes are split for the wire, and assembled again.

use bincode::{Decode, Encode};

use crate::job::JobId;
use crate::limits::{MAX_CHUNK_BYTES, MAX_TENSORS, MAX_TENSOR_BYTES};
use crate::tensor::{TensorError, TensorHeader};

/// A part of a tensor's bytes. The tensors of a message follow in the order of their headers,
/// each from its first byte to its last.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Chunk {
    /// The job the tensor belongs to.
    pub job: JobId,
    /// Index of the tensor's header in the message, from 0.
    pub tensor: u32,
    /// Offset of `data` in the tensor, in bytes.
    pub offset: u64,
    /// 1 to [`MAX_CHUNK_BYTES`] bytes.
    pub data: Vec<u8>,
}

/// Splits the tensors of a message into the chunks that follow it. `tensors` yields each
/// tensor's bytes in the order of the headers.
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

/// Assembles the tensors of one message from its chunks. Chunks must come in order, tensor by
/// tensor and from front to back, so memory grows with the bytes that have arrived and not
/// with the sizes that the headers announce.
#[derive(Debug)]
pub struct Assembler {
    headers: Vec<TensorHeader>,
    lengths: Vec<u64>,
    done: Vec<Vec<u8>>,
    current: Vec<u8>,
    /// Bytes of the current tensor that have arrived.
    arrived: u64,
    /// Whether the bytes are kept.
    keeps: bool,
}

impl Assembler {
    /// An assembler for the tensors that `headers` announce.
    ///
    /// # Errors
    /// A header exceeds a limit ([`TensorHeader::byte_len`]), there are more than
    /// [`MAX_TENSORS`], or they have more than [`MAX_TENSOR_BYTES`] in total.
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
        // Cannot overflow: at most `MAX_TENSORS` times `MAX_TENSOR_BYTES`.
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
            arrived: 0,
            keeps: true,
        })
    }

    /// As [`new`](Self::new), for bytes that need not be kept: chunks are checked and counted,
    /// and [`finish`](Self::finish) yields empty tensors.
    ///
    /// # Errors
    /// Those of [`new`](Self::new).
    pub fn discarding(headers: Vec<TensorHeader>) -> Result<Self, TensorError> {
        Ok(Self {
            keeps: false,
            ..Self::new(headers)?
        })
    }

    /// Whether every byte has arrived.
    pub fn is_complete(&self) -> bool {
        self.done.len() == self.headers.len()
    }

    /// Appends the next chunk and returns whether every byte has arrived.
    ///
    /// # Errors
    /// The chunk is empty, is larger than [`MAX_CHUNK_BYTES`], does not start where the last
    /// one ended, or runs past the end of its tensor.
    pub fn push(&mut self, index: u32, offset: u64, data: &[u8]) -> Result<bool, TensorError> {
        let bad = |reason: String| TensorError::BadChunk {
            index,
            offset,
            reason,
        };
        if self.is_complete() {
            return Err(bad("every tensor is already complete".into()));
        }
        let expected = (self.done.len() as u32, self.arrived);
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
        // Cannot overflow: the offset equals the number of bytes received so far.
        if offset + data.len() as u64 > length {
            return Err(bad(format!("it runs past the tensor's {length} bytes")));
        }
        if self.keeps {
            if self.current.capacity() - self.current.len() < data.len() {
                // Grow to at most twice what has arrived, whatever size the header announces.
                let missing = length as usize - self.current.len();
                let more = self.current.len().max(data.len()).min(missing);
                self.current.reserve_exact(more);
            }
            self.current.extend_from_slice(data);
        }
        self.arrived += data.len() as u64;
        if self.arrived == length {
            self.arrived = 0;
            self.done.push(std::mem::take(&mut self.current));
        }
        Ok(self.is_complete())
    }

    /// The tensors: each header with its bytes.
    ///
    /// # Panics
    /// If [`is_complete`](Self::is_complete) is false.
    pub fn finish(self) -> Vec<(TensorHeader, Vec<u8>)> {
        assert!(self.is_complete(), "tensors are still arriving");
        self.headers.into_iter().zip(self.done).collect()
    }
}
