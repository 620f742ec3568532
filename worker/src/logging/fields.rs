//! Collects the fields of an event or a span, within a size limit.

use std::fmt::{self, Write as _};

use serde_json::Value;
use tracing::field::{Field, Visit};

use crate::text::{quoted, Bounded};

/// Most bytes of one value, escape sequences included.
const MAX_VALUE: usize = 1 << 10;

/// Most bytes of all values of one event or span.
const MAX_VALUES: usize = 4 << 10;

/// The message and the fields of an event or a span.
pub struct Fields {
    /// The event's message; empty for a span.
    pub message: String,
    /// The other fields, in the order in which they were recorded.
    pub values: Vec<(&'static str, Value)>,
    /// Bytes left of [`MAX_VALUES`].
    left: usize,
}

impl Default for Fields {
    fn default() -> Self {
        Self {
            message: String::new(),
            values: Vec::new(),
            left: MAX_VALUES,
        }
    }
}

impl Fields {
    /// Fields with a message only.
    pub fn saying(message: &str) -> Self {
        Self {
            message: message.to_owned(),
            ..Self::default()
        }
    }

    fn push(&mut self, field: &Field, value: Value) {
        let known = self
            .values
            .iter_mut()
            .find(|(name, _)| *name == field.name());
        match known {
            Some((_, old)) => *old = value,
            None => self.values.push((field.name(), value)),
        }
    }

    fn push_text(&mut self, field: &Field, text: fmt::Arguments<'_>) {
        let mut bounded = Bounded::new(MAX_VALUE.min(self.left));
        // `Bounded` accepts every write; an error can only come from the value's own formatting.
        let _ = bounded.write_fmt(text);
        let (text, cost) = bounded.finish();
        self.left -= cost;
        match field.name() {
            "message" => self.message = text,
            _ => self.push(field, Value::String(text)),
        }
    }

    /// `key=value` for each value, with spaces between.
    pub fn as_text(&self) -> String {
        let pairs: Vec<_> = self
            .values
            .iter()
            .map(|(name, value)| match value {
                Value::String(text) => format!("{name}={}", quoted(text)),
                other => format!("{name}={other}"),
            })
            .collect();
        pairs.join(" ")
    }
}

impl Visit for Fields {
    fn record_f64(&mut self, field: &Field, value: f64) {
        match serde_json::Number::from_f64(value) {
            Some(number) => self.push(field, Value::Number(number)),
            None => self.push_text(field, format_args!("{value}")),
        }
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.push(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.push(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.push(field, value.into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.push_text(field, format_args!("{value}"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.push_text(field, format_args!("{value:?}"));
    }
}
