//! Recognises the transformer's tensors and reads its geometry.

use serde::Deserialize;

use super::config::{Config, Count};
use super::error::WeightsError;
use super::geometry::MmditConfig;
use super::mmdit_names::{canonical_map, diffusers_map};
use super::part::PartTensors;
use super::part_names::TRANSFORMER;
use super::set::TensorSet;
use super::table;

/// RoPE base, the same for all models of the family.
const THETA: f64 = 10_000.0;
/// RoPE axes of the released model, which a config need not repeat.
const RELEASED_AXES: [usize; 3] = [16, 56, 56];
/// Prefixes of the blocks' names in all naming schemes, by which the part is recognised.
const ANCHORS: [&str; 5] = [
    "double_blocks.",
    "single_blocks.",
    "transformer_blocks.",
    "single_transformer_blocks.",
    "joint_blocks.",
];
/// Prefixes that programs put in front of all names.
pub(super) const PREFIXES: [&str; 5] = [
    "",
    "model.diffusion_model.",
    "diffusion_model.",
    "transformer.",
    "model.",
];

/// Name prefixes of other models that Ovis-Image does not have, the most specific first.
const OTHER_MODELS: [(&str, &str); 13] = [
    ("distilled_guidance_layer.", "Chroma"),
    ("double_stream_modulation_img.", "FLUX.2"),
    ("guidance_in.", "FLUX.1-dev"),
    ("time_text_embed.guidance_embedder.", "FLUX.1-dev"),
    ("time_guidance_embed.", "FLUX.2"),
    ("joint_blocks.", "Stable Diffusion 3"),
    ("pos_embed.proj.", "Stable Diffusion 3"),
    ("transformer_blocks.0.img_mod.", "Qwen-Image"),
    ("vector_in.", "FLUX.1-schnell"),
    ("time_text_embed.text_embedder.", "FLUX.1-schnell"),
    ("byt5_in.", "HunyuanVideo 1.5"),
    ("txt_in.individual_token_refiner.", "HunyuanVideo"),
    ("double_blocks.0.img_mlp.0.", "a FLUX.1 relative"),
];

/// Whether the set has blocks of a diffusion transformer, of any model.
pub(super) fn recognises(set: &TensorSet) -> bool {
    PREFIXES.iter().any(|prefix| {
        ANCHORS
            .iter()
            .any(|anchor| set.any_starts_with(&format!("{prefix}{anchor}")))
    })
}

/// Reads the geometry and maps the set's tensors to canonical names.
///
/// # Errors
/// The tensors are another model's, the config contradicts their shapes, or a tensor is
/// missing, misshapen, unknown or stored in a type that cannot be loaded.
pub(super) fn open(
    set: TensorSet,
    config: Option<&Config>,
) -> Result<(MmditConfig, PartTensors), WeightsError> {
    let set = set.strip_prefix(TRANSFORMER, &PREFIXES, &ANCHORS)?;
    for (marker, model) in OTHER_MODELS {
        if let Some(tensor) = set.first_with(marker) {
            return Err(WeightsError::OtherModel {
                file: tensor.path().to_owned(),
                part: TRANSFORMER,
                model,
                tensor: tensor.entry().name.clone(),
            });
        }
    }
    let diffusers = set.any_starts_with("transformer_blocks.")
        || set.any_starts_with("single_transformer_blocks.");
    let set = if diffusers {
        set
    } else {
        set.rename(TRANSFORMER, original_spelling)?
    };
    let names = if diffusers { &DIFFUSERS } else { &ORIGINAL };
    let shapes = infer(&set, names)?;
    let config = match config {
        Some(config) => read_config(config, shapes)?,
        None => with_family_axes(&set, shapes)?,
    };
    let map = match diffusers {
        true => diffusers_map(&config),
        false => canonical_map(&config),
    };
    let tensors = table::resolve(TRANSFORMER, &map, &set, |_| None)?;
    Ok((config, tensors))
}

/// Prefix of the original's names of the text projection.
pub(super) const SEMANTIC: &str = "semantic_";

/// The original's spelling of a name, which ComfyUI's file changes: norms are called
/// `….scale` there, and the text projection of the original starts with `semantic_`.
fn original_spelling(name: &str) -> String {
    let name = name.strip_prefix(SEMANTIC).unwrap_or(name);
    match name.strip_suffix(".scale") {
        Some(norm) => format!("{norm}.weight"),
        None => name.to_owned(),
    }
}

/// Names of the tensors whose shapes determine the geometry.
struct Landmarks {
    img_in: &'static str,
    txt_in: &'static str,
    double: &'static str,
    double_norm: &'static str,
    double_down: &'static str,
    single: &'static str,
    single_norm: &'static str,
    single_out: &'static str,
}

const ORIGINAL: Landmarks = Landmarks {
    img_in: "img_in.weight",
    txt_in: "txt_in.weight",
    double: "double_blocks",
    double_norm: "img_attn.norm.query_norm.weight",
    double_down: "img_mlp.down_proj.weight",
    single: "single_blocks",
    single_norm: "norm.query_norm.weight",
    single_out: "linear2.weight",
};

const DIFFUSERS: Landmarks = Landmarks {
    img_in: "x_embedder.weight",
    txt_in: "context_embedder.weight",
    double: "transformer_blocks",
    double_norm: "attn.norm_q.weight",
    double_down: "ff.net.2.weight",
    single: "single_transformer_blocks",
    single_norm: "attn.norm_q.weight",
    single_out: "proj_out.weight",
};

