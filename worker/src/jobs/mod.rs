//! A job's life from submission to end: its owner, its queue place, its memory, its events
//! and its result. Nothing here knows sockets, tensor arithmetic or devices.
//!
//! A client is admitted, submits jobs and reads their events through a [`Client`] and a
//! [`Subscription`]. The thread that owns a device takes its next job from [`Jobs`] and
//! reports back what happens to it. Events and results wait in a [`JobStore`] until the
//! client has read them.
//!
//! - `service`: [`Jobs`], the shared handle: start, next job, cancel, stop, status
//! - `state`: queued and running jobs behind one lock
//! - `client`: one client's calls: admit, submit, cancel
//! - `subscription`: one client's reading side: wake-up, next event, parts of a result
//! - `job`, `work`, `event`: a job, what it computes, what happens to it
//! - `store`: the trait that keeps events and results; `memory` and `mailbox` implement it
//! - `owner`, `queue`: whom a job belongs to, and the fair queue between owners
//! - `place`: a queue place reserved for a job whose tensors are still arriving
//! - `open`: how many unfinished jobs, and of how many bytes, one client may have
//! - `admission`: host and device memory, reserved before a job is queued
//! - `quota`: memory for unread results and previews of all clients together
//! - `operator`: what an operator sees of all jobs, and does to them
//! - `metrics`: counters and histograms
//! - `error`: failures as clients see them
//! - `id`: numbers of clients and jobs

mod admission;
mod client;
mod error;
mod event;
mod id;
mod job;
mod mailbox;
mod memory;
mod metrics;
mod open;
mod operator;
mod owner;
mod place;
mod queue;
mod quota;
mod service;
mod state;
mod store;
mod subscription;
#[cfg(test)]
pub mod testing;
mod work;

pub use admission::{no_device_memory, Free, JobCosts, Ledger, Reservation};
pub use client::{Admitted, Client};
pub use error::{shutting_down, unknown_model, wire_error};
pub use event::Event;
pub use id::{ClientId, JobKey};
pub use job::{Job, Ticket};
pub use memory::MemoryStore;
pub use metrics::Metrics;
pub use open::OpenJob;
pub use operator::{Listed, Stage};
pub use owner::{neighbourhood, Owner};
pub use service::{Health, Jobs, Limits, Model, DEFAULT_QUEUE};
pub use state::{Next, Wanted};
pub use store::{Delivered, JobStore, Wake};
pub use subscription::Subscription;
pub use work::Work;
