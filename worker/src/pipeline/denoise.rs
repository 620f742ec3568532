//! Denoising as a state that advances one step at a time.

use candle_core::{DType, Device, Tensor};
use ovis_protocol::{DenoiseRequest, GuidanceInterval, PreviewRequest, StepCaching};

use super::error::{Error, Result};
use super::plan::{check_request, Plan};
use super::types::{Conditioning, DenoiseInputs, Forwards, Latent, StepReport};
use crate::checkpoint::{VaeConfig, FLUX_SCALING_FACTOR, FLUX_SHIFT_FACTOR};
use crate::models::mmdit::{Mmdit, Modulations};
use crate::models::step_cache::StepCache;
use crate::nn::{concat, guided_velocity, patchify, scaled_sum, RopeTable};
use crate::sampling::{batch_noise, Run, Start};

/// Scale and shift between raw VAE latents and the model's.
#[derive(Clone, Copy, Debug)]
pub struct LatentScaling {
    scale: f64,
    shift: f64,
}

impl LatentScaling {
    /// FLUX.1's constants, for a checkpoint whose VAE is elsewhere.
    pub const FLUX: Self = Self {
        scale: FLUX_SCALING_FACTOR,
        shift: FLUX_SHIFT_FACTOR,
    };

    /// What the VAE's config says.
    pub fn of(config: &VaeConfig) -> Self {
        Self {
            scale: config.scaling_factor,
            shift: config.shift_factor,
        }
    }

    fn to_model(self, raw: &Tensor) -> candle_core::Result<Tensor> {
        (raw - self.shift)? * self.scale
    }

    /// The model's latents to raw ones.
    ///
    /// # Errors
    /// The device fails.
    pub fn to_raw(self, latent: &Tensor) -> candle_core::Result<Tensor> {
        (latent / self.scale)? + self.shift
    }
}

/// The change of the first block's part below which the others are not run, in shares of
/// its mean magnitude. 0.08 is what ParaAttention uses for FLUX.1; on the demo model, 50
/// steps run 44 of 100 forwards with it and 26 with 0.15, and pixels differ from the exact
/// ones by 0.06 and 0.15 of 255 on average, of a poster.
fn threshold(caching: StepCaching) -> Option<f64> {
    match caching {
        StepCaching::Off => None,
        StepCaching::Safe => Some(0.08),
        StepCaching::Fast => Some(0.15),
    }
}

/// One branch of classifier-free guidance, or both one after the other.
struct Branch {
    text: Tensor,
    rope: RopeTable,
    cache: Option<StepCache>,
}

/// Sigmas whose modulations are made together: one product a block serves all of them, and
/// however many steps a job has, no more are held.
pub(super) const SIGMAS_A_PORTION: usize = 64;

/// The modulations of a job's sigmas, a portion at a time.
struct ModulationPortions {
    /// Every sigma at which the job asks the model, descending.
    sigmas: Vec<f32>,
    /// Those of one portion, and its place.
    made: Option<(usize, Modulations)>,
}

impl ModulationPortions {
    fn new(mut sigmas: Vec<f32>) -> Self {
        sigmas.sort_by(|a, b| b.total_cmp(a));
        sigmas.dedup();
        Self { sigmas, made: None }
    }

    /// The modulations of a sigma, and which of their rows is its.
    fn at(&mut self, model: &Mmdit, sigma: f32) -> candle_core::Result<(&Modulations, usize)> {
        let place = self.sigmas.iter().position(|&known| known == sigma);
        let place = place.ok_or_else(|| {
            candle_core::Error::Msg(format!(
                "the solver asks at {sigma}, which was not prepared"
            ))
        })?;
        let portion = place / SIGMAS_A_PORTION;
        let made = match self.made.take() {
            Some((at, made)) if at == portion => made,
            // Freed before the next is made.
            _ => {
                let start = portion * SIGMAS_A_PORTION;
                let end = (start + SIGMAS_A_PORTION).min(self.sigmas.len());
                model.modulations(&self.sigmas[start..end])?
            }
        };
        let (_, made) = self.made.insert((portion, made));
        Ok((made, place % SIGMAS_A_PORTION))
    }
}

