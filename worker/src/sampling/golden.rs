//! Every solver on a toy model against ComfyUI's results. `tests/make_golden_sampling.py` made
//! the golden values and documents them and the toy model.

use std::collections::BTreeMap;

use candle_core::{Device, Tensor};
use ovis_protocol::SamplerOptions;
use serde_json::Value;

use super::step_noise::SeededNoise;
use super::*;

const SHAPE: (usize, usize, usize, usize) = (2, 4, 4, 4);
const IMAGE_TOKENS: usize = 1024;
const SEED: u64 = (1 << 32) + 77;

/// Largest allowed difference from ComfyUI's result, relative to its norm.
const TOLERANCE: f64 = 1e-4;

/// Largest allowed difference from ComfyUI's sigma.
const SIGMA_TOLERANCE: f64 = 1e-6;

fn golden() -> Value {
    serde_json::from_str(include_str!("../../../tests/golden/sampling.json")).unwrap()
}

fn wave(pitch: f64, shape: (usize, usize, usize, usize)) -> Tensor {
    let count = shape.0 * shape.1 * shape.2 * shape.3;
    let values: Vec<f32> = (0..count)
        .map(|i| (i as f64 * pitch).sin() as f32)
        .collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

fn toy(x: &Tensor, sigma: f32) -> candle_core::Result<Tensor> {
    let bent = ((x * 1.7)?.cos()? * (0.7 - 0.4 * f64::from(sigma)))?;
    (bent + (x * 0.3)?)? + (wave(0.61, SHAPE) * 0.5)?
}

fn floats(value: &Value) -> Vec<f32> {
    let list = value.as_array().unwrap();
    list.iter().map(|v| v.as_f64().unwrap() as f32).collect()
}

fn table(shift: &Value) -> FlowTable {
    let shift = shift.as_f64();
    shift.map_or(FlowTable::by_size(IMAGE_TOKENS), FlowTable::constant)
}

fn assert_sigmas(ours: &[f32], theirs: &[f32], what: &str) {
    assert_eq!(ours.len(), theirs.len(), "{what}: {ours:?} for {theirs:?}");
    for (a, b) in ours.iter().zip(theirs) {
        let difference = (f64::from(*a) - f64::from(*b)).abs();
        assert!(difference <= SIGMA_TOLERANCE, "{what}: {a} for {b}");
    }
}

/// The settings of a run: its own, then the defaults.
struct Settings<'a>(&'a Value, &'a Value);

impl<'a> Settings<'a> {
    fn get(&self, key: &str) -> &'a Value {
        self.0.get(key).unwrap_or(&self.1[key])
    }

    fn count(&self, key: &str) -> Option<usize> {
        self.get(key).as_u64().map(|n| n as usize)
    }

    fn is(&self, key: &str) -> bool {
        self.get(key).as_bool().unwrap()
    }

    fn options(&self) -> SamplerOptions {
        let options = self.get("options");
        SamplerOptions {
            eta: options["eta"].as_f64(),
            s_noise: options["s_noise"].as_f64(),
            r: options["r"].as_f64(),
            order: options["order"].as_u64().map(|n| n as u32),
            solver_type: options["solver_type"].as_str().map(Into::into),
        }
    }

    fn sigmas(&self, sampler: Sampler) -> Vec<f32> {
        let all = match self.get("scheduler").as_str() {
            None => floats(self.get("given")),
            Some(name) => sigmas(
                Scheduler::from_name(name).unwrap(),
                &table(self.get("shift")),
                self.count("steps").unwrap(),
                self.get("denoise").as_f64().unwrap(),
                sampler.drops_penultimate(),
            ),
        };
        let window = Window {
            start: self.count("start").unwrap(),
            end: self.count("end"),
            leftover_noise: self.is("leftover_noise"),
        };
        window.of(all)
    }

    fn start(&self) -> Start {
        let latents = match self.is("latent") {
            true => wave(0.37, SHAPE),
            false => wave(0.0, SHAPE),
        };
        let elements = SHAPE.1 * SHAPE.2 * SHAPE.3;
        let index: Option<Vec<u64>> = self
            .get("batch_index")
            .as_array()
            .map(|list| list.iter().map(|v| v.as_u64().unwrap()).collect());
        let noise = match self.is("add_noise") {
            true => batch_noise(SEED, SHAPE.0, elements, index.as_deref()).unwrap(),
            false => vec![0.0; SHAPE.0 * elements],
        };
        Start {
            noise: Tensor::from_vec(noise, SHAPE, &Device::Cpu).unwrap(),
            mask: self
                .is("mask")
                .then(|| wave(0.9, (1, 1, SHAPE.2, SHAPE.3)).abs().unwrap()),
            latents,
            seed: SEED,
        }
    }
}

