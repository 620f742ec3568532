//! The gradients of the plain definitions against finite differences.

use std::sync::Arc;

use candle_core::{DType, Device, Result, Tensor, Var};

use super::relative_error;
use crate::nn::{
    attention, attention_and_swiglu, gated_linear, gated_residual, group_norm,
    modulated_layer_norm, project_heads, project_jointly, project_swiglu, qk_norm_rope, rms_norm,
    silu, swiglu, AdapterSet, Conv2d, HeadNorms, HeadProjection, Heads, LayerChange, Linear,
    LowRank, LowRankPart, Mask, Normed, Pairs, RopeTable,
};

/// Step of the central differences, whose own error is of the order of its square.
const STEP: f64 = 1e-2;

/// Largest difference between a directional derivative and its finite difference, relative to the
/// product of the lengths of gradient and direction.
const TOLERANCE: f64 = 2e-3;

/// Largest relative difference between the tracked and the untracked value: float32 rounding.
const VALUE_TOLERANCE: f32 = 2e-6;

const EPS: f64 = 1e-6;

/// Scattered values of about unit variance, the same in every run.
fn scattered(shape: &[usize], seed: usize) -> Tensor {
    let count = shape.iter().product::<usize>();
    let value = |i: usize| {
        let place = (i as f64 * 12.9898 + seed as f64 * 78.233).sin() * 43_758.545_3;
        ((place - place.floor()) * 3.4 - 1.7) as f32
    };
    Tensor::from_vec((0..count).map(value).collect(), shape, &Device::Cpu).unwrap()
}

/// `sum(weights * y)` in float64.
fn loss(y: &Tensor, weights: &Tensor) -> Result<Tensor> {
    (y.to_dtype(DType::F64)? * weights.to_dtype(DType::F64)?)?.sum_all()
}

/// Checks the gradient of `function` with respect to every input, along one direction each, and
/// that tracking gradients does not change the value.
fn check(name: &str, shapes: &[&[usize]], function: impl Fn(&[Tensor]) -> Result<Tensor>) {
    let inputs = shapes.iter().enumerate();
    let inputs: Vec<Tensor> = inputs.map(|(i, shape)| scattered(shape, i)).collect();
    let plain = function(&inputs).unwrap();
    let weights = scattered(plain.dims(), 100);
    let variables: Vec<Var> = inputs
        .iter()
        .map(|x| Var::from_tensor(x).unwrap())
        .collect();
    let tracked: Vec<Tensor> = variables.iter().map(|v| v.as_tensor().clone()).collect();
    let value = function(&tracked).unwrap();
    let error = relative_error(&value.detach(), &plain);
    assert!(
        error <= VALUE_TOLERANCE,
        "{name}: value differs by {error:e}"
    );
    let gradients = loss(&value, &weights).unwrap().backward().unwrap();
    for (i, variable) in variables.iter().enumerate() {
        let gradient = gradients.get(variable);
        let gradient = gradient.unwrap_or_else(|| panic!("{name}: input {i} has no gradient"));
        let direction = scattered(inputs[i].dims(), 200 + i);
        let dot = |a: &Tensor, b: &Tensor| -> f64 {
            let product = (a * b).unwrap().to_dtype(DType::F64).unwrap();
            product.sum_all().unwrap().to_scalar::<f64>().unwrap()
        };
        let shifted = |step: f64| -> f64 {
            let mut inputs = inputs.clone();
            inputs[i] = (&inputs[i] + (&direction * step).unwrap()).unwrap();
            let loss = loss(&function(&inputs).unwrap(), &weights).unwrap();
            loss.to_scalar::<f64>().unwrap()
        };
        let wanted = (shifted(STEP) - shifted(-STEP)) / (2.0 * STEP);
        let found = dot(gradient, &direction);
        let scale = dot(gradient, gradient).sqrt() * dot(&direction, &direction).sqrt();
        let error = (found - wanted).abs() / scale;
        assert!(
            error <= TOLERANCE,
            "{name}, input {i}: {found} is not {wanted} ({error:e})"
        );
    }
}

fn rope(tokens: usize, head_dim: usize) -> RopeTable {
    let positions: Vec<[f64; 1]> = (0..tokens).map(|i| [i as f64]).collect();
    RopeTable::new(&positions, &[head_dim], 1e4, &Device::Cpu).unwrap()
}

#[test]
fn linear_layers() {
    check("linear", &[&[2, 3, 8], &[5, 8], &[5]], |x| {
        Linear::new(x[1].clone(), Some(x[2].clone())).forward(&x[0])
    });
    check("adapted linear", &[&[2, 3, 8], &[2, 8], &[5, 2]], |x| {
        let weight = Tensor::ones((5, 8), DType::F32, &Device::Cpu)?;
        let linear = Linear::new(weight, None);
        let part = LowRankPart {
            rows: 0..5,
            down: x[1].clone(),
            up: (&x[2] * 0.5)?,
        };
        let change = LayerChange::default().with_low_rank(LowRank::new(&[part], 5)?);
        let mut set = AdapterSet::default();
        set.change(linear.id(), change);
        AdapterSet::with(Some(&Arc::new(set)), || linear.forward(&x[0]))
    });
}

