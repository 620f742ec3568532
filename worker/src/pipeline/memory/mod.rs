//! The plan for a budget of GPU memory: what stays on the GPU, what streams, and what that costs.
//! Pure arithmetic, before anything is loaded.
//!
//! - `requests`: what the jobs of an image take beside the weights
//! - `storage`, `sizes`: a precision, and a model's weights in it
//! - `facts`: all that a plan is computed from
//! - `spread`, `choose`: which weights stay
//! - `plan`: the plan, or why there is none and what there would be one for
//! - `report`: a plan for people and programs

mod choose;
mod facts;
mod plan;
mod report;
mod requests;
mod sizes;
mod spread;
mod storage;

#[cfg(test)]
mod tests;

pub use facts::{Facts, HostFacts};
pub use plan::{plan, Impossible, Plan};
pub use report::{GroupReport, MemoryReport};
pub use requests::Target;
pub use sizes::{Machine, Sizes};
pub use storage::Storage;
