//! Who may use the worker, and for what.
//!
//! - `token`: the text of a token, of which only a digest is kept
//! - `roles`: what a token allows
//! - `table`: all tokens, and the search for the one that a client sent
//! - `lines`: the lines of a file of tokens
//! - `file`: such a file on the disk, read again when it changes
//! - `identity`: which token a client has sent, and whether it still counts
//! - `handle`: [`Tokens`], which all connections share

mod file;
mod handle;
mod identity;
mod lines;
mod roles;
mod table;
mod token;

pub use file::TokensError;
pub use handle::{Rejected, Tokens};
pub use identity::Identity;
pub use lines::LineError;
pub use roles::{Role, Roles, Verdict};
pub use token::{Token, TokenError};
