//! Compares fp8 attention with plain attention of the quantized q, k and v. GPUs older than Hopper
//! do not support it; there the tests only report that.

use std::time::Instant;

use candle_core::{DType, Device, Tensor};

use super::{assert_close, gpu, kernels, random, there, values};
use crate::nn::cuda::attention_fp8::attention_fp8_by;
use crate::nn::cuda::cudnn::Terms;
use crate::nn::{attention, Mask, QkBounds};

const BOTH: [Terms; 2] = [Terms::Graph, Terms::Operation];

/// Error from rounding the softmax weights and the result to 4 bits: 2^-4 / sqrt(3) / 1.4 each, if
/// the averaged numbers differ from each other by as much as their mean from zero.
const ROUNDED_TWICE: f32 = 0.06;

/// The same, including the error from rounding q, k and v.
const ROUNDED: f32 = 0.1;

/// Whether the GPU must support it.
fn is_hopper() -> bool {
    let Device::Cuda(device) = gpu() else {
        return false;
    };
    let capability = device.cuda_stream().context().compute_capability();
    capability.unwrap().0 == 9
}

fn largest(x: &Tensor) -> f32 {
    values(x).iter().fold(0.0, |most, x| most.max(x.abs()))
}

/// `x` rounded to E4M3 with the scale that `bound` gives.
fn rounded(x: &Tensor, bound: f32) -> Tensor {
    let scale = f64::from(bound) / 448.0;
    let rounded = (x / scale).unwrap().to_dtype(DType::F8E4M3).unwrap();
    (rounded.to_dtype(DType::F32).unwrap() * scale).unwrap()
}

/// q, k and v on the CPU, `[B, S, heads, D]`.
struct Case {
    q: Tensor,
    k: Tensor,
    v: Tensor,
    bounds: QkBounds,
}

impl Case {
    /// With bounds that are not reached, as in a network.
    fn new(q: Tensor, k: Tensor, v: Tensor) -> Self {
        let bounds = QkBounds {
            query: 2.5 * largest(&q),
            key: 1.5 * largest(&k),
        };
        Self { q, k, v, bounds }
    }

    fn random(batch: usize, tokens: usize, heads: usize, head_dim: usize) -> Self {
        let part = || random(&[batch, tokens, heads, head_dim], DType::BF16);
        Self::new(part(), part(), part())
    }

    fn plain(&self) -> Tensor {
        let Self { q, k, v, bounds } = self;
        let (q, k) = (rounded(q, bounds.query), rounded(k, bounds.key));
        attention(&q, &k, &rounded(v, largest(v)), Mask::None).unwrap()
    }

    /// q, k and v on the GPU: the first two contiguous, v as columns of a wider tensor.
    fn there(&self) -> [Tensor; 3] {
        let (_, _, heads, _) = self.v.dims4().unwrap();
        let packed = Tensor::cat(&[&self.q, &self.v, &self.k], 2).unwrap();
        let packed = there(&packed, DType::BF16);
        let v = packed.narrow(2, heads, heads).unwrap();
        [there(&self.q, DType::BF16), there(&self.k, DType::BF16), v]
    }

    /// With each description that cuDNN supports.
    fn ours(&self, what: &str) -> Vec<(Terms, Tensor)> {
        let [q, k, v] = self.there();
        let mut found = Vec::new();
        for terms in BOTH {
            match attention_fp8_by(terms, &q, &k, &v, self.bounds).unwrap() {
                Some(ours) => found.push((terms, ours.to_device(&Device::Cpu).unwrap())),
                None => eprintln!("{what}: not in terms of {terms:?} on this GPU"),
            }
        }
        let any = kernels::attention_fp8(&q, &k, &v, self.bounds).unwrap();
        assert_eq!(any.is_some(), !found.is_empty(), "{what}");
        assert!(!is_hopper() || any.is_some(), "{what}");
        found
    }

    fn check(&self, what: &str) {
        let plain = self.plain();
        for (terms, ours) in self.ours(what) {
            let what = format!("{what}, {terms:?}");
            assert_eq!(ours.dtype(), DType::BF16, "{what}");
            assert_close(&what, &ours, &plain, ROUNDED_TWICE);
        }
    }
}

