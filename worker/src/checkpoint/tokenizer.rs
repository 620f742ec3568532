//! The tokenizer's files, and Qwen's byte-level BPE built from them.
//!
//! Source: transformers `models/qwen2/tokenization_qwen2.py`.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use tokenizers::models::bpe::{BpeBuilder, Vocab};
use tokenizers::normalizers::unicode::NFC;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{AddedToken, PreTokenizerWrapper, SplitDelimiterBehavior, Tokenizer};

use serde::de::IgnoredAny;
use serde_json::Value;

use super::error::WeightsError;
use super::{folder, json};

/// How Qwen cuts text into words before the merges.
const WORDS: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// Entries of the Qwen vocabulary, which the added tokens follow.
const QWEN_VOCABULARY: usize = 151_643;

/// Qwen3's added tokens, from id 151643 on.
const QWEN3_ADDED: [&str; 26] = [
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|object_ref_start|>",
    "<|object_ref_end|>",
    "<|box_start|>",
    "<|box_end|>",
    "<|quad_start|>",
    "<|quad_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|vision_pad|>",
    "<|image_pad|>",
    "<|video_pad|>",
    "<tool_call>",
    "</tool_call>",
    "<|fim_prefix|>",
    "<|fim_middle|>",
    "<|fim_suffix|>",
    "<|fim_pad|>",
    "<|repo_name|>",
    "<|file_sep|>",
    "<tool_response>",
    "</tool_response>",
    "<think>",
    "</think>",
];

/// Largest file of a tokenizer that is read: Qwen's have up to 11 MB.
const MAX_BYTES: u64 = 128 << 20;

/// Tokens of the prompt's template; without them it would be read as plain text.
const TEMPLATE_TOKENS: [&str; 4] = ["<|im_start|>", "<|im_end|>", "<think>", "</think>"];

/// Where a tokenizer is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenizerFiles {
    /// A `tokenizer.json`, which holds everything.
    Json(PathBuf),
    /// A vocabulary and its merges.
    VocabMerges {
        /// `vocab.json`.
        vocab: PathBuf,
        /// `merges.txt`.
        merges: PathBuf,
        /// Files that give the added tokens their ids: `tokenizer_config.json`
        /// and `added_tokens.json`, as far as they are there.
        added: Vec<PathBuf>,
    },
}

impl TokenizerFiles {
    /// The tokenizer that lies in a folder, if one does. A link to nothing counts, to be told.
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

    /// The tokenizer that a person named: a folder, its `tokenizer.json`, or
    /// its `vocab.json`.
    ///
    /// # Errors
    /// There is none.
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

    /// Whether its files mention the chat markers that the prompt template
    /// needs, or are a vocabulary alone: tokenizers of CLIP or T5 are not ours.
    ///
    /// # Errors
    /// A file that would tell cannot be read, or is no JSON.
    pub(super) fn speaks_chat(&self) -> Result<bool, WeightsError> {
        match self {
            Self::Json(path) => mentions_chat(path),
            Self::VocabMerges { added, .. } => {
                let mut speaks = added.is_empty();
                for path in added {
                    speaks |= mentions_chat(path)?;
                }
                Ok(speaks)
            }
        }
    }

    /// The file that stands for the tokenizer in messages.
    pub fn path(&self) -> &Path {
        match self {
            Self::Json(path) => path,
            Self::VocabMerges { vocab, .. } => vocab,
        }
    }

    /// Reads the files and builds the tokenizer. `embeddings` is how many tokens the text
    /// encoder knows, where there is one.
    ///
    /// # Errors
    /// A file cannot be read, they do not make a tokenizer, or it is another model's.
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
                // The file also keeps how texts were last padded and cut when it was
                // written. transformers sets both anew on every call; so do we.
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
            } => build(vocab, merges, added),
        }
    }
}

/// Whether a file has the marker that begins a chat's message.
fn mentions_chat(path: &Path) -> Result<bool, WeightsError> {
    let text = folder::read_text(path, MAX_BYTES)?;
    let mentions = text.contains("<|im_start|>");
    if !mentions {
        // Another model's is whole; of one that is cut off nobody knows.
        serde_json::from_str::<IgnoredAny>(&text).map_err(|e| broken(path, not_json(&e)))?;
    }
    Ok(mentions)
}

