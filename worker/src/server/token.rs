//! The secret that clients share with a worker.

use std::fmt;

/// Most bytes of a token.
const MAX_BYTES: usize = 1024;

/// Why a text cannot be a token. The message does not show the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// It begins or ends with white space.
    #[error("the token begins or ends with white space")]
    OuterSpace,
    /// It has a control character or an invisible one.
    #[error("the token has a control character or an invisible one at byte {at}")]
    Unprintable {
        /// Where the character is, in bytes.
        at: usize,
    },
    /// It is too long.
    #[error("the token has {bytes} bytes, the most is {MAX_BYTES}")]
    TooLong {
        /// Its length in bytes.
        bytes: usize,
    },
}

/// A token. Its `Debug` form does not show it, so that no log or error can.
#[derive(Clone)]
pub struct Token(Box<str>);

impl Token {
    /// A token with this text; `None` if the text is blank.
    ///
    /// # Errors
    /// The text has characters that are easily lost on the way through files, environments and
    /// settings, or is too long.
    pub fn new(text: &str) -> Result<Option<Self>, TokenError> {
        if text.trim().is_empty() {
            return Ok(None);
        }
        if text.trim() != text {
            return Err(TokenError::OuterSpace);
        }
        if let Some((at, _)) = text
            .char_indices()
            .find(|&(_, c)| crate::text::is_unsafe(c))
        {
            return Err(TokenError::Unprintable { at });
        }
        if text.len() > MAX_BYTES {
            return Err(TokenError::TooLong { bytes: text.len() });
        }
        Ok(Some(Self(text.into())))
    }

    /// Whether this text is the token. The comparison takes the same time wherever the first
    /// difference is, so that it does not reveal the token's beginning.
    pub fn is(&self, given: &str) -> bool {
        let (a, b) = (self.0.as_bytes(), given.as_bytes());
        a.len() == b.len() && a.iter().zip(b).fold(0, |d, (x, y)| d | (x ^ y)) == 0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blank_text_is_no_token() {
        for text in ["", " ", "\n", "\t \r\n", "\u{3000}"] {
            assert!(Token::new(text).unwrap().is_none(), "{text:?}");
        }
    }

    #[test]
    fn characters_that_are_easily_lost_are_refused_without_being_shown() {
        for text in [
            "s3cret\n",
            " s3cret",
            "s3\ncret",
            "s3\u{1b}cret",
            "s3\0cret",
            "\u{feff}s3cret",
        ] {
            let why = Token::new(text).unwrap_err().to_string();
            assert!(!why.contains("s3") && !why.contains("cret"), "{why}");
        }
        assert!(Token::new(&"x".repeat(MAX_BYTES + 1)).is_err());
        for text in ["x", "two words", "пароль", "密码", "+/=~\"'"] {
            assert!(Token::new(text).unwrap().is_some(), "{text:?}");
        }
    }

    #[test]
    fn a_token_is_compared_and_not_printed() {
        let token = Token::new("abc").unwrap().unwrap();
        assert!(token.is("abc"));
        for other in ["", "ab", "abd", "abcd", "ABC"] {
            assert!(!token.is(other));
        }
        assert_eq!(format!("{token:?} {:?}", Some(&token)), "Token Some(Token)");
    }
}
