//! `inspect`: describes checkpoint files without reading their weights, and adapters.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{json, Value};

use super::error::CliError;
use super::inspect_adapter;
use super::inspect_plan::PlanArgs;
use super::model_args::ModelArgs;
use super::report_text::{bytes, parameters, plain, plain_list};
use super::terminal;
use crate::checkpoint::{
    AdapterFile, Checkpoint, MmditConfig, PartTensors, Qwen3Config, TokenizerFiles, VaeConfig,
};

/// Which files to describe, and how.
#[derive(Clone, Debug, Args)]
pub struct InspectArgs {
    /// The checkpoint: a diffusers folder, the original release's folder, a ComfyUI `models`
    /// folder, a repository in Hugging Face's cache or its name, or a single file. Or an adapter
    /// (LoRA and its relatives), which is compared with the model that --transformer and
    /// --text-encoder name, if they do.
    #[arg(value_name = "PATH", conflicts_with = "model")]
    pub path: Option<PathBuf>,
    #[command(flatten)]
    pub model: ModelArgs,
    #[command(flatten)]
    pub plan: PlanArgs,
    /// Print the description as JSON.
    #[arg(long)]
    pub json: bool,
}

/// Opens the checkpoint or the adapter and prints what it holds.
///
/// # Errors
/// No checkpoint is found, or a file of it or the adapter is not valid.
pub fn run(args: &InspectArgs) -> Result<(), CliError> {
    let mut named = args.model.checkpoint();
    if let Some(path) = args
        .path
        .as_ref()
        .filter(|path| !args.plan.is_given() && AdapterFile::recognises(path))
    {
        let report = inspect_adapter::report(path, &named)?;
        return match args.json {
            true => terminal::print(&format!("{report:#}")),
            false => terminal::print(&inspect_adapter::as_text(&report)),
        };
    }
    named.model = args.path.clone().or(named.model);
    let checkpoint = Checkpoint::open(&named)?;
    if args.plan.is_given() {
        return args.plan.print(&checkpoint, args.json);
    }
    let report = report(&checkpoint)?;
    match args.json {
        true => terminal::print(&format!("{report:#}")),
        false => terminal::print(&as_text(&report)),
    }
}

/// The description as JSON. A missing part is null.
///
/// # Errors
/// The tokenizer's files are not valid.
pub fn report(checkpoint: &Checkpoint) -> Result<Value, CliError> {
    let transformer = checkpoint
        .transformer
        .as_ref()
        .map(|p| part(&p.tensors, mmdit_geometry(&p.config)));
    let text_encoder = checkpoint
        .text_encoder
        .as_ref()
        .map(|p| part(&p.tensors, qwen3_geometry(&p.config)));
    let vae = checkpoint
        .vae
        .as_ref()
        .map(|p| part(&p.tensors, vae_geometry(&p.config)));
    let embeddings = checkpoint.embeddings();
    let tokenizer = checkpoint.tokenizer.as_ref();
    let tokenizer = tokenizer.map(|files| tokenizer_report(files, embeddings));
    let tokenizer = tokenizer.transpose()?;
    let parts = checkpoint.parts();
    let total = |of: fn(&PartTensors) -> u64| parts.iter().map(|(_, t)| of(t)).sum::<u64>();
    let skipped = checkpoint.skipped.iter();
    let skipped = skipped.map(|s| json!({ "path": text(&s.path), "reason": s.reason }));
    Ok(json!({
        "name": checkpoint.name,
        "layout": checkpoint.layout.name(),
        "transformer": transformer,
        "text_encoder": text_encoder,
        "vae": vae,
        "tokenizer": tokenizer,
        "parameters": total(PartTensors::parameters),
        "bytes": total(PartTensors::bytes),
        "missing": checkpoint.missing(),
        "skipped": skipped.collect::<Vec<_>>(),
        "notes": checkpoint.notes,
    }))
}

/// A path as text. Bytes that are not UTF-8 are replaced.
fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

fn part(tensors: &PartTensors, geometry: Value) -> Value {
    let ignored = tensors.ignored().iter();
    let ignored =
        ignored.map(|i| json!({ "name": i.name, "tensors": i.tensors, "bytes": i.bytes }));
    json!({
        "path": text(tensors.path()),
        "files": tensors.files(),
        "tensors": tensors.tensors(),
        "parameters": tensors.parameters(),
        "bytes": tensors.bytes(),
        "dtypes": tensors.dtypes(),
        "bits_per_weight": bits_per_weight(tensors),
        "geometry": geometry,
        "ignored": ignored.collect::<Vec<_>>(),
    })
}

