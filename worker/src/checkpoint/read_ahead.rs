//! Reads weight files into memory ahead of the thread that loads them.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;

use super::mapped::MappedFile;

/// Bytes that a thread populates per system call.
const PIECE: usize = 64 << 20;

/// Number of threads. A page fault per page costs a single reader more time than the copy to
/// a GPU does, and a disk serves several requests at once faster.
const THREADS: usize = 4;

/// Starts to populate the pages of files, in their order, and returns at once. This is only a
/// hint: without it, pages are read on first access.
pub(super) fn read_ahead(files: &[Arc<MappedFile>]) {
    let pieces: Vec<_> = files
        .iter()
        .flat_map(|file| {
            let starts = (0..file.bytes().len()).step_by(PIECE);
            starts.map(|start| (file.clone(), start))
        })
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
