//! What an autoencoder's steps make of an image's size, and the memory they take: known
//! without their weights, so that a job can be judged before it runs.

use candle_core::Device;

use crate::nn::{MAX_SCORES, MAX_SCORES_ON_CPU, MAX_UNFOLDED};

/// An image between two steps: channels, rows and columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Channels.
    pub channels: usize,
    /// Rows.
    pub rows: usize,
    /// Columns.
    pub columns: usize,
}

impl Size {
    /// How many values it has.
    pub fn values(self) -> usize {
        let pixels = self.rows.saturating_mul(self.columns);
        self.channels.saturating_mul(pixels)
    }
}

/// What a kind of device holds for an operation beside its inputs and its result.
#[derive(Clone, Copy, Debug)]
pub struct Scratch {
    /// Most attention scores, and how many copies of them there are.
    scores: (usize, usize),
    /// Most values of a convolution's unfolded input.
    unfolded: usize,
    /// Copies of a convolution's or norm's input and result that are made on the way.
    copies: usize,
}

impl Scratch {
    /// Of a device.
    pub fn of(device: &Device) -> Self {
        match device.is_cpu() {
            // The plain expressions: a padded input beside the input, a result beside its bands.
            true => Self {
                scores: (MAX_SCORES_ON_CPU, 3),
                unfolded: MAX_UNFOLDED,
                copies: 1,
            },
            false => Self {
                scores: (MAX_SCORES, 1),
                unfolded: 0,
                copies: 0,
            },
        }
    }
}

/// The shape of a step: all that decides sizes and memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepShape {
    /// A convolution.
    Conv {
        /// Channels of its output.
        outputs: usize,
        /// Rows and columns of its kernel.
        kernel: usize,
        /// Rows and columns of its input for one of its output.
        stride: usize,
        /// Rows and columns of zeros around its input, on both sides together.
        padding: usize,
    },
    /// Twice the height and width.
    Double,
    /// A residual block.
    Residual {
        /// Channels of its output.
        outputs: usize,
        /// Whether its shortcut is a tensor of its own.
        has_shortcut: bool,
    },
    /// An attention over the whole image.
    Attention,
    /// A group norm and SiLU.
    Norm,
}

/// The image that steps make of one of this size.
pub fn output(steps: &[StepShape], size: Size) -> Size {
    steps.iter().fold(size, |size, step| step.output(size))
}

/// The most values that live at a time while steps run on an image of this size.
pub fn most_values(steps: &[StepShape], size: Size, scratch: Scratch) -> usize {
    let mut size = size;
    let mut most = 0;
    for step in steps {
        most = most.max(step.most_values(size, scratch));
        size = step.output(size);
    }
    most
}

impl StepShape {
    /// How many group norms it has.
    pub fn norms(self) -> usize {
        match self {
            Self::Residual { .. } => 2,
            Self::Norm => 1,
            Self::Conv { .. } | Self::Double | Self::Attention => 0,
        }
    }

    /// Rows and columns of its input for one of its output, where that is more than one.
    pub fn stride(self) -> usize {
        match self {
            Self::Conv { stride, .. } => stride,
            _ => 1,
        }
    }

    /// The image that it makes of one of this size.
    pub fn output(self, size: Size) -> Size {
        match self {
            Self::Conv {
                outputs,
                kernel,
                stride,
                padding,
            } => {
                let length = |of: usize| (of + padding).saturating_sub(kernel) / stride + 1;
                Size {
                    channels: outputs,
                    rows: length(size.rows),
                    columns: length(size.columns),
                }
            }
            Self::Double => Size {
                rows: 2 * size.rows,
                columns: 2 * size.columns,
                ..size
            },
            Self::Residual { outputs, .. } => Size {
                channels: outputs,
                ..size
            },
            Self::Attention | Self::Norm => size,
        }
    }

    /// The most values that live at a time while it runs on an image of this size.
    pub fn most_values(self, size: Size, scratch: Scratch) -> usize {
        let (before, after) = (size.values(), self.output(size).values());
        let sum = |parts: &[usize]| {
            parts
                .iter()
                .fold(0usize, |sum, &part| sum.saturating_add(part))
        };
        let copies = |of: usize| scratch.copies.saturating_mul(of);
        let unfolded = |kernel: usize, after: Size| {
            let seen = size.channels.saturating_mul(kernel * kernel);
            let pixels = after.rows.saturating_mul(after.columns);
            seen.saturating_mul(pixels).min(scratch.unfolded)
        };
        match self {
            Self::Conv { kernel, .. } => {
                let unfolded = unfolded(kernel, self.output(size));
                sum(&[before, after, copies(before), copies(after), unfolded])
            }
            Self::Double => before.saturating_add(after),
            Self::Norm => sum(&[before, after, copies(before), copies(before)]),
            Self::Residual { has_shortcut, .. } => {
                // The shortcut is the input itself, or another beside it.
                let (shortcut, other) = match has_shortcut {
                    true => (after, after),
                    false => (before, 0),
                };
                let wider = before.max(after);
                let unfolded = unfolded(3, self.output(size));
                // The input and its norm; then the shortcut, a norm's output and a
                // convolution's.
                let norm = sum(&[before, other, before, copies(before), copies(before)]);
                let conv = sum(&[shortcut, wider, after, copies(wider), copies(after)]);
                norm.max(conv.saturating_add(unfolded))
            }
            // Its norm, queries, keys, values and result, and scores.
            Self::Attention => {
                let places = size.rows.saturating_mul(size.columns);
                let (most, times) = scratch.scores;
                let scores = places.saturating_mul(places).min(most);
                sum(&[before.saturating_mul(6), copies(3 * before), scores * times])
            }
        }
    }

    /// How many rows of its output an edge spoils that is none of the image's, where so many
    /// of its input's are spoilt.
    pub fn spoilt(self, rows: usize) -> usize {
        match self {
            Self::Conv { kernel, stride, .. } => (rows + kernel / 2).div_ceil(stride),
            Self::Double => 2 * rows,
            Self::Residual { .. } => rows + 2,
            Self::Attention | Self::Norm => rows,
        }
    }
}
