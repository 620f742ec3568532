//! Text that comes from files, made fit for one line of a terminal or a log.

use crate::text::{escape_into, is_unsafe};

/// Longest sentence that is shown, in characters.
const LONGEST_SENTENCE: usize = 2000;

/// Longest name that is shown inside a sentence, in characters.
const LONGEST_NAME: usize = 256;

/// A whole sentence on one line: see [`one_line`].
pub(super) fn sentence(text: &str) -> String {
    one_line(text, LONGEST_SENTENCE)
}

/// A name or value from a file or a path, fit to be shown: control characters, line
/// separators and what turns the writing direction are escaped, and the middle of a long
/// one is left out.
pub fn shown(text: &str) -> String {
    one_line(text, LONGEST_NAME)
}

fn one_line(text: &str, most: usize) -> String {
    let mut line = String::with_capacity(text.len().min(4 * most));
    let count = text.chars().count();
    // Of a long text the start says what it is and the end what is wrong with it.
    let (head, tail) = match count > most {
        true => (most / 2, most - most / 2),
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
