//! What one adapter's file holds.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use ovis_protocol::limits::{MAX_ADAPTER_TEXT_BYTES, MAX_TRIGGERS};
use ovis_protocol::AdapterInfo;
use sha2::{Digest, Sha256};

use super::model::AdaptedCheckpoint;
use super::picture::picture;

use crate::checkpoint::{Adapter, AdapterError, AdapterFile, Summary};
use crate::pipeline::adapters::Size;

/// Bytes that are hashed at a time.
const PIECE: usize = 1 << 20;

/// An adapter that fits the model.
#[derive(Clone, Debug)]
pub struct Described {
    /// As it is listed.
    pub info: AdapterInfo,
    /// What it takes in the transformer.
    pub transformer: Size,
    /// What it takes in the text encoder.
    pub text_encoder: Size,
}

/// Reads an adapter, checks that it fits the model, and hashes its file.
///
/// # Errors
/// The file is no adapter or does not fit the model.
pub fn describe(
    name: &str,
    path: &Path,
    model: &AdaptedCheckpoint,
    strict: bool,
) -> Result<Described, AdapterError> {
    let file = AdapterFile::open(path)?;
    let summary = file.summary();
    let adapter = file.fit(model.geometry(), strict)?;
    let (bytes, hash) = hashed(path).map_err(|error| AdapterError::unreadable(path, &error))?;
    Ok(Described {
        transformer: Size::of(&adapter.transformer, model.transformer_tensors()),
        text_encoder: Size::of(&adapter.text_encoder, model.text_encoder_tensors()),
        info: info(name, bytes, hash, &summary, &adapter),
    })
}

fn info(
    name: &str,
    bytes: u64,
    hash: [u8; 32],
    summary: &Summary,
    adapter: &Adapter,
) -> AdapterInfo {
    let kinds: Vec<_> = summary
        .kinds
        .keys()
        .map(|kind| kind.to_lowercase())
        .collect();
    let parts = [
        ("transformer", !adapter.transformer.is_empty()),
        ("text_encoder", !adapter.text_encoder.is_empty()),
    ];
    let parts = parts.into_iter().filter(|(_, there)| *there);
    let own = &summary.info;
    let triggers = own.trigger_words.iter().take(MAX_TRIGGERS);
    AdapterInfo {
        name: name.to_owned(),
        bytes,
        hash,
        kind: cut(&kinds.join(", ")),
        rank: summary.ranks.keys().last().map_or(0, |rank| *rank as u32),
        title: own.name.as_deref().map(cut),
        triggers: triggers.map(|word| cut(word)).collect(),
        parts: parts.map(|(name, _)| name.to_owned()).collect(),
        preview: own.preview.as_ref().and_then(picture),
    }
}

/// A text of at most the bytes that a listed one may have, without control characters.
fn cut(text: &str) -> String {
    let mut shown = String::new();
    for character in text.chars().filter(|c| !c.is_control()) {
        if shown.len() + character.len_utf8() > MAX_ADAPTER_TEXT_BYTES {
            break;
        }
        shown.push(character);
    }
    shown
}

/// Length and SHA-256 of a file.
pub fn hashed(path: &Path) -> io::Result<(u64, [u8; 32])> {
    let mut file = File::open(path)?;
    let (mut hash, mut length) = (Sha256::new(), 0);
    let mut piece = vec![0; PIECE];
    loop {
        match file.read(&mut piece)? {
            0 => return Ok((length, hash.finalize().into())),
            count => {
                hash.update(&piece[..count]);
                length += count as u64;
            }
        }
    }
}
