//! The arguments of `quantize`.

use std::path::PathBuf;

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

/// Precisions by their names on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum Kind {
    #[value(name = "q8_0")]
    Q8_0,
    #[value(name = "q6_k")]
    Q6K,
    #[value(name = "q5_k")]
    Q5K,
    #[value(name = "q5_1")]
    Q5_1,
    #[value(name = "q5_0")]
    Q5_0,
    #[value(name = "q4_k")]
    Q4K,
    #[value(name = "q4_1")]
    Q4_1,
    #[value(name = "q4_0")]
    Q4_0,
    #[value(name = "q3_k")]
    Q3K,
    #[value(name = "q2_k")]
    Q2K,
    #[value(name = "iq4_nl")]
    Iq4Nl,
    #[value(name = "iq4_xs")]
    Iq4Xs,
    F16,
    Bf16,
    Fp8,
}

impl QuantizeArgs {
    /// The precision to write.
    pub fn target(&self) -> Target {
        Target::Block(match self.kind {
            Kind::Q8_0 => BlockType::Q8_0,
            Kind::Q6K => BlockType::Q6K,
            Kind::Q5K => BlockType::Q5K,
            Kind::Q5_1 => BlockType::Q5_1,
            Kind::Q5_0 => BlockType::Q5_0,
            Kind::Q4K => BlockType::Q4K,
            Kind::Q4_1 => BlockType::Q4_1,
            Kind::Q4_0 => BlockType::Q4_0,
            Kind::Q3K => BlockType::Q3K,
            Kind::Q2K => BlockType::Q2K,
            Kind::Iq4Nl => BlockType::Iq4Nl,
            Kind::Iq4Xs => BlockType::Iq4Xs,
            Kind::F16 => return Target::F16,
            Kind::Bf16 => return Target::Bf16,
            Kind::Fp8 => return Target::Fp8,
        })
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
