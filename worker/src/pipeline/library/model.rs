//! The model that adapters are checked against.

use std::sync::Arc;

use crate::checkpoint::{AdaptedModel, Checkpoint, MmditConfig, PartTensors, Qwen3Config};

/// The parts of a checkpoint that adapters change.
#[derive(Clone, Debug, Default)]
pub struct AdaptedCheckpoint {
    transformer: Option<(MmditConfig, Arc<PartTensors>)>,
    text_encoder: Option<(Qwen3Config, Arc<PartTensors>)>,
}

impl AdaptedCheckpoint {
    /// Those of an opened checkpoint.
    pub fn of(checkpoint: &Checkpoint) -> Self {
        let transformer = checkpoint.transformer.as_ref();
        let text_encoder = checkpoint.text_encoder.as_ref();
        Self {
            transformer: transformer.map(|part| (part.config.clone(), part.tensors.clone())),
            text_encoder: text_encoder.map(|part| (part.config.clone(), part.tensors.clone())),
        }
    }

    pub(super) fn geometry(&self) -> AdaptedModel<'_> {
        AdaptedModel {
            transformer: self.transformer.as_ref().map(|(config, _)| config),
            text_encoder: self.text_encoder.as_ref().map(|(config, _)| config),
        }
    }

    pub(super) fn transformer_tensors(&self) -> Option<&PartTensors> {
        self.transformer.as_ref().map(|(_, tensors)| &**tensors)
    }

    pub(super) fn text_encoder_tensors(&self) -> Option<&PartTensors> {
        self.text_encoder.as_ref().map(|(_, tensors)| &**tensors)
    }
}
