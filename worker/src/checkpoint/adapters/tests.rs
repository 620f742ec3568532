//! Adapters opened from files: what is refused, and both ways of applying a change.

use std::path::{Path, PathBuf};

use super::*;
use crate::checkpoint::test_files::{
    text_encoder_geometry, transformer_geometry, write, write_with, Stored,
};

/// A module of 32 inputs and 32 outputs, in the middle of `linear1`.
const KEYS: &str = "transformer.single_transformer_blocks.0.attn.to_k";
/// A module of 32 inputs and 64 outputs, whose halves are exchanged in the model.
const LAST: &str = "norm_out.linear";

/// Distinct values between -1 and 1.
fn values(count: usize, seed: usize) -> Vec<f32> {
    let value = |i: usize| ((i * 37 + seed * 101 + i * i * 7) % 199) as f32 / 100.0 - 0.99;
    (0..count).map(value).collect()
}

fn tensor(name: &str, shape: &[usize], seed: usize) -> Stored {
    Stored::f32(name, shape, &values(shape.iter().product(), seed))
}

fn opened(tensors: &[Stored], strict: bool) -> Result<Adapter, AdapterError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.safetensors");
    write(&path, tensors);
    open(&path, strict)
}

fn open(path: &Path, strict: bool) -> Result<Adapter, AdapterError> {
    let (transformer, text_encoder) = (transformer_geometry(), text_encoder_geometry());
    let model = AdaptedModel {
        transformer: Some(&transformer),
        text_encoder: Some(&text_encoder),
    };
    Adapter::open(path, model, strict)
}

/// The only change of an adapter of the transformer.
fn change(tensors: &[Stored]) -> Change {
    let mut adapter = opened(tensors, true).unwrap();
    assert_eq!(adapter.transformer.len(), 1);
    adapter.transformer.remove(0)
}

fn lora(module: &str, rank: usize, [rows, columns]: [usize; 2]) -> [Stored; 2] {
    [
        tensor(&format!("{module}.lora_A.weight"), &[rank, columns], 1),
        tensor(&format!("{module}.lora_B.weight"), &[rows, rank], 2),
    ]
}

/// Every kind of change, of the module [`KEYS`].
fn kinds() -> Vec<(&'static str, Vec<Stored>)> {
    let named = |name: &str, shape: &[usize]| {
        tensor(&format!("{KEYS}.{name}"), shape, name.len() + shape[0])
    };
    let alpha = || Stored::f32(&format!("{KEYS}.alpha"), &[], &[3.0]);
    let loha = vec![
        named("hada_w1_a", &[32, 2]),
        named("hada_w1_b", &[2, 32]),
        named("hada_w2_a", &[32, 3]),
        named("hada_w2_b", &[3, 32]),
        alpha(),
    ];
    let lora = || Vec::from(lora(KEYS, 2, [32, 32]));
    let mut dora = lora();
    dora.push(named("dora_scale", &[32, 1]));
    let mut columns = lora();
    columns.push(named("dora_scale", &[1, 32]));
    vec![
        ("LoRA", lora()),
        ("DoRA", dora),
        ("DoRA of columns", columns),
        ("LoHa", loha),
        (
            "LoKr",
            vec![
                named("lokr_w1", &[4, 2]),
                named("lokr_w2_a", &[8, 3]),
                named("lokr_w2_b", &[3, 16]),
                alpha(),
            ],
        ),
        (
            "LoKr of two products",
            vec![
                named("lokr_w1_a", &[4, 2]),
                named("lokr_w1_b", &[2, 4]),
                named("lokr_w2_a", &[8, 3]),
                named("lokr_w2_b", &[3, 8]),
            ],
        ),
        (
            "OFT",
            vec![named("oft_blocks", &[4, 8, 8]), named("rescale", &[32, 1])],
        ),
        ("BOFT", vec![named("oft_blocks", &[3, 4, 8, 8])]),
        ("OFT of columns", vec![named("oft_R.weight", &[4, 28])]),
        ("full difference", vec![named("diff", &[32, 32])]),
    ]
}

