//! Where each tensor of a model lies in files of one naming scheme, before any file is
//! opened: names, shapes and rows.

use std::ops::Range;

/// Rows of one file tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct MappedPiece {
    /// Name in the file.
    pub name: String,
    /// Shape of the whole tensor in the file.
    pub shape: Vec<usize>,
    /// Whether the file may store the matrix as a 1 x 1 convolution, `[out, in, 1, 1]`.
    pub may_be_conv: bool,
    /// The rows that are used.
    pub rows: Range<usize>,
}

/// A model's tensor, and the pieces that it consists of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct MappedTensor {
    /// Canonical name.
    pub name: String,
    /// Shape in the model.
    pub shape: Vec<usize>,
    /// Pieces whose rows follow each other.
    pub pieces: Vec<MappedPiece>,
}

/// The tensors of one part, in the order in which they are looked up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct NameMap {
    tensors: Vec<MappedTensor>,
}

impl NameMap {
    /// All tensors.
    pub fn tensors(&self) -> &[MappedTensor] {
        &self.tensors
    }

    /// `canonical` is the tensor `name`.
    pub fn whole(&mut self, canonical: String, name: &str, shape: &[usize]) {
        let piece = whole_piece(name, shape);
        self.push(canonical, shape, vec![piece]);
    }

    /// `canonical` of shape `[out, in]` is the tensor `name`, which may be a 1 x 1
    /// convolution.
    pub fn matrix_or_conv(&mut self, canonical: String, name: &str, shape: &[usize]) {
        let piece = MappedPiece {
            may_be_conv: true,
            ..whole_piece(name, shape)
        };
        self.push(canonical, shape, vec![piece]);
    }

    /// `canonical` is the tensor `name` with the halves of its rows exchanged.
    pub fn swapped_halves(&mut self, canonical: String, name: &str, shape: &[usize]) {
        let (half, rows) = (shape[0] / 2, shape[0]);
        let piece = |rows| MappedPiece {
            rows,
            ..whole_piece(name, shape)
        };
        self.push(canonical, shape, vec![piece(half..rows), piece(0..half)]);
    }

    /// `canonical` is the concatenation of these tensors, each given with its number of
    /// rows; `tail` are the dimensions after the rows.
    pub fn concatenated(&mut self, canonical: String, names: &[(String, usize)], tail: &[usize]) {
        let shape = |rows: usize| [&[rows], tail].concat();
        let pieces = names
            .iter()
            .map(|(name, rows)| whole_piece(name, &shape(*rows)))
            .collect();
        let rows = names.iter().map(|(_, rows)| rows).sum();
        self.push(canonical, &shape(rows), pieces);
    }

    /// A linear layer's `weight` `[out, in]` and `bias` `[out]`.
    pub fn linear(&mut self, canonical: &str, name: &str, [out, inputs]: [usize; 2]) {
        self.whole(
            format!("{canonical}.weight"),
            &format!("{name}.weight"),
            &[out, inputs],
        );
        self.whole(format!("{canonical}.bias"), &format!("{name}.bias"), &[out]);
    }

    /// A linear layer that is stored as several with the same inputs, each given with its
    /// number of outputs.
    pub fn concatenated_linear(
        &mut self,
        canonical: &str,
        names: &[(String, usize)],
        inputs: usize,
    ) {
        let with_end = |end: &str| -> Vec<(String, usize)> {
            let name = |(name, rows): &(String, usize)| (format!("{name}.{end}"), *rows);
            names.iter().map(name).collect()
        };
        let (weights, biases) = (with_end("weight"), with_end("bias"));
        self.concatenated(format!("{canonical}.weight"), &weights, &[inputs]);
        self.concatenated(format!("{canonical}.bias"), &biases, &[]);
    }

    fn push(&mut self, name: String, shape: &[usize], pieces: Vec<MappedPiece>) {
        self.tensors.push(MappedTensor {
            name,
            shape: shape.to_vec(),
            pieces,
        });
    }
}

fn whole_piece(name: &str, shape: &[usize]) -> MappedPiece {
    MappedPiece {
        name: name.to_owned(),
        shape: shape.to_vec(),
        may_be_conv: false,
        rows: 0..shape[0],
    }
}

#[cfg(test)]
impl NameMap {
    /// File names and rows of a tensor's pieces, and the tensor's shape.
    pub fn find(&self, canonical: &str) -> (Vec<(&str, Range<usize>)>, &[usize]) {
        let tensor = self.tensors.iter().find(|t| t.name == canonical).unwrap();
        let pieces = tensor.pieces.iter();
        let pieces = pieces.map(|piece| (&piece.name[..], piece.rows.clone()));
        (pieces.collect(), &tensor.shape)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_follow_each_other() {
        let mut map = NameMap::default();
        let names = [("q".to_owned(), 4), ("k".to_owned(), 2)];
        map.concatenated_linear("qk", &names, 8);
        map.swapped_halves("swapped.weight".into(), "ends.weight", &[6, 8]);
        let weight = map.find("qk.weight");
        assert_eq!(weight.0, [("q.weight", 0..4), ("k.weight", 0..2)]);
        assert_eq!(weight.1, [6, 8]);
        assert_eq!(map.find("qk.bias").1, [6]);
        let swapped = map.find("swapped.weight").0;
        assert_eq!(swapped, [("ends.weight", 3..6), ("ends.weight", 0..3)]);
    }
}
