//! What llama.cpp wants to know of a Qwen3 language model.
//!
//! Source: llama.cpp `src/llama-arch.cpp` (keys), `src/llama-vocab.cpp` (`no_vocab`), gguf-py
//! `gguf/constants.py`.

use tokenizers::Tokenizer;

use super::super::geometry::Qwen3Config;
use super::super::gguf::Value;
use super::vocabulary;

/// Positions that the released model was trained for.
const CONTEXT_LENGTH: u32 = 40_960;

/// A number that fits the format's 32 bits: every dimension of a network does.
fn number(value: usize) -> Value {
    Value::U32(u32::try_from(value).unwrap_or(u32::MAX))
}

/// Metadata of a text encoder of this geometry, with the vocabulary of its tokenizer where it
/// is known, else with the number of tokens alone.
pub(super) fn metadata(
    config: &Qwen3Config,
    tokenizer: Option<&Tokenizer>,
) -> Vec<(String, Value)> {
    let numbers = [
        ("block_count", config.num_layers),
        ("embedding_length", config.hidden_size),
        ("feed_forward_length", config.intermediate_size),
        ("attention.head_count", config.num_heads),
        ("attention.head_count_kv", config.num_kv_heads),
        ("attention.key_length", config.head_dim),
        ("attention.value_length", config.head_dim),
        ("vocab_size", config.vocab_size),
    ];
    let mut values: Vec<_> = numbers
        .into_iter()
        .map(|(key, value)| (format!("qwen3.{key}"), number(value)))
        .collect();
    let fractions = [
        ("rope.freq_base", config.rope_theta),
        ("attention.layer_norm_rms_epsilon", config.rms_norm_eps),
    ];
    values.extend(fractions.map(|(key, value)| (format!("qwen3.{key}"), Value::F32(value as f32))));
    values.push(("qwen3.context_length".into(), Value::U32(CONTEXT_LENGTH)));
    let vocabulary =
        tokenizer.and_then(|tokenizer| vocabulary::metadata(tokenizer, config.vocab_size));
    values.extend(vocabulary.unwrap_or_else(|| {
        vec![(
            "tokenizer.ggml.model".into(),
            Value::Text("no_vocab".into()),
        )]
    }));
    values
}
