//! The tokens that `serve` wants from clients.

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;

use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::Args;

use super::error::CliError;
use super::terminal;
use crate::server::{Token, Tokens};

/// A shell command that generates a token.
pub const MAKE_A_TOKEN: &str = "export OVIS_WORKER_TOKEN=\"$(head -c 24 /dev/urandom | base64)\"";

/// The token that stands for one that the worker makes.
const GENERATE: &str = "generate";

/// Which tokens clients must send.
#[derive(Clone, Debug, Args)]
pub struct TokenArgs {
    /// Secret that clients must send to be accepted; blank means none. `generate` makes one and
    /// prints it once, on standard output. Prefer the environment variable: every user of the
    /// machine can read a command line.
    #[arg(
        long,
        value_name = "TEXT",
        env = "OVIS_WORKER_TOKEN",
        hide_env_values = true,
        value_parser = OsStringValueParser::new().map(GivenToken),
        allow_hyphen_values = true
    )]
    token: Option<GivenToken>,
    /// File of named tokens, one a line: NAME ROLES TOKEN. Roles are `submit`, `observe` and
    /// `administer`, with commas; TOKEN is a text or `sha256:` and its digest. The file is read
    /// again when it changes.
    #[arg(long, value_name = "FILE", env = "OVIS_WORKER_TOKENS")]
    tokens: Option<PathBuf>,
}

/// The token before it is validated. Validation happens after parsing, because a parser's error
/// would show the value.
#[derive(Clone)]
struct GivenToken(OsString);

impl fmt::Debug for GivenToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("GivenToken")
    }
}

impl TokenArgs {
    /// The tokens of which clients must send one, if there are any. A generated one is printed.
    ///
    /// # Errors
    /// The token is not valid UTF-8, too long, or has characters that a client could not send;
    /// the file of tokens cannot be used; or both are given.
    pub fn tokens(&self) -> Result<Tokens, CliError> {
        match (self.token()?, &self.tokens) {
            (None, None) => Ok(Tokens::default()),
            (Some(token), None) => Ok(Tokens::one(token)),
            (None, Some(path)) => {
                Tokens::from_file(path).map_err(|e| CliError::new(e.to_string(), e.hint()))
            }
            (Some(_), Some(_)) => Err(CliError::new(
                "both a token (--token or OVIS_WORKER_TOKEN) and a file of tokens are given",
                "Give one of them: the file may hold any number of tokens.",
            )),
        }
    }

    /// What clients must send, without making a token; `None` if nothing.
    ///
    /// # Errors
    /// As for [`tokens`](Self::tokens).
    pub fn described(&self) -> Result<Option<String>, CliError> {
        let is_made = self.token.as_ref().is_some_and(|given| given.0 == GENERATE);
        if is_made && self.tokens.is_none() {
            return Ok(Some("a token that is made when the worker starts".into()));
        }
        let is_none = self.tokens()?.is_none();
        Ok(match &self.tokens {
            _ if is_none => None,
            Some(path) => Some(format!("a token of {}", path.display())),
            None => Some("the token".into()),
        })
    }

    fn token(&self) -> Result<Option<Token>, CliError> {
        let Some(GivenToken(given)) = &self.token else {
            return Ok(None);
        };
        let hint = || format!("Make another: {MAKE_A_TOKEN}");
        let text = given
            .to_str()
            .ok_or_else(|| CliError::new("the token is not UTF-8 text", hint()))?;
        if text == GENERATE {
            return generate().map(Some);
        }
        let token = Token::new(text).map_err(|why| CliError::new(why.to_string(), hint()))?;
        if token.is_none() {
            tracing::warn!("the token of --token or OVIS_WORKER_TOKEN is blank, which is no token");
        }
        Ok(token)
    }
}

fn generate() -> Result<Token, CliError> {
    let (text, token) = Token::generate().map_err(|error| {
        CliError::new(
            format!("the system gives no random bytes for a token: {error}"),
            format!("Make one elsewhere: {MAKE_A_TOKEN}"),
        )
    })?;
    terminal::print_own(&text)?;
    tracing::info!("made a token and printed it on standard output, once");
    Ok(token)
}
