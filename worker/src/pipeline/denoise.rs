//! A denoise job as a state that advances one step at a time.

use candle_core::{Device, Tensor};
use ovis_protocol::{AdapterUse, DenoiseRequest, PreviewRequest};

use super::adapters::AdapterPhases;
use super::denoiser::{Branches, Denoiser};
use super::error::Result;
use super::fingerprint;
use super::inputs::{check_channels, latent_mask, start};
use super::plan::{check_request, Plan};
use super::scaling::LatentScaling;
use super::types::{DenoiseInputs, Forwards, Latent, StepReport};
use crate::models::mmdit::Mmdit;
use crate::sampling::{Run, Snapshot, SnapshotError};

/// A denoise job between two steps.
pub struct DenoiseState {
    request: DenoiseRequest,
    inputs: DenoiseInputs,
    /// `None` for a job without steps, whose result is the latent it was given.
    running: Option<Running>,
}

/// The state of a job that has steps.
struct Running {
    run: Run,
    denoiser: Denoiser,
    scaling: LatentScaling,
    /// The denoised estimate at the last step's first sigma, in the model's scaling, if the
    /// request asks for previews.
    estimate: Option<Tensor>,
}

/// Makes the phases of a job's adapters for the sigmas at which it evaluates the model.
type Adapters<'a> = &'a dyn Fn(&[f32]) -> Result<AdapterPhases>;

/// Names of a job's parts in a snapshot.
const REQUEST: &str = "job.request";
const INPUTS: &str = "job.inputs";
const HAS_ESTIMATE: &str = "job.has_estimate";
const ESTIMATE: &str = "job.estimate";

impl DenoiseState {
    /// Checks a request and computes everything that stays the same from step to step.
    ///
    /// # Errors
    /// A value of the request is out of range, the shapes of the tensors do not fit together,
    /// or the device fails.
    pub fn new(
        model: &Mmdit,
        scaling: LatentScaling,
        request: &DenoiseRequest,
        inputs: DenoiseInputs,
        adapters: Adapters,
    ) -> Result<Self> {
        let dims = inputs.latent.tensor().dims4()?;
        let (batch, channels, height, width) = dims;
        check_channels(model, channels)?;
        let Plan {
            sampler,
            sigmas,
            table,
        } = check_request(request, batch, (8 * width, 8 * height))?;
        let mask = match &inputs.noise_mask {
            Some(mask) => Some(latent_mask(mask, dims, &model.placement().device)?),
            None => None,
        };
        let running = match sigmas.is_empty() {
            true => {
                Branches::new(model, request, &inputs, dims, adapters(&[])?)?;
                None
            }
            false => {
                let start = start(request, &inputs.latent, mask, scaling, model)?;
                let run = Run::new(sampler, sigmas, &table, start)?;
                let phases = adapters(&run.evaluations())?;
                let branches = Branches::new(model, request, &inputs, dims, phases)?;
                Some(Running {
                    denoiser: Denoiser::new(branches, request, run.evaluations()),
                    run,
                    scaling,
                    estimate: None,
                })
            }
        };
        Ok(Self {
            request: request.clone(),
            inputs,
            running,
        })
    }

    /// The adapters that the job's request names.
    pub fn adapters(&self) -> &[AdapterUse] {
        &self.request.adapters
    }

    /// The step the job is at.
    pub fn report(&self) -> StepReport {
        match &self.running {
            None => StepReport {
                step: 0,
                total: 0,
                sigma: 0.0,
            },
            Some(Running { run, .. }) => StepReport {
                step: run.step() as u32,
                total: run.steps() as u32,
                sigma: run.sigma(),
            },
        }
    }

    /// The forwards of the transformer in the steps so far.
    pub fn forwards(&self) -> Forwards {
        let running = self.running.as_ref();
        running.map_or_else(Forwards::default, |running| running.denoiser.forwards())
    }

    /// Runs one step; does nothing when all are done.
    ///
    /// # Errors
    /// The job is cancelled within the step, or the device fails.
    pub fn step(&mut self, model: &Mmdit) -> Result<StepReport> {
        if let Some(running) = &mut self.running {
            let Running { run, denoiser, .. } = running;
            let estimate = run.advance(&mut |x, sigma| denoiser.denoise(model, x, sigma))?;
            running.estimate = estimate.filter(|_| self.request.preview.is_some());
            // A GPU only queues the work. Without waiting for it, progress would be reported
            // before the step is done, and a cancel would come steps too late.
            model.placement().device.synchronize()?;
        }
        Ok(self.report())
    }

    /// The preview that the request asks for, and its source: the denoised estimate at the last
    /// step's first sigma, `[B, C, H/8, W/8]` in the model's scaling.
    pub fn estimate(&self) -> Option<(PreviewRequest, &Tensor)> {
        let running = self.running.as_ref()?;
        self.request.preview.zip(running.estimate.as_ref())
    }

    /// The raw VAE latents, on the CPU.
    pub fn finish(self) -> Result<Latent> {
        match self.running {
            None => Ok(self.inputs.latent),
            Some(Running { run, scaling, .. }) => {
                let latents = run.finish()?.to_device(&Device::Cpu)?;
                Latent::new(scaling.to_raw(&latents)?)
            }
        }
    }