/// Why the tokenizers library does not build a `tokenizer.json`. Its own words name types of
/// that library, and seldom what is wrong.
fn unbuilt(text: &str) -> String {
    match serde_json::from_str::<Value>(text) {
        Err(error) => not_json(&error),
        Ok(value) if value["model"].is_object() => "its form is not known to this ovis-worker: \
            it was written by another version of the tokenizers library, perhaps a newer one"
            .into(),
        Ok(_) => "it is no JSON object with a `model`".into(),
    }
}

fn not_json(error: &serde_json::Error) -> String {
    format!("it is not JSON ({error})")
}

fn broken(file: &Path, reason: impl ToString) -> WeightsError {
    WeightsError::Tokenizer {
        file: file.to_owned(),
        reason: reason.to_string(),
    }
}

fn build(vocab: &Path, merges: &Path, added: &[PathBuf]) -> Result<Tokenizer, WeightsError> {
    let broken = |reason: Box<dyn std::error::Error + Send + Sync>| broken(vocab, reason);
    let entries: HashMap<String, u32> = serde_json::from_str(&folder::read_text(vocab, MAX_BYTES)?)
        .map_err(|e| match e.is_data() {
            true => broken("it does not give each of its words a number from 0 on".into()),
            false => broken(not_json(&e).into()),
        })?;
    let mut words: Vocab = entries.into_iter().collect();
    let merges = read_merges(merges)?;
    let mut tokens = BTreeMap::new();
    for file in added.iter().rev() {
        tokens.extend(read_added(file)?);
    }
    complete(&mut tokens, words.len(), |word| words.get(word).copied());
    if tokens.is_empty() {
        return Err(broken(
            "no tokenizer_config.json or added_tokens.json names its special tokens".into(),
        ));
    }
    // Added tokens get the ids of their words in the model's vocabulary, so
    // they are entered there; no merge ever makes them.
    for (id, token) in &tokens {
        if words
            .insert(token.content.clone(), *id)
            .is_some_and(|old| old != *id)
        {
            return Err(broken(
                format!("`{}` has two ids, one of them {id}", token.content).into(),
            ));
        }
    }
    let mut by_id: Vec<_> = words.iter().map(|(word, id)| (*id, word)).collect();
    by_id.sort_unstable();
    if let Some(pair) = by_id.windows(2).find(|pair| pair[0].0 == pair[1].0) {
        return Err(broken(
            format!(
                "`{}` and `{}` have the same id {}",
                pair[0].1, pair[1].1, pair[0].0
            )
            .into(),
        ));
    }
    let model = BpeBuilder::new()
        .vocab_and_merges(words, merges)
        .build()
        .map_err(broken)?;
    let mut tokenizer = Tokenizer::new(model);
    let split = Split::new(
        SplitPattern::Regex(WORDS.into()),
        SplitDelimiterBehavior::Isolated,
        false,
    )
    .map_err(broken)?;
    let bytes = ByteLevel::new(false, true, false);
    tokenizer.with_normalizer(Some(NFC)).map_err(broken)?;
    tokenizer.with_pre_tokenizer(Some(Sequence::new(vec![
        PreTokenizerWrapper::Split(split),
        PreTokenizerWrapper::ByteLevel(bytes),
    ])));
    tokenizer.with_decoder(Some(ByteLevel::default()));
    tokenizer.add_tokens(tokens.into_values()).map_err(broken)?;
    Ok(tokenizer)
}

/// The pairs of a `merges.txt`, a line each.
fn read_merges(path: &Path) -> Result<Vec<(String, String)>, WeightsError> {
    let text = folder::read_text(path, MAX_BYTES)?;
    let lines = text.lines().enumerate();
    lines
        .filter(|(_, line)| !line.starts_with("#version"))
        .map(|(number, line)| match line.split_once(' ') {
            Some((left, right)) if !right.contains(' ') => Ok((left.into(), right.into())),
            _ => Err(broken(path, format!("its line {} is no pair", number + 1))),
        })
        .collect()
}

