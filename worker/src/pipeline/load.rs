//! The loaded model: a checkpoint's parts on a device, and the operations on them.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use ovis_protocol::{DenoiseRequest, PreviewKind, PromptCut};
use tokenizers::Tokenizer;

use super::abilities::Abilities;
use super::adapters::{AdapterStack, AdapterStore};
use super::codec;
use super::denoise::DenoiseState;
use super::error::{Error, Result};
use super::library::AdapterLibrary;
use super::memory::MemoryReport;
use super::preview;
use super::prompt::{tokenize, PREFIX_POSITIONS};
use super::scaling::LatentScaling;
use super::types::{Conditioning, DenoiseInputs, Image, Latent, Preview};
use super::vae_part::VaePart;
use crate::checkpoint::{PartTensors, Qwen3Config, NATIVE_SIZE};
use crate::models::mmdit::Mmdit;
use crate::models::qwen3::Qwen3;
use crate::models::vae::{Vae, VaeMemory};
use crate::nn::{AdapterSet, Pager, Placement};
use crate::sampling::{Snapshot, SnapshotError};

/// The name under which a snapshot keeps the [identity](Pipeline::identity) of its model.
const MODEL: &str = "model";
/// The name under which it keeps the identity of the adapters.
const ADAPTERS: &str = "adapters";

/// A loaded model, with those of its parts that the checkpoint has.
pub struct Pipeline {
    pub(super) name: String,
    pub(super) placement: Placement,
    /// Bytes of host memory that jobs may take, if the operator has set them.
    pub(super) host_memory: Option<u64>,
    /// The plan that the weights are kept by, on a GPU.
    pub(super) memory: Option<MemoryReport>,
    pub(super) tokenizer: Option<Arc<Tokenizer>>,
    pub(super) text_encoder: Option<Qwen3>,
    pub(super) transformer: Option<Mmdit>,
    pub(super) vae: Option<VaePart>,
    pub(super) pager: Rc<Pager>,
    pub(super) weights: Vec<Arc<PartTensors>>,
    pub(super) adapters: RefCell<AdapterStore>,
    /// The adapters that jobs name.
    pub(super) library: Option<Arc<AdapterLibrary>>,
}

impl Pipeline {
    /// For each loaded part, the map from its tensors to rows of files, which stay open:
    /// single tensors can be read again, to stream, swap or adapt them.
    pub fn weights(&self) -> &[Arc<PartTensors>] {
        &self.weights
    }

    /// Sets the bytes of host memory that jobs may take; `None` leaves it to what the machine
    /// has free.
    pub fn with_host_memory(self, bytes: Option<u64>) -> Self {
        Self {
            host_memory: bytes,
            ..self
        }
    }

    /// Bytes of host memory that jobs may take, if the operator has set them.
    pub fn host_memory(&self) -> Option<u64> {
        self.host_memory
    }

    /// Attaches the plan that the weights are kept by.
    pub fn with_memory_report(self, memory: Option<MemoryReport>) -> Self {
        Self { memory, ..self }
    }

    /// The plan that the weights are kept by, if there is one: on a GPU.
    pub fn memory_report(&self) -> Option<&MemoryReport> {
        self.memory.as_ref()
    }

    /// The model's name, for people.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The device of the model, and the types of its weights and arithmetic.
    pub fn placement(&self) -> &Placement {
        &self.placement
    }

    /// Width of a conditioning; `None` without a transformer and a text encoder.
    pub fn conditioning_width(&self) -> Option<usize> {
        let transformer = self.transformer.as_ref().map(|t| t.config().context_dim);
        transformer.or(self.text_encoder.as_ref().map(|t| t.config().hidden_size))
    }

    /// Channels of a latent; `None` without a transformer and a VAE.
    pub fn latent_channels(&self) -> Option<usize> {
        let transformer = self
            .transformer
            .as_ref()
            .map(|t| t.config().in_channels / 4);
        transformer.or(self.vae.as_ref().map(|v| v.config().latent_channels))
    }

    /// Side in pixels of the square images that the model was trained on.
    pub fn native_size(&self) -> usize {
        let vae = self.vae.as_ref().map(|vae| vae.config().native_size);
        vae.unwrap_or(NATIVE_SIZE)
    }

    /// What follows from the parts that are loaded.
    pub(super) fn abilities(&self) -> Abilities {
        Abilities {
            encodes: self.text_encoder.is_some() && self.tokenizer.is_some(),
            denoises: self.transformer.is_some(),
            decodes: self.vae.is_some(),
            encodes_images: self.vae.as_ref().is_some_and(VaePart::can_encode),
            conditioning_width: self.conditioning_width(),
            latent_channels: self.latent_channels(),
        }
    }

