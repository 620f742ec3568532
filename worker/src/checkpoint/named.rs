//! Resolves a path as a person typed it.

use std::env;
use std::path::{Path, PathBuf};

use super::error::WeightsError;
use super::{folder, hub};

/// The file or folder that a typed path means: the path itself if it exists, else one of the
/// [`readings`](as_meant) of it, else a repository in Hugging Face's cache. A folder of that
/// cache stands for the snapshot in it.
///
/// # Errors
/// [`WeightsError::NoRepository`], [`WeightsError::Address`], [`WeightsError::DeadLink`] or
/// [`WeightsError::Unreadable`] if none of these exists, or as [`hub::resolve`].
pub(super) fn resolve(typed: &Path) -> Result<PathBuf, WeightsError> {
    let meant = as_meant(typed);
    // Removes doubled and trailing slashes.
    let path: PathBuf = meant.components().collect();
    match folder::metadata(&path) {
        Ok(found) if found.is_dir() => hub::resolve(&path),
        Ok(_) => Ok(match folder::name_of(&path).as_str() {
            // A file that describes its folder stands for the folder.
            "model_index.json" | "config.json" => folder::around(&path),
            _ => path,
        }),
        Err(error) => match hub::repository(&meant) {
            Some(repository) => hub::cached(typed, &repository),
            None if is_address(typed) => Err(WeightsError::Address {
                path: typed.to_owned(),
            }),
            None => Err(error),
        },
    }
}

/// Whether a path is a web address.
fn is_address(path: &Path) -> bool {
    let text = path.to_string_lossy();
    ["http://", "https://", "hf://", "s3://"]
        .iter()
        .any(|scheme| text.starts_with(scheme))
}

/// The path as it was typed, or else its first reading that exists: without the quotes and
/// spaces around it, with the home folder and environment variables expanded, with slashes
/// for backslashes, without a trailing slash.
fn as_meant(typed: &Path) -> PathBuf {
    let Some(text) = typed.to_str().filter(|_| !typed.exists()) else {
        return typed.to_owned();
    };
    let mut text = text.trim();
    for (open, close) in [('"', '"'), ('\'', '\''), ('“', '”')] {
        let inner = text.strip_prefix(open).and_then(|t| t.strip_suffix(close));
        text = inner.unwrap_or(text).trim();
    }
    let text = text.strip_prefix("file://").unwrap_or(text);
    let expanded = expand(text, |name| env::var(name).ok());
    let slashes = expanded.replace('\\', "/");
    let readings = [text, &expanded, &slashes];
    let mut paths = readings
        .into_iter()
        .flat_map(|text| [text, text.trim_end_matches(['/', '\\'])])
        .map(PathBuf::from);
    let there = paths.find(|path| path.exists());
    there.unwrap_or_else(|| text.into())
}

/// Expands `~`, and `%NAME%`, `$NAME` and `${NAME}` where the variable is set.
fn expand(text: &str, variable: impl Fn(&str) -> Option<String>) -> String {
    let home = || variable("HOME").or_else(|| variable("USERPROFILE"));
    let mut out = String::new();
    let mut rest = text;
    if let Some(after) = rest.strip_prefix('~') {
        if after.is_empty() || after.starts_with(['/', '\\']) {
            if let Some(home) = home() {
                out.push_str(&home);
                rest = after;
            }
        }
    }
    while let Some(at) = rest.find(['%', '$']) {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let (value, length) = match reference(rest) {
            Some((name, length)) => match variable(name) {
                None if name == "USERPROFILE" || name == "HOME" => (home(), length),
                value => (value, length),
            },
            None => (None, 1),
        };
        match value {
            Some(value) => out.push_str(&value),
            None => out.push_str(&rest[..length]),
        }
        rest = &rest[length..];
    }
    out + rest
}

/// The name of the variable that a text starts with a reference to, and the length of the
/// reference.
fn reference(text: &str) -> Option<(&str, usize)> {
    if let Some(inner) = text.strip_prefix('%') {
        let end = inner.find('%').filter(|end| *end > 0)?;
        return Some((&inner[..end], end + 2));
    }
    let inner = text.strip_prefix('$')?;
    if let Some(braced) = inner.strip_prefix('{') {
        let end = braced.find('}').filter(|end| *end > 0)?;
        return Some((&braced[..end], end + 3));
    }
    let other = |c: char| !(c.is_ascii_alphanumeric() || c == '_');
    let end = inner.find(other).unwrap_or(inner.len());
    (end > 0).then_some((&inner[..end], end + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_put_in() {
        let variable = |name: &str| match name {
            "HOME" => Some("/home/ä".to_owned()),
            "M" => Some("models".to_owned()),
            _ => None,
        };
        let cases = [
            ("~/x", "/home/ä/x"),
            ("~", "/home/ä"),
            ("~user/x", "~user/x"),
            ("%USERPROFILE%\\x", "/home/ä\\x"),
            ("%M%/%M%", "models/models"),
            ("$M/${M}/$", "models/models/$"),
            ("%NO%/$NO/${NO}", "%NO%/$NO/${NO}"),
            ("100%", "100%"),
            ("%%/${}", "%%/${}"),
        ];
        for (text, wanted) in cases {
            assert_eq!(expand(text, variable), wanted);
        }
    }
}
