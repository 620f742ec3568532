//! Which of the text encoder's tensors are quantized to what, as llama.cpp does it.
//!
//! Source: llama.cpp `src/llama-quant.cpp` (`llama_tensor_get_type_impl`,
//! `tensor_type_fallback`), for an architecture without experts, whose embedding table is also
//! its output, and without an importance matrix.

use super::super::geometry::Qwen3Config;
use super::super::source::StoredType;
use super::outputs::Output;
use super::target::Target;
use super::transformer_rules::unquantized;
use crate::quants::{BlockType, ByteType};

/// The type for a tensor of this canonical name.
pub(super) fn llama(output: &Output, config: &Qwen3Config, target: Target) -> StoredType {
    if output.shape.len() < 2 {
        return StoredType::F32;
    }
    match target {
        Target::Block(kind) => fitting(mixed(&output.canonical, config, kind), output.width()),
        target => target.stored(),
    }
}

/// The type for a tensor in ComfyUI's scaled fp8: 8-bit floats for the layers' matrices.
pub(super) fn scaled_fp8(output: &Output, source: &StoredType) -> StoredType {
    match output.shape.len() < 2 || !output.canonical.starts_with("layers.") {
        true => unquantized(output, source),
        false => StoredType::Byte(ByteType::E4m3),
    }
}

/// The type of a matrix in the mixture of a file of mostly `kind`.
fn mixed(canonical: &str, config: &Qwen3Config, kind: BlockType) -> BlockType {
    use BlockType::{Iq4Nl, Iq4Xs, Q2K, Q3K, Q4K, Q5K, Q6K, Q8_0};
    let Some((layer, name)) = canonical
        .strip_prefix("layers.")
        .and_then(|rest| rest.split_once('.'))
    else {
        // The embedding table.
        return if kind == Q8_0 { Q8_0 } else { Q6K };
    };
    let (layer, layers) = (layer.parse().unwrap_or(0usize), config.num_layers);
    let eighth = layers / 8;
    let more_bits =
        layer < eighth || layer >= 7 * layers / 8 || layer.saturating_sub(eighth) % 3 == 2;
    let many_queries = config.num_heads / config.num_kv_heads >= 4;
    match (name, kind) {
        ("self_attn.v_proj.weight", Q2K) if many_queries => Q4K,
        ("self_attn.v_proj.weight", Q2K) => Q3K,
        ("self_attn.v_proj.weight", Q3K) if layer < 2 => Q5K,
        ("self_attn.v_proj.weight", Q3K) => Q4K,
        ("self_attn.v_proj.weight", Iq4Nl | Iq4Xs) if many_queries => Q5K,
        ("self_attn.v_proj.weight" | "mlp.down_proj.weight", Q4K | Q5K) if more_bits => Q6K,
        ("self_attn.o_proj.weight" | "mlp.down_proj.weight", Q2K) => Q3K,
        ("self_attn.o_proj.weight", Q3K) => Q4K,
        ("mlp.down_proj.weight", Q3K) if layer < layers / 16 => Q5K,
        ("mlp.down_proj.weight", Q3K) => Q4K,
        ("mlp.down_proj.weight", Iq4Nl | Iq4Xs) if layer < eighth => Q5K,
        (_, kind) => kind,
    }
}

/// The type in place of one whose blocks do not divide a matrix's rows.
fn fitting(kind: BlockType, width: usize) -> StoredType {
    use BlockType::{Iq4Nl, Iq4Xs, Q2K, Q3K, Q4K, Q4_0, Q5K, Q5_0, Q5_1, Q6K, Q8_0};
    if width.is_multiple_of(kind.values()) {
        return StoredType::Block(kind);
    }
    let smaller = match kind {
        Q2K | Q3K => Q4_0,
        Iq4Xs => Iq4Nl,
        Q4K => Q5_0,
        Q5K => Q5_1,
        Q6K => Q8_0,
        kind => kind,
    };
    match width.is_multiple_of(smaller.values()) {
        true => StoredType::Block(smaller),
        false => StoredType::F16,
    }
}
