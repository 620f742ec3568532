//! ComfyUI's files of 8-bit floats: a weight `NAME.weight` in E4M3, and beside it the factor
//! that all its values are multiplied with.
//!
//! The factor is `NAME.scale_weight` in files with the marker `scaled_fp8`, and
//! `NAME.weight_scale` in those with `NAME.comfy_quant`. Scales of the layer's inputs
//! (`scale_input`, `input_scale`) serve products in 8-bit floats with static scales, which
//! the worker does not compute; they are ignored.
//!
//! Source: ComfyUI `comfy/utils.py` (`convert_old_quants`), `comfy/ops.py`
//! (`mixed_precision_ops`), `comfy/quant_ops.py`.

use std::collections::BTreeMap;

use super::error::WeightsError;
use super::piece::FileTensor;
use super::source::StoredType;

/// Last component of the name of a weight's scale.
const SCALES: [&str; 2] = ["scale_weight", "weight_scale"];

/// Last component of the names of other tensors beside a weight.
const EXTRAS: [&str; 3] = ["scale_input", "input_scale", "comfy_quant"];

/// The tensor that marks the older files.
const MARKER: &str = "scaled_fp8";

/// Removes the scales from a file's tensors and sets each on its weight.
///
/// # Errors
/// [`WeightsError::Scale`] for a scale that is not a single float32.
pub(super) fn fold(tensors: &mut BTreeMap<String, FileTensor>) -> Result<(), WeightsError> {
    let mut folded = Vec::new();
    let mut scales = Vec::new();
    for (name, tensor) in tensors.iter() {
        let (layer, last) = name.rsplit_once('.').unwrap_or(("", name));
        let weight = format!("{layer}.weight");
        if last == MARKER {
            folded.push(name.clone());
        } else if tensors.contains_key(&weight) {
            if SCALES.contains(&last) {
                scales.push((weight, scale(tensor)?));
                folded.push(name.clone());
            } else if EXTRAS.contains(&last) {
                folded.push(name.clone());
            }
        }
    }
    for name in folded {
        tensors.remove(&name);
    }
    for (weight, scale) in scales {
        if let Some(tensor) = tensors.get_mut(&weight) {
            tensor.set_scale(scale);
        }
    }
    Ok(())
}

/// The value of a scale.
fn scale(tensor: &FileTensor) -> Result<f32, WeightsError> {
    let entry = tensor.entry();
    let bytes = tensor.source().bytes(entry, 0..entry.rows())?;
    match (&entry.stored, <[u8; 4]>::try_from(&bytes[..])) {
        (StoredType::F32, Ok(bytes)) => Ok(f32::from_le_bytes(bytes)),
        _ => Err(WeightsError::Scale {
            file: tensor.path().to_owned(),
            tensor: entry.name.clone(),
            dtype: entry.stored.to_string(),
            shape: entry.shape.clone(),
        }),
    }
}
