//! Adapters on a loaded model: switching them, jobs that alternate, and other formats of weights.
//! That every kind gives the result of merged weights is tested from outside, against its trainer.

use std::path::Path;
use std::sync::Arc;

use ovis_protocol::{AdapterUse, DenoiseRequest, SigmaInterval};

use super::layer::{merged_weight, Applied};
use super::network::Network;
use super::{AdapterPhases, AdapterStack, FittedAdapter, StackedAdapter};
use crate::checkpoint::test_files::{write, Stored};
use crate::models::mmdit::Mmdit;
use crate::nn::{relative_error, AdapterSet, LayerChange, Residence, WeightFormat};
use crate::pipeline::loading::Loader;
use crate::pipeline::testing::{on_cpu, tiny_inputs, tiny_pipeline, tiny_pipeline_with};
use crate::pipeline::{AdaptedCheckpoint, AdapterLibrary, DenoiseState, Latent, Pipeline};

/// Distinct small values.
fn values(count: usize, seed: usize) -> Vec<f32> {
    let value = |i: usize| ((i * 37 + seed * 101 + i * i * 7) % 199) as f32 / 1000.0 - 0.099;
    (0..count).map(value).collect()
}

fn tensor(name: &str, shape: &[usize], seed: usize) -> Stored {
    Stored::f32(name, shape, &values(shape.iter().product(), seed))
}

/// A LoRA of modules of both kinds of blocks and of the first layers, whole and in parts of fused
/// rows.
fn lora(seed: usize) -> Vec<Stored> {
    let modules = [
        ("transformer_blocks.1.attn.to_k", 64, 64),
        ("single_transformer_blocks.0.attn.to_v", 64, 64),
        ("single_transformer_blocks.0.proj_mlp", 256, 64),
        ("single_transformer_blocks.2.proj_out", 64, 192),
        ("double_blocks.0.img_mlp.down_proj", 64, 128),
        ("context_embedder", 64, 32),
        ("norm_out.linear", 128, 64),
    ];
    let tensors = modules.iter().flat_map(|(name, rows, columns)| {
        [
            tensor(&format!("{name}.lora_A.weight"), &[4, *columns], seed),
            tensor(&format!("{name}.lora_B.weight"), &[*rows, 4], seed + 1),
        ]
    });
    tensors.collect()
}

/// Two layers that get weights of their own, a norm and a bias.
fn full(seed: usize) -> Vec<Stored> {
    vec![
        tensor("single_blocks.1.linear1.diff", &[448, 64], seed),
        tensor("double_blocks.0.txt_attn.qkv.diff", &[192, 64], seed),
        tensor("double_blocks.1.img_attn.proj.diff_b", &[64], seed),
        tensor("single_blocks.1.norm.query_norm.w_norm", &[32], seed),
    ]
}

fn opened(
    pipeline: &Pipeline,
    folder: &Path,
    name: &str,
    tensors: &[Stored],
) -> Arc<FittedAdapter> {
    let path = folder.join(name);
    write(&path, tensors);
    pipeline.open_adapter(&path, true).unwrap()
}

fn stack(adapters: &[(&Arc<FittedAdapter>, f64)]) -> AdapterStack {
    let adapters = adapters.iter();
    AdapterStack::new(
        adapters
            .map(|(adapter, strength)| StackedAdapter::new((*adapter).clone(), *strength))
            .collect(),
    )
}

fn started(pipeline: &Pipeline, stack: &AdapterStack) -> DenoiseState {
    let request = DenoiseRequest::new(3, 3, 4.0);
    let inputs = tiny_inputs(1, false);
    pipeline.start_adapted(&request, inputs, stack).unwrap()
}

fn finished(pipeline: &Pipeline, mut job: DenoiseState) -> Latent {
    let model = pipeline.denoiser().unwrap();
    while job.report().step < job.report().total {
        job.step(model).unwrap();
    }
    job.finish().unwrap()
}

fn latent(pipeline: &Pipeline, stack: &AdapterStack) -> Latent {
    finished(pipeline, started(pipeline, stack))
}

fn bits(latent: &Latent) -> Vec<u32> {
    let values = latent.to_values().unwrap();
    values.into_iter().map(f32::to_bits).collect()
}

fn error(found: &Latent, wanted: &Latent) -> f32 {
    relative_error(found.tensor(), wanted.tensor())
}

