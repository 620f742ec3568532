//! Which pages of the blocks stay resident, so that the copies of the others hide behind the
//! arithmetic.

use super::facts::Group;

/// Part of the link's speed that is counted on beside arithmetic.
const USABLE_LINK: f64 = 0.9;

/// Part of a copy's time by which it slows the arithmetic beside it: both need the GPU's memory.
const SHARED_MEMORY: f64 = 0.03;

/// Cycles after which a schedule repeats itself.
const CYCLES: usize = 3;

/// A choice of resident pages of the blocks.
#[derive(Clone, Debug, PartialEq)]
pub struct Spread {
    /// By page, in the order of use, over all groups.
    pub resident: Vec<bool>,
    /// Seconds by which the copies make a step longer.
    pub stall: f64,
}

/// One block of a step.
struct Turn {
    /// Seconds of arithmetic.
    seconds: f64,
    /// Seconds to copy each of its streamed pages.
    copies: Vec<f64>,
}

/// For every number of resident pages, from none to all, the spread with the shortest step. The
/// stall never grows with the number. `second_per_byte` gives the time to copy a byte when that
/// many pages are resident.
pub fn spreads(
    groups: &[&Group],
    slots: usize,
    second_per_byte: impl Fn(usize) -> f64,
) -> Vec<Spread> {
    let pages: usize = groups.iter().map(|group| group.pages).sum();
    let mut best: Vec<Spread> = Vec::with_capacity(pages + 1);
    for count in 0..=pages {
        let speed = second_per_byte(count) / USABLE_LINK;
        let timed = |resident: Vec<bool>| {
            let turns = turns(groups, &resident, speed);
            let copies: f64 = turns.iter().flat_map(|turn| &turn.copies).sum();
            Spread {
                stall: stall(&turns, slots) + SHARED_MEMORY * copies,
                resident,
            }
        };
        // One page more than the last choice can only help: there is one copy less.
        let grown = best.last().map(|last: &Spread| {
            let mut resident = last.resident.clone();
            if let Some(page) = resident.iter().position(|is_resident| !is_resident) {
                resident[page] = true;
            }
            resident
        });
        let candidates = patterns(groups, count).into_iter().chain(grown).map(timed);
        let shortest = candidates.min_by(|a, b| a.stall.total_cmp(&b.stall));
        best.extend(shortest);
    }
    best
}

/// Choices of `count` resident pages: spread over all, those of the first group first, and those of
/// the other groups first. The pages of the first block come before all others, because the step
/// cache runs that block alone.
fn patterns(groups: &[&Group], count: usize) -> Vec<Vec<bool>> {
    let pages: usize = groups.iter().map(|group| group.pages).sum();
    let Some(first) = groups.iter().find(|group| group.pages > 0) else {
        return vec![Vec::new()];
    };
    let head = first.together.min(count);
    let (in_first, rest) = (first.pages - head, pages - first.pages);
    let count = count - head;
    let joined = |parts: [Vec<bool>; 2]| [vec![true; head], parts.concat()].concat();
    let split = |ahead: usize| {
        let of_first = ahead.min(in_first);
        joined([evenly(in_first, of_first), evenly(rest, count - of_first)])
    };
    let mut patterns = vec![split(count), split(count.saturating_sub(rest))];
    if count <= in_first + rest {
        patterns.push(joined([evenly(in_first + rest, count), Vec::new()]));
    }
    patterns
}

/// `count` of `pages`, the gaps between which differ by at most one. The first is one of them.
pub fn evenly(pages: usize, count: usize) -> Vec<bool> {
    (0..pages).map(|i| i * count % pages < count).collect()
}

/// The blocks of a step with the copies of pages that are not resident.
fn turns(groups: &[&Group], resident: &[bool], second_per_byte: f64) -> Vec<Turn> {
    let mut resident = resident.iter();
    let mut turns = Vec::new();
    for group in groups {
        for _ in 0..group.pages / group.together.max(1) {
            let is_resident = resident.by_ref().take(group.together);
            let copy = group.page as f64 * second_per_byte;
            turns.push(Turn {
                seconds: group.seconds,
                copies: is_resident.filter(|is| !**is).map(|_| copy).collect(),
            });
        }
    }
    turns
}

/// Seconds by which a step is longer than its arithmetic, once steps follow one another. Copies run
/// one after the other, each into a slot whose last page has been used; a block starts when its
/// pages are there.
fn stall(turns: &[Turn], slots: usize) -> f64 {
    let mut used: Vec<f64> = Vec::new();
    let (mut now, mut copier, mut step) = (0.0f64, 0.0f64, 0.0);
    for _ in 0..CYCLES {
        let begun = now;
        for turn in turns {
            for (i, copy) in turn.copies.iter().enumerate() {
                let page = used.len() + i;
                let free = page.checked_sub(slots).and_then(|page| used.get(page));
                copier = copier.max(free.copied().unwrap_or(0.0)) + copy;
                now = now.max(copier);
            }
            now += turn.seconds;
            used.extend(turn.copies.iter().map(|_| now));
        }
        step = now - begun;
    }
    let arithmetic: f64 = turns.iter().map(|turn| turn.seconds).sum();
    match step - arithmetic {
        // What rounding leaves.
        wait if wait < 1e-9 => 0.0,
        wait => wait,
    }
}
