//! Deserializes the fields of a JSON object with errors that name the field and its value.
//!
//! serde's own errors say which type was expected, but neither which field was wrong nor what
//! a person wrote there.

use std::fmt;

use serde::de::value::{MapDeserializer, SeqDeserializer};
use serde::de::{DeserializeOwned, Deserializer, Error, IntoDeserializer, Unexpected, Visitor};
use serde::forward_to_deserialize_any;
use serde_json::Value;

/// Deserializes a type from a JSON object.
///
/// # Errors
/// A field does not fit its type.
pub(super) fn from_fields<T: DeserializeOwned>(object: &Value) -> Result<T, FieldError> {
    T::deserialize(Field {
        name: None,
        value: object,
    })
}

/// Why an object's field does not fit its type.
#[derive(Debug)]
pub(super) enum FieldError {
    /// A whole sentence that names the field.
    Named(String),
    /// A reason, perhaps empty, to be put behind the field's name and value.
    Unnamed(String),
}

impl FieldError {
    fn of(self, field: Field) -> Self {
        match (self, field.name) {
            (Self::Unnamed(reason), Some(name)) => {
                let comma = if reason.is_empty() { "" } else { ", " };
                Self::Named(format!("its `{name}` is {}{comma}{reason}", field.value))
            }
            (error, _) => error,
        }
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Named(text) | Self::Unnamed(text) => f.write_str(text),
        }
    }
}

impl std::error::Error for FieldError {}

impl Error for FieldError {
    fn custom<T: fmt::Display>(reason: T) -> Self {
        Self::Unnamed(reason.to_string())
    }

    // The words for these would name this program's types.
    fn invalid_type(_: Unexpected, _: &dyn serde::de::Expected) -> Self {
        Self::Unnamed(String::new())
    }

    fn invalid_value(_: Unexpected, _: &dyn serde::de::Expected) -> Self {
        Self::Unnamed(String::new())
    }

    fn invalid_length(_: usize, _: &dyn serde::de::Expected) -> Self {
        Self::Unnamed(String::new())
    }
}

/// A value, and the name of the field that it is; an element of a list has none, so that its
/// error is named after the list.
#[derive(Clone, Copy)]
struct Field<'a> {
    name: Option<&'a str>,
    value: &'a Value,
}

impl<'a> Field<'a> {
    fn visit<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, FieldError> {
        match self.value {
            Value::Null => visitor.visit_unit(),
            Value::Bool(value) => visitor.visit_bool(*value),
            Value::Number(value) => match (value.as_u64(), value.as_i64(), value.as_f64()) {
                (Some(value), _, _) => visitor.visit_u64(value),
                (_, Some(value), _) => visitor.visit_i64(value),
                (_, _, Some(value)) => visitor.visit_f64(value),
                _ => Err(FieldError::Unnamed(String::new())),
            },
            Value::String(value) => visitor.visit_str(value),
            Value::Array(values) => {
                let elements = values.iter().map(|value| Field { name: None, value });
                let mut elements = SeqDeserializer::new(elements);
                let value = visitor.visit_seq(&mut elements)?;
                elements.end()?;
                Ok(value)
            }
            Value::Object(fields) => {
                let fields = fields.iter().map(|(name, value)| {
                    let name = &name[..];
                    (
                        name,
                        Field {
                            name: Some(name),
                            value,
                        },
                    )
                });
                let mut fields = MapDeserializer::new(fields);
                let value = visitor.visit_map(&mut fields)?;
                fields.end()?;
                Ok(value)
            }
        }
    }
}

impl<'de> IntoDeserializer<'de, FieldError> for Field<'_> {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

impl<'de> Deserializer<'de> for Field<'_> {
    type Error = FieldError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, FieldError> {
        self.visit(visitor).map_err(|error| error.of(self))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, FieldError> {
        match self.value {
            Value::Null => visitor.visit_none(),
            // A type's own check fails inside, after the value itself was read.
            _ => visitor.visit_some(self).map_err(|error| error.of(self)),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, FieldError> {
        let value = visitor.visit_newtype_struct(self);
        value.map_err(|error| error.of(self))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf
        unit unit_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}
