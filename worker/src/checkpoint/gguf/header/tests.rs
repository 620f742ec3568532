use proptest::prelude::*;

use super::super::super::source::StoredType;
use super::super::metadata::Value;
use super::super::writer::{write_header, Described};
use super::*;

fn tensor(name: &str, stored: StoredType, shape: &[usize], bytes: u64) -> Described {
    Described {
        name: name.into(),
        stored,
        shape: shape.to_vec(),
        bytes,
    }
}

/// A file of two tensors, with metadata of every kind.
fn file() -> Vec<u8> {
    let metadata = [
        ("general.architecture", Value::Text("flux".into())),
        ("general.file_type", Value::U32(7)),
        ("eps", Value::F32(0.5)),
        ("flag", Value::Bool(true)),
        ("tokens", Value::Texts(vec!["a".into(), "".into()])),
        ("kinds", Value::I32s(vec![1, 2, 3])),
    ];
    let metadata = metadata.map(|(key, value)| (key.to_owned(), value));
    let kind = StoredType::Block(crate::quants::BlockType::Q8_0);
    let tensors = [
        tensor("b", StoredType::F32, &[3], 12),
        tensor("a", kind, &[2, 64], 136),
    ];
    let mut bytes = write_header(&metadata, &tensors);
    bytes.resize(bytes.len() + 32 + 136, 0);
    bytes
}

fn parsed(bytes: &[u8]) -> Result<Header, WeightsError> {
    parse(Path::new("x.gguf"), bytes)
}

#[test]
fn what_is_written_is_read() {
    let bytes = file();
    let header = parsed(&bytes).unwrap();
    let entry = &header.tensors["a"];
    assert_eq!(entry.shape, [2, 64]);
    assert_eq!(entry.stored.to_string(), "Q8_0");
    assert_eq!(entry.bytes, bytes.len() - 136..bytes.len());
    assert_eq!(header.tensors["b"].shape, [3]);
    let numbers: Vec<_> = header
        .numbers
        .iter()
        .map(|(key, n)| (&key[..], *n))
        .collect();
    let wanted = [("eps", 0.5), ("flag", 1.0), ("general.file_type", 7.0)];
    assert_eq!(numbers, wanted);
    let mut older = bytes.clone();
    older[4] = 2;
    assert_eq!(parsed(&older).unwrap().tensors, header.tensors);
}

/// A header of version 3 with these bytes for tensors and metadata.
fn of(tensors: u64, entries: u64, rest: &[&[u8]]) -> Vec<u8> {
    let mut bytes = b"GGUF\x03\0\0\0".to_vec();
    bytes.extend(tensors.to_le_bytes());
    bytes.extend(entries.to_le_bytes());
    rest.iter().for_each(|part| bytes.extend(*part));
    bytes
}

/// A tensor's description.
fn described(name: &[u8], sizes: &[u64], code: u32, start: u64) -> Vec<u8> {
    let mut bytes = (name.len() as u64).to_le_bytes().to_vec();
    bytes.extend(name);
    bytes.extend((sizes.len() as u32).to_le_bytes());
    bytes.extend(sizes.iter().flat_map(|size| size.to_le_bytes()));
    bytes.extend(code.to_le_bytes());
    bytes.extend(start.to_le_bytes());
    bytes
}

/// A metadata entry.
fn entry(key: &str, code: u32, value: &[u8]) -> Vec<u8> {
    let mut bytes = (key.len() as u64).to_le_bytes().to_vec();
    bytes.extend(key.as_bytes());
    bytes.extend(code.to_le_bytes());
    bytes.extend(value);
    bytes
}

