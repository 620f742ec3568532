//! The worker, room by room.
//!
//! A request goes down this list once and its events come back up once; no
//! layer reaches past its neighbour.
//!
//! - [`cli`]: the commands: serve, generate, bench, inspect
//! - [`server`]: websocket listener, one session a socket
//! - [`device`]: the thread that owns a device, the models on it, whose step is next
//! - [`jobs`]: a job's owner, queue place, memory, events and result
//! - [`pipeline`]: encode, denoise step by step, decode; typed tensors
//! - [`sampling`]: sigma schedules, solvers, PyTorch's noise
//! - [`models`]: the three networks, as their papers have them
//! - [`nn`]: linear, attention, norms, rope; the only place that asks which
//!   device it is on
//! - [`checkpoint`]: which files are these, and where in them is each tensor
//!
//! Beside them are [`logging`], the log, and [`text`], how text from outside is made safe to
//! show.

pub mod checkpoint;
pub mod cli;
pub mod device;
pub mod jobs;
pub mod logging;
pub mod models;
pub mod nn;
pub mod pipeline;
pub mod sampling;
pub mod server;
pub mod text;
