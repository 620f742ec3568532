//! What stays on the GPU: of all choices that fit, the one with the fastest image.

use super::facts::{Facts, Group, Homes, Visits, MARGIN, SLOTS};
use super::requests::Working;
use super::spread::{evenly, spreads, Spread};

/// What stays on the GPU, and what that costs.
#[derive(Clone, Debug)]
pub struct Choice {
    /// By group, which of its pages stay.
    pub resident: Vec<Vec<bool>>,
    /// Whether the VAE's weights stay.
    pub vae_resident: bool,
    /// Bytes of each slot for streamed pages.
    pub slots: Vec<u64>,
    /// Bytes of all but the working set.
    pub weights: u64,
    /// Where the other pages are.
    pub homes: Homes,
    /// Seconds by which copies make a step longer.
    pub stall: f64,
    /// Seconds of the copies that are made once an image.
    pub once: f64,
}

impl Choice {
    /// Microseconds that copies add to an image. Smaller differences do not count.
    fn added(&self, steps: usize) -> u64 {
        (1e6 * (steps as f64 * self.stall + self.once)).round() as u64
    }
}

/// The choice with the fewest seconds of copies in an image that the budget has room for. More room
/// never makes it slower. `None` if nothing fits.
pub fn choose(facts: &Facts, working: &Working) -> Option<Choice> {
    let blocks = of_visits(facts, Visits::EveryStep);
    let groups: Vec<&Group> = blocks.iter().map(|&group| &facts.groups[group]).collect();
    let all: u64 = groups.iter().map(|group| group.bytes()).sum();
    let page = groups.iter().map(|group| group.page).max().unwrap_or(0);
    // Pages of blocks are the first to be pinned, so that their speed depends on their bytes alone.
    let second_per_byte = |count: usize| {
        let streamed = all.saturating_sub(count as u64 * page);
        let mut by_group = vec![0; facts.groups.len()];
        if let Some(&first) = blocks.first() {
            by_group[first] = streamed;
        }
        let homes = facts.homes(&by_group).unwrap_or_default();
        let seconds: f64 = homes.seconds.iter().sum();
        seconds / (streamed as f64).max(1.0)
    };
    let spreads = spreads(&groups, SLOTS as usize, second_per_byte);
    let mut best: Option<Choice> = None;
    for vae_resident in [true, false] {
        for spread in spreads.iter().rev() {
            let chosen = fill(facts, working, vae_resident, spread);
            let is_better = |choice: &Choice| {
                let added = |choice: &Choice| choice.added(facts.steps);
                best.as_ref().is_none_or(|best| added(choice) < added(best))
            };
            if let Some(choice) = chosen.filter(is_better) {
                best = Some(choice);
            }
        }
    }
    best
}

/// The fewest bytes with which the jobs can be done, whatever streams.
pub fn least(facts: &Facts, working: &Working) -> u64 {
    let extremes = [true, false];
    let mut least = u64::MAX;
    for vae_resident in extremes {
        for (blocks, modulations) in extremes.iter().flat_map(|a| extremes.map(|b| (*a, b))) {
            for encoder in extremes {
                let resident: Vec<Vec<bool>> = facts
                    .groups
                    .iter()
                    .map(|group| {
                        let stays = match group.visits {
                            Visits::EveryStep => blocks,
                            Visits::OncePerPortion => modulations,
                            Visits::OncePerPrompt => encoder,
                        };
                        vec![stays; group.pages]
                    })
                    .collect();
                let (_, weights) = weights(facts, vae_resident, &resident);
                let jobs = working.least(swapped(facts, vae_resident));
                least = least.min(weights.saturating_add(jobs));
            }
        }
    }
    least
}

/// Seconds to read, convert and place the VAE's weights again for a decode, beside the copy: what an
/// image of the 7 B model took longer on an H100.
const VAE_RELOAD: f64 = 0.2;

/// Bytes of the VAE's weights that a decode loads first.
pub fn swapped(facts: &Facts, vae_resident: bool) -> u64 {
    match vae_resident {
        true => 0,
        false => facts.vae,
    }
}

/// Indices of the groups that are visited so often.
fn of_visits(facts: &Facts, visits: Visits) -> Vec<usize> {
    let groups = facts.groups.iter().enumerate();
    let chosen = groups.filter(|(_, group)| group.visits == visits);
    chosen.map(|(index, _)| index).collect()
}

