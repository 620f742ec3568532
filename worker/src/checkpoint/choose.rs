//! Chooses one of several candidates for a part.

use std::path::{Path, PathBuf};

use super::error::WeightsError;
use super::folder::{self, Skipped};
use super::foreign::Foreign;
use super::layout::Places;
use super::part::PartTensors;
use super::part_names::{TEXT_ENCODER, TRANSFORMER};
use super::{shards, text, vae_others};

/// Candidates that were not used, and notes on the choice for the person who made it.
pub(super) struct Chosen {
    pub skipped: Vec<Skipped>,
    pub notes: Vec<String>,
}

/// Opens the candidate that is the part. A path that a person named must be the part. Among
/// the results of a search, files of other models are skipped, copies count once, and the
/// best match is taken.
///
/// # Errors
/// The error of a named path; after a search without a usable candidate, the error of the
/// one that was most likely meant.
pub(super) fn choose<C>(
    places: &Places,
    part: &'static str,
    chosen: &mut Chosen,
    open: impl Fn(&Path) -> Result<(PartTensors, C), WeightsError>,
) -> Result<Option<(PartTensors, C)>, WeightsError> {
    if !places.searched {
        let Some(path) = places.candidates.first() else {
            return Ok(None);
        };
        let opened = open(path)?;
        chosen.notes.extend(note_of_index(path));
        if let Some(error) = vae_others::by_name(path, part) {
            chosen
                .notes
                .push(format!("{error}; it is taken, since it was named"));
        }
        return Ok(Some(opened));
    }
    let mut good = Vec::new();
    let mut refused: Option<(u8, WeightsError)> = None;
    for path in &places.candidates {
        match open_found(path, part, &open) {
            Ok(opened) => good.push((path, opened)),
            Err(error) => {
                chosen.skipped.push(Skipped {
                    path: path.clone(),
                    reason: error.to_string(),
                });
                let rank = blame(path, &error);
                if rank > refused.as_ref().map_or(0, |(rank, _)| *rank) {
                    refused = Some((rank, error));
                }
            }
        }
    }
    good.sort_by_key(|(path, (tensors, _))| rank(path, part, tensors));
    let mut good = good.into_iter();
    let Some((path, best)) = good.next() else {
        return refused.map_or(Ok(None), |(_, error)| Err(error));
    };
    chosen.notes.extend(note_of_index(path));
    for (other, (tensors, _)) in good {
        let reason = match best.0.is_same(&tensors) {
            true => format!(
                "`{}` has the same bytes as `{}`",
                other.display(),
                path.display()
            ),
            false => {
                let flag = part.to_lowercase().replace(' ', "-");
                let sentence = format!(
                    "`{}` is the better match for the {part} than `{}`; --{flag} names another",
                    path.display(),
                    other.display()
                );
                chosen.notes.push(text::sentence(&sentence));
                sentence
            }
        };
        chosen.skipped.push(Skipped {
            path: other.clone(),
            reason: text::sentence(&reason),
        });
    }
    Ok(Some(best))
}

/// The note on an index in a part's folder that was not used.
fn note_of_index(path: &Path) -> Option<String> {
    let note = shards::passed_over(path).filter(|_| path.is_dir());
    note.map(|note| text::sentence(&note))
}

/// Opens a file that a search found, unless its name says that it is another model's.
///
/// # Errors
/// [`WeightsError::NotSafetensors`], [`WeightsError::OtherByName`], or those of `open`.
fn open_found<T>(
    path: &Path,
    part: &'static str,
    open: impl Fn(&Path) -> Result<T, WeightsError>,
) -> Result<T, WeightsError> {
    if folder::is_foreign_weights(path) {
        return Err(WeightsError::NotSafetensors {
            file: path.to_owned(),
            kind: folder::format_of(path).unwrap_or(Foreign::Pickle),
        });
    }
    let opened = open(path)?;
    vae_others::by_name(path, part).map_or(Ok(opened), Err)
}

/// How likely a refused file is the one that was meant: 0 for an intact file of another
/// model.
fn blame(path: &Path, error: &WeightsError) -> u8 {
    let damaged = match error {
        WeightsError::Truncated { .. }
        | WeightsError::BadHeader { .. }
        | WeightsError::Unfinished { .. }
        | WeightsError::Unreadable { .. }
        | WeightsError::DeadLink { .. }
        | WeightsError::OtherByName { .. } => true,
        // Intact files of another format mostly belong to other models.
        WeightsError::NotSafetensors { kind, .. } => {
            !matches!(kind, Foreign::Pickle | Foreign::Zip)
        }
        _ => false,
    };
    match (named_like_ours(path), damaged) {
        (true, _) => 2,
        (false, true) => 1,
        (false, false) => 0,
    }
}

/// Whether a file's name is one of the releases'.
fn named_like_ours(path: &Path) -> bool {
    let name = folder::name_of(path).to_ascii_lowercase();
    name.contains("ovis") || matches!(&name[..], "ae.safetensors" | "ae.sft")
}

/// Sort key of usable candidates, the best first: names of the releases before those of the
/// same family and others, then the published types before others, then the shortest path.
fn rank(path: &Path, part: &str, tensors: &PartTensors) -> (u8, usize, usize, PathBuf) {
    let name = folder::name_of(path).to_ascii_lowercase();
    let family = match part {
        TRANSFORMER => "ovis",
        TEXT_ENCODER => "qwen3",
        _ => "flux",
    };
    let dtypes = ["BF16", "F32", "F16", "F64"];
    let stored = tensors.dtypes().into_iter().next().unwrap_or_default();
    (
        match (named_like_ours(path), name.contains(family)) {
            (true, _) => 0,
            (false, true) => 1,
            (false, false) => 2,
        },
        dtypes
            .iter()
            .position(|d| *d == stored)
            .unwrap_or(dtypes.len()),
        path.components().count(),
        path.to_owned(),
    )
}
