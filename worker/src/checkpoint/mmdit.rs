//! The transformer's names: the original's, ComfyUI's, and diffusers'.
//!
//! Sources: AIDC-AI/Ovis-Image `ovis_image/model/{model,layers}.py` (original),
//! diffusers `models/transformers/transformer_ovis_image.py` and
//! `models/normalization.py`.

use super::error::WeightsError;
use super::geometry::{MmditConfig, TIME_EMBEDDING_WIDTH};
use super::json::Config;
use super::part::{in_range, PartTensors, TableBuilder};
use super::set::TensorSet;
use super::TRANSFORMER;

/// RoPE base, fixed by the family.
const THETA: f64 = 10_000.0;
/// Blocks' names under both spellings, which also give the part away.
const ANCHORS: [&str; 5] = [
    "double_blocks.",
    "single_blocks.",
    "transformer_blocks.",
    "single_transformer_blocks.",
    "joint_blocks.",
];
const PREFIXES: [&str; 5] = [
    "",
    "model.diffusion_model.",
    "diffusion_model.",
    "transformer.",
    "model.",
];

/// Names that other models have and Ovis-Image does not, most telling first.
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

/// Whether the set looks like a diffusion transformer at all.
pub(super) fn recognises(set: &TensorSet) -> bool {
    PREFIXES.iter().any(|prefix| {
        ANCHORS
            .iter()
            .any(|anchor| set.any_starts_with(&format!("{prefix}{anchor}")))
    })
}

