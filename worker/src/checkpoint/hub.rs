//! Finds repositories in Hugging Face's cache on this machine. Nothing is downloaded.
//!
//! A cache contains `models--OWNER--NAME/` with `blobs/`, `refs/main`, whose text is the name
//! of a revision, and `snapshots/REVISION/`, whose files are links to blobs.
//!
//! Source: huggingface_hub `constants.py` and `file_download.py`.

use std::env;
use std::path::{Path, PathBuf};

use super::error::WeightsError;
use super::folder;

/// The folder of the repository that published the model.
const PUBLISHED: &str = "models--AIDC-AI--Ovis-Image-7B";

/// Maximum size of `refs/main` in bytes.
const MAX_REVISION: u64 = 128;

/// The repository name `OWNER/NAME` in a path or address that has the form of one.
pub(super) fn repository(path: &Path) -> Option<String> {
    let text = path.to_str()?;
    let text = ["https://huggingface.co/", "https://hf.co/", "hf://"]
        .iter()
        .find_map(|host| text.strip_prefix(host))
        .unwrap_or(text);
    let is_name = |name: &str| {
        !name.is_empty()
            && name.len() <= 96
            && !name.starts_with(['.', '-'])
            && name
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
    };
    let (owner, name) = text.trim_end_matches('/').split_once('/')?;
    (is_name(owner) && is_name(name)).then(|| format!("{owner}/{name}"))
}

/// The caches on this machine, in huggingface_hub's order of preference.
fn caches() -> Vec<PathBuf> {
    let set = |name: &str| env::var_os(name).filter(|value| !value.is_empty());
    let home = set("HOME")
        .or_else(|| set("USERPROFILE"))
        .map(PathBuf::from);
    let xdg = set("XDG_CACHE_HOME").map(PathBuf::from);
    let places = [
        set("HF_HUB_CACHE").map(PathBuf::from),
        set("HUGGINGFACE_HUB_CACHE").map(PathBuf::from),
        set("HF_HOME").map(|hf| PathBuf::from(hf).join("hub")),
        xdg.or(home.map(|home| home.join(".cache")))
            .map(|cache| cache.join("huggingface/hub")),
    ];
    places
        .into_iter()
        .flatten()
        .filter(|cache| cache.is_dir())
        .collect()
}

/// The snapshot of a repository in this machine's caches. `path` is what a person typed.
///
/// # Errors
/// [`WeightsError::NoRepository`] if no cache has it, or as [`snapshot`].
pub(super) fn cached(path: &Path, repository: &str) -> Result<PathBuf, WeightsError> {
    let caches = caches();
    let name = format!("models--{}", repository.replace('/', "--"));
    match caches
        .iter()
        .map(|cache| cache.join(&name))
        .find(|p| p.is_dir())
    {
        Some(found) => snapshot(&found),
        None => Err(WeightsError::NoRepository {
            path: path.to_owned(),
            caches,
        }),
    }
}

/// The snapshot that a folder of a cache stands for; any other folder stands for itself.
///
/// # Errors
/// [`WeightsError::Ambiguous`] if a cache has several repositories of Ovis-Image, or as
/// [`snapshot`].
pub(super) fn resolve(path: &Path) -> Result<PathBuf, WeightsError> {
    let has = |name: &str| path.join(name).is_dir();
    if has("snapshots") && (is_repository(path) || has("blobs")) {
        return snapshot(path);
    }
    if folder::name_of(path) == "snapshots" {
        if let Some(repository) = path.parent().filter(|p| is_repository(p)) {
            return snapshot(repository);
        }
    }
    for cache in [path.to_owned(), path.join("hub")] {
        let Ok(listing) = folder::list(&cache) else {
            continue;
        };
        let repositories = listing.folders.iter().filter(|p| is_repository(p));
        let ours: Vec<_> = repositories
            .filter(|path| {
                let name = folder::name_of(path).to_ascii_lowercase();
                name.contains("ovis") && name.contains("image")
            })
            .cloned()
            .collect();
        let published = ours.iter().find(|path| path.ends_with(PUBLISHED));
        match (&ours[..], published) {
            ([], _) => {}
            (_, Some(one)) | ([one], _) => return snapshot(one),
            _ => {
                return Err(WeightsError::Ambiguous {
                    folder: cache,
                    part: "model",
                    candidates: ours,
                })
            }
        }
    }
    Ok(path.to_owned())
}

/// Whether a folder's name is that of a cached repository.
fn is_repository(path: &Path) -> bool {
    folder::name_of(path).starts_with("models--")
}

/// The revision of a repository that `refs/main` names, or the only one there is.
///
/// # Errors
/// [`WeightsError::Unfinished`] if that revision is absent, [`WeightsError::Ambiguous`] if
/// there are several and no `refs/main`.
fn snapshot(repository: &Path) -> Result<PathBuf, WeightsError> {
    let unfinished = |reason: String| WeightsError::Unfinished {
        file: repository.to_owned(),
        reason,
    };
    let snapshots = repository.join("snapshots");
    let main = repository.join("refs").join("main");
    if main.is_file() {
        let text = folder::read_text(&main, MAX_REVISION)?;
        let revision = text.trim();
        let is_name = !revision.is_empty()
            && revision
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "-_".contains(c));
        if !is_name {
            return Err(unfinished(format!(
                "its refs/main names no revision, but `{revision}`"
            )));
        }
        let found = snapshots.join(revision);
        return match found.is_dir() {
            true => Ok(found),
            false => Err(unfinished(format!(
                "refs/main names the revision {revision}, which is not in snapshots"
            ))),
        };
    }
    let found = folder::list(&snapshots).map(|listing| listing.folders);
    match found.unwrap_or_default().as_slice() {
        [one] => Ok(one.clone()),
        [] => Err(unfinished("it has no snapshot".into())),
        several => Err(WeightsError::Ambiguous {
            folder: snapshots,
            part: "revision",
            candidates: several.to_vec(),
        }),
    }
}

/// The repository's name without its owner, if a folder is a snapshot in a cache.
pub(super) fn repository_name(path: &Path) -> Option<String> {
    let snapshots = path
        .parent()
        .filter(|p| folder::name_of(p) == "snapshots")?;
    let name = folder::name_of(snapshots.parent()?);
    let name = name.strip_prefix("models--")?;
    Some(name.rsplit("--").next().unwrap_or(name).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_reads_like_a_repository() {
        let ours = Some("AIDC-AI/Ovis-Image-7B".to_owned());
        for text in [
            "AIDC-AI/Ovis-Image-7B",
            "AIDC-AI/Ovis-Image-7B/",
            "https://huggingface.co/AIDC-AI/Ovis-Image-7B",
            "hf://AIDC-AI/Ovis-Image-7B",
        ] {
            assert_eq!(repository(Path::new(text)), ours, "{text}");
        }
        for text in [
            "", "x", "/a/b", "./a", "../a", "a/b/c", "~/a", "a/b c", "a/..", "C:\\a/b",
        ] {
            assert_eq!(repository(Path::new(text)), None, "{text}");
        }
    }
}
