//! The lines of a file of tokens: `NAME ROLES TOKEN`, blank ones, and `#` comments.

use subtle::ConstantTimeEq;

use super::roles::{Role, Roles};
use super::table::{Entry, Table};
use super::token::{Token, TokenError};

/// Most tokens of a file.
pub const MAX_TOKENS: usize = 1024;

/// Most characters of a token's name.
const MAX_NAME: usize = 64;

/// What is wrong with a line. No message shows a token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LineError {
    /// It has fewer than three parts.
    #[error("it is not NAME ROLES TOKEN")]
    Parts,
    /// The name has other characters than those allowed, or too many.
    #[error("a name has 1 to {MAX_NAME} letters, digits, dots, hyphens and underscores")]
    Name,
    /// The roles are not a list of roles.
    #[error("roles are one or more of submit, observe and administer, with commas and no spaces")]
    Roles,
    /// The token is not one.
    #[error("{0}")]
    Token(#[from] TokenError),
    /// Two lines have the same name.
    #[error("line {0} has the same name")]
    SameName(usize),
    /// Two lines have the same token.
    #[error("line {0} has the same token")]
    SameToken(usize),
    /// There are too many tokens.
    #[error("a file has at most {MAX_TOKENS} tokens")]
    TooMany,
}

/// Reads the lines of a file of tokens.
///
/// # Errors
/// The number of the first line that is wrong, from 1, and what is wrong with it.
pub fn read(text: &str) -> Result<Table, (usize, LineError)> {
    let mut entries: Vec<Entry> = Vec::new();
    let mut numbers = Vec::new();
    // A byte order mark, which some editors write.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let wrong = |error| (number, error);
        let entry = entry(line).map_err(wrong)?;
        for (other, &at) in entries.iter().zip(&numbers) {
            if other.name == entry.name {
                return Err(wrong(LineError::SameName(at)));
            }
            if bool::from(other.token.ct_eq(&entry.token)) {
                return Err(wrong(LineError::SameToken(at)));
            }
        }
        if entries.len() == MAX_TOKENS {
            return Err(wrong(LineError::TooMany));
        }
        entries.push(entry);
        numbers.push(number);
    }
    Ok(Table::new(entries))
}

fn entry(line: &str) -> Result<Entry, LineError> {
    let (name, rest) = line
        .split_once(char::is_whitespace)
        .ok_or(LineError::Parts)?;
    let rest = rest.trim_start();
    let (roles, token) = rest
        .split_once(char::is_whitespace)
        .ok_or(LineError::Parts)?;
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || b".-_".contains(&b);
    if name.len() > MAX_NAME || !name.bytes().all(is_plain) {
        return Err(LineError::Name);
    }
    Ok(Entry {
        name: Some(name.into()),
        roles: roles_of(roles).ok_or(LineError::Roles)?,
        token: Token::written(token.trim_start())?.ok_or(LineError::Parts)?,
    })
}

fn roles_of(text: &str) -> Option<Roles> {
    let role = |name: &str| Role::ALL.into_iter().find(|role| role.name() == name);
    let mut names = text.split(',');
    let first = Roles::of(role(names.next()?)?);
    names.try_fold(first, |roles, name| Some(roles.and(role(name)?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_names_tokens_with_their_roles() {
        let table = read(
            "\u{feff}# who may use the worker\n\n\
             studio submit,observe pass word # 1\n\
             \tgrafana   observe\tsha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad\r\n\
             op.1-x_ administer x",
        )
        .unwrap();
        let found = |token| {
            let entry = table.find(token)?;
            Some((entry.name.clone()?.to_string(), entry.roles.to_string()))
        };
        let is = |token, name: &str, roles: &str| {
            assert_eq!(found(token), Some((name.into(), roles.into())));
        };
        // A token may hold spaces and hash signs.
        is("pass word # 1", "studio", "submit,observe");
        is("abc", "grafana", "observe");
        is("x", "op.1-x_", "administer");
        assert_eq!((found("pass word"), found("")), (None, None));
        assert!(read("# none\n\n").unwrap().entries().is_empty());
    }

    #[test]
    fn a_wrong_line_is_named_without_its_token() {
        let cases = [
            ("studio", LineError::Parts),
            ("studio submit", LineError::Parts),
            ("studio submit ", LineError::Parts),
            ("stüdio submit s3cret", LineError::Name),
            ("s/t submit s3cret", LineError::Name),
            (
                &format!("{} submit s3cret", "n".repeat(65)),
                LineError::Name,
            ),
            ("studio write s3cret", LineError::Roles),
            ("studio submit, s3cret", LineError::Roles),
            ("studio Submit s3cret", LineError::Roles),
            ("studio , s3cret", LineError::Roles),
            ("studio submit sha256:s3cret", TokenError::Digest.into()),
            (
                "studio submit s3\u{1b}cret",
                TokenError::Unprintable { at: 2 }.into(),
            ),
            ("first submit s3cret", LineError::SameName(2)),
            ("other submit first-s3cret", LineError::SameToken(2)),
        ];
        for (line, wanted) in cases {
            let text = format!("# a comment\nfirst observe first-s3cret\n{line}\n");
            let (number, error) = read(&text).unwrap_err();
            assert_eq!((number, &error), (3, &wanted), "{line}");
            assert!(!error.to_string().contains("s3"), "{error}");
        }
        let many: String = (0..=MAX_TOKENS)
            .map(|i| format!("n{i} submit t{i}\n"))
            .collect();
        assert_eq!(
            read(&many).unwrap_err(),
            (MAX_TOKENS + 1, LineError::TooMany)
        );
    }
}
