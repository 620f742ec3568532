//! Adapters on resident weights against the same adapters merged into the model's files.

use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use ovis_protocol::DenoiseRequest;

use super::{AdapterStack, StackedAdapter};
use crate::checkpoint::test_files::{self, write, Naming, Stored};
use crate::checkpoint::{
    AdaptedModel, Adapter, Change, Checkpoint, CheckpointArgs, MergedFile, PartTensors,
};
use crate::nn::{relative_error, Placement, WeightFormat};
use crate::pipeline::{Conditioning, DenoiseInputs, Latent, Pipeline};
