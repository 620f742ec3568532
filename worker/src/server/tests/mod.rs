//! The server over real sockets, with a backend that sleeps.

mod border_http;
mod border_values;
mod border_wire;
mod claims;
mod client;
mod connections;
mod crowds;
mod document;
mod fake;
mod jobs;
mod models;
mod previews;
mod shutdown;
mod tls;
mod tokens;
