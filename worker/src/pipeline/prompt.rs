//! From a prompt to token ids: the chat template, tokenizing and cutting.
//!
//! Source: diffusers `pipeline_ovis_image.py` `_get_messages` and
//! `_get_ovis_prompt_embeds`; ComfyUI `text_encoders/ovis.py` beyond 256.

use tokenizers::Tokenizer;

use super::error::{Error, Result};

/// The sentence before every prompt in the model's training. The trailing space merges with the
/// prompt's first word when both are tokenized.
const SYSTEM_PROMPT: &str = "Describe the image by detailing the color, quantity, text, shape, \
size, texture, spatial relationships of the objects and background: ";

/// Qwen3's chat template for one user turn, up to the user's words.
const BEFORE: &str = "<|im_start|>user\n";

/// The end of the user's turn and the start of an answer with thinking off.
const AFTER: &str = "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n";

/// Number of the template's positions before the prompt. The encoder's output there is dropped.
pub const PREFIX_POSITIONS: usize = 28;

/// Length to which the reference cuts and pads prompts. Longer conditioning is not cut.
pub const MAX_CUT_LENGTH: usize = 256;

/// A prompt ready for the text encoder.
#[derive(Debug, PartialEq)]
pub struct TokenizedPrompt {
    /// Token ids of the whole templated prompt, cut if it is too long, and not padded.
    pub ids: Vec<u32>,
    /// Number of positions of the conditioning; those without a token are zero.
    pub length: usize,
    /// How many of the prompt's own tokens were cut off.
    pub lost_tokens: usize,
    /// How many tokens of the template's ending were cut off.
    pub lost_template_tokens: usize,
}

/// Checks the `max_sequence_length` of a request.
///
/// # Errors
/// [`Error::Invalid`] if it is 0.
pub fn check_length(max_sequence_length: usize) -> Result<()> {
    if max_sequence_length > 0 {
        return Ok(());
    }
    Err(Error::invalid(
        "max_sequence_length is 0, which leaves no room for the prompt",
        "Use 256, the model's own length.",
    ))
}

/// An upper bound of the tokens that [`tokenize`] makes of a prompt: one for each byte.
pub fn most_positions(prompt: &str, max_sequence_length: usize) -> usize {
    let template = BEFORE.len() + SYSTEM_PROMPT.len() + AFTER.len();
    let bytes = template + prompt.len();
    match max_sequence_length > MAX_CUT_LENGTH {
        true => bytes,
        false => bytes.min(PREFIX_POSITIONS + max_sequence_length),
    }
}

/// An upper bound of the conditioning's positions for a prompt of `bytes` bytes.
pub fn most_conditioning(bytes: usize, max_sequence_length: usize) -> usize {
    match max_sequence_length > MAX_CUT_LENGTH {
        true => (bytes + AFTER.len()).max(MAX_CUT_LENGTH),
        false => max_sequence_length,
    }
}

/// Puts a prompt into the chat template and tokenizes it. A `max_sequence_length` of up to
/// [`MAX_CUT_LENGTH`] cuts the tokens after the prefix to that length; with a larger one nothing
/// is cut, as in ComfyUI.
///
/// # Errors
/// The length is 0, or the tokenizer fails.
pub fn tokenize(
    tokenizer: &Tokenizer,
    prompt: &str,
    max_sequence_length: usize,
) -> Result<TokenizedPrompt> {
    check_length(max_sequence_length)?;
    let ids_of = |text: &str| -> Result<Vec<u32>> {
        let encoding = tokenizer
            .encode(text, false)
            .map_err(|e| Error::Tokenizer(e.to_string()))?;
        Ok(encoding.get_ids().to_vec())
    };
    let mut ids = ids_of(&format!("{BEFORE}{SYSTEM_PROMPT}{prompt}{AFTER}"))?;
    let needed = ids.len().saturating_sub(PREFIX_POSITIONS);
    if max_sequence_length > MAX_CUT_LENGTH {
        return Ok(TokenizedPrompt {
            ids,
            length: needed.max(MAX_CUT_LENGTH),
            lost_tokens: 0,
            lost_template_tokens: 0,
        });
    }
    let lost = needed.saturating_sub(max_sequence_length);
    // The ending starts with a special token, so it has the same tokens when tokenized alone.
    let lost_template_tokens = lost.min(ids_of(AFTER)?.len());
    ids.truncate(PREFIX_POSITIONS + max_sequence_length);
    Ok(TokenizedPrompt {
        ids,
        length: max_sequence_length,
        lost_tokens: lost - lost_template_tokens,
        lost_template_tokens,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::{Checkpoint, CheckpointArgs};

    /// The demo model's tokenizer.
    fn tokenizer() -> Tokenizer {
        let demo = concat!(env!("CARGO_MANIFEST_DIR"), "/demo/model");
        let args = CheckpointArgs {
            model: Some(demo.into()),
            ..CheckpointArgs::default()
        };
        let checkpoint = Checkpoint::open(&args).unwrap();
        let files = checkpoint.tokenizer.as_ref().unwrap();
        files.load(checkpoint.embeddings()).unwrap()
    }

    #[test]
    fn short_prompts_are_padded_and_long_ones_cut() {
        let tokenizer = tokenizer();
        let short = tokenize(&tokenizer, "a cat", 64).unwrap();
        assert_eq!((short.length, short.lost_tokens), (64, 0));
        let long = "many red cats ".repeat(100);
        let whole = tokenize(&tokenizer, &long, MAX_CUT_LENGTH + 1).unwrap();
        assert_eq!(whole.length, whole.ids.len() - PREFIX_POSITIONS);
        assert_eq!(whole.lost_tokens + whole.lost_template_tokens, 0);
        let cut = tokenize(&tokenizer, &long, 64).unwrap();
        assert_eq!(cut.ids, whole.ids[..PREFIX_POSITIONS + 64]);
        // The template's ending is at the end, so all of it is cut.
        let ending = tokenizer.encode(AFTER, false).unwrap().len();
        assert_eq!(cut.lost_template_tokens, ending);
        assert_eq!(cut.lost_tokens, whole.length - 64 - ending);
        assert!(tokenize(&tokenizer, "a cat", 0).is_err());
    }

    #[test]
    fn the_bounds_hold() {
        let tokenizer = tokenizer();
        for prompt in ["", "a cat", "猫が座っている", &"long ".repeat(200)] {
            for length in [1, 64, 256, 257] {
                let tokenized = tokenize(&tokenizer, prompt, length).unwrap();
                assert!(tokenized.ids.len() <= most_positions(prompt, length));
                assert!(tokenized.length <= most_conditioning(prompt.len(), length));
            }
        }
    }
}
