//! Loading a checkpoint's parts onto a device.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use super::load::Pipeline;
use super::vae_part::VaePart;
use crate::checkpoint::{
    Checkpoint, MmditConfig, PartTensors, Qwen3Config, VaeConfig, WeightsError,
};
use crate::models::builder::Builder;
use crate::models::mmdit::Mmdit;
use crate::models::qwen3::Qwen3;
use crate::nn::{copier, Pager, Placement, Residence};

/// Loads parts one after another onto a device.
pub(super) struct Loader<'a> {
    placement: &'a Placement,
    pager: Rc<Pager>,
    weights: Vec<Arc<PartTensors>>,
}

impl<'a> Loader<'a> {
    /// For a placement and the pager of the model.
    pub fn new(placement: &'a Placement, pager: Pager) -> Self {
        Self {
            placement,
            pager: Rc::new(pager),
            weights: Vec::new(),
        }
    }

    /// A pager for a model with this residence on the placement's device.
    pub fn pager(placement: &Placement, residence: &Residence) -> Pager {
        let device = placement.device.clone();
        Pager::new(Box::new(move || copier(&device)), residence)
    }

    /// Loads a text encoder.
    ///
    /// # Errors
    /// A tensor is missing, misshapen or unreadable, or a device has no memory for it.
    pub fn text_encoder(
        &mut self,
        config: &Qwen3Config,
        tensors: &Arc<PartTensors>,
    ) -> Result<Qwen3, WeightsError> {
        self.part(tensors, |at, pager| Qwen3::new(config, at, pager))
    }

    /// Loads a transformer.
    ///
    /// # Errors
    /// Those of [`text_encoder`](Self::text_encoder).
    pub fn transformer(
        &mut self,
        config: &MmditConfig,
        tensors: &Arc<PartTensors>,
    ) -> Result<Mmdit, WeightsError> {
        self.part(tensors, |at, pager| Mmdit::new(config, at, pager))
    }

    /// Loads a VAE.
    ///
    /// # Errors
    /// Those of [`text_encoder`](Self::text_encoder).
    pub fn vae(
        &mut self,
        config: &VaeConfig,
        tensors: &Arc<PartTensors>,
    ) -> Result<VaePart, WeightsError> {
        let (placement, stays) = (self.placement, self.pager.residence().vae_resident);
        self.part(tensors, |_, _| {
            VaePart::new(config, tensors, placement, stays)
        })
    }

    fn part<T>(
        &mut self,
        tensors: &Arc<PartTensors>,
        build: impl FnOnce(&Builder, &Rc<Pager>) -> Result<T, WeightsError>,
    ) -> Result<T, WeightsError> {
        tensors.read_ahead();
        let built = build(&Builder::new(tensors, self.placement), &self.pager)?;
        tensors.finish()?;
        self.weights.push(tensors.clone());
        Ok(built)
    }

    /// The model of all loaded parts, without a tokenizer.
    ///
    /// # Errors
    /// The device has too little memory for the slots of pages that do not stay.
    pub fn pipeline(
        self,
        name: &str,
        text_encoder: Option<Qwen3>,
        transformer: Option<Mmdit>,
        vae: Option<VaePart>,
    ) -> Result<Pipeline, WeightsError> {
        let reserved = self.pager.reserve();
        reserved.map_err(|error| {
            WeightsError::device(name.as_ref(), "slots for weights that are streamed", &error)
        })?;
        // What was in transit returns to the driver.
        let settled = self.placement.device.synchronize();
        settled.map_err(|error| WeightsError::device(name.as_ref(), "weights", &error))?;
        Ok(Pipeline {
            name: name.to_owned(),
            placement: self.placement.clone(),
            host_memory: None,
            memory: None,
            tokenizer: None,
            text_encoder,
            transformer,
            vae,
            pager: self.pager,
            weights: self.weights,
            adapters: RefCell::default(),
            library: None,
        })
    }
}

impl Pipeline {
    /// Loads all parts that the checkpoint has, all of them to stay on the device.
    ///
    /// # Errors
    /// A tensor is missing, misshapen or unreadable, or the device has no memory for it.
    pub fn load(checkpoint: &Checkpoint, placement: &Placement) -> Result<Self, WeightsError> {
        Self::load_with(checkpoint, placement, &Residence::ALL)
    }

    /// Loads all parts that the checkpoint has. What does not stay on the device by `residence` is
    /// kept on the host and streamed: results are the same in every bit.
    ///
    /// # Errors
    /// A tensor is missing, misshapen or unreadable, or a device has no memory for it.
    pub fn load_with(
        checkpoint: &Checkpoint,
        placement: &Placement,
        residence: &Residence,
    ) -> Result<Self, WeightsError> {
        let mut loader = Loader::new(placement, Loader::pager(placement, residence));
        let text_encoder = match &checkpoint.text_encoder {
            Some(part) => Some(loader.text_encoder(&part.config, &part.tensors)?),
            None => None,
        };
        let transformer = match &checkpoint.transformer {
            Some(part) => Some(loader.transformer(&part.config, &part.tensors)?),
            None => None,
        };
        let vae = match &checkpoint.vae {
            Some(part) => Some(loader.vae(&part.config, &part.tensors)?),
            None => None,
        };
        let mut pipeline = loader.pipeline(&checkpoint.name, text_encoder, transformer, vae)?;
        pipeline.tokenizer = match &checkpoint.tokenizer {
            Some(files) => Some(Arc::new(files.load(checkpoint.embeddings())?)),
            None => None,
        };
        Ok(pipeline)
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;
    use crate::checkpoint::test_files::{write_checkpoint, Naming};
    use crate::checkpoint::CheckpointArgs;

    #[test]
    fn weights_can_be_read_again_after_loading() {
        let folder = tempfile::tempdir().unwrap();
        write_checkpoint(folder.path(), Naming::Diffusers);
        let args = CheckpointArgs {
            model: Some(folder.path().to_owned()),
            ..CheckpointArgs::default()
        };
        let placement = Placement {
            device: Device::Cpu,
            weights: candle_core::DType::F32,
            products: crate::nn::WeightFormat::Dense,
        };
        let checkpoint = Checkpoint::open(&args).unwrap();
        let pipeline = Pipeline::load(&checkpoint, &placement).unwrap();
        drop(checkpoint);
        let parts = pipeline.weights();
        let names: Vec<_> = parts.iter().map(|part| part.part()).collect();
        assert_eq!(names, ["text encoder", "transformer", "VAE"]);
        let tensor = parts[1].tensor("single_blocks.0.linear1.weight").unwrap();
        let builder = Builder::new(&parts[1], &placement);
        let loaded = builder
            .at("single_blocks.0.linear1")
            .tensor("weight", &tensor.shape);
        let loaded = loaded.unwrap().flatten_all().unwrap();
        let loaded: Vec<_> = loaded.to_vec1::<f32>().unwrap();
        let bytes = tensor
            .pieces
            .iter()
            .flat_map(|p| p.bytes().unwrap().into_owned());
        let loaded = loaded.into_iter().flat_map(f32::to_le_bytes);
        assert!(bytes.eq(loaded));
    }
}
