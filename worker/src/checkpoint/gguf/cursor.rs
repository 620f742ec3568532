//! Reads a GGUF header's numbers and strings, in little-endian order.

/// Why a header cannot be read, as the end of a sentence.
pub(super) type Reason = String;

/// Longest name or key in bytes, the limit of the format's keys.
const MAX_NAME: u64 = (1 << 16) - 1;

/// Position in a header. Nothing is copied, so that a length in the file allocates nothing.
pub(super) struct Cursor<'a> {
    file: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    /// At the start of a file's bytes.
    pub fn new(file: &'a [u8]) -> Self {
        Self { file, at: 0 }
    }

    /// Bytes from the file's start.
    pub fn at(&self) -> usize {
        self.at
    }

    /// Bytes that are left.
    pub fn left(&self) -> usize {
        self.file.len() - self.at
    }

    /// The next bytes.
    ///
    /// # Errors
    /// The file has fewer.
    pub fn take(&mut self, count: u64) -> Result<&'a [u8], Reason> {
        let end = usize::try_from(count)
            .ok()
            .and_then(|count| self.at.checked_add(count))
            .filter(|end| *end <= self.file.len())
            .ok_or_else(|| {
                format!(
                    "it asks for {count} bytes at byte {}, and the file has {}",
                    self.at,
                    self.file.len()
                )
            })?;
        let bytes = &self.file[self.at..end];
        self.at = end;
        Ok(bytes)
    }

    /// The next `N` bytes.
    ///
    /// # Errors
    /// As [`take`](Self::take).
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], Reason> {
        let bytes = self.take(N as u64)?;
        let mut array = [0; N];
        array.copy_from_slice(bytes);
        Ok(array)
    }

    /// A number of 4 bytes.
    ///
    /// # Errors
    /// As [`take`](Self::take).
    pub fn u32(&mut self) -> Result<u32, Reason> {
        self.array().map(u32::from_le_bytes)
    }

    /// A number of 8 bytes.
    ///
    /// # Errors
    /// As [`take`](Self::take).
    pub fn u64(&mut self) -> Result<u64, Reason> {
        self.array().map(u64::from_le_bytes)
    }

    /// A number of things that take at least `least` bytes each.
    ///
    /// # Errors
    /// The rest of the file has no room for so many.
    pub fn count(&mut self, what: &str, least: usize) -> Result<u64, Reason> {
        let count = self.u64()?;
        match count <= (self.left() / least) as u64 {
            true => Ok(count),
            false => Err(format!(
                "it claims {count} {what}, more than the file has room for"
            )),
        }
    }

    /// A string's bytes.
    ///
    /// # Errors
    /// As [`take`](Self::take).
    pub fn string(&mut self) -> Result<&'a [u8], Reason> {
        let length = self.u64()?;
        self.take(length)
    }

    /// A name of UTF-8 text.
    ///
    /// # Errors
    /// It is longer than any name, not UTF-8, or cut off.
    pub fn name(&mut self, of_what: &str) -> Result<&'a str, Reason> {
        let at = self.at;
        let length = self.u64()?;
        if length > MAX_NAME {
            return Err(format!(
                "the name of a {of_what} at byte {at} has {length} bytes, more than {MAX_NAME}"
            ));
        }
        std::str::from_utf8(self.take(length)?)
            .map_err(|_| format!("the name of a {of_what} at byte {at} is not UTF-8 text"))
    }
}
