//! Brings pages into slots before they are used.

use std::cell::{OnceCell, RefCell};
use std::sync::Arc;

use candle_core::{bail, Error, Result, Tensor};

use super::copier::Copier;
use super::home::{Home, HostBytes};
use super::layout::PageLayout;
use super::residence::{Group, Residence, SLOTS};
use super::schedule::{PageId, Schedule};
use super::state::{Bank, Page, State};

/// Makes the copier of a device, when the first page leaves it.
pub type MakeCopier = Box<dyn Fn() -> Result<Box<dyn Copier>>>;

/// The pages of a model and the slots for those that are not resident.
pub struct Pager {
    make_copier: MakeCopier,
    copier: OnceCell<Box<dyn Copier>>,
    residence: Residence,
    state: RefCell<State>,
}

/// A page, for plans and reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageFact {
    /// The page.
    pub id: PageId,
    /// What it belongs to.
    pub group: Group,
    /// Its size.
    pub bytes: u64,
    /// Whether it is on the device.
    pub is_resident: bool,
}

/// What a pager holds and has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PagerStats {
    /// Bytes of pages that are not resident.
    pub streamed_bytes: u64,
    /// Bytes of all slots.
    pub slot_bytes: u64,
    /// Bytes of pinned host memory.
    pub pinned_bytes: u64,
    /// Bytes of other host memory.
    pub pageable_bytes: u64,
    /// Bytes of pages that are read from their files.
    pub origin_bytes: u64,
    /// Copies into slots so far.
    pub copies: u64,
    /// Their bytes.
    pub copied_bytes: u64,
}

impl Pager {
    /// A pager without pages, for a model with a residence.
    pub fn new(make_copier: MakeCopier, residence: &Residence) -> Self {
        Self {
            make_copier,
            copier: OnceCell::new(),
            residence: residence.clone(),
            state: RefCell::new(State {
                pinnable: residence.pinned,
                ..State::default()
            }),
        }
    }

    /// Which pages stay on the device from the beginning.
    pub fn residence(&self) -> &Residence {
        &self.residence
    }

    fn copier(&self) -> Result<&dyn Copier> {
        if self.copier.get().is_none() {
            let made = (self.make_copier)()?;
            self.copier.get_or_init(|| made);
        }
        match self.copier.get() {
            Some(copier) => Ok(&**copier),
            None => bail!("a device has no copier"),
        }
    }

    /// Registers tensors on the device as a page, after those that are used before it. `None` if
    /// they have no common layout.
    pub fn add(&self, group: Group, tensors: &[&Tensor]) -> Option<PageId> {
        let layout = PageLayout::of(tensors)?;
        let mut state = self.state.borrow_mut();
        state.pages.push(Page {
            layout,
            group,
            home: None,
            is_resident: true,
        });
        Some(PageId(state.pages.len() as u32 - 1))
    }

    /// Facts about pages.
    pub fn facts(&self, pages: impl IntoIterator<Item = PageId>) -> Vec<PageFact> {
        let state = self.state.borrow();
        let known = pages.into_iter().filter_map(|id| {
            let page = state.pages.get(id.0 as usize)?;
            Some(PageFact {
                id,
                group: page.group,
                bytes: page.layout.bytes() as u64,
                is_resident: page.is_resident,
            })
        });
        known.collect()
    }

    /// Whether one of the pages is not resident.
    pub fn any_streams(&self, pages: impl IntoIterator<Item = PageId>) -> bool {
        let state = self.state.borrow();
        let mut pages = pages.into_iter();
        pages.any(|page| !state.pages[page.0 as usize].is_resident)
    }

    /// Copies a page's tensors into one piece of memory, and returns those that are in it.
    ///
    /// # Errors
    /// The device fails, or has too little memory.
    pub fn join(&self, id: PageId, tensors: &[&Tensor]) -> Result<Vec<Tensor>> {
        let copier = self.copier()?;
        let state = self.state.borrow();
        let layout = &state.pages[id.0 as usize].layout;
        let memory = copier.memory(layout.dtype, layout.elements)?;
        copier.join(tensors, &memory, layout)?;
        layout.views(&memory)
    }

