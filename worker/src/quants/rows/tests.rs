use sha2::{Digest, Sha256};

use super::*;

/// SHA-256 of the blocks that ggml's encoders make of [`values`], and of the float32 values
/// that the `gguf` package decodes from them.
///
/// Made with ggml's `ggml-quants.c` (`quantize_q8_0` and so on, without importances; compiled
/// with `-O2 -ffp-contract=off`) and gguf 0.19.0 (`gguf.quants.dequantize`).
const GOLDEN: [(BlockType, &str, &str); 12] = [
    (
        BlockType::Q8_0,
        "8605d01e63e7a0e3b4a91b1b8813712aed5804cf19f2667bad8f8f9abdcdb2cf",
        "a6e40ea231e5c6ab07ec800a2374c2b126ea8626712fc32f57ff4c6e7237d0bb",
    ),
    (
        BlockType::Q6K,
        "26f2979be29495e9c20926de6dec0ed73a1de0b5c98135704c7e359ccedd3e51",
        "ace142e0a5c4d9d30ef1aae3ed361ce3d79d541cb341401e6f51f640d569214f",
    ),
    (
        BlockType::Q5K,
        "2aca5f546d722ee2f951b1267865a943dd93d3ea486fc372782a88bb8544b25d",
        "75340ecd04c10e0182ddc197c0949dd140a56feccc6b074bdffd58911f94ae34",
    ),
    (
        BlockType::Q5_1,
        "50a25cbdbad625b9d9b2bffa3db2183512971e731ec0f32cbafc51e4151023e7",
        "098f2171e1d5938aca599235c66183a7d48a99476e94cd789bb4d76f67a7d4f2",
    ),
    (
        BlockType::Q5_0,
        "9a128dcb97302f65be8f9deb3235eeb3b5b653af969b601c1cbfe8a82fad2c4c",
        "12c2a1542084cce313f1fcf4cdb776acd82a75f1a1dedc6b769e2e6a46ca75b7",
    ),
    (
        BlockType::Q4K,
        "e5c50b7bfa2a9e8b7ac392a256b1335d9ad50cfe331d415c71b56b89de808237",
        "1c235294ca0acdf1af5e7f9c1251ff73bccbb56b3fac622224082e002bf95a3d",
    ),
    (
        BlockType::Q4_1,
        "c2cf009a80f27c5e575706df3f037c9f10e6ccddeb39ee49660e7999cd9219c1",
        "6118ce1e3cf4d1191ed9508452093729e5b5f7310a2e7e8335368b626bcfae1f",
    ),
    (
        BlockType::Q4_0,
        "1a33648ad242a50de4b444123ad0a59a1ece859c4d12cf13a345d82e699a51d4",
        "6427c13444ded50238e8282824ba2666f97ba75df3cf45d1fb987d92878ee62b",
    ),
    (
        BlockType::Q3K,
        "2958770d010feebd558f470f321f176c8d66abe5e8076df0f72b488c5ff06e99",
        "04c5783fe137a2f4cf38eb3719fcb8ca69db2c814387825ab2ebc024a30ce461",
    ),
    (
        BlockType::Q2K,
        "4d0f25baf3ec5a575bad3ff927b68e1e712723776ad50a14eb4f0322da377e73",
        "9a772e3fedfbf21ca87840cb8e1486fc9c8616255d4761605e774f62d5f72ad5",
    ),
    (
        BlockType::Iq4Nl,
        "750266aefc4d07058ca81c6f3d08b0595333989698abab4887e5dccbaaf2d3fd",
        "03669e71e24b6e90b425b1fc4078927ed033946ae4a53c5d63bba53672642485",
    ),
    (
        BlockType::Iq4Xs,
        "ce48e0375d051fff4dfcaf756fd02173893fe0e3b9b7bfdb2be63bf58df9f877",
        "b7b761738accf3c5f2a6a2e1a37509db3ac86559c3a284b8c354954c082385a8",
    ),
];

