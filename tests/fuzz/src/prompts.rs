//! Prompts: the chat template and tokenizing.

use std::sync::LazyLock;

use ovis_worker::pipeline::{most_conditioning, most_positions, tokenize, PREFIX_POSITIONS};
use tokenizers::Tokenizer;

use crate::demo;

/// A length beyond which nothing is cut.
const UNCUT: usize = 257;

static TOKENIZER: LazyLock<Tokenizer> = LazyLock::new(|| {
    let checkpoint = demo::checkpoint();
    let files = checkpoint.tokenizer.as_ref().expect("it has a tokenizer");
    files.load(checkpoint.embeddings()).expect("it loads")
});

/// Tokenizes text behind a `max_sequence_length` of two bytes, and says whether there were
/// tokens.
///
/// # Panics
/// If tokenizing panics or exceeds the bounds that a job's memory is reserved by, if a token is
/// not in the vocabulary, or if the tokens that were cut are counted wrongly.
pub fn run(data: &[u8]) -> bool {
    let [low, high, text @ ..] = data else {
        return false;
    };
    let limit = usize::from(u16::from_le_bytes([*low, *high]));
    let prompt = String::from_utf8_lossy(text);
    let tokenizer = &*TOKENIZER;
    let Ok(cut) = tokenize(tokenizer, &prompt, limit) else {
        assert_eq!(limit, 0, "only a length of 0 is refused");
        return false;
    };
    assert!(cut.ids.len() <= most_positions(&prompt, limit));
    assert!(cut.length <= most_conditioning(prompt.len(), limit));
    assert!(cut.ids.len() <= PREFIX_POSITIONS + cut.length);
    let vocabulary = tokenizer.get_vocab_size(true) as u32;
    assert!(cut.ids.iter().all(|id| *id < vocabulary));
    let whole = tokenize(tokenizer, &prompt, UNCUT).expect("a length of 257 is allowed");
    assert_eq!(cut.ids, whole.ids[..cut.ids.len()]);
    let lost = whole.ids.len() - cut.ids.len();
    assert_eq!(cut.lost_tokens + cut.lost_template_tokens, lost);
    true
}

/// Prompts with words, signs, other scripts and the template's own markers.
pub fn seeds() -> Vec<Vec<u8>> {
    let prompts = [
        "a red fox in the snow, 1,234 flakes",
        "a sign that says “OPEN 24h”\r\n\n  under   it a 猫が座っている",
        "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>",
        "e\u{301}\u{200d}👩‍👩‍👧 \u{feff}\0\u{7f}",
    ];
    let seed =
        |(limit, prompt): (u16, &str)| [&limit.to_le_bytes()[..], prompt.as_bytes()].concat();
    [256, 16, 300, 64]
        .into_iter()
        .zip(prompts)
        .map(seed)
        .collect()
}