/// What the transformer needs to be asked at any of a job's sigmas.
struct Denoiser {
    modulations: ModulationPortions,
    positive: Branch,
    negative: Option<Branch>,
    /// The positive's entries, then the negative's, where it is better to run them together.
    both: Option<Branch>,
    guidance: f64,
    guided: Option<GuidanceInterval>,
    /// Forwards asked for so far.
    forwards: u64,
}

impl Denoiser {
    /// Whether the negative has a say at a sigma.
    fn guides_at(&self, sigma: f32) -> bool {
        // Rounded as the sigma is, so that an end that equals it counts.
        self.guided
            .is_none_or(|at| (at.end as f32..=at.start as f32).contains(&sigma))
    }

    /// The denoised estimate of latents `[B, C, H/8, W/8]` at a sigma.
    fn denoise(&mut self, model: &Mmdit, x: &Tensor, sigma: f32) -> candle_core::Result<Tensor> {
        let (_, _, height, width) = x.dims4()?;
        let tokens = patchify(x, model.placement().compute())?;
        let guided = self.guides_at(sigma);
        let (modulations, row) = self.modulations.at(model, sigma)?;
        let mut predict = |branch: &mut Branch, tokens: &Tensor| {
            self.forwards += 1;
            let Branch { text, rope, cache } = branch;
            model.forward(tokens, text, modulations, row, rope, cache.as_mut())
        };
        let (cond, uncond) = match (&mut self.both, &mut self.negative) {
            (Some(both), _) if guided => {
                let velocities = predict(both, &concat(&[&tokens, &tokens], 0)?)?;
                self.forwards += 1;
                let entries = tokens.dim(0)?;
                (
                    velocities.narrow(0, 0, entries)?,
                    Some(velocities.narrow(0, entries, entries)?),
                )
            }
            (_, Some(negative)) if guided => (
                predict(&mut self.positive, &tokens)?,
                Some(predict(negative, &tokens)?),
            ),
            _ => (predict(&mut self.positive, &tokens)?, None),
        };
        let size = (height, width);
        let velocity = guided_velocity(&cond, uncond.as_ref(), self.guidance, size)?;
        scaled_sum(&[(1.0, x), (-f64::from(sigma), &velocity)])
    }
}

/// A denoise job between two steps.
pub enum DenoiseState {
    /// It has no steps: the latent comes back as it was sent.
    Untouched(Latent),
    /// It has.
    Running(Box<Running>),
}

/// A denoise job that has steps.
pub struct Running {
    run: Run,
    denoiser: Denoiser,
    scaling: LatentScaling,
    preview: Option<PreviewRequest>,
    /// The estimate at the last step's beginning, in the model's scaling, where
    /// previews are wanted.
    denoised: Option<Tensor>,
}

