//! The float32 normal noise that PyTorch's CPU generator draws for a seed.
//!
//! Sources: PyTorch `aten/src/ATen/core/MT19937RNGEngine.h`,
//! `TransformationHelper.h`, `DistributionsHelper.h` and
//! `aten/src/ATen/native/cpu/DistributionTemplates.h` (`normal_fill`).

use std::collections::BTreeMap;
use std::f64::consts::TAU;

use candle_core::{DType, Device, Result, Tensor};
use rayon::prelude::*;

use super::snapshot::{self, Snapshot};
use crate::nn::check_cancelled;

/// Words of the Mersenne Twister's state.
const STATE: usize = 624;

/// Distance between the two words that the recurrence combines.
const SHIFT: usize = 397;

/// Tensors of at least this many elements are filled with uniforms, which are transformed in
/// blocks of as many; smaller ones are drawn as one double-precision normal after the other.
const BLOCK: usize = 16;

/// Fewest blocks for which handing them to another core pays off.
const MIN_BLOCKS_PER_TASK: usize = 512;

/// Words drawn between two checks for cancellation: about a millisecond.
const WORDS_PER_CHECK: usize = 1 << 20;

/// `torch.Generator(device="cpu")`: MT19937, and the second normal of the last pair drawn.
#[derive(Clone)]
pub struct TorchGenerator {
    state: [u32; STATE],
    /// Index of the next word to give out; `STATE` when all have been.
    next: usize,
    spare_normal: Option<f64>,
}

/// Names of the generator's parts in a snapshot.
const STATE_NAME: &str = "noise.generator.state";
const NEXT_NAME: &str = "noise.generator.next";
const SPARE_NAME: &str = "noise.generator.spare_normal";

impl TorchGenerator {
    /// `torch.Generator().manual_seed(seed)`; only the low 32 bits count.
    pub fn new(seed: u64) -> Self {
        let mut state = [0u32; STATE];
        state[0] = seed as u32;
        for i in 1..STATE {
            let previous = state[i - 1];
            state[i] = 1_812_433_253u32
                .wrapping_mul(previous ^ (previous >> 30))
                .wrapping_add(i as u32);
        }
        Self {
            state,
            next: STATE,
            spare_normal: None,
        }
    }

    /// Stores the state that decides all further draws.
    ///
    /// # Errors
    /// The state's tensor cannot be made.
    pub fn save(&self, snapshot: &mut Snapshot) -> snapshot::Result<()> {
        snapshot.put_tensor(STATE_NAME, &Tensor::new(&self.state, &Device::Cpu)?)?;
        snapshot.put(NEXT_NAME, self.next as u64);
        snapshot.put(SPARE_NAME, self.spare_normal.map(f64::to_bits));
        Ok(())
    }

    /// The generator that [`save`](Self::save) stored.
    ///
    /// # Errors
    /// The snapshot lacks a part of the state, or has an impossible one.
    pub fn restored(snapshot: &Snapshot) -> snapshot::Result<Self> {
        let words = snapshot.tensor(STATE_NAME, DType::U32, &[STATE], &Device::Cpu)?;
        let mut state = [0; STATE];
        state.copy_from_slice(&words.to_vec1::<u32>()?);
        Ok(Self {
            state,
            next: snapshot.count(NEXT_NAME, STATE)?,
            spare_normal: snapshot.get::<Option<u64>>(SPARE_NAME)?.map(f64::from_bits),
        })
    }

    /// `torch.randn(n)`: `n` standard normals.
    ///
    /// # Errors
    /// The job is cancelled while it draws.
    pub fn normals(&mut self, n: usize) -> Result<Vec<f32>> {
        if n < BLOCK {
            return Ok((0..n).map(|_| self.normal_f64() as f32).collect());
        }
        let mut values = Vec::with_capacity(n);
        while values.len() < n {
            check_cancelled()?;
            let start = values.len();
            let end = (start + WORDS_PER_CHECK).min(n);
            values.extend((start..end).map(|_| self.uniform_f32()));
            // Blocks are independent of each other, so all cores can transform them.
            values[start..]
                .par_chunks_exact_mut(BLOCK)
                .with_min_len(MIN_BLOCKS_PER_TASK)
                .for_each(box_muller);
        }
        if !n.is_multiple_of(BLOCK) {
            // PyTorch draws the last 16 values anew instead of transforming a partial block.
            let tail = &mut values[n - BLOCK..];
            tail.fill_with(|| self.uniform_f32());
            box_muller(tail);
        }
        Ok(values)
    }

