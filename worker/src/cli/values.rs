//! Parsers for the values of arguments. Each error says which values the argument takes.

use std::error::Error;
use std::ffi::OsString;
use std::fmt::Display;
use std::str::FromStr;

use clap::builder::{OsStringValueParser, TypedValueParser};

use crate::pipeline::{parse_bytes, NotBytes};

/// Largest width or height of an image in pixels.
const MAX_SIDE: usize = 16_384;

/// A number of bytes, or `None` for `auto`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AutoOrBytes(pub Option<u64>);

/// Parses `auto` or a size. A blank value, as an environment variable may have, means `auto`.
///
/// # Errors
/// The text is something else.
pub fn auto_or_bytes(text: &str) -> Result<AutoOrBytes, NotBytes> {
    match text.trim() {
        "" | "auto" => Ok(AutoOrBytes(None)),
        text => Ok(AutoOrBytes(Some(parse_bytes(text)?))),
    }
}

/// Why a value was refused. The text is a clause that follows the value: `--steps is `x`: ...`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ValueError {
    /// The value is not valid Unicode.
    #[error("it is not UTF-8 text")]
    NotUnicode,
    /// Digits only, but the number does not fit the type.
    #[error("it is too large")]
    TooLarge,
    /// Not an unsigned integer.
    #[error("it is not a whole number from 0 on, written in digits 0 to 9")]
    NotWhole,
    /// Not an integer of the range.
    #[error("it is not a whole number from {least} to {most}")]
    NotWithin {
        /// The smallest value, as text.
        least: String,
        /// The largest value, as text.
        most: String,
    },
    /// Not a floating-point number.
    #[error("it is not a number such as 5 or 4.5")]
    NotNumber,
    /// Not a seed.
    #[error("seeds are whole numbers from 0 to {} (2^64 - 1)", u64::MAX)]
    NotSeed,
    /// Neither `auto` nor a number.
    #[error("it is neither `auto` nor a number")]
    NotShift,
    /// Not a duration.
    #[error("it is a number of seconds from 0 to 86400")]
    NotSeconds,
    /// Neither `auto`, `off` nor a duration.
    #[error("it is neither `auto`, `off` nor a number of seconds above 0 and up to 86400")]
    NotWatchdog,
    /// Neither `off` nor a duration.
    #[error("it is neither `off` nor a number of seconds above 0 and up to 86400")]
    NotIdle,
    /// Not a speed.
    #[error("it is not a number a second, such as 25G or 100T")]
    NotSpeed,
    /// Not a pair of sigmas.
    #[error("it is not two numbers with a comma, such as 0.9,0.2")]
    NotInterval,
    /// Not a list of numbers.
    #[error("it is not a list of numbers with commas, such as 1,0.5,0")]
    NotNumbers,
}

/// Text of any kind, as long as it is valid Unicode.
pub fn text() -> impl TypedValueParser<Value = String> {
    parsed(|text| Ok::<_, ValueError>(text.to_owned()))
}

/// An unsigned integer. The command itself checks its range.
pub fn whole<T>() -> impl TypedValueParser<Value = T>
where
    T: FromStr + Clone + Send + Sync + 'static,
{
    parsed(|text| {
        text.parse().map_err(|_| match is_digits(text) {
            true => ValueError::TooLarge,
            false => ValueError::NotWhole,
        })
    })
}

/// Parses a duration in seconds, from zero to a day.
///
/// # Errors
/// The text is no such number.
pub fn seconds(text: &str) -> Result<f64, ValueError> {
    match text.parse::<f64>() {
        Ok(seconds) if (0.0..=86_400.0).contains(&seconds) => Ok(seconds),
        _ => Err(ValueError::NotSeconds),
    }
}

/// Parses a speed with powers of 1000: `25G`, `100T`, `12e9`.
///
/// # Errors
/// The text is no such number.
pub fn speed(text: &str) -> Result<f64, ValueError> {
    let text = text.trim();
    let unit = text.chars().last().map(|unit| unit.to_ascii_uppercase());
    let factor = match unit {
        Some('M') => 1e6,
        Some('G') => 1e9,
        Some('T') => 1e12,
        _ => 1.0,
    };
    let digits = if factor > 1.0 {
        &text[..text.len() - 1]
    } else {
        text
    };
    match digits.trim().parse::<f64>() {
        Ok(number) if (1.0..1e18).contains(&(number * factor)) => Ok(number * factor),
        _ => Err(ValueError::NotSpeed),
    }
}

