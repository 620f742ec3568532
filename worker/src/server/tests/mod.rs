//! The server with a backend that sleeps, over real sockets.

mod border_http;
mod border_wire;
mod connections;
mod crowds;
mod document;
mod fake;
mod jobs;
mod previews;
mod shutdown;
