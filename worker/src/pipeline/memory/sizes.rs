//! The sizes of a model's weights in a precision, and the facts of a machine.

use super::facts::{Facts, Group, HostFacts, Visits};
use super::requests::{Requests, Target};
use crate::checkpoint::{Checkpoint, MmditConfig, PartTensors, Qwen3Config, VaeConfig};
use crate::models::vae::VaeMemory;
use crate::nn::BlockPath;
use crate::pipeline::geometry::Geometry;

/// How values are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packing {
    /// Name of the type, which decides whether pages share slots.
    pub kind: &'static str,
    /// Bytes of a block of values.
    pub bytes: u64,
    /// Values in a block.
    pub values: u64,
}

impl Packing {
    /// float32.
    pub const F32: Self = Self::of("f32", 4, 1);
    /// bfloat16.
    pub const BF16: Self = Self::of("bf16", 2, 1);
    /// E4M3.
    pub const FP8: Self = Self::of("fp8", 1, 1);

    /// Blocks of `values` values in `bytes` bytes.
    pub const fn blocks(bytes: u64, values: u64) -> Self {
        Self::of("blocks", bytes, values)
    }

    const fn of(kind: &'static str, bytes: u64, values: u64) -> Self {
        Self {
            kind,
            bytes,
            values,
        }
    }

    /// Bytes of `values` values.
    fn bytes(self, values: u64) -> u64 {
        values.div_ceil(self.values) * self.bytes
    }
}

/// A precision, as far as sizes go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Storage {
    /// Its name.
    pub name: String,
    /// The blocks' large weights.
    pub large: Packing,
    /// The weights of the modulations.
    pub modulations: Packing,
    /// The text encoder's weights.
    pub encoder: Packing,
    /// All else, and the arithmetic.
    pub other: Packing,
}

impl Storage {
    /// float32, bf16, or fp8 for the blocks' large weights and bf16 for the rest.
    pub fn plain(name: &str) -> Option<Self> {
        let (large, other) = match name {
            "f32" => (Packing::F32, Packing::F32),
            "bf16" => (Packing::BF16, Packing::BF16),
            "fp8" => (Packing::FP8, Packing::BF16),
            _ => return None,
        };
        Some(Self {
            name: name.to_owned(),
            large,
            modulations: other,
            encoder: other,
            other,
        })
    }

    /// A transformer's matrices in blocks, and bf16 for the rest.
    pub fn in_blocks(name: &str, blocks: Packing) -> Self {
        Self {
            name: name.to_owned(),
            large: blocks,
            modulations: blocks,
            encoder: Packing::BF16,
            other: Packing::BF16,
        }
    }

    /// Whether weights are opened before products: blocks are.
    fn is_opened(&self) -> bool {
        self.large.values > 1
    }
}

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

/// A part's type in its files: `BF16`, if most of its bytes have it.
type Stored = Option<String>;

/// The parts of a model, as far as their sizes go.
#[derive(Clone)]
pub struct Sizes {
    transformer: Option<(MmditConfig, Stored)>,
    text_encoder: Option<(Qwen3Config, Stored)>,
    vae: Option<(VaeConfig, bool)>,
}

impl Sizes {
    /// Of a checkpoint's parts.
    pub fn of(checkpoint: &Checkpoint) -> Self {
        let stored = |tensors: &PartTensors| tensors.dtypes().into_iter().next();
        let transformer = checkpoint.transformer.as_ref();
        let text_encoder = checkpoint.text_encoder.as_ref();
        let vae = checkpoint.vae.as_ref();
        Self {
            transformer: transformer.map(|part| (part.config.clone(), stored(&part.tensors))),
            text_encoder: text_encoder.map(|part| (part.config.clone(), stored(&part.tensors))),
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

    /// Type of most of the transformer's bytes in its files.
    pub fn stored(&self) -> Option<&str> {
        self.transformer.as_ref()?.1.as_deref()
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
        let fp8 = storage.large == Packing::FP8;
        let path = match (storage.other == Packing::BF16, machine.has_own_products) {
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
        if let Some((config, stored)) = &self.transformer {
            groups.extend(transformer_groups(config, storage, stored, step));
            fixed += transformer_rest(config, storage);
        }
        if let Some((config, stored)) = &self.text_encoder {
            let layers = encoder_group(config, storage, stored);
            fixed += encoder_rest(config, storage, machine.table_on_host);
            groups.push(layers);
        }
        Facts {
            precision: storage.name.clone(),
            budget: machine.budget,
            overhead: machine.overhead,
            fixed,
            vae: vae
                .as_ref()
                .map_or(0, |vae| storage.other.bytes(vae.parameters())),
            scratch: match (storage.is_opened(), transformer) {
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
fn modulation(config: &MmditConfig, rows: usize) -> u64 {
    (rows * config.hidden_size * config.hidden_size) as u64
}

/// Groups of pages of the transformer, whose step takes `step` seconds.
fn transformer_groups(
    config: &MmditConfig,
    storage: &Storage,
    stored: &Stored,
    step: f64,
) -> [Group; 4] {
    let blocks = config.depth_double + config.depth_single;
    let seconds = step / blocks.max(1) as f64;
    let group = |name, visits, packing: Packing, values, pages, together| Group {
        name,
        visits,
        kind: packing.kind,
        page: packing.bytes(values),
        pages,
        together,
        seconds: if visits == Visits::EveryStep {
            seconds
        } else {
            0.0
        },
        is_in_file: is_in_file(packing, stored),
    };
    let (large, modulations) = (storage.large, storage.modulations);
    let (every, portion) = (Visits::EveryStep, Visits::OncePerPortion);
    let (double, single) = (config.depth_double, config.depth_single);
    let (of_stream, of_single) = (modulation(config, 6), modulation(config, 3));
    [
        group(
            "double-stream blocks",
            every,
            large,
            unit(config),
            2 * double,
            2,
        ),
        group(
            "single-stream blocks",
            every,
            large,
            unit(config),
            single,
            1,
        ),
        group(
            "double-stream modulations",
            portion,
            modulations,
            of_stream,
            2 * double,
            2,
        ),
        group(
            "single-stream modulations",
            portion,
            modulations,
            of_single,
            single,
            1,
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
    let scales = match storage.large == Packing::FP8 {
        true => Packing::F32.bytes(rows),
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

fn encoder_group(config: &Qwen3Config, storage: &Storage, stored: &Stored) -> Group {
    Group {
        name: "text encoder layers",
        visits: Visits::OncePerPrompt,
        kind: storage.encoder.kind,
        page: storage.encoder.bytes(layer(config)),
        pages: config.num_layers,
        together: 1,
        seconds: 0.0,
        is_in_file: is_in_file(storage.encoder, stored),
    }
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

/// Whether a file has the pages' very bytes.
fn is_in_file(packing: Packing, stored: &Stored) -> bool {
    match (packing.kind, stored.as_deref()) {
        ("f32", Some("F32")) | ("bf16", Some("BF16")) => true,
        ("blocks", Some(name)) => !matches!(name, "F32" | "F16" | "BF16"),
        _ => false,
    }
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
