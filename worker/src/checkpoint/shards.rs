//! Finds the files of a folder that are its weights: one file, an index and its shards, or
//! shards without an index.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::error::WeightsError;
use super::{absent, folder, json};

/// Stems of weight files: those of diffusers, and of transformers.
const STEMS: [&str; 2] = ["diffusion_pytorch_model", "model"];

/// Variants of weights in order of preference, after weights without a variant.
const VARIANTS: [&str; 3] = ["bf16", "fp16", "fp32"];

/// The way a folder stores its weights.
#[derive(Debug)]
pub(super) enum Stored {
    /// In the shards of this index.
    Index(PathBuf),
    /// In these files.
    Files(Vec<PathBuf>),
}

/// Whether a file's name is that of an index of shards.
pub(super) fn is_index(path: &Path) -> bool {
    let name = folder::name_of(path);
    name.ends_with(".json") && name.contains(".safetensors.index.")
}

/// Whether a file's name is diffusers' or transformers', so that a `config.json` beside it
/// describes it.
pub(super) fn has_library_name(path: &Path) -> bool {
    let name = folder::name_of(path);
    STEMS.iter().any(|stem| {
        let rest = name.strip_prefix(stem);
        rest.is_some_and(|rest| rest.starts_with(['.', '-']))
    })
}

/// Whether a folder has an index or a shard.
pub(super) fn has_shards(listing: &folder::Listing) -> bool {
    let mut names = listing.files.iter();
    names.any(|path| is_index(path) || is_shard(path))
}

/// Whether a file's name is that of a shard.
pub(super) fn is_shard(path: &Path) -> bool {
    shard(path).is_some()
}

/// Whether nothing exists at a path. A link to nothing does exist.
pub(super) fn is_gone(path: &Path) -> bool {
    path.symlink_metadata().is_err()
}

/// All shards of the model that a file is a shard of, by their names; `None` if it is not one
/// of several.
///
/// # Errors
/// [`WeightsError::Unfinished`] if some are missing.
pub(super) fn siblings(path: &Path) -> Result<Option<Vec<PathBuf>>, WeightsError> {
    let Some((_, total)) = shard(path).filter(|(_, total)| *total > 1) else {
        return Ok(None);
    };
    let folder = folder::around(path);
    let listing = folder::list(&folder)?;
    let of_the_same = |other: &PathBuf| {
        model_of(other) == model_of(path)
            && folder::is_gguf(other) == folder::is_gguf(path)
            && shard(other).is_some_and(|(_, n)| n == total)
    };
    let shards: Vec<_> = listing.files.into_iter().filter(of_the_same).collect();
    if shards.is_empty() {
        return Ok(None);
    }
    complete(&folder, shards).map(Some)
}

/// A sentence about a folder's index that is not used, because its shards are missing and
/// the whole weights lie beside it; `None` if there is no such index.
pub(super) fn passed_over(path: &Path) -> Option<String> {
    let files = folder::list(path).ok()?.files;
    let named: Vec<_> = files.iter().filter_map(|file| Named::of(file)).collect();
    let index = named.iter().find(|index| index.is_left_over(&named))?;
    Some(format!(
        "`{}` is left aside: shards that it names are missing, and the whole weights lie beside it",
        index.path.display()
    ))
}

/// Picks the weights of a folder. Weights without a variant precede variants, and an index
/// precedes a single file unless its shards are missing.
///
/// # Errors
/// There are no weights, a shard is missing, or [`WeightsError::Ambiguous`] if nothing decides
/// between several files.
pub(super) fn in_folder(path: &Path) -> Result<Stored, WeightsError> {
    let files = folder::list(path)?.files;
    let all: Vec<_> = files.iter().filter_map(|file| Named::of(file)).collect();
    let named: Vec<_> = all.iter().filter(|one| !one.is_left_over(&all)).collect();
    if let Some(best) = named.iter().min_by_key(|named| named.rank()) {
        let equal = named.iter().filter(|other| other.rank() == best.rank());
        let equal: Vec<_> = equal.map(|named| named.path.clone()).collect();
        return match (&equal[..], best.is_index) {
            ([index], true) => Ok(Stored::Index(index.clone())),
            ([file], false) => Ok(Stored::Files(vec![file.clone()])),
            _ => Err(ambiguous(path, equal)),
        };
    }
    // GGUF files beside safetensors are other precisions of the same weights.
    let is_weights = match files.iter().any(|file| folder::is_safetensors(file)) {
        true => folder::is_safetensors,
        false => folder::is_gguf,
    };
    let weights = files.into_iter().filter(|file| is_weights(file));
    let (shards, singles): (Vec<_>, Vec<_>) = weights.partition(|file| is_shard(file));
    match (singles.len(), shards.is_empty()) {
        (0, true) => Err(absent::refusal(path)),
        (1, true) => Ok(Stored::Files(singles)),
        (0, false) => complete(path, shards).map(Stored::Files),
        _ => Err(ambiguous(path, [singles, shards].concat())),
    }
}

