//! Compares products with fused epilogues with the plain expressions, each without and with
//! low-rank updates. On other GPUs than Hopper, the separate kernels run and must meet the same
//! tolerances.

use std::sync::Arc;

use candle_core::{DType, Device, Tensor, D};

use super::{assert_close, gpu, kernels, random, there};
use crate::nn::{
    gated_linear, project_heads, project_jointly, project_swiglu, AdapterSet, HeadFactors,
    HeadNorms, HeadProjection, Heads, LayerChange, Linear, LowRank, LowRankPart, Normed, QkBounds,
    RopeTable, WeightFormat,
};

const HEAD_DIM: usize = 128;
const EPS: f64 = 1e-6;

/// The input is rounded to bf16 after its norm, and the sums before the epilogue.
const TOLERANCE: f32 = 8e-3;

/// Both sides quantize both factors; a few numbers may be rounded to the neighbouring fp8 number. In a
/// single row of 64 inputs, one of these can move the result by a hundredth.
const FP8_TOLERANCE: f32 = 2e-2;

/// Attention with factors, softmax weights and result in fp8, compared with exact attention.
const FP8_ATTENTION: f32 = 0.1;

/// A layer, its modulations and its head norms on one of the two devices.
struct Side {
    linear: Linear,
    row: Tensor,
    norms: HeadNorms,
    updates: Vec<LowRankPart>,
}

/// The low-rank updates of some layers.
fn updates(sides: &[&Side]) -> Arc<AdapterSet> {
    let mut set = AdapterSet::default();
    for side in sides {
        let outputs = side.updates[0].up.dim(0).unwrap();
        let low_rank = LowRank::new(&side.updates, outputs).unwrap();
        let change = LayerChange::default().with_low_rank(low_rank);
        set.change(side.linear.id(), change);
    }
    Arc::new(set)
}

/// Runs `body` without and with the low-rank updates of the CPU's and of the GPU's layers, and gives
/// it both sets.
fn without_and_with_updates(
    cpu: &[&Side],
    gpu: &[&Side],
    mut body: impl FnMut(&str, [Option<&Arc<AdapterSet>>; 2]),
) {
    body("without updates", [None, None]);
    let sets = [cpu, gpu].map(updates);
    body("with updates", [Some(&sets[0]), Some(&sets[1])]);
}

impl Side {
    fn normed<'a>(&'a self, x: &'a Tensor, shift: &'a Tensor, scale: &'a Tensor) -> Normed<'a> {
        Normed {
            x,
            shift,
            scale,
            eps: EPS,
            linear: &self.linear,
        }
    }

    fn part(&self, i: usize) -> Tensor {
        let width = self.row.dim(1).unwrap() / 3;
        self.row.narrow(1, i * width, width).unwrap()
    }
}

/// The same values on the CPU in float32 and on the GPU in bf16.
fn sides(inputs: usize, outputs: usize, entries: usize, fp8: bool) -> [Side; 2] {
    let weight = (random(&[outputs, inputs], DType::BF16) * 0.1).unwrap();
    let weight = weight.to_dtype(DType::BF16).unwrap();
    let weight = weight.to_dtype(DType::F32).unwrap();
    let bias = random(&[outputs], DType::BF16);
    let row = random(&[entries, 3 * inputs], DType::BF16);
    let norms = [(); 2].map(|()| random(&[HEAD_DIM], DType::BF16));
    let small = |shape: &[usize]| {
        let values = (random(shape, DType::BF16) * 0.125).unwrap();
        values
            .to_dtype(DType::BF16)
            .unwrap()
            .to_dtype(DType::F32)
            .unwrap()
    };
    // All rows; the first third, in more than one step of the kernel; and some in the middle.
    let parts: Vec<_> = [(0..outputs, 4), (0..outputs / 3, 70), (128..300, 9)]
        .into_iter()
        .map(|(rows, rank)| {
            (
                rows.clone(),
                small(&[rank, inputs]),
                small(&[rows.len(), rank]),
            )
        })
        .collect();
    let side = |put: &dyn Fn(&Tensor) -> Tensor| {
        let format = match fp8 {
            true => WeightFormat::Fp8,
            false => WeightFormat::Dense,
        };
        Side {
            linear: Linear::in_format(put(&weight), Some(put(&bias)), format).unwrap(),
            row: put(&row),
            norms: HeadNorms {
                query: put(&norms[0]),
                key: put(&norms[1]),
            },
            updates: parts
                .iter()
                .map(|(rows, down, up)| LowRankPart {
                    rows: rows.clone(),
                    down: put(down),
                    up: put(up),
                })
                .collect(),
        }
    };
    [side(&Tensor::clone), side(&|t| there(t, DType::BF16))]
}

