//! llama.cpp's names of a Qwen3 language model's tensors, and transformers' for them.
//!
//! Source: llama.cpp `src/llama-arch.cpp` (`LLM_ARCH_QWEN3`), gguf-py
//! `gguf/tensor_mapping.py`.

/// The embedding table, by which llama.cpp's names are recognised.
pub const EMBEDDING: &str = "token_embd.weight";

/// Names outside the layers: llama.cpp's, and transformers'.
const PLAIN: [(&str, &str); 3] = [
    ("token_embd", "embed_tokens"),
    ("output_norm", "norm"),
    ("output", "lm_head"),
];

/// Names in a layer.
const IN_LAYER: [(&str, &str); 11] = [
    ("attn_norm", "input_layernorm"),
    ("attn_q", "self_attn.q_proj"),
    ("attn_k", "self_attn.k_proj"),
    ("attn_v", "self_attn.v_proj"),
    ("attn_output", "self_attn.o_proj"),
    ("attn_q_norm", "self_attn.q_norm"),
    ("attn_k_norm", "self_attn.k_norm"),
    ("ffn_norm", "post_attention_layernorm"),
    ("ffn_gate", "mlp.gate_proj"),
    ("ffn_up", "mlp.up_proj"),
    ("ffn_down", "mlp.down_proj"),
];

fn other<'a>(table: &[(&'a str, &'a str)], name: &str, back: bool) -> Option<&'a str> {
    let mut pairs = table.iter();
    let found = pairs.find(|(llama, ours)| name == if back { *ours } else { *llama });
    found.map(|(llama, ours)| if back { *llama } else { *ours })
}

fn renamed(name: &str, from: &str, to: &str, back: bool) -> Option<String> {
    let (stem, end) = name.rsplit_once('.')?;
    if let Some(new) = other(&PLAIN, stem, back) {
        return Some(format!("{new}.{end}"));
    }
    let (layer, inner) = stem.strip_prefix(from)?.split_once('.')?;
    let new = other(&IN_LAYER, inner, back)?;
    Some(format!("{to}{layer}.{new}.{end}"))
}

/// transformers' name of one of llama.cpp's; names that llama.cpp does not have stay.
pub fn to_transformers(name: &str) -> String {
    renamed(name, "blk.", "layers.", false).unwrap_or_else(|| name.to_owned())
}

/// llama.cpp's name of one of transformers' canonical ones, if it has one.
pub fn to_llama(name: &str) -> Option<String> {
    renamed(name, "layers.", "blk.", true)
}

#[cfg(test)]
mod tests {
    use super::super::super::qwen3;
    use super::super::super::test_files::text_encoder_geometry;
    use super::*;

    #[test]
    fn every_name_has_one_of_llama() {
        for tensor in qwen3::map(&text_encoder_geometry()).tensors() {
            let llama = to_llama(&tensor.name).unwrap();
            assert_eq!(to_transformers(&llama), tensor.name);
        }
        for (llama, ours) in [
            ("token_embd.weight", "embed_tokens.weight"),
            (
                "blk.27.attn_q_norm.weight",
                "layers.27.self_attn.q_norm.weight",
            ),
            ("blk.0.attn_q.bias", "layers.0.self_attn.q_proj.bias"),
            ("output.weight", "lm_head.weight"),
            ("rope_freqs.weight", "rope_freqs.weight"),
        ] {
            assert_eq!(to_transformers(llama), ours);
        }
    }
}
