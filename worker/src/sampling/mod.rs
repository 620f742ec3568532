//! Sigma schedules, solvers, and noise identical to PyTorch's.
//!
//! All formulas follow ComfyUI 0.18.1 for a rectified flow (`CONST`). ComfyUI
//! 0.3.64 has the same ones, except that the seed of `euler_ancestral`'s noise
//! on a CPU is one lower there.
//!
//! - [`FlowTable`]: the sigmas of a flow model, moved by a shift
//! - [`Scheduler`], [`sigmas`], [`Window`]: the sigmas that a job goes through
//! - [`Sampler`]: a solver with its options; each family of solvers has a file
//! - [`Run`]: a job from noise to latents, one step at a time
//! - [`batch_noise`]: the initial noise; `step_noise.rs` has the noise that
//!   stochastic solvers add during their steps
//! - [`Snapshot`]: the state of a run between two steps, as bytes

mod arithmetic;
mod beta;
mod dpmpp_2m;
mod dpmpp_sde;
mod euler;
mod heun;
mod last_estimate;
mod lms;
mod noise;
mod res_multistep;
mod run;
mod sampler;
mod schedule;
mod scheduler;
mod snapshot;
mod solver;
mod step_noise;
mod table;
mod two_step;
mod uni_pc;

#[cfg(test)]
mod golden;
#[cfg(test)]
mod resumed;

pub use dpmpp_2m::Correction;
pub use noise::batch_noise;
pub use run::{Run, Start};
pub use sampler::{Refusal, Sampler, SAMPLERS};
pub use schedule::{sigmas, whole_steps, Window};
pub use scheduler::Scheduler;
pub use snapshot::{Snapshot, SnapshotError};
pub use solver::Denoiser;
pub use table::FlowTable;
pub use uni_pc::Variant;
