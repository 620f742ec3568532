//! The JSON files beside a model's weights.

use std::path::Path;

use ovis_worker::checkpoint::CheckpointArgs;

use crate::{demo, headers};

/// The files that an input can replace.
const FILES: [&str; 5] = [
    "transformer/config.json",
    "text_encoder/config.json",
    "vae/config.json",
    "transformer/diffusion_pytorch_model.safetensors.index.json",
    "model_index.json",
];

/// Opens the demo model with one of its JSON files replaced: the first byte says which, the
/// others are its content. Says whether the model was accepted.
///
/// # Panics
/// If opening panics, or its refusal is no text on one line.
pub fn run(data: &[u8]) -> bool {
    let Some((which, content)) = data.split_first() else {
        return false;
    };
    let folder = tempfile::tempdir().expect("there is a folder for temporary files");
    link(&demo::folder(), folder.path());
    let path = folder.path().join(FILES[usize::from(*which) % FILES.len()]);
    std::fs::remove_file(&path).expect("a link can be removed");
    std::fs::write(&path, content).expect("a file can be written");
    headers::opens(&CheckpointArgs {
        model: Some(folder.path().to_owned()),
        ..CheckpointArgs::default()
    })
}

/// Fills a folder with links to the files of another one.
fn link(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).expect("the demo model can be listed") {
        let path = entry.expect("the demo model can be listed").path();
        let link_path = to.join(path.file_name().expect("a listed file has a name"));
        if path.is_dir() {
            std::fs::create_dir(&link_path).expect("a folder can be created");
            link(&path, &link_path);
        } else {
            let target = path.canonicalize().expect("a listed file is there");
            std::os::unix::fs::symlink(target, link_path).expect("a link can be created");
        }
    }
}

/// The demo model's own files.
pub fn seeds() -> Vec<Vec<u8>> {
    let seed = |(which, file): (usize, &&str)| {
        let content = std::fs::read(demo::folder().join(file)).expect("the file is there");
        [&[which as u8][..], &content].concat()
    };
    FILES.iter().enumerate().map(seed).collect()
}