    /// Advances the state as [`normals`](Self::normals) of `n` does, without computing them.
    ///
    /// # Errors
    /// The job is cancelled meanwhile.
    pub fn skip_normals(&mut self, n: usize) -> Result<()> {
        if n < BLOCK {
            return self.normals(n).map(drop);
        }
        let mut words = n + if !n.is_multiple_of(BLOCK) { BLOCK } else { 0 };
        let rest = STATE - self.next;
        if words <= rest {
            self.next += words;
            return Ok(());
        }
        words -= rest;
        let mut unchecked = 0;
        while words > 0 {
            self.twist();
            self.next = words.min(STATE);
            words -= self.next;
            unchecked += STATE;
            if unchecked >= WORDS_PER_CHECK {
                check_cancelled()?;
                unchecked = 0;
            }
        }
        Ok(())
    }

    /// A normal by the Box-Muller transform in double precision, which makes two at a time and
    /// keeps the second for the next call.
    fn normal_f64(&mut self) -> f64 {
        if let Some(normal) = self.spare_normal.take() {
            return normal;
        }
        let u1 = self.uniform_f64();
        let u2 = self.uniform_f64();
        let radius = (-2.0 * (-u2).ln_1p()).sqrt();
        let theta = TAU * u1;
        self.spare_normal = Some(radius * theta.sin());
        radius * theta.cos()
    }

    /// Uniform in 0..1 from 24 random bits.
    fn uniform_f32(&mut self) -> f32 {
        (self.word() & ((1 << 24) - 1)) as f32 / (1u32 << 24) as f32
    }

    /// Uniform in 0..1 from 53 random bits, high word first.
    fn uniform_f64(&mut self) -> f64 {
        let high = u64::from(self.word());
        let low = u64::from(self.word());
        (((high << 32) | low) & ((1 << 53) - 1)) as f64 / (1u64 << 53) as f64
    }

    /// The next 32 random bits.
    fn word(&mut self) -> u32 {
        if self.next == STATE {
            self.twist();
        }
        let mut y = self.state[self.next];
        self.next += 1;
        y ^= y >> 11;
        y ^= (y << 7) & 0x9d2c_5680;
        y ^= (y << 15) & 0xefc6_0000;
        y ^ (y >> 18)
    }

    /// Computes the next words of the state. The loop is split into three so that no index
    /// wraps around and the compiler can vectorise it.
    fn twist(&mut self) {
        let state = &mut self.state;
        for i in 0..STATE - SHIFT {
            state[i] = state[i + SHIFT] ^ mixed(state[i], state[i + 1]);
        }
        for i in STATE - SHIFT..STATE - 1 {
            state[i] = state[i + SHIFT - STATE] ^ mixed(state[i], state[i + 1]);
        }
        state[STATE - 1] = state[SHIFT - 1] ^ mixed(state[STATE - 1], state[0]);
        self.next = 0;
    }
}

/// The recurrence's matrix product, of the highest bit of a word and the other bits of the
/// next.
fn mixed(word: u32, next: u32) -> u32 {
    let y = (word & 0x8000_0000) | (next & 0x7fff_ffff);
    (y >> 1) ^ (0x9908_b0df & (y & 1).wrapping_neg())
}

/// Turns 16 uniforms into 16 normals: the first eight are the radii's uniforms,
/// the last eight the angles'.
fn box_muller(block: &mut [f32]) {
    let (radii, angles) = block.split_at_mut(BLOCK / 2);
    for (a, b) in radii.iter_mut().zip(angles) {
        let radius = (-2.0 * f64::from(1.0 - *a).ln()).sqrt();
        let theta = f64::from(TAU as f32 * *b);
        (*a, *b) = ((radius * theta.cos()) as f32, (radius * theta.sin()) as f32);
    }
}

