//! The text encoder's tensor names, which are those of transformers, alone or inside
//! Ovis2.5-2B, or llama.cpp's, and its geometry.
//!
//! Sources: transformers `models/qwen3/modeling_qwen3.py`, AIDC-AI/Ovis-Image
//! `ovis_image/model/ovis/{configuration,modeling}_ovis2_5.py`.

use serde::Deserialize;
use serde_json::Value;

use super::config::{Config, Count, Positive};
use super::error::WeightsError;
use super::geometry::Qwen3Config;
use super::gguf::llama_names;
use super::name_map::NameMap;
use super::part::PartTensors;
use super::part_names::TEXT_ENCODER;
use super::set::TensorSet;
use super::table;

/// RoPE base and norm epsilon of the family, for files without a config.
const ROPE_THETA: f64 = 1e6;
const RMS_NORM_EPS: f64 = 1e-6;

/// Where a GGUF file's metadata has them.
const ROPE_THETA_KEY: &str = "qwen3.rope.freq_base";
const RMS_NORM_EPS_KEY: &str = "qwen3.attention.layer_norm_rms_epsilon";

/// The embedding table, by which the part is recognised.
const EMBEDDING: &str = "embed_tokens.weight";
/// Prefixes that programs and Ovis2.5 put in front of all names.
pub(super) const PREFIXES: [&str; 6] = [
    "",
    "model.",
    "llm.model.",
    "model.llm.model.",
    "text_encoder.",
    "text_encoder.model.",
];
/// Name prefixes of Ovis2.5-2B's tensors outside the language model's decoder.
const EXTRAS: [&str; 5] = [
    "lm_head.",
    "llm.lm_head.",
    "visual_tokenizer.",
    "vte.",
    "visual.",
];

/// Whether the set has the embedding table of a language model, of any family.
pub(super) fn recognises(set: &TensorSet) -> bool {
    set.get(llama_names::EMBEDDING).is_some()
        || PREFIXES
            .iter()
            .any(|prefix| set.get(&format!("{prefix}{EMBEDDING}")).is_some())
}

/// Reads the geometry and maps the set's tensors to canonical names.
///
/// # Errors
/// The tensors are another model's, the config contradicts their shapes, or a tensor is
/// missing, misshapen, unknown or stored in a type that cannot be loaded.
pub(super) fn open(
    set: TensorSet,
    config: Option<&Config>,
) -> Result<(Qwen3Config, PartTensors), WeightsError> {
    let set = match set.get(llama_names::EMBEDDING) {
        Some(_) => set.rename(TEXT_ENCODER, llama_names::to_transformers)?,
        None => set.strip_prefix(TEXT_ENCODER, &PREFIXES, &[EMBEDDING])?,
    };
    // Qwen2 and 2.5 have biases where Qwen3 has head norms.
    if let Some(tensor) = set.get("layers.0.self_attn.q_proj.bias") {
        return Err(WeightsError::OtherModel {
            file: tensor.path().to_owned(),
            part: TEXT_ENCODER,
            model: "Qwen2 or Qwen2.5",
            tensor: tensor.entry().name.clone(),
        });
    }
    let shapes = infer(&set)?;
    let config = match config {
        Some(config) => read_config(config, shapes)?,
        None => shapes,
    };
    let tensors = table::resolve(TEXT_ENCODER, &map(&config), &set, |name| {
        let extra = EXTRAS.iter().find(|extra| name.starts_with(*extra))?;
        Some(format!("{extra}*"))
    })?;
    Ok((config, tensors))
}

