//! The sizes of a model's weights in a precision, and the facts of a machine.

use std::sync::Arc;

use candle_core::DType;

use super::facts::{Facts, Group, HostFacts, Visits};
use super::requests::{Requests, Target};
use super::storage::{Packing, Storage, BLOCKS};
use crate::checkpoint::{
    Checkpoint, MmditConfig, PartTensors, Piece, Qwen3Config, StoredType, VaeConfig,
};
use crate::models::vae::VaeMemory;
use crate::nn::BlockPath;
use crate::pipeline::geometry::Geometry;

/// What a GPU and its host have, and what is assumed of them.
#[derive(Clone, Copy, Debug)]
pub struct Machine {
    /// Bytes that the process may take of the GPU's memory.
    pub budget: u64,
    /// Bytes of the driver's context, kernels and libraries.
    pub overhead: u64,
    /// Bytes a second from pinned host memory to the GPU.
    pub link: f64,
    /// Operations a second of the transformer in bf16.
    pub speed: f64,
    /// Whether the GPU has products of our own.
    pub has_own_products: bool,
    /// The host's memory.
    pub host: HostFacts,
    /// Whether the text encoder's embedding table stays on the host.
    pub table_on_host: bool,
}

/// The parts of a model, as far as their sizes go, and their files.
#[derive(Clone)]
pub struct Sizes {
    transformer: Option<(MmditConfig, Files)>,
    text_encoder: Option<(Qwen3Config, Files)>,
    vae: Option<(VaeConfig, bool)>,
}

/// A part's tensors in its files, if it has any.
type Files = Option<Arc<PartTensors>>;

impl Sizes {
    /// Of a checkpoint's parts.
    pub fn of(checkpoint: &Checkpoint) -> Self {
        let transformer = checkpoint.transformer.as_ref();
        let text_encoder = checkpoint.text_encoder.as_ref();
        let vae = checkpoint.vae.as_ref();
        Self {
            transformer: transformer.map(|part| (part.config.clone(), Some(part.tensors.clone()))),
            text_encoder: text_encoder
                .map(|part| (part.config.clone(), Some(part.tensors.clone()))),
            vae: vae.map(|part| {
                let can_encode = part.tensors.contains("encoder.conv_in.weight");
                (part.config.clone(), can_encode)
            }),
        }
    }

    /// Of a geometry, whose weights are in no files.
    pub fn of_geometry(geometry: &Geometry) -> Self {
        Self {
            transformer: Some((geometry.transformer.clone(), None)),
            text_encoder: Some((geometry.text_encoder.clone(), None)),
            vae: Some((geometry.vae.clone(), true)),
        }
    }

    /// Whether the transformer's large weights are in blocks in its files.
    pub fn is_in_blocks(&self) -> bool {
        let files = self
            .transformer
            .as_ref()
            .and_then(|(_, files)| files.as_ref());
        let first = files.and_then(|files| files.tensor("single_blocks.0.linear1.weight"));
        first.is_some_and(|weight| {
            let is_block = |piece: &Piece| matches!(piece.stored(), StoredType::Block(_));
            weight.pieces.iter().all(is_block)
        })
    }

    /// Width of the transformer's heads; 0 without a transformer.
    pub fn head_dim(&self) -> usize {
        let transformer = self.transformer.as_ref();
        transformer.map_or(0, |(config, _)| config.head_dim())
    }

    /// The facts for a target on a machine, in images of `steps` steps.
    pub fn facts(
        &self,
        storage: &Storage,
        machine: &Machine,
        target: Target,
        steps: usize,
    ) -> Facts {
        let value = storage.other.bytes;
        let fp8 = storage.is_fp8();
        let path = match (
            storage.other.kind == DType::BF16.as_str(),
            machine.has_own_products,
        ) {
            (false, _) => BlockPath::Plain,
            (true, true) => BlockPath::Own { fp8 },
            (true, false) => BlockPath::Library { fp8 },
        };
        let transformer = self.transformer.as_ref().map(|(config, _)| config);
        let text_encoder = self.text_encoder.as_ref().map(|(config, _)| config);
        let vae = self.vae.as_ref();
        let vae = vae.map(|(config, can_encode)| {
            VaeMemory::of_geometry(config, *can_encode, value as usize)
        });
        let step = transformer.map_or(0.0, |config| step_seconds(config, target, machine, fp8));
        let mut groups = Vec::new();
        let mut fixed = 0;
        if let Some((config, files)) = &self.transformer {
            groups.extend(transformer_groups(config, storage, files, step));
            fixed += transformer_rest(config, storage);
        }
        if let Some((config, files)) = &self.text_encoder {
            groups.push(encoder_group(config, storage, files));
            fixed += encoder_rest(config, storage, machine.table_on_host);
        }
        let is_opened = groups.iter().any(|group| group.kind == BLOCKS);
        Facts {
            precision: storage.name.to_owned(),
            budget: machine.budget,
            overhead: machine.overhead,
            fixed,
            vae: vae
                .as_ref()
                .map_or(0, |vae| storage.other.bytes(vae.parameters())),
            scratch: match (is_opened, transformer) {
                (true, Some(config)) => storage.other.bytes(widest(config)),
                _ => 0,
            },
            requests: Requests::new(transformer, text_encoder, vae.as_ref(), path, value),
            groups,
            host: machine.host,
            link: machine.link,
            step,
            steps,
            target,
        }
    }
}

