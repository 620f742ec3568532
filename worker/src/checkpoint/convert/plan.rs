//! A file planned: its tensors' types and sizes, before anything is read.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokenizers::Tokenizer;

use super::super::error::WeightsError;
use super::super::gguf::{llama_names, write_header, Described, Value, ALIGNMENT};
use super::super::open::{TextEncoderPart, TransformerPart};
use super::super::part::PartTensors;
use super::super::source::StoredType;
use super::outputs::{self, Output};
use super::target::Target;
use super::{llama_metadata, text_encoder_rules, transformer_rules, values};
use crate::quants::ByteType;

/// Which program's layout a transformer's GGUF file has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileLayout {
    /// ComfyUI-GGUF's.
    ComfyUi,
    /// stable-diffusion.cpp's.
    SdCpp,
}

/// Version of the block types, which is always this one (`GGML_QNT_VERSION`).
const QUANTIZATION_VERSION: u32 = 2;

/// A tensor of the file, and how it is stored there.
#[derive(Clone, Debug)]
pub(super) struct Planned {
    pub output: Output,
    pub stored: StoredType,
    pub bytes: u64,
}

/// A part's file in another precision, not written yet.
#[derive(Debug)]
pub struct Conversion {
    pub(super) part: Arc<PartTensors>,
    pub(super) tensors: Vec<Planned>,
    pub(super) target: Target,
    metadata: Vec<(String, Value)>,
}

impl Conversion {
    /// Plans a transformer's file. The layout does not matter for 8-bit floats, which are
    /// written as ComfyUI reads them.
    ///
    /// # Errors
    /// A tensor is stored in a type that cannot be loaded.
    pub fn of_transformer(
        part: &TransformerPart,
        target: Target,
        layout: FileLayout,
    ) -> Result<Self, WeightsError> {
        let metadata = match (target.file_type(), layout) {
            (Some(file_type), FileLayout::ComfyUi) => general("flux", file_type),
            _ => Vec::new(),
        };
        let stored = |output: &Output, source: &StoredType| match (target, layout) {
            (Target::Fp8, _) => transformer_rules::scaled_fp8(output, source),
            (_, FileLayout::ComfyUi) => transformer_rules::comfyui(output, source, target),
            (_, FileLayout::SdCpp) => transformer_rules::sd_cpp(output, source, target),
        };
        let outputs = outputs::transformer(&part.config);
        Self::new(&part.tensors, outputs, stored, target, metadata)
    }

    /// Plans a text encoder's file: a GGUF file as llama.cpp has it, with the vocabulary of
    /// `tokenizer` if there is one, or a safetensors file for ComfyUI.
    ///
    /// # Errors
    /// A tensor is stored in a type that cannot be loaded.
    pub fn of_text_encoder(
        part: &TextEncoderPart,
        target: Target,
        tokenizer: Option<&Tokenizer>,
    ) -> Result<Self, WeightsError> {
        let config = &part.config;
        let Some(file_type) = target.file_type() else {
            let outputs = outputs::text_encoder(config, |name| format!("model.{name}"));
            let stored = text_encoder_rules::scaled_fp8;
            return Self::new(&part.tensors, outputs, stored, target, Vec::new());
        };
        let name = |name: &str| llama_names::to_llama(name).unwrap_or_else(|| name.to_owned());
        let outputs = outputs::text_encoder(config, name);
        let mut metadata = general("qwen3", file_type);
        metadata.extend(llama_metadata::metadata(config, tokenizer));
        let stored =
            |output: &Output, _: &StoredType| text_encoder_rules::llama(output, config, target);
        Self::new(&part.tensors, outputs, stored, target, metadata)
    }

    fn new(
        part: &Arc<PartTensors>,
        outputs: Vec<Output>,
        stored: impl Fn(&Output, &StoredType) -> StoredType,
        target: Target,
        metadata: Vec<(String, Value)>,
    ) -> Result<Self, WeightsError> {
        let plan = |output: Output| {
            let tensor = part.expect_any(&output.canonical)?;
            // Pieces of several types count as float32, which holds them all.
            let source = values::stored(tensor, &output.rows).unwrap_or(&StoredType::F32);
            let stored = stored(&output, source);
            let bytes = bytes_of(&stored, output.values());
            Ok(Planned {
                output,
                stored,
                bytes,
            })
        };
        Ok(Self {
            tensors: outputs.into_iter().map(plan).collect::<Result<_, _>>()?,
            part: part.clone(),
            target,
            metadata,
        })
    }