#[test]
fn strength_zero_changes_nothing() {
    for (kind, tensors) in kinds() {
        let change = change(&tensors);
        assert_eq!(change.place.rows[0], 32..64, "{kind}");
        let base = values(32 * 32, 9);
        let mut weight = base.clone();
        change.merge(&mut weight, 0.0).unwrap();
        assert_eq!(weight, base, "{kind}");
        change.merge(&mut weight, 1.0).unwrap();
        assert_ne!(weight, base, "{kind}");
        let error = change.merge(&mut weight[1..], 1.0).unwrap_err();
        assert!(
            matches!(error, AdapterError::Size { .. }),
            "{kind}: {error}"
        );
    }
}

#[test]
fn a_product_of_thin_matrices_is_the_same_change() {
    let exact = [
        ("LoRA", 2),
        ("DoRA", 2),
        ("DoRA of columns", 2),
        ("LoHa", 6),
        ("LoKr", 6),
        ("LoKr of two products", 6),
    ];
    for (kind, tensors) in kinds() {
        let change = change(&tensors);
        let found = change.low_rank(usize::MAX).unwrap();
        let Some((_, rank)) = exact.iter().find(|(name, _)| *name == kind) else {
            assert_eq!(found, None, "{kind}");
            continue;
        };
        let found = found.unwrap();
        assert_eq!((found.rank, &found.rows), (*rank, &(32..64)), "{kind}");
        assert_eq!(change.low_rank(rank - 1).unwrap(), None, "{kind}");
        let difference = Change {
            magnitude: None,
            ..change
        };
        let mut merged = vec![0f32; 32 * 32];
        difference.merge(&mut merged, 1.0).unwrap();
        for (i, wanted) in merged.iter().enumerate() {
            let (row, column) = (i / 32, i % 32);
            let sum: f32 = (0..*rank)
                .map(|r| found.up[row * rank + r] * found.down[r * 32 + column])
                .sum();
            assert!((sum - wanted).abs() < 1e-5, "{kind}: {sum} {wanted}");
        }
    }
}

#[test]
fn dora_is_a_difference_with_scaled_rows() {
    for (kind, tensors) in kinds() {
        let change = change(&tensors);
        let base = values(32 * 32, 9);
        let factors = change.row_factors(&base).unwrap();
        if kind != "DoRA" {
            assert_eq!(factors, None, "{kind}");
            continue;
        }
        let (factors, strength) = (factors.unwrap(), 0.3f32);
        let difference = Change {
            magnitude: None,
            ..change.clone()
        };
        let mut added = vec![0f32; 32 * 32];
        difference.merge(&mut added, 1.0).unwrap();
        let mut merged = base.clone();
        change.merge(&mut merged, f64::from(strength)).unwrap();
        for (i, wanted) in merged.iter().enumerate() {
            let factor = factors[i / 32];
            let scaled = (1.0 - strength + strength * factor) * base[i];
            let found = scaled + strength * factor * added[i];
            assert!((found - wanted).abs() < 1e-5, "{found} {wanted}");
        }
    }
}

#[test]
fn exchanged_halves_are_put_in_the_models_order() {
    let tensors = lora(LAST, 2, [64, 32]);
    let change = change(&tensors);
    let (down, up) = (values(64, 1), values(128, 2));
    let wanted = |row: usize, column: usize| {
        // diffusers has scale, then shift; the model shift, then scale.
        let row = (row + 32) % 64;
        up[row * 2] * down[column] + up[row * 2 + 1] * down[32 + column]
    };
    let mut merged = vec![0f32; 64 * 32];
    change.merge_into(&mut merged, 1.0).unwrap();
    let product = change.low_rank(8).unwrap().unwrap();
    assert_eq!(product.rows, 0..64);
    for (i, found) in merged.iter().enumerate() {
        let (row, column) = (i / 32, i % 32);
        assert!((found - wanted(row, column)).abs() < 1e-5);
        let [a, b] = [0, 1].map(|r| product.up[row * 2 + r] * product.down[r * 32 + column]);
        assert!((a + b - wanted(row, column)).abs() < 1e-5);
    }
    let error = change.merge_into(&mut merged[..64], 1.0).unwrap_err();
    assert!(matches!(error, AdapterError::Size { .. }), "{error}");
}