    /// Writes out what changes from step to step: the latents and the memory of the solver, its
    /// noise and the step caches. What the request, the inputs and the model determine (text,
    /// RoPE, modulations, initial noise) is computed again by [`resume`](Self::resume).
    ///
    /// # Errors
    /// A tensor cannot be copied from the device.
    pub fn snapshot(&self) -> Result<Snapshot> {
        let mut snapshot = Snapshot::default();
        snapshot.put(REQUEST, fingerprint::of_request(&self.request)?);
        snapshot.put(INPUTS, fingerprint::of_inputs(&self.inputs)?);
        if let Some(running) = &self.running {
            running.run.save(&mut snapshot)?;
            running.denoiser.save(&mut snapshot)?;
            snapshot.put(HAS_ESTIMATE, running.estimate.is_some());
            if let Some(estimate) = &running.estimate {
                snapshot.put_tensor(ESTIMATE, estimate)?;
            }
        }
        Ok(snapshot)
    }

    /// The job in the state that a [`snapshot`](Self::snapshot) of it holds. Its further steps
    /// are bit for bit those of the uninterrupted job, given the same model in the same
    /// precision on the same kind of device.
    ///
    /// # Errors
    /// The errors of [`new`](Self::new), and [`SnapshotError`] for a snapshot that is damaged or
    /// belongs to another request or other inputs.
    pub fn resume(
        model: &Mmdit,
        scaling: LatentScaling,
        request: &DenoiseRequest,
        inputs: DenoiseInputs,
        adapters: Adapters,
        snapshot: &Snapshot,
    ) -> Result<Self> {
        let fingerprints = [
            (REQUEST, fingerprint::of_request(request)?, "request"),
            (INPUTS, fingerprint::of_inputs(&inputs)?, "set of tensors"),
        ];
        for (name, own, what) in fingerprints {
            if snapshot.get::<u64>(name)? != own {
                return Err(SnapshotError::Foreign { what }.into());
            }
        }
        let dims = inputs.latent.tensor().dims4()?;
        let mut state = Self::new(model, scaling, request, inputs, adapters)?;
        if let Some(mut running) = state.running.take() {
            running.run = running.run.restored(snapshot)?;
            running.denoiser.restore(snapshot, model, dims)?;
            running.estimate = match snapshot.get(HAS_ESTIMATE)? {
                true => Some(snapshot.tensor_like(ESTIMATE, running.run.latents())?),
                false => None,
            };
            state.running = Some(running);
        }
        Ok(state)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::mmdit::BranchInput;
    use crate::nn::relative_error;
    use crate::pipeline::testing::{tiny_inputs, tiny_pipeline};
    use crate::pipeline::Conditioning;
    use crate::sampling::batch_noise;

    /// One Euler step with guidance, computed by hand from the transformer's two velocities:
    /// `x + (next - sigma) * (uncond + cfg * (cond - uncond))`.
    #[test]
    fn a_step_moves_the_latents_along_the_guided_velocity() {
        let pipeline = tiny_pipeline();
        let model = pipeline.denoiser().unwrap();
        let mut request = DenoiseRequest::new(9, 4, 3.0);
        (request.start_step, request.end_step) = (1, Some(2));
        request.leftover_noise = true;
        let inputs = tiny_inputs(1, false);

        let mut job = pipeline.start_denoise(&request, inputs.clone()).unwrap();
        let sigma = job.report().sigma;
        let next = job.step(model).unwrap().sigma;
        assert!(sigma < 1.0 && next < sigma && next > 0.0);
        let found = job.finish().unwrap();

        // Latents in the model's scaling, with noise, as the step begins.
        let noise = batch_noise(9, 1, 16 * 4 * 6, None).unwrap();
        let raw = inputs.latent.to_values().unwrap();
        let (scale, shift) = (0.3611, 0.1159);
        let x: Vec<f32> = raw
            .iter()
            .zip(noise)
            .map(|(raw, noise)| sigma * noise + (1.0 - sigma) * (raw - shift) * scale)
            .collect();

        // The index in `[16, 4, 6]` of every value of the tokens `[2 x 3, 16 x 2 x 2]`.
        let places: Vec<usize> = (0..6 * 64)
            .map(|i| {
                let (token, channel, row, column) = (i / 64, i % 64 / 4, i % 4 / 2, i % 2);
                let (y, x) = (2 * (token / 3) + row, 2 * (token % 3) + column);
                channel * 24 + y * 6 + x
            })
            .collect();
        let packed: Vec<f32> = places.iter().map(|&place| x[place]).collect();
        let tokens = Tensor::from_vec(packed, (1, 6, 64), &Device::Cpu).unwrap();
        let modulations = model.modulations(&[sigma]).unwrap();
        let velocity = |conditioning: &Conditioning| -> Vec<f32> {
            let text = model.embed_text(conditioning.tensor()).unwrap();
            let rope = model.rope(7, 2, 3).unwrap();
            let branch = BranchInput {
                image: &tokens,
                text: &text,
                rope: &rope,
                cache: None,
            };
            let velocity = model.forward_all(vec![branch], &modulations, 0);
            let velocity = velocity.unwrap().remove(0);
            velocity.flatten_all().unwrap().to_vec1().unwrap()
        };
        let cond = velocity(&inputs.positive);
        let uncond = velocity(inputs.negative.as_ref().unwrap());
        let mut wanted = vec![0.0; x.len()];
        for (i, &place) in places.iter().enumerate() {
            let guided = uncond[i] + 3.0 * (cond[i] - uncond[i]);
            let stepped = x[place] + (next - sigma) * guided;
            // Leftover noise is divided out, then the latents are raw again.
            wanted[place] = stepped / (1.0 - next) / scale + shift;
        }
        let wanted = Latent::from_values(wanted, &[1, 16, 4, 6]).unwrap();
        let error = relative_error(found.tensor(), wanted.tensor());
        assert!(error < 1e-5, "{error:e}");
    }
}
