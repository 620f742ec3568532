//! The golden messages and deterministic mutations of them, through the fuzz targets' functions.

use std::path::Path;

use ovis_fuzz::{assembly, messages};
use ovis_protocol::{chunks, encode, ClientMessage, DType, JobOptions, Request, TensorHeader};

/// Mutations of each seed.
const MUTATIONS: usize = 2000;

/// A generator of pseudo-random numbers (xorshift64), the same in every run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound.max(1) as u64) as usize
    }

    /// Changes up to four places: a byte, a cut, a doubled part or a huge length.
    fn mutate(&mut self, bytes: &mut Vec<u8>) {
        for _ in 0..=self.below(4) {
            let at = self.below(bytes.len());
            match self.below(4) {
                0 if !bytes.is_empty() => bytes[at] = self.below(256) as u8,
                1 => bytes.truncate(at),
                2 => bytes.extend_from_within(at..),
                _ => bytes
                    .iter_mut()
                    .skip(at)
                    .take(8)
                    .for_each(|byte| *byte = 0xff),
            }
        }
    }
}

fn through(seeds: &[Vec<u8>], run: fn(&[u8])) {
    assert!(!seeds.is_empty(), "there are no seeds");
    let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
    for seed in seeds {
        run(seed);
        for _ in 0..MUTATIONS {
            let mut bytes = seed.clone();
            numbers.mutate(&mut bytes);
            run(&bytes);
        }
    }
}

#[test]
fn messages_decode_or_are_refused() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../protocol/golden");
    let seeds: Vec<_> = std::fs::read_dir(golden)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|kind| kind == "bin"))
        .map(|path| std::fs::read(path).unwrap())
        .collect();
    through(&seeds, messages::run);
}

#[test]
fn tensors_assemble_or_are_refused() {
    let job = [7; 16];
    let header = |name: &str, shape: &[u64]| TensorHeader {
        name: name.into(),
        dtype: DType::F32,
        shape: shape.to_vec(),
    };
    let submit = ClientMessage::Submit {
        job,
        request: Request::Decode,
        tensors: vec![header("latent", &[1, 2, 3]), header("mask", &[4])],
        options: JobOptions::default(),
    };
    let tensors: [&[u8]; 2] = [&[1; 24], &[2; 16]];
    let frames = chunks(job, tensors).map(ClientMessage::Chunk);
    let mut seed = Vec::new();
    for message in std::iter::once(submit).chain(frames) {
        let frame = encode(&message).unwrap();
        seed.extend((frame.len() as u16).to_le_bytes());
        seed.extend(frame);
    }
    through(&[seed], assembly::run);
}
