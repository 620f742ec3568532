//! Texts from the other side, made fit to be shown.

/// Most characters of a name from a message that a sentence repeats.
pub const SHOWN_CHARS: usize = 64;

/// Most characters of an error's sentence, and of its hint.
pub const SENTENCE_CHARS: usize = 1000;

/// A name from a message as a sentence or a log may repeat it: control characters and what
/// reverses the direction of writing are escaped, and no more than [`SHOWN_CHARS`] characters
/// are left.
pub fn shown(name: &str) -> String {
    bounded(name, SHOWN_CHARS)
}

/// `text` on one line, escaped as [`shown`] does, with an ellipsis where more than `most`
/// characters would be left.
pub fn bounded(text: &str, most: usize) -> String {
    let mut out = String::new();
    let mut left = most;
    for c in text.chars() {
        let escaped = escape(c);
        let length = escaped.as_ref().map_or(1, String::len);
        if length > left {
            out.push('…');
            return out;
        }
        left -= length;
        match escaped {
            Some(escaped) => out.push_str(&escaped),
            None => out.push(c),
        }
    }
    out
}

/// How a character that must not be shown as it is, is shown.
fn escape(c: char) -> Option<String> {
    let reverses =
        matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let breaks = matches!(c, '\u{2028}' | '\u{2029}');
    (c.is_control() || reverses || breaks).then(|| c.escape_default().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_one_line_of_bounded_length() {
        for (text, wanted) in [
            ("euler", "euler"),
            ("油画 “x”", "油画 “x”"),
            ("a\nb\r\x1b[31m\0", "a\\nb\\r\\u{1b}[31m\\u{0}"),
            ("\u{202e}txt\u{2028}", "\\u{202e}txt\\u{2028}"),
        ] {
            assert_eq!(shown(text), wanted);
        }
        let long = shown(&"é".repeat(1 << 20));
        assert_eq!(long, format!("{}…", "é".repeat(SHOWN_CHARS)));
        let escapes = shown(&"\n".repeat(1 << 20));
        assert!(escapes.chars().count() <= SHOWN_CHARS + 1, "{escapes}");
    }
}