/// The slots for streamed pages, and the bytes of all but the working set.
fn weights(facts: &Facts, vae_resident: bool, resident: &[Vec<bool>]) -> (Vec<u64>, u64) {
    let mut largest: Vec<(&str, u64)> = Vec::new();
    let mut pages = 0;
    for (group, resident) in facts.groups.iter().zip(resident) {
        let stay = resident.iter().filter(|stays| **stays).count();
        pages += stay as u64 * group.page;
        if stay < group.pages {
            match largest.iter_mut().find(|(kind, _)| *kind == group.kind) {
                Some((_, slot)) => *slot = (*slot).max(group.page),
                None => largest.push((group.kind, group.page)),
            }
        }
    }
    let slots: Vec<u64> = largest
        .iter()
        .flat_map(|&(_, slot)| (0..SLOTS).map(move |_| slot))
        .collect();
    let vae = if vae_resident { facts.vae } else { 0 };
    let fixed = facts.overhead + MARGIN + facts.fixed + facts.scratch + vae;
    let sum = fixed + pages + slots.iter().sum::<u64>();
    (slots, sum)
}

/// Completes a spread of the blocks' pages: as many pages of modulations as there is room for, then
/// of the text encoder. `None` if there is no room even without.
fn fill(facts: &Facts, working: &Working, vae_resident: bool, blocks: &Spread) -> Option<Choice> {
    let room = facts
        .budget
        .checked_sub(working.least(swapped(facts, vae_resident)))?;
    let pages = |visits| -> usize {
        let groups = of_visits(facts, visits).into_iter();
        groups.map(|group| facts.groups[group].pages).sum()
    };
    let (portions, prompts) = (pages(Visits::OncePerPortion), pages(Visits::OncePerPrompt));
    let fits = |counts: [usize; 2]| {
        let resident = by_group(facts, &blocks.resident, counts);
        let (slots, weights) = weights(facts, vae_resident, &resident);
        (weights <= room).then_some((resident, slots, weights))
    };
    let mut best: Option<Choice> = None;
    for portion in (0..=portions).rev() {
        // The most pages of the encoder, all or by bisection: some more slots are taken if not all
        // stay.
        let most = match fits([portion, prompts]) {
            Some(_) => prompts,
            None => {
                let (mut low, mut high) = (0, prompts);
                while high - low > 1 {
                    let middle = low + (high - low) / 2;
                    match fits([portion, middle]) {
                        Some(_) => low = middle,
                        None => high = middle,
                    }
                }
                low
            }
        };
        let Some((resident, slots, weights)) = fits([portion, most]) else {
            continue;
        };
        let streamed: Vec<u64> = facts
            .groups
            .iter()
            .zip(&resident)
            .map(|(group, stays)| group.page * stays.iter().filter(|stays| !**stays).count() as u64)
            .collect();
        let Some(homes) = facts.homes(&streamed) else {
            continue;
        };
        let times = facts.groups.iter().map(|group| match group.visits {
            Visits::EveryStep => 0,
            visits => facts.visits(visits),
        });
        let copies = homes.seconds.iter().zip(times);
        let once: f64 = copies.map(|(seconds, times)| seconds * times as f64).sum();
        let vae = match vae_resident {
            true => 0.0,
            false => VAE_RELOAD + facts.vae as f64 / facts.link,
        };
        let choice = Choice {
            resident,
            vae_resident,
            slots,
            weights,
            homes,
            stall: blocks.stall,
            once: once + vae,
        };
        if best.as_ref().is_none_or(|best| choice.once < best.once) {
            best = Some(choice);
        }
        if most == prompts {
            break;
        }
    }
    best
}

/// The resident pages by group: those of the blocks, and numbers of pages of the modulations and of
/// the text encoder.
fn by_group(facts: &Facts, blocks: &[bool], [portions, prompts]: [usize; 2]) -> Vec<Vec<bool>> {
    let mut blocks = blocks.iter().copied();
    let mut left = [portions, prompts];
    let mut take = |which: usize, group: &Group| {
        let count = left[which].min(group.pages);
        left[which] -= count;
        evenly(group.pages, count)
    };
    let groups = facts.groups.iter();
    groups
        .map(|group| match group.visits {
            Visits::EveryStep => blocks.by_ref().take(group.pages).collect(),
            Visits::OncePerPortion => take(0, group),
            Visits::OncePerPrompt => take(1, group),
        })
        .collect()
}
