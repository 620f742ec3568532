//! Jobs with adapters on a loaded model.

use std::path::Path;
use std::sync::Arc;

use ovis_protocol::{AdapterUse, DenoiseRequest};

use super::adapters::{AdapterPhases, AdapterStack, FittedAdapter, Network, Size, StackedAdapter};
use super::denoise::DenoiseState;
use super::error::{Error, Result};
use super::library::AdapterLibrary;
use super::load::Pipeline;
use super::types::DenoiseInputs;
use crate::checkpoint::{AdaptedModel, PartTensors};
use crate::models::mmdit::Mmdit;
use crate::models::qwen3::Qwen3;
use crate::nn::AdapterSet;

impl Pipeline {
    /// [`start_denoise`](Self::start_denoise) with adapters.
    ///
    /// # Errors
    /// As [`start_denoise`](Self::start_denoise), and an adapter cannot be read or applied.
    pub fn start_adapted(
        &self,
        request: &DenoiseRequest,
        inputs: DenoiseInputs,
        stack: &AdapterStack,
    ) -> Result<DenoiseState> {
        let adapters = |sigmas: &[f32]| self.phases(stack, sigmas);
        DenoiseState::new(self.denoiser()?, self.scaling(), request, inputs, &adapters)
    }

    /// The adapter in a file, opened once and fitted to this model. If it is `strict`, every
    /// tensor of the file must change something.
    ///
    /// # Errors
    /// The file is no adapter, or does not fit the model.
    pub fn open_adapter(&self, path: &Path, strict: bool) -> Result<Arc<FittedAdapter>> {
        let model = AdaptedModel {
            transformer: self.transformer.as_ref().map(Mmdit::config),
            text_encoder: self.text_encoder.as_ref().map(Qwen3::config),
        };
        self.adapters.borrow_mut().open(path, model, strict)
    }

    /// Gives the pipeline the adapters that jobs name.
    pub fn with_library(mut self, library: Arc<AdapterLibrary>) -> Self {
        self.library = Some(library);
        self
    }

    /// The stack of adapters that a job names, opened from the library.
    ///
    /// # Errors
    /// An adapter is missing or does not fit the model, or there is no library.
    pub fn stack(&self, wanted: &[AdapterUse]) -> Result<AdapterStack> {
        if wanted.is_empty() {
            return Ok(AdapterStack::default());
        }
        let library = self.library.as_ref().ok_or_else(|| {
            Error::invalid(
                "this worker applies no adapters",
                "Start it with --lora-dir FOLDER.",
            )
        })?;
        let opened = wanted.iter().map(|wanted| {
            let path = library.find(wanted)?;
            let adapter = self.open_adapter(&path, library.is_strict())?;
            Ok(StackedAdapter {
                adapter,
                transformer: wanted.transformer,
                text_encoder: wanted.text_encoder,
                interval: wanted.interval.map(|at| (at.start, at.end)),
                blocks: wanted.blocks.clone(),
            })
        });
        opened.collect::<Result<_>>().map(AdapterStack::new)
    }

    /// What stacks must have in common to give the same result bit for bit: the contents of their
    /// files. The rest is part of the request.
    pub(super) fn adapter_identity(&self, wanted: &[AdapterUse]) -> Result<String> {
        match &self.library {
            Some(library) => library.identity(wanted),
            None => Ok(String::new()),
        }
    }

    /// Sets the bytes of device memory that adapters may keep between jobs.
    pub fn with_adapter_memory(self, bytes: u64) -> Self {
        self.adapters.borrow_mut().set_limit(bytes);
        self
    }

    /// Bytes of device memory that adapters keep between jobs.
    pub fn adapter_bytes(&self) -> u64 {
        self.adapters.borrow().bytes()
    }

    /// Gives back the memory that adapters keep between jobs.
    pub fn drop_adapters(&self) {
        self.adapters.borrow_mut().evict(0);
    }

    /// Bytes of device memory that a stack takes in both networks: an upper estimate.
    pub fn stack_bytes(&self, stack: &AdapterStack) -> u64 {
        let (transformer, text) = (self.part("transformer"), self.part("text encoder"));
        let sizes = stack.adapters().iter().map(|stacked| {
            let adapter = stacked.adapter.adapter();
            Size::of(&adapter.transformer, transformer).plus(Size::of(&adapter.text_encoder, text))
        });
        let placement = self.placement();
        sizes.fold(Size::default(), Size::plus).bytes(
            placement.compute().size_in_bytes() as u64,
            placement.weights.size_in_bytes() as u64,
        )
    }

    /// What a stack changes in the text encoder.
    pub(super) fn text_encoder_set(&self, stack: &AdapterStack) -> Result<Option<Arc<AdapterSet>>> {
        let (Some(model), Some(weights)) = (&self.text_encoder, self.part("text encoder")) else {
            return Ok(None);
        };
        let network = Network::text_encoder(model, self.placement(), weights);
        let adapters: Vec<_> = stack.adapters().iter().collect();
        self.adapters.borrow_mut().set(&network, &adapters)
    }

    /// What a stack changes in the transformer at each of some sigmas.
    pub(super) fn phases(&self, stack: &AdapterStack, sigmas: &[f32]) -> Result<AdapterPhases> {
        let network = match (&self.transformer, self.part("transformer")) {
            (Some(model), Some(weights)) => Network::transformer(model, weights),
            _ => return AdapterPhases::new(&AdapterStack::default(), sigmas, |_| Ok(None)),
        };
        stack.check(network.blocks[1])?;
        AdapterPhases::new(stack, sigmas, |adapters| {
            self.adapters.borrow_mut().set(&network, adapters)
        })
    }

    fn part(&self, name: &str) -> Option<&PartTensors> {
        let mut parts = self.weights().iter().map(|part| &**part);
        parts.find(|part| part.part() == name)
    }
}