/// Noise for a batch of `batch` tensors of `elements` values each, as ComfyUI's
/// `prepare_noise` draws it: one draw for the whole batch. With a `batch_index`, draws are of
/// one tensor each, and each batch entry gets the draw whose number the index gives; the
/// generator skips draws that the index does not name.
///
/// # Errors
/// The job is cancelled while it draws.
pub fn batch_noise(
    seed: u64,
    batch: usize,
    elements: usize,
    batch_index: Option<&[u64]>,
) -> Result<Vec<f32>> {
    let mut generator = TorchGenerator::new(seed);
    let Some(index) = batch_index else {
        return generator.normals(batch * elements);
    };
    let mut entries_of: BTreeMap<u64, Vec<usize>> = BTreeMap::new();
    for (entry, &draw) in index.iter().enumerate() {
        entries_of.entry(draw).or_default().push(entry);
    }
    let mut noise = vec![0.0; index.len() * elements];
    let mut next = 0;
    for (draw, entries) in entries_of {
        for _ in next..draw {
            generator.skip_normals(elements)?;
        }
        let values = generator.normals(elements)?;
        for entry in entries {
            noise[entry * elements..(entry + 1) * elements].copy_from_slice(&values);
        }
        next = draw + 1;
    }
    Ok(noise)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use super::*;
    use crate::nn::Operation;

    #[test]
    fn only_the_low_32_bits_of_a_seed_count() {
        let low = TorchGenerator::new(5).normals(40).unwrap();
        assert_eq!(TorchGenerator::new((1 << 32) + 5).normals(40).unwrap(), low);
        assert_ne!(TorchGenerator::new(6).normals(40).unwrap(), low);
    }

    /// PyTorch's values by name; `tests/make_golden.py` made and documents them.
    fn golden() -> Vec<(String, Vec<f32>)> {
        let path = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../tests/golden/noise.safetensors"
        );
        let file = std::fs::read(path).unwrap();
        let tensors = safetensors::SafeTensors::deserialize(&file).unwrap();
        let values = |bytes: &[u8]| {
            let words = bytes.chunks_exact(4);
            words
                .map(|b| f32::from_le_bytes(b.try_into().unwrap()))
                .collect()
        };
        let tensors = tensors.iter();
        tensors
            .map(|(name, t)| (name.to_owned(), values(t.data())))
            .collect()
    }

    /// PyTorch's builds differ by up to 2e-6 among themselves.
    fn assert_close(name: &str, ours: &[f32], theirs: &[f32]) {
        assert_eq!(ours.len(), theirs.len(), "{name}");
        for (i, (a, b)) in ours.iter().zip(theirs).enumerate() {
            assert!((a - b).abs() <= 4e-6, "{name}[{i}] is {a}, PyTorch has {b}");
        }
    }

    #[test]
    fn one_draw_is_pytorchs() {
        let mut seen = 0;
        for (name, theirs) in golden() {
            let Some(seed) = name.strip_prefix("seed") else {
                continue;
            };
            let seed = seed.split('_').next().unwrap().parse().unwrap();
            let ours = TorchGenerator::new(seed).normals(theirs.len()).unwrap();
            assert_close(&name, &ours, &theirs);
            seen += 1;
        }
        // Six seeds of 40 small sizes, two of 16 larger ones, two of two shapes.
        assert_eq!(seen, 6 * 40 + 2 * 16 + 2 * 2);
    }

    #[test]
    fn draws_after_one_another_are_pytorchs() {
        let mut by_seed: std::collections::BTreeMap<u64, Vec<_>> = Default::default();
        for (name, theirs) in golden() {
            let Some(rest) = name.strip_prefix("drawn_seed") else {
                continue;
            };
            let mut fields = rest.split('_');
            let seed = fields.next().unwrap().parse().unwrap();
            let number: usize = fields.next().unwrap().parse().unwrap();
            let draws = by_seed.entry(seed).or_default();
            draws.push((number, name, theirs));
        }
        assert_eq!(by_seed.len(), 6);
        for (seed, mut draws) in by_seed {
            draws.sort_by_key(|(number, ..)| *number);
            assert_eq!(draws.len(), 16);
            let mut generator = TorchGenerator::new(seed);
            for (_, name, theirs) in draws {
                assert_close(&name, &generator.normals(theirs.len()).unwrap(), &theirs);
            }
        }
    }

    #[test]
    fn batch_index_picks_draws() {
        let noise = batch_noise(7, 3, 64, Some(&[2, 0, 2])).unwrap();
        let mut generator = TorchGenerator::new(7);
        let draws: Vec<_> = (0..3).map(|_| generator.normals(64).unwrap()).collect();
        assert_eq!(noise[..64], draws[2]);
        assert_eq!(noise[64..128], draws[0]);
        assert_eq!(noise[128..], draws[2]);
    }

    #[test]
    fn skipped_draws_leave_the_same_state_as_drawn_ones() {
        for n in [1, 15, 16, 17, 623, 624, 625, 1248, 5000, 40_001] {
            for before in [0, 16, 600, 624] {
                let mut drawn = TorchGenerator::new(3);
                drawn.normals(before).unwrap();
                let mut skipped = drawn.clone();
                drawn.normals(n).unwrap();
                skipped.skip_normals(n).unwrap();
                let wanted = drawn.normals(700).unwrap();
                assert_eq!(skipped.normals(700).unwrap(), wanted, "{n} after {before}");
            }
        }
    }

    #[test]
    fn a_cancelled_job_draws_no_more() {
        let operation = Operation::default();
        operation.cancelled.store(true, Ordering::Relaxed);
        operation.run(|| {
            let mut generator = TorchGenerator::new(3);
            assert!(generator.normals(1 << 22).is_err());
            assert!(generator.skip_normals(1 << 22).is_err());
            assert!(batch_noise(3, 1, 1 << 16, Some(&[4095])).is_err());
        });
    }
}
