//! What a model can do and what its jobs take, as far as its files' headers tell.

use std::sync::Arc;

use ovis_protocol::Capabilities;

use super::abilities::Abilities;
use super::costs::Costs;
use super::fit::Parameters;
use super::library::AdapterLibrary;
use crate::checkpoint::{Checkpoint, WeightsError};
use crate::models::builder::Builder;
use crate::models::vae::Vae;
use crate::nn::Placement;

/// A model that is not loaded.
pub struct Outline {
    /// What it can do once it is loaded.
    pub capabilities: Capabilities,
    /// What its jobs take then.
    pub costs: Costs,
    /// Bytes of its weights in memory, without what the device's libraries take.
    pub weights: u64,
    /// Bytes of its weights in their files.
    pub file_bytes: u64,
}

impl Outline {
    /// Describes a checkpoint on a device as [`Pipeline::load`](super::Pipeline::load) would load
    /// it, with the adapters that jobs may name. Of the weights only the autoencoder's are read, which are few, and dropped again: its
    /// memory follows from its layers.
    ///
    /// # Errors
    /// The tokenizer or a tensor of the autoencoder cannot be read.
    pub fn of(
        checkpoint: &Checkpoint,
        placement: &Placement,
        library: Option<Arc<AdapterLibrary>>,
    ) -> Result<Self, WeightsError> {
        let vae = match &checkpoint.vae {
            Some(part) => {
                let built = Vae::new(&part.config, &Builder::new(&part.tensors, placement))?;
                Some((
                    built.memory(),
                    built.can_encode(),
                    part.config.latent_channels,
                ))
            }
            None => None,
        };
        let tokenizer = match &checkpoint.tokenizer {
            Some(files) => Some(files.load(checkpoint.embeddings())?.into()),
            None => None,
        };
        let transformer = checkpoint.transformer.as_ref().map(|part| &part.config);
        let encoder = checkpoint.text_encoder.as_ref().map(|part| &part.config);
        let abilities = Abilities {
            encodes: encoder.is_some() && tokenizer.is_some(),
            denoises: transformer.is_some(),
            decodes: vae.is_some(),
            encodes_images: vae.as_ref().is_some_and(|(_, can_encode, _)| *can_encode),
            conditioning_width: transformer
                .map(|config| config.context_dim)
                .or(encoder.map(|config| config.hidden_size)),
            latent_channels: transformer
                .map(|config| config.in_channels / 4)
                .or(vae.as_ref().map(|(_, _, channels)| *channels)),
        };
        let parts = checkpoint.parts();
        Ok(Self {
            capabilities: abilities.capabilities(&checkpoint.name, placement),
            costs: Costs::of_parts(
                encoder.cloned().zip(tokenizer),
                transformer.cloned(),
                vae.map(|(memory, _, _)| memory),
                placement,
                library,
            ),
            weights: Parameters::of(checkpoint).weights(placement),
            file_bytes: parts.iter().map(|(_, part)| part.bytes()).sum(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::test_files::{write_checkpoint, Naming};
    use crate::checkpoint::CheckpointArgs;
    use crate::nn::WeightFormat;
    use crate::pipeline::testing::on_cpu;
    use crate::pipeline::{Ask, Pipeline};

    #[test]
    fn an_outline_says_what_the_loaded_model_says() {
        let demo = concat!(env!("CARGO_MANIFEST_DIR"), "/demo/model");
        let tiny = tempfile::tempdir().unwrap();
        write_checkpoint(tiny.path(), Naming::Diffusers);
        for folder in [demo.as_ref(), tiny.path()] {
            let args = CheckpointArgs {
                model: Some(folder.to_owned()),
                ..CheckpointArgs::default()
            };
            let checkpoint = Checkpoint::open(&args).unwrap();
            let placement = on_cpu(WeightFormat::Dense);
            let outline = Outline::of(&checkpoint, &placement, None).unwrap();
            let loaded = Pipeline::load(&checkpoint, &placement).unwrap();
            assert_eq!(outline.capabilities, loaded.capabilities());
            let bytes: u64 = loaded.weights().iter().map(|part| part.bytes()).sum();
            assert_eq!(outline.file_bytes, bytes);
            let prompts = ["a red fox".to_owned()];
            for ask in [
                Ask::Encode {
                    prompts: &prompts,
                    max_sequence_length: 256,
                    adapters: &[],
                },
                Ask::Decode {
                    latent: [1, 16, 64, 64],
                },
                Ask::VaeEncode {
                    image: [2, 256, 256],
                },
            ] {
                assert_eq!(outline.costs.cost(ask), loaded.costs().cost(ask), "{ask:?}");
            }
        }
    }
}
