//! Denoising as a state that advances one step at a time.

use candle_core::{DType, Device, Tensor};
use ovis_protocol::{DenoiseRequest, Schedule};

use super::error::{Error, Result};
use super::types::{Conditioning, DenoiseInputs, Latent, StepReport};
use crate::layers::{guided_velocity, patchify, RopeTable};
use crate::models::mmdit::{Mmdit, Modulations};
use crate::models::vae::VaeConfig;
use crate::sampling::{batch_noise, euler_step, sigmas, Shift, SAMPLERS};

/// Most steps a job may ask for.
const MAX_STEPS: u32 = 1000;

/// Widest and tallest aspect ratio.
const MAX_ASPECT: usize = 4;

/// Scale and shift between raw VAE latents and the model's.
#[derive(Clone, Copy, Debug)]
pub struct LatentScaling {
    scale: f64,
    shift: f64,
}

impl LatentScaling {
    /// FLUX.1's constants, for a checkpoint whose VAE is elsewhere.
    pub const FLUX: Self = Self {
        scale: 0.3611,
        shift: 0.1159,
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

    fn to_raw(self, latent: &Tensor) -> candle_core::Result<Tensor> {
        (latent / self.scale)? + self.shift
    }
}

/// One branch of classifier-free guidance.
struct Branch {
    text: Tensor,
    rope: RopeTable,
}

/// What stays of the original latent under a noise mask.
///
/// Source: ComfyUI `samplers.py` `KSamplerX0Inpaint`.
struct Inpaint {
    mask: Tensor,
    noise: Tensor,
    original: Tensor,
}

/// A denoise job between two steps.
pub struct DenoiseState {
    sigmas: Vec<f32>,
    step: usize,
    /// Latents in the model's scaling, `[B, C, H/8, W/8]` float32.
    x: Tensor,
    modulations: Modulations,
    positive: Branch,
    negative: Option<Branch>,
    guidance: f64,
    inpaint: Option<Inpaint>,
    scaling: LatentScaling,
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
        let device = &model.placement().device;
        let (batch, channels, height, width) = inputs.latent.tensor().dims4()?;
        check_channels(model, channels)?;
        check_size((8 * width, 8 * height))?;
        check_values(request, batch)?;
        let sigmas = request_sigmas(request, (height / 2) * (width / 2))?;

        let raw = inputs.latent.tensor().to_device(device)?;
        // ComfyUI takes an all-zero latent for an empty one and leaves it zero;
        // any other is brought into the model's scaling.
        let empty = raw.abs()?.max_all()?.to_scalar::<f32>()? == 0.0;
        let original = if empty { raw } else { scaling.to_model(&raw)? };
        let noise = batch_noise(
            request.seed,
            batch,
            channels * height * width,
            request.batch_index.as_deref(),
        );
        let noise = Tensor::from_vec(noise, (batch, channels, height, width), &Device::Cpu)?
            .to_device(device)?;
        let x = add_noise(&original, &noise, sigmas[0])?;

        let branch = |conditioning: &Conditioning, name: &str| -> Result<Branch> {
            let text = matched_batch(conditioning, batch, model.config().context_dim, name)?;
            Ok(Branch {
                rope: model.rope(text.dim(1)?, height / 2, width / 2)?,
                text: model.embed_text(&text)?,
            })
        };
        let positive = branch(&inputs.positive, "positive")?;
        let negative = match (request.cfg == 1.0, &inputs.negative) {
            (true, _) => None,
            (false, Some(negative)) => Some(branch(negative, "negative")?),
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
        let inpaint = match &inputs.noise_mask {
            Some(mask) => Some(Inpaint {
                mask: latent_mask(mask, (batch, channels, height, width), device)?,
                noise,
                original,
            }),
            None => None,
        };
        Ok(Self {
            modulations: model.modulations(&sigmas[..sigmas.len() - 1])?,
            sigmas,
            step: 0,
            x,
            positive,
            negative,
            guidance: request.cfg,
            inpaint,
            scaling,
        })
    }

    /// Steps done and to do.
    pub fn report(&self) -> StepReport {
        StepReport {
            step: self.step as u32,
            total: (self.sigmas.len() - 1) as u32,
            sigma: self.sigmas[self.step],
        }
    }

    /// Runs one step. Nothing happens once all are done.
    ///
    /// # Errors
    /// The device fails.
    pub fn step(&mut self, model: &Mmdit) -> Result<StepReport> {
        let [sigma, next] = match self.sigmas[self.step..] {
            [sigma, next, ..] => [sigma, next],
            _ => return Ok(self.report()),
        };
        let velocity = match &self.inpaint {
            None => self.velocity(model, &self.x)?,
            Some(inpaint) => {
                // Outside the mask the model sees the original with this step's
                // noise, and its prediction is replaced by the original.
                let known = add_noise(&inpaint.original, &inpaint.noise, sigma)?;
                let seen = blend(&self.x, &known, &inpaint.mask)?;
                let velocity = self.velocity(model, &seen)?;
                let predicted = (&seen - (velocity * f64::from(sigma))?)?;
                let denoised = blend(&predicted, &inpaint.original, &inpaint.mask)?;
                ((&self.x - denoised)? / f64::from(sigma))?
            }
        };
        self.x = euler_step(&self.x, &velocity, sigma, next)?;
        // A GPU only queues the work. Were it not waited for, progress would be
        // a promise and a cancel would come steps too late.
        model.placement().device.synchronize()?;
        self.step += 1;
        Ok(self.report())
    }

