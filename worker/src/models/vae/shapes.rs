//! The sizes of an autoencoder's intermediate images and the memory of its steps, computed
//! without weights, so that a job's cost is known before it runs.

use candle_core::Device;

use crate::nn::{MAX_SCORES, MAX_SCORES_ON_CPU, MAX_UNFOLDED};

/// The size of an image between two steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Number of channels.
    pub channels: usize,
    /// Number of rows.
    pub rows: usize,
    /// Number of columns.
    pub columns: usize,
}

impl Size {
    /// The number of values.
    pub fn values(self) -> usize {
        let pixels = self.rows.saturating_mul(self.columns);
        self.channels.saturating_mul(pixels)
    }
}

/// The scratch memory of a device's operations, beside their inputs and results.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scratch {
    /// Most attention scores held at a time, and the number of their copies.
    scores: (usize, usize),
    /// Most values of a convolution's unfolded input.
    unfolded: usize,
    /// Number of copies that a convolution or a norm makes of its input and of its result.
    copies: usize,
}

impl Scratch {
    /// The scratch memory of a device.
    pub fn of(device: &Device) -> Self {
        match device.is_cpu() {
            // The plain expressions hold a padded copy beside the input, and the result beside
            // the parts it is concatenated from.
            true => Self {
                scores: (MAX_SCORES_ON_CPU, 3),
                unfolded: MAX_UNFOLDED,
                copies: 1,
            },
            false => Self::of_gpu(),
        }
    }

    /// The scratch memory of a GPU.
    pub fn of_gpu() -> Self {
        Self {
            scores: (MAX_SCORES, 1),
            unfolded: 0,
            copies: 0,
        }
    }
}

/// The shape of a step, which decides the sizes and the memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepShape {
    /// A convolution.
    Conv {
        /// Number of channels of the output.
        outputs: usize,
        /// Rows, and columns, of the kernel.
        kernel: usize,
        /// Rows, and columns, of the input for one of the output.
        stride: usize,
        /// Rows, and columns, of zeros around the input, the sum of both sides.
        padding: usize,
    },
    /// Nearest-neighbour upsampling to twice the height and width.
    Upsample,
    /// A residual block.
    Residual {
        /// Number of channels of the output.
        outputs: usize,
        /// Whether the shortcut is a convolution, and so a tensor beside the input.
        has_shortcut: bool,
    },
    /// Self-attention over the whole image.
    Attention,
    /// A group norm and SiLU.
    Norm,
}

/// The size after steps from an image of a size.
pub fn output(steps: &[StepShape], size: Size) -> Size {
    steps.iter().fold(size, |size, step| step.output(size))
}

/// The most values alive at a time while steps run on an image of a size.
pub fn peak_values(steps: &[StepShape], size: Size, scratch: Scratch) -> usize {
    let mut size = size;
    let mut peak = 0;
    for step in steps {
        peak = peak.max(step.peak_values(size, scratch));
        size = step.output(size);
    }
    peak
}

impl StepShape {
    /// Number of channels of the output for an input of `channels`.
    pub fn outputs(self, channels: usize) -> usize {
        match self {
            Self::Conv { outputs, .. } | Self::Residual { outputs, .. } => outputs,
            Self::Upsample | Self::Attention | Self::Norm => channels,
        }
    }

    /// Number of parameters of the step for an input of `channels`.
    pub fn parameters(self, channels: usize) -> usize {
        let conv =
            |inputs: usize, outputs: usize, kernel: usize| (inputs * kernel * kernel + 1) * outputs;
        match self {
            Self::Conv {
                outputs, kernel, ..
            } => conv(channels, outputs, kernel),
            Self::Upsample => 0,
            Self::Residual {
                outputs,
                has_shortcut,
            } => {
                let shortcut = usize::from(has_shortcut) * conv(channels, outputs, 1);
                let norms = 2 * (channels + outputs);
                norms + conv(channels, outputs, 3) + conv(outputs, outputs, 3) + shortcut
            }
            Self::Attention => 2 * channels + 4 * conv(channels, channels, 1),
            Self::Norm => 2 * channels,
        }
    }

