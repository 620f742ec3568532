//! The autoencoder's names: FLUX.1's own, and diffusers'.
//!
//! Sources: AIDC-AI/Ovis-Image `ovis_image/model/autoencoder.py`, diffusers
//! `models/autoencoders/vae.py` and `models/unets/unet_2d_blocks.py`.

use super::error::WeightsError;
use super::geometry::{VaeConfig, FLUX_SCALING_FACTOR, FLUX_SHIFT_FACTOR, NATIVE_SIZE};
use super::json::Config;
use super::part::{in_range, PartTensors, TableBuilder};
use super::set::TensorSet;
use super::{vae_others, VAE};

/// Groups of FLUX.1's group norms, for files without a config.
const NORM_GROUPS: usize = 32;

const ANCHORS: [&str; 2] = ["decoder.conv_in.weight", "encoder.conv_in.weight"];
const PREFIXES: [&str; 4] = ["", "first_stage_model.", "vae.", "model."];

/// Whether the set looks like an image autoencoder at all.
pub(super) fn recognises(set: &TensorSet) -> bool {
    PREFIXES.iter().any(|prefix| {
        ANCHORS
            .iter()
            .any(|anchor| set.get(&format!("{prefix}{anchor}")).is_some())
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
) -> Result<(VaeConfig, PartTensors), WeightsError> {
    let set = set.strip_prefix(VAE, &PREFIXES, &ANCHORS)?;
    let names = if set.any_starts_with("decoder.up_blocks.") {
        Names::Diffusers
    } else {
        Names::Original
    };
    vae_others::by_latents(&set)?;
    let shapes = infer(&set, names)?;
    let config = match config {
        Some(config) => read_config(config, shapes)?,
        None => shapes,
    };
    check(&set, &config)?;
    let mut mapping = Mapping {
        names,
        table: TableBuilder::new(VAE, set),
    };
    mapping.encoder(&config)?;
    mapping.decoder(&config)?;
    Ok((config, mapping.table.finish(|_| None)?))
}

/// The geometry by shapes and the family's rules.
fn infer(set: &TensorSet, names: Names) -> Result<VaeConfig, WeightsError> {
    let (levels, blocks) = match names {
        Names::Original => ("encoder.down", "block"),
        Names::Diffusers => ("encoder.down_blocks", "resnets"),
    };
    let mut block_channels = Vec::new();
    // At least one level, so that an encoder without any is told as missing.
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

/// Most levels: each halves the image's sides.
const MAX_LEVELS: usize = 8;

/// Checks what the network divides by and multiplies.
fn check(set: &TensorSet, config: &VaeConfig) -> Result<(), WeightsError> {
    let wrong = |reason: String| WeightsError::Geometry {
        file: set.path().to_owned(),
        part: VAE,
        reason,
    };
    let (channels, groups) = (&config.block_channels, config.norm_groups);
    if channels.len() > MAX_LEVELS {
        return Err(wrong(format!("it has {} levels", channels.len())));
    }
    for &width in channels {
        in_range("a level's channels", width).map_err(wrong)?;
        if width % groups != 0 {
            return Err(wrong(format!(
                "a level of {width} channels cannot be normed in {groups} groups"
            )));
        }
    }
    in_range("its latent channels", config.latent_channels).map_err(wrong)?;
    in_range("its residual blocks a level", config.layers_per_block).map_err(wrong)
}

/// Sides of an image that a model may say it was trained on.
const NATIVE_SIZES: std::ops::RangeInclusive<usize> = 16..=4096;

/// The geometry by diffusers' `config.json`, which must be that of the weights' shapes.
fn read_config(config: &Config, shapes: VaeConfig) -> Result<VaeConfig, WeightsError> {
    for (field, found) in [
        ("in_channels", 3),
        ("out_channels", 3),
        ("layers_per_block", shapes.layers_per_block),
        ("latent_channels", shapes.latent_channels),
    ] {
        config.agrees(field, found)?;
    }
    let channels = config.counts("block_out_channels")?;
    if channels.is_some_and(|channels| channels != shapes.block_channels) {
        return Err(config.error(format!(
            "its `block_out_channels` are {}, and the weights beside it have {:?}",
            config.fields["block_out_channels"], shapes.block_channels
        )));
    }
    let scaling_factor = config.positive("scaling_factor", FLUX_SCALING_FACTOR)?;
    if let Some((scale, model)) = vae_others::by_scale(scaling_factor) {
        return Err(config.error(format!(
            "its `scaling_factor` is {scale}, which makes it the VAE of {model}, not of Ovis-Image"
        )));
    }
    let native_size = config.count("sample_size", NATIVE_SIZE)?;
    if !NATIVE_SIZES.contains(&native_size) {
        return Err(config.error(format!("its `sample_size` is {native_size}")));
    }
    Ok(VaeConfig {
        norm_groups: config.count("norm_num_groups", NORM_GROUPS)?,
        scaling_factor,
        shift_factor: config.number("shift_factor", FLUX_SHIFT_FACTOR)?,
        native_size,
        ..shapes
    })
}

#[derive(Clone, Copy, PartialEq)]
enum Names {
    Original,
    Diffusers,
}

/// Writes the table, each canonical (FLUX.1) name beside the file's.
struct Mapping {
    names: Names,
    table: TableBuilder,
}

impl Mapping {
    fn pick(&self, original: &str, diffusers: String) -> String {
        match self.names {
            Names::Original => original.to_owned(),
            Names::Diffusers => diffusers,
        }
    }

    /// A convolution's `weight` `[out, in, k, k]` and `bias`.
    fn conv(
        &mut self,
        canonical: &str,
        name: &str,
        [out, inner, k]: [usize; 3],
    ) -> Result<(), WeightsError> {
        self.table.whole(
            format!("{canonical}.weight"),
            &format!("{name}.weight"),
            &[out, inner, k, k],
        )?;
        self.vector(canonical, name, "bias", out)
    }

    fn norm(&mut self, canonical: &str, name: &str, width: usize) -> Result<(), WeightsError> {
        self.vector(canonical, name, "weight", width)?;
        self.vector(canonical, name, "bias", width)
    }

    fn vector(
        &mut self,
        canonical: &str,
        name: &str,
        end: &str,
        width: usize,
    ) -> Result<(), WeightsError> {
        self.table.whole(
            format!("{canonical}.{end}"),
            &format!("{name}.{end}"),
            &[width],
        )
    }

    fn resnet(
        &mut self,
        canonical: &str,
        name: &str,
        [inner, out]: [usize; 2],
    ) -> Result<(), WeightsError> {
        let join = |piece: &str| (format!("{canonical}.{piece}"), format!("{name}.{piece}"));
        for (piece, width) in [("norm1", inner), ("norm2", out)] {
            let (to, from) = join(piece);
            self.norm(&to, &from, width)?;
        }
        for (piece, width) in [("conv1", inner), ("conv2", out)] {
            let (to, from) = join(piece);
            self.conv(&to, &from, [out, width, 3])?;
        }
        if inner != out {
            let to = format!("{canonical}.nin_shortcut");
            let from = self.pick(&to, format!("{name}.conv_shortcut"));
            self.conv(&to, &from, [out, inner, 1])?;
        }
        Ok(())
    }

    fn mid(&mut self, side: &str, width: usize) -> Result<(), WeightsError> {
        for (number, index) in [(1, 0), (2, 1)] {
            let to = format!("{side}.mid.block_{number}");
            let from = self.pick(&to, format!("{side}.mid_block.resnets.{index}"));
            self.resnet(&to, &from, [width, width])?;
        }
        let to = format!("{side}.mid.attn_1");
        let block = format!("{side}.mid_block.attentions.0");
        let from = self.pick(&format!("{to}.norm"), format!("{block}.group_norm"));
        self.norm(&format!("{to}.norm"), &from, width)?;
        // diffusers' names, and those it had before its attention was rewritten.
        let pieces = [
            ("q", "to_q", "query"),
            ("k", "to_k", "key"),
            ("v", "to_v", "value"),
            ("proj_out", "to_out.0", "proj_attn"),
        ];
        for (piece, new, old) in pieces {
            let canonical = format!("{to}.{piece}");
            let is_old = self.table.set().any_starts_with(&format!("{block}.{old}."));
            let end = if is_old { old } else { new };
            let from = self.pick(&canonical, format!("{block}.{end}"));
            self.table.squeezed(
                format!("{canonical}.weight"),
                &format!("{from}.weight"),
                &[width, width],
            )?;
            self.vector(&canonical, &from, "bias", width)?;
        }
        Ok(())
    }

    fn ends(
        &mut self,
        side: &str,
        inputs: [usize; 2],
        outputs: [usize; 2],
    ) -> Result<(), WeightsError> {
        let [input, first] = inputs;
        let [last, output] = outputs;
        let conv_in = format!("{side}.conv_in");
        self.conv(&conv_in, &conv_in, [first, input, 3])?;
        let norm_out = format!("{side}.norm_out");
        let from = self.pick(&norm_out, format!("{side}.conv_norm_out"));
        self.norm(&norm_out, &from, last)?;
        let conv_out = format!("{side}.conv_out");
        self.conv(&conv_out, &conv_out, [output, last, 3])
    }

    fn encoder(&mut self, config: &VaeConfig) -> Result<(), WeightsError> {
        let channels = &config.block_channels;
        let (first, last) = (channels[0], channels[channels.len() - 1]);
        self.ends("encoder", [3, first], [last, 2 * config.latent_channels])?;
        self.mid("encoder", last)?;
        let mut width = first;
        for (level, &out) in channels.iter().enumerate() {
            for block in 0..config.layers_per_block {
                let to = format!("encoder.down.{level}.block.{block}");
                let from = format!("encoder.down_blocks.{level}.resnets.{block}");
                let from = self.pick(&to, from);
                self.resnet(&to, &from, [width, out])?;
                width = out;
            }
            if level + 1 < channels.len() {
                let to = format!("encoder.down.{level}.downsample.conv");
                let from = format!("encoder.down_blocks.{level}.downsamplers.0.conv");
                let from = self.pick(&to, from);
                self.conv(&to, &from, [out, out, 3])?;
            }
        }
        Ok(())
    }

    fn decoder(&mut self, config: &VaeConfig) -> Result<(), WeightsError> {
        let channels = &config.block_channels;
        let levels = channels.len();
        let (first, last) = (channels[0], channels[levels - 1]);
        self.ends("decoder", [config.latent_channels, last], [first, 3])?;
        self.mid("decoder", last)?;
        let mut width = last;
        for (level, &out) in channels.iter().enumerate().rev() {
            // diffusers counts from the lowest resolution up.
            let theirs = format!("decoder.up_blocks.{}", levels - 1 - level);
            for block in 0..=config.layers_per_block {
                let to = format!("decoder.up.{level}.block.{block}");
                let from = self.pick(&to, format!("{theirs}.resnets.{block}"));
                self.resnet(&to, &from, [width, out])?;
                width = out;
            }
            if level > 0 {
                let to = format!("decoder.up.{level}.upsample.conv");
                let from = self.pick(&to, format!("{theirs}.upsamplers.0.conv"));
                self.conv(&to, &from, [out, out, 3])?;
            }
        }
        Ok(())
    }
}
