//! Jobs and the one thread that runs them.

mod backend;

pub use backend::Backend;
