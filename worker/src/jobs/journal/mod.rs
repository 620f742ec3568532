//! What must survive the process: accepted jobs, the latest states of running ones, and ends
//! that are not acknowledged.
//!
//! - `contract`: the trait [`Journal`], and what it takes and gives back
//! - `sections`: the form of every file: metadata, sections of bytes, a digest over all
//! - `files`: jobs, states and ends as files
//! - `writer`: the thread that writes what must not delay a device
//! - `folder`: which files there are, and how they are written whole or not at all
//! - `known`: what is known of a job while its process lives
//! - `recovery`: reading what earlier processes left, one job at a time
//! - `disk`: [`DiskJournal`], a journal in a folder
//! - `fuzzing`: arbitrary bytes as files, for the fuzz targets

mod contract;
mod disk;
mod files;
mod folder;
#[doc(hidden)]
pub mod fuzzing;
mod known;
mod recovery;
mod sections;
#[cfg(test)]
mod tests;
mod writer;

pub use contract::{
    JobRecord, Journal, JournalError, JournalUsage, RecordKey, RecordedEnd, Recovered,
};
pub use disk::DiskJournal;
