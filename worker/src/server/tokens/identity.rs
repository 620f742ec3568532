//! Which token a client has sent, and whether it still counts.

use std::fmt;
use std::sync::Arc;

use tokio::sync::watch;

use super::roles::Roles;
use super::table::{Entry, Table};

/// Who a client is: the token that it has sent, by its name and roles.
#[derive(Clone)]
pub struct Identity {
    /// `None` where there are no tokens.
    entry: Option<Entry>,
    tokens: watch::Receiver<Arc<Table>>,
}

impl Identity {
    /// Who has sent the token of `entry`, for as long as `tokens` has it. Without an entry:
    /// anyone, where there are no tokens.
    pub(super) fn new(entry: Option<Entry>, tokens: watch::Receiver<Arc<Table>>) -> Self {
        Self { entry, tokens }
    }

    /// The token's name, if it has one.
    pub fn name(&self) -> Option<&Arc<str>> {
        self.entry.as_ref()?.name.as_ref()
    }

    /// What the client may do.
    pub fn roles(&self) -> Roles {
        self.entry.as_ref().map_or(Roles::OPEN, |entry| entry.roles)
    }

    /// Waits until the token is removed, or until its name, its roles or its text are changed.
    pub async fn revoked(&mut self) {
        if let Some(entry) = &self.entry {
            let gone = self.tokens.wait_for(|table| !table.has(entry)).await;
            if gone.is_ok() {
                return;
            }
            // Nobody is left who could change the tokens.
        }
        std::future::pending().await
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity")
            .field("name", &self.name())
            .field("roles", &self.roles())
            .finish()
    }
}
