//! The files in folders of adapters.

use std::path::Path;

use ovis_protocol::is_adapter_name;

/// Levels of folders below the operator's that are searched.
const DEPTH: usize = 8;

/// Most files that are looked at.
const MAX_FILES: usize = 10_000;

/// Suffix of the files that are adapters.
const SUFFIX: &str = ".safetensors";

/// Names of the files below a folder that can be adapters, sorted: their relative paths with `/`
/// between the parts. Hidden files and folders, and those whose names no job could give, are left
/// out.
pub fn names(folder: &Path) -> Vec<String> {
    let mut names = Vec::new();
    walk(folder, "", 0, &mut names);
    names.sort();
    names
}

fn walk(folder: &Path, prefix: &str, depth: usize, names: &mut Vec<String>) {
    // A folder that cannot be read has nothing to offer.
    let Ok(entries) = std::fs::read_dir(folder) else {
        return;
    };
    for entry in entries.flatten() {
        if names.len() >= MAX_FILES {
            return;
        }
        let file_name = entry.file_name();
        let Some(file_name) = file_name.to_str().filter(|name| !name.starts_with('.')) else {
            continue;
        };
        let name = format!("{prefix}{file_name}");
        let path = entry.path();
        // Links are followed: managers of models use them.
        match path.is_dir() {
            true if depth < DEPTH => walk(&path, &format!("{name}/"), depth + 1, names),
            true => {}
            false => {
                if name.ends_with(SUFFIX) && is_adapter_name(&name) {
                    names.push(name);
                }
            }
        }
    }
}