/// An integer from `least` to `most`.
pub fn whole_within<T>(least: T, most: T) -> impl TypedValueParser<Value = T>
where
    T: FromStr + Ord + Display + Clone + Send + Sync + 'static,
{
    parsed(move |text| match text.parse::<T>() {
        Ok(value) if least <= value && value <= most => Ok(value),
        _ => Err(ValueError::NotWithin {
            least: least.to_string(),
            most: most.to_string(),
        }),
    })
}

/// Width or height of an image in pixels.
pub fn side() -> impl TypedValueParser<Value = usize> {
    whole_within(16, MAX_SIDE)
}

/// A floating-point number, which may be infinite or NaN. The command itself checks its range.
pub fn number() -> impl TypedValueParser<Value = f64> {
    parsed(|text| text.parse().map_err(|_| ValueError::NotNumber))
}

/// Applies `read` to a value that is valid Unicode.
pub fn parsed<T, E>(
    read: impl Fn(&str) -> Result<T, E> + Clone + Send + Sync + 'static,
) -> impl TypedValueParser<Value = T>
where
    T: Clone + Send + Sync + 'static,
    E: Into<Box<dyn Error + Send + Sync>> + 'static,
{
    OsStringValueParser::new().try_map(move |given: OsString| match given.to_str() {
        Some(text) => read(text).map_err(Into::into),
        None => Err(ValueError::NotUnicode.into()),
    })
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use clap::{Arg, Command};

    use super::*;

    /// What a parser makes of a value, or its error's clause.
    fn given<P: TypedValueParser>(parser: P, value: &str) -> Result<P::Value, ValueError>
    where
        P::Value: PartialEq,
    {
        let command = Command::new("x");
        let argument = Arg::new("value");
        let parsed = parser.parse_ref(&command, Some(&argument), value.as_ref());
        parsed.map_err(|error| {
            let source = Error::source(&error).and_then(|source| source.downcast_ref());
            ValueError::clone(source.unwrap())
        })
    }

    #[test]
    fn integers_say_what_they_take() {
        assert_eq!(given(whole::<u32>(), "50"), Ok(50));
        assert_eq!(
            given(whole::<u32>(), "4294967296"),
            Err(ValueError::TooLarge)
        );
        for text in ["", " ", "-3", "1.5", "0x10", "５"] {
            assert_eq!(given(whole::<u32>(), text), Err(ValueError::NotWhole));
        }
        assert_eq!(given(side(), "16"), Ok(16));
        for text in ["15", "16385", "x"] {
            let error = given(side(), text).unwrap_err();
            assert_eq!(
                error.to_string(),
                "it is not a whole number from 16 to 16384"
            );
        }
    }

    #[test]
    fn numbers_may_be_infinite() {
        assert_eq!(given(number(), "4.5"), Ok(4.5));
        assert_eq!(given(number(), "-inf"), Ok(f64::NEG_INFINITY));
        assert_eq!(given(number(), "five"), Err(ValueError::NotNumber));
    }

    #[test]
    fn speeds_have_powers_of_a_thousand() {
        assert_eq!(speed("25G"), Ok(25e9));
        assert_eq!(speed("12e9"), Ok(12e9));
        assert_eq!(speed("1.5 T"), Ok(1.5e12));
        for text in ["", "G", "-1G", "x", "0"] {
            assert_eq!(speed(text), Err(ValueError::NotSpeed), "{text}");
        }
    }

    #[test]
    fn a_budget_is_auto_or_a_size() {
        assert_eq!(auto_or_bytes("auto"), Ok(AutoOrBytes(None)));
        assert_eq!(auto_or_bytes(" "), Ok(AutoOrBytes(None)));
        assert_eq!(auto_or_bytes("12GB"), Ok(AutoOrBytes(Some(12 << 30))));
        assert_eq!(
            auto_or_bytes("16376MiB"),
            Ok(AutoOrBytes(Some(16_376 << 20)))
        );
        assert_eq!(auto_or_bytes("much"), Err(NotBytes));
    }
}