#[test]
fn rows_in_a_whole_tensor() {
    let change = change(&lora(KEYS, 1, [32, 32]));
    let mut linear1 = vec![0f32; 128 * 32];
    change.merge_into(&mut linear1, 2.0).unwrap();
    let is_zero = |rows: std::ops::Range<usize>| {
        linear1[rows.start * 32..rows.end * 32]
            .iter()
            .all(|v| *v == 0.0)
    };
    assert!(is_zero(0..32) && is_zero(64..128) && !is_zero(32..64));
}

#[test]
fn each_contradiction_has_a_sentence() {
    let half = |name: &str, shape: &[usize]| tensor(&format!("{KEYS}.{name}"), shape, 1);
    let cases: Vec<(Vec<Stored>, &str)> = vec![
        (vec![half("lora_A.weight", &[2, 32])], "has no `lora_B`"),
        (vec![half("lora_up.weight", &[32, 2])], "has no `lora_A`"),
        (
            vec![
                half("lora_A.weight", &[2, 31]),
                half("lora_B.weight", &[32, 2]),
            ],
            "`lora_A` of the shape [2, 31], not [2, 32]",
        ),
        (
            vec![
                half("lora_A.weight", &[2, 32]),
                half("lora_B.weight", &[32, 3]),
            ],
            "`lora_A` of the shape [2, 32], not [3, 32]",
        ),
        (
            vec![
                half("lora_A.weight", &[2, 32, 3, 3]),
                half("lora_B.weight", &[32, 2]),
            ],
            "`lora_A` of the shape [2, 32, 3, 3], not [2, 32]",
        ),
        (
            vec![
                half("lora_A.weight", &[0, 32]),
                half("lora_B.weight", &[32, 0]),
            ],
            "its rank is 0",
        ),
        (
            vec![half("diff", &[32, 32]), half("lokr_w1", &[32, 32])],
            "several kinds",
        ),
        (vec![half("alpha", &[])], "nothing that it scales"),
        (
            vec![
                half("hada_w1_a", &[32, 1]),
                half("hada_w1_b", &[1, 32]),
                half("alpha", &[2]),
            ],
            "not one number",
        ),
        (
            vec![
                half("lora_A.weight", &[2, 32]),
                half("lora_down.weight", &[2, 32]),
            ],
            "has both",
        ),
        (vec![half("lokr_w1", &[5, 2])], "does not divide [32, 32]"),
        (vec![half("lokr_w1", &[4, 2])], "has no `lokr_w2_a`"),
        (vec![half("oft_blocks", &[4, 8, 7])], "not of square blocks"),
        (vec![half("oft_blocks", &[3, 8, 8])], "3 blocks of 8"),
        (vec![half("oft_blocks", &[4, 4, 8, 8])], "is no butterfly"),
        (vec![half("oft_R.weight", &[4, 27])], "no triangles"),
        (vec![half("w_norm", &[32])], "is a matrix"),
        (
            vec![tensor("txt_norm.lora_A.weight", &[1, 8], 1)],
            "is a norm",
        ),
        (vec![tensor("txt_norm.diff", &[9], 1)], "not 8 values"),
        (
            vec![Stored::f32(&format!("{KEYS}.diff"), &[1], &[f32::NAN])],
            "not finite",
        ),
        (
            vec![Stored::raw(
                &format!("{KEYS}.diff"),
                "F8_E4M3",
                &[1],
                vec![0],
            )],
            "as F8_E4M3",
        ),
        (
            vec![
                tensor(&format!("{KEYS}.diff"), &[32, 32], 1),
                tensor("single_transformer_blocks.0.attn.to_k.diff", &[32, 32], 1),
            ],
            "changes the same rows",
        ),
    ];
    for (tensors, words) in cases {
        let error = opened(&tensors, false).unwrap_err();
        let text = error.to_string();
        assert!(text.contains(words), "{words}: {text}");
        assert!(!text.contains('\n') && !error.hint().contains('\n'));
    }
}

