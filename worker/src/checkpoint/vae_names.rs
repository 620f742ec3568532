//! The autoencoder's tensor names in FLUX.1's file and in diffusers.
//!
//! Sources: AIDC-AI/Ovis-Image `ovis_image/model/autoencoder.py`, diffusers
//! `models/autoencoders/vae.py` and `models/unets/unet_2d_blocks.py`.

use super::geometry::VaeConfig;
use super::name_map::NameMap;
use super::set::TensorSet;

/// Naming scheme of a file.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Names {
    /// FLUX.1's own, whose names are the canonical ones.
    Original,
    /// Of diffusers.
    Diffusers(Attention),
}

/// Names of the mid attention's layers in diffusers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Attention {
    /// The present ones: `to_q`.
    ToQ,
    /// Those of diffusers' first attention class: `query`.
    Query,
}

impl Names {
    /// The scheme that a set of tensors follows.
    pub fn of(set: &TensorSet) -> Self {
        let is_old = |side: &str| {
            let query = format!("{side}.mid_block.attentions.0.query.");
            set.any_starts_with(&query)
        };
        match set.any_starts_with("decoder.up_blocks.") {
            true if is_old("decoder") || is_old("encoder") => Self::Diffusers(Attention::Query),
            true => Self::Diffusers(Attention::ToQ),
            false => Self::Original,
        }
    }
}

/// The names of FLUX.1, which are the canonical ones.
pub(super) fn canonical_map(config: &VaeConfig) -> NameMap {
    map(config, Names::Original)
}

/// The names of one scheme.
pub(super) fn map(config: &VaeConfig, names: Names) -> NameMap {
    let mut mapping = Mapping {
        names,
        map: NameMap::default(),
    };
    mapping.encoder(config);
    mapping.decoder(config);
    mapping.map
}

/// Pairs each canonical name with the file's.
struct Mapping {
    names: Names,
    map: NameMap,
}

impl Mapping {
    /// The name of the file's scheme.
    fn pick(&self, original: &str, diffusers: String) -> String {
        match self.names {
            Names::Original => original.to_owned(),
            Names::Diffusers(_) => diffusers,
        }
    }

    /// A convolution's `weight` `[out, in, k, k]` and `bias`.
    fn conv(&mut self, canonical: &str, name: &str, [out, inner, k]: [usize; 3]) {
        self.map.whole(
            format!("{canonical}.weight"),
            &format!("{name}.weight"),
            &[out, inner, k, k],
        );
        self.vector(canonical, name, "bias", out);
    }

    /// A group norm's `weight` and `bias`.
    fn norm(&mut self, canonical: &str, name: &str, width: usize) {
        self.vector(canonical, name, "weight", width);
        self.vector(canonical, name, "bias", width);
    }

    fn vector(&mut self, canonical: &str, name: &str, end: &str, width: usize) {
        self.map.whole(
            format!("{canonical}.{end}"),
            &format!("{name}.{end}"),
            &[width],
        );
    }

    /// A residual block from `inner` to `out` channels.
    fn resnet(&mut self, canonical: &str, name: &str, [inner, out]: [usize; 2]) {
        let join = |piece: &str| (format!("{canonical}.{piece}"), format!("{name}.{piece}"));
        for (piece, width) in [("norm1", inner), ("norm2", out)] {
            let (to, from) = join(piece);
            self.norm(&to, &from, width);
        }
        for (piece, width) in [("conv1", inner), ("conv2", out)] {
            let (to, from) = join(piece);
            self.conv(&to, &from, [out, width, 3]);
        }
        if inner != out {
            let to = format!("{canonical}.nin_shortcut");
            let from = self.pick(&to, format!("{name}.conv_shortcut"));
            self.conv(&to, &from, [out, inner, 1]);
        }
    }

    /// The two residual blocks at the lowest resolution, and the attention between them.
    fn mid(&mut self, side: &str, width: usize) {
        for (number, index) in [(1, 0), (2, 1)] {
            let to = format!("{side}.mid.block_{number}");
            let from = self.pick(&to, format!("{side}.mid_block.resnets.{index}"));
            self.resnet(&to, &from, [width, width]);
        }
        let to = format!("{side}.mid.attn_1");
        let block = format!("{side}.mid_block.attentions.0");
        let from = self.pick(&format!("{to}.norm"), format!("{block}.group_norm"));
        self.norm(&format!("{to}.norm"), &from, width);
        // The canonical name, and the two that diffusers has had.
        let pieces = [
            ("q", "to_q", "query"),
            ("k", "to_k", "key"),
            ("v", "to_v", "value"),
            ("proj_out", "to_out.0", "proj_attn"),
        ];
        for (piece, new, old) in pieces {
            let canonical = format!("{to}.{piece}");
            let end = match self.names {
                Names::Diffusers(Attention::Query) => old,
                _ => new,
            };
            let from = self.pick(&canonical, format!("{block}.{end}"));
            self.map.matrix_or_conv(
                format!("{canonical}.weight"),
                &format!("{from}.weight"),
                &[width, width],
            );
            self.vector(&canonical, &from, "bias", width);
        }
    }

