//! The seeds of each target, deterministic mutations of them and the kept inputs, through the
//! targets' functions.

use std::path::Path;

use ovis_fuzz::{Target, TARGETS};

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

fn replay(name: &str) {
    let target: &Target = TARGETS
        .iter()
        .find(|target| target.name == name)
        .expect("the target is in the list");
    let seeds = (target.seeds)();
    assert!(!seeds.is_empty(), "there are no seeds");
    let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
    for (at, seed) in seeds.iter().enumerate() {
        assert!((target.run)(seed), "seed {at} does not get through");
        for _ in 0..target.mutations {
            let mut bytes = seed.clone();
            numbers.mutate(&mut bytes);
            (target.run)(&bytes);
        }
    }
    let kept = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("corpus")
        .join(name);
    if kept.is_dir() {
        for entry in kept.read_dir().unwrap() {
            (target.run)(&std::fs::read(entry.unwrap().path()).unwrap());
        }
    }
}

#[test]
fn messages() {
    replay("messages");
}

#[test]
fn assembly() {
    replay("assembly");
}

#[test]
fn admission() {
    replay("admission");
}

#[test]
fn headers() {
    replay("headers");
}

#[test]
fn gguf() {
    replay("gguf");
}

#[test]
fn adapters() {
    replay("adapters");
}

#[test]
fn configs() {
    replay("configs");
}

#[test]
fn journal() {
    replay("journal");
}

#[test]
fn prompts() {
    replay("prompts");
}
