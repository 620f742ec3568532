//! What an adapter's file holds, for people.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::info::AdapterInfo;
use super::module::Module;
use super::names::{Names, Part};

/// What an adapter's file holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// The file.
    pub path: PathBuf,
    /// Number of modules of each kind: `LoRA`, `DoRA`, `LoKr`, …
    pub kinds: BTreeMap<String, usize>,
    /// Number of modules of each rank, or of each size of a rotation's blocks.
    pub ranks: BTreeMap<usize, usize>,
    /// Number of tensors of each stored type.
    pub types: BTreeMap<String, usize>,
    /// Prefixes of the modules' names, with the number of modules.
    pub prefixes: BTreeMap<String, usize>,
    /// Names of the transformer's modules, as the file has them.
    pub transformer: Vec<String>,
    /// Names of the text encoder's modules.
    pub text_encoder: Vec<String>,
    /// Names of the tensors that fit no module of an Ovis-Image.
    pub unused: Vec<String>,
    /// Bytes of all tensors that fit.
    pub bytes: u64,
    /// What the file says about itself.
    pub info: AdapterInfo,
}

impl Summary {
    pub(super) fn of(
        path: &Path,
        modules: &BTreeMap<String, Module>,
        unknown: &[String],
        names: &Names,
        info: &AdapterInfo,
    ) -> Self {
        let mut summary = Self {
            path: path.to_owned(),
            kinds: BTreeMap::new(),
            ranks: BTreeMap::new(),
            types: BTreeMap::new(),
            prefixes: BTreeMap::new(),
            transformer: Vec::new(),
            text_encoder: Vec::new(),
            unused: unknown.to_vec(),
            bytes: 0,
            info: info.clone(),
        };
        for (name, module) in modules {
            let entries = module.tensors().map(|(_, tensor)| tensor.entry());
            let Some(found) = names.find(name) else {
                summary
                    .unused
                    .extend(entries.map(|entry| entry.name.clone()));
                continue;
            };
            for entry in entries {
                *summary.types.entry(entry.stored.to_string()).or_default() += 1;
                summary.bytes += entry.bytes.len() as u64;
            }
            *summary.kinds.entry(module.kind_name()).or_default() += 1;
            if let Some(rank) = module.rank() {
                *summary.ranks.entry(rank).or_default() += 1;
            }
            *summary.prefixes.entry(found.prefix).or_default() += 1;
            match found.part {
                Part::Transformer => summary.transformer.push(name.clone()),
                Part::TextEncoder => summary.text_encoder.push(name.clone()),
            }
        }
        summary.unused.sort();
        summary
    }
}
