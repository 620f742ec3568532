//! Streamed weights give the results of resident ones in every bit.

use std::cell::Cell;
use std::rc::Rc;

use candle_core::DType;
use ovis_protocol::{DenoiseRequest, StepCaching};

use super::loading::Loader;
use super::testing::{on_cpu, tiny_inputs, tiny_pipeline, tiny_pipeline_with};
use super::{Latent, Pipeline};
use crate::checkpoint::test_files::{write_checkpoint, Naming};
use crate::checkpoint::{Checkpoint, CheckpointArgs};
use crate::nn::{
    Copier, FailingCopier, Pager, Placement, Residence, SlowCopier, Visits, WeightFormat,
};
use crate::quants::BlockType;

/// More pages than any group of the tiny model has.
const MANY: usize = 16;

/// All pages for which `stays` holds, by their number in their group, and no VAE.
fn residence(stays: impl Fn(usize) -> bool) -> Residence {
    Residence {
        resident: vec![(0..MANY).map(stays).collect(); 5],
        vae_resident: false,
        ..Residence::ALL
    }
}

fn nothing_stays() -> Residence {
    residence(|_| false)
}

fn every_second_stays() -> Residence {
    residence(|page| page % 2 == 0)
}

fn tiny(placement: &Placement, residence: &Residence) -> Pipeline {
    tiny_pipeline_with(placement, Loader::pager(placement, residence))
}

fn with_copier(copier: impl Fn() -> Box<dyn Copier> + 'static, residence: &Residence) -> Pipeline {
    let pager = Pager::new(Box::new(move || Ok(copier())), residence);
    tiny_pipeline_with(&on_cpu(WeightFormat::Dense), pager)
}

fn vae_bytes(pipeline: &Pipeline) -> u64 {
    pipeline.vae.as_ref().unwrap().bytes()
}

fn request(cfg: f64, cache: StepCaching) -> DenoiseRequest {
    let mut request = DenoiseRequest::new(5, 4, cfg);
    request.cache = cache;
    request
}

fn bits(latent: &Latent) -> Vec<u32> {
    let values = latent.to_values().unwrap();
    values.iter().map(|value| value.to_bits()).collect()
}

/// The latents of a job, with `between` called after each step.
fn denoised(
    pipeline: &Pipeline,
    request: &DenoiseRequest,
    batch: usize,
    mut between: impl FnMut(),
) -> Latent {
    let inputs = tiny_inputs(batch, false);
    let mut job = pipeline.start_denoise(request, inputs).unwrap();
    for _ in 0..4 {
        job.step(pipeline.denoiser().unwrap()).unwrap();
        between();
    }
    assert_eq!(job.report().step, 4);
    job.finish().unwrap()
}

/// The bits of everything that a model makes.
fn results(pipeline: &Pipeline) -> Vec<Vec<u32>> {
    let mut results = Vec::new();
    let ids: Vec<u32> = (0..36).collect();
    let encoded = pipeline.encode_ids(&[&ids, &ids[..33]], 16).unwrap();
    let encoded = encoded.to_values().unwrap();
    results.push(encoded.iter().map(|value| value.to_bits()).collect());
    for (cfg, cache, batch) in [
        (5.0, StepCaching::Off, 1),
        (1.0, StepCaching::Off, 1),
        (5.0, StepCaching::Off, 3),
        (5.0, StepCaching::Safe, 1),
        (5.0, StepCaching::Fast, 2),
    ] {
        let latent = denoised(pipeline, &request(cfg, cache), batch, || {});
        results.push(bits(&latent));
        if batch == 1 {
            let image = pipeline.decode(&latent).unwrap().to_values().unwrap();
            results.push(image.iter().map(|value| value.to_bits()).collect());
        }
    }
    results
}

#[test]
fn results_are_those_of_resident_weights_in_every_bit() {
    let bf16 = Placement {
        weights: DType::BF16,
        ..on_cpu(WeightFormat::Dense)
    };
    let formats = [
        WeightFormat::Dense,
        WeightFormat::Fp8,
        WeightFormat::Blocks(BlockType::Q8_0),
    ];
    for placement in formats.map(on_cpu).into_iter().chain([bf16]) {
        let resident = tiny(&placement, &Residence::ALL);
        let wanted = results(&resident);
        assert_eq!(resident.streaming().copies, 0);
        for residence in [nothing_stays(), every_second_stays()] {
            let streamed = tiny(&placement, &residence);
            assert!(results(&streamed) == wanted, "{placement:?} {residence:?}");
            let stats = streamed.streaming();
            assert!(stats.streamed_bytes > 0 && stats.copied_bytes >= stats.streamed_bytes);
            assert_eq!(streamed.has_vae_on_device(), Some(false));
        }
    }
}

#[test]
fn a_step_copies_every_page_once_for_both_branches() {
    let pipeline = tiny(&on_cpu(WeightFormat::Dense), &nothing_stays());
    let pages = pipeline.pages();
    let every_step = |group: crate::nn::Group| group.visits() == Visits::EveryStep;
    let a_step = pages.iter().filter(|page| every_step(page.group)).count() as u64;
    assert_eq!(a_step, 2 * 2 + 3);
    let (seen, counts) = (Cell::new(0), Rc::new(Cell::new(Vec::new())));
    denoised(&pipeline, &request(5.0, StepCaching::Off), 1, || {
        let copies = pipeline.streaming().copies;
        let mut all = counts.take();
        all.push(copies - seen.replace(copies));
        counts.set(all);
    });
    assert_eq!(counts.take()[1..], [a_step; 3]);
}