    /// Keeps the bytes of a page's tensors on the host, if they are not there yet, and returns
    /// tensors without memory to put in their place. `origins` are the places that each tensor's
    /// bytes can be read from again. On an error, the page stays resident.
    ///
    /// # Errors
    /// The device fails, or the host has too little memory.
    pub fn evict(
        &self,
        id: PageId,
        tensors: &[&Tensor],
        origins: &[Option<Arc<dyn HostBytes>>],
    ) -> Result<Vec<Tensor>> {
        let copier = self.copier()?;
        let mut state = self.state.borrow_mut();
        let State {
            pages,
            banks,
            pinnable,
            ..
        } = &mut *state;
        let page = &mut pages[id.0 as usize];
        let layout = &page.layout;
        let placeholders = layout.placeholders()?;
        if page.home.is_none() {
            let bytes = layout.bytes();
            let pinned = match bytes as u64 <= *pinnable {
                true => copier.pin(bytes),
                false => None,
            };
            let save = |into: &mut [u8]| -> Result<()> {
                for (tensor, part) in tensors.iter().zip(&layout.parts) {
                    copier.save(tensor, &mut into[layout.byte_range(part)])?;
                }
                Ok(())
            };
            page.home = Some(match (pinned, same_bytes(layout, origins)) {
                (Some(mut memory), _) => {
                    save(memory.bytes_mut())?;
                    *pinnable -= bytes as u64;
                    Home::Pinned(memory)
                }
                (None, Some(origins)) => Home::Origin(origins),
                (None, None) => {
                    let mut memory = Vec::new();
                    memory.try_reserve_exact(bytes).map_err(|_| {
                        Error::msg(format!(
                            "the host has no memory for {bytes} bytes of weights"
                        ))
                    })?;
                    memory.resize(bytes, 0);
                    save(&mut memory)?;
                    Home::Pageable(Arc::new(memory))
                }
            });
        }
        page.is_resident = false;
        let dtype = page.layout.dtype;
        match banks.iter_mut().find(|bank| bank.dtype == dtype) {
            Some(bank) => bank.is_outdated = true,
            None => banks.push(Bank {
                dtype,
                schedule: Schedule::new(SLOTS),
                slots: Vec::new(),
                is_outdated: true,
            }),
        }
        Ok(placeholders)
    }

    /// Brings a page back to the device to stay, and returns its tensors. Its bytes stay on the
    /// host too, so that it can leave again at once. On an error, it stays where it is.
    ///
    /// # Errors
    /// The page cannot be read, or the device has too little memory.
    pub fn restore(&self, id: PageId) -> Result<Vec<Tensor>> {
        let copier = self.copier()?;
        let mut state = self.state.borrow_mut();
        let State { pages, banks, .. } = &mut *state;
        let page = &mut pages[id.0 as usize];
        let Some(home) = &page.home else {
            bail!("page {} has never left the device", id.0);
        };
        let memory = copier.memory(page.layout.dtype, page.layout.elements)?;
        copier.copy(&memory, &page.layout, home)?;
        let views = page.layout.views(&memory)?;
        page.is_resident = true;
        let of_type = banks
            .iter_mut()
            .filter(|bank| bank.dtype == page.layout.dtype);
        of_type.for_each(|bank| bank.is_outdated = true);
        Ok(views)
    }

    /// Allocates the slots that the pages need which are not resident, and frees those that none
    /// needs. [`enter`](Self::enter) does it too; calling this first leaves less to fail later.
    ///
    /// # Errors
    /// The device has too little memory.
    pub fn reserve(&self) -> Result<()> {
        let mut state = self.state.borrow_mut();
        let State { pages, banks, .. } = &mut *state;
        banks
            .iter_mut()
            .try_for_each(|bank| bank.update(pages, || self.copier()))
    }