fn digest(bytes: impl AsRef<[u8]>) -> String {
    let digest = Sha256::digest(bytes);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn bytes_of(values: &[f32]) -> Vec<u8> {
    values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect()
}

/// Roughly normal values in 64 blocks of 256, among them zeros, equal ones, positive ones, an
/// outlier and tiny ones.
fn values() -> Vec<f32> {
    let mut state = 1u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state >> 16
    };
    let sums = (0..64 * 256).map(|_| (0..4).map(|_| next()).sum::<u32>());
    let mut values: Vec<f32> = sums
        .map(|sum| (sum as f32 - 131_070.0) * 2f32.powi(-20))
        .collect();
    values[..256].fill(0.0);
    values[256..512].fill(0.25);
    values[512..768]
        .iter_mut()
        .for_each(|value| *value = value.abs());
    values[768] = 100.0;
    values[1024..1040].fill(0.0);
    values[1280..1536]
        .iter_mut()
        .for_each(|value| *value *= 2f32.powi(-30));
    values
}

#[test]
fn blocks_are_those_of_ggml_and_values_those_of_gguf() {
    let values = values();
    assert_eq!(
        digest(bytes_of(&values)),
        "2bacd2cdbb54ca959ab41c2616d8558b5112076ded5a0032e679c36d4b1d8d5d"
    );
    for (kind, blocks, decoded) in GOLDEN {
        let encoded = encode(kind, &values);
        assert_eq!(digest(&encoded), blocks, "{kind}");
        let values: Vec<f32> = decode(kind, &encoded);
        assert_eq!(digest(bytes_of(&values)), decoded, "{kind}");
    }
}

#[test]
fn tasks_do_not_show() {
    // More than one task, of which the last is not full.
    let values: Vec<f32> = (0..3 * TASK + 256).map(|i| (i as f32).sin()).collect();
    for kind in BlockType::ALL {
        let blocks = encode(kind, &values);
        assert_eq!(blocks.len(), values.len() / kind.values() * kind.bytes());
        let single = values.chunks(256).flat_map(|block| encode(kind, block));
        assert!(single.eq(blocks.iter().copied()), "{kind}");
        let decoded: Vec<f32> = decode(kind, &blocks);
        let halves: Vec<bf16> = decode(kind, &blocks);
        assert_eq!(decoded.len(), values.len());
        assert!(decoded.iter().zip(&halves).all(|(a, b)| bf16::of(*a) == *b));
    }
}

#[test]
fn errors_shrink_with_the_number_of_bits() {
    let values: Vec<f32> = values()[1536..].to_vec();
    let power: f32 = values.iter().map(|value| value * value).sum();
    let error = |kind| {
        let decoded: Vec<f32> = decode(kind, &encode(kind, &values));
        let pairs = decoded.iter().zip(&values);
        (pairs.map(|(a, b)| (a - b) * (a - b)).sum::<f32>() / power).sqrt()
    };
    // Bounds are above what ggml's own encoders reach on these values.
    for (kind, bound) in [
        (BlockType::Q8_0, 0.007),
        (BlockType::Q6K, 0.02),
        (BlockType::Q5K, 0.04),
        (BlockType::Q5_1, 0.04),
        (BlockType::Q5_0, 0.05),
        (BlockType::Q4K, 0.08),
        (BlockType::Q4_1, 0.08),
        (BlockType::Q4_0, 0.1),
        (BlockType::Iq4Nl, 0.09),
        (BlockType::Iq4Xs, 0.09),
        (BlockType::Q3K, 0.19),
        (BlockType::Q2K, 0.35),
    ] {
        let error = error(kind);
        assert!(error < bound && error > bound / 3.0, "{kind}: {error}");
    }
}

#[test]
fn no_bytes_and_no_numbers_end_the_program() {
    let odd = [f32::NAN, f32::INFINITY, f32::MAX, -f32::MAX, 1e-45, 0.0];
    let values: Vec<f32> = (0..512).map(|i| odd[i * i % odd.len()]).collect();
    let bytes: Vec<u8> = (0..5000u32)
        .map(|i| (i.wrapping_mul(i) >> 3) as u8)
        .collect();
    for kind in BlockType::ALL {
        assert_eq!(
            encode(kind, &values).len(),
            512 / kind.values() * kind.bytes()
        );
        let decoded: Vec<f32> = decode(kind, &bytes);
        assert_eq!(decoded.len(), 5000 / kind.bytes() * kind.values());
    }
}
