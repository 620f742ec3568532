//! The tensors of a module, read with their shapes checked, and its scale.

use std::path::Path;

use super::error::AdapterError;
use super::factor::{all_finite, bytes, decode, is_readable, Factor};
use super::key::Role;
use super::module::{Kind, Module};
use super::settings::{OftSettings, Settings};
use crate::checkpoint::piece::FileTensor;

/// A module's tensors, all finite and of types that can be read.
pub(super) struct Stored<'a> {
    file: &'a Path,
    name: &'a str,
    module: &'a Module,
    settings: &'a Settings,
}

type Result<T, E = AdapterError> = std::result::Result<T, E>;

impl<'a> Stored<'a> {
    /// Checks the types and values of all tensors.
    ///
    /// # Errors
    /// A tensor is stored in a type that is not read in adapters, or has numbers that are not
    /// finite.
    pub fn new(
        file: &'a Path,
        name: &'a str,
        module: &'a Module,
        settings: &'a Settings,
    ) -> Result<Self> {
        let stored = Self {
            file,
            name,
            module,
            settings,
        };
        for (role, tensor) in module.tensors() {
            let (entry, component) = (tensor.entry(), role.component());
            if !is_readable(&entry.stored) {
                return Err(stored.wrong(format!(
                    "stores `{component}` as {}, and adapters are read in F32, F16 or BF16",
                    entry.stored
                )));
            }
            if !all_finite(&bytes(tensor)?, &entry.stored) {
                return Err(
                    stored.wrong(format!("has numbers in `{component}` that are not finite"))
                );
            }
        }
        Ok(stored)
    }

    /// The adapter's file.
    pub fn file(&self) -> &'a Path {
        self.file
    }

    /// As [`Module::kinds`].
    pub fn kinds(&self) -> Vec<Kind> {
        self.module.kinds()
    }

    /// The tensor of a role.
    pub fn tensor(&self, role: Role) -> Option<&'a FileTensor> {
        self.module.get(role)
    }

    /// How the module's rotation is computed.
    pub fn oft(&self) -> OftSettings {
        self.settings.oft(self.name)
    }

    fn need(&self, role: Role) -> Result<&'a FileTensor> {
        self.tensor(role)
            .ok_or_else(|| self.wrong(format!("has no `{}`", role.component())))
    }

    /// The shape of a role's tensor.
    ///
    /// # Errors
    /// There is none.
    pub fn shape(&self, role: Role) -> Result<&'a [usize]> {
        Ok(&self.need(role)?.entry().shape)
    }

    /// A matrix, which may be stored as a convolution of 1 x 1, with the rows and columns that are
    /// given.
    ///
    /// # Errors
    /// It is missing, empty, or has another shape.
    pub fn matrix(&self, role: Role, wanted: [Option<usize>; 2]) -> Result<Factor> {
        let tensor = self.need(role)?;
        let shape = &tensor.entry().shape;
        let component = role.component();
        let found = match shape[..] {
            [rows, columns] | [rows, columns, 1] | [rows, columns, 1, 1] => Some([rows, columns]),
            _ => None,
        };
        if found.is_some_and(|found| found.contains(&0)) {
            return Err(self.wrong(format!("has an empty `{component}`: its rank is 0")));
        }
        let fits = |found: &[usize; 2]| {
            let mut pairs = wanted.iter().zip(found);
            pairs.all(|(wanted, found)| wanted.is_none_or(|wanted| wanted == *found))
        };
        match found.filter(fits) {
            Some(found) => Ok(Factor::new(tensor.clone(), found)),
            None => {
                let [rows, columns] = wanted.map(|size| match size {
                    Some(size) => size.to_string(),
                    None => "any".into(),
                });
                Err(self.wrong(format!(
                    "has a `{component}` of the shape {shape:?}, not [{rows}, {columns}]"
                )))
            }
        }
    }

    /// As [`matrix`](Self::matrix), or `None` if it is missing.
    ///
    /// # Errors
    /// It is empty or has another shape.
    pub fn optional_matrix(
        &self,
        role: Role,
        wanted: [Option<usize>; 2],
    ) -> Result<Option<Factor>> {
        let tensor = self.tensor(role);
        tensor.map(|_| self.matrix(role, wanted)).transpose()
    }

    /// A tensor's values as a matrix of another shape.
    ///
    /// # Errors
    /// It is missing, or has another number of values.
    pub fn reshaped(&self, role: Role, [rows, columns]: [usize; 2]) -> Result<Factor> {
        let tensor = self.need(role)?;
        let shape = &tensor.entry().shape;
        let count = shape.iter().product::<usize>();
        if Some(count) != rows.checked_mul(columns) {
            return Err(self.wrong(format!(
                "has a `{}` of the shape {shape:?}, not {} values",
                role.component(),
                rows.saturating_mul(columns)
            )));
        }
        Ok(Factor::new(tensor.clone(), [rows, columns]))
    }

    /// A tensor with a single value.
    ///
    /// # Errors
    /// It has more values, or none.
    pub fn number(&self, role: Role) -> Result<Option<f64>> {
        let Some(tensor) = self.tensor(role) else {
            return Ok(None);
        };
        let values = decode(&bytes(tensor)?, &tensor.entry().stored);
        match values[..] {
            [value] => Ok(Some(f64::from(value))),
            _ => Err(self.wrong(format!(
                "has a `{}` of the shape {:?}, not one number",
                role.component(),
                tensor.entry().shape
            ))),
        }
    }

    /// The factor of a change with factors of this rank: alpha over rank, or 1 where no alpha came
    /// with the adapter. An alpha of 0 means the rank, as kohya's and LyCORIS's modules have it.
    /// Without a rank (a LoKr of two whole matrices) alpha counts in peft alone, whose settings
    /// keep the rank that was asked for.
    ///
    /// # Errors
    /// Alpha is not one number, or the scale is out of range.
    pub fn scale(&self, rank: Option<usize>) -> Result<f32> {
        let rank = rank.map(|rank| rank as f64);
        let over = |alpha: f64, rank: f64| match alpha == 0.0 {
            true => 1.0,
            false => alpha / rank,
        };
        let peft = self.settings.scale(self.name);
        let scale = match (self.number(Role::Alpha)?, peft, self.settings.alpha()) {
            (Some(alpha), _, _) => rank.map_or(1.0, |rank| over(alpha, rank)),
            (None, Some(peft), _) => match (rank.or(peft.rank), peft.by_root) {
                (Some(rank), true) => peft.alpha / rank.sqrt(),
                (Some(rank), false) => peft.alpha / rank,
                (None, _) => 1.0,
            },
            (None, None, Some(alpha)) => rank.map_or(1.0, |rank| over(alpha, rank)),
            (None, None, None) => 1.0,
        };
        match (scale as f32).is_finite() {
            true => Ok(scale as f32),
            false => Err(self.wrong(format!("has a scale of {scale}"))),
        }
    }

    fn wrong(&self, reason: impl Into<String>) -> AdapterError {
        AdapterError::module(self.file, self.name, reason)
    }
}