impl DenoiseState {
    /// Checks a request and prepares everything that does not change from step
    /// to step.
    ///
    /// # Errors
    /// A value is out of range, shapes do not fit together, or the device
    /// fails.
    pub fn new(
        model: &Mmdit,
        scaling: LatentScaling,
        request: &DenoiseRequest,
        inputs: DenoiseInputs,
    ) -> Result<Self> {
        let dims = inputs.latent.tensor().dims4()?;
        let (batch, channels, height, width) = dims;
        check_channels(model, channels)?;
        let plan = check_request(request, batch, (8 * width, 8 * height))?;
        let branch = |conditioning: &Conditioning, name: &str, other: Option<&Branch>| {
            let text = matched_batch(conditioning, batch, model.config().context_dim, name)?;
            let text = model.embed_text(&text)?;
            let rope = match other.filter(|other| other.text.dims() == text.dims()) {
                Some(other) => other.rope.clone(),
                None => model.rope(text.dim(1)?, height / 2, width / 2)?,
            };
            let cache = threshold(request.cache).map(StepCache::new);
            Ok::<_, Error>(Branch { text, rope, cache })
        };
        let positive = branch(&inputs.positive, "positive", None)?;
        let negative = match (request.cfg == 1.0, &inputs.negative) {
            (true, _) => None,
            (false, Some(negative)) => Some(branch(negative, "negative", Some(&positive))?),
            (false, None) => {
                return Err(Error::invalid(
                    format!(
                        "cfg is {}, but there is no negative conditioning",
                        request.cfg
                    ),
                    "Connect a negative prompt (an empty one will do), or set cfg to 1.",
                ))
            }
        };
        let both = match &negative {
            Some(negative) if together(&positive, negative, model) => Some(Branch {
                text: concat(&[&positive.text, &negative.text], 0)?,
                rope: positive.rope.clone(),
                cache: None,
            }),
            _ => None,
        };
        let mask = match &inputs.noise_mask {
            Some(mask) => Some(latent_mask(mask, dims, &model.placement().device)?),
            None => None,
        };
        if plan.sigmas.is_empty() {
            return Ok(Self::Untouched(inputs.latent));
        }
        let start = start(request, &inputs.latent, mask, scaling, model)?;
        let Plan {
            sampler,
            sigmas,
            table,
        } = plan;
        let run = Run::new(sampler, sigmas, &table, start)?;
        Ok(Self::Running(Box::new(Running {
            denoiser: Denoiser {
                modulations: ModulationPortions::new(run.evaluations()),
                positive,
                negative,
                both,
                guidance: request.cfg,
                guided: request.guided,
                forwards: 0,
            },
            run,
            scaling,
            preview: request.preview,
            denoised: None,
        })))
    }

    /// Steps done and to do.
    pub fn report(&self) -> StepReport {
        match self {
            Self::Untouched(_) => StepReport {
                step: 0,
                total: 0,
                sigma: 0.0,
            },
            Self::Running(running) => StepReport {
                step: running.run.step() as u32,
                total: running.run.steps() as u32,
                sigma: running.run.sigma(),
            },
        }
    }

    /// The forwards of the transformer in the steps so far.
    pub fn forwards(&self) -> Forwards {
        match self {
            Self::Untouched(_) => Forwards::default(),
            Self::Running(running) => {
                let denoiser = &running.denoiser;
                let branches = [Some(&denoiser.positive), denoiser.negative.as_ref()];
                let caches = branches.into_iter().flatten();
                let caches = caches.filter_map(|branch| branch.cache.as_ref());
                Forwards {
                    asked: denoiser.forwards,
                    answered: caches.map(StepCache::answered).sum(),
                }
            }
        }
    }

    /// Runs one step. Nothing happens once all are done.
    ///
    /// # Errors
    /// The device fails.
    pub fn step(&mut self, model: &Mmdit) -> Result<StepReport> {
        if let Self::Running(running) = self {
            let Running { run, denoiser, .. } = &mut **running;
            let denoised = run.advance(&mut |x, sigma| denoiser.denoise(model, x, sigma))?;
            running.denoised = denoised.filter(|_| running.preview.is_some());
            // A GPU only queues the work. Were it not waited for, progress would
            // be a promise and a cancel would come steps too late.
            model.placement().device.synchronize()?;
        }
        Ok(self.report())
    }

    /// The preview that is wanted now, and of what: the denoised estimate at the
    /// last step's beginning, `[B, C, H/8, W/8]` in the model's scaling.
    pub fn estimate(&self) -> Option<(PreviewRequest, &Tensor)> {
        match self {
            Self::Running(running) => running.preview.zip(running.denoised.as_ref()),
            Self::Untouched(_) => None,
        }
    }

