//! Why a file cannot be used as an adapter.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::checkpoint::error::WeightsError;
use crate::checkpoint::text;

/// How many names of tensors an error lists.
const LISTED: usize = 3;

/// Why a file cannot be used as an adapter. The text is one sentence on one line; text from files
/// and paths is escaped in it.
#[derive(Debug)]
pub enum AdapterError {
    /// The file or the settings beside it cannot be read.
    Weights(WeightsError),
    /// The file cannot be read.
    Unreadable {
        /// The file.
        file: PathBuf,
        /// What the system says.
        reason: String,
    },
    /// An intact file without a tensor of an adapter.
    NotAnAdapter {
        /// The file.
        file: PathBuf,
        /// Its first tensor by name; empty where it has none.
        tensor: String,
    },
    /// Tensors that belong to no module of the model, or to no known kind of adapter.
    Unknown {
        /// The file.
        file: PathBuf,
        /// Names of all of them, sorted.
        tensors: Vec<String>,
        /// Number of tensors in the file.
        total: usize,
    },
    /// The tensors of one module contradict each other or the model.
    Module {
        /// The file.
        file: PathBuf,
        /// The module's name in the file.
        module: String,
        /// What is wrong, as a clause that follows the module's name.
        reason: String,
    },
    /// The settings that came with the adapter cannot be used.
    Settings {
        /// The file, and where in it: `x.safetensors` or `adapter_config.json`.
        file: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A weight in a type that adapters are not merged into.
    Unmergeable {
        /// The model's file.
        file: PathBuf,
        /// The tensor.
        tensor: String,
        /// Its type.
        stored: String,
    },
    /// A merged weight that is too large for its type.
    Overflow {
        /// The tensor.
        tensor: String,
        /// Its type.
        stored: String,
    },
    /// A weight was given to a change that has other rows or columns.
    Size {
        /// The module's name in the file.
        module: String,
        /// Number of values given.
        found: usize,
        /// Number of values that the module has.
        expected: usize,
    },
}

impl AdapterError {
    /// A file that cannot be read.
    pub fn unreadable(file: &Path, error: &std::io::Error) -> Self {
        Self::Unreadable {
            file: file.to_owned(),
            reason: error.to_string(),
        }
    }

    /// The refusal of a module.
    pub(super) fn module(file: &Path, module: &str, reason: impl Into<String>) -> Self {
        Self::Module {
            file: file.to_owned(),
            module: module.to_owned(),
            reason: reason.into(),
        }
    }

    fn sentence(&self) -> String {
        match self {
            Self::Weights(error) => error.to_string(),
            Self::Unreadable { file, reason } => {
                format!("the adapter `{}` cannot be read: {reason}", file.display())
            }
            Self::NotAnAdapter { file, tensor } if tensor.is_empty() => {
                format!("`{}` is no adapter: it has no tensors", file.display())
            }
            Self::NotAnAdapter { file, tensor } => format!(
                "`{}` is no adapter: its first tensor is `{}`",
                file.display(),
                text::shown(tensor)
            ),
            Self::Unknown {
                file,
                tensors,
                total,
            } => {
                let listed: Vec<_> = tensors
                    .iter()
                    .take(LISTED)
                    .map(|t| text::shown(t))
                    .collect();
                let more = match tensors.len() > LISTED {
                    true => ", …",
                    false => "",
                };
                format!(
                    "{} of the {total} tensors in `{}` fit no part of Ovis-Image: `{}`{more}",
                    tensors.len(),
                    file.display(),
                    listed.join("`, `")
                )
            }
            Self::Module {
                file,
                module,
                reason,
            } => format!(
                "module `{}` of the adapter `{}` {reason}",
                text::shown(module),
                file.display()
            ),
            Self::Settings { file, reason } => format!(
                "the settings of the adapter in `{}` cannot be used: {reason}",
                file.display()
            ),
            Self::Unmergeable {
                file,
                tensor,
                stored,
            } => format!(
                "tensor `{}` in `{}` is stored as {stored}, or with a scale, and adapters are not \
                 merged into such weights",
                text::shown(tensor),
                file.display()
            ),
            Self::Overflow { tensor, stored } => format!(
                "the merged tensor `{}` has numbers that {stored} does not hold",
                text::shown(tensor)
            ),
            Self::Size {
                module,
                found,
                expected,
            } => format!(
                "module `{}` of an adapter changes {expected} values, and was given {found}",
                text::shown(module)
            ),
        }
    }

    /// Advice for the person who named the file; may be empty.
    pub fn hint(&self) -> String {
        match self {
            Self::Weights(error) => error.hint(),
            Self::Unreadable { .. } => "Check that it is still there, and its permissions.".into(),
            Self::NotAnAdapter { .. } => {
                "Name a LoRA, LoKr, LoHa, OFT or similar file in safetensors.".into()
            }
            Self::Unknown { .. } => {
                "It may be an adapter of another model. --lora-strict off leaves these tensors out."
                    .into()
            }
            Self::Module { .. } => {
                "The adapter may be of another model or damaged; compare it with the published file."
                    .into()
            }
            Self::Settings { .. } => "Take the file from the adapter's repository again.".into(),
            Self::Unmergeable { .. } => {
                "Merge into the bf16, f16 or f32 release of the model.".into()
            }
            Self::Overflow { .. } => "Use a smaller strength.".into(),
            Self::Size { .. } => String::new(),
        }
    }
}

impl std::error::Error for AdapterError {}

impl fmt::Display for AdapterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&text::sentence(&self.sentence()))
    }
}

impl From<WeightsError> for AdapterError {
    fn from(error: WeightsError) -> Self {
        Self::Weights(error)
    }
}
