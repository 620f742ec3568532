//! A job's life from submission to end: its owner, its queue place, its memory, its events
//! and its result. Nothing here knows sockets, tensor arithmetic or devices.
//!
//! A job belongs to an owner, not to a connection. A client, which speaks for its owner, is
//! admitted, submits and claims jobs through a [`Client`], and reads their events through a
//! [`Subscription`]. The thread that owns a device takes its next job from [`Jobs`] and reports
//! back what happens to it. Events and results wait in a [`JobStore`] until the owner has
//! acknowledged them; the [`journal`] holds what must survive the process.
//!
//! - `service`: [`Jobs`], the shared handle: start, next job, cancel, stop, status
//! - `state`: queued and running jobs behind one lock
//! - `client`: one client's calls: admit, submit, claim, acknowledge, cancel
//! - `calls`: what these come down to
//! - `submission`: a job on its way into the queue; `content`: what it was asked to do
//! - `subscription`: one client's reading side: wake-up, next event, parts of a result
//! - `job`, `work`, `event`: a job, what it computes, what happens to it
//! - `store`: the trait that keeps events and results; `memory`, with a `mailbox` for each
//!   owner and an `event_log` for each job, implements it
//! - `owner`, `queue`: whom a job belongs to, and the fair queue between owners; `turns`: who
//!   in it is next; `retry`: when a request that found no place may succeed
//! - `place`: a queue place reserved for a job whose tensors are still arriving
//! - `open`: how many unfinished jobs, and of how many bytes, one owner may have
//! - `admission`: host and device memory, reserved before a job is queued
//! - `operator`: what an operator sees of all jobs, and does to them
//! - `quota`: memory for results, previews and states of all owners together
//! - `journal`: what must survive the process, in a state folder; `recorder`: which events go
//!   there; `restore`: jobs of an earlier process go on
//! - `models`: the models that jobs may ask for
//! - `pulse`: what a device is busy with, and since when
//! - `metrics`: counters and histograms; `trace`: a job's spans in a trace
//! - `error`: failures as clients see them
//! - `id`: numbers of clients, owners and jobs

mod admission;
mod calls;
mod client;
mod content;
mod error;
mod event;
mod event_log;
mod id;
mod job;
pub mod journal;
mod mailbox;
mod memory;
mod metrics;
mod models;
mod open;
mod operator;
mod owner;
mod place;
mod pulse;
mod queue;
mod quota;
mod recorder;
mod restore;
mod retry;
mod service;
mod state;
mod store;
mod submission;
mod subscription;
#[cfg(test)]
pub mod testing;
mod trace;
mod turns;
mod work;

pub use admission::{no_device_memory, Free, JobCosts, Ledger, Reservation};
pub use client::Client;
pub use content::{Content, ContentHasher};
pub use error::{deadline_exceeded, shutting_down, unknown_model, wire_error};
pub use event::Event;
pub use id::{ClientId, JobKey, OwnerNumber};
pub use job::{Job, Ticket};
pub use memory::MemoryStore;
pub use metrics::{Metrics, Refusal};
pub use models::{Model, ModelList};
pub use open::{OpenJob, OpenJobs};
pub use operator::{Listed, Stage};
pub use owner::{neighbourhood, Owner, OwnerId, Party};
pub use pulse::{Beat, Busy, Pulse};
pub use queue::{Order, QueueLimits};
pub use recorder::{owner_of, NewRecord, Recorder};
pub use retry::{retry_after, RecentJobs};
pub use service::{DeviceState, Health, Jobs, Limits, DEFAULT_QUEUE};
pub use state::{Next, Wanted};
pub use store::{Attached, Delivered, Found, JobStore, Kept, NewJob, Swept, Wake};
pub use submission::{Admitted, Submission};
pub use subscription::Subscription;
pub use trace::JobTrace;
pub use work::{Resume, Work};
