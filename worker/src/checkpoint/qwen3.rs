//! The text encoder's names: transformers', alone or inside Ovis2.5-2B.
//!
//! Sources: transformers `models/qwen3/modeling_qwen3.py`, AIDC-AI/Ovis-Image
//! `ovis_image/model/ovis/{configuration,modeling}_ovis2_5.py`.

use serde_json::Value;

use super::error::WeightsError;
use super::geometry::Qwen3Config;
use super::json::Config;
use super::part::{in_range, PartTensors, TableBuilder};
use super::set::TensorSet;
use super::TEXT_ENCODER;

/// RoPE base and norm epsilon of the family, for files without a config.
const ROPE_THETA: f64 = 1e6;
const RMS_NORM_EPS: f64 = 1e-6;

const EMBEDDING: &str = "embed_tokens.weight";
const PREFIXES: [&str; 6] = [
    "",
    "model.",
    "llm.model.",
    "model.llm.model.",
    "text_encoder.",
    "text_encoder.model.",
];
/// What Ovis2.5-2B has besides the language model's trunk.
const EXTRAS: [&str; 5] = [
    "lm_head.",
    "llm.lm_head.",
    "visual_tokenizer.",
    "vte.",
    "visual.",
];

/// Whether the set looks like a language model at all.
pub(super) fn recognises(set: &TensorSet) -> bool {
    PREFIXES
        .iter()
        .any(|prefix| set.get(&format!("{prefix}{EMBEDDING}")).is_some())
}

/// Maps the set's tensors to canonical names.
///
/// # Errors
/// The set is another model's or another part's, or a tensor is missing,
/// misshapen, unknown or of an unusable type.
pub(super) fn open(
    set: TensorSet,
    config: Option<&Config>,
) -> Result<(Qwen3Config, PartTensors), WeightsError> {
    let set = set.strip_prefix(TEXT_ENCODER, &PREFIXES, &[EMBEDDING])?;
    // Qwen2 and 2.5 have biases where Qwen3 has head norms.
    if let Some(source) = set.get("layers.0.self_attn.q_proj.bias") {
        return Err(WeightsError::OtherModel {
            file: source.file.path().to_owned(),
            part: TEXT_ENCODER,
            model: "Qwen2 or Qwen2.5",
            tensor: source.name.clone(),
        });
    }
    let shapes = infer(&set)?;
    let config = match config {
        Some(config) => read_config(config, shapes)?,
        None => shapes,
    };
    let mut table = TableBuilder::new(TEXT_ENCODER, set);
    map(&mut table, &config)?;
    let tensors = table.finish(|name| {
        let extra = EXTRAS.iter().find(|extra| name.starts_with(*extra))?;
        Some(format!("{extra}*"))
    })?;
    Ok((config, tensors))
}

/// The geometry by shapes and the family's rules.
fn infer(set: &TensorSet) -> Result<Qwen3Config, WeightsError> {
    let [vocab_size, hidden_size] = set.dims(TEXT_ENCODER, EMBEDDING)?;
    let layer = "layers.0";
    let [head_dim] = set.dims(TEXT_ENCODER, &format!("{layer}.self_attn.q_norm.weight"))?;
    let rows = |name: &str| -> Result<usize, WeightsError> {
        let [rows, _] = set.dims(TEXT_ENCODER, &format!("{layer}.{name}.weight"))?;
        Ok(rows)
    };
    let heads = |name: &str| -> Result<usize, WeightsError> {
        let rows = rows(name)?;
        if head_dim == 0 || rows == 0 || rows % head_dim != 0 {
            return Err(WeightsError::Geometry {
                file: set.path().to_owned(),
                part: TEXT_ENCODER,
                reason: format!(
                    "`{layer}.{name}.weight` has {rows} rows, which heads of {head_dim} do not divide"
                ),
            });
        }
        Ok(rows / head_dim)
    };
    let config = Qwen3Config {
        vocab_size,
        hidden_size,
        intermediate_size: rows("mlp.gate_proj")?,
        num_layers: set.count("layers"),
        num_heads: heads("self_attn.q_proj")?,
        num_kv_heads: heads("self_attn.k_proj")?,
        head_dim,
        rope_theta: ROPE_THETA,
        rms_norm_eps: RMS_NORM_EPS,
    };
    let wrong = |reason: String| WeightsError::Geometry {
        file: set.path().to_owned(),
        part: TEXT_ENCODER,
        reason,
    };
    for (what, dimension) in [
        ("its vocabulary", vocab_size),
        ("its width", hidden_size),
        ("its heads' width", head_dim),
        ("its queries' width", rows("self_attn.q_proj")?),
        ("its MLPs' width", config.intermediate_size),
        ("its number of layers", config.num_layers),
    ] {
        in_range(what, dimension).map_err(wrong)?;
    }
    if head_dim % 2 != 0 {
        return Err(wrong(format!(
            "heads of {head_dim} cannot be rotated by halves"
        )));
    }
    if !config.num_heads.is_multiple_of(config.num_kv_heads) {
        return Err(wrong(format!(
            "{} key heads of `{layer}.self_attn.k_proj.weight` do not divide {} query heads",
            config.num_kv_heads, config.num_heads
        )));
    }
    Ok(config)
}

