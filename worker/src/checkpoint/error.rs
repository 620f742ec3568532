//! Why files cannot be used as weights.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::foreign::Foreign;
use crate::text::first_line;

/// Why files cannot be used as weights. The text is one sentence on one line that names the
/// file and, where there is one, the tensor; text from files and paths is escaped in it.
#[derive(Debug)]
pub enum WeightsError {
    /// The operating system does not open the path.
    Unreadable {
        /// The file or folder.
        file: PathBuf,
        /// The operating system's reason.
        reason: String,
    },
    /// A link whose target does not exist.
    DeadLink {
        /// The link.
        file: PathBuf,
        /// The target.
        target: PathBuf,
    },
    /// A path that should be a file and is not.
    NotAFile {
        /// The path.
        file: PathBuf,
        /// What it is, with its article.
        what: &'static str,
    },
    /// A file of another format: a pickle, a ZIP archive, a Git LFS pointer.
    NotSafetensors {
        /// The file.
        file: PathBuf,
        /// Its format.
        kind: Foreign,
    },
    /// A download that has not finished.
    Unfinished {
        /// The file or folder.
        file: PathBuf,
        /// The sign of it.
        reason: String,
    },
    /// The file ends before one of its tensors does.
    Truncated {
        /// The file.
        file: PathBuf,
        /// The first tensor that is not complete.
        tensor: String,
        /// File size in bytes that this tensor requires.
        needed: u64,
        /// Actual file size in bytes.
        present: u64,
    },
    /// The header contradicts itself.
    BadHeader {
        /// The file.
        file: PathBuf,
        /// What is wrong in it.
        reason: String,
    },
    /// An intact file of another model.
    OtherModel {
        /// The file or folder.
        file: PathBuf,
        /// The part it was opened as.
        part: &'static str,
        /// The model it belongs to.
        model: &'static str,
        /// A tensor that identifies it.
        tensor: String,
    },
    /// A file whose name alone says that it is another model's.
    OtherByName {
        /// The file.
        file: PathBuf,
        /// The part it was found as.
        part: &'static str,
        /// The model that its name says.
        model: &'static str,
    },
    /// An intact file that does not contain the part it was opened as.
    OtherPart {
        /// The file or folder.
        file: PathBuf,
        /// The part it was opened as.
        part: &'static str,
        /// Its first tensor by name; empty where it has none.
        tensor: String,
    },
    /// All parts of a model in one file.
    AllInOne {
        /// The file.
        file: PathBuf,
        /// A tensor of another part than the transformer.
        tensor: String,
    },
    /// An adapter, which modifies a model.
    Adapter {
        /// The file.
        file: PathBuf,
        /// The part it was opened as.
        part: &'static str,
        /// A tensor that identifies it.
        tensor: String,
    },
    /// A tensor of the part is absent.
    Missing {
        /// The file or folder.
        file: PathBuf,
        /// The part.
        part: &'static str,
        /// The tensor's name in the file's naming scheme.
        tensor: String,
    },
    /// A tensor's shape contradicts the geometry.
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
    /// A tensor that neither belongs to the network nor is a known extra.
    Unknown {
        /// The file.
        file: PathBuf,
        /// The part.
        part: &'static str,
        /// The tensor.
        tensor: String,
    },
    /// A tensor stored in a type that cannot be loaded.
    Dtype {
        /// The file.
        file: PathBuf,
        /// The tensor.
        tensor: String,
        /// The file's name for the type.
        dtype: String,
    },
    /// A tensor stored in a type that the `safetensors` crate does not know.
    NewDtype {
        /// The file.
        file: PathBuf,
        /// The tensor.
        tensor: String,
        /// The file's name for the type.
        dtype: String,
    },
    /// A weight of one byte a value with a scale that is not one float or one for each row.
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
    /// A value that cannot be stored in another precision.
    Value {
        /// The file.
        file: PathBuf,
        /// The tensor.
        tensor: String,
        /// The value.
        value: f32,
        /// The type that does not have it; none has if this is absent.
        dtype: Option<String>,
    },
    /// A geometry that no Ovis-Image has.
    Geometry {
        /// The file or folder.
        file: PathBuf,
        /// The part.
        part: &'static str,
        /// The contradiction, naming the tensor or field.
        reason: String,
    },
    /// A JSON file beside the weights cannot be used.
    Json {
        /// The file.
        file: PathBuf,
        /// What is wrong in it.
        reason: String,
    },
    /// Several files could be the part, and nothing decides between them.
    Ambiguous {
        /// The folder searched.
        folder: PathBuf,
        /// The part.
        part: &'static str,
        /// The files.
        candidates: Vec<PathBuf>,
    },
    /// A path without a checkpoint.
    Nothing {
        /// The path.
        path: PathBuf,
        /// Its contents.
        seen: String,
        /// Advice for the person who named it.
        hint: String,
    },
    /// A path that does not exist and reads like a repository of Hugging Face, which is in no
    /// cache on this machine.
    NoRepository {
        /// The path.
        path: PathBuf,
        /// The caches that were searched.
        caches: Vec<PathBuf>,
    },
    /// A web address in place of a path.
    Address {
        /// The address.
        path: PathBuf,
    },
    /// No path was given.
    NoPath,
    /// No tokenizer can be built from the tokenizer's files.
    Tokenizer {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The model asks for a tensor that its part does not have, or leaves one unused: the two
    /// disagree about the geometry.
    Table {
        /// The file or folder.
        file: PathBuf,
        /// The part.
        part: &'static str,
        /// The tensor's canonical name.
        tensor: String,
        /// The disagreement.
        reason: String,
    },
    /// Rows were asked for that a tensor does not have, or that do not start at whole bytes.
    Rows {
        /// The file.
        file: PathBuf,
        /// The tensor.
        tensor: String,
        /// The rows.
        rows: Range<usize>,
        /// Number of rows that the tensor has.
        count: usize,
    },
    /// A tensor could not be created on the device.
    Device {
        /// The file or folder.
        file: PathBuf,
        /// The tensor's canonical name.
        tensor: String,
        /// The device's reason, one line.
        reason: String,
    },
}

impl std::error::Error for WeightsError {}

impl WeightsError {
    /// The refusal of a device, in the first line of its words: candle appends a backtrace.
    pub fn device(file: &Path, tensor: &str, error: &impl fmt::Display) -> Self {
        Self::Device {
            file: file.to_owned(),
            tensor: tensor.to_owned(),
            reason: first_line(error),
        }
    }
}
