//! Recognises the autoencoder's tensors and reads its geometry.

use serde::Deserialize;

use super::config::{Config, Count, Positive};
use super::error::WeightsError;
use super::geometry::{VaeConfig, FLUX_SCALING_FACTOR, FLUX_SHIFT_FACTOR, NATIVE_SIZE};
use super::part::PartTensors;
use super::part_names::VAE;
use super::set::TensorSet;
use super::vae_names::{self, Names};
use super::{table, vae_others};

/// Groups of FLUX.1's group norms, for files without a config.
const NORM_GROUPS: usize = 32;

/// Tensors by which the part is recognised.
const ANCHORS: [&str; 2] = ["decoder.conv_in.weight", "encoder.conv_in.weight"];
/// Prefixes that programs put in front of all names.
const PREFIXES: [&str; 4] = ["", "first_stage_model.", "vae.", "model."];

/// Whether the set has the outer convolutions of an image autoencoder, of any model.
pub(super) fn recognises(set: &TensorSet) -> bool {
    PREFIXES.iter().any(|prefix| {
        ANCHORS
            .iter()
            .any(|anchor| set.get(&format!("{prefix}{anchor}")).is_some())
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
) -> Result<(VaeConfig, PartTensors), WeightsError> {
    let set = set.strip_prefix(VAE, &PREFIXES, &ANCHORS)?;
    let names = Names::of(&set);
    vae_others::by_latents(&set)?;
    let shapes = infer(&set, names)?;
    let config = match config {
        Some(config) => read_config(config, shapes)?,
        None => shapes,
    };
    check(&set, &config)?;
    let map = vae_names::map(&config, names);
    let tensors = table::resolve(VAE, &map, &set, |_| None)?;
    Ok((config, tensors))
}

/// The geometry according to the tensors' shapes and the family's constants.
fn infer(set: &TensorSet, names: Names) -> Result<VaeConfig, WeightsError> {
    let (levels, blocks) = match names {
        Names::Original => ("encoder.down", "block"),
        Names::Diffusers(_) => ("encoder.down_blocks", "resnets"),
    };
    let mut block_channels = Vec::new();
    // At least one level, so that the missing tensor of an encoder without any is reported.
    for level in 0..set.count(levels).max(1) {
        let name = format!("{levels}.{level}.{blocks}.0.conv1.weight");
        let [out, _, _, _] = set.dims(VAE, &name)?;
        block_channels.push(out);
    }
    let [_, latent_channels, _, _] = set.dims(VAE, "decoder.conv_in.weight")?;
    Ok(VaeConfig {
        block_channels,
        layers_per_block: set.count(&format!("{levels}.0.{blocks}")),
        latent_channels,
        norm_groups: NORM_GROUPS,
        scaling_factor: FLUX_SCALING_FACTOR,
        shift_factor: FLUX_SHIFT_FACTOR,
        native_size: NATIVE_SIZE,
    })
}

/// Largest number of levels, each of which halves the image's sides.
const MAX_LEVELS: usize = 8;

/// Checks the dimensions that the network is sized by.
fn check(set: &TensorSet, config: &VaeConfig) -> Result<(), WeightsError> {
    let wrong = |reason| set.geometry_error(VAE, reason);
    let (channels, groups) = (&config.block_channels, config.norm_groups);
    if channels.len() > MAX_LEVELS {
        return Err(wrong(format!("it has {} levels", channels.len())));
    }
    for &width in channels {
        set.check_dimensions(VAE, &[("a level's channels", width)])?;
        if width % groups != 0 {
            return Err(wrong(format!(
                "a level of {width} channels cannot be normed in {groups} groups"
            )));
        }
    }
    let dimensions = [
        ("its latent channels", config.latent_channels),
        ("its residual blocks a level", config.layers_per_block),
    ];
    set.check_dimensions(VAE, &dimensions)
}

/// Image sides in pixels that a config may give as the training size.
const NATIVE_SIZES: std::ops::RangeInclusive<usize> = 16..=4096;

/// Fields of diffusers' `config.json` for `AutoencoderKL`.
#[derive(Deserialize)]
struct Fields {
    in_channels: Option<Count>,
    out_channels: Option<Count>,
    layers_per_block: Option<Count>,
    latent_channels: Option<Count>,
    block_out_channels: Option<Vec<Count>>,
    norm_num_groups: Option<Count>,
    scaling_factor: Option<Positive>,
    shift_factor: Option<f64>,
    sample_size: Option<Count>,
}

/// Checks diffusers' `config.json` against the geometry of the shapes, and adds what these do
/// not determine: groups, latent scale and shift, and the training size.
///
/// # Errors
/// The config has an unusable value, contradicts the shapes, or has the latent scale of
/// another model.
fn read_config(config: &Config, shapes: VaeConfig) -> Result<VaeConfig, WeightsError> {
    let fields: Fields = config.read()?;
    for (field, value, found) in [
        ("in_channels", fields.in_channels, 3),
        ("out_channels", fields.out_channels, 3),
        (
            "layers_per_block",
            fields.layers_per_block,
            shapes.layers_per_block,
        ),
        (
            "latent_channels",
            fields.latent_channels,
            shapes.latent_channels,
        ),
    ] {
        config.agrees(field, value, found)?;
    }
    if let Some(channels) = fields.block_out_channels {
        let channels: Vec<_> = channels.into_iter().map(|count| count.0).collect();
        if channels != shapes.block_channels {
            return Err(config.error(format!(
                "its `block_out_channels` are {channels:?}, and the weights beside it have {:?}",
                shapes.block_channels
            )));
        }
    }
    let scaling_factor = fields.scaling_factor.map_or(FLUX_SCALING_FACTOR, |f| f.0);
    if let Some((scale, model)) = vae_others::by_scale(scaling_factor) {
        return Err(config.error(format!(
            "its `scaling_factor` is {scale}, which makes it the VAE of {model}, not of Ovis-Image"
        )));
    }
    let native_size = fields.sample_size.map_or(NATIVE_SIZE, |size| size.0);
    if !NATIVE_SIZES.contains(&native_size) {
        return Err(config.error(format!("its `sample_size` is {native_size}")));
    }
    Ok(VaeConfig {
        norm_groups: fields
            .norm_num_groups
            .map_or(NORM_GROUPS, |groups| groups.0),
        scaling_factor,
        shift_factor: fields.shift_factor.unwrap_or(FLUX_SHIFT_FACTOR),
        native_size,
        ..shapes
    })
}
