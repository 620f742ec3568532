//! Compares `README.md` with the code: version, limits, numbers, and example bytes.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use ovis_protocol::limits::*;
use ovis_protocol::text::SENTENCE_CHARS;
use ovis_protocol::{decode_client, decode_worker, encode, ErrorCode, WireError, WorkerMessage};
use serde_json::Value;

fn folder() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn document() -> String {
    std::fs::read_to_string(folder().join("README.md")).unwrap()
}

/// The cells of every row of the document's tables.
fn rows(document: &str) -> Vec<Vec<&str>> {
    let rows = document.lines().filter_map(|line| {
        let cells = line.strip_prefix("| ")?.strip_suffix(" |")?;
        Some(cells.split(" | ").map(str::trim).collect())
    });
    rows.collect()
}

/// The cells of the one row that begins with `first`.
fn row<'a>(rows: &'a [Vec<&str>], first: &str) -> &'a [&'a str] {
    let found: Vec<_> = rows.iter().filter(|row| row[0] == first).collect();
    assert_eq!(found.len(), 1, "rows that begin with `{first}`");
    found[0]
}

/// The numbers in a text, which may have commas between thousands.
fn numbers(text: &str) -> Vec<u64> {
    let digits = text.replace(',', "");
    let words = digits.split(|c: char| !c.is_ascii_digit());
    words.filter_map(|word| word.parse().ok()).collect()
}

fn golden(name: &str) -> Vec<u8> {
    let path: PathBuf = folder().join("golden").join(name);
    std::fs::read(path).unwrap()
}

