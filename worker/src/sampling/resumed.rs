//! Runs that are written out after each step and resumed, against the same runs uninterrupted.

use candle_core::{Device, Tensor};
use ovis_protocol::SamplerOptions;
use proptest::prelude::*;

use super::*;

/// An odd number of elements below 16 also leaves a spare normal in the generator.
const SHAPES: [(usize, usize, usize, usize); 2] = [(2, 4, 4, 4), (1, 1, 1, 3)];

fn wave(pitch: f64, shape: (usize, usize, usize, usize)) -> Tensor {
    let count = shape.0 * shape.1 * shape.2 * shape.3;
    let values = (1..=count).map(|i| (i as f64 * pitch).sin() as f32);
    Tensor::from_vec(values.collect::<Vec<_>>(), shape, &Device::Cpu).unwrap()
}

fn model(x: &Tensor, sigma: f32) -> candle_core::Result<Tensor> {
    (x * 1.7)?.cos()? * (0.7 - 0.4 * f64::from(sigma))
}

/// The ways in which runs differ, beside their solver.
#[derive(Clone, Copy, Debug)]
struct Case {
    shape: (usize, usize, usize, usize),
    masked: bool,
    leftover_noise: bool,
}

impl Case {
    const ALL: [Self; 3] = [
        Self {
            shape: SHAPES[0],
            masked: false,
            leftover_noise: false,
        },
        Self {
            shape: SHAPES[0],
            masked: true,
            leftover_noise: true,
        },
        Self {
            shape: SHAPES[1],
            masked: false,
            leftover_noise: false,
        },
    ];

    /// A run of seven steps, or six and the noise of the seventh.
    fn run(self, sampler: Sampler) -> Run {
        let table = FlowTable::constant(3.0);
        let drop = sampler.drops_penultimate();
        let window = Window {
            end: self.leftover_noise.then_some(6),
            leftover_noise: self.leftover_noise,
            ..Window::WHOLE
        };
        let sigmas = window.of(sigmas(Scheduler::Simple, &table, 7, 1.0, drop));
        let (_, _, height, width) = self.shape;
        let start = Start {
            latents: wave(0.37, self.shape),
            noise: wave(1.3, self.shape),
            mask: self
                .masked
                .then(|| wave(0.9, (1, 1, height, width)).abs().unwrap()),
            seed: 5,
        };
        Run::new(sampler, sigmas, &table, start).unwrap()
    }
}

fn samplers() -> impl Iterator<Item = Sampler> {
    SAMPLERS
        .iter()
        .map(|name| Sampler::new(name, &SamplerOptions::default()).unwrap())
}

fn bits(tensor: &Tensor) -> Vec<u32> {
    let values = tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    values.into_iter().map(f32::to_bits).collect()
}

fn bytes(run: &Run) -> Vec<u8> {
    let mut snapshot = Snapshot::default();
    run.save(&mut snapshot).unwrap();
    snapshot.to_bytes().unwrap()
}

#[test]
fn every_resumed_run_ends_as_the_uninterrupted_one() {
    for sampler in samplers() {
        for case in Case::ALL {
            let mut run = case.run(sampler);
            let mut written = vec![bytes(&run)];
            let mut estimates = Vec::new();
            while let Some(denoised) = run.advance(&mut model).unwrap() {
                written.push(bytes(&run));
                estimates.push(bits(&denoised));
            }
            let wanted = bits(&run.finish().unwrap());
            for (step, written) in written.iter().enumerate() {
                let what = format!("{sampler:?} {case:?} after step {step}");
                let snapshot = Snapshot::from_bytes(written).unwrap();
                let mut run = case.run(sampler).restored(&snapshot).unwrap();
                assert_eq!(run.step(), step, "{what}");
                assert!(bytes(&run) == *written, "{what}");
                while let Some(denoised) = run.advance(&mut model).unwrap() {
                    assert!(bits(&denoised) == estimates[run.step() - 1], "{what}");
                }
                assert_eq!(bits(&run.finish().unwrap()), wanted, "{what}");
            }
        }
    }
}

/// A snapshot of three steps.
fn taken(sampler: Sampler, case: Case) -> Vec<u8> {
    let mut run = case.run(sampler);
    for _ in 0..3 {
        run.advance(&mut model).unwrap();
    }
    bytes(&run)
}

#[test]
fn a_snapshot_of_another_run_is_refused() {
    let refused = |into: (Sampler, Case), from: (Sampler, Case)| {
        let snapshot = Snapshot::from_bytes(&taken(from.0, from.1)).unwrap();
        let restored = into.1.run(into.0).restored(&snapshot);
        restored.err().expect("a refusal").to_string()
    };
    let [plain, leftover, small] = Case::ALL;
    let lms = |order| Sampler::Lms { order };
    assert!(refused((Sampler::Heun, plain), (Sampler::Euler, plain)).contains("sampler"));
    assert!(refused((lms(3), plain), (lms(4), plain)).contains("sampler"));
    assert!(refused((Sampler::Heun, plain), (Sampler::Heun, leftover)).contains("schedule"));
    assert!(refused((Sampler::Heun, plain), (Sampler::Heun, small)).contains("`run.x`"));
}

#[test]
fn a_snapshot_that_lacks_a_part_is_refused() {
    let case = Case::ALL[0];
    for sampler in samplers() {
        let whole = Snapshot::from_bytes(&taken(sampler, case)).unwrap();
        for name in whole.names() {
            let mut partial = whole.clone();
            partial.remove(&name);
            let restored = case.run(sampler).restored(&partial);
            assert!(restored.is_err(), "{sampler:?} without {name}");
        }
    }
}

proptest! {
    /// Whatever byte of a snapshot is damaged, resuming gives a run or an error.
    #[test]
    fn a_damaged_snapshot_never_panics(
        sampler in 0..SAMPLERS.len(),
        at in any::<prop::sample::Index>(),
        value in any::<u8>(),
    ) {
        let case = Case::ALL[0];
        let sampler = samplers().nth(sampler).unwrap();
        let mut bytes = taken(sampler, case);
        // The header is where damage is not only another number.
        let header = bytes.len().min(2048);
        bytes[at.index(header)] = value;
        if let Ok(snapshot) = Snapshot::from_bytes(&bytes) {
            if let Ok(mut run) = case.run(sampler).restored(&snapshot) {
                while run.advance(&mut model).unwrap().is_some() {}
            }
        }
    }
}
