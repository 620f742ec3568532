//! The worker's socket: websockets for clients, HTTP for monitoring and operators.
//!
//! Frames become calls on [`jobs`](crate::jobs), and jobs' events become frames. What a job is
//! and when it runs is not decided here.
//!
//! - `serve`: accepts connections until the worker stops
//! - `options`: how a server behaves; `context`: what all its connections share
//! - `connections`: how many sockets there may be, and which is evicted for a newer one
//! - `failures`: addresses from which wrong tokens come, and which are kept out for a while
//! - `tls`: the worker's certificate and encryption; `stream`: bytes, encrypted or not
//! - `http`: a connection's request, answered or upgraded to a websocket
//! - `routes`: what a request is answered: who may ask for what, and by which method
//! - `stamp`: what tells one version of a file of tokens or certificates from the next
//! - `hosts`: the names by which this worker may be addressed
//! - `health`: whether the worker is alive and ready; `gauges`: metrics that are read on request
//! - `operator`: what an operator sees of the jobs, and does to them
//! - `session`: one websocket, from hello to close
//! - `handshake`: checks a client's first message
//! - `requests`: a client's messages as calls on its jobs
//! - `upload`: a job whose tensors are arriving; `job_options`: checks how it is to be run
//! - `restore`: jobs of an earlier process go on
//! - `tensors`: which tensors an operation takes; `values`: their bytes as typed tensors
//! - `sender`: what is sent next; `events`: a job's event as a message
//! - `tokens`: who may use the worker, and for what
//! - `fuzzing`: a connection without a socket, for the fuzz targets

mod adapter_upload;
mod adapters;
mod connections;
mod context;
mod events;
mod failures;
#[doc(hidden)]
pub mod fuzzing;
mod gauges;
mod handshake;
mod health;
mod hosts;
mod http;
mod job_options;
mod operator;
mod options;
mod requests;
mod restore;
mod routes;
mod sender;
mod serve;
mod session;
mod stamp;
mod stream;
mod tensors;
#[cfg(test)]
mod tests;
mod tls;
mod tokens;
mod upload;
mod values;

pub use connections::ConnectionLimits;
pub use failures::FailureLimits;
pub use hosts::Hosts;
pub use options::Options;
pub use restore::restore;
pub use serve::{serve, ServeError};
pub use tls::{Tls, TlsError};
pub use tokens::{LineError, Token, TokenError, Tokens, TokensError};
