//! Has the system map weight files ahead of their reader.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;

use super::file::SafetensorsFile;

/// Bytes that a thread asks for at once.
const PIECE: usize = 64 << 20;

/// Threads that ask. One fault a page costs a single reader more time than a copy to a GPU;
/// from a disk, several requests at once are faster too.
const THREADS: usize = 4;

/// Starts to bring files into memory, first things first, and returns at once. It is only a
/// hint: where a system does not take it, pages come when they are read.
pub(super) fn read_ahead(files: &[Arc<SafetensorsFile>]) {
    let pieces: Vec<_> = files
        .iter()
        .flat_map(|file| (0..file.len()).step_by(PIECE).map(|at| (file.clone(), at)))
        .collect();
    let pieces = Arc::new((pieces, AtomicUsize::new(0)));
    for _ in 0..THREADS.min(pieces.0.len()) {
        let pieces = pieces.clone();
        let work = move || {
            let (list, next) = &*pieces;
            while let Some((file, at)) = list.get(next.fetch_add(1, Ordering::Relaxed)) {
                if let Err(reason) = file.populate(*at, PIECE) {
                    tracing::debug!(%reason, "weights are not read ahead");
                    return;
                }
            }
        };
        let started = std::thread::Builder::new()
            .name("read ahead".into())
            .spawn(work);
        if let Err(reason) = started {
            tracing::debug!(%reason, "weights are not read ahead");
        }
    }
}