fn vectors() -> Vec<Value> {
    let text = String::from_utf8(golden("vectors.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

#[test]
fn the_version_is_this_one() {
    let document = document();
    let version = format!("Protocol version **{PROTOCOL_VERSION}**.");
    assert!(document.contains(&version));
    assert_eq!(
        document.to_lowercase().matches("protocol version").count(),
        1
    );
    for vector in vectors() {
        let text = vector.to_string();
        for (at, words) in text.match_indices("worker speaks protocol ") {
            let told = numbers(&text[at + words.len()..])[0];
            assert_eq!(told, u64::from(PROTOCOL_VERSION), "{text}");
        }
    }
}

#[test]
fn every_limit_is_this_one() {
    let document = document();
    let rows = rows(&document);
    let limits = [
        ("one message", MAX_MESSAGE_BYTES as u64),
        ("`data` of one chunk", MAX_CHUNK_BYTES as u64),
        ("tensors of one message", MAX_TENSORS as u64),
        ("dimensions of a tensor", MAX_RANK as u64),
        ("bytes of all tensors of one message", MAX_TENSOR_BYTES),
        (
            "bytes of all tensors announced by one owner's unfinished jobs",
            MAX_TENSOR_BYTES,
        ),
        ("one prompt", MAX_PROMPT_BYTES as u64),
        ("prompts of one encode job", MAX_PROMPTS as u64),
        ("unfinished jobs of one owner", MAX_JOBS_PER_OWNER as u64),
        ("longer side of a preview", u64::from(MAX_PREVIEW_SIDE)),
        ("`trace` of a job", MAX_TRACE_BYTES as u64),
        ("name of a model", MAX_MODEL_NAME_BYTES as u64),
        ("models of one worker", MAX_MODELS as u64),
        ("adapters of one job", MAX_ADAPTERS as u64),
        ("name of an adapter", MAX_ADAPTER_NAME_BYTES as u64),
        (
            "strength of an adapter, weight of a block",
            MAX_ADAPTER_STRENGTH as u64,
        ),
        ("block weights of one adapter", MAX_BLOCK_WEIGHTS as u64),
        (
            "`kind`, `title`, each trigger word and part of a listed adapter",
            MAX_ADAPTER_TEXT_BYTES as u64,
        ),
        ("trigger words of a listed adapter", MAX_TRIGGERS as u64),
        (
            "picture of a listed adapter",
            MAX_ADAPTER_PICTURE_BYTES as u64,
        ),
        (
            "adapters of one `Adapters` message, encoded",
            MAX_ADAPTER_LIST_BYTES as u64,
        ),
        (
            "results that one owner has not acknowledged",
            MAX_TENSOR_BYTES,
        ),
    ];
    for (what, most) in limits {
        assert_eq!(numbers(row(&rows, what)[1])[0], most, "{what}");
    }
    assert!(document.contains(&format!("at most {SENTENCE_CHARS} characters")));
    assert!(document.contains(&format!("(pixels, 1 to {MAX_PREVIEW_SIDE})")));
    // The error codes in the table of limits exist.
    let codes: Vec<_> = (0..)
        .map_while(code)
        .map(|code| format!("`{code:?}`"))
        .collect();
    let answers = rows.iter().filter_map(|row| row.get(2));
    let answers: Vec<_> = answers
        .filter_map(|answer| {
            answer
                .strip_prefix("`Failed`, ")
                .or(answer.strip_prefix("`Refused`, "))
        })
        .collect();
    assert!(answers.len() >= limits.len());
    for answer in answers {
        assert!(codes.iter().any(|code| code == answer), "{answer}");
    }
    // No limit is missing.
    let constants = include_str!("../src/limits.rs")
        .matches("\npub const ")
        .count();
    let told: BTreeSet<_> = limits.iter().map(|(what, _)| *what).collect();
    let same = 2; // two more rows share MAX_TENSOR_BYTES
                  // The version, the magic and the secret's length are not limits.
    assert_eq!(told.len() - same, constants - 3);
}

/// The error code of a number.
fn code(number: u32) -> Option<ErrorCode> {
    let error = WireError::new(ErrorCode::Internal, "", "");
    let message = WorkerMessage::Failed {
        job: [0; 16],
        error,
    };
    let mut bytes = encode(&message).unwrap();
    bytes[20..24].copy_from_slice(&number.to_le_bytes());
    match decode_worker(&bytes) {
        Ok(WorkerMessage::Failed { error, .. }) => Some(error.code),
        _ => None,
    }
}

fn section<'a>(document: &'a str, title: &str) -> &'a str {
    let start = document.find(&format!("\n## {title}\n")).unwrap() + 1;
    let rest = &document[start..];
    let end = rest[2..].find("\n## ").map_or(rest.len(), |end| end + 2);
    &rest[..end]
}

/// The numbered names of a section's tables whose first column is a number.
fn numbered<'a>(section: &'a str, titles: &str) -> Vec<(u32, &'a str)> {
    let from = section
        .find(titles)
        .unwrap_or_else(|| panic!("no table {titles}"));
    let table: Vec<_> = section[from..]
        .lines()
        .take_while(|line| line.starts_with('|'))
        .collect();
    let cells = |line: &'a str| {
        line.trim_matches('|')
            .split('|')
            .map(str::trim)
            .collect::<Vec<_>>()
    };
    table[2..]
        .iter()
        .map(|line| {
            let cells = cells(line);
            (cells[0].parse().unwrap(), cells[1].trim_matches('`'))
        })
        .collect()
}

#[test]
fn every_error_code_has_its_number() {
    let document = document();
    let told = numbered(section(&document, "Error codes"), "| no. | code |");
    let known: Vec<_> = (0..)
        .map_while(|number| code(number).map(|code| (number, format!("{code:?}"))))
        .collect();
    let told: Vec<_> = told
        .iter()
        .map(|(no, name)| (*no, name.to_string()))
        .collect();
    assert_eq!(told, known);
}

#[test]
fn every_message_and_request_has_its_number() {
    let document = document();
    let directions = [
        ("client", "Client to worker"),
        ("worker", "Worker to client"),
    ];
    for (direction, title) in directions {
        let told = numbered(section(&document, title), "| no. | message |");
        let mut seen = vec![false; told.len()];
        for vector in vectors() {
            if vector["direction"] != direction {
                continue;
            }
            let file = vector["file"].as_str().unwrap();
            let bytes = golden(file);
            let number = u32::from_le_bytes(bytes[..4].try_into().unwrap());
            let kind = vector["message"]["type"].as_str().unwrap();
            assert!(told.contains(&(number, kind)), "{file}: {number} {kind}");
            seen[number as usize] = true;
            if kind == "Submit" {
                let requests = numbered(section(&document, title), "| no. | request |");
                let number = u32::from_le_bytes(bytes[20..24].try_into().unwrap());
                let kind = vector["message"]["request"]["type"].as_str().unwrap();
                assert!(
                    requests.contains(&(number, kind)),
                    "{file}: {number} {kind}"
                );
            }
        }
        assert!(seen.iter().all(|seen| *seen), "{direction}: {seen:?}");
    }
}

