//! Which of the transformer's tensors are quantized, as the writers of each layout do it.

use super::super::source::StoredType;
use super::outputs::Output;
use super::target::Target;
use crate::quants::{BlockType, ByteType};

/// First parts of the names of tensors that both writers keep: the network's ends.
const ENDS: [&str; 4] = ["img_in.", "txt_in.", "time_in.", "final_layer."];

/// Most values of a tensor that ComfyUI-GGUF's converter stores in float32.
const SMALL: usize = 1024;

fn is_end(output: &Output) -> bool {
    ENDS.iter().any(|end| output.name.starts_with(end))
}

/// The type for a tensor in ComfyUI-GGUF's layout: its converter stores vectors and small
/// tensors in float32, and its llama.cpp quantizes matrices except the network's ends. It
/// stores the joint query, key and value projections of the double blocks finer in the
/// mixtures M, and matrices whose rows are no whole blocks in half precision.
pub(super) fn comfyui(output: &Output, source: &StoredType, target: Target) -> StoredType {
    if output.shape.len() < 2 || output.values() <= SMALL {
        return StoredType::F32;
    }
    let Target::Block(kind) = target else {
        return target.stored();
    };
    if is_end(output) {
        return match source {
            StoredType::Bf16 => StoredType::Bf16,
            _ => StoredType::F16,
        };
    }
    let kind = match kind {
        BlockType::Q3K if is_qkv(output) => BlockType::Q4K,
        BlockType::Q4K if is_qkv(output) => BlockType::Q5K,
        BlockType::Q5K if is_qkv(output) => BlockType::Q6K,
        kind => kind,
    };
    in_whole_blocks(output, kind).unwrap_or(StoredType::F16)
}

fn is_qkv(output: &Output) -> bool {
    output.name.ends_with("attn.qkv.weight")
}

fn in_whole_blocks(output: &Output, kind: BlockType) -> Option<StoredType> {
    let fits = output.width().is_multiple_of(kind.values());
    fits.then_some(StoredType::Block(kind))
}

/// The type for a tensor in stable-diffusion.cpp's layout: biases, norms, the network's ends,
/// and matrices whose rows are no whole blocks keep the type they have.
pub(super) fn sd_cpp(output: &Output, source: &StoredType, target: Target) -> StoredType {
    let kept = is_end(output) || output.name.ends_with(".bias") || output.name.ends_with(".scale");
    let stored = match target {
        _ if kept => None,
        Target::Block(kind) => in_whole_blocks(output, kind),
        target => Some(target.stored()),
    };
    stored.unwrap_or_else(|| unquantized(output, source))
}

/// The type for a tensor in ComfyUI's scaled fp8: 8-bit floats for the matrices that are
/// quantized in the other layouts.
pub(super) fn scaled_fp8(output: &Output, source: &StoredType) -> StoredType {
    match output.shape.len() < 2 || is_end(output) {
        true => unquantized(output, source),
        false => StoredType::Byte(ByteType::E4m3),
    }
}

/// The type of a tensor that keeps its own: float32, half precision or bfloat16. Vectors of
/// other types become float32, and matrices half precision.
pub(super) fn unquantized(output: &Output, source: &StoredType) -> StoredType {
    match source {
        StoredType::F32 | StoredType::F16 | StoredType::Bf16 => source.clone(),
        StoredType::F64 => StoredType::F32,
        _ if output.shape.len() < 2 => StoredType::F32,
        _ => StoredType::F16,
    }
}
