//! The transformer's tensor names in the original release, ComfyUI and diffusers.
//!
//! Sources: AIDC-AI/Ovis-Image `ovis_image/model/{model,layers}.py` (original),
//! diffusers `models/transformers/transformer_ovis_image.py` and
//! `models/normalization.py`.

use super::geometry::{MmditConfig, TIME_EMBEDDING_WIDTH};
use super::name_map::NameMap;

/// The names of the original release, which are the canonical ones except for the double
/// blocks' up and gate projections: these are two tensors in the files and one here.
pub(super) fn canonical_map(config: &MmditConfig) -> NameMap {
    let mut map = NameMap::default();
    let names = &mut map;
    let (h, mlp) = (config.hidden_size, config.mlp_hidden);
    let head = h / config.num_heads;
    let same = |names: &mut NameMap, name: &str, shape| names.linear(name, name, shape);
    let norm = |names: &mut NameMap, name: String, width: usize| {
        names.whole(name.clone(), &name, &[width]);
    };
    same(names, "img_in", [h, config.in_channels]);
    norm(names, "txt_norm.weight".into(), config.context_dim);
    same(names, "txt_in", [h, config.context_dim]);
    same(names, "time_in.in_layer", [h, TIME_EMBEDDING_WIDTH]);
    same(names, "time_in.out_layer", [h, h]);
    for i in 0..config.depth_double {
        for stream in ["img", "txt"] {
            let block = format!("double_blocks.{i}.{stream}");
            same(names, &format!("{block}_mod.lin"), [6 * h, h]);
            same(names, &format!("{block}_attn.qkv"), [3 * h, h]);
            for which in ["query_norm", "key_norm"] {
                norm(names, format!("{block}_attn.norm.{which}.weight"), head);
            }
            same(names, &format!("{block}_attn.proj"), [h, h]);
            let halves = [
                (format!("{block}_mlp.up_proj"), mlp),
                (format!("{block}_mlp.gate_proj"), mlp),
            ];
            names.concatenated_linear(&format!("{block}_mlp.up_gate"), &halves, h);
            same(names, &format!("{block}_mlp.down_proj"), [h, mlp]);
        }
    }
    for i in 0..config.depth_single {
        let block = format!("single_blocks.{i}");
        same(names, &format!("{block}.modulation.lin"), [3 * h, h]);
        same(names, &format!("{block}.linear1"), [3 * h + 2 * mlp, h]);
        same(names, &format!("{block}.linear2"), [h, h + mlp]);
        for which in ["query_norm", "key_norm"] {
            norm(names, format!("{block}.norm.{which}.weight"), head);
        }
    }
    same(names, "final_layer.adaLN_modulation.1", [2 * h, h]);
    same(names, "final_layer.linear", [config.in_channels, h]);
    map
}

/// The names of diffusers.
pub(super) fn diffusers_map(config: &MmditConfig) -> NameMap {
    let mut map = NameMap::default();
    let names = &mut map;
    let (h, mlp) = (config.hidden_size, config.mlp_hidden);
    let head = [h / config.num_heads];
    names.linear("img_in", "x_embedder", [h, config.in_channels]);
    names.whole(
        "txt_norm.weight".into(),
        "context_embedder_norm.weight",
        &[config.context_dim],
    );
    names.linear("txt_in", "context_embedder", [h, config.context_dim]);
    names.linear(
        "time_in.in_layer",
        "timestep_embedder.linear_1",
        [h, TIME_EMBEDDING_WIDTH],
    );
    names.linear("time_in.out_layer", "timestep_embedder.linear_2", [h, h]);
    for i in 0..config.depth_double {
        diffusers_double(names, i, h, mlp, &head);
    }
    for i in 0..config.depth_single {
        let (to, from) = (
            format!("single_blocks.{i}"),
            format!("single_transformer_blocks.{i}"),
        );
        names.linear(
            &format!("{to}.modulation.lin"),
            &format!("{from}.norm.linear"),
            [3 * h, h],
        );
        // The original's linear1 holds q, k, v, up and gate; diffusers' proj_mlp up and gate.
        let pieces = [
            (format!("{from}.attn.to_q"), h),
            (format!("{from}.attn.to_k"), h),
            (format!("{from}.attn.to_v"), h),
            (format!("{from}.proj_mlp"), 2 * mlp),
        ];
        names.concatenated_linear(&format!("{to}.linear1"), &pieces, h);
        names.linear(
            &format!("{to}.linear2"),
            &format!("{from}.proj_out"),
            [h, h + mlp],
        );
        for (to_norm, from_norm) in [("query_norm", "norm_q"), ("key_norm", "norm_k")] {
            names.whole(
                format!("{to}.norm.{to_norm}.weight"),
                &format!("{from}.attn.{from_norm}.weight"),
                &head,
            );
        }
    }
    // diffusers stores scale, then shift; the original shift, then scale.
    let (to, from) = ("final_layer.adaLN_modulation.1", "norm_out.linear");
    names.swapped_halves(
        format!("{to}.weight"),
        &format!("{from}.weight"),
        &[2 * h, h],
    );
    names.swapped_halves(format!("{to}.bias"), &format!("{from}.bias"), &[2 * h]);
    names.linear("final_layer.linear", "proj_out", [config.in_channels, h]);
    map
}

