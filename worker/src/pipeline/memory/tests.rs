//! Plans of Ovis-Image-7B for the cards that people have.

use candle_core::{DType, Device};
use proptest::prelude::*;

use super::facts::{Group, Visits};
use super::plan::Nearest;
use super::spread::{evenly, spreads};
use super::*;
use crate::nn::{Placement, WeightFormat};
use crate::pipeline::Geometry;
use crate::quants::BlockType;

const GIB: u64 = 1 << 30;

/// An H200's host and link, with what the driver and libraries are estimated to take.
fn machine(budget: u64) -> Machine {
    Machine {
        budget,
        overhead: 3 * GIB / 4,
        link: 55e9,
        speed: 646e12,
        has_own_products: true,
        host: HostFacts {
            free: Some(100 * GIB),
            may_pin: true,
        },
        table_on_host: true,
    }
}

/// A precision; `q4_k` as a file has it, with the modulations in blocks too.
fn storage(name: &str) -> Storage {
    let q4_k = WeightFormat::Blocks(BlockType::Q4K);
    let placement = Placement {
        device: Device::Cpu,
        weights: DType::BF16,
        products: match name {
            "q4_k" => q4_k,
            "fp8" => WeightFormat::Fp8,
            _ => WeightFormat::Dense,
        },
    };
    let storage = Storage::of(&placement);
    let modulations = match name {
        "q4_k" => storage.large,
        _ => storage.modulations,
    };
    Storage {
        modulations,
        ..storage
    }
}

fn facts_on(machine: Machine, name: &str) -> Facts {
    let sizes = Sizes::of_geometry(&Geometry::ovis_image_7b());
    sizes.facts(&storage(name), &machine, Target::image(1024, 1024), 50)
}

fn facts(mebibytes: u64, name: &str) -> Facts {
    facts_on(machine(mebibytes << 20), name)
}

fn stay(plan: &Plan) -> Vec<usize> {
    let stays = plan.resident.iter();
    stays
        .map(|pages| pages.iter().filter(|stays| **stays).count())
        .collect()
}

#[test]
fn sizes_are_those_of_the_model() {
    let bf16 = facts(24_564, "bf16");
    let bytes = |group: usize| bf16.groups[group].bytes();
    // Units of 4 h^2 + 3 h I parameters, 39 of them; modulations 153 h^2; 28 layers.
    assert_eq!(bf16.groups[0].page, 301_989_888);
    assert_eq!(bytes(0) + bytes(1), 39 * 301_989_888);
    assert_eq!(bytes(2) + bytes(3), 2 * 153 * 3072 * 3072);
    assert_eq!(bytes(4), 28 * 100_663_296);
    assert_eq!(bf16.vae, 2 * 83_819_683);
    let whole = bf16.groups.iter().map(Group::bytes).sum::<u64>() + bf16.fixed;
    let table = 2 * 151_936 * 2048;
    assert_eq!(
        whole + table,
        2 * (Geometry::ovis_image_7b().transformer.parameters()
            + Geometry::ovis_image_7b().text_encoder.parameters())
    );
    let q4 = facts(8188, "q4_k");
    assert_eq!(q4.groups[0].page, 150_994_944 / 256 * 144);
    assert_eq!(q4.scratch, 207_618_048);
    assert!((bf16.step - 0.158).abs() < 0.001, "{}", bf16.step);
}