    /// Bytes of the part's tensors as they are stored now.
    pub fn bytes_before(&self) -> u64 {
        self.part.bytes()
    }

    /// Bytes of the tensors in the file.
    pub fn bytes_after(&self) -> u64 {
        self.tensors.iter().map(|tensor| tensor.bytes).sum()
    }

    /// Number of tensors and bytes of each type in the file, the largest first.
    pub fn types(&self) -> Vec<(StoredType, usize, u64)> {
        let mut sums: BTreeMap<&StoredType, (usize, u64)> = BTreeMap::new();
        for tensor in &self.tensors {
            let sum = sums.entry(&tensor.stored).or_default();
            *sum = (sum.0 + 1, sum.1 + tensor.bytes);
        }
        let sums = sums.into_iter();
        let mut types: Vec<_> = sums
            .map(|(kind, (n, bytes))| (kind.clone(), n, bytes))
            .collect();
        types.sort_by_key(|(_, _, bytes)| std::cmp::Reverse(*bytes));
        types
    }

    /// The file's bytes before the tensors' data, in either format.
    pub(super) fn header(&self) -> Vec<u8> {
        let described: Vec<_> = self
            .tensors
            .iter()
            .map(|tensor| Described {
                name: tensor.output.name.clone(),
                stored: tensor.stored.clone(),
                shape: tensor.output.shape.clone(),
                bytes: tensor.bytes,
            })
            .collect();
        match self.target {
            Target::Fp8 => safetensors_header(&self.tensors),
            _ => write_header(&self.metadata, &described),
        }
    }

    /// What each tensor's data are padded to a multiple of.
    pub(super) fn alignment(&self) -> u64 {
        match self.target {
            Target::Fp8 => 1,
            _ => ALIGNMENT,
        }
    }
}

/// Metadata that every file of llama.cpp's relatives has.
fn general(architecture: &str, file_type: u32) -> Vec<(String, Value)> {
    [
        ("general.architecture", Value::Text(architecture.into())),
        (
            "general.quantization_version",
            Value::U32(QUANTIZATION_VERSION),
        ),
        ("general.file_type", Value::U32(file_type)),
    ]
    .map(|(key, value)| (key.to_owned(), value))
    .to_vec()
}

/// Bytes of so many values.
fn bytes_of(stored: &StoredType, values: usize) -> u64 {
    let bytes = match stored {
        StoredType::Block(kind) => values / kind.values() * kind.bytes(),
        StoredType::Byte(ByteType::E4m3) => values,
        StoredType::F16 | StoredType::Bf16 => 2 * values,
        _ => 4 * values,
    };
    bytes as u64
}

/// The tensor that marks a file of scaled 8-bit floats. Its two values ask ComfyUI to multiply
/// in the precision of the activations.
pub(super) const MARKER: (&str, usize) = ("scaled_fp8", 2);

/// Bytes of a weight's scale.
const SCALE_BYTES: usize = 4;

/// Name of the scale of a weight.
fn scale_name(weight: &str) -> String {
    let layer = weight.strip_suffix("weight").unwrap_or(weight);
    format!("{layer}scale_weight")
}

/// A safetensors header: the marker, then each tensor, and after each in 8-bit floats its
/// scale.
fn safetensors_header(tensors: &[Planned]) -> Vec<u8> {
    let mut start = 0;
    let mut header = serde_json::Map::new();
    let mut put = |name: String, dtype: &str, shape: &[usize], bytes: usize| {
        let end = start + bytes;
        let info = serde_json::json!({
            "dtype": dtype, "shape": shape, "data_offsets": [start, end],
        });
        header.insert(name, info);
        start = end;
    };
    put(MARKER.0.into(), "F8_E4M3", &[MARKER.1], MARKER.1);
    for Planned {
        output,
        stored,
        bytes,
    } in tensors
    {
        let dtype = stored.to_string();
        put(output.name.clone(), &dtype, &output.shape, *bytes as usize);
        if *stored == StoredType::Byte(ByteType::E4m3) {
            put(scale_name(&output.name), "F32", &[], SCALE_BYTES);
        }
    }
    let mut text = serde_json::Value::Object(header).to_string();
    // Data start at a multiple of 8 bytes, as the safetensors crate writes them.
    text.push_str(&" ".repeat(text.len().next_multiple_of(8) - text.len()));
    let mut out = (text.len() as u64).to_le_bytes().to_vec();
    out.extend(text.as_bytes());
    out
}
