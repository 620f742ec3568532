//! Decoding of untrusted bytes: it never panics, and never allocates past the limit.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use ovis_protocol::limits::{MAX_CHUNK_BYTES, MAX_MESSAGE_BYTES, MAX_TENSOR_BYTES};
use ovis_protocol::{
    decode_client, decode_worker, encode, ClientMessage, CodecError, JobOptions, Request,
};
use ovis_protocol::{Assembler, DType, EncodeRequest, TensorHeader};
use proptest::prelude::*;

/// An allocator that counts the bytes that the current thread holds, and their peak.
struct Counting;

thread_local! {
    static HELD: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

fn count(bytes: isize) {
    // Thread-local counters are gone while a thread ends, and nothing is measured then.
    let _ = HELD.try_with(|held| {
        held.set(held.get() + bytes);
        let _ = PEAK.try_with(|peak| peak.set(peak.get().max(held.get())));
    });
}

// SAFETY: every call is forwarded to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Each level of nested lists may allocate up to the message limit. The deepest nesting is a list of
/// headers, each with a name and a shape.
const MOST_HELD: isize = 3 * MAX_MESSAGE_BYTES as isize;

fn peak_of(work: impl FnOnce()) -> isize {
    let before = HELD.get();
    PEAK.set(before);
    work();
    PEAK.get() - before
}

fn decode_both(bytes: &[u8]) {
    let peak = peak_of(|| {
        let _ = decode_client(bytes);
        let _ = decode_worker(bytes);
    });
    assert!(peak <= MOST_HELD, "held {peak} bytes");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn arbitrary_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
        decode_both(&bytes);
    }

    /// Bytes with a valid variant, followed by arbitrary lengths.
    #[test]
    fn plausible_prefix(
        variant in 0u32..15,
        words in proptest::collection::vec(prop_oneof![
            Just(0u64), Just(1), 0u64..100_000, Just(1 << 20), Just(u64::MAX), any::<u64>(),
        ], 0..24),
        skew in 0usize..20,
    ) {
        let mut bytes = variant.to_le_bytes().to_vec();
        bytes.extend(std::iter::repeat_n(0u8, skew));
        bytes.extend(words.iter().flat_map(|w| w.to_le_bytes()));
        decode_both(&bytes);
    }

    /// Valid messages with some bytes changed, or truncated.
    #[test]
    fn damaged_messages(
        pick in any::<prop::sample::Index>(),
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        keep in any::<prop::sample::Index>(),
        cut in any::<bool>(),
    ) {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/golden");
        let mut files: Vec<_> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|e| e == "bin"))
            .collect();
        files.sort();
        let mut bytes = std::fs::read(pick.get(&files)).unwrap();
        for (at, value) in damage {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if cut {
            bytes.truncate(keep.index(bytes.len()));
        }
        decode_both(&bytes);
    }
}

/// A message with as many small lists as fit.
#[test]
fn densest_message() {
    for count in [18_000u64, 19_000, 20_000, 30_000] {
        let mut bytes = 1u32.to_le_bytes().to_vec();
        bytes.extend([0; 16]);
        bytes.extend(2u32.to_le_bytes());
        bytes.extend(count.to_le_bytes());
        while bytes.len() + 36 <= MAX_MESSAGE_BYTES {
            bytes.extend(1u64.to_le_bytes());
            bytes.push(b'x');
            bytes.extend(0u32.to_le_bytes());
            bytes.extend(1u64.to_le_bytes());
            bytes.extend(1u64.to_le_bytes());
        }
        decode_both(&bytes);
    }
}

#[test]
fn every_truncation_and_extension_is_refused() {
    let message = ClientMessage::Submit {
        job: [7; 16],
        request: Request::Encode(EncodeRequest {
            prompts: vec!["a cat".into()],
            max_sequence_length: 256,
            adapters: vec![],
        }),
        tensors: vec![TensorHeader::new("latent", ovis_protocol::DType::F32, [1])],
        options: JobOptions::default(),
    };
    let mut bytes = encode(&message).unwrap();
    for length in 0..bytes.len() {
        assert!(matches!(
            decode_client(&bytes[..length]),
            Err(CodecError::Malformed(_))
        ));
    }
    bytes.push(0);
    assert!(matches!(
        decode_client(&bytes),
        Err(CodecError::Trailing(1))
    ));
}

#[test]
fn too_large_is_refused_both_ways() {
    let bytes = vec![0; MAX_MESSAGE_BYTES + 1];
    assert!(matches!(
        decode_client(&bytes),
        Err(CodecError::TooLarge(_))
    ));
    let message = ClientMessage::Submit {
        job: [7; 16],
        request: Request::Encode(EncodeRequest {
            prompts: vec!["x".repeat(MAX_MESSAGE_BYTES)],
            max_sequence_length: 256,
            adapters: vec![],
        }),
        tensors: vec![],
        options: JobOptions::default(),
    };
    assert!(encode(&message).is_err());
}

#[test]
fn memory_grows_with_what_arrived_and_not_with_what_was_announced() {
    let header = TensorHeader::new("latent", DType::F32, [MAX_TENSOR_BYTES / 4]);
    let chunk = vec![0; MAX_CHUNK_BYTES];
    let peak = peak_of(|| {
        let mut assembler = Assembler::new(vec![header]).unwrap();
        for part in 0..5 {
            let offset = part * MAX_CHUNK_BYTES;
            assembler.push(0, offset as u64, &chunk).unwrap();
        }
    });
    // The buffer may be twice as large as its content, and exists twice while it grows.
    let most = 4 * 5 * MAX_CHUNK_BYTES as isize;
    assert!(peak <= most, "held {peak} bytes");
}

#[test]
fn what_is_wrong_with_a_message_is_said_without_names_of_types() {
    let submit = |request: &[u8]| [&[1, 0, 0, 0][..], &[7; 16], request].concat();
    let cases: [(&[u8], &str); 8] = [
        (&[], "cut short"),
        (&[1, 0, 0, 0, 9], "cut short"),
        (&[99, 0, 0, 0], "means nothing"),
        (&submit(&[77, 0, 0, 0]), "means nothing"),
        (
            &submit(&[2, 0, 0, 0, 255, 255, 255, 255, 255, 255, 255, 255]),
            "limit of a message",
        ),
        (&[0; 23], "follow the end"),
        (
            &[
                0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 1, 0, 0, 0, 0, 0, 0, 0, 255, 0,
            ],
            "UTF-8",
        ),
        (
            &[
                0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 0, 0, 0, 0, 0, 0, 0, 0, 7,
            ],
            "means nothing",
        ),
    ];
    for (bytes, words) in cases {
        let text = decode_client(bytes).map(drop).err();
        let text = text.map(|error| error.to_string()).unwrap_or_default();
        assert!(text.contains(words), "{bytes:?}: {text}");
        for name in [
            "ClientMessage",
            "Request",
            "UnexpectedEnd",
            "Utf8Error",
            "type_name",
            "{",
        ] {
            assert!(!text.contains(name), "{text}");
        }
    }
}
