//! Qwen's byte-level BPE, built from a vocabulary and its merges.
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

use super::error::WeightsError;
use super::{folder, json};

/// Splits text into words, within which pairs are merged.
const WORDS: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// Size of the Qwen vocabulary, after which the ids of added tokens start.
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

/// Maximum size in bytes of a tokenizer's file. Qwen's have up to 11 MB.
pub(super) const MAX_BYTES: u64 = 128 << 20;

/// The reason of a JSON parser.
pub(super) fn not_json(error: &serde_json::Error) -> String {
    format!("it is not JSON ({error})")
}

/// The refusal of a tokenizer's file.
pub(super) fn broken(file: &Path, reason: impl ToString) -> WeightsError {
    WeightsError::Tokenizer {
        file: file.to_owned(),
        reason: reason.to_string(),
    }
}

/// Builds the tokenizer of a `vocab.json`, a `merges.txt` and files with added tokens.
///
/// # Errors
/// A file cannot be read, two tokens have the same id or a token has two, or nothing names
/// the added tokens.
pub(super) fn build(
    vocab: &Path,
    merges: &Path,
    added: &[PathBuf],
) -> Result<Tokenizer, WeightsError> {
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
    // The library takes an added token's id from the model's vocabulary, so they are entered
    // there. No merge produces them.
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

/// Reads the pairs of a `merges.txt`, one per line.
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

/// Adds Qwen3's tokens where the files name no added tokens, and replaces those whose ids have
/// another meaning in tokenizers older than Qwen3.
fn complete(
    tokens: &mut BTreeMap<u32, AddedToken>,
    vocabulary: usize,
    word: impl Fn(&str) -> Option<u32>,
) {
    let token = |content: &str| AddedToken::from(content, true).normalized(false);
    if tokens.is_empty() {
        // They are entries of the vocabulary, or it is the Qwen vocabulary, whose added tokens
        // are known.
        for (content, id) in QWEN3_ADDED.iter().zip(QWEN_VOCABULARY as u32..) {
            let known = (vocabulary == QWEN_VOCABULARY).then_some(id);
            if let Some(id) = word(content).or(known) {
                tokens.insert(id, token(content));
            }
        }
    } else if vocabulary == QWEN_VOCABULARY && !tokens.values().any(|t| t.content == "<think>") {
        // The tokenizer of Qwen2 or 2.5: Qwen3 gave ids 151665 to 151668 another meaning.
        for (content, id) in QWEN3_ADDED.iter().zip(QWEN_VOCABULARY as u32..).skip(22) {
            tokens.insert(id, token(content));
        }
    }
}

/// Reads added tokens by id from a `tokenizer_config.json` or `added_tokens.json`.
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
}
