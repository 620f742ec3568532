//! Makes text from files safe for one line of a terminal or a log.

use crate::text::{escape_into, is_unsafe};

/// Maximum length of a sentence in characters.
const LONGEST_SENTENCE: usize = 2000;

/// Maximum length of a name inside a sentence in characters.
const LONGEST_NAME: usize = 256;

/// Makes a whole sentence safe, as [`shown`] does a name.
pub(super) fn sentence(text: &str) -> String {
    one_line(text, LONGEST_SENTENCE)
}

/// Makes a name or value from a file or path safe to show: control characters, line
/// separators and characters that change the writing direction are escaped, and the middle
/// of a long text is omitted.
pub fn shown(text: &str) -> String {
    one_line(text, LONGEST_NAME)
}

fn one_line(text: &str, max_length: usize) -> String {
    let mut line = String::with_capacity(text.len().min(4 * max_length));
    let count = text.chars().count();
    // The start of a long text says what it is, and the end what is wrong with it.
    let (head, tail) = match count > max_length {
        true => (max_length / 2, max_length - max_length / 2),
        false => (count, 0),
    };
    let mut push = |c: char| match is_unsafe(c) {
        true => escape_into(&mut line, c),
        false => line.push(c),
    };
    text.chars().take(head).for_each(&mut push);
    if tail > 0 {
        " … ".chars().for_each(&mut push);
        text.chars().skip(count - tail).for_each(&mut push);
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_moves_the_cursor_is_escaped() {
        assert_eq!(shown("a\nb\x1b[31m\u{85}c"), r"a\nb\u{1b}[31m\u{85}c");
        assert_eq!(shown("x\u{202e}y\u{2028}z"), r"x\u{202e}y\u{2028}z");
        assert_eq!(shown("模型 ä.safetensors"), "模型 ä.safetensors");
    }

    #[test]
    fn a_long_text_keeps_its_ends() {
        let long = format!("start{}end", "x".repeat(1 << 20));
        let line = shown(&long);
        assert!(line.starts_with("startx") && line.ends_with("xend"));
        assert!(line.chars().count() <= LONGEST_NAME + 3);
    }
}