/// Diffusers' names of one stream of a double block.
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

fn diffusers_double(names: &mut NameMap, i: usize, h: usize, mlp: usize, head: &[usize]) {
    let from = format!("transformer_blocks.{i}");
    for stream in &DIFFUSERS_DOUBLE {
        let to = format!("double_blocks.{i}.{}", stream.stream);
        names.linear(
            &format!("{to}_mod.lin"),
            &format!("{from}.{}", stream.modulation),
            [6 * h, h],
        );
        let qkv = stream.qkv.map(|name| (format!("{from}.{name}"), h));
        names.concatenated_linear(&format!("{to}_attn.qkv"), &qkv, h);
        for (to_norm, from_norm) in ["query_norm", "key_norm"].iter().zip(stream.norms) {
            names.whole(
                format!("{to}_attn.norm.{to_norm}.weight"),
                &format!("{from}.{from_norm}.weight"),
                head,
            );
        }
        names.linear(
            &format!("{to}_attn.proj"),
            &format!("{from}.{}", stream.proj),
            [h, h],
        );
        // diffusers' projection holds up, then gate, as the canonical one does.
        names.linear(
            &format!("{to}_mlp.up_gate"),
            &format!("{from}.{}.net.0.proj", stream.mlp),
            [2 * mlp, h],
        );
        names.linear(
            &format!("{to}_mlp.down_proj"),
            &format!("{from}.{}.net.2", stream.mlp),
            [h, mlp],
        );
    }
}

#[cfg(test)]
mod tests {
    use super::super::test_files::transformer_geometry;
    use super::*;

    #[test]
    fn both_schemes_make_the_same_tensors() {
        let config = transformer_geometry();
        let shapes = |map: &NameMap| {
            let tensors = map.tensors().iter();
            let mut shapes: Vec<_> = tensors.map(|t| (t.name.clone(), t.shape.clone())).collect();
            shapes.sort();
            shapes
        };
        let (original, diffusers) = (canonical_map(&config), diffusers_map(&config));
        assert_eq!(shapes(&original), shapes(&diffusers));
        let count = |map: &NameMap| -> u64 {
            let shapes = map.tensors().iter().map(|t| &t.shape);
            shapes.map(|s| s.iter().product::<usize>() as u64).sum()
        };
        assert_eq!(count(&original), config.parameters());
    }

    #[test]
    fn rows_are_in_the_original_order() {
        // Width 32, MLPs of 16.
        let config = transformer_geometry();
        let diffusers = diffusers_map(&config);
        let block = "single_transformer_blocks.0";
        let pieces = diffusers.find("single_blocks.0.linear1.weight").0;
        let names = ["attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp"];
        let names = names.map(|name| format!("{block}.{name}.weight"));
        let rows = [0..32, 0..32, 0..32, 0..32];
        assert!(pieces.iter().map(|(name, _)| *name).eq(&names));
        assert!(pieces.iter().map(|(_, rows)| rows).eq(&rows));
        let last = diffusers.find("final_layer.adaLN_modulation.1.bias").0;
        let from = "norm_out.linear.bias";
        assert_eq!(last, [(from, 32..64), (from, 0..32)]);
        let original = canonical_map(&config);
        let mlp = "double_blocks.0.txt_mlp";
        let (up, gate) = (
            format!("{mlp}.up_proj.bias"),
            format!("{mlp}.gate_proj.bias"),
        );
        let joined = original.find("double_blocks.0.txt_mlp.up_gate.bias").0;
        assert_eq!(joined, [(&up[..], 0..16), (&gate[..], 0..16)]);
    }
}