/// Parameters of a stream of a double-stream block, or of a single-stream block: their large
/// weights.
fn unit(config: &MmditConfig) -> u64 {
    let units = 2 * config.depth_double + config.depth_single;
    config.large_parameters() / units.max(1) as u64
}

/// Parameters of the largest single weight: a single-stream block's first.
fn widest(config: &MmditConfig) -> u64 {
    (config.hidden_size * (3 * config.hidden_size + 2 * config.mlp_hidden)) as u64
}

/// Parameters in a modulation's weight of `rows` rows of the width.
fn modulation(config: &MmditConfig, rows: u64) -> u64 {
    rows * (config.hidden_size * config.hidden_size) as u64
}

/// The weights of one page: names of tensors, and their numbers of values.
type Page = Vec<(String, u64)>;

/// Bytes and type of a page, and whether a file has those very bytes. Files in blocks stay in
/// blocks, except in fp8.
fn stored(page: &Page, packing: Packing, files: &Files, fp8: bool) -> (u64, &'static str, bool) {
    let (mut sum, mut kind, mut is_in_file) = (0, packing.kind, true);
    for (name, values) in page {
        let pieces = files.as_ref().and_then(|files| files.tensor(name));
        let pieces = pieces.map_or(&[][..], |tensor| &tensor.pieces);
        let is = |wanted: &dyn Fn(&StoredType) -> bool| {
            !pieces.is_empty() && pieces.iter().all(|piece| wanted(piece.stored()))
        };
        if !fp8 && is(&|stored| matches!(stored, StoredType::Block(_))) {
            kind = BLOCKS;
            sum += pieces.iter().map(Piece::byte_count).sum::<u64>();
        } else {
            sum += packing.bytes(*values);
            is_in_file &= is(&|stored| match stored {
                StoredType::F32 => packing.kind == DType::F32.as_str(),
                StoredType::Bf16 => packing.kind == DType::BF16.as_str(),
                _ => false,
            });
        }
    }
    (sum, kind, is_in_file)
}

