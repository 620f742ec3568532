//! Escaping and shortening of untrusted text for logs, terminals and JSON.

use std::any::Any;
use std::borrow::Cow;
use std::fmt;

pub use ovis_protocol::{escape_into, is_unsafe};

/// What a character that will be escaped counts for in a [`Bounded`] text: the length of
/// `\u{10ffff}`.
const ESCAPED_COST: usize = 10;

/// The first line of an error's message. Candle's errors append a backtrace when
/// `RUST_BACKTRACE` is set.
pub fn first_line(error: &impl fmt::Display) -> String {
    let text = error.to_string();
    text.lines().next().unwrap_or_default().to_owned()
}

/// The message of a panic.
pub fn panic_text(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no reason given")
}

/// Escapes control characters, so that the text stays on one line and a terminal shows it as it
/// is: a newline becomes `\n`, an escape character `\u{1b}`.
pub fn clean(text: &str) -> Cow<'_, str> {
    clean_except(text, &[])
}

/// Escapes control characters like [`clean`], except newlines and tabs.
pub fn clean_lines(text: &str) -> Cow<'_, str> {
    clean_except(text, &['\n', '\t'])
}

fn clean_except<'a>(text: &'a str, kept: &[char]) -> Cow<'a, str> {
    let is_bad = |c: char| is_unsafe(c) && !kept.contains(&c);
    if !text.contains(is_bad) {
        return text.into();
    }
    let mut cleaned = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match is_bad(c) {
            true => escape_into(&mut cleaned, c),
            false => cleaned.push(c),
        }
    }
    cleaned.into()
}

/// A value for `key=value`: unquoted where that is unambiguous, else in double quotes.
pub fn quoted(value: &str) -> String {
    let is_plain = |c: char| !is_unsafe(c) && !c.is_whitespace() && !matches!(c, '"' | '=' | '\\');
    if !value.is_empty() && value.chars().all(is_plain) {
        return value.to_owned();
    }
    let mut text = String::with_capacity(value.len() + 2);
    text.push('"');
    for c in value.chars() {
        match c {
            '"' | '\\' => text.extend(['\\', c]),
            c if is_unsafe(c) => escape_into(&mut text, c),
            c => text.push(c),
        }
    }
    text.push('"');
    text
}

/// The first `limit` bytes of a text, followed by its full length if it is longer.
pub fn excerpt(text: &str, limit: usize) -> String {
    let mut bounded = Bounded::new(limit);
    bounded.push(text);
    bounded.finish().0
}

/// Appends a character as JSON's `\u` escapes: one, or two for a surrogate pair.
pub fn escape_json_into(text: &mut String, c: char) {
    for unit in c.encode_utf16(&mut [0; 2]) {
        text.push_str(&format!("\\u{unit:04x}"));
    }
}

/// A text that stops growing at a limit, however much is written to it. A character that will be
/// escaped counts with the length of its escape sequence.
pub struct Bounded {
    text: String,
    cost: usize,
    limit: usize,
    bytes: usize,
}

impl Bounded {
    /// An empty text of at most `limit` bytes, to which [`finish`](Self::finish) may add a note.
    pub fn new(limit: usize) -> Self {
        Self {
            text: String::new(),
            cost: 0,
            limit,
            bytes: 0,
        }
    }

    /// The text and the share of the limit that it took. If not all of it was kept, a note at
    /// its end has its full length.
    pub fn finish(self) -> (String, usize) {
        let Self {
            mut text,
            cost,
            bytes,
            ..
        } = self;
        if bytes > text.len() {
            text.push_str(&format!("… ({bytes} bytes)"));
        }
        (text, cost)
    }
}

impl fmt::Write for Bounded {
    fn write_str(&mut self, written: &str) -> fmt::Result {
        self.push(written);
        Ok(())
    }
}

impl Bounded {
    fn push(&mut self, written: &str) {
        let is_whole = self.bytes == self.text.len();
        self.bytes += written.len();
        if !is_whole {
            return;
        }
        for c in written.chars() {
            let cost = match is_unsafe(c) {
                true => ESCAPED_COST,
                false => c.len_utf8(),
            };
            if self.cost + cost > self.limit {
                break;
            }
            self.cost += cost;
            self.text.push(c);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;

    #[test]
    fn nothing_that_a_terminal_obeys_is_left() {
        for (dirty, expected) in [
            (
                "plain — 雪 👩\u{200d}🎨 e\u{301}",
                "plain — 雪 👩\u{200d}🎨 e\u{301}",
            ),
            ("a\nb\r\tc", "a\\nb\\r\\tc"),
            ("\u{1b}[31m", "\\u{1b}[31m"),
            ("\u{9b}2J\u{7f}\0", "\\u{9b}2J\\u{7f}\\u{0}"),
            (
                "a\u{202e}b\u{2028}c\u{feff}",
                "a\\u{202e}b\\u{2028}c\\u{feff}",
            ),
            ("C:\\new", "C:\\new"),
        ] {
            assert_eq!(clean(dirty), expected);
        }
        assert_eq!(clean_lines("a\n\tb\u{1b}"), "a\n\tb\\u{1b}");
    }

    #[test]
    fn a_value_cannot_pass_for_another_field() {
        for (value, expected) in [
            ("plain-1.5", "plain-1.5"),
            ("", "\"\""),
            ("two words", "\"two words\""),
            ("x error=y", "\"x error=y\""),
            ("a\"b\\c\n", "\"a\\\"b\\\\c\\n\""),
        ] {
            assert_eq!(quoted(value), expected);
        }
    }

    #[test]
    fn a_bounded_text_says_how_long_it_was() {
        let mut text = Bounded::new(8);
        text.write_str("0123").unwrap();
        text.write_str("456789").unwrap();
        text.write_str("more").unwrap();
        assert_eq!(text.finish(), ("01234567… (14 bytes)".to_owned(), 8));

        let mut text = Bounded::new(8);
        text.write_str("whole").unwrap();
        assert_eq!(text.finish(), ("whole".to_owned(), 5));

        let mut text = Bounded::new(24);
        text.write_str(&"\u{1b}".repeat(1000)).unwrap();
        assert_eq!(text.finish().0, "\u{1b}\u{1b}… (1000 bytes)");
    }

    #[test]
    fn a_cut_is_not_followed_by_shorter_text() {
        let mut text = Bounded::new(4);
        text.write_str("abc雪").unwrap();
        text.write_str("d").unwrap();
        assert_eq!(text.finish().0, "abc… (7 bytes)");
    }
}
