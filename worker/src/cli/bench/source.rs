//! The model to measure: random weights or a checkpoint.

use clap::ValueEnum;

use crate::checkpoint::{Checkpoint, MmditConfig};
use crate::cli::error::CliError;
use crate::cli::loading;
use crate::cli::model_args::ModelArgs;
use crate::cli::planning::{self, Goal, Loading};
use crate::logging;
use crate::nn::Placement;
use crate::pipeline::{Geometry, Parameters, Pipeline, Sizes};

/// Model geometries that can be filled with random weights.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum NamedGeometry {
    /// Ovis-Image-7B with its text encoder and VAE: 9.2 billion parameters.
    #[value(name = "ovis-image-7b")]
    OvisImage7b,
}

impl NamedGeometry {
    fn geometry(self) -> Geometry {
        match self {
            Self::OvisImage7b => Geometry::ovis_image_7b(),
        }
    }
}

/// A model that is not loaded yet.
pub enum Source {
    /// Random weights, generated on the device.
    Random(NamedGeometry),
    /// A checkpoint with every part.
    Files(Box<Checkpoint>),
}

impl Source {
    /// Random weights of the named geometry, else the checkpoint that the arguments name.
    ///
    /// # Errors
    /// A file cannot be read as a checkpoint, or a part is missing.
    pub fn open(random: Option<NamedGeometry>, model: &ModelArgs) -> Result<Self, CliError> {
        match random {
            Some(named) => Ok(Self::Random(named)),
            None => Ok(Self::Files(Box::new(loading::open_complete(model)?))),
        }
    }

    /// Width and height in pixels that the model was trained for.
    pub fn native_size(&self) -> usize {
        match self {
            Self::Random(named) => named.geometry().vae.native_size,
            Self::Files(checkpoint) => checkpoint.native_size(),
        }
    }

    /// The transformer's geometry.
    ///
    /// # Errors
    /// The checkpoint has no transformer.
    pub fn transformer(&self) -> Result<MmditConfig, CliError> {
        match self {
            Self::Random(named) => Ok(named.geometry().transformer),
            Self::Files(checkpoint) => match &checkpoint.transformer {
                Some(part) => Ok(part.config.clone()),
                None => Err(CliError::new("the checkpoint has no transformer", "")),
            },
        }
    }

    /// Loads the model to a device for a goal.
    ///
    /// # Errors
    /// The weights do not fit the budget of GPU memory or the device's memory, or a file cannot be read.
    pub fn load(&self, placement: &Placement, goal: &Goal) -> Result<Pipeline, CliError> {
        match self {
            Self::Random(named) => {
                let name = "ovis-image-7b, random weights";
                let geometry = named.geometry();
                let sizes = Sizes::of_geometry(&geometry);
                let parameters = Parameters::of_geometry(&geometry);
                let say = &logging::say;
                let Loading { residence, report } =
                    planning::for_loading(sizes, parameters, placement, goal, say)?;
                let pipeline = geometry.with_random_weights_in(name, placement, &residence)?;
                Ok(pipeline.with_memory_report(report))
            }
            Self::Files(checkpoint) => loading::load(checkpoint, placement, goal, logging::say),
        }
    }
}