/// Budget in MiB as cards report it, precision, pages that stay by group, bytes that stream in each
/// step, and an image's time relative to one with all weights resident, at 55 and at 12 GB/s.
type Row = (u64, &'static str, [usize; 5], u64, f64, f64);

#[test]
fn the_cards_that_people_have() {
    let unit = 301_989_888;
    let rows: [Row; 8] = [
        (24_564, "bf16", [12, 27, 12, 27, 28], 0, 1.0, 1.0),
        (16_376, "bf16", [12, 27, 12, 21, 6], 0, 1.006, 1.027),
        (12_282, "bf16", [12, 21, 0, 0, 0], 6 * unit, 1.020, 1.154),
        (8188, "bf16", [12, 7, 0, 0, 0], 20 * unit, 1.036, 3.705),
        (12_282, "fp8", [12, 27, 12, 12, 28], 0, 1.003, 1.014),
        (8188, "fp8", [12, 27, 1, 0, 3], 0, 1.019, 1.086),
        (8188, "q4_k", [12, 27, 6, 0, 28], 0, 1.001, 1.007),
        (6144, "q4_k", [12, 27, 12, 16, 0], 0, 1.007, 1.032),
    ];
    for (budget, name, stays, streamed, fast, slow) in rows {
        let facts = facts(budget, name);
        let made = plan(&facts).unwrap();
        assert_eq!(stay(&made), stays, "{budget} MiB, {name}");
        assert_eq!(made.streamed(&facts, Visits::EveryStep), streamed);
        let ratio = made.seconds.ratio;
        assert!((ratio - fast).abs() < 0.001, "{budget} {name}: {ratio}");
        assert!(made.peak <= facts.budget && made.vae_resident);
        assert_eq!(made.slots.is_empty(), budget == 24_564);
        assert_eq!(made.decode == "whole", budget == 24_564, "{}", made.decode);
        let link = 12e9;
        let ratio = plan(&Facts { link, ..facts }).unwrap().seconds.ratio;
        assert!((ratio - slow).abs() < 0.001, "{budget} {name}: {ratio}");
    }
}

#[test]
fn streaming_over_half_of_the_blocks_hides() {
    let facts = facts(8188, "bf16");
    let made = plan(&facts).unwrap();
    let seconds = made.seconds;
    assert!(seconds.stall < 0.05 * seconds.step, "{seconds:?}");
    // The first block stays whole.
    assert_eq!(made.resident[0][..2], [true, true]);
}

#[test]
fn a_refusal_has_the_numbers_and_the_nearest_plans() {
    let bf16 = facts(2536, "bf16");
    let refusal = plan(&bf16).unwrap_err();
    assert!(refusal.needed > refusal.budget && refusal.host.is_none());
    let others = ["fp8", "q4_k"].map(|name| facts(2536, name));
    let refusal = refusal.with_precisions(others);
    let text = refusal.to_string();
    assert!(
        text.starts_with("an image of 1024 x 1024 in bf16 takes 2."),
        "{text}"
    );
    assert!(
        text.ends_with("of GPU memory, and the budget is 2.5 GiB"),
        "{text}"
    );
    let hint = refusal.hint();
    assert!(hint.contains("--precision q4_k, an image of "), "{hint}");
    assert!(hint.ends_with("GiB would fit."), "{hint}");
    for way in &refusal.nearest {
        let works = match way {
            Nearest::Precision(name) => facts(2536, name),
            Nearest::Target(target) => bf16.with_target(*target),
            Nearest::Budget(budget) => Facts {
                budget: *budget,
                ..bf16.clone()
            },
        };
        plan(&works).unwrap();
    }
    let nothing = plan(&facts(512, "bf16")).unwrap_err();
    assert!(
        matches!(nothing.nearest[..], [Nearest::Budget(_)]),
        "{nothing:?}"
    );
}

#[test]
fn a_host_of_16_gb_reads_from_the_file_what_it_cannot_pin() {
    let free = Some(13 * GIB);
    let host = HostFacts {
        free,
        may_pin: true,
    };
    let mut facts = facts_on(
        Machine {
            host,
            ..machine(8188 << 20)
        },
        "bf16",
    );
    let refusal = plan(&facts).unwrap();
    assert!(refusal.pageable > 0 && refusal.mapped == 0);
    for group in &mut facts.groups {
        group.is_in_file = true;
    }
    let made = plan(&facts).unwrap();
    assert_eq!((made.pinned, made.pageable), (13 * GIB / 4 * 3, 0));
    assert!(made.mapped > 0);
    // Nothing can be pinned at all: everything is read from the file.
    facts.host.may_pin = false;
    let made = plan(&facts).unwrap();
    assert!(made.pinned == 0 && made.mapped > 8 * GIB);
    // In no file, and no room either.
    facts.host.free = Some(4 * GIB);
    for group in &mut facts.groups {
        group.is_in_file = false;
    }
    let refusal = plan(&facts).unwrap_err();
    assert_eq!(refusal.host, Some(4 * GIB));
    assert!(refusal.to_string().contains("more memory on the host"));
}

#[test]
fn larger_images_leave_less_for_weights() {
    let facts = facts(8188, "q4_k");
    let small = plan(&facts).unwrap();
    let large = facts.with_target(Target::image(2048, 2048));
    let large = plan(&large).unwrap();
    assert!(large.working > small.working && large.peak <= facts.budget);
    let weights = |plan: &Plan| -> u64 {
        let groups = facts.groups.iter().zip(stay(plan));
        groups.map(|(group, pages)| group.page * pages as u64).sum()
    };
    assert!(weights(&large) < weights(&small));
    let most = Target::image(small.most.side, small.most.side);
    assert!(plan(&facts.with_target(most)).is_ok());
    let beyond = Target::image(most.width + 16, most.height + 16);
    assert!(plan(&facts.with_target(beyond)).is_err());
}

#[test]
fn a_report_has_every_number() {
    let facts = facts(8188, "fp8");
    let report = MemoryReport::new(&facts, &plan(&facts).unwrap());
    let pages: u64 = report
        .groups
        .iter()
        .map(|g| g.page * g.resident as u64)
        .sum();
    let sum = report.overhead + report.margin + report.fixed + report.vae + report.scratch;
    let slots: u64 = report.slots.iter().sum();
    assert_eq!(sum + pages + slots + report.working, report.peak);
    assert!(!report.is_resident());
    let text = report.to_string();
    assert!(
        text.starts_with(
            "fp8 within 8.0 GiB of GPU memory, for an image of 1024 x 1024 in 50 steps: streams "
        ),
        "{text}"
    );
    assert!(
        text.contains("text encoder layers: 3 of 28 stay  #.........#........#........"),
        "{text}"
    );
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["peak"], report.peak);
    assert_eq!(json["groups"][1]["resident"], 27);
    assert_eq!(json["target"]["width"], 1024);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn more_room_is_never_slower(
        gib in 1.0..26.0f64,
        more in 0.0..4.0f64,
        name in prop::sample::select(vec!["bf16", "fp8", "q4_k"]),
        link in 3e9..60e9f64,
        side in 1usize..128,
        free in prop::option::of(0.0..64.0f64),
    ) {
        let bytes = |gib: f64| (gib * GIB as f64) as u64;
        let host = HostFacts { free: free.map(bytes), may_pin: true };
        let machine = Machine { link, host, ..machine(bytes(gib)) };
        let target = Target::image(16 * side, 1024);
        let small = facts_on(machine, name).with_target(target);
        let large = Facts { budget: bytes(gib + more), ..small.clone() };
        match (plan(&small), plan(&large)) {
            (Ok(one), Ok(other)) => {
                prop_assert!(one.peak <= small.budget && other.peak <= large.budget);
                prop_assert!(other.seconds.image <= one.seconds.image + 2e-6);
                prop_assert!(other.most.side >= one.most.side);
                prop_assert!(other.most.batch >= one.most.batch);
            }
            (Err(why), _) if why.host.is_none() => {
                prop_assert!(why.needed > small.budget);
                let host = HostFacts { free: None, may_pin: true };
                let enough = Facts { budget: why.needed, host, ..small.clone() };
                prop_assert_eq!(plan(&enough).unwrap().peak, why.needed);
            }
            (Err(_), _) => {}
            (Ok(_), Err(why)) => prop_assert!(false, "{}", why),
        }
    }

    #[test]
    fn gaps_differ_by_at_most_one(pages in 1usize..100, part in 0.0..=1.0f64) {
        let count = (part * pages as f64) as usize;
        let resident = evenly(pages, count);
        let places: Vec<_> = (0..pages).filter(|page| resident[*page]).collect();
        prop_assert_eq!(places.len(), count);
        let gaps: Vec<_> = places.windows(2).map(|pair| pair[1] - pair[0]).collect();
        let (least, most) = (gaps.iter().min(), gaps.iter().max());
        prop_assert!(most.unwrap_or(&0) - least.unwrap_or(&0) <= 1);
        prop_assert!(count == 0 || resident[0]);
    }

    #[test]
    fn more_resident_pages_never_wait_longer(
        double in 0usize..8,
        single in 0usize..30,
        copy in 0.1..4.0f64,
        slots in 2usize..5,
    ) {
        let group = |pages, together| Group {
            name: "",
            visits: Visits::EveryStep,
            kind: "",
            page: 1000,
            pages,
            together,
            seconds: 1.0,
            is_in_file: false,
        };
        let groups = [group(2 * double, 2), group(single, 1)];
        let made = spreads(&groups.each_ref(), slots, |_| copy / 1000.0);
        prop_assert_eq!(made.len(), 2 * double + single + 1);
        for (count, spread) in made.iter().enumerate() {
            prop_assert_eq!(spread.resident.iter().filter(|stays| **stays).count(), count);
            if let Some(next) = made.get(count + 1) {
                prop_assert!(next.stall <= spread.stall + 1e-9);
            }
        }
        prop_assert_eq!(made.last().unwrap().stall, 0.0);
    }
}

