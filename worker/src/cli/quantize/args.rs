//! The arguments of `quantize`.

use std::path::PathBuf;
use std::sync::LazyLock;

use clap::builder::PossibleValue;
use clap::{Args, ValueEnum};

use crate::checkpoint::{FileLayout, Target};
use crate::cli::error::CliError;
use crate::quants::BlockType;

/// What to read, what to write, and how.
#[derive(Clone, Debug, Args)]
pub struct QuantizeArgs {
    /// What to read: any checkpoint, or a file or folder of one part.
    #[arg(value_name = "IN")]
    pub input: PathBuf,
    /// The file to write: `.gguf`, or `.safetensors` for fp8.
    #[arg(value_name = "OUT")]
    pub output: PathBuf,
    /// Precision of the large matrices. The others stay in the precision that the file's
    /// readers expect. q3_k, q4_k and q5_k are llama.cpp's mixtures M.
    #[arg(long = "type", value_name = "TYPE", value_enum, ignore_case = true)]
    pub kind: Kind,
    /// Part to write. The default is the transformer, or the text encoder if there is none.
    #[arg(long, value_enum)]
    pub part: Option<Part>,
    /// Layout of a transformer's GGUF file: ComfyUI-GGUF's or stable-diffusion.cpp's. A text
    /// encoder's is always llama.cpp's.
    #[arg(long, value_enum, default_value_t = Layout::Comfyui)]
    pub layout: Layout,
    /// Replace OUT if it exists.
    #[arg(long)]
    pub force: bool,
}

/// Parts that can be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Part {
    /// The diffusion transformer.
    Transformer,
    /// The text encoder.
    TextEncoder,
}

impl Part {
    /// Name in messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Transformer => "transformer",
            Self::TextEncoder => "text encoder",
        }
    }
}

/// Layouts of a transformer's GGUF file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Layout {
    /// ComfyUI-GGUF's, which calls the architecture flux.
    Comfyui,
    /// stable-diffusion.cpp's, without metadata.
    SdCpp,
}

impl From<Layout> for FileLayout {
    fn from(layout: Layout) -> Self {
        match layout {
            Layout::Comfyui => Self::ComfyUi,
            Layout::SdCpp => Self::SdCpp,
        }
    }
}

/// A precision to write, by its name on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind(Target);

impl ValueEnum for Kind {
    fn value_variants<'a>() -> &'a [Self] {
        static ALL: LazyLock<Vec<Kind>> = LazyLock::new(|| {
            let blocks = BlockType::ALL.map(Target::Block);
            let others = [Target::F16, Target::Bf16, Target::Fp8];
            blocks.into_iter().chain(others).map(Kind).collect()
        });
        &ALL
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(PossibleValue::new(match self.0 {
            Target::Block(kind) => kind.lower_name(),
            Target::F16 => "f16",
            Target::Bf16 => "bf16",
            Target::Fp8 => "fp8",
        }))
    }
}

impl QuantizeArgs {
    /// The precision to write.
    pub fn target(&self) -> Target {
        self.kind.0
    }

    /// Checks that the name of the file to write says what it will be.
    ///
    /// # Errors
    /// It has another extension.
    pub fn check_name(&self) -> Result<(), CliError> {
        let wanted = self.target().extension();
        let extension = self.output.extension();
        if extension.is_some_and(|extension| extension.eq_ignore_ascii_case(wanted)) {
            return Ok(());
        }
        Err(CliError::new(
            format!(
                "{} is to be a {wanted} file, and its name does not end in .{wanted}",
                self.output.display()
            ),
            format!("Name it {}.", self.output.with_extension(wanted).display()),
        ))
    }
}
