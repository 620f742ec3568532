//! Which page is copied into which slot, and when.

/// A page of a pager.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PageId(pub u32);

/// A slot of a pager.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SlotId(pub u8);

/// Pages in the order in which they are used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sequence {
    /// The pages.
    pub pages: Vec<PageId>,
    /// Whether the first page follows the last.
    pub repeats: bool,
}

/// A page to copy into a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fill {
    /// Where to.
    pub slot: SlotId,
    /// What.
    pub page: PageId,
}

/// Decides for a number of slots what they hold. Pages are used in visits; while one lasts, its
/// pages stay, and the other slots take the pages that follow it in its sequence.
#[derive(Debug)]
pub struct Schedule {
    /// What each slot holds, or is being filled with.
    holds: Vec<Option<PageId>>,
    /// The pages of the visit that lasts.
    current: Vec<PageId>,
    /// The last page of the latest visit.
    latest: Option<PageId>,
    sequences: Vec<Sequence>,
}

impl Schedule {
    /// For a number of slots, which are empty.
    pub fn new(slots: u8) -> Self {
        Self {
            holds: vec![None; usize::from(slots)],
            current: Vec::new(),
            latest: None,
            sequences: Vec::new(),
        }
    }

    /// Sets the sequences. Slots keep the pages that are still in one.
    pub fn set_sequences(&mut self, sequences: Vec<Sequence>) {
        self.sequences = sequences;
        let known = |page: &PageId| self.sequences.iter().any(|s| s.pages.contains(page));
        for held in &mut self.holds {
            *held = held.filter(known);
        }
    }

    /// The slot that holds a page.
    pub fn slot(&self, page: PageId) -> Option<SlotId> {
        let slot = self.holds.iter().position(|&held| held == Some(page))?;
        Some(SlotId(slot as u8))
    }

    /// Begins a visit of some pages, at most as many as there are slots, and ends an earlier one.
    /// Returns the copies to begin now: those of the pages themselves first.
    pub fn enter(&mut self, pages: &[PageId]) -> Vec<Fill> {
        self.current = pages.to_vec();
        self.latest = pages.last().copied();
        let mut fills = self.place(pages, &[]);
        fills.extend(self.look_ahead());
        fills
    }

    /// Ends the visit. Returns the copies to begin when the device has used its pages.
    pub fn leave(&mut self) -> Vec<Fill> {
        self.current.clear();
        self.look_ahead()
    }

    /// Forgets what the slots hold: copies into them may have failed.
    pub fn forget(&mut self) {
        self.holds.fill(None);
        self.current.clear();
    }

    /// Places the pages that follow the latest visit into the slots that it leaves.
    fn look_ahead(&mut self) -> Vec<Fill> {
        let following = self.following(self.holds.len() - self.current.len());
        let current = std::mem::take(&mut self.current);
        let fills = self.place(&following, &current);
        self.current = current;
        fills
    }

    /// The pages that follow the latest visit, at most `count`, without those of the visit.
    fn following(&self, count: usize) -> Vec<PageId> {
        let place = self.latest.and_then(|latest| {
            let mut found = self.sequences.iter().filter_map(|sequence| {
                let at = sequence.pages.iter().position(|&page| page == latest)?;
                Some((sequence, at))
            });
            found.next()
        });
        let Some((Sequence { pages, repeats }, at)) = place else {
            return Vec::new();
        };
        let again = match repeats {
            true => &pages[..at],
            false => &[],
        };
        let following = pages[at + 1..].iter().chain(again).copied();
        let others = following.filter(|page| !self.current.contains(page));
        others.take(count).collect()
    }