/// Maps the set's tensors to canonical names.
///
/// # Errors
/// The set is another model's or another part's, or a tensor is missing,
/// misshapen, unknown or of an unusable type.
pub(super) fn open(
    set: TensorSet,
    config: Option<&Config>,
) -> Result<(MmditConfig, PartTensors), WeightsError> {
    let set = set.strip_prefix(TRANSFORMER, &PREFIXES, &ANCHORS)?;
    for (marker, model) in OTHER_MODELS {
        if let Some(source) = set.first_with(marker) {
            return Err(WeightsError::OtherModel {
                file: source.file.path().to_owned(),
                part: TRANSFORMER,
                model,
                tensor: source.name.clone(),
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
    let mut table = TableBuilder::new(TRANSFORMER, set);
    if diffusers {
        map_diffusers(&mut table, &config)?;
    } else {
        map_original(&mut table, &config)?;
    }
    Ok((config, table.finish(|_| None)?))
}

/// One spelling for the original's and ComfyUI's names.
fn original_spelling(name: &str) -> String {
    let name = name.strip_prefix("semantic_").unwrap_or(name);
    match name.strip_suffix(".scale") {
        Some(norm) => format!("{norm}.weight"),
        None => name.to_owned(),
    }
}

/// Where the tensors are whose shapes tell the geometry.
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

/// Numbers of a patch that are one latent channel's.
const PATCH: usize = 4;

/// The geometry by shapes and the family's rules, but for the RoPE axes, which are left 0.
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
    let wrong = |reason: String| WeightsError::Geometry {
        file: set.path().to_owned(),
        part: TRANSFORMER,
        reason,
    };
    for (what, dimension) in [
        ("its width", hidden_size),
        ("its latent patch", in_channels),
        ("its text width", context_dim),
        ("its heads' width", head_dim),
        ("its MLPs' width", mlp_hidden),
        ("its number of blocks", depth_double + depth_single),
    ] {
        in_range(what, dimension).map_err(wrong)?;
    }
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

/// The geometry of shapes with the family's RoPE axes.
fn with_family_axes(set: &TensorSet, shapes: MmditConfig) -> Result<MmditConfig, WeightsError> {
    let head_dim = shapes.head_dim();
    let axes_dim = axes(head_dim).ok_or_else(|| WeightsError::Geometry {
        file: set.path().to_owned(),
        part: TRANSFORMER,
        reason: format!(
            "heads of {head_dim} have no RoPE axes of 1/8, 7/16 and 7/16 without a config.json"
        ),
    })?;
    Ok(MmditConfig { axes_dim, ..shapes })
}

/// The family's RoPE axes: 1/8, 7/16 and 7/16 of a head, each even.
fn axes(head_dim: usize) -> Option<[usize; 3]> {
    let spatial = head_dim / 16 * 7;
    head_dim
        .is_multiple_of(32)
        .then_some([head_dim / 8, spatial, spatial])
}

/// The geometry by diffusers' `config.json`, which must be that of the weights' shapes.
/// These do not tell the RoPE axes.
fn read_config(config: &Config, shapes: MmditConfig) -> Result<MmditConfig, WeightsError> {
    let axes_dim = match config.counts("axes_dims_rope")? {
        None => [16, 56, 56],
        Some(axes) => <[usize; 3]>::try_from(axes)
            .map_err(|axes| config.error(format!("its `axes_dims_rope` is {axes:?}")))?,
    };
    let head_dim = shapes.head_dim();
    for (field, found) in [
        ("attention_head_dim", head_dim),
        ("num_attention_heads", shapes.num_heads),
        ("in_channels", shapes.in_channels),
        ("out_channels", shapes.in_channels),
        ("joint_attention_dim", shapes.context_dim),
        ("num_layers", shapes.depth_double),
        ("num_single_layers", shapes.depth_single),
        ("patch_size", 1),
    ] {
        config.agrees(field, found)?;
    }
    if axes_dim.iter().sum::<usize>() != head_dim || axes_dim.iter().any(|a| a % 2 == 1) {
        return Err(config.error(format!(
            "its `axes_dims_rope` {axes_dim:?} do not fill heads of {head_dim} with even axes"
        )));
    }
    Ok(MmditConfig { axes_dim, ..shapes })
}

fn map_original(table: &mut TableBuilder, config: &MmditConfig) -> Result<(), WeightsError> {
    let (h, mlp) = (config.hidden_size, config.mlp_hidden);
    let head = h / config.num_heads;
    let same = |table: &mut TableBuilder, name: &str, shape| table.linear(name, name, shape);
    let norm = |table: &mut TableBuilder, name: String, width: usize| {
        table.whole(name.clone(), &name, &[width])
    };
    same(table, "img_in", [h, config.in_channels])?;
    norm(table, "txt_norm.weight".into(), config.context_dim)?;
    same(table, "txt_in", [h, config.context_dim])?;
    same(table, "time_in.in_layer", [h, TIME_EMBEDDING_WIDTH])?;
    same(table, "time_in.out_layer", [h, h])?;
    for i in 0..config.depth_double {
        for stream in ["img", "txt"] {
            let block = format!("double_blocks.{i}.{stream}");
            same(table, &format!("{block}_mod.lin"), [6 * h, h])?;
            same(table, &format!("{block}_attn.qkv"), [3 * h, h])?;
            for which in ["query_norm", "key_norm"] {
                norm(table, format!("{block}_attn.norm.{which}.weight"), head)?;
            }
            same(table, &format!("{block}_attn.proj"), [h, h])?;
            let halves = [
                (format!("{block}_mlp.up_proj"), mlp),
                (format!("{block}_mlp.gate_proj"), mlp),
            ];
            table.linear_rows(&format!("{block}_mlp.up_gate"), &halves, h)?;
            same(table, &format!("{block}_mlp.down_proj"), [h, mlp])?;
        }
    }
    for i in 0..config.depth_single {
        let block = format!("single_blocks.{i}");
        same(table, &format!("{block}.modulation.lin"), [3 * h, h])?;
        same(table, &format!("{block}.linear1"), [3 * h + 2 * mlp, h])?;
        same(table, &format!("{block}.linear2"), [h, h + mlp])?;
        for which in ["query_norm", "key_norm"] {
            norm(table, format!("{block}.norm.{which}.weight"), head)?;
        }
    }
    same(table, "final_layer.adaLN_modulation.1", [2 * h, h])?;
    same(table, "final_layer.linear", [config.in_channels, h])
}

fn map_diffusers(table: &mut TableBuilder, config: &MmditConfig) -> Result<(), WeightsError> {
    let (h, mlp) = (config.hidden_size, config.mlp_hidden);
    let head = [h / config.num_heads];
    table.linear("img_in", "x_embedder", [h, config.in_channels])?;
    table.whole(
        "txt_norm.weight".into(),
        "context_embedder_norm.weight",
        &[config.context_dim],
    )?;
    table.linear("txt_in", "context_embedder", [h, config.context_dim])?;
    table.linear(
        "time_in.in_layer",
        "timestep_embedder.linear_1",
        [h, TIME_EMBEDDING_WIDTH],
    )?;
    table.linear("time_in.out_layer", "timestep_embedder.linear_2", [h, h])?;
    for i in 0..config.depth_double {
        map_diffusers_double(table, i, h, mlp, &head)?;
    }
    for i in 0..config.depth_single {
        let (to, from) = (
            format!("single_blocks.{i}"),
            format!("single_transformer_blocks.{i}"),
        );
        table.linear(
            &format!("{to}.modulation.lin"),
            &format!("{from}.norm.linear"),
            [3 * h, h],
        )?;
        // The original's linear1 is q, k, v, then up, then gate; diffusers'
        // proj_mlp is up, then gate.
        let pieces = [
            (format!("{from}.attn.to_q"), h),
            (format!("{from}.attn.to_k"), h),
            (format!("{from}.attn.to_v"), h),
            (format!("{from}.proj_mlp"), 2 * mlp),
        ];
        table.linear_rows(&format!("{to}.linear1"), &pieces, h)?;
        table.linear(
            &format!("{to}.linear2"),
            &format!("{from}.proj_out"),
            [h, h + mlp],
        )?;
        for (to_norm, from_norm) in [("query_norm", "norm_q"), ("key_norm", "norm_k")] {
            table.whole(
                format!("{to}.norm.{to_norm}.weight"),
                &format!("{from}.attn.{from_norm}.weight"),
                &head,
            )?;
        }
    }
    // diffusers: scale, then shift; the original: shift, then scale.
    let (to, from) = ("final_layer.adaLN_modulation.1", "norm_out.linear");
    table.swapped(
        format!("{to}.weight"),
        &format!("{from}.weight"),
        &[2 * h, h],
    )?;
    table.swapped(format!("{to}.bias"), &format!("{from}.bias"), &[2 * h])?;
    table.linear("final_layer.linear", "proj_out", [config.in_channels, h])
}

/// What diffusers calls the pieces of a double block, for one of its streams.
struct DoubleNames {
    stream: &'static str,
    modulation: &'static str,
    qkv: [&'static str; 3],
    norms: [&'static str; 2],
    proj: &'static str,
    mlp: &'static str,
}

const DIFFUSERS_DOUBLE: [DoubleNames; 2] = [
    DoubleNames {
        stream: "img",
        modulation: "norm1.linear",
        qkv: ["attn.to_q", "attn.to_k", "attn.to_v"],
        norms: ["attn.norm_q", "attn.norm_k"],
        proj: "attn.to_out.0",
        mlp: "ff",
    },
    DoubleNames {
        stream: "txt",
        modulation: "norm1_context.linear",
        qkv: ["attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"],
        norms: ["attn.norm_added_q", "attn.norm_added_k"],
        proj: "attn.to_add_out",
        mlp: "ff_context",
    },
];

fn map_diffusers_double(
    table: &mut TableBuilder,
    i: usize,
    h: usize,
    mlp: usize,
    head: &[usize],
) -> Result<(), WeightsError> {
    let from = format!("transformer_blocks.{i}");
    for names in &DIFFUSERS_DOUBLE {
        let to = format!("double_blocks.{i}.{}", names.stream);
        table.linear(
            &format!("{to}_mod.lin"),
            &format!("{from}.{}", names.modulation),
            [6 * h, h],
        )?;
        let qkv = names.qkv.map(|name| (format!("{from}.{name}"), h));
        table.linear_rows(&format!("{to}_attn.qkv"), &qkv, h)?;
        for (to_norm, from_norm) in ["query_norm", "key_norm"].iter().zip(names.norms) {
            table.whole(
                format!("{to}_attn.norm.{to_norm}.weight"),
                &format!("{from}.{from_norm}.weight"),
                head,
            )?;
        }
        table.linear(
            &format!("{to}_attn.proj"),
            &format!("{from}.{}", names.proj),
            [h, h],
        )?;
        // diffusers' SwiGLU projection is up, then gate, as ours.
        table.linear(
            &format!("{to}_mlp.up_gate"),
            &format!("{from}.{}.net.0.proj", names.mlp),
            [2 * mlp, h],
        )?;
        table.linear(
            &format!("{to}_mlp.down_proj"),
            &format!("{from}.{}.net.2", names.mlp),
            [h, mlp],
        )?;
    }
    Ok(())
}