/// A group of pages, of which the largest decides the size of all.
fn group(
    (name, visits, together): (&'static str, Visits, usize),
    pages: &[Page],
    packing: Packing,
    (files, fp8): (&Files, bool),
) -> Group {
    let stored = pages.iter().map(|page| stored(page, packing, files, fp8));
    let stored: Vec<_> = stored.collect();
    let blocks = stored.iter().find(|(_, kind, _)| *kind == BLOCKS);
    Group {
        name,
        visits,
        kind: blocks.map_or(packing.kind, |(_, kind, _)| kind),
        page: stored.iter().map(|(bytes, _, _)| *bytes).max().unwrap_or(0),
        pages: pages.len(),
        together,
        seconds: 0.0,
        is_in_file: stored.iter().all(|(_, _, is_in_file)| *is_in_file),
    }
}

/// Groups of pages of the transformer, whose step takes `step` seconds.
fn transformer_groups(
    config: &MmditConfig,
    storage: &Storage,
    files: &Files,
    step: f64,
) -> [Group; 4] {
    let (hidden, inner) = (config.hidden_size as u64, config.mlp_hidden as u64);
    let (double, single) = (config.depth_double, config.depth_single);
    let streams = (0..double)
        .flat_map(|block| ["img", "txt"].map(|stream| format!("double_blocks.{block}.{stream}")));
    let of_stream = |stream: &String| -> Page {
        vec![
            (format!("{stream}_attn.qkv.weight"), 3 * hidden * hidden),
            (format!("{stream}_attn.proj.weight"), hidden * hidden),
            (format!("{stream}_mlp.up_gate.weight"), 2 * hidden * inner),
            (format!("{stream}_mlp.down_proj.weight"), hidden * inner),
        ]
    };
    let streams: Vec<String> = streams.collect();
    let doubles: Vec<Page> = streams.iter().map(of_stream).collect();
    let singles = (0..single).map(|block| -> Page {
        let at = format!("single_blocks.{block}");
        let both = hidden + inner;
        vec![
            (
                format!("{at}.linear1.weight"),
                hidden * (3 * hidden + 2 * inner),
            ),
            (format!("{at}.linear2.weight"), hidden * both),
        ]
    });
    let singles: Vec<Page> = singles.collect();
    let modulations = streams
        .iter()
        .map(|stream| -> Page { vec![(format!("{stream}_mod.lin.weight"), 6 * hidden * hidden)] });
    let of_doubles: Vec<Page> = modulations.collect();
    let modulations = (0..single).map(|block| -> Page {
        let name = format!("single_blocks.{block}.modulation.lin.weight");
        vec![(name, 3 * hidden * hidden)]
    });
    let of_singles: Vec<Page> = modulations.collect();
    let files = (files, storage.is_fp8());
    let (every, portion) = (Visits::EveryStep, Visits::OncePerPortion);
    let (large, small) = (storage.large, storage.modulations);
    let seconds = step / (double + single).max(1) as f64;
    [
        Group {
            seconds,
            ..group(("double-stream blocks", every, 2), &doubles, large, files)
        },
        Group {
            seconds,
            ..group(("single-stream blocks", every, 1), &singles, large, files)
        },
        group(
            ("double-stream modulations", portion, 2),
            &of_doubles,
            small,
            files,
        ),
        group(
            ("single-stream modulations", portion, 1),
            &of_singles,
            small,
            files,
        ),
    ]
}

/// Bytes of the transformer's weights outside its pages: ends, biases, norms, and the scales of fp8
/// rows.
fn transformer_rest(config: &MmditConfig, storage: &Storage) -> u64 {
    let (double, single) = (2 * config.depth_double as u64, config.depth_single as u64);
    let modulations = double * modulation(config, 6) + single * modulation(config, 3);
    let rest = config.parameters() - config.large_parameters() - modulations;
    let (hidden, inner) = (config.hidden_size as u64, config.mlp_hidden as u64);
    let rows = double * (5 * hidden + 2 * inner) + single * (4 * hidden + 2 * inner);
    let scales = match storage.is_fp8() {
        true => Packing::dense(DType::F32).bytes(rows),
        false => 0,
    };
    storage.other.bytes(rest) + scales
}

/// Parameters of the matrices of a text encoder's layer.
fn layer(config: &Qwen3Config) -> u64 {
    let heads = 2 * config.num_heads + 2 * config.num_kv_heads;
    let attention = heads * config.head_dim * config.hidden_size;
    (attention + 3 * config.hidden_size * config.intermediate_size) as u64
}

fn encoder_group(config: &Qwen3Config, storage: &Storage, files: &Files) -> Group {
    let (hidden, inner) = (config.hidden_size as u64, config.intermediate_size as u64);
    let [queries, keys] = [config.num_heads, config.num_kv_heads];
    let [queries, keys] = [queries, keys].map(|heads| (heads * config.head_dim) as u64 * hidden);
    let matrices = [
        ("self_attn.q_proj", queries),
        ("self_attn.k_proj", keys),
        ("self_attn.v_proj", keys),
        ("self_attn.o_proj", queries),
        ("mlp.up_proj", hidden * inner),
        ("mlp.gate_proj", hidden * inner),
        ("mlp.down_proj", hidden * inner),
    ];
    let pages = (0..config.num_layers).map(|layer| -> Page {
        let named = matrices.iter();
        let named = named.map(|(name, values)| (format!("layers.{layer}.{name}.weight"), *values));
        named.collect()
    });
    let pages: Vec<Page> = pages.collect();
    let kind = ("text encoder layers", Visits::OncePerPrompt, 1);
    group(kind, &pages, storage.other, (files, storage.is_fp8()))
}

/// Bytes of the text encoder's weights outside its layers' matrices, on the GPU.
fn encoder_rest(config: &Qwen3Config, storage: &Storage, table_on_host: bool) -> u64 {
    let table = (config.vocab_size * config.hidden_size) as u64;
    let layers = config.num_layers as u64 * layer(config);
    let norms = config.parameters() - table - layers;
    storage
        .other
        .bytes(norms + if table_on_host { 0 } else { table })
}

/// How much faster than in bf16 the transformer's operations are in fp8, as measured on an H100 and
/// an H200 at 1024 x 1024.
const FP8_SPEED: f64 = 1.55;

/// Seconds of a step: its operations at the machine's speed.
fn step_seconds(config: &MmditConfig, target: Target, machine: &Machine, fp8: bool) -> f64 {
    let branches = if target.is_guided { 2.0 } else { 1.0 };
    let image = (target.width / 16 * (target.height / 16)) as f64;
    let tokens = image + crate::pipeline::prompt::MAX_CUT_LENGTH as f64;
    let blocks = (config.depth_double + config.depth_single) as f64;
    let hidden = config.hidden_size as f64;
    let products = 2.0 * tokens * blocks * unit(config) as f64;
    let attention = 4.0 * tokens * tokens * hidden * blocks;
    let speed = machine.speed * if fp8 { FP8_SPEED } else { 1.0 };
    target.batch as f64 * branches * (products + attention) / speed
}
