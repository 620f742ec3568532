//! From a prompt to token ids: chat template, tokenizing, cutting.
//!
//! Source: diffusers `pipeline_ovis_image.py` `_get_messages` and
//! `_get_ovis_prompt_embeds`; ComfyUI `text_encoders/ovis.py` beyond 256.

use tokenizers::Tokenizer;

use super::error::{Error, Result};

/// What the model was trained to read before every prompt. The trailing space
/// merges with the prompt's first word.
const SYSTEM_PROMPT: &str = "Describe the image by detailing the color, quantity, text, shape, \
size, texture, spatial relationships of the objects and background: ";

/// Qwen3's chat template for one user turn, up to the user's words.
const BEFORE: &str = "<|im_start|>user\n";

/// The end of the user's turn and the start of an answer with thinking off.
const AFTER: &str = "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n";

/// Positions of the template before the prompt; the encoder's output there is
/// dropped.
pub const PREFIX_POSITIONS: usize = 28;

/// The longest prompt the reference takes, and the length it pads to.
pub const MAX_CUT_LENGTH: usize = 256;

/// A prompt ready for the text encoder.
#[derive(Debug, PartialEq)]
pub struct TokenizedPrompt {
    /// Token ids of the whole templated prompt, cut if it was too long, without
    /// padding.
    pub ids: Vec<u32>,
    /// Positions the conditioning has; those without a token are zero.
    pub length: usize,
    /// The prompt's own tokens that were cut off.
    pub lost_tokens: usize,
    /// Tokens of the template's ending that were cut off.
    pub lost_template_tokens: usize,
}

/// Checks a `max_sequence_length` by itself, before a model is there.
///
/// # Errors
/// It is zero.
pub fn check_length(max_sequence_length: usize) -> Result<()> {
    if max_sequence_length > 0 {
        return Ok(());
    }
    Err(Error::invalid(
        "max_sequence_length is 0, which leaves no room for the prompt",
        "Use 256, the model's own length.",
    ))
}

/// The most positions that [`tokenize`] can make of a prompt, one a byte, without tokenizing.
pub fn most_positions(prompt: &str, max_sequence_length: usize) -> usize {
    let template = BEFORE.len() + SYSTEM_PROMPT.len() + AFTER.len();
    let bytes = template + prompt.len();
    match max_sequence_length > MAX_CUT_LENGTH {
        true => bytes,
        false => bytes.min(PREFIX_POSITIONS + max_sequence_length),
    }
}

/// The most positions that the conditioning of a prompt of so many bytes can have.
pub fn most_conditioning(bytes: usize, max_sequence_length: usize) -> usize {
    match max_sequence_length > MAX_CUT_LENGTH {
        true => (bytes + AFTER.len()).max(MAX_CUT_LENGTH),
        false => max_sequence_length,
    }
}

/// Puts a prompt into the chat template and tokenizes it. With a
/// `max_sequence_length` up to [`MAX_CUT_LENGTH`] the tokens behind the prefix
/// are cut to it; above, they are not cut, as in ComfyUI.
///
/// # Errors
/// The tokenizer fails, or the length is zero.
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
    // The ending starts with a special token, so it tokenizes alike on its own.
    let lost_template_tokens = lost.min(ids_of(AFTER)?.len());
    ids.truncate(PREFIX_POSITIONS + max_sequence_length);
    Ok(TokenizedPrompt {
        ids,
        length: max_sequence_length,
        lost_tokens: lost - lost_template_tokens,
        lost_template_tokens,
    })
}
