//! Compares every kernel on a GPU with the plain expression that defines it, for sizes that fill a
//! thread block, that do not, and that cannot be moved 16 bytes at a time.
//!
//! The plain expressions run on the CPU in float32 on the same (rounded) values, so any error is
//! the kernel's own.

mod attention_fp8;
mod block;
mod blocks;
mod channels_last;
mod copy;
mod fp8;
mod latents;
mod plans;
mod pointwise;

use candle_core::{DType, Device, Tensor, Var};

use super::Cuda;
use crate::nn::{
    attention, attention_and_swiglu, embed, gated_residual, group_norm, modulated_layer_norm,
    qk_norm_rope, rms_norm, single_head, swiglu, Conv2d, Fused, HeadNorms, Heads, Linear, Mask,
    Pairs, RopeTable,
};

/// The functions behind the seam, called directly: they must not decline what is tested here.
mod kernels {
    pub use crate::nn::cuda::attention::{attention, attention_and_swiglu};
    pub use crate::nn::cuda::attention_fp8::attention_fp8;
    pub use crate::nn::cuda::block::project_jointly;
    pub use crate::nn::cuda::conv::conv2d;
    pub use crate::nn::cuda::copy::{concat, dense};
    pub use crate::nn::cuda::fp8::{modulated_layer_norm_fp8, quantize_rows};
    pub use crate::nn::cuda::fp8_linear::fp8_linear;
    pub use crate::nn::cuda::latents::{
        blend, guided_velocity, patchify, to_pixels, upsample_nearest,
    };
    pub use crate::nn::cuda::linear::linear;
    pub use crate::nn::cuda::mlp::{gated_residual, swiglu};
    pub use crate::nn::cuda::norm::{group_norm, modulated_layer_norm, rms_norm};
    pub use crate::nn::cuda::pointwise::{add, cast, scaled_sum, silu, subtract};
    pub use crate::nn::cuda::rope::qk_norm_rope;
    pub use crate::nn::cuda::rows::{embed, mean_magnitude, single_head};
}

/// Largest relative error, `|a - b| / |b|`. A bf16 result is rounded to 8 bits once, or twice if it
/// is computed from another bf16 tensor.
fn tolerance(dtype: DType) -> f32 {
    match dtype {
        DType::BF16 => 4e-3,
        _ => 2e-6,
    }
}

const DTYPES: [DType; 2] = [DType::BF16, DType::F32];

thread_local! {
    /// One per test thread: the state between kernel calls belongs to a thread, and tensors of two
    /// device handles cannot be combined.
    static GPU: Device = crate::nn::test_gpu().expect("a build with GPU support");
}

fn gpu() -> Device {
    GPU.with(Device::clone)
}

/// Normally distributed values, rounded to `dtype`, as float32 on the CPU.
fn random(shape: &[usize], dtype: DType) -> Tensor {
    let values = Tensor::randn(0f32, 1f32, shape, &Device::Cpu).unwrap();
    values
        .to_dtype(dtype)
        .unwrap()
        .to_dtype(DType::F32)
        .unwrap()
}

/// The same values on the GPU as `dtype`.
fn there(tensor: &Tensor, dtype: DType) -> Tensor {
    tensor.to_device(&gpu()).unwrap().to_dtype(dtype).unwrap()
}

fn values(tensor: &Tensor) -> Vec<f32> {
    let tensor = tensor.to_dtype(DType::F32).unwrap().flatten_all().unwrap();
    tensor.to_vec1().unwrap()
}

fn assert_close(what: &str, ours: &Tensor, plain: &Tensor, tolerance: f32) {
    assert_eq!(ours.dims(), plain.dims(), "{what}");
    let (ours, plain) = (values(ours), values(plain));
    let squares = |it: &mut dyn Iterator<Item = f32>| it.map(|d| f64::from(d).powi(2)).sum::<f64>();
    let difference = squares(&mut ours.iter().zip(&plain).map(|(a, b)| a - b));
    let error = (difference / squares(&mut plain.iter().copied())).sqrt();
    assert!(error <= f64::from(tolerance), "{what}: error {error:e}");
}