#[test]
fn tensors_that_fit_nothing_are_named() {
    let tensors = || {
        let [down, up] = lora(KEYS, 2, [32, 32]);
        let others = [4, 5, 6, 7].map(|n| format!("transformer.x{n}.lora_A.weight"));
        let mut tensors = vec![down, up, tensor("stray", &[1], 1)];
        tensors.extend(others.map(|name| tensor(&name, &[2, 2], 1)));
        tensors
    };
    let error = opened(&tensors(), true).unwrap_err().to_string();
    assert!(error.starts_with("5 of the 7 tensors"), "{error}");
    assert!(
        error.contains("`stray`, `transformer.x4.lora_A.weight`"),
        "{error}"
    );
    assert!(!error.contains("x7"), "{error}");
    let adapter = opened(&tensors(), false).unwrap();
    assert_eq!(adapter.unused.len(), 5);
    assert_eq!(adapter.transformer.len(), 1);
    let error = opened(&[tensor("double_blocks.0.x", &[1], 1)], false).unwrap_err();
    assert!(
        matches!(error, AdapterError::NotAnAdapter { .. }),
        "{error}"
    );
}

#[test]
fn a_part_without_geometry_is_counted() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.safetensors");
    let [down, up] = lora(KEYS, 2, [32, 32]);
    let text = tensor("text_encoder.layers.30.mlp.up_proj.diff", &[6, 8], 1);
    write(&path, &[down, up, text]);
    let transformer = transformer_geometry();
    let model = AdaptedModel {
        transformer: Some(&transformer),
        text_encoder: None,
    };
    let adapter = Adapter::open(&path, model, true).unwrap();
    assert_eq!((adapter.elsewhere, adapter.transformer.len()), (1, 1));
    let summary = AdapterFile::open(&path).unwrap().summary();
    assert_eq!(summary.text_encoder.len(), 1);
    assert!(AdapterFile::recognises(&path));
    assert!(open(&path, true).is_err());
}

/// The scale of the only change, a LoRA.
fn scale(path: &Path) -> f32 {
    match &open(path, true).unwrap().transformer[0].delta {
        Delta::LowRank { scale, .. } => *scale,
        other => panic!("{other:?}"),
    }
}

#[test]
fn settings_of_peft_are_read_beside_its_own_file_alone() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| -> PathBuf { folder.path().join(name) };
    let settings = r#"{"peft_type":"LORA","r":2,"lora_alpha":6}"#;
    std::fs::write(at("adapter_config.json"), settings).unwrap();
    for (name, wanted) in [
        ("adapter_model.safetensors", 3.0),
        ("other.safetensors", 1.0),
    ] {
        write(&at(name), &lora(KEYS, 2, [32, 32]));
        assert_eq!(scale(&at(name)), wanted, "{name}");
    }
    assert_eq!(scale(folder.path()), 3.0);
    let metadata = [("ss_network_alpha", "1")];
    write_with(
        &at("kohya.safetensors"),
        &lora(KEYS, 2, [32, 32]),
        &metadata,
    );
    assert_eq!(scale(&at("kohya.safetensors")), 0.5);
    std::fs::write(at("adapter_config.json"), "[]").unwrap();
    let error = open(folder.path(), true).unwrap_err().to_string();
    assert!(error.contains("no JSON object"), "{error}");
}
