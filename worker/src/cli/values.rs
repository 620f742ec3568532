//! Values of arguments, read with sentences that say what they should have been.

use std::ffi::OsString;
use std::fmt::Display;
use std::str::FromStr;

use clap::builder::{OsStringValueParser, TypedValueParser};

/// Text. Whatever it is, it must be Unicode.
pub fn text() -> impl TypedValueParser<Value = String> {
    parsed(|text| Ok(text.to_owned()))
}

/// A whole number; what it is for says which it takes.
pub fn whole<T>() -> impl TypedValueParser<Value = T>
where
    T: FromStr + Clone + Send + Sync + 'static,
{
    parsed(|text| {
        text.parse().map_err(|_| match is_digits(text) {
            true => "it is too large".to_owned(),
            false => "it is not a whole number from 0 on, written in digits 0 to 9".to_owned(),
        })
    })
}

/// A whole number from `least` to `most`.
pub fn whole_within<T>(least: T, most: T) -> impl TypedValueParser<Value = T>
where
    T: FromStr + Ord + Display + Clone + Send + Sync + 'static,
{
    parsed(move |text| match text.parse::<T>() {
        Ok(value) if least <= value && value <= most => Ok(value),
        _ => Err(format!("it is not a whole number from {least} to {most}")),
    })
}

/// A number with a decimal point, also one that is not finite; what it is for says which
/// it takes.
pub fn number() -> impl TypedValueParser<Value = f64> {
    parsed(|text| {
        text.parse()
            .map_err(|_| "it is not a number such as 5 or 4.5".to_owned())
    })
}

/// What `read` makes of Unicode text.
pub fn parsed<T: Clone + Send + Sync + 'static>(
    read: impl Fn(&str) -> Result<T, String> + Clone + Send + Sync + 'static,
) -> impl TypedValueParser<Value = T> {
    OsStringValueParser::new().try_map(move |given: OsString| match given.to_str() {
        Some(text) => read(text),
        None => Err("it is not UTF-8 text".to_owned()),
    })
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}