fn table(tokens: usize, device: &Device) -> RopeTable {
    let positions: Vec<[f64; 2]> = (0..tokens)
        .map(|i| [i as f64, (i * i % 97) as f64])
        .collect();
    RopeTable::new(&positions, &[56, 72], 1e4, device).unwrap()
}

fn tolerance(fp8: bool) -> f32 {
    if fp8 {
        FP8_TOLERANCE
    } else {
        TOLERANCE
    }
}

/// Batch entries, tokens and inputs: a single row, rows that do not fill a tile, a batch entry that
/// ends within a tile, sums that are split into parts, inputs that end within a step.
const SIZES: [(usize, usize, usize); 6] = [
    (1, 1, 64),
    (2, 77, 80),
    (2, 300, 320),
    (1, 256, 4096),
    (3, 129, 1040),
    (1, 700, 2048),
];

#[test]
fn heads_of_two_streams() {
    let heads = Heads { query: 4, key: 2 };
    let outputs = (heads.query + 2 * heads.key) * HEAD_DIM;
    for fp8 in [false, true] {
        for (batch, tokens, inputs) in SIZES {
            let texts = 5 + tokens / 3;
            let streams = [
                (texts, sides(inputs, outputs, 1, fp8)),
                (tokens, sides(inputs, outputs, batch, fp8)),
            ];
            let x = [texts, tokens].map(|tokens| random(&[batch, tokens, inputs], DType::BF16));
            let run = |side: usize, device: &Device| {
                let parts: Vec<_> = streams
                    .iter()
                    .zip(&x)
                    .map(|((_, sides), x)| {
                        let side_of = &sides[side];
                        let x = if side == 0 {
                            x.clone()
                        } else {
                            there(x, DType::BF16)
                        };
                        (side_of, x, side_of.part(0), side_of.part(2))
                    })
                    .collect();
                let projections: Vec<_> = parts
                    .iter()
                    .map(|(side, x, shift, scale)| HeadProjection {
                        normed: side.normed(x, shift, scale),
                        norms: &side.norms,
                        eps: EPS,
                    })
                    .collect();
                let rope = table(texts + tokens, device);
                let norms = streams.each_ref().map(|(_, sides)| &sides[0].norms);
                let bounds = QkBounds::of(&norms).unwrap();
                let project = |bounds| project_heads(&projections, heads, &rope, bounds).unwrap();
                let attended = project(fp8.then_some(bounds)).attend().unwrap();
                (project(None).dense(), attended)
            };
            let of_side = |side: usize| streams.each_ref().map(|(_, sides)| &sides[side]);
            without_and_with_updates(&of_side(0), &of_side(1), |which, [cpu_set, gpu_set]| {
                let ((q, k, v), plain) = AdapterSet::with(cpu_set, || run(0, &Device::Cpu));
                let (ours, attended) = AdapterSet::with(gpu_set, || run(1, &gpu()));
                let what = format!("{batch} x {tokens} x {inputs}, fp8 {fp8}, {which}");
                let most = if fp8 { FP8_ATTENTION } else { 2.0 * TOLERANCE };
                assert_close(&format!("attention of {what}"), &attended, &plain, most);
                for (name, plain, ours) in [("q", q, ours.0), ("k", k, ours.1), ("v", v, ours.2)] {
                    assert_close(&format!("{name} of {what}"), &ours, &plain, tolerance(fp8));
                }
            });
        }
    }
}

#[test]
fn a_single_stream() {
    let heads = Heads { query: 2, key: 2 };
    let inner = 384;
    let outputs = 6 * HEAD_DIM + 2 * inner;
    for fp8 in [false, true] {
        for (batch, tokens, inputs) in SIZES {
            let sides = sides(inputs, outputs, 1, fp8);
            let x = random(&[batch, tokens, inputs], DType::BF16);
            let bounds = QkBounds::of(&[&sides[0].norms]).unwrap();
            let run = |side: &Side, x: &Tensor, device: &Device| {
                let (shift, scale) = (side.part(0), side.part(2));
                let projection = HeadProjection {
                    normed: side.normed(x, &shift, &scale),
                    norms: &side.norms,
                    eps: EPS,
                };
                let rope = table(tokens, device);
                project_jointly(&projection, heads, &rope, fp8.then_some(bounds))
                    .unwrap()
                    .attend()
                    .unwrap()
            };
            without_and_with_updates(&[&sides[0]], &[&sides[1]], |which, [cpu_set, gpu_set]| {
                let plain = AdapterSet::with(cpu_set, || run(&sides[0], &x, &Device::Cpu));
                let there = there(&x, DType::BF16);
                let ours = AdapterSet::with(gpu_set, || run(&sides[1], &there, &gpu()));
                let what = format!("{batch} x {tokens} x {inputs}, fp8 {fp8}, {which}");
                let columns = |t: &Tensor, start, count| t.narrow(2, start, count).unwrap();
                let width = 2 * HEAD_DIM;
                let attended = if fp8 { FP8_ATTENTION } else { 2.0 * TOLERANCE };
                for (start, count, tolerance) in
                    [(0, width, attended), (width, inner, 2.0 * tolerance(fp8))]
                {
                    let what = format!("columns from {start} of {what}");
                    let part = |t| columns(t, start, count);
                    assert_close(&what, &part(&ours), &part(&plain), tolerance);
                }
            });
        }
    }
}

