//! The thread that owns a device: the models on it, and which job's step is next.
//!
//! The thread advances denoise jobs one step at a time. So a cancel takes effect before the
//! next step, short operations run between two steps, and a short denoise job need not wait
//! for a long one. It takes its next job from [`Jobs`](crate::jobs::Jobs) and reports to it;
//! nothing else calls into the thread.
//!
//! - `start`: starting the thread and loading the models on it
//! - `thread`: the thread's loop
//! - `watchdog`: notices a device that hangs
//! - `active`: the denoise jobs under way, and whose step is next
//! - `catalog`: the models by name, loaded or not
//! - `probe`: what a device says of itself
//! - `operations`: a job's operations, with errors and panics as its failure
//! - `backend`: what the thread needs of a model; `pipeline` implements it for the pipeline

mod active;
mod backend;
mod catalog;
mod operations;
mod pipeline;
mod probe;
mod room;
mod start;
mod states;
#[cfg(test)]
mod tests;
mod thread;
mod watchdog;

pub use backend::Backend;
pub use catalog::{Catalog, LoadFailure, Loader, Retention};
pub use probe::Probe;
pub use start::{start, start_with, StartError, ThreadError, DEFAULT_MODEL};
pub use watchdog::watch;
