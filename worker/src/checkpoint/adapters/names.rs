//! Which tensor and rows of the model an adapter's module changes, by its name in the file.
//!
//! The names of modules are those of the model's tensors in any layout that checkpoints have, from
//! the same maps, so that the splits and orders of fused rows are written down once. Adapters put
//! prefixes before them, and kohya's and LyCORIS's have `_` for every `.`.

use super::places::{Modules, Target};
use crate::checkpoint::geometry::{MmditConfig, Qwen3Config};
use crate::checkpoint::mmdit_names::{canonical_map, diffusers_map};
use crate::checkpoint::{mmdit, qwen3};

/// A part of the model that adapters change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Part {
    Transformer,
    TextEncoder,
}

/// The modules of a model, by all names that adapters have for them.
#[derive(Debug)]
pub(super) struct Names {
    transformer: Modules,
    text_encoder: Modules,
}

/// Where peft's models keep the model that they wrap.
const WRAPPER: &str = "base_model.model.";

/// Prefixes of kohya's, OneTrainer's and LyCORIS's names of the transformer.
const TRANSFORMER_STEMS: [&str; 6] = [
    "lora_unet_",
    "lora_transformer_",
    "lycoris_unet_",
    "lycoris_transformer_",
    "lycoris_",
    "oft_unet_",
];

/// The same of the text encoder.
const TEXT_STEMS: [&str; 6] = [
    "lora_te_",
    "lora_te1_",
    "lora_te2_",
    "lora_text_encoder_",
    "lycoris_te_",
    "lycoris_text_encoder_",
];

/// What may stand between such a prefix and the names of the text encoder.
const TEXT_STEM_ENDS: [&str; 4] = [
    "",
    "model_",
    "transformer_model_",
    "qwen3_2b_transformer_model_",
];

/// Prefixes of dotted names of the text encoder: diffusers', and those of ComfyUI's map of all
/// text encoders, which names this one `qwen3_2b`.
const TEXT_PREFIXES: [&str; 5] = [
    "text_encoders.qwen3_2b.transformer.",
    "text_encoders.",
    "text_encoder.",
    "te.",
    "",
];

/// Blocks that a part may have whose geometry is not known.
const ANY_DEPTH: usize = 64;

/// A transformer of which only the names matter.
const ANY_TRANSFORMER: MmditConfig = MmditConfig {
    in_channels: 4,
    context_dim: 1,
    hidden_size: 1,
    num_heads: 1,
    mlp_hidden: 1,
    depth_double: ANY_DEPTH,
    depth_single: ANY_DEPTH,
    axes_dim: [0; 3],
    theta: 1.0,
};

/// A text encoder of which only the names matter.
const ANY_TEXT_ENCODER: Qwen3Config = Qwen3Config {
    vocab_size: 1,
    hidden_size: 1,
    intermediate_size: 1,
    num_layers: ANY_DEPTH,
    num_heads: 1,
    num_kv_heads: 1,
    head_dim: 1,
    rope_theta: 1.0,
    rms_norm_eps: 1.0,
};

/// A module that was found.
pub(super) struct Found<'a> {
    pub part: Part,
    pub target: &'a Target,
    /// The file's prefix of the module's name.
    pub prefix: String,
}

impl Names {
    /// The names of a model of these geometries. For a part without one, the names are those of
    /// any depth up to [`ANY_DEPTH`], and shapes have no meaning.
    pub fn new(transformer: Option<&MmditConfig>, text_encoder: Option<&Qwen3Config>) -> Self {
        let mut names = Self {
            transformer: Modules::default(),
            text_encoder: Modules::default(),
        };
        let transformer = transformer.unwrap_or(&ANY_TRANSFORMER);
        names.transformer.add(&canonical_map(transformer));
        names.transformer.add(&diffusers_map(transformer));
        let text_encoder = text_encoder.unwrap_or(&ANY_TEXT_ENCODER);
        names.text_encoder.add(&qwen3::map(text_encoder));
        names
    }

