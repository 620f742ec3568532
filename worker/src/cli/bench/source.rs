//! Where the model that is measured comes from.

use clap::ValueEnum;

use crate::checkpoint::{Checkpoint, MmditConfig};
use crate::cli::model_args::ModelArgs;
use crate::cli::{loading, CliError};
use crate::logging;
use crate::nn::Placement;
use crate::pipeline::{Geometry, Parameters, Pipeline};

/// Geometries that can be had without a checkpoint.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Named {
    /// Ovis-Image-7B: 11 billion weights.
    #[value(name = "ovis-image-7b")]
    OvisImage7b,
}

impl Named {
    fn geometry(self) -> Geometry {
        match self {
            Self::OvisImage7b => Geometry::ovis_image_7b(),
        }
    }
}

/// Where the model comes from.
pub enum Source {
    /// Made up on the device.
    Random(Named),
    /// Files with every part.
    Files(Box<Checkpoint>),
}

impl Source {
    /// The random weights if named, or else what the files are, with nothing loaded yet.
    ///
    /// # Errors
    /// A file is not what it should be, or a part is missing.
    pub fn open(random: Option<Named>, model: &ModelArgs) -> Result<Self, CliError> {
        match random {
            Some(named) => Ok(Self::Random(named)),
            None => Ok(Self::Files(Box::new(loading::open_whole(model)?))),
        }
    }

    /// Side of a square image in pixels.
    pub fn native_size(&self) -> usize {
        match self {
            Self::Random(named) => named.geometry().vae.native_size,
            Self::Files(checkpoint) => checkpoint.native_size(),
        }
    }

    /// The transformer's geometry.
    ///
    /// # Errors
    /// There is none.
    pub fn transformer(&self) -> Result<MmditConfig, CliError> {
        match self {
            Self::Random(named) => Ok(named.geometry().transformer),
            Self::Files(checkpoint) => match &checkpoint.transformer {
                Some(part) => Ok(part.config.clone()),
                None => Err("the checkpoint has no transformer".to_owned().into()),
            },
        }
    }

    /// The model on a device.
    ///
    /// # Errors
    /// A file is not what it should be, or the device fails.
    pub fn load(&self, placement: &Placement) -> Result<Pipeline, CliError> {
        match self {
            Self::Random(named) => {
                let name = "ovis-image-7b, random weights";
                let geometry = named.geometry();
                Parameters::of_geometry(&geometry).check_fit(placement)?;
                Ok(geometry.with_random_weights(name, placement)?)
            }
            Self::Files(checkpoint) => loading::load(checkpoint, placement, logging::say),
        }
    }
}
