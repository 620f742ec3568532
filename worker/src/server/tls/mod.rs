//! Encryption: the worker's certificate and TLS on its connections.
//!
//! - `config`: [`Tls`], a certificate ready for connections, read again when it changes
//! - `accept`: the TLS handshake of a connection, and the answer to one without
//! - `pem`: certificate and key from files
//! - `self_made`: a certificate of the worker's own, kept in a folder
//! - `validity`: from when until when a certificate is valid

mod accept;
mod config;
mod pem;
mod self_made;
mod validity;

pub use accept::accept;
pub use config::Tls;
pub use pem::TlsError;
