//! From the tensors of a module to its typed changes, with every shape checked.

use std::path::Path;

use super::delta::{Change, Delta, Magnitude, Product, Rotation, Side};
use super::error::AdapterError;
use super::factor::Factor;
use super::key::Role;
use super::module::{Kind, Module};
use super::places::{Place, Target};
use super::settings::Settings;
use super::stored::Stored;

/// Largest block of a rotation. Trainers make blocks of at most a few hundred rows, and a block's
/// inverse takes the cube of its size.
const MAX_BLOCK: usize = 4096;

/// The changes of one module, and the names of its tensors that change nothing in the model.
pub(super) struct Built {
    pub changes: Vec<Change>,
    pub unused: Vec<String>,
}

/// Types a module's tensors.
///
/// # Errors
/// A tensor is missing, misshapen, not finite or of another type, or the module has several kinds.
pub(super) fn build(
    file: &Path,
    name: &str,
    module: &Module,
    target: &Target,
    settings: &Settings,
) -> Result<Built, AdapterError> {
    let stored = Stored::new(file, name, module, settings)?;
    let builder = Builder { name, stored };
    let mut built = Built {
        changes: Vec::new(),
        unused: Vec::new(),
    };
    if let (Some(kind), Some(place)) = (builder.weight_kind()?, &target.weight) {
        built.changes.push(Change {
            module: name.to_owned(),
            delta: builder.delta(kind, place)?,
            magnitude: builder.magnitude(place)?,
            place: place.clone(),
        });
    }
    for role in [Role::UpBias, Role::DiffBias, Role::NormBias] {
        let Some(tensor) = builder.stored.tensor(role) else {
            continue;
        };
        let Some(place) = &target.bias else {
            built.unused.push(tensor.entry().name.clone());
            continue;
        };
        built.changes.push(Change {
            module: name.to_owned(),
            delta: builder.vector(role, place)?,
            magnitude: None,
            place: place.clone(),
        });
    }
    Ok(built)
}

struct Builder<'a> {
    name: &'a str,
    stored: Stored<'a>,
}

type Result<T, E = AdapterError> = std::result::Result<T, E>;

