//! What an adapter's file says about itself.
//!
//! Sources: the modelspec standard (`modelspec.*`, Stability AI), kohya-ss sd-scripts
//! (`ss_output_name`, `ss_base_model_version`, `ss_tag_frequency`), ai-toolkit (`name`).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::checkpoint::folder;

/// Most characters of a name or a trigger word that are kept.
const MAX_CHARS: usize = 200;
/// Most trigger words that are kept.
const MAX_WORDS: usize = 16;
/// Most bytes of a preview picture inside the file, as text.
const MAX_PREVIEW: usize = 4 << 20;
/// Most bytes of kohya's table of tags that are read.
const MAX_TAGS: usize = 16 << 20;

/// Fields with the name, the best first.
const NAMES: [&str; 3] = ["modelspec.title", "ss_output_name", "name"];
/// Fields with the model that the adapter was trained on, the best first.
const BASE_MODELS: [&str; 4] = [
    "ss_base_model_version",
    "modelspec.architecture",
    "base_model",
    "ss_sd_model_name",
];
/// Fields with trigger words, the best first.
const TRIGGERS: [&str; 4] = [
    "modelspec.trigger_phrase",
    "trigger_words",
    "trigger_word",
    "trigger_phrase",
];
/// Beginnings of the pictures that a browser shows.
const PICTURES: [&str; 3] = [
    "data:image/jpeg;base64,",
    "data:image/png;base64,",
    "data:image/webp;base64,",
];
/// Endings of picture files beside an adapter, in the order in which managers look for them.
const BESIDE: [&str; 8] = [
    "preview.png",
    "preview.jpg",
    "preview.jpeg",
    "preview.webp",
    "png",
    "jpg",
    "jpeg",
    "webp",
];

/// What an adapter's file says about itself. Texts are the file's own, cut to a few hundred
/// characters; make them safe before showing them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AdapterInfo {
    /// Its name.
    pub name: Option<String>,
    /// Words that a prompt should have, or else the tags that most of its training images had.
    pub trigger_words: Vec<String>,
    /// The model that it was trained on.
    pub base_model: Option<String>,
    /// A picture that shows its effect.
    pub preview: Option<Preview>,
}

/// A picture that shows an adapter's effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Preview {
    /// The picture as a `data:` address, from the file's metadata.
    Inside(String),
    /// A picture file beside the adapter.
    Beside(PathBuf),
}

impl AdapterInfo {
    /// Reads the metadata of the file at `path`.
    pub fn of(path: &Path, metadata: &BTreeMap<String, String>) -> Self {
        let first = |fields: &[&str]| {
            let values = fields.iter().filter_map(|field| metadata.get(*field));
            let mut texts = values.map(|value| cut(value));
            texts.find(|text| !text.is_empty())
        };
        Self {
            name: first(&NAMES),
            trigger_words: trigger_words(metadata),
            base_model: first(&BASE_MODELS),
            preview: preview(path, metadata),
        }
    }
}

/// A text without the space around it, cut.
fn cut(text: &str) -> String {
    text.trim().chars().take(MAX_CHARS).collect()
}

fn trigger_words(metadata: &BTreeMap<String, String>) -> Vec<String> {
    for text in TRIGGERS.iter().filter_map(|field| metadata.get(*field)) {
        let words: Vec<String> = match serde_json::from_str::<Vec<String>>(text) {
            Ok(words) => words,
            Err(_) => text.split(',').map(str::to_owned).collect(),
        };
        let words = words.iter().map(|word| cut(word));
        let words: Vec<_> = words
            .filter(|word| !word.is_empty())
            .take(MAX_WORDS)
            .collect();
        if !words.is_empty() {
            return words;
        }
    }
    metadata
        .get("ss_tag_frequency")
        .map_or(Vec::new(), |text| frequent_tags(text))
}

