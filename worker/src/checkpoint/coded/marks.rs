//! The JSON by which a file says how a weight is stored: the text of a tensor `NAME.comfy_quant`
//! of bytes, or the entry `NAME` of the layers in the header's `_quantization_metadata`.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::quants::{rotation, ByteType};

/// Key of the header's metadata that lists all marks of a file.
pub(super) const METADATA: &str = "_quantization_metadata";

/// How a weight is stored.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Mark {
    /// Name of the format.
    pub format: String,
    #[serde(default)]
    convrot: bool,
    #[serde(default = "usual_group")]
    convrot_groupsize: usize,
}

/// The group size of files that do not name one: ComfyUI's `TensorWiseINT8Layout`.
fn usual_group() -> usize {
    256
}

#[derive(Deserialize)]
struct Metadata {
    layers: BTreeMap<String, Mark>,
}

impl Mark {
    /// Reads a mark.
    ///
    /// # Errors
    /// A sentence's end that says why it cannot be read.
    pub fn parse(json: &[u8]) -> Result<Self, String> {
        serde_json::from_slice(json).map_err(|error| format!("is not such JSON ({error})"))
    }

    /// Reads the marks of the header's metadata, by layer.
    ///
    /// # Errors
    /// A sentence's end that says why they cannot be read.
    pub fn parse_all(json: &str) -> Result<BTreeMap<String, Self>, String> {
        let metadata: Result<Metadata, _> = serde_json::from_str(json);
        let metadata = metadata.map_err(|error| format!("is not such JSON ({error})"))?;
        Ok(metadata.layers)
    }

    /// The type that the format stores, or `None` if it is another one than those that are read.
    /// Formats with a scale for each row go by a name of their own in some converters.
    pub fn bytes(&self) -> Option<ByteType> {
        match self.format.strip_suffix("_rowwise").unwrap_or(&self.format) {
            "float8_e4m3fn" => Some(ByteType::E4m3),
            "float8_e5m2" => Some(ByteType::E5m2),
            "int8" | "int8_tensorwise" => Some(ByteType::I8),
            _ => None,
        }
    }

    /// Number of columns that were rotated together in a weight of `width` columns.
    ///
    /// # Errors
    /// A sentence's end, if there are no such groups.
    pub fn rotation(&self, width: usize) -> Result<Option<usize>, String> {
        let group = self.convrot_groupsize;
        match self.convrot {
            false => Ok(None),
            true if rotation::is_group(group) && width.is_multiple_of(group) => Ok(Some(group)),
            true => Err(format!(
                "is rotated in groups of {group}, which are not a power of 4 that divides its {width} columns"
            )),
        }
    }
}
