//! Why files are not the weights they should be.

use std::path::PathBuf;

/// A refusal. Its text is one sentence that names the file and, where there is
/// one, the tensor.
#[derive(Debug, thiserror::Error)]
pub enum WeightsError {
    /// The operating system did not hand the file over.
    #[error("`{}` cannot be read: {reason}", file.display())]
    Unreadable {
        /// The file or folder.
        file: PathBuf,
        /// The operating system's words.
        reason: String,
    },
    /// The file is something else: a pickle, a GGUF, a Git LFS pointer.
    #[error("`{}` is {what}, not a safetensors file", file.display())]
    NotSafetensors {
        /// The file.
        file: PathBuf,
        /// What it looks like, with its article.
        what: &'static str,
    },
    /// The file ends before one of its tensors does.
    #[error("`{}` is truncated: tensor `{tensor}` needs {needed} bytes of file, there are {present}", file.display())]
    Truncated {
        /// The file.
        file: PathBuf,
        /// The first tensor that is not whole.
        tensor: String,
        /// Bytes the file must have for this tensor.
        needed: u64,
        /// Bytes it has.
        present: u64,
    },
    /// The header contradicts itself.
    #[error("the header of `{}` is damaged: {reason}", file.display())]
    BadHeader {
        /// The file.
        file: PathBuf,
        /// What is wrong in it.
        reason: String,
    },
    /// A whole and healthy file of another model.
    #[error("`{}` holds the {part} of {model}, not of Ovis-Image: it has the tensor `{tensor}`", file.display())]
    OtherModel {
        /// The file or folder.
        file: PathBuf,
        /// The part it was opened as.
        part: &'static str,
        /// The model it belongs to.
        model: &'static str,
        /// A tensor that gives it away.
        tensor: String,
    },
    /// A healthy file that has nothing of the part it was named for.
    #[error("`{}` holds no {part}: its first tensor is `{tensor}`", file.display())]
    OtherPart {
        /// The file or folder.
        file: PathBuf,
        /// The part it was opened as.
        part: &'static str,
        /// Its first tensor by name.
        tensor: String,
    },
    /// A tensor of the part is not there.
    #[error("`{}` lacks the {part}'s tensor `{tensor}`", file.display())]
    Missing {
        /// The file or folder.
        file: PathBuf,
        /// The part.
        part: &'static str,
        /// The tensor, as the file would name it.
        tensor: String,
    },
    /// A tensor has another shape than the geometry asks for.
    #[error("tensor `{tensor}` in `{}` has the shape {found:?}, the {part}'s geometry asks for {expected:?}", file.display())]
    Shape {
        /// The file.
        file: PathBuf,
        /// The part.
        part: &'static str,
        /// The tensor.
        tensor: String,
        /// Its shape.
        found: Vec<usize>,
        /// The shape it should have.
        expected: Vec<usize>,
    },
    /// A tensor that is no part of the network, nor a known extra.
    #[error("tensor `{tensor}` in `{}` is unknown to the {part}", file.display())]
    Unknown {
        /// The file.
        file: PathBuf,
        /// The part.
        part: &'static str,
        /// The tensor.
        tensor: String,
    },
    /// A tensor stored in a type that the worker does not compute with.
    #[error("tensor `{tensor}` in `{}` is stored as {dtype}, which cannot be loaded", file.display())]
    Dtype {
        /// The file.
        file: PathBuf,
        /// The tensor.
        tensor: String,
        /// The file's name for the type.
        dtype: String,
    },
    /// A weight in 8-bit floats is scaled in a way that the worker does not know.
    #[error("tensor `{tensor}` in `{}` scales a weight by {dtype} of shape {shape:?}, not by one F32", file.display())]
    Scale {
        /// The file.
        file: PathBuf,
        /// The scale.
        tensor: String,
        /// The file's name for its type.
        dtype: String,
        /// Its shape.
        shape: Vec<usize>,
    },
    /// Shapes or a configuration that no Ovis-Image can have.
    #[error("the {part} in `{}` cannot be built: {reason}", file.display())]
    Geometry {
        /// The file or folder.
        file: PathBuf,
        /// The part.
        part: &'static str,
        /// What does not fit, naming the tensor or field.
        reason: String,
    },
    /// A JSON file beside the weights is not what it should be.
    #[error("`{}` is not usable: {reason}", file.display())]
    Json {
        /// The file.
        file: PathBuf,
        /// What is wrong in it.
        reason: String,
    },
    /// Several files could be the part, and nothing decides between them.
    #[error("`{}` has several files that could be the {part}: {}", folder.display(), list(candidates))]
    Ambiguous {
        /// The folder searched.
        folder: PathBuf,
        /// The part.
        part: &'static str,
        /// The files.
        candidates: Vec<PathBuf>,
    },
    /// The path holds nothing that looks like a checkpoint.
    #[error("`{}` holds no Ovis-Image weights in any known layout", path.display())]
    Nothing {
        /// The path.
        path: PathBuf,
    },
    /// No path was given at all.
    #[error("no weights were named")]
    NoPath,
    /// The tokenizer's files are there but do not make a tokenizer.
    #[error("the tokenizer in `{}` cannot be built: {reason}", file.display())]
    Tokenizer {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The model asks for a tensor that its part's table does not have, or
    /// leaves one of it: the two disagree about the geometry.
    #[error("the {part} in `{}` and the model disagree about `{tensor}`: {reason}", file.display())]
    Table {
        /// The file or folder.
        file: PathBuf,
        /// The part.
        part: &'static str,
        /// The tensor's canonical name.
        tensor: String,
        /// How they disagree.
        reason: String,
    },
    /// The device did not take a tensor.
    #[error("tensor `{tensor}` of `{}` could not be put on the device: {source}", file.display())]
    Device {
        /// The file or folder.
        file: PathBuf,
        /// The tensor's canonical name.
        tensor: String,
        /// The device's words.
        source: Box<candle_core::Error>,
    },
}

fn list(paths: &[PathBuf]) -> String {
    let names: Vec<_> = paths.iter().map(|p| p.display().to_string()).collect();
    names.join(", ")
}

impl WeightsError {
    /// What to do about it; empty when there is nothing to add.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Unreadable { .. } => "Check the path and its permissions.",
            Self::NotSafetensors { .. } => {
                "Use the .safetensors release of the weights; pickles can run code and are never opened."
            }
            Self::Truncated { .. } | Self::BadHeader { .. } => "Download the file again.",
            Self::OtherModel { .. } | Self::OtherPart { .. } => {
                "Name the Ovis-Image file with --transformer, --text-encoder or --vae."
            }
            Self::Missing { .. } | Self::Shape { .. } | Self::Unknown { .. } => {
                "The file may belong to another model or an unfinished conversion; compare it with the published one."
            }
            Self::Dtype { .. } | Self::Scale { .. } => {
                "Use the bf16, f16 or f32 release of the file, or ComfyUI's scaled fp8."
            }
            Self::Ambiguous { .. } => {
                "Name the one to use with --transformer, --text-encoder, --vae or --tokenizer."
            }
            Self::Nothing { .. } => {
                "Give a diffusers folder, a folder with ovis_image.safetensors, or a ComfyUI models folder."
            }
            Self::NoPath => "Give --model, or --transformer, --text-encoder, --vae and --tokenizer.",
            Self::Tokenizer { .. } | Self::Json { .. } => {
                "Take the file from the model's repository again."
            }
            Self::Geometry { .. } | Self::Table { .. } | Self::Device { .. } => "",
        }
    }
}
