//! Headers of GGUF files.

use std::io::Write;

use ovis_worker::checkpoint::{CheckpointArgs, Conversion, FileLayout, Target};

use crate::{demo, headers};

/// Bytes that a file is filled up to. The file is sparse.
const LENGTH: u64 = 1 << 28;

/// Bytes of a seed: a header with its metadata, and some data.
const SEED: usize = 1 << 15;

/// Opens a file that begins with `data` as a transformer and as a text encoder, and says whether
/// it is one. The file is filled with zeros, so that headers of whole files can be inputs.
///
/// # Panics
/// If opening panics, or its refusal is no text on one line.
pub fn run(data: &[u8]) -> bool {
    let folder = tempfile::tempdir().expect("there is a folder for temporary files");
    let path = folder.path().join("part.gguf");
    let mut file = std::fs::File::create(&path).expect("a file can be created");
    file.write_all(data).expect("a file can be written");
    if (data.len() as u64) < LENGTH {
        file.set_len(LENGTH).expect("a file can be filled up");
    }
    drop(file);
    let transformer = CheckpointArgs {
        transformer: Some(path.clone()),
        ..CheckpointArgs::default()
    };
    let text_encoder = CheckpointArgs {
        text_encoder: Some(path),
        ..CheckpointArgs::default()
    };
    let parts = [headers::opens(&transformer), headers::opens(&text_encoder)];
    parts.contains(&true)
}

/// The headers of the demo model's transformer and text encoder as GGUF files.
pub fn seeds() -> Vec<Vec<u8>> {
    let checkpoint = demo::checkpoint();
    let (transformer, text_encoder) = (&checkpoint.transformer, &checkpoint.text_encoder);
    let transformer = transformer.as_ref().expect("the demo model has one");
    let text_encoder = text_encoder.as_ref().expect("the demo model has one");
    let plans = [
        Conversion::of_transformer(transformer, Target::F16, FileLayout::ComfyUi),
        Conversion::of_text_encoder(text_encoder, Target::Bf16, None),
    ];
    let seeds = plans.map(|plan| {
        let mut bytes = Vec::new();
        let written = plan.map(|plan| plan.write(&mut bytes, |_| ()));
        assert!(matches!(written, Ok(Ok(()))), "the demo model is written");
        bytes.truncate(SEED);
        bytes
    });
    seeds.to_vec()
}