#[test]
fn norms() {
    for dtype in DTYPES {
        for (batch, tokens, width) in [
            (1, 1, 8),
            (2, 5, 129),
            (2, 3, 3072),
            (1, 77, 100),
            (3, 4, 4104),
        ] {
            let what = format!("{dtype:?} {batch} x {tokens} x {width}");
            let x = random(&[batch, tokens, width], dtype);
            let weight = random(&[width], dtype);
            let plain = rms_norm(&x, &weight, 1e-6).unwrap();
            let ours = kernels::rms_norm(&there(&x, dtype), &there(&weight, dtype), 1e-6);
            assert_close(&what, &ours.unwrap().unwrap(), &plain, tolerance(dtype));

            // Modulations are columns of a wider projection, one row for all or
            // one for each batch entry.
            for rows in [1, batch] {
                let modulation = random(&[rows, 3 * width], dtype);
                let part = |t: &Tensor, i: usize| t.narrow(1, i * width, width).unwrap();
                let (shift, scale) = (part(&modulation, 0), part(&modulation, 2));
                let plain = modulated_layer_norm(&x, &shift, &scale, 1e-6).unwrap();
                let modulation = there(&modulation, dtype);
                let (shift, scale) = (part(&modulation, 0), part(&modulation, 2));
                let ours = kernels::modulated_layer_norm(&there(&x, dtype), &shift, &scale, 1e-6);
                assert_close(&what, &ours.unwrap().unwrap(), &plain, tolerance(dtype));
            }
        }
    }
}

#[test]
fn layer_norm_does_not_cancel() {
    let x = (random(&[1, 4, 3072], DType::F32) + 1000.0).unwrap();
    let none = Tensor::zeros((1, 3072), DType::F32, &Device::Cpu).unwrap();
    let plain = modulated_layer_norm(&x, &none, &none, 1e-6).unwrap();
    let none = there(&none, DType::F32);
    let ours = kernels::modulated_layer_norm(&there(&x, DType::F32), &none, &none, 1e-6);
    // Neighbouring float32 numbers near 1000 differ by 6e-5, so each side's mean may be off by a
    // little more than that. If the variance had no pass of its own, it would lose all but two
    // digits.
    assert_close("offset of 1000", &ours.unwrap().unwrap(), &plain, 5e-4);
}

#[test]
fn group_norms() {
    for dtype in DTYPES {
        // One chunk, several chunks, and planes that are not a multiple of a pack.
        for (batch, channels, height, width) in [
            (1, 32, 2, 3),
            (2, 64, 16, 24),
            (1, 64, 131, 257),
            (1, 32, 200, 200),
        ] {
            for silu in [false, true] {
                let x = random(&[batch, channels, height, width], dtype);
                let (weight, bias) = (random(&[channels], dtype), random(&[channels], dtype));
                let plain = group_norm(&x, &weight, &bias, 32, 1e-6, silu).unwrap();
                let ours = kernels::group_norm(
                    &there(&x, dtype),
                    &there(&weight, dtype),
                    &there(&bias, dtype),
                    32,
                    1e-6,
                    silu,
                );
                let what = format!("{dtype:?} {batch} x {channels} x {height} x {width} {silu}");
                assert_close(&what, &ours.unwrap().unwrap(), &plain, tolerance(dtype));
            }
        }
    }
}

#[test]
fn elementwise() {
    for dtype in DTYPES {
        for (batch, tokens, width) in [(1, 1, 1), (2, 7, 24), (3, 5, 129), (2, 130, 3072)] {
            let what = format!("{dtype:?} {batch} x {tokens} x {width}");
            // Columns of a wider projection, as in a single-stream block.
            let wide = random(&[batch, tokens, 5 * width], dtype);
            let columns = |t: &Tensor| t.narrow(2, 3 * width, 2 * width).unwrap();
            let plain = swiglu(&columns(&wide)).unwrap();
            let ours = kernels::swiglu(&columns(&there(&wide, dtype)))
                .unwrap()
                .unwrap();
            assert_close(&what, &ours, &plain, tolerance(dtype));

            let (x, y) = (
                random(&[batch, tokens, width], dtype),
                random(&[batch, tokens, width], dtype),
            );
            for rows in [1, batch] {
                let gates = random(&[rows, 2 * width], dtype);
                let gate = |t: &Tensor| t.narrow(1, width, width).unwrap();
                let plain = gated_residual(&x, &gate(&gates), &y).unwrap();
                let gates = there(&gates, dtype);
                let (x, y) = (there(&x, dtype), there(&y, dtype));
                let ours = kernels::gated_residual(&x, &gate(&gates), &y);
                assert_close(&what, &ours.unwrap().unwrap(), &plain, tolerance(dtype));
            }
        }
    }
}

