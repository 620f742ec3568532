//! The worker's socket: websockets for clients, HTTP for monitoring.
//!
//! Frames become calls on [`jobs`](crate::jobs), and jobs' events become frames. What a job is
//! and when it runs is not decided here.
//!
//! - `serve`: accepts connections until the worker stops
//! - `options`: how a server behaves; `context`: what all its connections share
//! - `connections`: how many sockets there may be, and which is evicted for a newer one
//! - `http`: a connection's request, answered or upgraded to a websocket
//! - `hosts`: the names by which this worker may be addressed
//! - `health`: the bodies of `/health` and `/metrics`; `gauges`: metrics that are read on request
//! - `session`: one websocket, from hello to close
//! - `handshake`: checks a client's first message
//! - `requests`: a client's messages as calls on its jobs
//! - `upload`: a job whose tensors are arriving; `job_options`: checks how it is to be run
//! - `restore`: jobs of an earlier process go on
//! - `tensors`: which tensors an operation takes; `values`: their bytes as typed tensors
//! - `sender`: what is sent next; `events`: a job's event as a message
//! - `token`: the secret that clients share with a worker

mod connections;
mod context;
mod events;
mod gauges;
mod handshake;
mod health;
mod hosts;
mod http;
mod job_options;
mod options;
mod requests;
mod restore;
mod sender;
mod serve;
mod session;
mod tensors;
#[cfg(test)]
mod tests;
mod token;
mod upload;
mod values;

pub use connections::ConnectionLimits;
pub use hosts::Hosts;
pub use options::Options;
pub use restore::restore;
pub use serve::{serve, ServeError};
pub use token::{Token, TokenError};