#[test]
fn jobs_that_take_turns_do_not_disturb_each_other() {
    let jobs = [
        (request(5.0, StepCaching::Off), 1),
        (request(1.0, StepCaching::Fast), 2),
    ];
    let resident = tiny_pipeline();
    let wanted = jobs
        .each_ref()
        .map(|(request, batch)| bits(&denoised(&resident, request, *batch, || {})));
    let streamed = tiny(&on_cpu(WeightFormat::Dense), &nothing_stays());
    let mut running = jobs.each_ref().map(|(request, batch)| {
        let inputs = tiny_inputs(*batch, false);
        streamed.start_denoise(request, inputs).unwrap()
    });
    for _ in 0..4 {
        for job in &mut running {
            job.step(streamed.denoiser().unwrap()).unwrap();
        }
        // An encode uses the same slots.
        streamed.encode_ids(&[&[1, 2, 3]], 3).unwrap();
    }
    let found = running.map(|job| bits(&job.finish().unwrap()));
    assert_eq!(found, wanted);
}

#[test]
fn weights_leave_and_return_between_steps() {
    let resident = tiny_pipeline();
    let request = request(5.0, StepCaching::Off);
    let wanted = bits(&denoised(&resident, &request, 1, || {}));
    let pipeline = tiny_pipeline();
    let all: u64 = pipeline.pages().iter().map(|page| page.bytes).sum();
    let step = Cell::new(0);
    let found = denoised(&pipeline, &request, 1, || {
        match step.replace(step.get() + 1) {
            0 => {
                let wanted = vae_bytes(&pipeline) + all / 2;
                assert!(pipeline.make_room(wanted).unwrap() >= wanted);
                assert_eq!(pipeline.has_vae_on_device(), Some(false));
            }
            1 => assert!(pipeline.settle(all / 2).unwrap() > 0),
            2 => assert!(pipeline.unload().unwrap() > 0),
            _ => {
                assert!(pipeline.settle(u64::MAX / 4).unwrap() >= all);
                let stats = pipeline.streaming();
                assert_eq!((stats.streamed_bytes, stats.slot_bytes), (0, 0));
            }
        }
    });
    assert_eq!(bits(&found), wanted);
    assert_eq!(bits(&denoised(&pipeline, &request, 1, || {})), wanted);
    let latent = tiny_inputs(1, false).latent;
    pipeline.decode(&latent).unwrap();
    assert_eq!(pipeline.has_vae_on_device(), Some(true));
}

#[test]
fn room_that_slots_would_take_again_is_no_room() {
    let pipeline = tiny_pipeline();
    let pages = pipeline.pages();
    let all: u64 = pages.iter().map(|page| page.bytes).sum();
    let made = pipeline.make_room(u64::MAX).unwrap();
    let slots = pipeline.streaming().slot_bytes;
    assert!(slots > 0);
    assert_eq!(made, all + vae_bytes(&pipeline) - slots);
    assert!(pipeline.pages().iter().all(|page| !page.is_resident));
    assert_eq!(pipeline.make_room(1).unwrap(), 0);
}

#[test]
fn slow_copies_are_waited_for() {
    let wanted = results(&tiny_pipeline());
    for seed in [1, 77] {
        let streamed = with_copier(move || Box::new(SlowCopier::new(seed)), &nothing_stays());
        assert!(results(&streamed) == wanted);
    }
}

#[test]
fn a_copy_that_fails_ends_its_job_and_not_the_next() {
    let successes = Rc::new(Cell::new(None));
    let given = successes.clone();
    let copier = move || -> Box<dyn Copier> {
        Box::new(FailingCopier {
            successes: given.clone(),
        })
    };
    let pipeline = with_copier(copier, &nothing_stays());
    let request = request(5.0, StepCaching::Off);
    let wanted = bits(&denoised(&tiny_pipeline(), &request, 1, || {}));
    for count in 0..30 {
        let inputs = tiny_inputs(1, false);
        let mut job = pipeline.start_denoise(&request, inputs).unwrap();
        successes.set(Some(count));
        let model = pipeline.denoiser().unwrap();
        let failed = (0..4).find_map(|_| job.step(model).err());
        let text = failed.expect("a copy failed").to_string();
        assert!(text.contains("a copy failed"), "{text}");
        successes.set(None);
        assert_eq!(bits(&denoised(&pipeline, &request, 1, || {})), wanted);
    }
}

#[test]
fn a_checkpoint_is_streamed_from_its_files_where_it_cannot_be_pinned() {
    let folder = tempfile::tempdir().unwrap();
    write_checkpoint(folder.path(), Naming::Diffusers);
    let args = CheckpointArgs {
        model: Some(folder.path().to_owned()),
        ..CheckpointArgs::default()
    };
    let checkpoint = Checkpoint::open(&args).unwrap();
    let placement = on_cpu(WeightFormat::Dense);
    let resident = Pipeline::load(&checkpoint, &placement).unwrap();
    let streamed = Pipeline::load_with(&checkpoint, &placement, &nothing_stays()).unwrap();
    let stats = streamed.streaming();
    assert_eq!(stats.origin_bytes, stats.streamed_bytes);
    assert_eq!((stats.pinned_bytes, stats.pageable_bytes), (0, 0));
    let encoded = |pipeline: &Pipeline| {
        let encoded = pipeline.encode_ids(&[&[1, 2, 3]], 3).unwrap();
        encoded.to_values().unwrap()
    };
    assert_eq!(encoded(&streamed), encoded(&resident));
}