/// Gives Qwen3's meaning to ids that the files leave open or, being older than
/// Qwen3, use otherwise.
fn complete(
    tokens: &mut BTreeMap<u32, AddedToken>,
    vocabulary: usize,
    word: impl Fn(&str) -> Option<u32>,
) {
    let token = |content: &str| AddedToken::from(content, true).normalized(false);
    if tokens.is_empty() {
        // Nothing names them: they are in the vocabulary itself, or it is the
        // Qwen vocabulary, whose added tokens are known.
        for (content, id) in QWEN3_ADDED.iter().zip(QWEN_VOCABULARY as u32..) {
            let known = (vocabulary == QWEN_VOCABULARY).then_some(id);
            if let Some(id) = word(content).or(known) {
                tokens.insert(id, token(content));
            }
        }
    } else if vocabulary == QWEN_VOCABULARY && !tokens.values().any(|t| t.content == "<think>") {
        // The tokenizer of Qwen2 or 2.5: ids 151665 to 151668 came to mean
        // something else with Qwen3.
        for (content, id) in QWEN3_ADDED.iter().zip(QWEN_VOCABULARY as u32..).skip(22) {
            tokens.insert(id, token(content));
        }
    }
}

/// Added tokens by id, from a `tokenizer_config.json` or `added_tokens.json`.
fn read_added(path: &Path) -> Result<BTreeMap<u32, AddedToken>, WeightsError> {
    let value = json::read(path)?;
    let wrong = |what: &str| WeightsError::Json {
        file: path.to_owned(),
        reason: format!("its added token {what} is not understood"),
    };
    let mut tokens = BTreeMap::new();
    if path.ends_with("added_tokens.json") {
        for (content, id) in value.as_object().into_iter().flatten() {
            let id = id.as_u64().and_then(|id| u32::try_from(id).ok());
            let token = AddedToken::from(content.as_str(), true).normalized(false);
            tokens.insert(id.ok_or_else(|| wrong(content))?, token);
        }
    } else {
        for (id, fields) in value["added_tokens_decoder"]
            .as_object()
            .into_iter()
            .flatten()
        {
            let flag = |name: &str| fields[name].as_bool().unwrap_or(false);
            let content = fields["content"].as_str().ok_or_else(|| wrong(id))?;
            let token = AddedToken::from(content, flag("special"))
                .normalized(flag("normalized"))
                .lstrip(flag("lstrip"))
                .rstrip(flag("rstrip"))
                .single_word(flag("single_word"));
            tokens.insert(id.parse().map_err(|_| wrong(id))?, token);
        }
    }
    Ok(tokens)
}

#[cfg(test)]
mod tests {
    use tokenizers::{PaddingParams, PaddingStrategy, TruncationParams};

    use tokenizers::models::bpe::BPE;

    use super::*;

    fn completed(named: &[(&str, u32)], vocabulary: usize) -> BTreeMap<u32, String> {
        let mut tokens = named
            .iter()
            .map(|(content, id)| (*id, AddedToken::from(*content, true)))
            .collect();
        complete(&mut tokens, vocabulary, |_| None);
        let contents = tokens.into_iter().map(|(id, token)| (id, token.content));
        contents.collect()
    }

    #[test]
    fn an_older_qwen_tokenizer_gets_qwen3s_tokens() {
        let old = [
            ("<|im_start|>", 151_644),
            ("<|im_end|>", 151_645),
            ("<|img|>", 151_665),
        ];
        let tokens = completed(&old, QWEN_VOCABULARY);
        assert_eq!(tokens[&151_644], "<|im_start|>");
        assert_eq!(tokens[&151_665], "<tool_response>");
        assert_eq!(tokens[&151_667], "<think>");
        assert_eq!(tokens[&151_668], "</think>");
    }

    #[test]
    fn the_qwen_vocabulary_alone_gets_all_of_them() {
        let tokens = completed(&[], QWEN_VOCABULARY);
        assert_eq!(tokens.len(), QWEN3_ADDED.len());
        assert_eq!(tokens[&151_643], "<|endoftext|>");
        assert_eq!(tokens[&151_668], "</think>");
    }

    #[test]
    fn another_vocabulary_is_used_as_it_is() {
        let own = [("<|im_start|>", 300), ("<think>", 301)];
        assert_eq!(completed(&own, 300).len(), 2);
        assert!(completed(&[], 300).is_empty());
        let qwen3 = [("<think>", 151_667), ("<extra>", 151_665)];
        assert_eq!(completed(&qwen3, QWEN_VOCABULARY)[&151_665], "<extra>");
    }

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
