//! Reads the small JSON files beside weights.

use std::path::Path;

use serde_json::Value;

use super::error::WeightsError;
use super::folder;

/// Largest JSON file that is read. The index of a large model has a few MB.
const MAX_BYTES: u64 = 32 << 20;

/// Reads and parses a JSON file.
///
/// # Errors
/// [`WeightsError::Json`] if it is too large or not JSON, and the errors of opening a file.
pub(super) fn read(path: &Path) -> Result<Value, WeightsError> {
    let text = folder::read_text(path, MAX_BYTES)?;
    serde_json::from_str(&text).map_err(|e| WeightsError::Json {
        file: path.to_owned(),
        reason: format!("it is not JSON ({e})"),
    })
}
