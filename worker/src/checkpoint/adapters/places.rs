//! Where the modules of a naming scheme lie in the model, from the map that checkpoints are read
//! with.

use std::collections::HashMap;
use std::ops::Range;

use crate::checkpoint::name_map::{MappedTensor, NameMap};

/// Rows of a tensor of the model, in the order in which a module of an adapter has them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The tensor's canonical name.
    pub tensor: String,
    /// Its rows. A module whose halves are exchanged in the model has two ranges.
    pub rows: Vec<Range<usize>>,
    /// The module's shape: `[out, in]` of a matrix, `[out]` of a bias or a norm's weight.
    pub shape: Vec<usize>,
}

impl Place {
    /// Number of the module's values.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether the module has no values.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Where a module's weight and bias lie.
#[derive(Clone, Debug, Default)]
pub(super) struct Target {
    pub weight: Option<Place>,
    pub bias: Option<Place>,
}

/// The modules of one part.
#[derive(Debug, Default)]
pub(super) struct Modules {
    pub dotted: HashMap<String, Target>,
    /// The names with `_` for `.`, and the names themselves.
    pub underscored: HashMap<String, String>,
}

impl Modules {
    /// The module of this name with `_` for `.`.
    pub fn underscored(&self, name: &str) -> Option<&Target> {
        self.dotted.get(self.underscored.get(name)?)
    }

    /// Adds the modules of a naming scheme.
    pub fn add(&mut self, map: &NameMap) {
        for tensor in map.tensors() {
            for (name, place) in places(tensor) {
                let (module, is_bias) = match name.strip_suffix(".bias") {
                    Some(module) => (module, true),
                    None => (name.strip_suffix(".weight").unwrap_or(&name), false),
                };
                let stem = module.replace('.', "_");
                self.underscored.insert(stem, module.to_owned());
                let target = self.dotted.entry(module.to_owned()).or_default();
                match is_bias {
                    true => target.bias = Some(place),
                    false => target.weight = Some(place),
                }
            }
        }
    }
}

/// The file tensors that a tensor of the model consists of, and where each lies in it.
fn places(tensor: &MappedTensor) -> Vec<(String, Place)> {
    let mut pieces: Vec<_> = Vec::with_capacity(tensor.pieces.len());
    let mut row = 0;
    for piece in &tensor.pieces {
        let rows = row..row + piece.rows.len();
        row = rows.end;
        pieces.push((piece, rows));
    }
    // Pieces of one tensor, in the order of its own rows.
    pieces.sort_by(|(a, _), (b, _)| (&a.name, a.rows.start).cmp(&(&b.name, b.rows.start)));
    let mut places: Vec<(String, Place)> = Vec::new();
    for (piece, rows) in pieces {
        match places.last_mut() {
            Some((name, place)) if *name == piece.name => place.rows.push(rows),
            _ => places.push((
                piece.name.clone(),
                Place {
                    tensor: tensor.name.clone(),
                    rows: vec![rows],
                    shape: piece.shape.clone(),
                },
            )),
        }
    }
    places
}
