//! Copies of pages beside the computation: every bit, their order, their limit, and that they do
//! not hold it up.

use std::sync::Arc;
use std::time::Instant;

use candle_core::{DType, Device, Result, Tensor};

use super::gpu;
use crate::nn::cuda::copier::CudaCopier;
use crate::nn::stream::{Copier, Home, HostBytes, PageLayout, SlotId};
use crate::nn::{is_out_of_memory, limit_memory, link_speed, pool_memory, process_memory};

fn copier() -> CudaCopier {
    let Device::Cuda(device) = gpu() else {
        panic!("a GPU")
    };
    CudaCopier::new(&device).unwrap()
}

/// Bytes of a file.
#[derive(Debug)]
struct Bytes(Vec<u8>);

impl HostBytes for Bytes {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn read(&self, from: usize, into: &mut [u8]) -> Result<()> {
        into.copy_from_slice(&self.0[from..from + into.len()]);
        Ok(())
    }
}

/// A page of two float32 tensors with values that `seed` determines, in each kind of home.
fn page(copier: &CudaCopier, elements: usize, seed: f32) -> (PageLayout, Vec<f32>, [Home; 3]) {
    let value = |i: usize| (i % 100_003) as f32 + seed;
    let first: Vec<f32> = (0..elements).map(value).collect();
    let second: Vec<f32> = (0..1000).map(|i| -value(i)).collect();
    let tensors =
        [&first, &second].map(|values| Tensor::from_slice(values, values.len(), &gpu()).unwrap());
    let layout = PageLayout::of(&[&tensors[0], &tensors[1]]).unwrap();
    let mut pinned = copier.pin(layout.bytes()).expect("pinned memory");
    let mut pageable = vec![0; layout.bytes()];
    let mut origin: Vec<Arc<dyn HostBytes>> = Vec::new();
    for (tensor, part) in tensors.iter().zip(&layout.parts) {
        let range = layout.byte_range(part);
        copier
            .save(tensor, &mut pinned.bytes_mut()[range.clone()])
            .unwrap();
        copier.save(tensor, &mut pageable[range.clone()]).unwrap();
        origin.push(Arc::new(Bytes(pageable[range].to_vec())));
    }
    assert_eq!(pinned.bytes(), pageable);
    let homes = [
        Home::Pinned(pinned),
        Home::Pageable(Arc::new(pageable)),
        Home::Origin(origin),
    ];
    (layout, [first, second].concat(), homes)
}

fn values(layout: &PageLayout, memory: &Tensor) -> Vec<f32> {
    let views = layout.views(memory).unwrap();
    let parts = views.iter().map(|view| view.to_vec1::<f32>().unwrap());
    parts.collect::<Vec<_>>().concat()
}

/// Slots are filled many times with other pages while their last contents are still being read.
#[test]
fn pages_arrive_whole_and_in_order() {
    let copier = copier();
    // Several pieces of the copies, the last of them a small one.
    let elements = (70 << 20) / 4;
    let pages: Vec<_> = (0..3u8)
        .map(|i| page(&copier, elements, f32::from(i)))
        .collect();
    let layout = &pages[0].0;
    let slots: Vec<Tensor> = (0..2)
        .map(|_| copier.memory(DType::F32, layout.elements).unwrap())
        .collect();
    for home in 0..3 {
        let mut sums = Vec::new();
        for turn in 0..12 {
            let (slot, (layout, _, homes)) = (turn % 2, &pages[turn % 3]);
            let id = SlotId(slot as u8);
            copier.fill(id, &slots[slot], layout, &homes[home]).unwrap();
            copier.ready(id).unwrap();
            // Work that reads the slot long after this loop has gone on.
            let views = layout.views(&slots[slot]).unwrap();
            let mut read = views[0].affine(1.0, 0.0).unwrap();
            for _ in 0..20 {
                read = ((read + &views[0]).unwrap() - &views[0]).unwrap();
            }
            copier.used(id).unwrap();
            sums.push(read);
        }
        for (turn, read) in sums.iter().enumerate() {
            let read = read.to_vec1::<f32>().unwrap();
            assert!(
                read == pages[turn % 3].1[..elements],
                "home {home}, turn {turn}"
            );
        }
        let memory = copier.memory(DType::F32, layout.elements).unwrap();
        copier.copy(&memory, layout, &pages[2].2[home]).unwrap();
        assert!(values(layout, &memory) == pages[2].1);
    }
}