#[test]
fn linears() {
    for dtype in DTYPES {
        for (rows, inputs, outputs) in [
            (1, 8, 8),
            (7, 33, 17),
            (300, 256, 768),
            (64, 3072, 64),
            (5, 64, 9),
        ] {
            for with_bias in [true, false] {
                let what = format!("{dtype:?} {rows} x {inputs} x {outputs} {with_bias}");
                let x = random(&[1, rows, inputs], dtype);
                let weight = random(&[outputs, inputs], dtype);
                let bias = with_bias.then(|| random(&[outputs], dtype));
                let plain = Linear::new(weight.clone(), bias.clone())
                    .forward(&x)
                    .unwrap();
                let bias = bias.map(|bias| there(&bias, dtype));
                let ours =
                    kernels::linear(&there(&x, dtype), &there(&weight, dtype), bias.as_ref());
                let tolerance = if dtype == DType::F32 {
                    1e-5
                } else {
                    tolerance(dtype)
                };
                assert_close(&what, &ours.unwrap().unwrap(), &plain, tolerance);
            }
        }
    }
}

#[test]
fn rotated_heads() {
    for dtype in DTYPES {
        for pairs in [Pairs::Neighbours, Pairs::Halves] {
            for (query, key, head_dim, text, image) in [
                (1, 1, 2, 1, 1),
                (3, 3, 32, 5, 6),
                (4, 2, 66, 3, 9),
                (24, 24, 128, 7, 20),
            ] {
                let what =
                    format!("{dtype:?} {pairs:?} {query}/{key} x {head_dim}, {text} + {image}");
                let width = (query + 2 * key) * head_dim;
                // The second projection's q, k and v are columns of a wider one.
                let a = random(&[2, text, width], dtype);
                let b = random(&[2, image, width + 4], dtype);
                let norms = || HeadNorms {
                    query: random(&[head_dim], dtype),
                    key: random(&[head_dim], dtype),
                };
                let (first, second) = (norms(), norms());
                let positions: Vec<[f64; 1]> = (0..text + image).map(|i| [i as f64]).collect();
                let table =
                    |device: &Device| RopeTable::new(&positions, &[head_dim], 1e4, device).unwrap();
                let heads = Heads { query, key };
                let streams = [(&a, &first), (&b, &second)];
                let plain = qk_norm_rope(&streams, heads, pairs, &table(&Device::Cpu), 1e-6);
                let plain = plain.unwrap();
                let on_gpu = |norms: &HeadNorms| HeadNorms {
                    query: there(&norms.query, dtype),
                    key: there(&norms.key, dtype),
                };
                let (first, second) = (on_gpu(&first), on_gpu(&second));
                let streams = [(&there(&a, dtype), &first), (&there(&b, dtype), &second)];
                let table = table(&gpu());
                let turns = (&table.cos, &table.sin);
                let ours = kernels::qk_norm_rope(&streams, heads, pairs, turns, 1e-6);
                let ours = ours.unwrap().unwrap();
                assert_close(&what, &ours.0, &plain.0, tolerance(dtype));
                assert_close(&what, &ours.1, &plain.1, tolerance(dtype));
                assert_close(&what, &ours.2, &plain.2, 0.0);
            }
        }
    }
}

#[test]
fn attentions() {
    let dtype = DType::BF16;
    for (heads, groups, head_dim, tokens) in [
        (2, 2, 64, 16),
        (4, 2, 128, 77),
        (24, 24, 128, 300),
        (3, 1, 128, 129),
    ] {
        for mask in [Mask::None, Mask::Causal] {
            let what = format!("{heads}/{groups} x {head_dim}, {tokens} tokens, {mask:?}");
            let q = random(&[2, tokens, heads, head_dim], dtype);
            let (k, v) = (
                random(&[2, tokens, groups, head_dim], dtype),
                random(&[2, tokens, groups, head_dim], dtype),
            );
            let plain = attention(&q, &k, &v, mask).unwrap();
            let (q, k, v) = (there(&q, dtype), there(&k, dtype), there(&v, dtype));
            let ours = kernels::attention(&q, &k, &v, mask == Mask::Causal).unwrap();
            let ours = ours.expect("cuDNN takes this shape");
            // The softmax weights are bf16 as well.
            assert_close(&what, &ours, &plain, 8e-3);
        }
    }
}

