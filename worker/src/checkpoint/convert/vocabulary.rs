//! A tokenizer's vocabulary as llama.cpp stores it.

use serde_json::Value as Json;
use tokenizers::Tokenizer;

use super::super::gguf::Value;

/// llama.cpp's numbers of kinds of tokens (`enum llama_token_type`).
mod kind {
    pub const NORMAL: i32 = 1;
    pub const CONTROL: i32 = 3;
    pub const USER_DEFINED: i32 = 4;
    pub const UNUSED: i32 = 5;
}

/// Tokens with a role in Qwen's text, and the keys of their numbers.
const ROLES: [(&str, &str); 3] = [
    ("bos_token_id", "<|endoftext|>"),
    ("eos_token_id", "<|im_end|>"),
    ("padding_token_id", "<|endoftext|>"),
];

/// Metadata of a tokenizer for an embedding table of `rows` rows; `None` where the tokenizer
/// is no byte-level BPE as Qwen's is. Rows without a token get a placeholder.
pub(super) fn metadata(tokenizer: &Tokenizer, rows: usize) -> Option<Vec<(String, Value)>> {
    let json: Json = serde_json::from_str(&tokenizer.to_string(false).ok()?).ok()?;
    let model = &json["model"];
    let merges = model["merges"].as_array()?;
    let merges = merges.iter().map(merge).collect::<Option<Vec<_>>>()?;
    let mut tokens: Vec<_> = (0..rows).map(|row| format!("[PAD{row}]")).collect();
    let mut kinds = vec![kind::UNUSED; rows];
    let mut put = |text: &str, id: &Json, kind: i32| {
        let row = usize::try_from(id.as_u64()?).ok()?;
        *tokens.get_mut(row)? = text.to_owned();
        *kinds.get_mut(row)? = kind;
        Some(())
    };
    for (text, id) in model["vocab"].as_object()? {
        put(text, id, kind::NORMAL)?;
    }
    for token in json["added_tokens"].as_array()? {
        let kind = match token["special"].as_bool() {
            Some(true) => kind::CONTROL,
            _ => kind::USER_DEFINED,
        };
        put(token["content"].as_str()?, &token["id"], kind)?;
    }
    let mut metadata = vec![
        ("model".to_owned(), Value::Text("gpt2".into())),
        ("pre".to_owned(), Value::Text("qwen2".into())),
        ("tokens".to_owned(), Value::Texts(tokens)),
        ("token_type".to_owned(), Value::I32s(kinds)),
        ("merges".to_owned(), Value::Texts(merges)),
        ("add_bos_token".to_owned(), Value::Bool(false)),
    ];
    for (key, token) in ROLES {
        if let Some(id) = tokenizer.token_to_id(token) {
            metadata.push((key.to_owned(), Value::U32(id)));
        }
    }
    let metadata = metadata.into_iter();
    Some(
        metadata
            .map(|(key, value)| (format!("tokenizer.ggml.{key}"), value))
            .collect(),
    )
}

/// A merge as `left right`, from that text or a list of both.
fn merge(merge: &Json) -> Option<String> {
    if let Some(text) = merge.as_str() {
        return Some(text.to_owned());
    }
    match &merge.as_array()?[..] {
        [left, right] => Some(format!("{} {}", left.as_str()?, right.as_str()?)),
        _ => None,
    }
}
