//! The server with a backend that sleeps, over real sockets.

mod connections;
mod fake;
mod jobs;
mod previews;