    /// The number of group norms in the step.
    pub fn norms(self) -> usize {
        match self {
            Self::Residual { .. } => 2,
            Self::Norm => 1,
            Self::Conv { .. } | Self::Upsample | Self::Attention => 0,
        }
    }

    /// Rows of the input for one row of the output; 1 for an upsampling too.
    pub fn stride(self) -> usize {
        match self {
            Self::Conv { stride, .. } => stride,
            _ => 1,
        }
    }

    /// The size after the step from an image of a size.
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
            Self::Upsample => Size {
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

    /// The most values alive at a time while the step runs on an image of a size.
    pub fn peak_values(self, size: Size, scratch: Scratch) -> usize {
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
            Self::Upsample => before.saturating_add(after),
            Self::Norm => sum(&[before, after, copies(before), copies(before)]),
            Self::Residual { has_shortcut, .. } => {
                // The shortcut is the input itself, or a tensor beside it.
                let (shortcut, other) = match has_shortcut {
                    true => (after, after),
                    false => (before, 0),
                };
                let wider = before.max(after);
                let unfolded = unfolded(3, self.output(size));
                // First the input and its norm are alive; then the shortcut, a norm's output and a
                // convolution's.
                let norm = sum(&[before, other, before, copies(before), copies(before)]);
                let conv = sum(&[shortcut, wider, after, copies(wider), copies(after)]);
                norm.max(conv.saturating_add(unfolded))
            }
            // The input, its norm, queries, keys, values and the result, and the scores.
            Self::Attention => {
                let places = size.rows.saturating_mul(size.columns);
                let (most, times) = scratch.scores;
                let scores = places.saturating_mul(places).min(most);
                sum(&[before.saturating_mul(6), copies(3 * before), scores * times])
            }
        }
    }

    /// Output rows contaminated by a band's edge when `rows` input rows are. A row is contaminated
    /// if its values differ from those of a run on the whole image.
    pub fn contaminated_rows(self, rows: usize) -> usize {
        match self {
            Self::Conv { kernel, stride, .. } => (rows + kernel / 2).div_ceil(stride),
            Self::Upsample => 2 * rows,
            Self::Residual { .. } => rows + 2,
            Self::Attention | Self::Norm => rows,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: Size = Size {
        channels: 4,
        rows: 16,
        columns: 8,
    };

    fn conv(kernel: usize, stride: usize, padding: usize) -> StepShape {
        StepShape::Conv {
            outputs: 6,
            kernel,
            stride,
            padding,
        }
    }

    #[test]
    fn sizes_follow_the_steps() {
        let size = |rows, columns, channels| Size {
            channels,
            rows,
            columns,
        };
        assert_eq!(conv(3, 1, 2).output(SIZE), size(16, 8, 6));
        assert_eq!(conv(3, 2, 1).output(SIZE), size(8, 4, 6));
        assert_eq!(StepShape::Upsample.output(SIZE), size(32, 16, 4));
        assert_eq!(StepShape::Attention.output(SIZE), SIZE);
        let steps = [conv(3, 2, 1), StepShape::Norm, StepShape::Upsample];
        assert_eq!(output(&steps, SIZE), size(16, 8, 6));
    }

    #[test]
    fn the_peak_is_that_of_the_largest_step() {
        let no_scratch = Scratch {
            scores: (0, 1),
            unfolded: 0,
            copies: 0,
        };
        let (small, large) = (4 * 16 * 8, 4 * 32 * 16);
        assert_eq!(peak_values(&[StepShape::Norm], SIZE, no_scratch), 2 * small);
        let steps = [StepShape::Norm, StepShape::Upsample, StepShape::Norm];
        assert_eq!(peak_values(&steps, SIZE, no_scratch), 2 * large);
        let on_cpu = Scratch::of(&Device::Cpu);
        assert!(peak_values(&steps, SIZE, on_cpu) > 2 * large);
        let huge = Size {
            rows: usize::MAX,
            ..SIZE
        };
        assert_eq!(StepShape::Norm.peak_values(huge, on_cpu), usize::MAX);
    }
}
