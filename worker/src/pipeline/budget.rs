//! The memory that jobs may take, the largest job that fits it, and byte counts as people
//! write them.

use candle_core::Device;

use super::ask::Ask;
use super::free_memory::free_host_memory;
use super::types::SIZE_MULTIPLE;
use crate::nn::{available_memory, pool_memory, Operation};

/// The memory that jobs may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Budget {
    /// On a CPU: bytes for tensors and operations together; `None` for no bound.
    OneMemory(Option<u64>),
    /// On a GPU: bytes of host memory for tensors and of device memory for operations; `None`
    /// for no bound.
    TwoMemories {
        /// Host memory.
        host: Option<u64>,
        /// Device memory.
        device: Option<u64>,
    },
}

/// Without `--memory`, one `RESERVED_SHARE`th of the free host memory is left to other programs.
const RESERVED_SHARE: u64 = 16;

/// Fewest bytes of host memory that are left to other programs.
const MIN_RESERVED: u64 = 128 << 20;

/// Bytes of GPU memory kept free for what the estimates leave out: workspaces of libraries and
/// fragmentation.
const GPU_MARGIN: u64 = 256 << 20;

impl Budget {
    /// The budget for jobs on `device` once the model is loaded: `memory` bytes of the host's,
    /// or else what the machine, or the container that the worker runs in, has free.
    pub fn now(device: &Device, memory: Option<u64>) -> Self {
        let host = memory.or_else(host_memory_left);
        match device.is_cpu() {
            true => Self::OneMemory(host),
            false => Self::TwoMemories {
                host,
                device: device_memory_left(device),
            },
        }
    }

    /// The budget beside so many bytes of the device's memory that are taken.
    #[must_use]
    pub fn without(self, bytes: u64) -> Self {
        let rest = |memory: Option<u64>| memory.map(|memory| memory.saturating_sub(bytes));
        match self {
            Self::OneMemory(memory) => Self::OneMemory(rest(memory)),
            Self::TwoMemories { host, device } => Self::TwoMemories {
                host,
                device: rest(device),
            },
        }
    }

    /// An operation that may take the whole budget.
    pub fn operation(self) -> Operation {
        Operation {
            host_memory: match self {
                Self::OneMemory(bytes) => bytes,
                Self::TwoMemories { .. } => None,
            },
            ..Operation::default()
        }
    }
}

/// Bytes of a GPU's memory that jobs may take now; `None` if the driver does not report them. A
/// limit on the process has a margin of its own.
pub fn device_memory_left(device: &Device) -> Option<u64> {
    let limit = pool_memory(device).and_then(|pool| pool.limit);
    let margin = if limit.is_some() { 0 } else { GPU_MARGIN };
    available_memory(device).map(|free| free.saturating_sub(margin))
}

/// Bytes of host memory that jobs may take now.
fn host_memory_left() -> Option<u64> {
    let free = free_host_memory()?;
    Some(free.saturating_sub((free / RESERVED_SHARE).max(MIN_RESERVED)))
}

/// Formats a byte count for people: `512 bytes`, `3.4 MiB`, `12.0 GiB`.
pub fn shown_bytes(bytes: u64) -> String {
    const UNITS: [(&str, u32); 4] = [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)];
    match UNITS.iter().find(|(_, bits)| bytes >= 1 << bits) {
        Some((unit, bits)) => format!("{:.1} {unit}", bytes as f64 / (1u64 << bits) as f64),
        None => format!("{bytes} bytes"),
    }
}

/// A text that is not a byte count above 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is not a number of bytes, such as 12GiB or 800MiB")]
pub struct NotBytes;

/// Parses a byte count: `12GiB`, `12G`, `800 MiB`, `5000000000`. K, M, G and T are powers of
/// 1024, with or without `iB` or `B`.
///
/// # Errors
/// [`NotBytes`] if it is none, or 0.
pub fn parse_bytes(text: &str) -> Result<u64, NotBytes> {
    let text = text.trim();
    let end = text.find(|c: char| !(c.is_ascii_digit() || c == '.'));
    let (number, unit) = text.split_at(end.unwrap_or(text.len()));
    let unit = unit.trim().to_ascii_lowercase();
    let bits = match unit.trim_end_matches('b').trim_end_matches('i') {
        "" => Some(0),
        "k" => Some(10),
        "m" => Some(20),
        "g" => Some(30),
        "t" => Some(40),
        _ => None,
    };
    let bytes = number
        .parse::<f64>()
        .ok()
        .zip(bits)
        .map(|(number, bits)| number * (1u64 << bits) as f64);
    match bytes {
        Some(bytes) if (1.0..9.2e18).contains(&bytes) => Ok(bytes as u64),
        _ => Err(NotBytes),
    }
}

