//! Sigma schedules, solvers, and noise identical to PyTorch's.
//!
//! The numbers are those of ComfyUI 0.18.1 for a rectified flow (`CONST`); its
//! 0.3.64 has the same but for the seed of `euler_ancestral`'s noise on a CPU,
//! which is one lower there.
//!
//! - [`FlowTable`]: the sigmas a model knows, bent by a shift
//! - [`Scheduler`], [`sigmas`], [`Window`]: which of them a job runs through
//! - [`Sampler`]: a solver with its options; one family a file
//! - [`Run`]: a job from noise to latents, one step at a time
//! - [`batch_noise`], [`StepNoise`]: the noise at the beginning and on the way

mod beta;
mod dpmpp_2m;
mod dpmpp_sde;
mod euler;
mod heun;
mod lms;
mod noise;
mod res_multistep;
mod run;
mod sampler;
mod schedule;
mod scheduler;
mod solver;
mod step_noise;
mod table;
mod uni_pc;

#[cfg(test)]
mod golden;

pub use dpmpp_2m::Correction;
pub use noise::{batch_noise, TorchGenerator};
pub use run::{Run, Start};
pub use sampler::{NoiseKind, Refusal, Sampler, SAMPLERS};
pub use schedule::{sigmas, whole_steps, Window};
pub use scheduler::Scheduler;
pub use solver::{Denoiser, Solver, Stepped};
pub use step_noise::{BrownianNoise, SeededNoise, StepNoise};
pub use table::FlowTable;
pub use uni_pc::Variant;
