//! Values of a report as text for a terminal.

use serde_json::Value;

use crate::checkpoint::shown;

/// A value on one line, with control characters escaped.
pub fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), shown)
}

/// A value, or the values of a list with commas, as [`plain`].
pub fn plain_list(value: &Value) -> String {
    match value {
        Value::Array(values) => values.iter().map(plain).collect::<Vec<_>>().join(", "),
        value => plain(value),
    }
}

/// A number of parameters, in millions or billions.
pub fn parameters(value: &Value) -> String {
    match value.as_f64().unwrap_or(0.0) {
        n if n >= 1e9 => format!("{:.2} B", n / 1e9),
        n if n >= 1e6 => format!("{:.1} M", n / 1e6),
        _ => value.to_string(),
    }
}

/// A number of bytes, in a fitting unit.
pub fn bytes(value: &Value) -> String {
    match value.as_f64().unwrap_or(0.0) {
        n if n >= 1e9 => format!("{:.2} GB", n / 1e9),
        n if n >= 1e6 => format!("{:.1} MB", n / 1e6),
        _ => format!("{value} bytes"),
    }
}