#[test]
fn swiglus() {
    for fp8 in [false, true] {
        for (batch, tokens, inputs) in SIZES {
            let sides = sides(inputs, 768, batch, fp8);
            let x = random(&[batch, tokens, inputs], DType::BF16);
            let run = |side: &Side, x: &Tensor| {
                let (shift, scale) = (side.part(0), side.part(2));
                project_swiglu(&side.normed(x, &shift, &scale)).unwrap()
            };
            without_and_with_updates(&[&sides[0]], &[&sides[1]], |which, [cpu_set, gpu_set]| {
                let plain = AdapterSet::with(cpu_set, || run(&sides[0], &x));
                let there = there(&x, DType::BF16);
                let ours = AdapterSet::with(gpu_set, || run(&sides[1], &there));
                let what = format!("{batch} x {tokens} x {inputs}, fp8 {fp8}, {which}");
                assert_close(&what, &ours, &plain, 2.0 * tolerance(fp8));
            });
        }
    }
}

#[test]
fn gated_residuals() {
    for fp8 in [false, true] {
        for (batch, tokens, inputs) in SIZES {
            for entries in [1, batch] {
                let sides = sides(inputs, 512, 1, fp8);
                let x = random(&[batch, tokens, 512], DType::BF16);
                let y = random(&[batch, tokens, inputs], DType::BF16);
                // The middle of a wider row.
                let gates = random(&[entries, 3 * 512], DType::BF16);
                let gate = |t: &Tensor| t.narrow(D::Minus1, 512, 512).unwrap();
                let here = [x, y, gates];
                let there = here.each_ref().map(|t| there(t, DType::BF16));
                let run = |side: &Side, [x, y, gates]: &[Tensor; 3]| {
                    gated_linear(x, &gate(gates), &side.linear, y).unwrap()
                };
                without_and_with_updates(
                    &[&sides[0]],
                    &[&sides[1]],
                    |which, [cpu_set, gpu_set]| {
                        let plain = AdapterSet::with(cpu_set, || run(&sides[0], &here));
                        let ours = AdapterSet::with(gpu_set, || run(&sides[1], &there));
                        let what =
                            format!("{batch} x {tokens} x {inputs}, {entries} gates, fp8 {fp8}");
                        assert_close(&format!("{what}, {which}"), &ours, &plain, tolerance(fp8));
                    },
                );
            }
        }
    }
}

#[test]
fn products_are_the_same_each_time() {
    // Parts of split tiles are added in the same order, whichever block arrives last.
    let side = &sides(8192, 512, 1, false)[1];
    let x = there(&random(&[1, 300, 512], DType::BF16), DType::BF16);
    let y = there(&random(&[1, 300, 8192], DType::BF16), DType::BF16);
    let gate = there(&random(&[1, 512], DType::BF16), DType::BF16);
    let first = gated_linear(&x, &gate, &side.linear, &y).unwrap();
    for _ in 0..20 {
        let again = gated_linear(&x, &gate, &side.linear, &y).unwrap();
        assert_close("again", &again, &first, 0.0);
    }
}

#[test]
fn a_hopper_takes_the_blocks_of_the_7b_model() {
    let device = gpu();
    let capability = device
        .as_cuda_device()
        .unwrap()
        .cuda_stream()
        .context()
        .compute_capability();
    if capability.unwrap() != (9, 0) {
        return;
    }
    let heads = Heads { query: 24, key: 24 };
    for fp8 in [false, true] {
        let [_, side] = sides(3072, 9216 + 2 * 12_288, 1, fp8);
        let x = there(&random(&[1, 272, 3072], DType::BF16), DType::BF16);
        let (shift, scale) = (side.part(0), side.part(2));
        let rope = table(272, &gpu());
        let set = updates(&[&side]);
        for set in [None, Some(&set)] {
            let ready = AdapterSet::with(set, || side.normed(&x, &shift, &scale).ready().unwrap());
            let factors = HeadFactors {
                factors: ready.factors().expect("of one kind"),
                bias: ready.bias(),
                norms: &side.norms,
                eps: EPS,
            };
            let taken = kernels::project_jointly(&factors, heads, &rope, None).unwrap();
            assert!(taken.is_some(), "fp8 {fp8}, updates {}", set.is_some());
        }
    }
}
