//! Recognises intact files that are not one part: all-in-one checkpoints and adapters.

use super::error::WeightsError;
use super::set::TensorSet;

/// Prefix of the transformer's names in an all-in-one checkpoint.
const OF_THE_TRANSFORMER: &str = "model.diffusion_model.";

/// Prefixes of the other parts' names there.
const OF_OTHER_PARTS: [&str; 6] = [
    "text_encoders.",
    "cond_stage_model.",
    "conditioner.",
    "text_model.",
    "vae.",
    "first_stage_model.",
];

/// Prefixes of components of an adapter's tensor names, as diffusers, peft, kohya and LyCORIS
/// write them.
const OF_ADAPTERS: [&str; 8] = [
    "lora_A",
    "lora_B",
    "lora_up",
    "lora_down",
    "lora_linear_layer",
    "hada_w",
    "lokr_w",
    "oft_blocks",
];

/// Refuses files that were opened as a part and are an all-in-one checkpoint or an adapter.
///
/// # Errors
/// [`WeightsError::AllInOne`] or [`WeightsError::Adapter`].
pub(super) fn refuse(part: &'static str, set: &TensorSet) -> Result<(), WeightsError> {
    let other = OF_OTHER_PARTS
        .iter()
        .find_map(|start| set.first_with(start));
    if let Some(other) = other.filter(|_| set.any_starts_with(OF_THE_TRANSFORMER)) {
        return Err(WeightsError::AllInOne {
            file: set.path().to_owned(),
            tensor: other.entry().name.clone(),
        });
    }
    // At least half of an adapter's tensors have such names; the others are its scales. A
    // model with some adapter tensors beside its own is refused later, as unknown tensors.
    let adapters = set.names().filter(|name| is_of_an_adapter(name)).count();
    match set.names().find(|name| is_of_an_adapter(name)) {
        Some(name) if 2 * adapters >= set.names().count() => Err(WeightsError::Adapter {
            file: set.path().to_owned(),
            part,
            tensor: name.to_owned(),
        }),
        _ => Ok(()),
    }
}

/// Whether a component of the name is an adapter's.
fn is_of_an_adapter(name: &str) -> bool {
    let mut pieces = name.split('.');
    pieces.any(|piece| OF_ADAPTERS.iter().any(|start| piece.starts_with(start)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_adapters() {
        let cases = [
            (
                "transformer.transformer_blocks.0.attn.to_q.lora_A.weight",
                true,
            ),
            ("base_model.model.x.lora_B.default.weight", true),
            (
                "lora_unet_double_blocks_0_img_attn_proj.lora_up.weight",
                true,
            ),
            ("lora_unet_double_blocks_0_img_attn_proj.hada_w1_a", true),
            ("double_blocks.0.img_attn.qkv.lokr_w2", true),
            ("lora_unet_double_blocks_0_img_attn_proj.alpha", false),
            ("double_blocks.0.img_attn.qkv.weight", false),
        ];
        for (name, is_one) in cases {
            assert_eq!(is_of_an_adapter(name), is_one, "{name}");
        }
    }
}