/// A file whose name marks it as a folder's weights or their index.
struct Named {
    path: PathBuf,
    is_index: bool,
    variant: Option<String>,
    stem: usize,
}

impl Named {
    fn of(path: &Path) -> Option<Self> {
        let name = folder::name_of(path);
        let is_index = is_index(path);
        let body = match is_index {
            // `model.safetensors.index.fp16.json` and `model.fp16.safetensors.index.json`
            true => name.replace(".safetensors.index.", "."),
            false => name.strip_suffix(".safetensors")?.to_owned() + ".",
        };
        let body = body.strip_suffix("json").unwrap_or(&body);
        let stem = STEMS.iter().position(|stem| {
            body.strip_prefix(stem)
                .is_some_and(|rest| rest.starts_with('.'))
        });
        if (stem.is_none() && !is_index) || is_shard(path) {
            return None;
        }
        let rest = stem.map_or("", |stem| &body[STEMS[stem].len()..]);
        let variant = rest.trim_matches('.');
        Some(Self {
            path: path.to_owned(),
            is_index,
            variant: Some(variant.to_owned()).filter(|v| !v.is_empty()),
            stem: match is_index {
                true => 0,
                false => stem.unwrap_or(STEMS.len()),
            },
        })
    }

    /// Whether this is an index with a missing shard, and `all` has a whole file of the same
    /// variant.
    fn is_left_over(&self, all: &[Self]) -> bool {
        let whole = |other: &Self| !other.is_index && other.variant == self.variant;
        let folder = folder::around(&self.path);
        self.is_index
            && all.iter().any(whole)
            && read_index(&self.path)
                .is_ok_and(|map| map.values().any(|name| is_gone(&folder.join(name))))
    }

    /// Sort key, the best first.
    fn rank(&self) -> (usize, bool, usize) {
        let known = |variant: &String| VARIANTS.iter().position(|known| known == variant);
        let variant = match &self.variant {
            None => 0,
            Some(variant) => 1 + known(variant).unwrap_or(VARIANTS.len()),
        };
        (variant, !self.is_index, self.stem)
    }
}

/// The common stem of the names of one model's shards: everything before the number.
fn model_of(path: &Path) -> Option<String> {
    let name = folder::name_of(path);
    let (rest, _) = name.rsplit_once("-of-")?;
    Some(rest.rsplit_once('-')?.0.to_owned())
}

/// A shard's number and the number of shards, from `NAME-00002-of-00005.safetensors`.
fn shard(path: &Path) -> Option<(u32, u32)> {
    let name = folder::name_of(path);
    let stem = name
        .strip_suffix(".safetensors")
        .or(name.strip_suffix(".gguf"))?;
    let (rest, total) = stem.rsplit_once("-of-")?;
    let (_, number) = rest.rsplit_once('-')?;
    Some((number.parse().ok()?, total.parse().ok()?))
}

/// Checks that all shards of one model are there.
///
/// # Errors
/// [`WeightsError::Unfinished`] if one is missing, [`WeightsError::Ambiguous`] if they are of
/// several models.
fn complete(path: &Path, shards: Vec<PathBuf>) -> Result<Vec<PathBuf>, WeightsError> {
    let numbers: Vec<_> = shards.iter().filter_map(|path| shard(path)).collect();
    let totals: BTreeSet<_> = numbers.iter().map(|(_, total)| *total).collect();
    let present: BTreeSet<_> = numbers.iter().map(|(number, _)| *number).collect();
    let [total] = totals.into_iter().collect::<Vec<_>>()[..] else {
        return Err(ambiguous(path, shards));
    };
    if present.len() < numbers.len() {
        return Err(ambiguous(path, shards));
    }
    // Stops at the first missing number, however large a total a name claims.
    match (1..=total).find(|number| !present.contains(number)) {
        None => Ok(shards),
        Some(missing) => Err(WeightsError::Unfinished {
            file: path.to_owned(),
            reason: format!("of its {total} shards, number {missing} is missing"),
        }),
    }
}