    /// Gives each of `pages` a slot if it has none, other than those of `pages` and `kept`.
    fn place(&mut self, pages: &[PageId], kept: &[PageId]) -> Vec<Fill> {
        let mut fills = Vec::new();
        for &page in pages {
            if self.slot(page).is_some() {
                continue;
            }
            let is_free = |held: &Option<PageId>| {
                held.is_none_or(|held| !pages.contains(&held) && !kept.contains(&held))
            };
            let empty = self.holds.iter().position(Option::is_none);
            let Some(slot) = empty.or_else(|| self.holds.iter().position(is_free)) else {
                continue;
            };
            self.holds[slot] = Some(page);
            fills.push(Fill {
                slot: SlotId(slot as u8),
                page,
            });
        }
        fills
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pages(count: u32) -> Vec<PageId> {
        (0..count).map(PageId).collect()
    }

    /// A step's sequence of visits of one page or two.
    fn in_visits(pages: &[PageId], pairs: usize) -> Vec<Vec<PageId>> {
        let (double, single) = pages.split_at((2 * pairs).min(pages.len() / 2 * 2));
        let double = double.chunks(2).map(<[_]>::to_vec);
        double
            .chain(single.iter().map(|&page| vec![page]))
            .collect()
    }

    #[test]
    fn three_slots_take_turns() {
        let mut schedule = Schedule::new(3);
        let pages = pages(5);
        schedule.set_sequences(vec![Sequence {
            pages: pages.clone(),
            repeats: true,
        }]);
        let numbers = |fills: Vec<Fill>| -> Vec<(u8, u32)> {
            fills
                .iter()
                .map(|fill| (fill.slot.0, fill.page.0))
                .collect()
        };
        assert_eq!(
            numbers(schedule.enter(&pages[..1])),
            [(0, 0), (1, 1), (2, 2)]
        );
        assert_eq!(numbers(schedule.leave()), [(0, 3)]);
        assert_eq!(numbers(schedule.enter(&pages[1..2])), []);
        assert_eq!(numbers(schedule.leave()), [(1, 4)]);
        assert_eq!(numbers(schedule.enter(&pages[2..3])), []);
        assert_eq!(numbers(schedule.leave()), [(2, 0)]);
        assert_eq!(schedule.slot(PageId(0)), Some(SlotId(2)));
    }

    #[test]
    fn a_sequence_that_does_not_repeat_leaves_its_end_alone() {
        let mut schedule = Schedule::new(3);
        let pages = pages(4);
        schedule.set_sequences(vec![Sequence {
            pages: pages.clone(),
            repeats: false,
        }]);
        let mut fills = 0;
        for page in &pages {
            fills += schedule.enter(&[*page]).len();
            fills += schedule.leave().len();
        }
        assert_eq!(fills, 4);
    }

    #[test]
    fn forgotten_slots_are_filled_again() {
        let mut schedule = Schedule::new(2);
        let sequence = Sequence {
            pages: pages(2),
            repeats: true,
        };
        schedule.set_sequences(vec![sequence]);
        assert_eq!(schedule.enter(&[PageId(0)]).len(), 2);
        assert!(schedule.leave().is_empty());
        schedule.forget();
        assert_eq!(schedule.enter(&[PageId(0)]).len(), 2);
    }

    proptest! {
        /// Whatever is visited in whatever order: a visit has all its pages, and no copy goes into
        /// a slot that the visit uses.
        #[test]
        fn visits_keep_their_pages(
            slots in 1u8..=4,
            counts in (1u32..9, 0u32..5),
            visits in prop::collection::vec((0u32..14, 1usize..=2), 1..60),
        ) {
            let (often, once) = counts;
            let all = pages(often + once);
            let mut schedule = Schedule::new(slots);
            schedule.set_sequences(vec![
                Sequence { pages: all[..often as usize].to_vec(), repeats: true },
                Sequence { pages: all[often as usize..].to_vec(), repeats: false },
            ]);
            for (first, count) in visits {
                let count = count.min(usize::from(slots));
                let visit: Vec<_> = all.iter().skip(first as usize).take(count).copied().collect();
                if visit.is_empty() {
                    continue;
                }
                let fills = schedule.enter(&visit);
                let used: Vec<_> = visit.iter().map(|&page| schedule.slot(page).unwrap()).collect();
                for fill in &fills {
                    let is_own = visit.contains(&fill.page);
                    prop_assert_eq!(used.contains(&fill.slot), is_own);
                }
                // The copies of the visit's own pages come first.
                let own = fills.iter().filter(|fill| visit.contains(&fill.page)).count();
                prop_assert!(fills[..own].iter().all(|fill| visit.contains(&fill.page)));
                let filled: Vec<_> = schedule.leave().iter().map(|fill| fill.slot).collect();
                let mut once = filled.clone();
                once.dedup();
                prop_assert_eq!(once.len(), filled.len());
            }
        }

        /// Steps in order miss pages in their first visit only, and copy each page at most once.
        #[test]
        fn steps_in_order_miss_once_and_copy_every_page_once(
            slots in 2u8..=4,
            count in 1u32..20,
            pairs in 0usize..4,
        ) {
            let all = pages(count);
            let mut schedule = Schedule::new(slots);
            schedule.set_sequences(vec![Sequence { pages: all.clone(), repeats: true }]);
            for step in 0..4 {
                let mut copies = 0;
                for (i, visit) in in_visits(&all, pairs).iter().enumerate() {
                    let has_all = visit.iter().all(|&page| schedule.slot(page).is_some());
                    prop_assert!(has_all || (step, i) == (0, 0));
                    copies += schedule.enter(visit).len() + schedule.leave().len();
                }
                // Slots keep pages from one step to the next where that costs nothing.
                if step > 0 {
                    let kept = usize::from(slots);
                    let copied = copies..=copies + kept;
                    prop_assert!(copied.contains(&(count as usize)), "{} copies", copies);
                    prop_assert!(count > u32::from(slots) || copies == 0);
                }
            }
        }
    }
}