    /// The raw VAE latents, on the CPU.
    ///
    /// # Errors
    /// The device fails.
    pub fn finish(self) -> Result<Latent> {
        let raw = self.scaling.to_raw(&self.x)?;
        Latent::new(raw.to_device(&Device::Cpu)?)
    }

    /// `uncond + guidance * (cond - uncond)`, or `cond` alone without guidance.
    fn velocity(&self, model: &Mmdit, x: &Tensor) -> Result<Tensor> {
        let (_, _, height, width) = x.dims4()?;
        let tokens = patchify(x, model.placement().compute())?;
        let predict = |branch: &Branch| {
            let (text, rope) = (&branch.text, &branch.rope);
            model.forward(&tokens, text, &self.modulations, self.step, rope)
        };
        let cond = predict(&self.positive)?;
        let uncond = self.negative.as_ref().map(predict).transpose()?;
        let size = (height, width);
        Ok(guided_velocity(
            &cond,
            uncond.as_ref(),
            self.guidance,
            size,
        )?)
    }
}

/// `sigma * noise + (1 - sigma) * original`: the flow's interpolation.
fn add_noise(original: &Tensor, noise: &Tensor, sigma: f32) -> candle_core::Result<Tensor> {
    let sigma = f64::from(sigma);
    (noise * sigma)? + (original * (1.0 - sigma))?
}

/// `a` where the mask is 1, `b` where it is 0.
fn blend(a: &Tensor, b: &Tensor, mask: &Tensor) -> candle_core::Result<Tensor> {
    a.broadcast_mul(mask)? + b.broadcast_mul(&(1.0 - mask)?)?
}

/// Checks what a request says by itself, before a model is there to run it:
/// `size` is the image's width and height in pixels.
///
/// # Errors
/// A value is out of range.
pub fn check_request(request: &DenoiseRequest, batch: usize, size: (usize, usize)) -> Result<()> {
    check_size(size)?;
    check_values(request, batch)?;
    let (width, height) = size;
    request_sigmas(request, (width / 16) * (height / 16)).map(drop)
}

fn check_size((width, height): (usize, usize)) -> Result<()> {
    if width == 0 || height == 0 || width % 16 != 0 || height % 16 != 0 {
        return Err(Error::invalid(
            format!("a size of {width} x {height} pixels is not a multiple of 16 both ways"),
            "Round width and height to multiples of 16.",
        ));
    }
    if height > MAX_ASPECT * width || width > MAX_ASPECT * height {
        return Err(Error::invalid(
            format!("a size of {width} x {height} pixels is longer than 4 to 1"),
            "Choose an aspect ratio from 1:4 to 4:1.",
        ));
    }
    Ok(())
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

fn check_values(request: &DenoiseRequest, batch: usize) -> Result<()> {
    if !SAMPLERS.contains(&request.sampler.as_str()) {
        return Err(Error::invalid(
            format!("there is no sampler called `{}`", request.sampler),
            format!("Choose one of: {}.", SAMPLERS.join(", ")),
        ));
    }
    if !request.cfg.is_finite() || !(0.0..=100.0).contains(&request.cfg) {
        return Err(Error::invalid(
            format!("cfg is {}, outside 0 to 100", request.cfg),
            "5 is the model's own; 1 switches guidance off.",
        ));
    }
    if !(request.denoise > 0.0 && request.denoise <= 1.0) {
        return Err(Error::invalid(
            format!("denoise is {}, outside 0 to 1", request.denoise),
            "1 makes a new image; less keeps more of the one given.",
        ));
    }
    match &request.batch_index {
        Some(index) if index.len() != batch => Err(Error::invalid(
            format!(
                "batch_index has {} entries for a batch of {batch}",
                index.len()
            ),
            "It names one noise draw for each batch entry.",
        )),
        Some(index) if index.iter().any(|&i| i >= 4096) => Err(Error::invalid(
            "batch_index names a noise draw past 4095",
            "Draws are numbered from 0.",
        )),
        _ => Ok(()),
    }
}

fn request_sigmas(request: &DenoiseRequest, image_tokens: usize) -> Result<Vec<f32>> {
    if request.steps == 0 || request.steps > MAX_STEPS {
        return Err(Error::invalid(
            format!("steps is {}, outside 1 to {MAX_STEPS}", request.steps),
            "50 is the model's own; 20 is a good preview.",
        ));
    }
    let steps = request.steps as usize;
    let shift = match &request.schedule {
        Schedule::Auto => Shift::Auto,
        Schedule::Shift(shift) if *shift > 0.0 && shift.is_finite() => Shift::Constant(*shift),
        Schedule::Shift(shift) => {
            return Err(Error::invalid(
                format!("shift is {shift}, but it must be above 0"),
                "3 is ComfyUI's; leave it out for the model's own.",
            ))
        }
        Schedule::Sigmas(given) => {
            let descending = given.windows(2).all(|w| w[0] > w[1]);
            let inside = given.iter().all(|s| (0.0..=1.0).contains(s));
            if given.len() != steps + 1 || !descending || !inside || request.denoise != 1.0 {
                return Err(Error::invalid(
                    "the given sigmas are not one more than the steps, descending within 1 to 0, with denoise 1",
                    "",
                ));
            }
            return Ok(given.clone());
        }
    };
    Ok(sigmas(steps, shift, image_tokens, request.denoise))
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