#[test]
fn jobs_with_other_stacks_alternate_and_leave_no_trace() {
    let (pipeline, folder) = (tiny_pipeline(), tempfile::tempdir().unwrap());
    let none = AdapterStack::default();
    let plain = latent(&pipeline, &none);
    let first = opened(&pipeline, folder.path(), "a.safetensors", &lora(1));
    let second = opened(&pipeline, folder.path(), "b.safetensors", &full(2));
    let stacks = [
        none.clone(),
        stack(&[(&first, 1.0)]),
        stack(&[(&second, 0.7), (&first, -0.5)]),
        stack(&[(&first, 0.2)]),
    ];
    let alone: Vec<Latent> = stacks
        .iter()
        .map(|stack| latent(&pipeline, stack))
        .collect();
    assert_eq!(bits(&alone[0]), bits(&plain));
    for (i, other) in alone.iter().enumerate() {
        for one in &alone[..i] {
            assert!(error(one, other) > 1e-4, "{i}");
        }
    }
    let mut jobs: Vec<_> = stacks
        .iter()
        .map(|stack| started(&pipeline, stack))
        .collect();
    let model = pipeline.denoiser().unwrap();
    for _ in 0..3 {
        jobs.iter_mut().for_each(|job| _ = job.step(model).unwrap());
    }
    for (job, alone) in jobs.into_iter().zip(&alone) {
        assert_eq!(bits(&job.finish().unwrap()), bits(alone));
    }
    pipeline.drop_adapters();
    assert_eq!(pipeline.adapter_bytes(), 0);
    assert_eq!(bits(&latent(&pipeline, &none)), bits(&plain));
    assert_eq!(bits(&latent(&pipeline, &stacks[2])), bits(&alone[2]));
}

/// A set in which every changed layer has a merged weight of its own.
fn merged_set(pipeline: &Pipeline, stack: &AdapterStack) -> Arc<AdapterSet> {
    let model = pipeline.denoiser().unwrap();
    let weights = pipeline.weights().iter();
    let mut weights = weights.filter(|part| part.part() == "transformer");
    let network = Network::transformer(model, weights.next().unwrap());
    let mut set = AdapterSet::default();
    let mut layers: Vec<(_, Vec<Applied>)> = Vec::new();
    for stacked in stack.adapters() {
        for (index, change) in stacked.adapter.changes(network.part).iter().enumerate() {
            let site = network.sites.layer(&change.place.tensor).unwrap();
            let applied = Applied {
                adapter: &stacked.adapter,
                index,
                change,
                strength: stacked.transformer,
            };
            match layers
                .iter_mut()
                .find(|(known, _)| Arc::ptr_eq(known, site))
            {
                Some((_, layer)) => layer.push(applied),
                None => layers.push((site.clone(), vec![applied])),
            }
        }
    }
    for (site, applied) in layers {
        let weight = merged_weight(&network, &site, &applied).unwrap();
        let change = LayerChange::default()
            .with_weight(weight, site.format)
            .unwrap();
        set.change(site.id, change);
    }
    Arc::new(set)
}

fn latent_of_set(pipeline: &Pipeline, set: &Arc<AdapterSet>) -> Latent {
    let model: &Mmdit = pipeline.denoiser().unwrap();
    let phases = |sigmas: &[f32]| {
        let adapter = stack(&[]);
        AdapterPhases::new(&adapter, sigmas, |_| Ok(Some(set.clone())))
    };
    let (request, inputs) = (DenoiseRequest::new(3, 3, 4.0), tiny_inputs(1, false));
    let scaling = pipeline.scaling();
    let job = DenoiseState::new(model, scaling, &request, inputs, &phases).unwrap();
    finished(pipeline, job)
}

#[test]
fn thin_products_equal_merged_weights_in_f32_and_in_fp8() {
    for (format, tolerance) in [(WeightFormat::Dense, 1e-5), (WeightFormat::Fp8, 0.05)] {
        let placement = on_cpu(format);
        let pager = Loader::pager(&placement, &Residence::ALL);
        let pipeline = tiny_pipeline_with(&placement, pager);
        let folder = tempfile::tempdir().unwrap();
        let first = opened(&pipeline, folder.path(), "a.safetensors", &lora(1));
        let second = opened(&pipeline, folder.path(), "b.safetensors", &lora(5));
        let stack = stack(&[(&first, 3.0), (&second, -4.5)]);
        let plain = latent(&pipeline, &AdapterStack::default());
        let found = latent(&pipeline, &stack);
        let wanted = latent_of_set(&pipeline, &merged_set(&pipeline, &stack));
        let error_found = error(&found, &wanted);
        assert!(error_found < tolerance, "{format:?}: {error_found}");
        assert!(error(&plain, &wanted) > 3.0 * error_found, "{format:?}");
        let again = latent(&pipeline, &AdapterStack::default());
        assert_eq!(bits(&again), bits(&plain), "{format:?}");
    }
}

#[test]
fn a_hundred_switches_keep_memory_flat() {
    let (pipeline, folder) = (tiny_pipeline(), tempfile::tempdir().unwrap());
    let adapters: Vec<_> = (0..10)
        .map(|i| {
            opened(
                &pipeline,
                folder.path(),
                &format!("{i}.safetensors"),
                &lora(i),
            )
        })
        .collect();
    latent(&pipeline, &stack(&[(&adapters[0], 1.0)]));
    let one = pipeline.adapter_bytes();
    let estimate = pipeline.stack_bytes(&stack(&[(&adapters[0], 1.0)]));
    assert!((1..=estimate).contains(&one), "{one} {estimate}");
    let pipeline = pipeline.with_adapter_memory(4 * one);
    let mut results: Vec<Option<Vec<u32>>> = vec![None; 10];
    for turn in 0..100 {
        let place = turn * 7 % 10;
        let same = pipeline.open_adapter(&folder.path().join(format!("{place}.safetensors")), true);
        assert!(Arc::ptr_eq(&same.unwrap(), &adapters[place]), "opened once");
        let stack = stack(&[(&adapters[place], 1.0), (&adapters[(place + 1) % 10], 0.5)]);
        let found = bits(&latent(&pipeline, &stack));
        assert_eq!(results[place].get_or_insert_with(|| found.clone()), &found);
        assert!(pipeline.adapter_bytes() <= 4 * one, "{turn}");
    }
}

