//! Arguments about the adapters that clients may name.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;

use super::error::CliError;
use super::lora_args::Strictness;
use super::values::parsed;
use crate::checkpoint::Checkpoint;
use crate::pipeline::{parse_bytes, AdaptedCheckpoint, AdapterLibrary, DEFAULT_ADAPTER_MEMORY};

/// Folders of adapters in a ComfyUI folder, and in its `models` folder or another model's.
const OF_MODEL: [&str; 2] = ["models/loras", "loras"];

/// Which adapters clients may name, and what they may keep.
#[derive(Clone, Debug, Args)]
pub struct LoraDirArgs {
    /// A folder of adapters that clients may apply, by their paths below it. May be repeated; of
    /// two adapters with one name, that of the first folder counts. If --model is a folder, a
    /// ComfyUI folder too, its `loras` come last by themselves.
    #[arg(
        long,
        value_name = "DIR",
        env = "OVIS_WORKER_LORA_DIRS",
        value_delimiter = LIST_SEPARATOR
    )]
    lora_dir: Vec<PathBuf>,
    /// A folder for adapters that clients upload with `POST /adapters`, up to 2 GiB each. Each is
    /// kept under its hash if it fits the model. Without, nothing can be uploaded.
    #[arg(long, value_name = "DIR", env = "OVIS_WORKER_LORA_UPLOADS")]
    lora_uploads: Option<PathBuf>,
    /// `off` lists and applies adapters of which some tensors fit nothing in the model, without
    /// those tensors.
    #[arg(long, value_enum, default_value_t = Strictness::On, value_name = "on|off")]
    lora_strict: Strictness,
    /// Memory that adapters may keep on the device between jobs, such as 2GiB.
    #[arg(
        long,
        value_name = "SIZE",
        default_value_t = Bytes(DEFAULT_ADAPTER_MEMORY),
        value_parser = parsed(|text: &str| parse_bytes(text).map(Bytes))
    )]
    lora_memory: Bytes,
}

/// What separates folders in a list, as in PATH.
const LIST_SEPARATOR: char = if cfg!(windows) { ';' } else { ':' };

/// A number of bytes.
#[derive(Clone, Copy, Debug)]
struct Bytes(u64);

impl std::fmt::Display for Bytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 % (1 << 30) {
            0 => write!(f, "{}GiB", self.0 >> 30),
            _ => write!(f, "{}", self.0),
        }
    }
}

impl LoraDirArgs {
    /// Checks that the folders are there.
    ///
    /// # Errors
    /// The first that is none.
    pub fn check(&self) -> Result<(), CliError> {
        let dirs = self.lora_dir.iter().map(|dir| ("--lora-dir", dir));
        let uploads = self.lora_uploads.iter().map(|dir| ("--lora-uploads", dir));
        match dirs.chain(uploads).find(|(_, folder)| !folder.is_dir()) {
            Some((option, folder)) => Err(CliError::new(
                format!("{option} is `{}`, which is no folder", folder.display()),
                "Name the folder that holds the adapters' files.",
            )),
            None => Ok(()),
        }
    }

    /// Bytes that adapters may keep on the device between jobs.
    pub fn memory(&self) -> u64 {
        self.lora_memory.0
    }

    /// The adapters for a checkpoint.
    pub fn library(&self, checkpoint: &Checkpoint) -> Arc<AdapterLibrary> {
        let mut folders = self.lora_dir.clone();
        let model = checkpoint.model.as_deref();
        for own in OF_MODEL.iter().filter_map(|own| Some(model?.join(own))) {
            if own.is_dir() && !folders.contains(&own) {
                folders.push(own);
            }
        }
        let strict = self.lora_strict == Strictness::On;
        let parts = AdaptedCheckpoint::of(checkpoint);
        let library = AdapterLibrary::new(folders, parts, strict);
        Arc::new(match &self.lora_uploads {
            Some(folder) => library.with_uploads(folder.clone()),
            None => library,
        })
    }
}

/// Reads and hashes a library's files on a thread of its own, so that the first client that lists
/// them or applies one does not wait.
pub fn read_ahead(library: Arc<AdapterLibrary>) {
    let read = move || match library.list().len() {
        0 => {}
        adapters => tracing::info!(adapters, "adapters that fit the model"),
    };
    let spawned = std::thread::Builder::new()
        .name("adapters".into())
        .spawn(read);
    if let Err(error) = spawned {
        tracing::warn!(%error, "the adapters are read when a client asks");
    }
}
