//! Headers of safetensors files.

use std::io::Write;
use std::path::{Path, PathBuf};

use ovis_worker::checkpoint::{Checkpoint, CheckpointArgs};

use crate::demo;

/// Most bytes that a file is filled up to. The file is sparse.
const MOST: u64 = 1 << 26;

/// A file that begins with `data`, in a folder of its own. It is filled with zeros up to the
/// largest number in its header, so that headers of whole files can be inputs.
pub(crate) fn filled(data: &[u8]) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("there is a folder for temporary files");
    let path = folder.path().join("part.safetensors");
    let mut file = std::fs::File::create(&path).expect("a file can be created");
    file.write_all(data).expect("a file can be written");
    let header = data.get(..8).map_or(0, |length| {
        u64::from_le_bytes(length.try_into().expect("they are 8 bytes"))
    });
    let end = header.saturating_add(8).saturating_add(largest(data));
    if end > data.len() as u64 && end <= MOST {
        file.set_len(end).expect("a file can be filled up");
    }
    (folder, path)
}

/// Opens a file that begins with `data`, [`filled`] up, as each part of a model, and says whether
/// it is one.
///
/// # Panics
/// If opening panics, or its refusal is no text on one line.
pub fn run(data: &[u8]) -> bool {
    let (_folder, path) = filled(data);
    let part = |change: fn(&mut CheckpointArgs, PathBuf)| {
        let mut args = CheckpointArgs::default();
        change(&mut args, path.clone());
        opens(&args)
    };
    let parts = [
        part(|args, path| args.transformer = Some(path)),
        part(|args, path| args.text_encoder = Some(path)),
        part(|args, path| args.vae = Some(path)),
    ];
    parts.contains(&true)
}

/// The largest decimal number in the text of `data` that is not above [`MOST`].
fn largest(data: &[u8]) -> u64 {
    let words = data.split(|byte| !byte.is_ascii_digit());
    let numbers = words.filter_map(|word| std::str::from_utf8(word).ok()?.parse().ok());
    numbers.filter(|number| *number <= MOST).max().unwrap_or(0)
}

/// Opens a checkpoint and says whether it was accepted.
///
/// # Panics
/// If opening panics, or its refusal is no text on one line.
pub(crate) fn opens(args: &CheckpointArgs) -> bool {
    match Checkpoint::open(args) {
        Ok(checkpoint) => checkpoint
            .parts()
            .iter()
            .all(|(_, part)| part.path().exists()),
        Err(error) => {
            let text = error.to_string();
            assert!(
                !text.is_empty() && !text.contains(char::is_control),
                "{text:?}"
            );
            false
        }
    }
}

/// The headers of the demo model's text encoder and VAE.
pub fn seeds() -> Vec<Vec<u8>> {
    let files = [
        "text_encoder/model.safetensors",
        "vae/diffusion_pytorch_model.safetensors",
    ];
    files
        .map(|file| header(&demo::folder().join(file)))
        .to_vec()
}

/// A file's header with its length.
fn header(path: &Path) -> Vec<u8> {
    let mut bytes = std::fs::read(path).expect("the demo model can be read");
    let length = bytes[..8].try_into().expect("they are 8 bytes");
    bytes.truncate(8 + u64::from_le_bytes(length) as usize);
    bytes
}