    /// Encodes prompts to conditioning `[B, T, D]`, and reports what was cut from them.
    ///
    /// # Errors
    /// There is no prompt, the text encoder or the tokenizer is not loaded, the job is
    /// cancelled, or the device fails.
    pub fn encode(
        &self,
        prompts: &[String],
        max_sequence_length: usize,
    ) -> Result<(Conditioning, Vec<PromptCut>)> {
        self.encode_adapted(prompts, max_sequence_length, &AdapterStack::default())
    }

    /// [`encode`](Self::encode) with adapters.
    ///
    /// # Errors
    /// As [`encode`](Self::encode), and an adapter cannot be read or applied.
    pub fn encode_adapted(
        &self,
        prompts: &[String],
        max_sequence_length: usize,
        stack: &AdapterStack,
    ) -> Result<(Conditioning, Vec<PromptCut>)> {
        let missing = |part| Error::MissingPart {
            part,
            operation: "encode",
        };
        if self.text_encoder.is_none() {
            return Err(missing("text encoder"));
        }
        let tokenizer = self.tokenizer.as_ref().ok_or(missing("tokenizer"))?;
        if prompts.is_empty() {
            return Err(Error::invalid("there is no prompt to encode", ""));
        }
        let tokenized = prompts
            .iter()
            .map(|prompt| tokenize(tokenizer, prompt, max_sequence_length))
            .collect::<Result<Vec<_>>>()?;
        let length = tokenized.iter().map(|t| t.length).max().unwrap_or(0);
        let ids: Vec<&[u32]> = tokenized.iter().map(|t| &t.ids[..]).collect();
        let set = self.text_encoder_set(stack)?;
        let encode = || self.with_room(|| self.encode_ids(&ids, length));
        let conditioning = AdapterSet::with(set.as_ref(), encode)?;
        let cuts = tokenized
            .iter()
            .enumerate()
            .filter(|(_, t)| t.lost_tokens + t.lost_template_tokens > 0)
            .map(|(i, t)| PromptCut {
                prompt: i as u32,
                lost_tokens: t.lost_tokens as u32,
                lost_template_tokens: t.lost_template_tokens as u32,
            })
            .collect();
        Ok((conditioning, cuts))
    }

    /// Encodes the token ids of templated prompts to conditioning `[B, length, D]`. The
    /// template's first positions are dropped, and positions without a token are zero.
    ///
    /// # Errors
    /// The text encoder is not loaded, the job is cancelled, or the device fails.
    pub fn encode_ids(&self, prompts: &[&[u32]], length: usize) -> Result<Conditioning> {
        let encoder = self.text_encoder.as_ref().ok_or(Error::MissingPart {
            part: "text encoder",
            operation: "encode",
        })?;
        let mut rows = Vec::with_capacity(prompts.len());
        for (ids, hidden) in prompts.iter().zip(encoder.forward_all(prompts)?) {
            let used = ids.len().saturating_sub(PREFIX_POSITIONS);
            rows.push(
                hidden
                    .narrow(1, ids.len() - used, used)?
                    .to_device(&Device::Cpu)?
                    .to_dtype(DType::F32)?
                    .pad_with_zeros(1, 0, length - used)?,
            );
        }
        Conditioning::new(Tensor::cat(&rows, 0)?)
    }

    /// The text encoder's config and the tokenizer, which decide the cost of an encode.
    pub(super) fn text_costs(&self) -> Option<(Qwen3Config, Arc<Tokenizer>)> {
        let encoder = self.text_encoder.as_ref()?;
        Some((encoder.config().clone(), self.tokenizer.clone()?))
    }

    /// The memory estimates of the VAE.
    pub(super) fn vae_memory(&self) -> Option<VaeMemory> {
        self.vae.as_ref().map(VaePart::memory)
    }

    /// Checks a denoise request and prepares its first step.
    ///
    /// # Errors
    /// A value is out of range, shapes do not fit together, the transformer is not loaded, or
    /// the device fails.
    pub fn start_denoise(
        &self,
        request: &DenoiseRequest,
        inputs: DenoiseInputs,
    ) -> Result<DenoiseState> {
        self.start_adapted(request, inputs, &self.stack(&request.adapters)?)
    }

    /// Writes out the state of a denoise job, and which model it belongs to.
    ///
    /// # Errors
    /// A tensor cannot be copied from the device.
    pub fn snapshot(&self, job: &DenoiseState) -> Result<Snapshot> {
        let mut snapshot = job.snapshot()?;
        snapshot.put(MODEL, self.identity());
        snapshot.put(ADAPTERS, self.adapter_identity(job.adapters())?);
        Ok(snapshot)
    }