/// A checkpoint of float32 files, loaded as it is or in other precisions.
#[test]
fn a_checkpoint_has_the_bytes_of_its_parameters() {
    use crate::checkpoint::test_files::{write_checkpoint, Naming};
    let folder = tempfile::tempdir().unwrap();
    write_checkpoint(folder.path(), Naming::Diffusers);
    let checkpoint = crate::checkpoint::Checkpoint::open(&crate::checkpoint::CheckpointArgs {
        model: Some(folder.path().to_owned()),
        ..Default::default()
    })
    .unwrap();
    let sizes = Sizes::of(&checkpoint);
    assert!(!sizes.is_in_blocks());
    let of = |weights, table_on_host| {
        let placement = Placement {
            device: Device::Cpu,
            weights,
            products: WeightFormat::Dense,
        };
        let machine = Machine {
            table_on_host,
            ..machine(GIB)
        };
        sizes.facts(
            &Storage::of(&placement),
            &machine,
            Target::image(64, 64),
            50,
        )
    };
    let parameters: u64 = checkpoint
        .parts()
        .iter()
        .map(|(_, part)| part.parameters())
        .sum();
    for (dtype, value) in [(DType::F32, 4), (DType::BF16, 2)] {
        let facts = of(dtype, false);
        let pages: u64 = facts.groups.iter().map(Group::bytes).sum();
        assert_eq!(pages + facts.fixed + facts.vae, value * parameters);
        assert!(of(dtype, true).fixed < facts.fixed);
        // Only as float32 are the files' bytes the pages'.
        assert!(facts
            .groups
            .iter()
            .all(|group| group.is_in_file == (value == 4)));
    }
    // A model this small stays whole in any budget that it runs in.
    let facts = of(DType::F32, true);
    assert!(plan(&facts).unwrap().is_resident());
}
