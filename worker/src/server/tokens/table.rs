//! All tokens, and the search for the one that a client sent.

use std::sync::Arc;

use subtle::{ConditionallySelectable, ConstantTimeEq};

use super::roles::Roles;
use super::token::Token;

/// A token and what it allows.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its name, unless it is the only one.
    pub name: Option<Arc<str>>,
    /// What it allows.
    pub roles: Roles,
    /// The token.
    pub token: Token,
}

impl Entry {
    /// Whether name, roles and token are those of `other`.
    pub fn is(&self, other: &Self) -> bool {
        self.name == other.name
            && self.roles == other.roles
            && bool::from(self.token.ct_eq(&other.token))
    }
}

/// All tokens; without one, everyone is accepted.
#[derive(Debug, Default)]
pub struct Table {
    entries: Vec<Entry>,
}

impl Table {
    /// These tokens.
    pub fn new(entries: Vec<Entry>) -> Self {
        Self { entries }
    }

    /// The tokens.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The entry with this token. The search always compares with every token, so its time
    /// does not tell which one was found.
    pub fn find(&self, given: &str) -> Option<&Entry> {
        let given = Token::given(given);
        let mut found = u64::MAX;
        for (at, entry) in (0..).zip(&self.entries) {
            found.conditional_assign(&at, entry.token.ct_eq(&given));
        }
        self.entries.get(usize::try_from(found).ok()?)
    }

    /// Whether it has this very entry.
    pub fn has(&self, entry: &Entry) -> bool {
        self.entries.iter().any(|other| other.is(entry))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::tokens::Role;

    fn entry(name: &str, role: Role, token: &str) -> Entry {
        Entry {
            name: Some(name.into()),
            roles: Roles::of(role),
            token: Token::given(token),
        }
    }

    #[test]
    fn a_token_is_found_wherever_it_is() {
        let table = Table::new(vec![
            entry("a", Role::Submit, "1"),
            entry("b", Role::Observe, "2"),
            entry("c", Role::Administer, "3"),
        ]);
        for (token, name) in [("1", "a"), ("2", "b"), ("3", "c")] {
            assert_eq!(table.find(token).unwrap().name.as_deref(), Some(name));
        }
        for other in ["", "4", "11", "sha256:1"] {
            assert!(table.find(other).is_none(), "{other}");
        }
        assert!(Table::default().find("").is_none());
    }

    #[test]
    fn a_changed_entry_is_another_one() {
        let before = entry("a", Role::Submit, "1");
        let table = |entry| Table::new(vec![entry]);
        assert!(table(before.clone()).has(&before));
        assert!(!table(entry("a", Role::Observe, "1")).has(&before));
        assert!(!table(entry("a", Role::Submit, "2")).has(&before));
        assert!(!table(entry("b", Role::Submit, "1")).has(&before));
    }
}
