//! Denoise jobs that are written out after each step and resumed, against the same jobs
//! uninterrupted.

use ovis_protocol::{DenoiseRequest, PreviewKind, PreviewRequest, Schedule, StepCaching};

use proptest::prelude::*;

use super::testing::{tiny_inputs as inputs, tiny_pipeline};
use super::*;
use crate::sampling::SAMPLERS;

fn bits(latent: &Latent) -> Vec<u32> {
    let values = latent.to_values().unwrap();
    values.into_iter().map(f32::to_bits).collect()
}

/// Runs a job to its end, with a snapshot as bytes before each step and after the last; and the
/// job resumed from each of them.
fn resumed_agrees(
    pipeline: &Pipeline,
    request: &DenoiseRequest,
    inputs: &DenoiseInputs,
) -> Forwards {
    let model = pipeline.denoiser().unwrap();
    let bytes = |job: &DenoiseState| pipeline.snapshot(job).unwrap().to_bytes().unwrap();
    let mut job = pipeline.start_denoise(request, inputs.clone()).unwrap();
    let total = job.report().total;
    let mut written = vec![(bytes(&job), pipeline.preview(&job).unwrap())];
    while job.report().step < total {
        job.step(model).unwrap();
        written.push((bytes(&job), pipeline.preview(&job).unwrap()));
    }
    let forwards = job.forwards();
    let wanted = bits(&job.finish().unwrap());
    for (step, (taken, _)) in written.iter().enumerate() {
        let what = format!("{} after step {step}", request.sampler);
        let snapshot = Snapshot::from_bytes(taken).unwrap();
        let mut job = pipeline
            .resume_denoise(request, inputs.clone(), &snapshot)
            .unwrap();
        assert_eq!(job.report().step as usize, step, "{what}");
        for (bytes_then, preview) in &written[step..] {
            assert!(bytes(&job) == *bytes_then, "{what}: the snapshot");
            assert!(
                pipeline.preview(&job).unwrap() == *preview,
                "{what}: the preview"
            );
            job.step(model).unwrap();
        }
        assert_eq!(job.forwards(), forwards, "{what}");
        assert!(bits(&job.finish().unwrap()) == wanted, "{what}: the latent");
    }
    forwards
}

#[test]
fn every_resumed_job_ends_as_the_uninterrupted_one() {
    let pipeline = tiny_pipeline();
    for sampler in SAMPLERS {
        let mut request = DenoiseRequest::new(3, 4, 4.0);
        request.sampler = (*sampler).into();
        resumed_agrees(&pipeline, &request, &inputs(1, false));
    }
}

#[test]
fn batches_masks_previews_and_leftover_noise_are_resumed() {
    let pipeline = tiny_pipeline();
    for sampler in ["ddim", "dpmpp_sde", "uni_pc", "lms"] {
        let mut request = DenoiseRequest::new(3, 5, 4.0);
        request.sampler = sampler.into();
        request.batch_index = Some(vec![4, 1]);
        (request.end_step, request.leftover_noise) = (Some(4), true);
        request.preview = Some(PreviewRequest {
            kind: PreviewKind::Linear,
            max_side: 64,
        });
        resumed_agrees(&pipeline, &request, &inputs(2, true));
    }
    // No step at all.
    let mut request = DenoiseRequest::new(3, 5, 4.0);
    request.start_step = 5;
    resumed_agrees(&pipeline, &request, &inputs(1, false));
}

#[test]
fn step_caches_are_resumed() {
    let pipeline = tiny_pipeline();
    for cache in [StepCaching::Safe, StepCaching::Fast] {
        let mut request = DenoiseRequest::new(3, 8, 4.0);
        request.cache = cache;
        // Pairs of sigmas so close to each other that the second is answered, far from the rest.
        let sigmas = [0.9, 0.89999, 0.7, 0.69999, 0.5, 0.49999, 0.3, 0.29999, 0.0];
        request.schedule = Schedule::Sigmas(sigmas.to_vec());
        let forwards = resumed_agrees(&pipeline, &request, &inputs(1, false));
        assert!(forwards.answered > 0 && forwards.answered < forwards.asked);
    }
}

#[test]
fn a_snapshot_of_another_job_is_refused() {
    let pipeline = tiny_pipeline();
    let mut request = DenoiseRequest::new(3, 4, 4.0);
    request.cache = StepCaching::Safe;
    let own = inputs(1, false);
    let mut job = pipeline.start_denoise(&request, own.clone()).unwrap();
    job.step(pipeline.denoiser().unwrap()).unwrap();
    let snapshot = pipeline.snapshot(&job).unwrap();
    let refused = |request: &DenoiseRequest, inputs: DenoiseInputs, snapshot: &Snapshot| {
        let resumed = pipeline.resume_denoise(request, inputs, snapshot);
        match resumed.err().expect("a refusal") {
            Error::Snapshot(error) => error.to_string(),
            other => panic!("{other}"),
        }
    };
    let other = DenoiseRequest::new(4, 4, 4.0);
    assert!(refused(&other, own.clone(), &snapshot).contains("its request differs"));
    for other in [inputs(2, false), inputs(1, true)] {
        assert!(refused(&request, other, &snapshot).contains("its set of tensors differs"));
    }
    for name in snapshot.names() {
        let mut partial = snapshot.clone();
        partial.remove(&name);
        assert!(refused(&request, own.clone(), &partial).contains(&name));
    }
    assert!(refused(&request, own.clone(), &Snapshot::default()).contains("no `model`"));
    let mut foreign = snapshot.clone();
    foreign.put("model", "another model, f32, cpu");
    assert!(refused(&request, own, &foreign).contains("its model differs"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever byte of the header is damaged, resuming gives a job or an error.
    #[test]
    fn a_damaged_snapshot_never_panics(
        at in any::<prop::sample::Index>(),
        value in prop::sample::select(b"0129-.{}[]\",:aeftu ".to_vec()),
    ) {
        let pipeline = tiny_pipeline();
        let model = pipeline.denoiser().unwrap();
        let mut request = DenoiseRequest::new(3, 3, 1.0);
        request.sampler = "dpmpp_2m_sde".into();
        request.cache = StepCaching::Fast;
        let mut job = pipeline.start_denoise(&request, inputs(1, false)).unwrap();
        job.step(model).unwrap();
        let mut bytes = pipeline.snapshot(&job).unwrap().to_bytes().unwrap();
        let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        bytes[8 + at.index(header)] = value;
        if let Ok(snapshot) = Snapshot::from_bytes(&bytes) {
            if let Ok(mut job) = pipeline.resume_denoise(&request, inputs(1, false), &snapshot) {
                job.step(model).unwrap();
            }
        }
    }
}