#[test]
fn fp8_weights_pass_gradients_to_their_input() {
    use crate::nn::WeightFormat;
    let weight = scattered(&[16, 32], 0);
    let linear = Linear::in_format(weight, None, WeightFormat::Fp8).unwrap();
    let x = scattered(&[3, 32], 1);
    let plain = linear.forward(&x).unwrap();
    let variable = Var::from_tensor(&x).unwrap();
    let value = linear.forward(variable.as_tensor()).unwrap();
    assert!(relative_error(&value.detach(), &plain) <= VALUE_TOLERANCE);
    let gradients = value.sum_all().unwrap().backward().unwrap();
    // The product is linear in its rounded input: each row's gradient is the sum of the weight's
    // rows, which a product with the identity shows.
    let identity = Tensor::eye(32, DType::F32, &Device::Cpu).unwrap();
    let wanted = linear.forward(&identity).unwrap().sum(1).unwrap();
    let found = gradients.get(&variable).unwrap();
    for row in 0..3 {
        let found = found.get(row).unwrap();
        assert!(relative_error(&found, &wanted) < 1e-5);
    }
}

#[test]
fn attentions() {
    for mask in [Mask::None, Mask::Causal] {
        let shapes: [&[usize]; 3] = [&[2, 5, 4, 8], &[2, 5, 2, 8], &[2, 5, 2, 8]];
        check("attention", &shapes, |x| {
            attention(&x[0], &x[1], &x[2], mask)
        });
    }
    let shapes: [&[usize]; 4] = [&[1, 5, 2, 8], &[1, 5, 2, 8], &[1, 5, 2, 8], &[1, 5, 12]];
    check("attention and swiglu", &shapes, |x| {
        attention_and_swiglu(&x[0], &x[1], &x[2], &x[3])
    });
}

#[test]
fn rotated_heads() {
    for pairs in [Pairs::Neighbours, Pairs::Halves] {
        let shapes: [&[usize]; 4] = [&[2, 3, 32], &[2, 4, 32], &[8], &[8]];
        check("qk_norm_rope", &shapes, |x| {
            let norms = HeadNorms {
                query: x[2].clone(),
                key: x[3].clone(),
            };
            let heads = Heads { query: 2, key: 1 };
            let streams = [(&x[0], &norms), (&x[1], &norms)];
            let (q, k, v) = qk_norm_rope(&streams, heads, pairs, &rope(7, 8), EPS)?;
            Tensor::cat(&[q, k, v], 2)
        });
    }
}

#[test]
fn norms() {
    check("rms_norm", &[&[2, 3, 8], &[8]], |x| {
        rms_norm(&x[0], &x[1], EPS)
    });
    let shapes: [&[usize]; 3] = [&[2, 3, 8], &[1, 8], &[2, 8]];
    check("modulated_layer_norm", &shapes, |x| {
        modulated_layer_norm(&x[0], &x[1], &x[2], EPS)
    });
    for with_silu in [false, true] {
        check("group_norm", &[&[2, 6, 3, 4], &[6], &[6]], |x| {
            group_norm(&x[0], &x[1], &x[2], 3, EPS, with_silu)
        });
    }
}

#[test]
fn elementwise_operations() {
    check("silu", &[&[3, 8]], |x| silu(&x[0]));
    check("swiglu", &[&[2, 3, 8]], |x| swiglu(&x[0]));
    check("gated_residual", &[&[2, 3, 8], &[1, 8], &[2, 3, 8]], |x| {
        gated_residual(&x[0], &x[1], &x[2])
    });
}

#[test]
fn convolutions() {
    for (stride, before) in [(1, 1), (2, 0)] {
        check("conv2d", &[&[1, 3, 6, 6], &[4, 3, 3, 3], &[4]], |x| {
            Conv2d::new(x[1].clone(), x[2].clone(), stride)?.forward(&x[0], before, 1)
        });
    }
}

/// The compositions that the transformer's blocks are made of.
#[test]
fn block_products() {
    let heads = Heads { query: 2, key: 2 };
    let shapes: [&[usize]; 6] = [&[1, 3, 8], &[1, 8], &[1, 8], &[24, 8], &[4], &[4]];
    check("project_heads", &shapes, |x| {
        let linear = Linear::new(x[3].clone(), None);
        let norms = HeadNorms {
            query: x[4].clone(),
            key: x[5].clone(),
        };
        let stream = projection(x, &linear, &norms);
        let (q, k, v) = project_heads(&[stream], heads, &rope(3, 4), None)?.dense();
        Tensor::cat(&[q, k, v], 2)
    });
    let shapes: [&[usize]; 6] = [&[1, 3, 8], &[1, 8], &[1, 8], &[36, 8], &[4], &[4]];
    check("project_jointly", &shapes, |x| {
        let linear = Linear::new(x[3].clone(), None);
        let norms = HeadNorms {
            query: x[4].clone(),
            key: x[5].clone(),
        };
        project_jointly(&projection(x, &linear, &norms), heads, &rope(3, 4), None)?.attend()
    });
    let shapes: [&[usize]; 4] = [&[1, 3, 8], &[1, 8], &[1, 8], &[12, 8]];
    check("project_swiglu", &shapes, |x| {
        project_swiglu(&normed(x, &Linear::new(x[3].clone(), None)))
    });
    let shapes: [&[usize]; 4] = [&[1, 3, 8], &[1, 8], &[8, 6], &[1, 3, 6]];
    check("gated_linear", &shapes, |x| {
        gated_linear(&x[0], &x[1], &Linear::new(x[2].clone(), None), &x[3])
    });
}

fn normed<'a>(x: &'a [Tensor], linear: &'a Linear) -> Normed<'a> {
    Normed {
        x: &x[0],
        shift: &x[1],
        scale: &x[2],
        eps: EPS,
        linear,
    }
}

fn projection<'a>(x: &'a [Tensor], linear: &'a Linear, norms: &'a HeadNorms) -> HeadProjection<'a> {
    HeadProjection {
        normed: normed(x, linear),
        norms,
        eps: EPS,
    }
}