impl Ask<'_> {
    /// Advice that names the largest similar job for which `fits` holds: one with a smaller
    /// batch, or else a single image of a smaller size.
    pub fn largest_that(&self, fits: impl Fn(Ask) -> bool) -> Option<String> {
        let batch = match *self {
            Ask::Encode { prompts, .. } => prompts.len(),
            Ask::Denoise { latent, .. } | Ask::Decode { latent } => latent[0],
            Ask::VaeEncode { image } => image[0],
        };
        if let Some(batch) = largest(batch, |batch| fits(self.with_batch(batch))) {
            return Some(match *self {
                Ask::Encode { .. } => format!("{batch} of these prompts in one job would fit."),
                _ => format!("A batch of {batch} at this size would fit."),
            });
        }
        let (height, width) = self.pixels()?;
        // Try every size whose shorter side is a multiple of SIZE_MULTIPLE.
        let parts = height.min(width) / SIZE_MULTIPLE;
        let part = largest(parts, |part| fits(self.with_batch(1).scaled(part, parts)))?;
        let (height, width) = self.with_batch(1).scaled(part, parts).pixels()?;
        Some(format!("One image of {width} x {height} pixels would fit."))
    }

    /// The job as the subject of a sentence.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Encode { .. } => "encoding these prompts",
            Self::Denoise { .. } => "denoising images of this size and batch",
            Self::Decode { .. } => "decoding images of this size and batch",
            Self::VaeEncode { .. } => "encoding images of this size and batch",
        }
    }

    /// The same job with a smaller batch.
    fn with_batch(self, batch: usize) -> Self {
        match self {
            Self::Encode {
                prompts,
                max_sequence_length,
                adapters,
            } => Self::Encode {
                prompts: &prompts[..batch],
                max_sequence_length,
                adapters,
            },
            Self::Denoise {
                request,
                latent: [_, c, h, w],
                text,
            } => Self::Denoise {
                request,
                latent: [batch, c, h, w],
                text,
            },
            Self::Decode {
                latent: [_, c, h, w],
            } => Self::Decode {
                latent: [batch, c, h, w],
            },
            Self::VaeEncode { image: [_, h, w] } => Self::VaeEncode {
                image: [batch, h, w],
            },
        }
    }

    /// Height and width of the job's images; `None` for an encode.
    fn pixels(self) -> Option<(usize, usize)> {
        match self {
            Self::Encode { .. } => None,
            Self::Denoise {
                latent: [_, _, h, w],
                ..
            }
            | Self::Decode {
                latent: [_, _, h, w],
            } => Some((8 * h, 8 * w)),
            Self::VaeEncode { image: [_, h, w] } => Some((h, w)),
        }
    }

    /// The job with its height and width multiplied by `part / of`, in multiples of
    /// [`SIZE_MULTIPLE`] pixels.
    fn scaled(self, part: usize, of: usize) -> Self {
        let pixels = |side: usize| {
            let multiples = side * part / of / SIZE_MULTIPLE;
            (multiples * SIZE_MULTIPLE).max(SIZE_MULTIPLE)
        };
        match self {
            Self::Encode { .. } => self,
            Self::Denoise {
                request,
                latent: [b, c, h, w],
                text,
            } => Self::Denoise {
                request,
                latent: [b, c, pixels(8 * h) / 8, pixels(8 * w) / 8],
                text,
            },
            Self::Decode {
                latent: [b, c, h, w],
            } => Self::Decode {
                latent: [b, c, pixels(8 * h) / 8, pixels(8 * w) / 8],
            },
            Self::VaeEncode { image: [b, h, w] } => Self::VaeEncode {
                image: [b, pixels(h), pixels(w)],
            },
        }
    }
}

/// The largest number from 1 to below `end` for which `fits` holds, by bisection: if it holds
/// for a number, it must hold for all smaller ones.
fn largest(end: usize, fits: impl Fn(usize) -> bool) -> Option<usize> {
    let (mut low, mut high) = (0, end);
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        match fits(middle) {
            true => low = middle,
            false => high = middle,
        }
    }
    (low > 0).then_some(low)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_counts_on_the_device_alone() {
        assert_eq!(
            Budget::OneMemory(Some(10)).without(12),
            Budget::OneMemory(Some(0))
        );
        let both = |device| Budget::TwoMemories {
            host: Some(10),
            device,
        };
        assert_eq!(both(Some(10)).without(4), both(Some(6)));
        assert_eq!(both(None).without(4), both(None));
    }

    #[test]
    fn bytes_are_written_and_read() {
        assert_eq!(shown_bytes(17), "17 bytes");
        assert_eq!(shown_bytes(3 << 29), "1.5 GiB");
        for (text, bytes) in [
            ("12GiB", 12 << 30),
            ("12g", 12 << 30),
            ("1.5 GB", 3 << 29),
            ("800M", 800 << 20),
            ("4096", 4096),
            (" 1T ", 1 << 40),
        ] {
            assert_eq!(parse_bytes(text), Ok(bytes), "{text}");
        }
        for text in [
            "", "G", "0", "-1G", "1X", "nan", "inf", "1e9", "12 GiB x", "１G",
        ] {
            assert!(parse_bytes(text).is_err(), "{text}");
        }
    }

    #[test]
    fn advice_names_the_largest_that_fits() {
        let decode = Ask::Decode {
            latent: [9, 16, 128, 64],
        };
        let advice = decode.largest_that(|ask| match ask {
            Ask::Decode { latent } => latent.iter().product::<usize>() <= 4 * 16 * 128 * 64,
            _ => false,
        });
        assert_eq!(advice.unwrap(), "A batch of 4 at this size would fit.");
        let advice = decode.largest_that(|ask| match ask {
            Ask::Decode { latent } => latent.iter().product::<usize>() <= 16 * 64 * 40,
            _ => false,
        });
        assert_eq!(advice.unwrap(), "One image of 272 x 544 pixels would fit.");
        assert_eq!(decode.largest_that(|_| false), None);
    }
}
