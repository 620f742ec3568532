//! The `config.json` beside a part's weights.

use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::Deserialize;
use serde_json::Value;

use super::error::WeightsError;
use super::fields::from_fields;
use super::json;
use super::part_names::{TEXT_ENCODER, TRANSFORMER, VAE};

/// Largest count that a config may give; keeps products of three in range.
const MAX_COUNT: u64 = 1 << 20;

/// A positive whole number of at most [`MAX_COUNT`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "u64")]
pub(super) struct Count(pub usize);

/// Why a number is refused, as the end of a sentence that has named it.
#[derive(Debug, thiserror::Error)]
pub(super) enum NumberError {
    #[error("")]
    OutOfRange,
    #[error("not above 0")]
    NotPositive,
}

impl TryFrom<u64> for Count {
    type Error = NumberError;

    fn try_from(number: u64) -> Result<Self, NumberError> {
        match number {
            1..=MAX_COUNT => Ok(Self(number as usize)),
            _ => Err(NumberError::OutOfRange),
        }
    }
}

/// A finite number above 0. JSON has no infinite ones.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(try_from = "f64")]
pub(super) struct Positive(pub f64);

impl TryFrom<f64> for Positive {
    type Error = NumberError;

    fn try_from(number: f64) -> Result<Self, NumberError> {
        match number > 0.0 {
            true => Ok(Self(number)),
            false => Err(NumberError::NotPositive),
        }
    }
}

/// The fields that say what a config describes.
#[derive(Deserialize)]
struct Identity {
    #[serde(rename = "_class_name")]
    class_name: Option<Value>,
    model_type: Option<Value>,
    llm_config: Option<Value>,
}

/// A config that describes the part beside it.
#[derive(Debug)]
pub(super) struct Config {
    path: PathBuf,
    fields: Value,
}

impl Config {
    /// The `config.json` in a part's own folder; `None` if there is none, or if it does not
    /// say what it describes.
    ///
    /// # Errors
    /// [`WeightsError::Json`] if it is no JSON object or describes something else, and the
    /// errors of opening a file.
    pub fn of_part(folder: &Path, part: &'static str) -> Result<Option<Self>, WeightsError> {
        let path = folder.join("config.json");
        if !path.exists() {
            return Ok(None);
        }
        let config = Self {
            fields: json::read(&path)?,
            path,
        };
        if !config.fields.is_object() {
            return Err(config.error("it is not a JSON object".into()));
        }
        let identity: Identity = config.read()?;
        let (field, value, wanted) = match part {
            TRANSFORMER => (
                "_class_name",
                identity.class_name,
                "OvisImageTransformer2DModel",
            ),
            VAE => ("_class_name", identity.class_name, "AutoencoderKL"),
            TEXT_ENCODER if identity.llm_config.is_some_and(|inner| inner.is_object()) => {
                return Ok(Some(config))
            }
            _ => ("model_type", identity.model_type, "qwen3"),
        };
        match value {
            None => Ok(None),
            Some(value) if value == wanted => Ok(Some(config)),
            Some(value) => Err(config.error(format!(
                "its `{field}` is {value}, not \"{wanted}\" as a {part}'s of Ovis-Image"
            ))),
        }
    }

    /// Reads the fields that a type declares; others are ignored.
    ///
    /// # Errors
    /// [`WeightsError::Json`] with the name and value of a field that does not fit its type.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, WeightsError> {
        from_fields(&self.fields).map_err(|error| self.error(error.to_string()))
    }

    /// Checks a field, where it is present, against the weights' shapes.
    ///
    /// # Errors
    /// [`WeightsError::Json`] if they differ.
    pub fn agrees(
        &self,
        field: &str,
        value: Option<Count>,
        found: usize,
    ) -> Result<(), WeightsError> {
        match value {
            Some(Count(value)) if value != found => Err(self.error(format!(
                "its `{field}` is {value}, and the weights beside it have {found}"
            ))),
            _ => Ok(()),
        }
    }

    /// A refusal that names this file.
    pub fn error(&self, reason: String) -> WeightsError {
        WeightsError::Json {
            file: self.path.clone(),
            reason,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Deserialize)]
    struct Fields {
        layers: Option<Count>,
        theta: Option<Positive>,
        shift: Option<f64>,
        axes: Option<Vec<Count>>,
        rope: Option<Box<Fields>>,
    }

    fn read(text: &str) -> Result<Fields, WeightsError> {
        let config = Config {
            path: "config.json".into(),
            fields: serde_json::from_str(text).unwrap(),
        };
        config.read()
    }

    #[test]
    fn fields_are_optional_and_others_ignored() {
        let fields = read(r#"{"layers":3,"theta":10000,"axes":[1,2],"x":[{}]}"#).unwrap();
        assert_eq!(fields.layers, Some(Count(3)));
        assert_eq!(fields.theta, Some(Positive(10_000.0)));
        assert_eq!(fields.axes, Some(vec![Count(1), Count(2)]));
        assert_eq!((fields.shift, fields.rope), (None, None));
        let fields = read(r#"{"layers":null,"shift":-1,"rope":{"theta":0.5}}"#).unwrap();
        assert_eq!((fields.layers, fields.shift), (None, Some(-1.0)));
        assert_eq!(fields.rope.unwrap().theta, Some(Positive(0.5)));
    }

    #[test]
    fn a_refusal_names_the_field_and_its_value() {
        for (text, sentence) in [
            (r#"{"layers":0}"#, "its `layers` is 0"),
            (r#"{"layers":1048577}"#, "its `layers` is 1048577"),
            (r#"{"layers":-1}"#, "its `layers` is -1"),
            (r#"{"layers":2.5}"#, "its `layers` is 2.5"),
            (r#"{"layers":"2"}"#, "its `layers` is \"2\""),
            (r#"{"layers":[2]}"#, "its `layers` is [2]"),
            (r#"{"layers":true}"#, "its `layers` is true"),
            (r#"{"theta":0}"#, "its `theta` is 0, not above 0"),
            (r#"{"theta":"x"}"#, "its `theta` is \"x\""),
            (r#"{"axes":[4,0]}"#, "its `axes` is [4,0]"),
            (r#"{"axes":"x"}"#, "its `axes` is \"x\""),
            (r#"{"rope":{"theta":-1}}"#, "its `theta` is -1, not above 0"),
            (r#"{"rope":"x"}"#, "its `rope` is \"x\""),
        ] {
            let error = read(text).expect_err(text).to_string();
            let wanted = format!("`config.json` is not usable: {sentence}");
            assert_eq!(error, wanted);
        }
    }
}
