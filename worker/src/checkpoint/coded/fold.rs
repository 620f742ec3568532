//! Takes scales and marks from a file's tensors and sets them on their weights.
//!
//! A scale is `NAME.scale_weight` in files with the marker `scaled_fp8`, and `NAME.weight_scale`
//! in those with marks. Scales of the layer's inputs (`scale_input`, `input_scale`) serve products
//! in 8-bit floats with static scales, which the worker does not compute; they are ignored.

use std::collections::BTreeMap;

use super::super::error::WeightsError;
use super::super::piece::FileTensor;
use super::super::source::StoredType;
use super::coding::Coding;
use super::marks::{Mark, METADATA};
use crate::quants::plain;

/// Last component of the name of a weight's scale.
const SCALES: [&str; 2] = ["scale_weight", "weight_scale"];

/// Last component of the name of a weight's mark.
const MARK: &str = "comfy_quant";

/// Last component of the names of other tensors beside a weight.
const EXTRAS: [&str; 2] = ["scale_input", "input_scale"];

/// The tensor that marks the older files.
const MARKER: &str = "scaled_fp8";

/// Removes scales and marks from a file's tensors and sets them on their weights. `unwrapped` is
/// how the tensors' names were made from the file's.
///
/// # Errors
/// [`WeightsError::Scale`] for a scale that is not one float or one for each row,
/// [`WeightsError::Dtype`] for a weight that is marked as stored in a way that is not read, and
/// [`WeightsError::BadHeader`] for marks that contradict their weights.
pub fn fold(
    tensors: &mut BTreeMap<String, FileTensor>,
    unwrapped: impl Fn(&str) -> String,
) -> Result<(), WeightsError> {
    let mut marks = marks_of_headers(tensors, unwrapped)?;
    let mut scales = BTreeMap::new();
    let mut folded = Vec::new();
    for (name, tensor) in tensors.iter() {
        let (layer, last) = name.rsplit_once('.').unwrap_or(("", name));
        let weight = format!("{layer}.weight");
        if last == MARKER {
            folded.push(name.clone());
        } else if tensors.contains_key(&weight) {
            if last == MARK {
                let bytes = whole(tensor)?;
                let mark = Mark::parse(&bytes).map_err(|why| bad(tensor, &why))?;
                marks.insert(weight, mark);
            } else if SCALES.contains(&last) {
                scales.insert(weight, tensor.clone());
            } else if !EXTRAS.contains(&last) {
                continue;
            }
            folded.push(name.clone());
        }
    }
    for name in folded {
        tensors.remove(&name);
    }
    for (name, tensor) in tensors.iter_mut() {
        let (mark, scale) = (marks.get(name), scales.get(name));
        if mark.is_some() || scale.is_some() {
            tensor.set_coding(coding(tensor, mark, scale)?);
        }
    }
    Ok(())
}

/// The marks that the files' headers list, by weight.
fn marks_of_headers(
    tensors: &BTreeMap<String, FileTensor>,
    unwrapped: impl Fn(&str) -> String,
) -> Result<BTreeMap<String, Mark>, WeightsError> {
    let mut marks = BTreeMap::new();
    let mut seen = Vec::new();
    for tensor in tensors.values() {
        if seen.contains(&tensor.path()) {
            continue;
        }
        seen.push(tensor.path());
        let Some(text) = tensor.source().text(METADATA) else {
            continue;
        };
        let layers = Mark::parse_all(&text).map_err(|why| WeightsError::BadHeader {
            file: tensor.path().to_owned(),
            reason: format!("its `{METADATA}` {why}"),
        })?;
        let by_weight = |(layer, mark)| (unwrapped(&format!("{layer}.weight")), mark);
        marks.extend(layers.into_iter().map(by_weight));
    }
    Ok(marks)
}

/// What a mark and a scale say about a weight.
fn coding(
    weight: &FileTensor,
    mark: Option<&Mark>,
    scale: Option<&FileTensor>,
) -> Result<Coding, WeightsError> {
    let entry = weight.entry();
    let mut rotation = None;
    if let Some(mark) = mark {
        let Some(bytes) = mark.bytes() else {
            return Err(WeightsError::Dtype {
                file: weight.path().to_owned(),
                tensor: entry.name.clone(),
                dtype: mark.format.clone(),
            });
        };
        if entry.stored != StoredType::Byte(bytes) {
            let (marked, stored) = (&mark.format, &entry.stored);
            return Err(bad(
                weight,
                &format!("is marked as {marked}, and it is {stored}"),
            ));
        }
        let width = entry.shape.iter().skip(1).product();
        rotation = mark.rotation(width).map_err(|why| bad(weight, &why))?;
    }
    let factors = match scale {
        Some(scale) => factors(scale, entry.rows())?,
        None => vec![1.0],
    };
    Ok(Coding::new(factors, rotation))
}

/// The values of a scale: one, or one for each of `rows` rows.
fn factors(scale: &FileTensor, rows: usize) -> Result<Vec<f32>, WeightsError> {
    let (entry, bytes) = (scale.entry(), whole(scale)?);
    let refused = || WeightsError::Scale {
        file: scale.path().to_owned(),
        tensor: entry.name.clone(),
        dtype: entry.stored.to_string(),
        shape: entry.shape.clone(),
    };
    let factors = match entry.stored {
        StoredType::F32 => plain::of_f32(&bytes),
        StoredType::F16 => plain::of_f16(&bytes),
        StoredType::Bf16 => plain::of_bf16(&bytes),
        _ => return Err(refused()),
    };
    let is_column = matches!(entry.shape[..], [n] | [n, 1] if n == rows);
    if factors.len() != 1 && !is_column {
        return Err(refused());
    }
    match factors.iter().find(|factor| !factor.is_finite()) {
        Some(odd) => Err(bad(scale, &format!("has the value {odd}"))),
        None => Ok(factors),
    }
}

/// All bytes of a tensor.
fn whole(tensor: &FileTensor) -> Result<Vec<u8>, WeightsError> {
    let entry = tensor.entry();
    Ok(tensor.source().bytes(entry, 0..entry.rows())?.into_owned())
}

fn bad(tensor: &FileTensor, why: &str) -> WeightsError {
    WeightsError::BadHeader {
        file: tensor.path().to_owned(),
        reason: format!("its tensor `{}` {why}", tensor.entry().name),
    }
}
