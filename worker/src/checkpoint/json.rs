//! Reading the small JSON files beside weights.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::error::WeightsError;
use super::{folder, TEXT_ENCODER, TRANSFORMER, VAE};

/// Largest number a geometry's field may hold; keeps products within `usize`.
const MAX_FIELD: u64 = 1 << 20;

/// Largest JSON file that is read: an index of a large model has a few MB.
const MAX_BYTES: u64 = 32 << 20;

/// Reads and parses a JSON file.
///
/// # Errors
/// It cannot be read or is not JSON.
pub(super) fn read(path: &Path) -> Result<Value, WeightsError> {
    let text = folder::read_text(path, MAX_BYTES)?;
    serde_json::from_str(&text).map_err(|e| WeightsError::Json {
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
    /// The `config.json` in a part's own folder, if it describes the part.
    ///
    /// # Errors
    /// It cannot be read, is no JSON object, or says that it is of something else.
    pub fn of_part(folder: &Path, part: &'static str) -> Result<Option<Self>, WeightsError> {
        let path = folder.join("config.json");
        if !path.exists() {
            return Ok(None);
        }
        let config = Self {
            fields: read(&path)?,
            path,
        };
        if !config.fields.is_object() {
            return Err(config.error("it is not a JSON object".into()));
        }
        let (class, wanted) = match part {
            TRANSFORMER => ("_class_name", "OvisImageTransformer2DModel"),
            VAE => ("_class_name", "AutoencoderKL"),
            TEXT_ENCODER if config.fields["llm_config"].is_object() => return Ok(Some(config)),
            _ => ("model_type", "qwen3"),
        };
        match &config.fields[class] {
            Value::Null => Ok(None),
            value if value == wanted => Ok(Some(config)),
            value => Err(config.error(format!(
                "its `{class}` is {value}, not \"{wanted}\" as a {part}'s of Ovis-Image"
            ))),
        }
    }

    /// Checks what a field says against the weights, where it says anything.
    ///
    /// # Errors
    /// It holds no positive whole number, or another one than the weights have.
    pub fn agrees(&self, field: &str, found: usize) -> Result<(), WeightsError> {
        match self.count(field, found)? == found {
            true => Ok(()),
            false => Err(self.error(format!(
                "its `{field}` is {}, and the weights beside it have {found}",
                self.fields[field]
            ))),
        }
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
    /// The field holds something else.
    pub fn count(&self, field: &str, default: usize) -> Result<usize, WeightsError> {
        match &self.fields[field] {
            Value::Null => Ok(default),
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

    /// A finite number, `default` when the field is absent or null.
    ///
    /// # Errors
    /// The field holds something else.
    pub fn number(&self, field: &str, default: f64) -> Result<f64, WeightsError> {
        match &self.fields[field] {
            Value::Null => Ok(default),
            value => value
                .as_f64()
                .filter(|number| number.is_finite())
                .ok_or_else(|| self.error(format!("its `{field}` is {value}"))),
        }
    }

    /// A finite number above zero, `default` when the field is absent or null.
    ///
    /// # Errors
    /// The field holds something else.
    pub fn positive(&self, field: &str, default: f64) -> Result<f64, WeightsError> {
        match self.number(field, default)? {
            number if number > 0.0 => Ok(number),
            number => Err(self.error(format!("its `{field}` is {number}, not above 0"))),
        }
    }
}