fn relative_error(ours: &[f32], theirs: &[f32]) -> f64 {
    let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>().sqrt();
    let pairs = ours.iter().zip(theirs);
    let difference = norm(&mut pairs.map(|(a, b)| f64::from(*a) - f64::from(*b)));
    difference / norm(&mut theirs.iter().map(|v| f64::from(*v)))
}

#[test]
fn sigmas_are_comfyuis() {
    let golden = golden();
    for entry in golden["schedules"].as_array().unwrap() {
        let name = entry["scheduler"].as_str().unwrap();
        let steps = entry["steps"].as_u64().unwrap() as usize;
        let scheduler = Scheduler::from_name(name).unwrap();
        let ours = scheduler.sigmas(&table(&entry["shift"]), steps);
        let what = format!("{name} with {steps} steps, shift {}", entry["shift"]);
        assert_sigmas(&ours, &floats(&entry["sigmas"]), &what);
    }
}

/// `cargo test golden -- --nocapture` prints the largest error of each sampler.
#[test]
fn latents_are_comfyuis() {
    let golden = golden();
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../tests/golden/sampling.safetensors"
    );
    let results = candle_core::safetensors::load(path, &Device::Cpu).unwrap();
    let mut worst: BTreeMap<&str, f64> = BTreeMap::new();
    let runs = golden["runs"].as_array().unwrap();
    assert_eq!(runs.len(), results.len());
    for entry in runs {
        let settings = Settings(entry, &golden["defaults"]);
        let name = settings.get("sampler").as_str().unwrap();
        let sampler = Sampler::new(name, &settings.options()).unwrap();
        let sigmas = settings.sigmas(sampler);
        assert_sigmas(&sigmas, &floats(settings.get("sigmas")), &entry.to_string());

        let start = settings.start();
        // The golden values were made with this noise for every solver.
        let noise = Box::new(SeededNoise::new(SEED, &start.latents));
        let table = table(settings.get("shift"));
        let mut run = Run::with_noise(sampler, sigmas, &table, start, noise).unwrap();
        let mut prepared = run.evaluations();
        let mut model = |x: &Tensor, sigma: f32| {
            assert_eq!(prepared.remove(0), sigma);
            toy(x, sigma)
        };
        while run.advance(&mut model).unwrap().is_some() {}
        assert!(prepared.is_empty());

        let values = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let theirs = values(&results[settings.get("result").as_str().unwrap()]);
        let error = relative_error(&values(&run.finish().unwrap()), &theirs);
        let largest = worst.entry(name).or_default();
        if error > *largest {
            println!("{error:.1e} {entry}");
        }
        *largest = largest.max(error);
    }
    println!("{worst:#?}");
    assert_eq!(worst.len(), SAMPLERS.len());
    assert!(worst.values().all(|error| *error <= TOLERANCE));
}

#[test]
fn every_sampler_and_scheduler_give_an_image() {
    let table = FlowTable::by_size(4096);
    let zeros = wave(0.0, SHAPE);
    for name in SAMPLERS {
        let sampler = Sampler::new(name, &SamplerOptions::default()).unwrap();
        for scheduler in Scheduler::ALL {
            for steps in [1, 2, 3, 4, 40] {
                let drop = sampler.drops_penultimate();
                let sigmas = sigmas(scheduler, &table, steps, 1.0, drop);
                let start = Start {
                    latents: zeros.clone(),
                    noise: wave(0.37, SHAPE),
                    mask: None,
                    seed: SEED,
                };
                let mut run = Run::new(sampler, sigmas, &table, start).unwrap();
                while run.advance(&mut toy).unwrap().is_some() {}
                let result = run.finish().unwrap().abs().unwrap().max_all().unwrap();
                let largest = result.to_scalar::<f32>().unwrap();
                let what = format!("{name} {} {steps}", scheduler.name());
                assert!(largest > 0.1 && largest.is_finite(), "{what}: {largest}");
            }
        }
    }
}
