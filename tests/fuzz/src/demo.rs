//! The demo model, which the repository holds.

use std::path::PathBuf;

use ovis_worker::checkpoint::{Checkpoint, CheckpointArgs};

/// Its folder.
pub fn folder() -> PathBuf {
    PathBuf::from(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../worker/demo/model"
    ))
}

/// The model, opened.
pub fn checkpoint() -> Checkpoint {
    let args = CheckpointArgs {
        model: Some(folder()),
        ..CheckpointArgs::default()
    };
    Checkpoint::open(&args).expect("the demo model opens")
}
