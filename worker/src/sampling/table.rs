//! The sigmas of a flow-matching model, from 1 (noise) to 0 (image).

/// Number of positions of the table with a constant shift.
///
/// Source: ComfyUI `model_sampling.py` `ModelSamplingDiscreteFlow`.
const CONSTANT_POSITIONS: usize = 1000;

/// Number of positions of the table whose shift depends on the image's size.
///
/// Source: ComfyUI `model_sampling.py` `ModelSamplingFlux`.
const BY_SIZE_POSITIONS: usize = 10_000;

/// Where a schedule starts at pure noise, the stochastic DPM++ solvers start this far into it
/// instead, because the signal-to-noise ratio of pure noise is 0 and has no logarithm.
///
/// Source: ComfyUI `k_diffusion/sampling.py` `offset_first_sigma_for_snr`.
const FIRST_PROGRESS: f64 = 1e-4;

/// The model's own shift `exp(mu)`, where mu is linear in the number of image tokens: 0.5 at
/// 256 tokens, 1.15 at 4096.
///
/// Source: diffusers `pipeline_ovis_image.py` `calculate_shift`; ComfyUI's node
/// ModelSamplingFlux has the same numbers.
pub fn flow_shift(image_tokens: usize) -> f64 {
    let slope = (1.15 - 0.5) / (4096.0 - 256.0);
    (0.5 + slope * (image_tokens as f64 - 256.0)).exp()
}

/// Evenly spaced times in 0..1, moved towards noise by a shift: ComfyUI's `model_sampling` of a
/// rectified flow.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FlowTable {
    shift: f64,
    positions: usize,
}

impl FlowTable {
    /// The table with a constant shift, as the nodes ModelSamplingAuraFlow and
    /// ModelSamplingSD3 set it.
    pub fn constant(shift: f64) -> Self {
        Self {
            shift,
            positions: CONSTANT_POSITIONS,
        }
    }

    /// The table with the shift for an image of `image_tokens` tokens, as the node ModelSamplingFlux
    /// sets it.
    pub fn by_size(image_tokens: usize) -> Self {
        Self {
            shift: flow_shift(image_tokens),
            positions: BY_SIZE_POSITIONS,
        }
    }

    /// The sigma of a time in 0..1.
    pub fn sigma(&self, time: f64) -> f32 {
        (self.shift * time / (1.0 + (self.shift - 1.0) * time)) as f32
    }

    /// The number of sigmas in the table.
    pub fn positions(&self) -> usize {
        self.positions
    }

    /// The sigma at a position; position 0 is the lowest.
    pub fn at(&self, position: usize) -> f32 {
        self.sigma((position + 1) as f64 / self.positions as f64)
    }

    /// The lowest sigma above 0.
    pub fn lowest(&self) -> f32 {
        self.at(0)
    }

    /// The highest sigma: 1.
    pub fn highest(&self) -> f32 {
        self.at(self.positions - 1)
    }

    /// The sigma that replaces a first sigma of 1 for solvers that need the logarithm of the
    /// signal-to-noise ratio.
    pub fn first_with_signal(&self) -> f32 {
        self.sigma(1.0 - FIRST_PROGRESS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shift_follows_the_image_tokens() {
        assert!((flow_shift(256) - 0.5f64.exp()).abs() < 1e-12);
        assert!((flow_shift(4096) - 1.15f64.exp()).abs() < 1e-12);
    }

    #[test]
    fn a_shift_moves_the_middle_and_keeps_the_ends() {
        let table = FlowTable::constant(3.0);
        assert_eq!(
            (table.sigma(0.0), table.sigma(0.5), table.highest()),
            (0.0, 0.75, 1.0)
        );
        assert_eq!(table.lowest(), table.sigma(1.0 / 1000.0));
        assert_eq!(table.at(499), 0.75);
        let first = table.first_with_signal();
        assert!(first < 1.0 && first > table.at(998));
    }
}
