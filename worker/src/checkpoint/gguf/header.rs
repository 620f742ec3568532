//! The header of a GGUF file.

use std::collections::BTreeMap;
use std::path::Path;

use super::super::error::WeightsError;
use super::super::source::TensorEntry;
use super::cursor::{Cursor, Reason};
use super::metadata::read_number;
use super::place::Place;
use super::writer::{ALIGNMENT, MAGIC};

/// Versions of the format that are read. They differ in nothing that is read here.
const VERSIONS: [u32; 2] = [2, 3];

/// Least bytes of a metadata entry: a key's length, a type and a byte.
const LEAST_ENTRY: usize = 13;

/// What a header says.
#[derive(Debug)]
pub struct Header {
    /// Tensors by name. The byte range of each counts from the file's start.
    pub tensors: BTreeMap<String, TensorEntry>,
    /// The metadata's values that are single numbers, by key.
    pub numbers: BTreeMap<String, f64>,
}

/// Reads the header of a whole file's bytes.
///
/// # Errors
/// The version is not read, the header contradicts itself, or the file is truncated.
pub fn parse(path: &Path, file: &[u8]) -> Result<Header, WeightsError> {
    let (places, numbers, data) = read(file).map_err(|reason| WeightsError::BadHeader {
        file: path.to_owned(),
        reason,
    })?;
    let last = places.iter().max_by_key(|place| place.start + place.length);
    if let Some(last) = last {
        let needed = (data as u64).saturating_add(last.start + last.length);
        if needed > file.len() as u64 {
            return Err(WeightsError::Truncated {
                file: path.to_owned(),
                tensor: last.name.to_owned(),
                needed,
                present: file.len() as u64,
            });
        }
    }
    let entries = places.into_iter().map(|place| {
        let start = data + place.start as usize;
        let entry = TensorEntry {
            name: place.name.to_owned(),
            stored: place.kind.stored,
            shape: place.shape,
            bytes: start..start + place.length as usize,
        };
        (entry.name.clone(), entry)
    });
    Ok(Header {
        tensors: entries.collect(),
        numbers,
    })
}

type Contents<'a> = (Vec<Place<'a>>, BTreeMap<String, f64>, usize);

/// Reads the tensors' descriptions, the metadata's numbers, and where the data starts.
fn read(file: &[u8]) -> Result<Contents<'_>, Reason> {
    let mut cursor = Cursor::new(file);
    if cursor.take(MAGIC.len() as u64)? != MAGIC {
        return Err("it does not begin with GGUF".into());
    }
    check_version(cursor.u32()?)?;
    let tensors = cursor.count("tensors", Place::LEAST)?;
    let entries = cursor.count("metadata entries", LEAST_ENTRY)?;
    let mut numbers = BTreeMap::new();
    for _ in 0..entries {
        let key = cursor.name("metadata entry")?;
        if let Some(number) = read_number(&mut cursor)? {
            if numbers.insert(key.to_owned(), number).is_some() {
                return Err(format!("it has the metadata entry `{key}` twice"));
            }
        }
    }
    let alignment = alignment(numbers.get("general.alignment").copied())?;
    // Grows with what is read, not with the number that the file claims.
    let mut places = Vec::new();
    for _ in 0..tensors {
        places.push(Place::read(&mut cursor)?);
    }
    check_places(&places, alignment)?;
    let data = cursor.at().next_multiple_of(alignment as usize);
    Ok((places, numbers, data))
}

fn check_version(version: u32) -> Result<(), Reason> {
    if VERSIONS.contains(&version) {
        return Ok(());
    }
    Err(match VERSIONS.contains(&version.swap_bytes()) {
        true => "it is in big-endian order, and only little-endian files are read".into(),
        false => format!("it is of GGUF version {version}, and versions 2 and 3 are read"),
    })
}

/// The alignment of the data.
fn alignment(number: Option<f64>) -> Result<u64, Reason> {
    const MAX: f64 = 65_536.0;
    match number {
        None => Ok(ALIGNMENT),
        Some(number) if (1.0..=MAX).contains(&number) && (number as u64).is_power_of_two() => {
            Ok(number as u64)
        }
        Some(number) => Err(format!(
            "its alignment is {number}, not a power of two up to {MAX}"
        )),
    }
}

/// Checks that names are unique, and that tensors are aligned and do not overlap.
fn check_places(places: &[Place], alignment: u64) -> Result<(), Reason> {
    let mut names: Vec<_> = places.iter().map(|place| place.name).collect();
    names.sort_unstable();
    if let Some(twin) = names.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(format!("it names tensor `{}` twice", twin[0]));
    }
    let mut by_start: Vec<_> = places.iter().collect();
    by_start.sort_by_key(|place| (place.start, place.length));
    let mut end = 0;
    for place in by_start {
        let (name, start) = (place.name, place.start);
        if !start.is_multiple_of(alignment) {
            return Err(format!(
                "tensor `{name}` starts at byte {start} of the data, no multiple of {alignment}"
            ));
        }
        if start < end {
            return Err(format!(
                "tensor `{name}` starts at byte {start} of the data, the one before it ends at {end}"
            ));
        }
        end = start
            .checked_add(place.length)
            .filter(|end| i64::try_from(*end).is_ok())
            .ok_or_else(|| format!("tensor `{name}` cannot lie at byte {start} of the data"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
