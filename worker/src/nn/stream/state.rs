//! What a pager knows: its pages, and the slots of each type.

use candle_core::{bail, DType, Result, Tensor};

use super::copier::Copier;
use super::home::Home;
use super::layout::PageLayout;
use super::residence::{Group, Visits, SLOTS};
use super::schedule::{Fill, PageId, Schedule, Sequence, SlotId};

/// Pages, slots, and the visit that lasts.
#[derive(Default)]
pub(super) struct State {
    pub pages: Vec<Page>,
    pub banks: Vec<Bank>,
    /// The pages of the visit that lasts.
    pub visit: Vec<PageId>,
    /// Bytes of host memory that may still be pinned.
    pub pinnable: u64,
    pub copies: u64,
    pub copied_bytes: u64,
}

/// A page and where it is.
pub(super) struct Page {
    pub layout: PageLayout,
    pub group: Group,
    pub home: Option<Home>,
    pub is_resident: bool,
}

/// The slots for pages of one type.
pub(super) struct Bank {
    pub dtype: DType,
    pub schedule: Schedule,
    pub slots: Vec<Tensor>,
    /// Whether the pages that are not resident have changed since the slots were made.
    pub is_outdated: bool,
}

impl State {
    pub fn enter(&mut self, copier: &dyn Copier) -> Result<Vec<(PageId, Vec<Tensor>)>> {
        let mut entered = Vec::with_capacity(self.visit.len());
        for number in 0..self.banks.len() {
            let own = self.visit_of(number);
            if own.is_empty() {
                continue;
            }
            self.banks[number].update(&self.pages, || Ok(copier))?;
            let fills = self.banks[number].schedule.enter(&own);
            self.fill(copier, number, &fills)?;
            let bank = &self.banks[number];
            for page in own {
                let Some(slot) = bank.schedule.slot(page) else {
                    bail!("a block has more pages than there are slots");
                };
                copier.ready(slot_id(number, slot))?;
                let layout = &self.pages[page.0 as usize].layout;
                entered.push((page, layout.views(&bank.slots[usize::from(slot.0)])?));
            }
        }
        Ok(entered)
    }

    pub fn leave(&mut self, copier: &dyn Copier) -> Result<()> {
        for number in 0..self.banks.len() {
            let own = self.visit_of(number);
            if own.is_empty() {
                continue;
            }
            for page in own {
                if let Some(slot) = self.banks[number].schedule.slot(page) {
                    copier.used(slot_id(number, slot))?;
                }
            }
            let fills = self.banks[number].schedule.leave();
            if self.fill(copier, number, &fills).is_err() {
                self.banks[number].schedule.forget();
            }
        }
        self.visit.clear();
        Ok(())
    }

    /// The pages of the visit that a bank has slots for.
    fn visit_of(&self, bank: usize) -> Vec<PageId> {
        let dtype = self.banks[bank].dtype;
        let visit = self.visit.iter().copied();
        visit
            .filter(|page| self.pages[page.0 as usize].layout.dtype == dtype)
            .collect()
    }

    fn fill(&mut self, copier: &dyn Copier, number: usize, fills: &[Fill]) -> Result<()> {
        for fill in fills {
            let page = &self.pages[fill.page.0 as usize];
            let Some(home) = &page.home else {
                bail!("page {} has no bytes on the host", fill.page.0);
            };
            let memory = &self.banks[number].slots[usize::from(fill.slot.0)];
            copier.fill(slot_id(number, fill.slot), memory, &page.layout, home)?;
            self.copies += 1;
            self.copied_bytes += page.layout.bytes() as u64;
        }
        Ok(())
    }
}

/// A bank's slot as the copier knows it.
fn slot_id(bank: usize, slot: SlotId) -> SlotId {
    SlotId(bank as u8 * SLOTS + slot.0)
}

impl Bank {
    fn needs(&self, page: &Page) -> bool {
        !page.is_resident && page.layout.dtype == self.dtype
    }

    /// Elements of the slots that the pages need: those they have, where these are enough.
    pub fn needed(&self, pages: &[Page]) -> usize {
        let pages = pages.iter().filter(|page| self.needs(page));
        let needed = pages.map(|page| page.layout.elements).max().unwrap_or(0);
        match needed {
            0 => 0,
            _ => needed.max(self.slots.first().map_or(0, Tensor::elem_count)),
        }
    }

    /// Brings slots and sequences up to date with the pages that are not resident.
    pub fn update<'a>(
        &mut self,
        pages: &[Page],
        copier: impl FnOnce() -> Result<&'a dyn Copier>,
    ) -> Result<()> {
        if !self.is_outdated {
            return Ok(());
        }
        let needed = self.needed(pages);
        if needed != self.slots.first().map_or(0, Tensor::elem_count) {
            // The old slots are freed first: the device may have no room for both.
            let copier = copier()?;
            copier.wait()?;
            self.slots.clear();
            self.schedule.forget();
            if needed > 0 {
                let slots = (0..SLOTS).map(|_| copier.memory(self.dtype, needed));
                self.slots = slots.collect::<Result<_>>()?;
            }
        }
        let sequence = |visits: Visits| Sequence {
            pages: (0u32..)
                .zip(pages)
                .filter(|(_, page)| self.needs(page) && page.group.visits() == visits)
                .map(|(number, _)| PageId(number))
                .collect(),
            repeats: visits.repeats(),
        };
        let sequences = Visits::ALL.map(sequence);
        self.schedule.set_sequences(sequences.into());
        self.is_outdated = false;
        Ok(())
    }
}
