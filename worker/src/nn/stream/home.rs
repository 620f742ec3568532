//! Where the bytes of a page are while it is not resident.

use std::fmt::Debug;
use std::sync::Arc;

use candle_core::{bail, Result};

/// Bytes on the host.
pub trait HostBytes: Send + Sync + Debug {
    /// Number of bytes.
    fn len(&self) -> usize;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Copies the bytes from `from` on into `into`.
    ///
    /// # Errors
    /// There are too few, or they cannot be read.
    fn read(&self, from: usize, into: &mut [u8]) -> Result<()>;
}

/// Host memory that a device can copy from without the CPU.
pub trait PinnedBytes: Send + Sync + Debug {
    /// The bytes.
    fn bytes(&self) -> &[u8];

    /// The bytes, to write. No copy from them may be under way.
    fn bytes_mut(&mut self) -> &mut [u8];
}

/// The bytes of a page on the host.
#[derive(Debug)]
pub enum Home {
    /// In memory that the device reads by itself.
    Pinned(Box<dyn PinnedBytes>),
    /// In other memory.
    Pageable(Arc<Vec<u8>>),
    /// Where the weights were loaded from: the bytes of each part.
    Origin(Vec<Arc<dyn HostBytes>>),
}

impl Home {
    /// Copies the bytes from `from` on of the part with number `part`, which begins at byte `at` of
    /// the page, into `into`.
    ///
    /// # Errors
    /// The file cannot be read, or is too short.
    pub fn read(&self, part: usize, at: usize, from: usize, into: &mut [u8]) -> Result<()> {
        let memory = match self {
            Self::Pinned(memory) => memory.bytes(),
            Self::Pageable(memory) => memory,
            Self::Origin(parts) => match parts.get(part) {
                Some(bytes) => return bytes.read(from, into),
                None => bail!("a page has no part {part}"),
            },
        };
        let start = at + from;
        match memory.get(start..start + into.len()) {
            Some(bytes) => {
                into.copy_from_slice(bytes);
                Ok(())
            }
            None => bail!(
                "a page has {} bytes, not {}",
                memory.len(),
                start + into.len()
            ),
        }
    }
}