impl Builder<'_> {
    /// The kind of the weight's change; `None` where only a bias changes.
    fn weight_kind(&self) -> Result<Option<Kind>> {
        match self.stored.kinds()[..] {
            [Kind::Bias] => Ok(None),
            [kind] => Ok(Some(kind)),
            [] => Err(self.wrong("has a scale, and nothing that it scales")),
            _ => Err(self.wrong("has tensors of several kinds of adapters")),
        }
    }

    fn delta(&self, kind: Kind, place: &Place) -> Result<Delta> {
        let [rows, columns] = match (place.shape[..].try_into(), kind) {
            (_, Kind::Norm) => return self.vector(Role::NormWeight, place),
            (Ok(shape), _) => shape,
            (Err(_), Kind::Full) => return self.vector(Role::Diff, place),
            (Err(_), _) => {
                return Err(self.wrong("is a norm, whose weight only a difference can change"))
            }
        };
        match kind {
            Kind::Lora => {
                let roles = [Role::Up, Role::Down, Role::Mid];
                let product = self.product(roles, [rows, columns])?;
                Ok(Delta::LowRank {
                    scale: self.stored.scale(Some(product.rank()))?,
                    product,
                })
            }
            Kind::Lokr => self.kron([rows, columns]),
            Kind::Loha => {
                let left = [Role::HadaW1A, Role::HadaW1B, Role::HadaT1];
                let right = [Role::HadaW2A, Role::HadaW2B, Role::HadaT2];
                let left = self.tucker(left, [rows, columns])?;
                Ok(Delta::Hadamard {
                    scale: self.stored.scale(Some(left.rank()))?,
                    right: self.tucker(right, [rows, columns])?,
                    left,
                })
            }
            Kind::Oft | Kind::Boft => self.row_rotation(rows),
            Kind::PeftOft => self.column_rotation(columns),
            Kind::Full => {
                let wanted = [Some(rows), Some(columns)];
                Ok(Delta::Full(self.stored.matrix(Role::Diff, wanted)?))
            }
            Kind::Norm | Kind::Bias => {
                Err(self.wrong("is a matrix, and has a difference of a norm"))
            }
        }
    }

    /// A product of the roles up, down and middle.
    fn product(&self, [up, down, mid]: [Role; 3], [rows, columns]: [usize; 2]) -> Result<Product> {
        let up = self.stored.matrix(up, [Some(rows), None])?;
        let rank = Some(up.columns());
        Ok(Product {
            down: self.stored.matrix(down, [rank, Some(columns)])?,
            mid: self.stored.optional_matrix(mid, [rank, rank])?,
            up,
        })
    }

    /// A product whose left half is stored transposed where it has a core, as LyCORIS's Tucker
    /// decompositions are (`functional/general.py`, `rebuild_tucker`).
    fn tucker(&self, [up, down, core]: [Role; 3], shape: [usize; 2]) -> Result<Product> {
        let [rows, columns] = shape;
        if self.stored.tensor(core).is_none() {
            return self.product([up, down, core], shape);
        }
        let up = self.stored.matrix(up, [None, Some(rows)])?.transposed();
        let rank = Some(up.columns());
        Ok(Product {
            down: self.stored.matrix(down, [rank, Some(columns)])?,
            mid: self.stored.optional_matrix(core, [rank, rank])?,
            up,
        })
    }

    fn kron(&self, [rows, columns]: [usize; 2]) -> Result<Delta> {
        let left = match self.stored.tensor(Role::LokrW1) {
            Some(_) => Side::Whole(self.stored.matrix(Role::LokrW1, [None, None])?),
            None => {
                let up = self.stored.matrix(Role::LokrW1A, [None, None])?;
                let rank = Some(up.columns());
                Side::Product(Product {
                    down: self.stored.matrix(Role::LokrW1B, [rank, None])?,
                    mid: None,
                    up,
                })
            }
        };
        let sizes = [(rows, left.rows()), (columns, left.columns())];
        let right = sizes.map(|(all, left)| (left > 0 && all % left == 0).then(|| all / left));
        let [Some(right_rows), Some(right_columns)] = right else {
            return Err(self.wrong(format!(
                "has a first factor of the shape {:?}, which does not divide {:?}",
                [left.rows(), left.columns()],
                [rows, columns]
            )));
        };
        let right = match self.stored.tensor(Role::LokrW2) {
            Some(_) => {
                let wanted = [Some(right_rows), Some(right_columns)];
                Side::Whole(self.stored.matrix(Role::LokrW2, wanted)?)
            }
            None => {
                let roles = [Role::LokrW2A, Role::LokrW2B, Role::LokrT2];
                Side::Product(self.tucker(roles, [right_rows, right_columns])?)
            }
        };
        Ok(Delta::Kron {
            scale: self.stored.scale(right.rank().or(left.rank()))?,
            left,
            right,
        })
    }

    fn row_rotation(&self, rows: usize) -> Result<Delta> {
        let shape = self.stored.shape(Role::OftBlocks)?.to_vec();
        let (stages, blocks, size) = match shape[..] {
            [blocks, size, same] if same == size => (None, blocks, size),
            [stages, blocks, size, same] if same == size => (Some(stages), blocks, size),
            _ => {
                return Err(self.wrong(format!(
                    "has an `oft_blocks` of the shape {shape:?}, not of square blocks"
                )))
            }
        };
        self.check_blocks(blocks, size, rows)?;
        if let Some(stages) = stages {
            let last = stages.checked_sub(1).filter(|last| *last < 32);
            let has_pairs = last.is_some_and(|last| blocks % (1 << last) == 0);
            if size % 2 != 0 || !has_pairs {
                return Err(self.wrong(format!(
                    "has an `oft_blocks` of the shape {shape:?}, which is no butterfly"
                )));
            }
        }
        let all_blocks = stages.unwrap_or(1) * blocks;
        let blocks = self
            .stored
            .reshaped(Role::OftBlocks, [all_blocks * size, size])?;
        let constraint = self.stored.number(Role::Alpha)?.unwrap_or(0.0);
        let rescale = match self.stored.tensor(Role::Rescale) {
            Some(_) => Some(self.stored.reshaped(Role::Rescale, [1, rows])?),
            None => None,
        };
        Ok(Delta::Orthogonal(Rotation::Rows {
            blocks,
            size,
            stages,
            constraint: constraint * rows as f64,
            rescale,
        }))
    }

    fn column_rotation(&self, columns: usize) -> Result<Delta> {
        let triangles = self.stored.matrix(Role::OftTriangles, [None, None])?;
        let (count, length) = (triangles.rows(), triangles.columns());
        let size = (2..=MAX_BLOCK).find(|size| size * (size - 1) / 2 >= length);
        let Some(size) = size.filter(|size| size * (size - 1) / 2 == length) else {
            return Err(self.wrong(format!(
                "has an `oft_R` with rows of {length}, which are no triangles of blocks"
            )));
        };
        let shared = count == 1 && columns.is_multiple_of(size);
        if !shared {
            self.check_blocks(count, size, columns)?;
        }
        let settings = self.stored.oft();
        Ok(Delta::Orthogonal(Rotation::Columns {
            triangles,
            size,
            terms: settings.terms,
            constraint: settings.constraint,
        }))
    }

    fn check_blocks(&self, count: usize, size: usize, dimension: usize) -> Result<()> {
        if !(1..=MAX_BLOCK).contains(&size) || count.checked_mul(size) != Some(dimension) {
            return Err(self.wrong(format!(
                "rotates {count} blocks of {size}, where the model needs {dimension} in all"
            )));
        }
        Ok(())
    }

    /// A difference of a vector. Only the bias of a LoRA's upper half is scaled with it (peft,
    /// `tuners/lora/layer.py`).
    fn vector(&self, role: Role, place: &Place) -> Result<Delta> {
        let [length] = place.shape[..] else {
            return Err(self.wrong("is a matrix, and has a difference of a norm"));
        };
        let scale = match role {
            Role::UpBias => {
                let up = self.stored.matrix(Role::Up, [Some(length), None])?;
                self.stored.scale(Some(up.columns()))?
            }
            _ => 1.0,
        };
        Ok(Delta::Vector {
            values: self.stored.reshaped(role, [1, length])?,
            scale,
        })
    }

    /// DoRA's magnitude: of rows where its first dimension has their number, else of columns, as
    /// ComfyUI decides (`weight_decompose`).
    fn magnitude(&self, place: &Place) -> Result<Option<Magnitude>> {
        if self.stored.tensor(Role::Magnitude).is_none() {
            return Ok(None);
        }
        let [rows, columns] = place.shape[..] else {
            return Err(self.wrong("has a magnitude, and is no matrix"));
        };
        let shape = self.stored.shape(Role::Magnitude)?;
        let of_rows = shape.first() == Some(&rows);
        let length = if of_rows { rows } else { columns };
        let values: Factor = self.stored.reshaped(Role::Magnitude, [1, length])?;
        Ok(Some(Magnitude { values, of_rows }))
    }

    fn wrong(&self, reason: impl Into<String>) -> AdapterError {
        AdapterError::module(self.stored.file(), self.name, reason)
    }
}