#[test]
fn attention_beside_swiglu() {
    let dtype = DType::BF16;
    let (heads, head_dim, tokens, inner) = (2, 64, 50, 96);
    let part = || random(&[2, tokens, heads, head_dim], dtype);
    let (q, k, v) = (part(), part(), part());
    let up_gate = random(&[2, tokens, 2 * inner], dtype);
    let plain = attention_and_swiglu(&q, &k, &v, &up_gate).unwrap();
    let ours = kernels::attention_and_swiglu(
        &there(&q, dtype),
        &there(&k, dtype),
        &there(&v, dtype),
        &there(&up_gate, dtype),
    );
    assert_close("both", &ours.unwrap().unwrap(), &plain, 8e-3);
}

#[test]
fn convolutions() {
    for dtype in DTYPES {
        for (inputs, outputs, kernel, stride, before, after) in [
            (3, 32, 3, 1, 1, 1),
            (32, 32, 3, 2, 0, 1),
            (64, 32, 1, 1, 0, 0),
            (128, 3, 3, 1, 1, 1),
        ] {
            let what = format!("{dtype:?} {inputs} to {outputs}, {kernel}, stride {stride}");
            let x = random(&[2, inputs, 14, 22], dtype);
            let weight = random(&[outputs, inputs, kernel, kernel], dtype);
            let bias = random(&[outputs], dtype);
            let plain = Conv2d::new(weight.clone(), bias.clone(), stride).unwrap();
            let plain = plain.forward(&x, before, after);
            let ours = kernels::conv2d(
                &there(&x, dtype),
                &there(&weight, dtype),
                &there(&bias, dtype),
                stride,
                before,
                after,
            );
            let ours = ours.unwrap().expect("cuDNN takes this shape");
            let tolerance = if dtype == DType::F32 {
                1e-5
            } else {
                tolerance(dtype)
            };
            assert_close(&what, &ours, &plain.unwrap(), tolerance);
        }
    }
}

#[test]
fn single_heads() {
    for dtype in DTYPES {
        // All queries at once, and in pieces that do not divide them.
        for (tokens, width, max_scores) in
            [(7, 24, 1 << 20), (130, 512, 1 << 20), (130, 64, 130 * 50)]
        {
            let what = format!("{dtype:?} {tokens} x {width}, {max_scores}");
            let part = || random(&[2, tokens, width], dtype);
            let (q, k, v) = (part(), part(), part());
            let plain = single_head(&q, &k, &v).unwrap();
            let (q, k, v) = (there(&q, dtype), there(&k, dtype), there(&v, dtype));
            let ours = kernels::single_head(&q, &k, &v, max_scores)
                .unwrap()
                .unwrap();
            let tolerance = if dtype == DType::F32 { 1e-5 } else { 1e-2 };
            assert_close(&what, &ours, &plain, tolerance);
        }
    }
}

#[test]
fn embeddings() {
    for dtype in DTYPES {
        for width in [3, 64, 2056] {
            let table = random(&[11, width], dtype);
            let ids = [10, 0, 3, 3];
            let plain = embed(&table, &ids).unwrap();
            let ours = kernels::embed(&there(&table, dtype), &ids)
                .unwrap()
                .unwrap();
            assert_close(&format!("{dtype:?} {width}"), &ours, &plain, 0.0);
            assert!(kernels::embed(&there(&table, dtype), &[11]).is_err());
        }
    }
}

/// Kernels have no backward pass, so the plain expression runs where gradients are tracked.
#[test]
fn tracked_tensors_are_declined() {
    let x = there(&random(&[2, 16], DType::F32), DType::F32);
    let weight = there(&random(&[16], DType::F32), DType::F32);
    let variable = Var::from_tensor(&weight).unwrap();
    assert!(Cuda.rms_norm(&x, &weight, 1e-6).unwrap().is_some());
    assert!(Cuda.rms_norm(&x, &variable, 1e-6).unwrap().is_none());
}