/// Values that a patch of 2 x 2 latent pixels has for each latent channel.
const PATCH: usize = 4;

/// The geometry according to the tensors' shapes. The RoPE axes stay 0, since no shape
/// depends on them.
fn infer(set: &TensorSet, names: &Landmarks) -> Result<MmditConfig, WeightsError> {
    let [hidden_size, in_channels] = set.dims(TRANSFORMER, names.img_in)?;
    let [_, context_dim] = set.dims(TRANSFORMER, names.txt_in)?;
    let depth_double = set.count(names.double);
    let depth_single = set.count(names.single);
    let (head_dim, mlp_hidden) = if depth_double > 0 {
        let block = format!("{}.0", names.double);
        let [head] = set.dims(TRANSFORMER, &format!("{block}.{}", names.double_norm))?;
        let [_, mlp] = set.dims(TRANSFORMER, &format!("{block}.{}", names.double_down))?;
        (head, mlp)
    } else {
        let block = format!("{}.0", names.single);
        let [head] = set.dims(TRANSFORMER, &format!("{block}.{}", names.single_norm))?;
        let [_, both] = set.dims(TRANSFORMER, &format!("{block}.{}", names.single_out))?;
        (head, both.saturating_sub(hidden_size))
    };
    let dimensions = [
        ("its width", hidden_size),
        ("its latent patch", in_channels),
        ("its text width", context_dim),
        ("its heads' width", head_dim),
        ("its MLPs' width", mlp_hidden),
        ("its number of blocks", depth_double + depth_single),
    ];
    set.check_dimensions(TRANSFORMER, &dimensions)?;
    let wrong = |reason| set.geometry_error(TRANSFORMER, reason);
    if hidden_size % head_dim != 0 {
        return Err(wrong(format!(
            "`{}` has {hidden_size} rows, which heads of {head_dim} do not divide",
            names.img_in
        )));
    }
    if in_channels % PATCH != 0 {
        return Err(wrong(format!(
            "`{}` has {in_channels} columns, which are no patches of 2 x 2 latent pixels",
            names.img_in
        )));
    }
    Ok(MmditConfig {
        in_channels,
        context_dim,
        hidden_size,
        num_heads: hidden_size / head_dim,
        mlp_hidden,
        depth_double,
        depth_single,
        axes_dim: [0; 3],
        theta: THETA,
    })
}

/// Adds the family's RoPE axes to the geometry of shapes.
fn with_family_axes(set: &TensorSet, shapes: MmditConfig) -> Result<MmditConfig, WeightsError> {
    let head_dim = shapes.head_dim();
    let axes_dim = axes(head_dim).ok_or_else(|| {
        let reason = format!(
            "heads of {head_dim} have no RoPE axes of 1/8, 7/16 and 7/16 without a config.json"
        );
        set.geometry_error(TRANSFORMER, reason)
    })?;
    Ok(MmditConfig { axes_dim, ..shapes })
}

/// The family's RoPE axes: 1/8, 7/16 and 7/16 of a head's width. Each must be even, because
/// RoPE rotates pairs.
fn axes(head_dim: usize) -> Option<[usize; 3]> {
    let spatial = head_dim / 16 * 7;
    head_dim
        .is_multiple_of(32)
        .then_some([head_dim / 8, spatial, spatial])
}

/// Fields of diffusers' `config.json` for `OvisImageTransformer2DModel`.
#[derive(Deserialize)]
struct Fields {
    attention_head_dim: Option<Count>,
    num_attention_heads: Option<Count>,
    in_channels: Option<Count>,
    out_channels: Option<Count>,
    joint_attention_dim: Option<Count>,
    num_layers: Option<Count>,
    num_single_layers: Option<Count>,
    patch_size: Option<Count>,
    axes_dims_rope: Option<Vec<Count>>,
}

/// Checks diffusers' `config.json` against the geometry of the shapes, and adds its RoPE
/// axes.
///
/// # Errors
/// The config has an unusable value, contradicts the shapes, or its axes do not fill a head.
fn read_config(config: &Config, shapes: MmditConfig) -> Result<MmditConfig, WeightsError> {
    let fields: Fields = config.read()?;
    let head_dim = shapes.head_dim();
    for (field, value, found) in [
        ("attention_head_dim", fields.attention_head_dim, head_dim),
        (
            "num_attention_heads",
            fields.num_attention_heads,
            shapes.num_heads,
        ),
        ("in_channels", fields.in_channels, shapes.in_channels),
        ("out_channels", fields.out_channels, shapes.in_channels),
        (
            "joint_attention_dim",
            fields.joint_attention_dim,
            shapes.context_dim,
        ),
        ("num_layers", fields.num_layers, shapes.depth_double),
        (
            "num_single_layers",
            fields.num_single_layers,
            shapes.depth_single,
        ),
        ("patch_size", fields.patch_size, 1),
    ] {
        config.agrees(field, value, found)?;
    }
    let axes = match &fields.axes_dims_rope {
        None => RELEASED_AXES.to_vec(),
        Some(axes) => axes.iter().map(|axis| axis.0).collect(),
    };
    let axes_dim = <[usize; 3]>::try_from(axes)
        .map_err(|axes| config.error(format!("its `axes_dims_rope` is {axes:?}")))?;
    if axes_dim.iter().sum::<usize>() != head_dim || axes_dim.iter().any(|a| a % 2 == 1) {
        return Err(config.error(format!(
            "its `axes_dims_rope` {axes_dim:?} do not fill heads of {head_dim} with even axes"
        )));
    }
    Ok(MmditConfig { axes_dim, ..shapes })
}
