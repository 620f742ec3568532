//! The sigmas a flow-matching model knows: 1 is noise, 0 is the image.

/// Positions of the table behind a constant shift.
///
/// Source: ComfyUI `model_sampling.py` `ModelSamplingDiscreteFlow`.
const CONSTANT_POSITIONS: usize = 1000;

/// Positions of the table behind the shift that follows from the size.
///
/// Source: ComfyUI `model_sampling.py` `ModelSamplingFlux`.
const BY_SIZE_POSITIONS: usize = 10_000;

/// How far into the schedule the stochastic solvers of the DPM++ family start
/// where it starts at pure noise, whose signal to noise ratio has no logarithm.
///
/// Source: ComfyUI `k_diffusion/sampling.py` `offset_first_sigma_for_snr`.
const FIRST_PROGRESS: f64 = 1e-4;

/// The automatic shift for this many image tokens: mu runs from 0.5 at 256
/// tokens to 1.15 at 4096.
///
/// Source: diffusers `pipeline_ovis_image.py` `calculate_shift`; ComfyUI's node
/// ModelSamplingFlux has the same numbers.
pub fn flow_shift(image_tokens: usize) -> f64 {
    let slope = (1.15 - 0.5) / (4096.0 - 256.0);
    (0.5 + slope * (image_tokens as f64 - 256.0)).exp()
}

/// Evenly spaced times in 0..1, bent towards noise by a shift: ComfyUI's
/// `model_sampling` of a rectified flow.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FlowTable {
    shift: f64,
    positions: usize,
}

impl FlowTable {
    /// Bent by a constant, as the nodes ModelSamplingAuraFlow and
    /// ModelSamplingSD3 do it.
    pub fn constant(shift: f64) -> Self {
        Self {
            shift,
            positions: CONSTANT_POSITIONS,
        }
    }

    /// Bent by the size of the image, as the node ModelSamplingFlux does it.
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

    /// How many sigmas the table has.
    pub fn positions(&self) -> usize {
        self.positions
    }

    /// The sigma at a position, from the lowest (0) to the highest.
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

    /// The sigma with which a solver that needs the logarithm of the signal to
    /// noise ratio replaces a first sigma of 1.
    pub fn first_with_signal(&self) -> f32 {
        self.sigma(1.0 - FIRST_PROGRESS)
    }
}