/// The most frequent tags of kohya's table, which has a count of each tag for each dataset.
fn frequent_tags(text: &str) -> Vec<String> {
    let table = match text.len() <= MAX_TAGS {
        true => serde_json::from_str(text).unwrap_or_default(),
        false => Value::Null,
    };
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    let datasets = table
        .as_object()
        .into_iter()
        .flat_map(|table| table.values());
    for (tag, count) in datasets.filter_map(Value::as_object).flatten() {
        let tag = cut(tag);
        if !tag.is_empty() {
            let sum = counts.entry(tag).or_default();
            *sum = sum.saturating_add(count.as_u64().unwrap_or(0));
        }
    }
    let mut tags: Vec<_> = counts.into_iter().collect();
    tags.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    tags.into_iter()
        .take(MAX_WORDS)
        .map(|(tag, _)| tag)
        .collect()
}

fn preview(path: &Path, metadata: &BTreeMap<String, String>) -> Option<Preview> {
    let is_base64 = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'+' | b'/' | b'=');
    let is_picture = |address: &&String| {
        let data = PICTURES
            .iter()
            .find_map(|start| address.strip_prefix(start));
        address.len() <= MAX_PREVIEW && data.is_some_and(|data| data.bytes().all(is_base64))
    };
    if let Some(address) = metadata.get("modelspec.thumbnail").filter(is_picture) {
        return Some(Preview::Inside(address.clone()));
    }
    let stem = path.file_stem()?.to_owned();
    let mut beside = BESIDE.iter().map(|ending| {
        let mut name = stem.clone();
        name.push(".");
        name.push(ending);
        folder::around(path).join(name)
    });
    beside.find(|path| path.is_file()).map(Preview::Beside)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(fields: &[(&str, &str)]) -> AdapterInfo {
        let fields = fields.iter();
        let metadata = fields.map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        AdapterInfo::of(Path::new("nowhere/x.safetensors"), &metadata.collect())
    }

    #[test]
    fn the_best_field_is_taken() {
        let found = info(&[
            ("ss_output_name", "old"),
            ("modelspec.title", " New style "),
            ("modelspec.trigger_phrase", "neon, ,glow"),
            ("ss_tag_frequency", r#"{"a":{"x":1}}"#),
            ("ss_base_model_version", "ovis_image"),
        ]);
        assert_eq!(found.name.as_deref(), Some("New style"));
        assert_eq!(found.trigger_words, ["neon", "glow"]);
        assert_eq!(found.base_model.as_deref(), Some("ovis_image"));
        assert_eq!(found.preview, None);
    }

    #[test]
    fn tags_are_counted_over_all_datasets() {
        let table = r#"{"1_a":{"cat":2,"dog":5},"2_b":{"cat":4, "x":"many"},"3":7}"#;
        let found = info(&[("ss_tag_frequency", table)]);
        assert_eq!(found.trigger_words, ["cat", "dog", "x"]);
        for broken in ["", "{", "[]", "7"] {
            assert!(info(&[("ss_tag_frequency", broken)])
                .trigger_words
                .is_empty());
        }
    }

    #[test]
    fn only_pictures_are_previews() {
        let picture = "data:image/png;base64,iVBORw0KGgo=";
        let found = info(&[("modelspec.thumbnail", picture)]);
        assert_eq!(found.preview, Some(Preview::Inside(picture.into())));
        for other in [
            "data:text/html;base64,AAAA",
            "data:image/png;base64,\"x",
            "http://x",
        ] {
            assert_eq!(info(&[("modelspec.thumbnail", other)]).preview, None);
        }
        let folder = tempfile::tempdir().unwrap();
        let beside = folder.path().join("style.v2.preview.png");
        std::fs::write(&beside, "x").unwrap();
        let path = folder.path().join("style.v2.safetensors");
        let found = AdapterInfo::of(&path, &BTreeMap::new());
        assert_eq!(found.preview, Some(Preview::Beside(beside)));
    }
}