    /// Bytes that all slots take when they are [reserved](Self::reserve).
    pub fn needed_slot_bytes(&self) -> u64 {
        let state = self.state.borrow();
        let needed = state.banks.iter().map(|bank| {
            let size = bank.dtype.size_in_bytes() * usize::from(SLOTS);
            let elements = match bank.is_outdated {
                true => bank.needed(&state.pages),
                false => bank.slots.first().map_or(0, Tensor::elem_count),
            };
            (elements * size) as u64
        });
        needed.sum()
    }

    /// Frees all slots until they are needed, and returns how many bytes they took.
    ///
    /// # Errors
    /// The device fails.
    pub fn release_slots(&self) -> Result<u64> {
        let before = self.stats().slot_bytes;
        if before > 0 {
            self.copier()?.wait()?;
        }
        for bank in &mut self.state.borrow_mut().banks {
            bank.slots.clear();
            bank.schedule.forget();
            bank.is_outdated = true;
        }
        Ok(before)
    }

    /// Begins a visit of pages: for each of them that is not resident, its tensors, which are valid
    /// until [`leave`](Self::leave).
    ///
    /// # Errors
    /// A page cannot be read, or the device fails or has too little memory. Then there is no visit,
    /// and the next one begins anew.
    pub fn enter(
        &self,
        visit: impl IntoIterator<Item = PageId>,
    ) -> Result<Vec<(PageId, Vec<Tensor>)>> {
        let mut state = self.state.borrow_mut();
        let visit = visit.into_iter();
        state.visit = visit
            .filter(|page| !state.pages[page.0 as usize].is_resident)
            .collect();
        let entered = state.enter(self.copier()?);
        if entered.is_err() {
            let State { banks, visit, .. } = &mut *state;
            visit.clear();
            banks.iter_mut().for_each(|bank| bank.schedule.forget());
        }
        entered
    }

    /// Ends the visit, and begins to copy the pages that follow. If such a copy fails, the visit of
    /// its page reports it.
    ///
    /// # Errors
    /// The device fails.
    pub fn leave(&self) -> Result<()> {
        let mut state = self.state.borrow_mut();
        state.leave(self.copier()?)
    }

    /// What it holds and has done.
    pub fn stats(&self) -> PagerStats {
        let state = self.state.borrow();
        let mut stats = PagerStats {
            copies: state.copies,
            copied_bytes: state.copied_bytes,
            ..PagerStats::default()
        };
        for page in &state.pages {
            let bytes = page.layout.bytes() as u64;
            match &page.home {
                None => {}
                Some(Home::Pinned(_)) => stats.pinned_bytes += bytes,
                Some(Home::Pageable(_)) => stats.pageable_bytes += bytes,
                Some(Home::Origin(_)) => stats.origin_bytes += bytes,
            }
            if !page.is_resident {
                stats.streamed_bytes += bytes;
            }
        }
        let slots = state.banks.iter().flat_map(|bank| &bank.slots);
        let sizes = slots.map(|slot| slot.elem_count() * slot.dtype().size_in_bytes());
        stats.slot_bytes = sizes.sum::<usize>() as u64;
        stats
    }

    /// Limits the bytes a second of copies into slots, to measure what a slower link would cost.
    ///
    /// # Errors
    /// The device has no copier.
    pub fn throttle(&self, bytes_per_second: Option<f64>) -> Result<()> {
        self.copier()?.throttle(bytes_per_second);
        Ok(())
    }
}

/// The places that a page's parts can be read from, if there is one for each, with its bytes.
fn same_bytes(
    layout: &PageLayout,
    origins: &[Option<Arc<dyn HostBytes>>],
) -> Option<Vec<Arc<dyn HostBytes>>> {
    let fits = |(part, origin): (_, &Option<Arc<dyn HostBytes>>)| {
        let bytes = layout.byte_range(part).len();
        origin.clone().filter(|origin| origin.len() == bytes)
    };
    let all: Option<Vec<_>> = layout.parts.iter().zip(origins).map(fits).collect();
    all.filter(|all| all.len() == layout.parts.len())
}
