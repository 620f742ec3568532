//! Sigma schedules, solvers, and noise identical to PyTorch's.

mod euler;
mod noise;
mod schedule;

pub use euler::{euler_step, SAMPLERS};
pub use noise::{batch_noise, TorchGenerator};
pub use schedule::{flow_shift, sigmas, Shift};
