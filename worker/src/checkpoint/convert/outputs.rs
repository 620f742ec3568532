//! The tensors of a file that is written: their names, and which rows of the part they are.

use std::ops::Range;

use super::super::geometry::{MmditConfig, Qwen3Config};
use super::super::{mmdit_names, qwen3};

/// A tensor of the file.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Output {
    /// Name in the file.
    pub name: String,
    /// Dimensions, outermost first.
    pub shape: Vec<usize>,
    /// Canonical name of the part's tensor.
    pub canonical: String,
    /// Rows of that tensor.
    pub rows: Range<usize>,
}

impl Output {
    /// Values in a row.
    pub fn row_length(&self) -> usize {
        self.shape.iter().skip(1).product()
    }

    /// Values in the innermost dimension, which blocks divide.
    pub fn width(&self) -> usize {
        self.shape.last().copied().unwrap_or(1)
    }

    /// Number of values.
    pub fn values(&self) -> usize {
        self.shape.iter().product()
    }
}

/// The transformer under the names of ComfyUI's split file, in which norms are called
/// `.scale`.
pub(super) fn transformer(config: &MmditConfig) -> Vec<Output> {
    let mut outputs = Vec::new();
    for tensor in mmdit_names::canonical_map(config).tensors() {
        let mut row = 0;
        for piece in &tensor.pieces {
            let rows = row..row + piece.rows.len();
            row = rows.end;
            outputs.push(Output {
                name: match piece.name.strip_suffix("norm.weight") {
                    Some(norm) => format!("{norm}norm.scale"),
                    None => piece.name.clone(),
                },
                shape: piece.shape.clone(),
                canonical: tensor.name.clone(),
                rows,
            });
        }
    }
    outputs
}

/// The text encoder under names that `renamed` makes of the canonical ones.
pub(super) fn text_encoder(config: &Qwen3Config, renamed: impl Fn(&str) -> String) -> Vec<Output> {
    let map = qwen3::map(config);
    let tensors = map.tensors().iter();
    let output = tensors.map(|tensor| Output {
        name: renamed(&tensor.name),
        shape: tensor.shape.clone(),
        canonical: tensor.name.clone(),
        rows: 0..tensor.shape[0],
    });
    output.collect()
}

#[cfg(test)]
mod tests {
    use super::super::super::test_files::transformer_geometry;
    use super::*;

    #[test]
    fn joined_tensors_are_parted_again() {
        let outputs = transformer(&transformer_geometry());
        let find = |name: &str| outputs.iter().find(|output| output.name == name).unwrap();
        let gate = find("double_blocks.0.img_mlp.gate_proj.weight");
        assert_eq!(gate.canonical, "double_blocks.0.img_mlp.up_gate.weight");
        assert_eq!(
            (&gate.shape[..], gate.rows.clone()),
            (&[16, 32][..], 16..32)
        );
        find("txt_norm.scale");
        find("single_blocks.0.norm.query_norm.scale");
        find("double_blocks.0.txt_attn.norm.key_norm.scale");
        assert!(!outputs
            .iter()
            .any(|output| output.name.contains("norm.weight")));
    }
}
