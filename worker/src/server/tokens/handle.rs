//! The tokens that all connections share.

use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

use super::file::{TokenFile, TokensError};
use super::identity::Identity;
use super::roles::Roles;
use super::table::{Entry, Table};
use super::token::Token;

/// Why a client is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rejected {
    /// It has sent no token.
    Missing,
    /// It has sent a token that is not one of these.
    Wrong,
}

struct Inner {
    table: watch::Sender<Arc<Table>>,
    file: Option<Mutex<TokenFile>>,
}

/// The tokens of a worker: none, one for everything, or those of a file. Clones stand for the
/// same tokens.
#[derive(Clone)]
pub struct Tokens(Arc<Inner>);

impl Default for Tokens {
    /// No tokens: everyone is accepted.
    fn default() -> Self {
        Self::new(Table::default(), None)
    }
}

impl Tokens {
    fn new(table: Table, file: Option<TokenFile>) -> Self {
        Self(Arc::new(Inner {
            table: watch::Sender::new(Arc::new(table)),
            file: file.map(Mutex::new),
        }))
    }

    /// One token, which allows everything.
    pub fn one(token: Token) -> Self {
        let entry = Entry {
            name: None,
            roles: Roles::ALL,
            token,
        };
        Self::new(Table::new(vec![entry]), None)
    }

    /// The named tokens of a file.
    ///
    /// # Errors
    /// The file cannot be read, others can read or change it, or it is not a list of tokens.
    pub fn from_file(path: &Path) -> Result<Self, TokensError> {
        let (file, table) = TokenFile::open(path)?;
        Ok(Self::new(table, Some(file)))
    }

    /// Whether there are none, so that everyone is accepted.
    pub fn is_none(&self) -> bool {
        self.0.table.borrow().entries().is_empty()
    }

    /// Who has sent `given`. A file that has changed is read first.
    ///
    /// # Errors
    /// There are tokens, and `given` is none of them.
    pub fn identify(&self, given: Option<&str>) -> Result<Identity, Rejected> {
        self.reload();
        let table = self.0.table.borrow().clone();
        let entry = match given {
            _ if table.entries().is_empty() => None,
            None => return Err(Rejected::Missing),
            Some(given) => Some(table.find(given).ok_or(Rejected::Wrong)?.clone()),
        };
        Ok(Identity::new(entry, self.0.table.subscribe()))
    }

    /// Reads the file again if it has changed. If it can no longer be used, the tokens stay as
    /// they are, and the log says so once.
    pub fn reload(&self) {
        let Some(file) = &self.0.file else { return };
        let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
        match file.reread() {
            Some(Ok(table)) => {
                let tokens = table.entries().len();
                self.0.table.send_replace(Arc::new(table));
                tracing::info!(path = %file.path().display(), tokens, "tokens read again");
            }
            Some(Err(error)) => {
                let hint = error.hint();
                tracing::error!(%error, hint, "the tokens stay as they were");
            }
            None => {}
        }
    }
}

