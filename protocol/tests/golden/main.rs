//! Golden vectors: every message variant as bytes and as JSON.
//!
//! `protocol/golden/*.bin` holds each message's bytes and
//! `protocol/golden/vectors.json` its fields, so that a client in another
//! language can build the same message and compare. After a change of the
//! protocol and its version, regenerate them with
//! `OVIS_WRITE_GOLDEN=1 cargo test -p ovis-protocol --test golden`.

mod client;
mod describe;
mod vectors;
mod worker;

use std::collections::BTreeSet;
use std::path::PathBuf;

use ovis_protocol::{decode_client, decode_worker, encode};
use serde_json::{json, Value};
use vectors::{vectors, Message};

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("golden")
}

fn bytes_of(message: &Message) -> Vec<u8> {
    match message {
        Message::Client(m) => encode(m).unwrap(),
        Message::Worker(m) => encode(m).unwrap(),
    }
}

fn index() -> Value {
    vectors()
        .iter()
        .map(|(name, message)| {
            let (direction, message) = match message {
                Message::Client(m) => ("client", describe::client(m)),
                Message::Worker(m) => ("worker", describe::worker(m)),
            };
            json!({"file": format!("{name}.bin"), "direction": direction, "message": message})
        })
        .collect()
}

#[test]
fn golden_files_match() {
    let folder = folder();
    if std::env::var_os("OVIS_WRITE_GOLDEN").is_some() {
        std::fs::create_dir_all(&folder).unwrap();
        for (name, message) in vectors() {
            std::fs::write(folder.join(format!("{name}.bin")), bytes_of(&message)).unwrap();
        }
        let text = serde_json::to_string_pretty(&index()).unwrap() + "\n";
        std::fs::write(folder.join("vectors.json"), text).unwrap();
    }
    for (name, message) in vectors() {
        let golden = std::fs::read(folder.join(format!("{name}.bin"))).unwrap();
        assert_eq!(bytes_of(&message), golden, "{name} encodes differently");
        let decoded = match &message {
            Message::Client(_) => Message::Client(decode_client(&golden).unwrap()),
            Message::Worker(_) => Message::Worker(decode_worker(&golden).unwrap()),
        };
        assert_eq!(decoded, message, "{name} decodes differently");
    }
    let text = std::fs::read_to_string(folder.join("vectors.json")).unwrap();
    let golden: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(index(), golden, "vectors.json differs");
}

#[test]
fn no_golden_file_is_left_over() {
    let named: BTreeSet<String> = vectors()
        .iter()
        .map(|(name, _)| format!("{name}.bin"))
        .chain(["vectors.json".into()])
        .collect();
    let there: BTreeSet<String> = std::fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(named, there);
}

/// Every variant has a vector: a message's first four bytes are the number of its variant.
#[test]
fn every_variant_is_shown() {
    let numbers = |client: bool| -> BTreeSet<u32> {
        vectors()
            .iter()
            .filter(|(_, m)| matches!(m, Message::Client(_)) == client)
            .map(|(_, m)| u32::from_le_bytes(bytes_of(m)[..4].try_into().unwrap()))
            .collect()
    };
    assert_eq!(numbers(true), (0..=7).collect());
    assert_eq!(numbers(false), (0..=13).collect());
    assert!(decode_client(&8u32.to_le_bytes()).is_err());
    assert!(decode_worker(&14u32.to_le_bytes()).is_err());
}
