//! A job on its way into the queue.

use std::sync::Arc;

use ovis_protocol::JobOptions;

use super::admission::Reservation;
use super::content::Content;
use super::models::Model;
use super::open::OpenJob;
use super::place::Place;
use super::work::Work;

/// An admitted job whose tensors are still arriving. It holds a queue place, the job's memory
/// and a place among its owner's unfinished jobs.
pub struct Admitted {
    pub(super) place: Place,
    pub(super) open: OpenJob,
    pub(super) reservation: Reservation,
    pub(super) model: Arc<Model>,
}

impl Admitted {
    /// The model that runs the job.
    pub fn model(&self) -> &Arc<Model> {
        &self.model
    }
}

/// What a client submits, once its tensors are complete.
pub struct Submission {
    /// What to compute.
    pub work: Work,
    /// How.
    pub options: JobOptions,
    /// What the job was asked to do, to compare later submissions with.
    pub content: Content,
    /// Whether the job is in the journal.
    pub is_journaled: bool,
}
