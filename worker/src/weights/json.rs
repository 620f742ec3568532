//! Reading the small JSON files beside weights.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::error::WeightsError;

/// Largest number a geometry's field may hold; keeps products within `usize`.
const MAX_FIELD: u64 = 1 << 20;

/// Reads and parses a JSON file.
///
/// # Errors
/// It cannot be read or is not JSON.
pub(super) fn read(path: &Path) -> Result<Value, WeightsError> {
    let text = std::fs::read(path).map_err(|e| WeightsError::Unreadable {
        file: path.to_owned(),
        reason: e.to_string(),
    })?;
    serde_json::from_slice(&text).map_err(|e| WeightsError::Json {
        file: path.to_owned(),
        reason: format!("it is not JSON ({e})"),
    })
}

/// A configuration, its fields read one by one.
pub(super) struct Config {
    pub path: PathBuf,
    pub fields: Value,
}

impl Config {
    /// The `config.json` in `folder`, if there is one that `accept`s.
    ///
    /// # Errors
    /// It cannot be read or is not JSON.
    pub fn beside(
        folder: &Path,
        accept: impl Fn(&Value) -> bool,
    ) -> Result<Option<Self>, WeightsError> {
        let path = folder.join("config.json");
        if !path.is_file() {
            return Ok(None);
        }
        let fields = read(&path)?;
        Ok(accept(&fields).then_some(Self { path, fields }))
    }

    /// A refusal that names this file.
    pub fn error(&self, reason: String) -> WeightsError {
        WeightsError::Json {
            file: self.path.clone(),
            reason,
        }
    }

    /// A positive whole number, `default` when the field is absent or null.
    ///
    /// # Errors
    /// The field holds something else, or is absent without a default.
    pub fn count(&self, field: &str, default: Option<usize>) -> Result<usize, WeightsError> {
        match &self.fields[field] {
            Value::Null => default.ok_or_else(|| self.error(format!("it has no `{field}`"))),
            value => value
                .as_u64()
                .filter(|n| (1..=MAX_FIELD).contains(n))
                .map(|n| n as usize)
                .ok_or_else(|| self.error(format!("its `{field}` is {value}"))),
        }
    }

    /// Several positive whole numbers.
    ///
    /// # Errors
    /// As [`count`](Self::count), for each of them.
    pub fn counts(&self, field: &str) -> Result<Option<Vec<usize>>, WeightsError> {
        let wrong = || self.error(format!("its `{field}` is {}", self.fields[field]));
        match &self.fields[field] {
            Value::Null => Ok(None),
            Value::Array(values) => values
                .iter()
                .map(|v| v.as_u64().filter(|n| (1..=MAX_FIELD).contains(n)))
                .map(|n| n.map(|n| n as usize).ok_or_else(wrong))
                .collect::<Result<_, _>>()
                .map(Some),
            _ => Err(wrong()),
        }
    }

    /// A number, `default` when the field is absent or null.
    ///
    /// # Errors
    /// The field holds something else.
    pub fn number(&self, field: &str, default: f64) -> Result<f64, WeightsError> {
        match &self.fields[field] {
            Value::Null => Ok(default),
            value => value
                .as_f64()
                .ok_or_else(|| self.error(format!("its `{field}` is {value}"))),
        }
    }
}