/// Reads an index: the name of each tensor's shard.
///
/// # Errors
/// [`WeightsError::Json`] if it is not an index or names a file outside its folder.
pub(super) fn read_index(index: &Path) -> Result<BTreeMap<String, String>, WeightsError> {
    let wrong = |reason: String| WeightsError::Json {
        file: index.to_owned(),
        reason,
    };
    let value = json::read(index)?;
    let map = value["weight_map"]
        .as_object()
        .filter(|map| !map.is_empty())
        .ok_or_else(|| wrong("it has no `weight_map`".into()))?;
    let is_name =
        |name: &&str| !name.contains(['/', '\\', ':']) && folder::is_safetensors(Path::new(name));
    map.iter()
        .map(|(tensor, shard)| match shard.as_str().filter(is_name) {
            Some(name) => Ok((tensor.clone(), name.to_owned())),
            None => Err(wrong(format!(
                "its `weight_map` names {shard}, which is no safetensors file in the same folder"
            ))),
        })
        .collect()
}

fn ambiguous(folder: &Path, candidates: Vec<PathBuf>) -> WeightsError {
    WeightsError::Ambiguous {
        folder: folder.to_owned(),
        part: "weights",
        candidates: candidates
            .iter()
            .map(|path| folder::name_of(path).into())
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The names of the files that are picked in a folder of these files.
    fn picked(names: &[&str]) -> Result<Vec<String>, WeightsError> {
        let folder = tempfile::tempdir().unwrap();
        for name in names {
            std::fs::write(folder.path().join(name), "x").unwrap();
        }
        Ok(match in_folder(folder.path())? {
            Stored::Index(index) => vec![folder::name_of(&index)],
            Stored::Files(files) => files.iter().map(|f| folder::name_of(f)).collect(),
        })
    }

    #[test]
    fn one_is_picked_of_what_lies_side_by_side() {
        let plain = "diffusion_pytorch_model.safetensors";
        let index = "diffusion_pytorch_model.safetensors.index.json";
        let half = "diffusion_pytorch_model.fp16.safetensors";
        let half_index = "diffusion_pytorch_model.safetensors.index.fp16.json";
        let shards = [
            "x-00001-of-00002.safetensors",
            "x-00002-of-00002.safetensors",
        ];
        let cases: [(&[&str], &[&str]); 14] = [
            (&[plain, half], &[plain]),
            (&[half], &[half]),
            (
                &[half, "diffusion_pytorch_model.bf16.safetensors"],
                &["diffusion_pytorch_model.bf16.safetensors"],
            ),
            (
                &[
                    half_index,
                    "diffusion_pytorch_model.fp16-00001-of-00001.safetensors",
                ],
                &[half_index],
            ),
            (&[half_index, index], &[index]),
            (&["model.fp16.safetensors.index.json", plain], &[plain]),
            (
                &[index, "._diffusion_pytorch_model.safetensors.index.json"],
                &[index],
            ),
            (&["ae.safetensors", "._ae.safetensors"], &["ae.safetensors"]),
            (&["ae.sft"], &["ae.sft"]),
            (&shards, &shards),
            (&["x-Q8_0.gguf"], &["x-Q8_0.gguf"]),
            (&["x-Q8_0.gguf", "x.safetensors"], &["x.safetensors"]),
            (
                &["x-00001-of-00002.gguf", "x-00002-of-00002.gguf"],
                &["x-00001-of-00002.gguf", "x-00002-of-00002.gguf"],
            ),
            (&["model.safetensors", plain], &[plain]),
        ];
        for (names, wanted) in cases {
            assert_eq!(picked(names).unwrap(), wanted, "{names:?}");
        }
    }

    #[test]
    fn what_cannot_be_picked_is_said() {
        let cases: [(&[&str], &str); 6] = [
            (&["a.safetensors", "b.safetensors"], "several files"),
            (&["a-Q4_0.gguf", "a-Q8_0.gguf"], "several files"),
            (
                &[
                    "x-00001-of-00003.safetensors",
                    "x-00003-of-00003.safetensors",
                ],
                "number 2 is missing",
            ),
            (
                &["x-00001-of-4294967295.safetensors"],
                "number 2 is missing",
            ),
            (
                &["a-1-of-1.safetensors", "b-1-of-1.safetensors"],
                "several files",
            ),
            (&["readme.md"], "`readme.md`"),
        ];
        for (names, words) in cases {
            let refusal = picked(names).expect_err(words).to_string();
            assert!(refusal.contains(words), "{refusal}");
        }
    }
}