#[test]
fn a_changed_file_is_opened_again() {
    let (pipeline, folder) = (tiny_pipeline(), tempfile::tempdir().unwrap());
    let first = opened(&pipeline, folder.path(), "a.safetensors", &lora(1));
    let mut longer = lora(2);
    longer.extend(full(3));
    let second = opened(&pipeline, folder.path(), "a.safetensors", &longer);
    assert!(!Arc::ptr_eq(&first, &second));
    let found = latent(&pipeline, &stack(&[(&second, 1.0)]));
    assert!(error(&found, &latent(&pipeline, &AdapterStack::default())) > 1e-4);
}

#[test]
fn phases_follow_the_sigmas() {
    let (pipeline, folder) = (tiny_pipeline(), tempfile::tempdir().unwrap());
    let adapter = opened(&pipeline, folder.path(), "a.safetensors", &lora(1));
    let interval = |start, end| StackedAdapter {
        interval: Some((start, end)),
        ..StackedAdapter::new(adapter.clone(), 1.0)
    };
    let halves = AdapterStack::new(vec![interval(1.0, 0.8), interval(0.8, 0.0)]);
    let sigmas = [1.0, 0.9, 0.8, 0.5];
    let mut made = Vec::new();
    let phases = AdapterPhases::new(&halves, &sigmas, |adapters| {
        made.push(adapters.len());
        Ok(None)
    });
    let phases = phases.unwrap();
    assert_eq!(made, [1, 2, 1]);
    let found = sigmas.map(|sigma| phases.at(sigma));
    assert_eq!((found, phases.alternate()), ([0, 0, 1, 2], true));
    for (start, end) in [(0.5, 0.6), (1.5, 0.0), (f64::NAN, 0.0)] {
        let stack = AdapterStack::new(vec![interval(start, end)]);
        assert!(stack
            .check(5)
            .unwrap_err()
            .to_string()
            .contains("a part of 1 to 0"));
    }
}

#[test]
fn jobs_with_adapters_are_resumed_unless_a_file_has_changed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.safetensors");
    write(&path, &lora(1));
    let folders = vec![folder.path().to_owned()];
    let library = AdapterLibrary::new(folders, AdaptedCheckpoint::default(), true);
    let pipeline = tiny_pipeline().with_library(library.into());
    let half = AdapterUse {
        interval: Some(SigmaInterval {
            start: 1.0,
            end: 0.7,
        }),
        ..AdapterUse::new("a.safetensors", 1.5)
    };
    let request = DenoiseRequest {
        adapters: vec![AdapterUse::new("a.safetensors", 0.5), half],
        ..DenoiseRequest::new(3, 4, 4.0)
    };
    let inputs = || tiny_inputs(1, false);
    let start = || pipeline.start_denoise(&request, inputs()).unwrap();
    let wanted = bits(&finished(&pipeline, start()));
    let plain = DenoiseRequest::new(3, 4, 4.0);
    let plain = pipeline.start_denoise(&plain, inputs()).unwrap();
    assert_ne!(bits(&finished(&pipeline, plain)), wanted);
    let mut job = start();
    let mut written = Vec::new();
    for _ in 0..4 {
        written.push(pipeline.snapshot(&job).unwrap());
        job.step(pipeline.denoiser().unwrap()).unwrap();
    }
    for snapshot in &written {
        let resumed = pipeline.resume_denoise(&request, inputs(), snapshot);
        assert_eq!(bits(&finished(&pipeline, resumed.unwrap())), wanted);
    }
    let mut other = lora(2);
    other.extend(full(3));
    write(&path, &other);
    let refused = pipeline.resume_denoise(&request, inputs(), &written[1]);
    let error = refused.err().unwrap().to_string();
    assert!(error.contains("its stack of adapters differs"), "{error}");
}

#[test]
fn streamed_weights_take_adapters_as_resident_ones_do() {
    let placement = on_cpu(WeightFormat::Dense);
    let residence = Residence {
        resident: vec![vec![false; 8]; 5],
        ..Residence::ALL
    };
    let streamed = tiny_pipeline_with(&placement, Loader::pager(&placement, &residence));
    let [wanted, found] = [tiny_pipeline(), streamed].map(|pipeline| {
        let folder = tempfile::tempdir().unwrap();
        let adapter = opened(&pipeline, folder.path(), "a.safetensors", &lora(1));
        latent(&pipeline, &stack(&[(&adapter, 3.0)]))
    });
    assert_eq!(found.to_values().unwrap(), wanted.to_values().unwrap());
}
