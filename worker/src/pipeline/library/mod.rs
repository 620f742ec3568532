//! The adapters in the operator's folders, which jobs name by their path below them.
//!
//! - [`AdapterLibrary`]: finds, describes and checks them
//! - `described`: what one file holds, read once as long as the file does not change
//! - `picture`: the preview of a file

mod described;
mod folders;
mod model;
mod picture;
mod shelf;
#[cfg(test)]
mod tests;
mod uploads;

pub use model::AdaptedCheckpoint;
pub use shelf::AdapterLibrary;
pub use uploads::NewAdapter;