    /// What a model must have in common with another one to give the same result bit for bit:
    /// name, precision and device.
    pub fn identity(&self) -> String {
        let placement = self.placement();
        let (precision, device) = (placement.precision(), placement.device_name());
        format!("{}, {precision}, {device}", self.name())
    }

    /// Continues a denoise job from a snapshot that [`snapshot`](Self::snapshot) made of the
    /// same request and inputs.
    ///
    /// # Errors
    /// Those of [`start_denoise`](Self::start_denoise), and [`Error::Snapshot`] for a snapshot
    /// that is damaged or belongs to another job.
    pub fn resume_denoise(
        &self,
        request: &DenoiseRequest,
        inputs: DenoiseInputs,
        snapshot: &Snapshot,
    ) -> Result<DenoiseState> {
        if snapshot.get::<String>(MODEL)? != self.identity() {
            return Err(SnapshotError::Foreign { what: "model" }.into());
        }
        if snapshot.get::<String>(ADAPTERS)? != self.adapter_identity(&request.adapters)? {
            return Err(SnapshotError::Foreign {
                what: "stack of adapters",
            }
            .into());
        }
        let stack = self.stack(&request.adapters)?;
        let adapters = |sigmas: &[f32]| self.phases(&stack, sigmas);
        let (model, scaling) = (self.denoiser()?, self.scaling());
        DenoiseState::resume(model, scaling, request, inputs, &adapters, snapshot)
    }

    /// A [snapshot](Self::snapshot) as bytes.
    ///
    /// # Errors
    /// Those of [`snapshot`](Self::snapshot).
    pub fn snapshot_bytes(&self, job: &DenoiseState) -> Result<Vec<u8>> {
        Ok(self.snapshot(job)?.to_bytes()?)
    }

    /// As [`resume_denoise`](Self::resume_denoise), from a snapshot's bytes.
    ///
    /// # Errors
    /// Those of [`resume_denoise`](Self::resume_denoise); bytes that are no snapshot are an
    /// [`Error::Snapshot`] too.
    pub fn resume_from_bytes(
        &self,
        request: &DenoiseRequest,
        inputs: DenoiseInputs,
        bytes: &[u8],
    ) -> Result<DenoiseState> {
        self.resume_denoise(request, inputs, &Snapshot::from_bytes(bytes)?)
    }

    pub(super) fn scaling(&self) -> LatentScaling {
        match &self.vae {
            Some(vae) => LatentScaling::of(vae.config()),
            None => LatentScaling::FLUX,
        }
    }

    /// A preview of the first image of a denoise job, if its request asks for previews and a
    /// step is done.
    ///
    /// # Errors
    /// The request asks for a preview by the VAE and none is loaded, or the device fails.
    pub fn preview(&self, job: &DenoiseState) -> Result<Option<Preview>> {
        let Some((wanted, estimate)) = job.estimate() else {
            return Ok(None);
        };
        let max_side = wanted.max_side as usize;
        match wanted.kind {
            PreviewKind::Linear => preview::linear(estimate, max_side),
            PreviewKind::Vae => self.with_vae("preview", |vae| {
                preview::by_vae(vae, estimate, self.scaling(), max_side)
            }),
        }
        .map(Some)
    }

    /// The transformer, which denoise steps need.
    ///
    /// # Errors
    /// [`Error::MissingPart`] if the checkpoint has none.
    pub fn denoiser(&self) -> Result<&Mmdit> {
        self.transformer.as_ref().ok_or(Error::MissingPart {
            part: "transformer",
            operation: "denoise",
        })
    }

    /// Decodes latents to pixels.
    ///
    /// # Errors
    /// The VAE is not loaded or has another number of channels, the job is cancelled, or the
    /// device fails.
    pub fn decode(&self, latent: &Latent) -> Result<Image> {
        self.with_room(|| self.with_vae("decode", |vae| codec::decode(vae, latent)))
    }

    /// Encodes pixels to latents.
    ///
    /// # Errors
    /// The VAE is not loaded or has no encoder, the size is not a multiple of
    /// [`SIZE_MULTIPLE`](super::SIZE_MULTIPLE), the job is cancelled, or the device fails.
    pub fn vae_encode(&self, image: &Image) -> Result<Latent> {
        self.with_room(|| self.with_vae("vae-encode", |vae| codec::vae_encode(vae, image)))
    }

    fn with_vae<R>(
        &self,
        operation: &'static str,
        body: impl FnOnce(&Vae) -> Result<R>,
    ) -> Result<R> {
        let vae = self.vae.as_ref().ok_or(Error::MissingPart {
            part: "VAE",
            operation,
        })?;
        vae.with(body)
    }
}