/// Shows names and roles alone.
impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let table = self.0.table.borrow();
        let entries = table.entries().iter();
        f.debug_map()
            .entries(entries.map(|entry| (&entry.name, entry.roles)))
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::tokens::Role;
    use futures_util::FutureExt;
    use std::path::PathBuf;

    struct Folder {
        folder: tempfile::TempDir,
    }

    impl Folder {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            Self { folder }
        }

        fn path(&self) -> PathBuf {
            self.folder.path().join("tokens")
        }

        /// Replaces the file, as an editor does.
        fn write(&self, text: &str, mode: u32) {
            let new = self.folder.path().join("new");
            std::fs::write(&new, text).unwrap();
            close(&new, mode);
            std::fs::rename(new, self.path()).unwrap();
        }
    }

    #[cfg(unix)]
    fn close(path: &Path, mode: u32) {
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
    }

    #[cfg(not(unix))]
    fn close(_: &Path, _: u32) {}

    fn name(tokens: &Tokens, given: &str) -> Option<String> {
        let identity = tokens.identify(Some(given)).ok()?;
        identity.name().map(|name| name.to_string())
    }

    #[test]
    fn without_tokens_everyone_may_use_the_worker_and_nobody_administer_it() {
        let tokens = Tokens::default();
        assert!(tokens.is_none());
        for given in [None, Some("x")] {
            let identity = tokens.identify(given).unwrap();
            assert_eq!((identity.name(), identity.roles()), (None, Roles::OPEN));
        }
    }

    #[test]
    fn one_token_allows_everything() {
        let tokens = Tokens::one(Token::given("s3cret"));
        assert!(!tokens.is_none());
        let identity = tokens.identify(Some("s3cret")).unwrap();
        assert_eq!((identity.name(), identity.roles()), (None, Roles::ALL));
        let rejected = |given| tokens.identify(given).unwrap_err();
        assert_eq!(rejected(None), Rejected::Missing);
        assert_eq!(rejected(Some("")), Rejected::Wrong);
        assert_eq!(rejected(Some("s3cre")), Rejected::Wrong);
        let shown = format!("{tokens:?} {identity:?}");
        assert!(!shown.contains("s3cret"), "{shown}");
    }

    #[test]
    fn a_changed_file_is_read_again_and_a_broken_one_is_not_used() {
        let folder = Folder::new();
        folder.write("a submit s3cret-1\nb observe s3cret-2\n", 0o600);
        let tokens = Tokens::from_file(&folder.path()).unwrap();
        assert_eq!(name(&tokens, "s3cret-1").as_deref(), Some("a"));
        assert!(!format!("{tokens:?}").contains("s3cret"));
        let mut kept = tokens.identify(Some("s3cret-2")).unwrap();
        let mut removed = tokens.identify(Some("s3cret-1")).unwrap();
        assert!(removed.revoked().now_or_never().is_none());

        for broken in ["", "a submit", "# nothing\n"] {
            folder.write(broken, 0o600);
            assert_eq!(name(&tokens, "s3cret-1").as_deref(), Some("a"));
        }
        std::fs::remove_file(folder.path()).unwrap();
        assert_eq!(name(&tokens, "s3cret-1").as_deref(), Some("a"));
        #[cfg(unix)]
        {
            folder.write("c submit s3cret-3\n", 0o644);
            assert_eq!(name(&tokens, "s3cret-3"), None);
        }
        assert!(removed.revoked().now_or_never().is_none());

        // The same size, in place.
        folder.write("b observe s3cret-2\nc submit s3cret-3\n", 0o600);
        assert_eq!(name(&tokens, "s3cret-3").as_deref(), Some("c"));
        assert_eq!(name(&tokens, "s3cret-1"), None);
        assert!(removed.revoked().now_or_never().is_some());
        assert!(kept.revoked().now_or_never().is_none());
        // Other roles under the same name and token are another identity.
        folder.write("b submit s3cret-2\n", 0o600);
        tokens.reload();
        assert!(kept.revoked().now_or_never().is_some());
        let again = tokens.identify(Some("s3cret-2")).unwrap();
        assert_eq!(again.roles(), Roles::of(Role::Submit));
    }

    #[test]
    fn a_file_that_cannot_be_used_is_refused_with_what_to_do() {
        let folder = Folder::new();
        let refused = || {
            let error = Tokens::from_file(&folder.path()).unwrap_err();
            let text = format!("{error} {}", error.hint());
            assert!(!text.contains("s3cret"), "{text}");
            text
        };
        assert!(refused().contains("cannot be read"));
        folder.write("\n# a s3cret comment\n", 0o600);
        assert!(refused().contains("has no token"));
        folder.write("a submit s3cret\nb s3cret\n", 0o600);
        assert!(refused().contains("line 2 of the file of tokens"));
        folder.write(&"#".repeat(1 << 21), 0o600);
        assert!(refused().contains("more than 1048576 bytes"));
        #[cfg(unix)]
        {
            for mode in [0o644, 0o620, 0o602, 0o666] {
                folder.write("a submit s3cret\n", mode);
                let text = refused();
                assert!(text.contains(&format!("{mode:o}")), "{text}");
                assert!(text.contains("chmod 600"), "{text}");
            }
            folder.write("a submit s3cret\n", 0o640);
            assert!(Tokens::from_file(&folder.path()).is_ok());
        }
        std::fs::remove_file(folder.path()).unwrap();
        std::fs::create_dir(folder.path()).unwrap();
        assert!(refused().contains("not a regular file"));
    }
}
