//! The text of a token, of which only a digest is kept.

use std::fmt;

use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};

/// Most bytes of a token.
const MAX_BYTES: usize = 1024;

/// Random bytes of a generated token: 192 bits, which nobody guesses.
const RANDOM_BYTES: usize = 24;

/// How the digest of a token is written in a file of tokens.
const DIGEST_PREFIX: &str = "sha256:";

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
    /// It is written as a digest, which is not one.
    #[error("the token's digest is not `{DIGEST_PREFIX}` and 64 hexadecimal digits")]
    Digest,
}

/// A token, as the SHA-256 digest of its text. Its `Debug` form shows nothing of it, so that no
/// log or error can.
///
/// Digests have one length, and their comparison takes the same time wherever they differ, so
/// that it reveals neither a token's length nor its beginning. A digest without a salt is
/// enough for a random text; it protects no token that can be guessed.
#[derive(Clone)]
pub struct Token([u8; 32]);

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
        Ok(Some(Self::given(text)))
    }

    /// The token as a file of tokens writes it: its text, or `sha256:` and the digest of its
    /// text in hexadecimal. `None` if it is blank.
    ///
    /// # Errors
    /// As for [`new`](Self::new), or the digest is not one.
    pub fn written(text: &str) -> Result<Option<Self>, TokenError> {
        let Some(digits) = text.strip_prefix(DIGEST_PREFIX) else {
            return Self::new(text);
        };
        let mut digest = [0; 32];
        let is_hex = digits.len() == 64 && digits.bytes().all(|b| b.is_ascii_hexdigit());
        for (at, byte) in digest.iter_mut().enumerate() {
            let pair = digits.get(2 * at..2 * at + 2).filter(|_| is_hex);
            let parsed = pair.and_then(|pair| u8::from_str_radix(pair, 16).ok());
            *byte = parsed.ok_or(TokenError::Digest)?;
        }
        Ok(Some(Self(digest)))
    }

    /// The token of any text that a client sends.
    pub fn given(text: &str) -> Self {
        Self(Sha256::digest(text.as_bytes()).into())
    }

    /// Makes a random token. Returns its text, in the letters of base64url, and the token.
    ///
    /// # Errors
    /// The system gives no random bytes.
    pub fn generate() -> Result<(String, Self), getrandom::Error> {
        const LETTERS: &[u8; 64] =
            b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let mut bytes = [0; RANDOM_BYTES];
        getrandom::fill(&mut bytes)?;
        let mut text = String::with_capacity(RANDOM_BYTES / 3 * 4);
        for three in bytes.chunks_exact(3) {
            let bits = three.iter().fold(0, |bits, &b| bits << 8 | u32::from(b));
            for shift in [18, 12, 6, 0] {
                text.push(char::from(LETTERS[(bits >> shift & 63) as usize]));
            }
        }
        let token = Self::given(&text);
        Ok((text, token))
    }
}

impl ConstantTimeEq for Token {
    fn ct_eq(&self, other: &Self) -> Choice {
        self.0.ct_eq(&other.0)
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

    fn is(token: &Token, text: &str) -> bool {
        bool::from(token.ct_eq(&Token::given(text)))
    }

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
        assert!(is(&token, "abc"));
        for other in ["", "ab", "abd", "abcd", "ABC"] {
            assert!(!is(&token, other));
        }
        assert_eq!(format!("{token:?} {:?}", Some(&token)), "Token Some(Token)");
    }

    #[test]
    fn a_token_may_be_written_as_its_digest() {
        // SHA-256 of `abc`, from FIPS 180-2, appendix B.1.
        let digest = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        let token = Token::written(digest).unwrap().unwrap();
        assert!(is(&token, "abc") && !is(&token, digest));
        let upper = digest.to_uppercase().replace("SHA", "sha");
        assert!(is(&Token::written(&upper).unwrap().unwrap(), "abc"));
        for wrong in [
            "sha256:",
            &digest[..70],
            &format!("{digest}0"),
            &digest.replace('b', "+"),
            &digest.replace("ba", "é"),
        ] {
            assert_eq!(Token::written(wrong).unwrap_err(), TokenError::Digest);
        }
    }

    #[test]
    fn generated_tokens_are_random_and_travel_everywhere() {
        let (first, token) = Token::generate().unwrap();
        let (second, _) = Token::generate().unwrap();
        assert!(first.len() == 32 && first != second && is(&token, &first));
        let is_letter = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        assert!(first.bytes().all(is_letter), "{first}");
    }
}