/// Bits that a parameter takes in the files on average, to hundredths.
fn bits_per_weight(tensors: &PartTensors) -> f64 {
    let bits = 8.0 * tensors.bytes() as f64 / tensors.parameters().max(1) as f64;
    (100.0 * bits).round() / 100.0
}

fn tokenizer_report(files: &TokenizerFiles, embeddings: Option<usize>) -> Result<Value, CliError> {
    let tokenizer = files.load(embeddings)?;
    Ok(json!({
        "path": text(files.path()),
        "vocabulary": tokenizer.get_vocab_size(true),
    }))
}

fn mmdit_geometry(config: &MmditConfig) -> Value {
    json!({
        "in_channels": config.in_channels,
        "context_dim": config.context_dim,
        "hidden_size": config.hidden_size,
        "num_heads": config.num_heads,
        "mlp_hidden": config.mlp_hidden,
        "depth_double": config.depth_double,
        "depth_single": config.depth_single,
        "axes_dim": config.axes_dim,
        "theta": config.theta,
    })
}

fn qwen3_geometry(config: &Qwen3Config) -> Value {
    json!({
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_size,
        "intermediate_size": config.intermediate_size,
        "num_layers": config.num_layers,
        "num_heads": config.num_heads,
        "num_kv_heads": config.num_kv_heads,
        "head_dim": config.head_dim,
        "rope_theta": config.rope_theta,
        "rms_norm_eps": config.rms_norm_eps,
    })
}

fn vae_geometry(config: &VaeConfig) -> Value {
    json!({
        "block_channels": config.block_channels,
        "layers_per_block": config.layers_per_block,
        "latent_channels": config.latent_channels,
        "norm_groups": config.norm_groups,
        "scaling_factor": config.scaling_factor,
        "shift_factor": config.shift_factor,
        "native_size": config.native_size,
    })
}

/// The description as text for a terminal.
fn as_text(report: &Value) -> String {
    let mut text = format!(
        "{} ({} layout): {} parameters, {}\n",
        plain(&report["name"]),
        plain(&report["layout"]),
        parameters(&report["parameters"]),
        bytes(&report["bytes"]),
    );
    // Results of `writeln!` are ignored: writing to a string cannot fail.
    for (field, title) in [
        ("transformer", "transformer"),
        ("text_encoder", "text encoder"),
        ("vae", "VAE"),
    ] {
        let part = &report[field];
        if part.is_null() {
            continue;
        }
        let _ = writeln!(
            text,
            "\n{title}: {}\n  {} parameters in {} tensors, {} ({} bits per weight), {}, {} file(s)",
            plain(&part["path"]),
            parameters(&part["parameters"]),
            part["tensors"],
            plain_list(&part["dtypes"]),
            part["bits_per_weight"],
            bytes(&part["bytes"]),
            part["files"],
        );
        for (name, value) in part["geometry"].as_object().into_iter().flatten() {
            let _ = writeln!(text, "  {name}: {}", plain_list(value));
        }
        for extra in part["ignored"].as_array().into_iter().flatten() {
            let _ = writeln!(
                text,
                "  ignored: {}, {} tensor(s), {}",
                plain(&extra["name"]),
                extra["tensors"],
                bytes(&extra["bytes"]),
            );
        }
    }
    let tokenizer = &report["tokenizer"];
    if !tokenizer.is_null() {
        let _ = writeln!(
            text,
            "\ntokenizer: {}\n  {} tokens",
            plain(&tokenizer["path"]),
            tokenizer["vocabulary"],
        );
    }
    for file in report["skipped"].as_array().into_iter().flatten() {
        // Not through `plain`: a reason is already escaped, and may be longer than a name.
        let reason = file["reason"].as_str().unwrap_or_default();
        let _ = writeln!(text, "\nleft aside: {reason}");
    }
    for note in report["notes"].as_array().into_iter().flatten() {
        let _ = writeln!(text, "\nnote: {}", note.as_str().unwrap_or_default());
    }
    let missing = plain_list(&report["missing"]);
    let missing = if missing.is_empty() {
        "nothing"
    } else {
        &missing
    };
    let _ = writeln!(text, "\nmissing: {missing}");
    text
}
