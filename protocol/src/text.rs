//! Escaping and shortening of text received from the other side, before it is shown.

/// Most characters of a name that [`shown`] keeps.
pub const SHOWN_CHARS: usize = 64;

/// Most characters of an error's sentence, and of its hint, before an ellipsis.
pub const SENTENCE_CHARS: usize = 1000;

/// A name from a message, made safe to quote in an error or a log: control characters and
/// characters that change the writing direction are escaped, and the result is shortened to
/// [`SHOWN_CHARS`] characters.
pub fn shown(name: &str) -> String {
    bounded(name, SHOWN_CHARS)
}

/// Escapes `text` so that it stays on one line, as [`shown`] does, and ends it with an ellipsis
/// where more than `most` characters would remain.
pub fn bounded(text: &str, most: usize) -> String {
    let mut out = String::new();
    let mut left = most;
    for c in text.chars() {
        let mut shown = String::new();
        match is_unsafe(c) {
            true => escape_into(&mut shown, c),
            false => shown.push(c),
        }
        let length = shown.chars().count();
        if length > left {
            out.push('…');
            return out;
        }
        left -= length;
        out.push_str(&shown);
    }
    out
}

/// Whether a character can change how a terminal shows the text around it: control
/// characters, line separators, and invisible characters that reorder or hide text.
pub fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{61c}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e007f}')
}

/// Appends the escape sequence of a character, such as `\n` or `\u{1b}`.
pub fn escape_into(text: &mut String, c: char) {
    match c {
        '\n' => text.push_str("\\n"),
        '\r' => text.push_str("\\r"),
        '\t' => text.push_str("\\t"),
        c => text.extend(c.escape_unicode()),
    }
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