/// Seconds of `count` copies of a page into a slot.
fn seconds(copier: &CudaCopier, layout: &PageLayout, home: &Home, count: usize) -> f64 {
    let slot = copier.memory(DType::F32, layout.elements).unwrap();
    copier.fill(SlotId(9), &slot, layout, home).unwrap();
    copier.wait().unwrap();
    let begin = Instant::now();
    for _ in 0..count {
        copier.fill(SlotId(9), &slot, layout, home).unwrap();
    }
    copier.wait().unwrap();
    begin.elapsed().as_secs_f64()
}

#[test]
#[ignore = "measures time: run it alone"]
fn the_limit_is_kept() {
    let copier = copier();
    let (layout, _, homes) = page(&copier, (256 << 20) / 4, 0.0);
    let link = link_speed(&gpu()).unwrap().unwrap();
    println!("link: {:.1} GB/s", link / 1e9);
    for (home, name) in homes.iter().zip(["pinned", "pageable", "file"]) {
        let rate = 4.0 * layout.bytes() as f64 / seconds(&copier, &layout, home, 4);
        println!("{name}: {:.1} GB/s", rate / 1e9);
        for limit in [6e9, 12e9] {
            if rate < 1.1 * limit {
                continue;
            }
            copier.throttle(Some(limit));
            let kept = 4.0 * layout.bytes() as f64 / seconds(&copier, &layout, home, 4);
            copier.throttle(None);
            println!("{name} at {:.0} GB/s: {:.2} GB/s", limit / 1e9, kept / 1e9);
            // The thread that reads a file also waits for the limit, so it falls short of it.
            let least = if name == "pinned" { 0.95 } else { 0.7 };
            assert!((least..1.05).contains(&(kept / limit)), "{name}: {kept}");
        }
    }
}

/// Copies and products of about equal time take little longer together than either alone.
#[test]
#[ignore = "measures time: run it alone"]
fn copies_hide_behind_products() {
    let copier = copier();
    let (layout, _, homes) = page(&copier, (256 << 20) / 4, 0.0);
    let slots = [(); 4].map(|()| copier.memory(DType::F32, layout.elements).unwrap());
    let zeros = Tensor::zeros((8192, 8192), DType::BF16, &gpu()).unwrap();
    let products = |count: usize| {
        for _ in 0..count {
            zeros.matmul(&zeros).unwrap();
        }
    };
    let timed = |work: &dyn Fn()| {
        work();
        gpu().synchronize().unwrap();
        copier.wait().unwrap();
        let begin = Instant::now();
        work();
        gpu().synchronize().unwrap();
        copier.wait().unwrap();
        begin.elapsed().as_secs_f64()
    };
    for (home, name) in homes.iter().zip(["pinned", "pageable", "file"]) {
        let copies = || {
            // As many as there are slots: the next copy into a slot waits for the one before.
            for (id, slot) in (0..).zip(&slots) {
                copier.fill(SlotId(id), slot, &layout, home).unwrap();
            }
        };
        let alone = timed(&copies);
        let one = timed(&|| products(20)) / 20.0;
        let count = (alone / one).ceil() as usize;
        let computing = timed(&|| products(count));
        let both = timed(&|| {
            copies();
            products(count);
        });
        println!("{name}: copies {alone:.3} s, products {computing:.3} s, both {both:.3} s");
        assert!(both < 1.1 * alone.max(computing), "{name}");
    }
}

#[test]
#[ignore = "limits the memory of the whole process: run it alone"]
fn the_pool_ends_at_its_limit_and_recovers() {
    let device = gpu();
    let limit = 1u64 << 30;
    assert!(limit_memory(&device, Some(limit)).unwrap());
    let piece = || {
        // SAFETY: nothing reads it.
        unsafe { Tensor::empty(64 << 20, DType::U8, &device) }
    };
    let mut pieces = Vec::new();
    let error = loop {
        match piece() {
            Ok(piece) => pieces.push(piece),
            Err(error) => break error,
        }
        assert!(pieces.len() <= 16, "the limit is not kept");
    };
    assert!(is_out_of_memory(&error), "{error}");
    let pool = pool_memory(&device).unwrap();
    assert_eq!(pool.limit, Some(limit));
    assert!(pool.reserved <= limit && pool.used <= pool.reserved);
    println!(
        "{} pieces of 64 MiB, {pool:?}, {:?}",
        pieces.len(),
        process_memory(&device)
    );
    pieces.truncate(8);
    device.synchronize().unwrap();
    assert!(piece().is_ok());
    drop(pieces);
    crate::nn::give_back_memory(&device).unwrap();
    assert!(pool_memory(&device).unwrap().reserved < limit / 4);
    assert!(limit_memory(&device, None).unwrap());
}
