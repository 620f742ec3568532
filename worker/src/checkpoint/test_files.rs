//! Small safetensors files for unit tests.

use std::path::Path;

use super::geometry::{
    MmditConfig, Qwen3Config, VaeConfig, FLUX_SCALING_FACTOR, FLUX_SHIFT_FACTOR,
};
use super::layout::Layout;
use super::name_map::NameMap;
use super::vae_names::{Attention, Names};
use super::{mmdit_names, qwen3, vae_names};

/// A tensor to write.
pub struct Stored {
    name: String,
    dtype: &'static str,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

impl Stored {
    /// A tensor of float32 values.
    pub fn f32(name: &str, shape: &[usize], values: &[f32]) -> Self {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes());
        Self::raw(name, "F32", shape, bytes.collect())
    }

    /// A tensor of any type, by its safetensors name.
    pub fn raw(name: &str, dtype: &'static str, shape: &[usize], bytes: Vec<u8>) -> Self {
        Self {
            name: name.to_owned(),
            dtype,
            shape: shape.to_vec(),
            bytes,
        }
    }
}

/// Writes a safetensors file, and the folders above it.
pub fn write(path: &Path, tensors: &[Stored]) {
    write_with(path, tensors, &[]);
}

/// Writes a safetensors file with texts of metadata, and the folders above it.
pub fn write_with(path: &Path, tensors: &[Stored], metadata: &[(&str, &str)]) {
    let mut header = serde_json::Map::new();
    let texts = metadata.iter();
    let texts: serde_json::Map<_, _> = texts
        .map(|(name, text)| ((*name).to_owned(), (*text).into()))
        .collect();
    if !texts.is_empty() {
        header.insert("__metadata__".into(), texts.into());
    }
    let mut data: Vec<u8> = Vec::new();
    for tensor in tensors {
        let start = data.len();
        data.extend(&tensor.bytes);
        let info = serde_json::json!({
            "dtype": tensor.dtype,
            "shape": tensor.shape,
            "data_offsets": [start, data.len()],
        });
        header.insert(tensor.name.clone(), info);
    }
    let header = serde_json::Value::Object(header).to_string();
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.extend(data);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, bytes).unwrap();
}

/// Tensors of distinct values under all file names of a map, changed by `rename`.
pub(super) fn of_map(map: &NameMap, rename: impl Fn(&str) -> String) -> Vec<Stored> {
    let mut stored: Vec<Stored> = Vec::new();
    for tensor in map.tensors() {
        for piece in &tensor.pieces {
            let name = rename(&piece.name);
            if stored.iter().any(|other| other.name == name) {
                continue;
            }
            let count: usize = piece.shape.iter().product();
            let first = 1000 * stored.len();
            let values: Vec<f32> = (first..first + count).map(|i| i as f32 * 1e-5).collect();
            stored.push(Stored::f32(&name, &piece.shape, &values));
        }
    }
    stored
}

/// A layout and the names that its files have.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Naming {
    /// A diffusers folder.
    Diffusers,
    /// The original release.
    Original,
    /// ComfyUI's split files.
    ComfyUi,
}

impl Naming {
    /// All layouts.
    pub const ALL: [Self; 3] = [Self::Diffusers, Self::Original, Self::ComfyUi];

    /// The layout that a checkpoint of it has.
    pub fn layout(self) -> Layout {
        match self {
            Self::Diffusers => Layout::Diffusers,
            Self::Original => Layout::Original,
            Self::ComfyUi => Layout::ComfyUi,
        }
    }
}

/// A transformer's geometry with one block of each kind.
pub fn transformer_geometry() -> MmditConfig {
    MmditConfig {
        in_channels: 64,
        context_dim: 8,
        hidden_size: 32,
        num_heads: 1,
        mlp_hidden: 16,
        depth_double: 1,
        depth_single: 1,
        axes_dim: [4, 14, 14],
        theta: 10_000.0,
    }
}

/// A text encoder's geometry with one layer, which fits [`transformer_geometry`].
pub fn text_encoder_geometry() -> Qwen3Config {
    Qwen3Config {
        vocab_size: 5,
        hidden_size: 8,
        intermediate_size: 6,
        num_layers: 1,
        num_heads: 2,
        num_kv_heads: 1,
        head_dim: 4,
        rope_theta: 1e6,
        rms_norm_eps: 1e-6,
    }
}

/// An autoencoder's geometry with two levels, which fits [`transformer_geometry`].
pub fn vae_geometry() -> VaeConfig {
    VaeConfig {
        block_channels: vec![32, 64],
        layers_per_block: 1,
        latent_channels: 16,
        norm_groups: 32,
        scaling_factor: FLUX_SCALING_FACTOR,
        shift_factor: FLUX_SHIFT_FACTOR,
        native_size: 1024,
    }
}

/// Writes a checkpoint of the three small geometries, without configs and tokenizer.
pub fn write_checkpoint(root: &Path, naming: Naming) {
    let (config, same) = (transformer_geometry(), str::to_owned);
    let transformer = mmdit_names::canonical_map(&config);
    let text_encoder = of_map(&qwen3::map(&text_encoder_geometry()), |name| match naming {
        Naming::Original => format!("llm.model.{name}"),
        _ => format!("model.{name}"),
    });
    let vae = |names| of_map(&vae_names::map(&vae_geometry(), names), same);
    match naming {
        Naming::Diffusers => {
            let file = "diffusion_pytorch_model.safetensors";
            let transformer = of_map(&mmdit_names::diffusers_map(&config), same);
            write(&root.join("transformer").join(file), &transformer);
            write(&root.join("text_encoder/model.safetensors"), &text_encoder);
            let names = Names::Diffusers(Attention::ToQ);
            write(&root.join("vae").join(file), &vae(names));
        }
        Naming::Original => {
            let transformer = of_map(&transformer, |name| match name.starts_with("txt_") {
                true => format!("semantic_{name}"),
                false => name.to_owned(),
            });
            write(&root.join("ovis_image.safetensors"), &transformer);
            write(&root.join("Ovis2.5-2B/model.safetensors"), &text_encoder);
            write(&root.join("ae.safetensors"), &vae(Names::Original));
        }
        Naming::ComfyUi => {
            let transformer = of_map(&transformer, |name| {
                name.replace("norm.weight", "norm.scale")
            });
            let models = root.join("models");
            write(
                &models.join("diffusion_models/ovis.safetensors"),
                &transformer,
            );
            write(
                &models.join("text_encoders/ovis_2.5.safetensors"),
                &text_encoder,
            );
            write(&models.join("vae/ae.safetensors"), &vae(Names::Original));
        }
    }
}