#[test]
fn attentions_of_all_sizes() {
    for (batch, tokens, heads, head_dim) in [
        (1, 64, 2, 64),
        (2, 77, 4, 128),
        (1, 129, 3, 128),
        (2, 300, 24, 128),
        (2, 1000, 2, 64),
    ] {
        let what = format!("{batch} x {tokens} x {heads} x {head_dim}");
        let case = Case::random(batch, tokens, heads, head_dim);
        case.check(&what);
        let exact = attention(&case.q, &case.k, &case.v, Mask::None).unwrap();
        for (_, ours) in case.ours(&what) {
            assert_close(&what, &ours, &exact, ROUNDED);
        }
    }
}

#[test]
fn heads_that_lie_askew_are_copied_first() {
    let case = Case::random(2, 50, 2, 64);
    // Not aligned to 16 bytes, and with gaps between heads.
    let shifted = |x: &Tensor| {
        let wide = Tensor::cat(&[x, x], 3).unwrap();
        there(&wide, DType::BF16).narrow(3, 1, 64).unwrap()
    };
    let turned = |x: &Tensor| {
        let turned = x.transpose(1, 2).unwrap().contiguous().unwrap();
        there(&turned, DType::BF16).transpose(1, 2).unwrap()
    };
    // What `shifted` reads: each head rotated by one element.
    let round = |x: &Tensor| {
        let parts = [x.narrow(3, 1, 63).unwrap(), x.narrow(3, 0, 1).unwrap()];
        Tensor::cat(&parts, 3).unwrap()
    };
    let (q, k, v) = (shifted(&case.q), turned(&case.k), turned(&case.v));
    if let Some(ours) = kernels::attention_fp8(&q, &k, &v, case.bounds).unwrap() {
        let plain = Case {
            q: round(&case.q),
            ..case
        };
        let ours = ours.to_device(&Device::Cpu).unwrap();
        assert_close("askew", &ours, &plain.plain(), ROUNDED_TWICE);
    }
}

#[test]
fn values_of_any_size_do_not_saturate() {
    let (tokens, heads, head_dim) = (200, 2, 64);
    for size in [1e-6, 1.0, 3e4] {
        let case = Case::random(1, tokens, heads, head_dim);
        // Two columns are a hundred times larger than the others in every token, and so is the
        // mean.
        let factors = (0..head_dim).map(|i| if i < 2 { 0.0 } else { 1.0 });
        let factors: Vec<f32> = factors.collect();
        let factors = Tensor::new(factors, &Device::Cpu).unwrap();
        let huge: Vec<f32> = (0..head_dim)
            .map(|i| [100.0, -100.0].get(i).copied().unwrap_or(0.0))
            .collect();
        let huge = Tensor::new(huge, &Device::Cpu).unwrap();
        let v = case.v.broadcast_mul(&factors).unwrap();
        let v = (v.broadcast_add(&huge).unwrap() * size).unwrap();
        let v = v.to_dtype(DType::BF16).unwrap();
        let case = Case::new(case.q, case.k, v.to_dtype(DType::F32).unwrap());
        let what = format!("values of {size}");
        let plain = case.plain();
        for (terms, ours) in case.ours(&what) {
            let what = format!("{what}, {terms:?}");
            let by_heads = |x: &Tensor| {
                let x = x.to_dtype(DType::F32).unwrap();
                x.reshape((tokens, heads, head_dim)).unwrap()
            };
            let (ours, plain) = (by_heads(&ours), by_heads(&plain));
            let part = |x: &Tensor, start, length| x.narrow(2, start, length).unwrap();
            let columns = |x: &Tensor| part(x, 2, head_dim - 2);
            assert_close(&what, &columns(&ours), &columns(&plain), ROUNDED_TWICE);
            let huge = values(&part(&ours, 0, 2).contiguous().unwrap());
            for pair in huge.chunks(2) {
                let relative = [pair[0] / 100.0, pair[1] / -100.0].map(|x| x / size as f32);
                assert!(
                    relative.iter().all(|x| (0.92..=1.08).contains(x)),
                    "{what}: {pair:?}"
                );
            }
        }
    }
}