    /// The first and last layers of the encoder or decoder.
    fn ends(&mut self, side: &str, inputs: [usize; 2], outputs: [usize; 2]) {
        let [input, first] = inputs;
        let [last, output] = outputs;
        let conv_in = format!("{side}.conv_in");
        self.conv(&conv_in, &conv_in, [first, input, 3]);
        let norm_out = format!("{side}.norm_out");
        let from = self.pick(&norm_out, format!("{side}.conv_norm_out"));
        self.norm(&norm_out, &from, last);
        let conv_out = format!("{side}.conv_out");
        self.conv(&conv_out, &conv_out, [output, last, 3]);
    }

    fn encoder(&mut self, config: &VaeConfig) {
        let channels = &config.block_channels;
        let (first, last) = (channels[0], channels[channels.len() - 1]);
        self.ends("encoder", [3, first], [last, 2 * config.latent_channels]);
        self.mid("encoder", last);
        let mut width = first;
        for (level, &out) in channels.iter().enumerate() {
            for block in 0..config.layers_per_block {
                let to = format!("encoder.down.{level}.block.{block}");
                let from = format!("encoder.down_blocks.{level}.resnets.{block}");
                let from = self.pick(&to, from);
                self.resnet(&to, &from, [width, out]);
                width = out;
            }
            if level + 1 < channels.len() {
                let to = format!("encoder.down.{level}.downsample.conv");
                let from = format!("encoder.down_blocks.{level}.downsamplers.0.conv");
                let from = self.pick(&to, from);
                self.conv(&to, &from, [out, out, 3]);
            }
        }
    }

    fn decoder(&mut self, config: &VaeConfig) {
        let channels = &config.block_channels;
        let levels = channels.len();
        let (first, last) = (channels[0], channels[levels - 1]);
        self.ends("decoder", [config.latent_channels, last], [first, 3]);
        self.mid("decoder", last);
        let mut width = last;
        for (level, &out) in channels.iter().enumerate().rev() {
            // diffusers counts the decoder's levels from the lowest resolution up.
            let theirs = format!("decoder.up_blocks.{}", levels - 1 - level);
            for block in 0..=config.layers_per_block {
                let to = format!("decoder.up.{level}.block.{block}");
                let from = self.pick(&to, format!("{theirs}.resnets.{block}"));
                self.resnet(&to, &from, [width, out]);
                width = out;
            }
            if level > 0 {
                let to = format!("decoder.up.{level}.upsample.conv");
                let from = self.pick(&to, format!("{theirs}.upsamplers.0.conv"));
                self.conv(&to, &from, [out, out, 3]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::test_files::vae_geometry;
    use super::*;

    #[test]
    fn all_schemes_make_the_same_tensors() {
        let config = vae_geometry();
        let canonical = canonical_map(&config);
        for attention in [Attention::ToQ, Attention::Query] {
            let diffusers = map(&config, Names::Diffusers(attention));
            let pairs = canonical.tensors().iter().zip(diffusers.tensors());
            assert_eq!(canonical.tensors().len(), diffusers.tensors().len());
            for (one, other) in pairs {
                assert_eq!((&one.name, &one.shape), (&other.name, &other.shape));
                assert_eq!(one.pieces[0].name, one.name);
            }
        }
    }

    #[test]
    fn diffusers_counts_up_blocks_from_the_lowest_resolution() {
        let config = vae_geometry();
        let name = |attention, canonical| {
            let map = map(&config, Names::Diffusers(attention));
            map.find(canonical).0[0].0.to_owned()
        };
        assert_eq!(
            name(Attention::ToQ, "decoder.up.1.block.0.conv1.weight"),
            "decoder.up_blocks.0.resnets.0.conv1.weight"
        );
        let block = "encoder.mid_block.attentions.0";
        let query = "encoder.mid.attn_1.q.weight";
        assert_eq!(name(Attention::ToQ, query), format!("{block}.to_q.weight"));
        assert_eq!(
            name(Attention::Query, query),
            format!("{block}.query.weight")
        );
    }
}
