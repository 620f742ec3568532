//! The rooms of the worker depend on each other one way only, and files form no circle.
//!
//! The test reads the source: every path that begins with `crate`, `super`, `self` or a module
//! declared in the same file is followed to the file that defines what it names, through the
//! re-exports of a `mod.rs`. Code that is compiled for tests alone does not count.

mod source;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use source::{Crate, Module};

/// Which room may use which, from the top of the house to its ground. A line that is not here is
/// not allowed; to add one is to change the design, which CONTRIBUTING.md describes.
const ALLOWED: &[(&str, &[&str])] = &[
    (
        "cli",
        &[
            "server",
            "device",
            "jobs",
            "pipeline",
            "models",
            "nn",
            "checkpoint",
            "quants",
            "logging",
            "text",
        ],
    ),
    ("server", &["jobs", "pipeline", "logging", "text"]),
    ("device", &["jobs", "pipeline", "nn", "text"]),
    ("jobs", &["pipeline"]),
    (
        "pipeline",
        &["models", "sampling", "nn", "checkpoint", "quants", "text"],
    ),
    ("sampling", &["nn"]),
    ("models", &["nn", "checkpoint", "quants"]),
    ("nn", &["quants"]),
    ("checkpoint", &["quants", "text"]),
    ("quants", &[]),
    ("logging", &["text"]),
    ("text", &[]),
];

#[test]
fn rooms_depend_one_way() {
    let worker = Crate::read(&source_folder("src"));
    let mut wrong = BTreeSet::new();
    for (from, to, path) in worker.references() {
        let (Some(room), Some(other)) = (from.first(), to.first()) else {
            continue;
        };
        // The binary's entry and the crate's front page name every room.
        if room == other || room == "main" {
            continue;
        }
        let allowed = ALLOWED.iter().find(|(name, _)| name == room);
        let allowed = allowed.unwrap_or_else(|| panic!("the room `{room}` has no line in ALLOWED"));
        if !allowed.1.contains(&other.as_str()) {
            wrong.insert(format!("{room} -> {other}: {}", path.display()));
        }
    }
    assert!(
        wrong.is_empty(),
        "rooms use others that they may not:\n{}",
        lines(&wrong)
    );
}

#[test]
fn the_list_has_no_circle_and_no_line_too_many() {
    let names: Vec<_> = ALLOWED.iter().map(|(room, _)| *room).collect();
    for (place, (room, uses)) in ALLOWED.iter().enumerate() {
        for other in *uses {
            let below = names.iter().position(|name| name == other);
            assert!(
                below.is_some_and(|below| below > place),
                "{room} -> {other} does not point down the list"
            );
        }
    }
    let worker = Crate::read(&source_folder("src"));
    let used: BTreeSet<_> = worker
        .references()
        .into_iter()
        .filter_map(|(from, to, _)| Some((from.first()?.clone(), to.first()?.clone())))
        .collect();
    for (room, uses) in ALLOWED {
        for other in *uses {
            assert!(
                used.contains(&((*room).to_owned(), (*other).to_owned())),
                "nothing in {room} uses {other}: take it off the list"
            );
        }
    }
}

#[test]
fn files_form_no_circle() {
    for folder in ["src", "../protocol/src"] {
        let sources = Crate::read(&source_folder(folder));
        let mut edges: BTreeMap<Module, BTreeSet<Module>> = BTreeMap::new();
        for (from, to, _) in sources.references() {
            // The crate's front page re-exports everything.
            if from != to && !from.is_empty() && !to.is_empty() {
                edges.entry(from).or_default().insert(to);
            }
        }
        let circles = circles(&edges);
        assert!(
            circles.is_empty(),
            "files of {folder} need each other:\n{}",
            lines(&circles)
        );
    }
}

fn source_folder(folder: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)
}

fn lines(texts: &BTreeSet<String>) -> String {
    texts.iter().map(|text| format!("  {text}\n")).collect()
}

/// The references that close a circle, as text: those between modules that reach each other.
fn circles(edges: &BTreeMap<Module, BTreeSet<Module>>) -> BTreeSet<String> {
    let reaches = |start: &Module, end: &Module| {
        let mut seen = BTreeSet::new();
        let mut open = vec![start];
        while let Some(next) = open.pop() {
            for to in edges.get(next).into_iter().flatten() {
                if to == end {
                    return true;
                }
                if seen.insert(to) {
                    open.push(to);
                }
            }
        }
        false
    };
    let all = edges
        .iter()
        .flat_map(|(from, targets)| targets.iter().map(move |to| (from, to)));
    all.filter(|(from, to)| reaches(to, from))
        .map(|(from, to)| format!("{} -> {}", from.join("::"), to.join("::")))
        .collect()
}