/// The geometry by `config.json`: Qwen3's own, or Ovis2.5's `llm_config`. It must be that of
/// the weights' shapes.
fn read_config(outer: &Config, shapes: Qwen3Config) -> Result<Qwen3Config, WeightsError> {
    let fields = match &outer.fields["llm_config"] {
        Value::Null => outer.fields.clone(),
        inner => inner.clone(),
    };
    let config = Config {
        path: outer.path.clone(),
        fields,
    };
    if config.fields["model_type"] != "qwen3" {
        return Err(config.error(format!(
            "its language model is {}, not qwen3",
            config.fields["model_type"]
        )));
    }
    // transformers 5 writes `rope_parameters`, earlier ones `rope_theta` and
    // `rope_scaling`.
    let rope = Config {
        path: outer.path.clone(),
        fields: match &config.fields["rope_parameters"] {
            Value::Null => config.fields.clone(),
            parameters => parameters.clone(),
        },
    };
    let scaling = [&rope.fields["rope_type"], &config.fields["rope_scaling"]];
    if scaling.iter().any(|s| !s.is_null() && **s != "default") {
        return Err(config.error("it asks for a scaled RoPE, which Ovis-Image's has not".into()));
    }
    if config.fields["attention_bias"] == true {
        return Err(config.error("its `attention_bias` is true, which Ovis-Image's is not".into()));
    }
    for (field, found) in [
        ("vocab_size", shapes.vocab_size),
        ("hidden_size", shapes.hidden_size),
        ("intermediate_size", shapes.intermediate_size),
        ("num_hidden_layers", shapes.num_layers),
        ("num_attention_heads", shapes.num_heads),
        ("num_key_value_heads", shapes.num_kv_heads),
        ("head_dim", shapes.head_dim),
    ] {
        config.agrees(field, found)?;
    }
    Ok(Qwen3Config {
        rope_theta: rope.positive("rope_theta", ROPE_THETA)?,
        rms_norm_eps: config.positive("rms_norm_eps", RMS_NORM_EPS)?,
        ..shapes
    })
}

fn map(table: &mut TableBuilder, config: &Qwen3Config) -> Result<(), WeightsError> {
    let (h, mlp, head) = (
        config.hidden_size,
        config.intermediate_size,
        config.head_dim,
    );
    let (q, kv) = (config.num_heads * head, config.num_kv_heads * head);
    let mut same = |name: String, shape: &[usize]| table.whole(name.clone(), &name, shape);
    same(EMBEDDING.into(), &[config.vocab_size, h])?;
    for i in 0..config.num_layers {
        let shapes: [(&str, &[usize]); 11] = [
            ("input_layernorm", &[h]),
            ("self_attn.q_proj", &[q, h]),
            ("self_attn.k_proj", &[kv, h]),
            ("self_attn.v_proj", &[kv, h]),
            ("self_attn.o_proj", &[h, q]),
            ("self_attn.q_norm", &[head]),
            ("self_attn.k_norm", &[head]),
            ("post_attention_layernorm", &[h]),
            ("mlp.gate_proj", &[mlp, h]),
            ("mlp.up_proj", &[mlp, h]),
            ("mlp.down_proj", &[h, mlp]),
        ];
        for (name, shape) in shapes {
            same(format!("layers.{i}.{name}.weight"), shape)?;
        }
    }
    same("norm.weight".into(), &[h])
}
