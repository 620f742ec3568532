//! A library over real folders.

use std::path::Path;
use std::time::{Duration, SystemTime};

use ovis_protocol::{AdapterUse, DenoiseRequest};

use super::{AdaptedCheckpoint, AdapterLibrary};
use crate::checkpoint::test_files::{self, write, write_with, Naming, Stored};
use crate::checkpoint::{Checkpoint, CheckpointArgs};
use crate::pipeline::adapters::AdaptedPart;
use crate::pipeline::Error;

const MODULE: &str = "transformer.single_transformer_blocks.0.attn.to_k";

fn lora(seed: usize) -> Vec<Stored> {
    let values = |count: usize| -> Vec<f32> {
        (0..count)
            .map(|i| ((i * 7 + seed) % 13) as f32 * 0.01)
            .collect()
    };
    vec![
        Stored::f32(&format!("{MODULE}.lora_A.weight"), &[2, 32], &values(64)),
        Stored::f32(&format!("{MODULE}.lora_B.weight"), &[32, 2], &values(64)),
    ]
}

fn checkpoint(folder: &Path) -> Checkpoint {
    test_files::write_checkpoint(folder, Naming::Diffusers);
    Checkpoint::open(&CheckpointArgs {
        model: Some(folder.to_owned()),
        ..CheckpointArgs::default()
    })
    .unwrap()
}

fn library(root: &Path, strict: bool) -> AdapterLibrary {
    let checkpoint = checkpoint(&root.join("model"));
    let folders = vec![root.join("a"), root.join("b")];
    AdapterLibrary::new(folders, AdaptedCheckpoint::of(&checkpoint), strict)
}

#[test]
fn adapters_that_fit_are_listed_once_by_their_paths() {
    let root = tempfile::tempdir().unwrap();
    let metadata = [("modelspec.title", "Neon"), ("trigger_words", "neon, glow")];
    write_with(
        &root.path().join("a/styles/neon.safetensors"),
        &lora(1),
        &metadata,
    );
    write(&root.path().join("b/styles/neon.safetensors"), &lora(2));
    write(&root.path().join("b/plain.safetensors"), &lora(3));
    write(&root.path().join("b/.hidden.safetensors"), &lora(3));
    let foreign = [Stored::f32(
        "lora_unet_input_blocks_4.lora_down.weight",
        &[2, 4],
        &[0.0; 8],
    )];
    write(&root.path().join("b/foreign.safetensors"), &foreign);
    std::fs::write(root.path().join("b/broken.safetensors"), "x").unwrap();
    std::fs::write(root.path().join("a/styles/neon.png"), b"\x89PNG\r\n\x1a\n").unwrap();
    let library = library(root.path(), true);
    let listed = library.list();
    let names: Vec<_> = listed.iter().map(|adapter| &adapter.name[..]).collect();
    assert_eq!(names, ["plain.safetensors", "styles/neon.safetensors"]);
    let neon = &listed[1];
    assert_eq!(
        (neon.title.as_deref(), neon.rank, &neon.kind[..]),
        (Some("Neon"), 2, "lora")
    );
    assert_eq!(neon.triggers, ["neon", "glow"]);
    assert_eq!(neon.parts, ["transformer"]);
    assert!(neon.preview.is_some() && neon.hash != listed[0].hash);
    assert_eq!(library.list(), listed);
    // Two thin products of the rank 2.
    let wanted = [AdapterUse::new("plain.safetensors", 1.0)];
    let size = library.size(&wanted, AdaptedPart::Transformer);
    assert_eq!((size.thin, size.whole), (2 * 64, 0));
    assert_eq!(
        library.size(&wanted, AdaptedPart::TextEncoder),
        Default::default()
    );
}

#[test]
fn missing_adapters_are_named_with_what_to_do() {
    let root = tempfile::tempdir().unwrap();
    write(&root.path().join("a/one.safetensors"), &lora(1));
    let library = library(root.path(), true);
    let listed = library.list();
    let wanted = |name: &str, hash| AdapterUse {
        hash,
        ..AdapterUse::new(name, 1.0)
    };
    let own = Some(listed[0].hash);
    assert!(library.find(&wanted("one.safetensors", own)).is_ok());
    assert!(library.find(&wanted("one.safetensors", None)).is_ok());
    let refused = |wanted: &AdapterUse| match library.find(wanted).unwrap_err() {
        Error::MissingAdapter { message, hint } => (message, hint),
        other => panic!("{other}"),
    };
    let (message, hint) = refused(&wanted("two.safetensors", None));
    assert_eq!(message, "missing adapter: `two.safetensors`");
    assert!(hint.starts_with("Put the file into "), "{hint}");
    let (message, _) = refused(&wanted("one.safetensors", Some([1; 32])));
    assert!(message.contains("another file of this name"), "{message}");
    for name in ["../a/one.safetensors", "/etc/passwd", "one.safetensors/"] {
        assert!(refused(&wanted(name, None)).0.contains("missing adapter"));
    }
}

#[test]
fn a_changed_file_is_read_again_and_has_another_identity() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("a/one.safetensors");
    write(&path, &lora(1));
    let library = library(root.path(), true);
    let wanted = [AdapterUse::new("one.safetensors", 1.0)];
    let first = library.identity(&wanted).unwrap();
    assert_eq!(
        (first.len(), library.identity(&wanted).unwrap()),
        (64, first.clone())
    );
    write(&path, &lora(2));
    let later = SystemTime::now() + Duration::from_secs(9);
    std::fs::File::open(&path)
        .unwrap()
        .set_modified(later)
        .unwrap();
    assert_ne!(library.identity(&wanted).unwrap(), first);
    let listed = library.list();
    let digits = listed[0].hash.iter().map(|byte| format!("{byte:02x}"));
    assert_eq!(
        library.identity(&wanted).unwrap(),
        digits.collect::<String>()
    );
}

#[test]
fn tensors_that_fit_nothing_keep_an_adapter_off_the_list() {
    let root = tempfile::tempdir().unwrap();
    let mut tensors = lora(1);
    tensors.push(Stored::f32("other.lora_A.weight", &[1, 1], &[0.0]));
    write(&root.path().join("a/one.safetensors"), &tensors);
    let wanted = AdapterUse::new("one.safetensors", 1.0);
    let strict = library(root.path(), true);
    assert!(strict.list().is_empty());
    let error = strict.find(&wanted).unwrap_err().to_string();
    assert!(error.contains("1 of the 3 tensors"), "{error}");
    let lenient = library(root.path(), false);
    assert_eq!(lenient.list().len(), 1);
    assert!(lenient.find(&wanted).is_ok());
}

#[test]
fn jobs_name_adapters_of_the_library() {
    use crate::pipeline::testing::{tiny_inputs, tiny_pipeline};
    let root = tempfile::tempdir().unwrap();
    let request = DenoiseRequest {
        adapters: vec![AdapterUse::new("one.safetensors", 1.0)],
        ..DenoiseRequest::new(1, 2, 1.0)
    };
    let pipeline = tiny_pipeline();
    let refused = pipeline
        .start_denoise(&request, tiny_inputs(1, false))
        .err();
    assert!(refused.unwrap().to_string().contains("applies no adapters"));
    let folders = vec![root.path().to_owned()];
    let library = AdapterLibrary::new(folders, AdaptedCheckpoint::default(), true);
    let pipeline = pipeline.with_library(library.into());
    let refused = pipeline
        .start_denoise(&request, tiny_inputs(1, false))
        .err();
    assert!(refused.unwrap().to_string().contains("missing adapter"));
}