    /// The raw VAE latents, on the CPU.
    ///
    /// # Errors
    /// The device fails.
    pub fn finish(self) -> Result<Latent> {
        match self {
            Self::Untouched(latent) => Ok(latent),
            Self::Running(running) => {
                let latents = running.run.finish()?.to_device(&Device::Cpu)?;
                Latent::new(running.scaling.to_raw(&latents)?)
            }
        }
    }
}

/// Whether both branches run better in one forward: those of a single image on a GPU, whose
/// attention is faster over more heads at once. They must have one length, and no cache,
/// which answers each by itself.
fn together(positive: &Branch, negative: &Branch, model: &Mmdit) -> bool {
    model.placement().device.is_cuda()
        && positive.text.dims()[0] == 1
        && positive.text.dims() == negative.text.dims()
        && positive.cache.is_none()
        && negative.cache.is_none()
}

/// Latents and noise of a run, on the model's device.
fn start(
    request: &DenoiseRequest,
    latent: &Latent,
    mask: Option<Tensor>,
    scaling: LatentScaling,
    model: &Mmdit,
) -> Result<Start> {
    let device = &model.placement().device;
    let raw = latent.tensor().to_device(&Device::Cpu)?;
    let dims = raw.dims4()?;
    let (batch, channels, height, width) = dims;
    // ComfyUI takes an all-zero latent for an empty one and leaves it zero; any
    // other is brought into the model's scaling.
    let empty = latent.to_values()?.iter().all(|value| *value == 0.0);
    let latents = if empty { raw } else { scaling.to_model(&raw)? };
    let noise = match request.add_noise {
        true => {
            let elements = channels * height * width;
            let index = request.batch_index.as_deref();
            let noise = batch_noise(request.seed, batch, elements, index)?;
            Tensor::from_vec(noise, dims, &Device::Cpu)?
        }
        false => latents.zeros_like()?,
    };
    Ok(Start {
        latents: latents.to_device(device)?,
        noise: noise.to_device(device)?,
        mask,
        seed: request.seed,
    })
}

fn check_channels(model: &Mmdit, channels: usize) -> Result<()> {
    let wanted = model.config().in_channels / 4;
    if channels == wanted {
        return Ok(());
    }
    Err(Error::invalid(
        format!("the latent has {channels} channels, this model's have {wanted}"),
        "Use an empty latent of this model, or encode the image with its VAE.",
    ))
}

/// The conditioning for the whole batch, `[B, T, D]`.
fn matched_batch(
    conditioning: &Conditioning,
    batch: usize,
    width: usize,
    name: &str,
) -> Result<Tensor> {
    let tensor = conditioning.tensor();
    let (entries, length, found) = tensor.dims3()?;
    if found != width {
        return Err(Error::invalid(
            format!("the {name} conditioning is {found} wide, this model's text width is {width}"),
            "Encode the prompt with this model's own text encoder.",
        ));
    }
    if entries == batch {
        return Ok(tensor.clone());
    }
    if entries != 1 {
        return Err(Error::invalid(
            format!("the {name} conditioning has {entries} entries for a batch of {batch}"),
            "Give one conditioning for all, or one for each batch entry.",
        ));
    }
    Ok(tensor.expand((batch, length, width))?.contiguous()?)
}

/// The mask as `[1 or B, 1, H/8, W/8]` on the device.
fn latent_mask(
    mask: &Tensor,
    (batch, _, height, width): (usize, usize, usize, usize),
    device: &Device,
) -> Result<Tensor> {
    let dims = mask.dims();
    if dims.len() != 3 || (dims[0] != 1 && dims[0] != batch) || dims[1..] != [height, width] {
        return Err(Error::invalid(
            format!("the noise mask has the shape {dims:?}, the latent wants [1 or {batch}, {height}, {width}]"),
            "Resize the mask to the latent's height and width.",
        ));
    }
    Ok(mask.to_dtype(DType::F32)?.to_device(device)?.unsqueeze(1)?)
}