#[test]
fn headers_that_lie() {
    let data = [0; 256];
    let one = |sizes: &[u64], code, start| of(1, 0, &[&described(b"a", sizes, code, start), &data]);
    let good = described(b"a", &[8], 0, 0);
    let other = |start| described(b"b", &[8], 0, start);
    let huge = u64::MAX.to_le_bytes();
    let mut swapped = file();
    swapped[4..8].copy_from_slice(&3u32.to_be_bytes());
    let mut first = file();
    first[4] = 1;
    let arrays = |depth: usize| {
        let level = [9u32.to_le_bytes().to_vec(), 1u64.to_le_bytes().to_vec()].concat();
        entry("a", 9, &level.repeat(depth))
    };
    let cases: [(Vec<u8>, &str); 22] = [
        (b"GGUF\x03".to_vec(), "asks for 4 bytes at byte 4"),
        (swapped, "big-endian order"),
        (first, "GGUF version 1, and versions 2 and 3"),
        (of(u64::MAX, 0, &[]), "claims 18446744073709551615 tensors"),
        (of(0, 1 << 40, &[]), "metadata entries, more than"),
        (of(0, 1, &[&entry("a", 13, &data)]), "a value of type 13"),
        (
            of(0, 1, &[&entry("a", 8, &huge), &data]),
            "asks for 18446744073709551615 bytes",
        ),
        (of(0, 1, &[&huge, &data]), "the name of a metadata entry"),
        (of(0, 1, &[&arrays(9), &data]), "arrays in arrays"),
        (
            of(
                0,
                1,
                &[&entry("a", 9, &[&4u32.to_le_bytes()[..], &huge].concat())],
            ),
            "numbers in an array",
        ),
        (
            of(
                0,
                2,
                &[&entry("n", 4, &[1, 0, 0, 0]), &entry("n", 0, &[1]), &data],
            ),
            "entry `n` twice",
        ),
        (
            of(0, 1, &[&entry("general.alignment", 4, &[3, 0, 0, 0])]),
            "alignment is 3, not a power of two",
        ),
        (
            of(1, 0, &[&described(b"\xff", &[8], 0, 0), &data]),
            "not UTF-8",
        ),
        (one(&[1; 5], 0, 0), "has 5 dimensions"),
        (one(&[8], 4, 0), "`a` has type 4, which"),
        (
            one(&[8], 8, 0),
            "rows of 8 values, no whole blocks of 32 as Q8_0",
        ),
        (one(&[1 << 40, 1 << 40], 0, 0), "larger than any memory"),
        (
            one(&[8], 0, 8),
            "starts at byte 8 of the data, no multiple of 32",
        ),
        (
            one(&[8], 0, 1 << 63),
            "cannot lie at byte 9223372036854775808",
        ),
        (one(&[8], 0, 1 << 40), "is truncated: tensor `a` needs"),
        (of(2, 0, &[&good, &good, &data]), "names tensor `a` twice"),
        (
            of(2, 0, &[&good, &other(0), &data]),
            "the one before it ends at 32",
        ),
    ];
    for (bytes, words) in cases {
        let refusal = parsed(&bytes).expect_err(words).to_string();
        assert!(refusal.contains(words), "{words}: {refusal}");
    }
    assert_eq!(
        parsed(&of(2, 0, &[&good, &other(32), &data]))
            .unwrap()
            .tensors
            .len(),
        2
    );
}

#[test]
fn a_type_that_is_not_decoded_is_named() {
    let bytes = of(1, 0, &[&described(b"a", &[256], 16, 0), &[0; 128]]);
    let header = parsed(&bytes).unwrap();
    assert_eq!(header.tensors["a"].stored.to_string(), "IQ2_XXS (type 16)");
}

proptest! {
    #[test]
    fn no_bytes_end_the_program(
        at in 0usize..400,
        changed in prop::collection::vec(any::<u8>(), 0..16),
        cut in 0usize..600,
    ) {
        let mut bytes = file();
        for (byte, new) in bytes.iter_mut().skip(at).zip(changed) {
            *byte = new;
        }
        bytes.truncate(cut);
        if let Ok(header) = parsed(&bytes) {
            prop_assert!(header.tensors.values().all(|entry| entry.bytes.end <= bytes.len()));
        }
    }
}