/// Enums without fields are described in sentences, as `0 `Name``.
#[test]
fn every_small_enum_has_its_numbers() {
    let document = document().replace('\n', " ");
    let enums: [(&str, &[&str]); 6] = [
        ("`DType` is an enum", &["F32", "F16", "Bf16", "U8"]),
        ("`PreviewKind` is an enum", &["Linear", "Vae"]),
        ("`Priority` is an enum", &["Low", "Normal", "High"]),
        ("`StepCaching` is an enum", &["Off", "Safe", "Fast"]),
        (
            "`Residence` is an enum",
            &["Unloaded", "Host", "Partly", "Resident"],
        ),
        (
            "`Schedule` is an enum",
            &["Auto", "Shift", "Sigmas", "Named"],
        ),
    ];
    for (sentence, names) in enums {
        let text = document.replace("  ", " ");
        let at = text.find(sentence).unwrap_or_else(|| panic!("{sentence}"));
        let text = &text[at..(at + 700).min(text.len())];
        for (number, name) in names.iter().enumerate() {
            assert!(
                text.contains(&format!("{number} `{name}`")),
                "{number} {name}: {text}"
            );
        }
    }
    use ovis_protocol::{DType, PreviewKind, Priority, Residence, StepCaching};
    let byte = |bytes: Vec<u8>| bytes[0];
    assert_eq!(
        [DType::F32, DType::F16, DType::Bf16, DType::U8].map(|d| byte(encode(&d).unwrap())),
        [0, 1, 2, 3]
    );
    assert_eq!(
        [PreviewKind::Linear, PreviewKind::Vae].map(|k| byte(encode(&k).unwrap())),
        [0, 1]
    );
    let priorities = [Priority::Low, Priority::Normal, Priority::High];
    assert_eq!(priorities.map(|p| byte(encode(&p).unwrap())), [0, 1, 2]);
    let caching = [StepCaching::Off, StepCaching::Safe, StepCaching::Fast];
    assert_eq!(caching.map(|c| byte(encode(&c).unwrap())), [0, 1, 2]);
    let residence = [
        Residence::Unloaded,
        Residence::Host,
        Residence::Partly,
        Residence::Resident,
    ];
    assert_eq!(residence.map(|r| byte(encode(&r).unwrap())), [0, 1, 2, 3]);
}

/// The bytes in the worked examples equal those of the golden files.
#[test]
fn the_worked_examples_are_golden() {
    let document = document();
    let mut shown = 0;
    for part in document.split("`golden/").skip(1) {
        let (name, rest) = part.split_once('`').unwrap();
        if !name.ends_with(".bin") {
            continue;
        }
        let block = rest.split("```").nth(1).unwrap();
        let mut bytes = golden(name);
        for line in block.lines() {
            let hex: Vec<_> = line
                .split("  ")
                .next()
                .unwrap()
                .split_whitespace()
                .collect();
            if hex.contains(&"...") {
                let job = &bytes[..16];
                assert_eq!(format!("{:02x}", job[0]), hex[0]);
                bytes.drain(..16);
                continue;
            }
            for byte in hex {
                let byte = u8::from_str_radix(byte, 16).unwrap_or_else(|_| panic!("{line}"));
                assert_eq!(bytes.first(), Some(&byte), "{name}: {line}");
                bytes.remove(0);
            }
        }
        assert!(bytes.is_empty(), "{name} has {} bytes more", bytes.len());
        let bytes = golden(name);
        assert!(decode_client(&bytes).is_ok() || decode_worker(&bytes).is_ok());
        shown += 1;
    }
    assert!(shown >= 3);
}