/// Scores that increase from key to key, or decrease, so that the running sums are rescaled at
/// every tile, or never.
#[test]
fn scores_that_rise_and_fall() {
    let (tokens, head_dim) = (640, 64);
    for rising in [true, false] {
        let first = |number: &dyn Fn(usize) -> f32| {
            let numbers: Vec<f32> = (0..tokens * head_dim)
                .map(|i| match i % head_dim {
                    0 => number(i / head_dim),
                    _ => 0.0,
                })
                .collect();
            let x = Tensor::from_vec(numbers, (1, tokens, 1, head_dim), &Device::Cpu).unwrap();
            let x = x.to_dtype(DType::BF16).unwrap();
            x.to_dtype(DType::F32).unwrap()
        };
        let q = first(&|_| 16.0);
        // Scores of 0 to 30 after the factor 1/8 of a head dimension of 64.
        let k = first(&|token| {
            let place = if rising { token } else { tokens - 1 - token };
            15.0 * place as f32 / (tokens - 1) as f32
        });
        let v = random(&[1, tokens, 1, head_dim], DType::BF16);
        Case::new(q, k, v).check(&format!("rising: {rising}"));
    }
}

/// One key with 8000 times the weight of each other key. All others together still have a quarter
/// of its weight, so they must not be rounded to zero.
#[test]
fn small_weights_of_many_keys_count() {
    let (tokens, head_dim) = (2048, 64);
    let numbers = |number: &dyn Fn(usize, usize) -> f32| {
        let numbers: Vec<f32> = (0..tokens * head_dim)
            .map(|i| number(i / head_dim, i % head_dim))
            .collect();
        Tensor::from_vec(numbers, (1, tokens, 1, head_dim), &Device::Cpu).unwrap()
    };
    let q = numbers(&|_, i| if i == 0 { 8.0 } else { 0.0 });
    let k = numbers(&|token, i| if i == 0 && token == 700 { 9.0 } else { 0.0 });
    let v = numbers(&|token, _| if token == 700 { -1.0 } else { 1.0 });
    // All values are E4M3 numbers under these bounds.
    let bounds = QkBounds {
        query: 448.0,
        key: 448.0,
    };
    let case = Case { q, k, v, bounds };
    let others = (tokens - 1) as f32 * (-9f32).exp();
    let wanted = (others - 1.0) / (others + 1.0);
    for (terms, ours) in case.ours("small weights") {
        for found in values(&ours) {
            // The result is rounded by up to 1/16; rounding of the weights may move it by one more
            // number.
            assert!((found / wanted - 1.0).abs() < 0.1, "{terms:?}: {found}");
        }
    }
}

/// Compares with the GPU's bf16 attention at the model's size, and prints how long each takes.
#[test]
fn at_full_size() {
    let case = Case::random(2, 4352, 24, 128);
    let [q, k, v] = case.there();
    let bounds = case.bounds;
    let (q8, k8) = (rounded(&case.q, bounds.query), rounded(&case.k, bounds.key));
    let v8 = rounded(&case.v, largest(&case.v));
    let [q8, k8, v8] = [q8, k8, v8].map(|x| there(&x, DType::BF16));
    let whole = kernels::attention(&q8, &k8, &v8, false).unwrap();
    let whole = whole.expect("cuDNN takes this shape");
    let whole = whole.to_device(&Device::Cpu).unwrap();
    let whole = whole.to_dtype(DType::F32).unwrap();
    for (terms, ours) in case.ours("full size") {
        let what = format!("full size, {terms:?}");
        assert_close(&what, &ours, &whole, ROUNDED_TWICE);
        tell_time(&what, || {
            attention_fp8_by(terms, &q, &k, &v, bounds).unwrap()
        });
    }
    tell_time("full size, bf16", || {
        kernels::attention(&q, &k, &v, false).unwrap()
    });
}

fn tell_time<T>(what: &str, mut run: impl FnMut() -> T) {
    const RUNS: u32 = 20;
    run();
    gpu().synchronize().unwrap();
    let begun = Instant::now();
    for _ in 0..RUNS {
        run();
    }
    gpu().synchronize().unwrap();
    let each = begun.elapsed() / RUNS;
    eprintln!("{what}: {:.3} ms", each.as_secs_f64() * 1e3);
}