/// The geometry according to the tensors' shapes and the family's constants.
fn infer(set: &TensorSet) -> Result<Qwen3Config, WeightsError> {
    let [vocab_size, hidden_size] = set.dims(TEXT_ENCODER, EMBEDDING)?;
    let wrong = |reason| set.geometry_error(TEXT_ENCODER, reason);
    let layer = "layers.0";
    let [head_dim] = set.dims(TEXT_ENCODER, &format!("{layer}.self_attn.q_norm.weight"))?;
    let rows = |name: &str| -> Result<usize, WeightsError> {
        let [rows, _] = set.dims(TEXT_ENCODER, &format!("{layer}.{name}.weight"))?;
        Ok(rows)
    };
    let heads = |name: &str| -> Result<usize, WeightsError> {
        let rows = rows(name)?;
        if head_dim == 0 || rows == 0 || rows % head_dim != 0 {
            return Err(wrong(format!(
                "`{layer}.{name}.weight` has {rows} rows, which heads of {head_dim} do not divide"
            )));
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
        rope_theta: number(set, ROPE_THETA_KEY, ROPE_THETA)?,
        rms_norm_eps: number(set, RMS_NORM_EPS_KEY, RMS_NORM_EPS)?,
    };
    let dimensions = [
        ("its vocabulary", vocab_size),
        ("its width", hidden_size),
        ("its heads' width", head_dim),
        ("its queries' width", rows("self_attn.q_proj")?),
        ("its MLPs' width", config.intermediate_size),
        ("its number of layers", config.num_layers),
    ];
    set.check_dimensions(TEXT_ENCODER, &dimensions)?;
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

/// A positive number of a GGUF file's metadata, or the family's where it has none.
fn number(set: &TensorSet, key: &str, of_family: f64) -> Result<f64, WeightsError> {
    match set.number(key) {
        None => Ok(of_family),
        Some(number) if number.is_finite() && number > 0.0 => {
            // The metadata has float32 numbers, of which one is the family's own.
            let same = number as f32 == of_family as f32;
            Ok(if same { of_family } else { number })
        }
        Some(number) => {
            let reason = format!("its metadata has `{key}` {number}, not a number above 0");
            Err(set.geometry_error(TEXT_ENCODER, reason))
        }
    }
}

/// Fields of Ovis2.5's `config.json`, whose `llm_config` is a Qwen3 config.
#[derive(Deserialize)]
struct OuterFields {
    llm_config: Option<Fields>,
}

/// Fields of transformers' Qwen3 config.
#[derive(Deserialize)]
struct Fields {
    model_type: Option<Value>,
    vocab_size: Option<Count>,
    hidden_size: Option<Count>,
    intermediate_size: Option<Count>,
    num_hidden_layers: Option<Count>,
    num_attention_heads: Option<Count>,
    num_key_value_heads: Option<Count>,
    head_dim: Option<Count>,
    rms_norm_eps: Option<Positive>,
    attention_bias: Option<Value>,
    rope_theta: Option<Positive>,
    rope_type: Option<Value>,
    rope_scaling: Option<Value>,
    rope_parameters: Option<RopeFields>,
}

/// Fields of RoPE, which transformers 5 writes into an object of their own and earlier
/// versions beside the others.
#[derive(Deserialize)]
struct RopeFields {
    rope_theta: Option<Positive>,
    rope_type: Option<Value>,
}

/// Checks a Qwen3 `config.json`, or the one inside Ovis2.5's, against the geometry of the
/// shapes, and adds its RoPE base and norm epsilon.
///
/// # Errors
/// The config has an unusable value, contradicts the shapes, or asks for a RoPE scaling or
/// biases that Ovis-Image's text encoder does not have.
fn read_config(config: &Config, shapes: Qwen3Config) -> Result<Qwen3Config, WeightsError> {
    let fields = match config.read::<OuterFields>()?.llm_config {
        Some(inner) => inner,
        None => config.read()?,
    };
    let model = fields.model_type.unwrap_or_default();
    if model != "qwen3" {
        return Err(config.error(format!("its language model is {model}, not qwen3")));
    }
    let rope = fields.rope_parameters.unwrap_or(RopeFields {
        rope_theta: fields.rope_theta,
        rope_type: fields.rope_type,
    });
    let mut scaling = [rope.rope_type, fields.rope_scaling].into_iter().flatten();
    if scaling.any(|scaling| scaling != "default") {
        return Err(config.error("it asks for a scaled RoPE, which Ovis-Image's has not".into()));
    }
    if fields.attention_bias == Some(Value::Bool(true)) {
        return Err(config.error("its `attention_bias` is true, which Ovis-Image's is not".into()));
    }
    for (field, value, found) in [
        ("vocab_size", fields.vocab_size, shapes.vocab_size),
        ("hidden_size", fields.hidden_size, shapes.hidden_size),
        (
            "intermediate_size",
            fields.intermediate_size,
            shapes.intermediate_size,
        ),
        (
            "num_hidden_layers",
            fields.num_hidden_layers,
            shapes.num_layers,
        ),
        (
            "num_attention_heads",
            fields.num_attention_heads,
            shapes.num_heads,
        ),
        (
            "num_key_value_heads",
            fields.num_key_value_heads,
            shapes.num_kv_heads,
        ),
        ("head_dim", fields.head_dim, shapes.head_dim),
    ] {
        config.agrees(field, value, found)?;
    }
    Ok(Qwen3Config {
        rope_theta: rope.rope_theta.map_or(shapes.rope_theta, |theta| theta.0),
        rms_norm_eps: fields.rms_norm_eps.map_or(shapes.rms_norm_eps, |eps| eps.0),
        ..shapes
    })
}

/// The names of transformers, which are the canonical ones.
pub(super) fn map(config: &Qwen3Config) -> NameMap {
    let (h, mlp, head) = (
        config.hidden_size,
        config.intermediate_size,
        config.head_dim,
    );
    let (q, kv) = (config.num_heads * head, config.num_kv_heads * head);
    let mut map = NameMap::default();
    let mut same = |name: String, shape: &[usize]| map.whole(name.clone(), &name, shape);
    same(EMBEDDING.into(), &[config.vocab_size, h]);
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
            same(format!("layers.{i}.{name}.weight"), shape);
        }
    }
    same("norm.weight".into(), &[h]);
    map
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::test_files::{of_map, text_encoder_geometry, write};
    use super::*;

    /// A text encoder opened from a file, beside a config if there is one.
    fn opened(folder: &Path, config: Option<&str>) -> Result<Qwen3Config, WeightsError> {
        let names = map(&text_encoder_geometry());
        let tensors = of_map(&names, |name| format!("llm.model.{name}"));
        write(&folder.join("model.safetensors"), &tensors);
        if let Some(config) = config {
            std::fs::write(folder.join("config.json"), config).unwrap();
        }
        let config = Config::of_part(folder, TEXT_ENCODER)?;
        let (geometry, tensors) = open(TensorSet::open(folder)?, config.as_ref())?;
        assert_eq!(tensors.parameters(), geometry.parameters());
        Ok(geometry)
    }

    #[test]
    fn the_geometry_is_that_of_the_shapes() {
        let folder = tempfile::tempdir().unwrap();
        let wanted = text_encoder_geometry();
        assert_eq!(opened(folder.path(), None).unwrap(), wanted);
        let inner = r#"{"model_type":"qwen3","num_hidden_layers":1,"head_dim":4,
            "rope_theta":5000.0,"rope_scaling":null}"#;
        let nested = format!(r#"{{"model_type":"ovis2_5","llm_config":{inner}}}"#);
        for config in [inner, &nested] {
            let found = opened(folder.path(), Some(config)).unwrap();
            let wanted = Qwen3Config {
                rope_theta: 5000.0,
                ..wanted.clone()
            };
            assert_eq!(found, wanted);
        }
    }

    #[test]
    fn a_config_of_another_model_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        for (fields, words) in [
            (r#""head_dim":8"#, "its `head_dim` is 8, and the weights"),
            (r#""rope_scaling":{"type":"yarn"}"#, "a scaled RoPE"),
            (r#""rope_parameters":{"rope_type":"yarn"}"#, "a scaled RoPE"),
            (
                r#""rope_parameters":{"rope_theta":0}"#,
                "`rope_theta` is 0, not above 0",
            ),
            (r#""attention_bias":true"#, "`attention_bias` is true"),
        ] {
            let config = format!(r#"{{"model_type":"qwen3",{fields}}}"#);
            let error = opened(folder.path(), Some(&config))
                .unwrap_err()
                .to_string();
            assert!(error.contains(words), "{error}");
        }
    }
}
