//! Finds a tokenizer's files and loads the tokenizer from them.

use std::path::{Path, PathBuf};

use serde::de::IgnoredAny;
use serde_json::Value;
use tokenizers::Tokenizer;

use super::error::WeightsError;
use super::folder;
use super::qwen_bpe::{self, broken, not_json, MAX_BYTES};

/// Tokens of the prompt template. A tokenizer without them would split the template's markers
/// as plain text.
const TEMPLATE_TOKENS: [&str; 4] = ["<|im_start|>", "<|im_end|>", "<think>", "</think>"];

/// The files of a tokenizer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenizerFiles {
    /// A `tokenizer.json`, which contains everything.
    Json(PathBuf),
    /// A vocabulary and its merges.
    VocabMerges {
        /// `vocab.json`.
        vocab: PathBuf,
        /// `merges.txt`.
        merges: PathBuf,
        /// Files with the ids of added tokens, those that exist of `tokenizer_config.json` and
        /// `added_tokens.json`.
        added: Vec<PathBuf>,
    },
}

impl TokenizerFiles {
    /// The tokenizer in a folder, if there is one. A `tokenizer.json` that is a link to nothing
    /// counts, so that it is reported when it is read.
    pub fn in_folder(folder: &Path) -> Option<Self> {
        let json = folder.join("tokenizer.json");
        if json.is_file() || json.is_symlink() {
            return Some(Self::Json(json));
        }
        Self::vocab_in(folder)
    }

    fn vocab_in(folder: &Path) -> Option<Self> {
        let file = |name: &str| Some(folder.join(name)).filter(|path| path.is_file());
        Some(Self::VocabMerges {
            vocab: file("vocab.json")?,
            merges: file("merges.txt")?,
            added: ["tokenizer_config.json", "added_tokens.json"]
                .into_iter()
                .filter_map(file)
                .collect(),
        })
    }

    /// The tokenizer that a person named by its folder, `tokenizer.json` or `vocab.json`.
    ///
    /// # Errors
    /// [`WeightsError::Tokenizer`] if the folder has none or one of two files is absent.
    pub fn named(path: &Path) -> Result<Self, WeightsError> {
        let none = |reason: &str| WeightsError::Tokenizer {
            file: path.to_owned(),
            reason: reason.into(),
        };
        if path.is_dir() {
            return Self::in_folder(path).ok_or_else(|| {
                none("the folder has neither tokenizer.json nor vocab.json with merges.txt")
            });
        }
        let folder = path.parent().unwrap_or(Path::new(""));
        match path.file_name().and_then(|n| n.to_str()) {
            Some("vocab.json" | "merges.txt") => Self::vocab_in(folder)
                .ok_or_else(|| none("vocab.json and merges.txt must lie side by side")),
            _ => Ok(Self::Json(path.to_owned())),
        }
    }

    /// Whether the files mention the chat markers of the prompt template, which tokenizers of
    /// other models such as CLIP and T5 do not have. A vocabulary without added tokens counts
    /// as well.
    ///
    /// # Errors
    /// A file cannot be read, or is damaged and does not mention them.
    pub(super) fn has_chat_markers(&self) -> Result<bool, WeightsError> {
        match self {
            Self::Json(path) => mentions_chat(path),
            Self::VocabMerges { added, .. } => {
                let mut has_markers = added.is_empty();
                for path in added {
                    has_markers |= mentions_chat(path)?;
                }
                Ok(has_markers)
            }
        }
    }

    /// The tokenizer's main file, for messages.
    pub fn path(&self) -> &Path {
        match self {
            Self::Json(path) => path,
            Self::VocabMerges { vocab, .. } => vocab,
        }
    }

    /// Reads the files and builds the tokenizer. `embeddings` is the size of the text encoder's
    /// embedding table, if there is a text encoder.
    ///
    /// # Errors
    /// A file cannot be read, no tokenizer can be built from the files, or it lacks the
    /// template's tokens or has ids beyond the embedding table.
    pub fn load(&self, embeddings: Option<usize>) -> Result<Tokenizer, WeightsError> {
        let tokenizer = self.build()?;
        let foreign = |reason: String| WeightsError::Tokenizer {
            file: self.path().to_owned(),
            reason: format!("it is another model's, since {reason}"),
        };
        let mut template = TEMPLATE_TOKENS.iter();
        if let Some(token) = template.find(|token| tokenizer.token_to_id(token).is_none()) {
            return Err(foreign(format!("it has no token `{token}`")));
        }
        let highest = tokenizer.get_vocab(true).into_values().max().unwrap_or(0);
        match embeddings {
            Some(known) if highest as usize >= known => Err(foreign(format!(
                "it has the token {highest}, and the text encoder knows {known}"
            ))),
            _ => Ok(tokenizer),
        }
    }

    fn build(&self) -> Result<Tokenizer, WeightsError> {
        match self {
            Self::Json(path) => {
                let text = folder::read_text(path, MAX_BYTES)?;
                let mut tokenizer =
                    Tokenizer::from_bytes(&text).map_err(|_| broken(path, unbuilt(&text)))?;
                // The file also stores the padding and truncation that were set when it was
                // written. transformers replaces both on every call.
                tokenizer.with_padding(None);
                tokenizer
                    .with_truncation(None)
                    .map_err(|e| broken(path, e))?;
                Ok(tokenizer)
            }
            Self::VocabMerges {
                vocab,
                merges,
                added,
            } => qwen_bpe::build(vocab, merges, added),
        }
    }
}

/// Whether a file contains the marker that begins a chat message.
fn mentions_chat(path: &Path) -> Result<bool, WeightsError> {
    let text = folder::read_text(path, MAX_BYTES)?;
    let mentions = text.contains("<|im_start|>");
    if !mentions {
        // An intact file belongs to another model. A truncated one may have lost the marker.
        serde_json::from_str::<IgnoredAny>(&text).map_err(|e| broken(path, not_json(&e)))?;
    }
    Ok(mentions)
}

/// The reason why the tokenizers library refuses a `tokenizer.json`. Its own message names
/// types of the library and seldom the fault.
fn unbuilt(text: &str) -> String {
    match serde_json::from_str::<Value>(text) {
        Err(error) => not_json(&error),
        Ok(value) if value["model"].is_object() => "its form is not known to this ovis-worker: \
            it was written by another version of the tokenizers library, perhaps a newer one"
            .into(),
        Ok(_) => "it is no JSON object with a `model`".into(),
    }
}

#[cfg(test)]
mod tests {
    use tokenizers::models::bpe::BPE;
    use tokenizers::{AddedToken, PaddingParams, PaddingStrategy, TruncationParams};

    use super::*;

    #[test]
    fn a_padding_kept_in_the_file_pads_no_prompt() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("tokenizer.json");
        let mut tokenizer = Tokenizer::new(BPE::default());
        let words = ["red", "fox"].map(|word| AddedToken::from(word, false));
        tokenizer.add_tokens(words).unwrap();
        tokenizer.with_padding(Some(PaddingParams {
            strategy: PaddingStrategy::Fixed(8),
            ..PaddingParams::default()
        }));
        let cut = TruncationParams {
            max_length: 1,
            ..TruncationParams::default()
        };
        tokenizer.with_truncation(Some(cut)).unwrap();
        tokenizer.save(&file, false).unwrap();
        let loaded = TokenizerFiles::Json(file).build().unwrap();
        assert_eq!(loaded.encode("redfox", false).unwrap().get_ids(), [0, 1]);
    }
}