    /// The module of this name in a file.
    pub fn find(&self, module: &str) -> Option<Found<'_>> {
        self.find_dotted(module).or_else(|| self.find_stem(module))
    }

    fn find_dotted(&self, module: &str) -> Option<Found<'_>> {
        let found = |part, target, rest: &str| Found {
            part,
            target,
            prefix: module[..module.len() - rest.len()].to_owned(),
        };
        let inner = module.strip_prefix(WRAPPER).unwrap_or(module);
        for prefix in mmdit::PREFIXES {
            let Some(rest) = inner.strip_prefix(prefix) else {
                continue;
            };
            let rest = rest.strip_prefix(WRAPPER).unwrap_or(rest);
            let name = rest.strip_prefix(mmdit::SEMANTIC).unwrap_or(rest);
            if let Some(target) = self.transformer.dotted.get(name) {
                return Some(found(Part::Transformer, target, rest));
            }
        }
        for prefix in TEXT_PREFIXES {
            let Some(rest) = inner.strip_prefix(prefix) else {
                continue;
            };
            let rest = rest.strip_prefix(WRAPPER).unwrap_or(rest);
            for inner in qwen3::PREFIXES {
                let Some(name) = rest.strip_prefix(inner) else {
                    continue;
                };
                if let Some(target) = self.text_encoder.dotted.get(name) {
                    return Some(found(Part::TextEncoder, target, name));
                }
            }
        }
        None
    }

    fn find_stem(&self, module: &str) -> Option<Found<'_>> {
        for stem in TEXT_STEMS {
            let Some(rest) = module.strip_prefix(stem) else {
                continue;
            };
            for end in TEXT_STEM_ENDS {
                let name = rest.strip_prefix(end);
                if let Some(target) = name.and_then(|name| self.text_encoder.underscored(name)) {
                    return Some(Found {
                        part: Part::TextEncoder,
                        target,
                        prefix: format!("{stem}{end}"),
                    });
                }
            }
        }
        TRANSFORMER_STEMS.iter().find_map(|stem| {
            let rest = module.strip_prefix(stem)?;
            let name = rest.strip_prefix(mmdit::SEMANTIC).unwrap_or(rest);
            Some(Found {
                part: Part::Transformer,
                target: self.transformer.underscored(name)?,
                prefix: (*stem).to_owned(),
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use std::ops::Range;

    use super::*;
    use crate::checkpoint::test_files::{text_encoder_geometry, transformer_geometry};

    fn names() -> Names {
        let (transformer, text_encoder) = (transformer_geometry(), text_encoder_geometry());
        Names::new(Some(&transformer), Some(&text_encoder))
    }

    /// The place of a module's weight: tensor, rows and shape.
    fn place(module: &str) -> (String, Vec<Range<usize>>, Vec<usize>) {
        let names = names();
        let found = names.find(module).unwrap_or_else(|| panic!("{module}"));
        let place = found.target.weight.clone().unwrap();
        (place.tensor, place.rows, place.shape)
    }

    #[test]
    fn every_layout_finds_its_rows() {
        // Width 32, MLPs of 16: linear1 is q, k, v, up, gate.
        let linear1 = "single_blocks.0.linear1.weight";
        let block = "single_transformer_blocks.0";
        let cases = [
            (
                format!("transformer.{block}.attn.to_k"),
                linear1,
                32..64,
                32,
            ),
            (format!("{block}.proj_mlp"), linear1, 96..128, 32),
            (
                format!("base_model.model.{block}.proj_mlp"),
                linear1,
                96..128,
                32,
            ),
            (
                "lora_unet_single_blocks_0_linear1".into(),
                linear1,
                0..128,
                128,
            ),
            (
                "lora_transformer_single_transformer_blocks_0_attn_to_v".into(),
                linear1,
                64..96,
                32,
            ),
            (
                "diffusion_model.single_blocks.0.linear1".into(),
                linear1,
                0..128,
                128,
            ),
            (
                "lycoris_double_blocks_0_img_mlp_gate_proj".into(),
                "double_blocks.0.img_mlp.up_gate.weight",
                16..32,
                16,
            ),
            (
                "model.diffusion_model.semantic_txt_in".into(),
                "txt_in.weight",
                0..32,
                32,
            ),
            (
                "transformer_blocks.0.ff_context.net.0.proj".into(),
                "double_blocks.0.txt_mlp.up_gate.weight",
                0..32,
                32,
            ),
        ];
        for (module, tensor, rows, out) in cases {
            let (found, at, shape) = place(&module);
            assert_eq!((&found[..], &at[..]), (tensor, &[rows][..]), "{module}");
            assert_eq!(shape[0], out, "{module}");
        }
    }

    #[test]
    fn exchanged_halves_have_two_ranges() {
        let (tensor, rows, shape) = place("transformer.norm_out.linear");
        assert_eq!(tensor, "final_layer.adaLN_modulation.1.weight");
        assert_eq!(rows, [32..64, 0..32]);
        assert_eq!(shape, [64, 32]);
        let rows = place("final_layer.adaLN_modulation.1").1;
        assert_eq!((rows.len(), &rows[0]), (1, &(0..64)));
    }

    #[test]
    fn text_encoders_have_their_own_prefixes() {
        for module in [
            "text_encoder.model.layers.0.self_attn.q_proj",
            "text_encoder.layers.0.self_attn.q_proj",
            "base_model.model.model.layers.0.self_attn.q_proj",
            "text_encoders.qwen3_2b.transformer.model.layers.0.self_attn.q_proj",
            "lora_te_layers_0_self_attn_q_proj",
            "lora_te1_model_layers_0_self_attn_q_proj",
            "llm.model.layers.0.self_attn.q_proj",
        ] {
            assert_eq!(
                place(module).0,
                "layers.0.self_attn.q_proj.weight",
                "{module}"
            );
        }
    }

    #[test]
    fn norms_have_vectors_and_other_names_nothing() {
        let (tensor, rows, shape) = place("double_blocks.0.txt_attn.norm.key_norm");
        assert_eq!(tensor, "double_blocks.0.txt_attn.norm.key_norm.weight");
        assert_eq!((rows.len(), &rows[0], &shape[..]), (1, &(0..32), &[32][..]));
        let names = names();
        for module in [
            "",
            "transformer",
            "lora_unet_",
            "double_blocks.9.img_attn.qkv",
            "lora_unet_down_blocks_0_attentions_0",
            "transformer.transformer_blocks.0.attn",
        ] {
            assert!(names.find(module).is_none(), "{module}");
        }
    }

    #[test]
    fn a_part_of_unknown_geometry_has_names() {
        let names = Names::new(None, None);
        for module in [
            "lora_unet_double_blocks_18_img_attn_qkv",
            "transformer.single_transformer_blocks.37.proj_mlp",
            "text_encoder.model.layers.35.mlp.up_proj",
        ] {
            assert!(names.find(module).is_some(), "{module}");
        }
    }

    #[test]
    fn no_two_modules_share_an_underscored_name() {
        let names = names();
        for modules in [&names.transformer, &names.text_encoder] {
            assert_eq!(modules.dotted.len(), modules.underscored.len());
        }
    }
}
