//! Moving a model's weights off the device and back while it lives.

use super::denoise::DenoiseState;
use super::error::{Error, Result};
use super::load::Pipeline;
use super::types::StepReport;
use crate::nn::{
    give_back_memory, is_out_of_memory, Group, PageFact, PageId, PagedBlocks, PagerStats, Visits,
    SLOTS,
};

/// Pages' worth of free memory that stay free when pages come back, so that a little more use by
/// others does not send them away again.
const HYSTERESIS: u64 = 2;

/// Bytes of device memory that weights make room for when a job finds too little.
const RESCUE: u64 = 256 << 20;

impl Pipeline {
    /// All pages of weights: how large they are, and which are on the device.
    pub fn pages(&self) -> Vec<PageFact> {
        self.paged().flat_map(|blocks| blocks.facts()).collect()
    }

    /// Bytes of device memory that [`make_room`](Self::make_room) can free: those of the pages on
    /// the device, without what the slots would take through which they were streamed.
    pub fn movable_bytes(&self) -> u64 {
        let resident = self.pages().into_iter().filter(|page| page.is_resident);
        let sizes: Vec<u64> = resident.map(|page| page.bytes).collect();
        let largest = sizes.iter().max().copied().unwrap_or(0);
        let slots = u64::from(SLOTS) * largest;
        sizes.iter().sum::<u64>().saturating_sub(slots)
    }

    /// What is streamed, from where, and how much was copied so far.
    pub fn streaming(&self) -> PagerStats {
        self.pager.stats()
    }

    /// Whether the VAE's weights are on the device; `None` without a VAE.
    pub fn has_vae_on_device(&self) -> Option<bool> {
        Some(self.vae.as_ref()?.network().is_loaded())
    }

    /// Limits the bytes a second at which weights are streamed, to measure what a slower link would
    /// cost; `None` removes the limit.
    ///
    /// # Errors
    /// The device fails.
    pub fn throttle_streaming(&self, bytes_per_second: Option<f64>) -> Result<()> {
        Ok(self.pager.throttle(bytes_per_second)?)
    }

    /// Frees at least `bytes` of device memory, if there are weights to free it from: first the
    /// VAE's, then those that are used least often, and those of every step last. Returns how many
    /// bytes it has freed, slots for the pages that left already taken off. Weights that left are
    /// streamed until they [come back](Self::settle).
    ///
    /// # Errors
    /// The device fails, or the host has no memory for the weights.
    pub fn make_room(&self, bytes: u64) -> Result<u64> {
        let before = self.pager.stats().slot_bytes;
        let mut freed = self.send_vae_away();
        let net = |freed: u64| (freed + before).saturating_sub(self.pager.needed_slot_bytes());
        let mut leaving = self.by_loss().into_iter();
        while net(freed) < bytes {
            let Some(page) = leaving.next() else { break };
            freed += self.evict(page)?;
        }
        let made = net(freed);
        give_back_memory(&self.placement().device)?;
        self.pager.reserve()?;
        Ok(made)
    }

    /// Runs a step of a denoise job. If the device has too little memory for it, because another
    /// program has taken some, weights leave the device and the step goes on.
    ///
    /// # Errors
    /// The transformer is not loaded, the job is cancelled, or the device fails.
    pub fn step(&self, job: &mut DenoiseState) -> Result<StepReport> {
        job.step_with(self.denoiser()?, &|| self.finds_room())
    }

    /// Runs `work`, and once more if the device has too little memory for it and weights can make
    /// room.
    pub(super) fn with_room<R>(&self, work: impl Fn() -> Result<R>) -> Result<R> {
        match work() {
            Err(Error::Device(error)) if is_out_of_memory(&error) && self.finds_room() => work(),
            done => done,
        }
    }

    fn finds_room(&self) -> bool {
        let made = self.make_room(RESCUE);
        tracing::warn!(bytes = ?made.as_ref().ok(), "weights make room for a job");
        made.is_ok_and(|bytes| bytes > 0)
    }

    /// Brings weights back to the device while `room` bytes of it are free, and returns how many
    /// bytes they take. The room of two more pages stays free.
    ///
    /// # Errors
    /// The device fails.
    pub fn settle(&self, room: u64) -> Result<u64> {
        let mut taken = 0;
        let mut returning = self.streamed();
        // The last to leave are the first to return.
        returning.reverse();
        for page in returning {
            if taken + (1 + HYSTERESIS) * page.bytes > room {
                break;
            }
            for blocks in self.paged() {
                taken += blocks.restore(page.id)?;
            }
        }
        if let Some(vae) = &self.vae {
            let bytes = vae.bytes();
            if self.streamed().is_empty() && taken + (1 + HYSTERESIS) * bytes <= room {
                vae.network().set_stays(self.pager.residence().vae_resident);
            }
        }
        self.pager.reserve()?;
        Ok(taken)
    }

    /// Takes all weights off the device that can leave it, and returns how many bytes that frees.
    /// Their bytes stay on the host: a job that comes streams them, and [`settle`](Self::settle)
    /// brings them back. To free the host's memory too, drop the model.
    ///
    /// # Errors
    /// The device fails, or the host has no memory for the weights.
    pub fn unload(&self) -> Result<u64> {
        let mut freed = self.send_vae_away();
        for page in self.by_loss() {
            freed += self.evict(page)?;
        }
        freed += self.pager.release_slots()?;
        give_back_memory(&self.placement().device)?;
        Ok(freed)
    }

    fn paged(&self) -> impl Iterator<Item = &dyn PagedBlocks> {
        let transformer = self.transformer.iter().flat_map(|network| network.paged());
        let encoder = self.text_encoder.iter().map(|network| network.paged());
        transformer.chain(encoder)
    }

    fn evict(&self, page: PageId) -> Result<u64> {
        let mut freed = 0;
        for blocks in self.paged() {
            freed += blocks.evict(page)?;
        }
        Ok(freed)
    }

    fn send_vae_away(&self) -> u64 {
        let Some(vae) = &self.vae else { return 0 };
        vae.network().set_stays(false);
        match vae.network().leave() {
            true => vae.bytes(),
            false => 0,
        }
    }

    /// The pages that are not on the device, in the order of [`by_loss`](Self::by_loss) that they
    /// would have if they were.
    fn streamed(&self) -> Vec<PageFact> {
        let pages = self.pages();
        let order = spread_out(
            &pages
                .iter()
                .map(|page| (page.id, page.group))
                .collect::<Vec<_>>(),
        );
        let facts = order
            .iter()
            .filter_map(|id| pages.iter().find(|page| page.id == *id));
        facts.filter(|page| !page.is_resident).copied().collect()
    }

    /// The pages that are on the device, those first whose absence costs the least.
    fn by_loss(&self) -> Vec<PageId> {
        let pages = self.pages();
        let order = spread_out(
            &pages
                .iter()
                .map(|page| (page.id, page.group))
                .collect::<Vec<_>>(),
        );
        let stays = |id: &PageId| pages.iter().any(|page| page.id == *id && page.is_resident);
        order.into_iter().filter(stays).collect()
    }
}

/// Pages in an order in which they can leave: rarely used ones first, those of one kind far from
/// each other, so that there is time to copy each, and the first block of every step last, which a
/// step cache needs alone.
fn spread_out(pages: &[(PageId, Group)]) -> Vec<PageId> {
    let mut order = Vec::with_capacity(pages.len());
    for visits in Visits::ALL.into_iter().rev() {
        let of_kind = pages.iter().filter(|(_, group)| group.visits() == visits);
        let mut ids: Vec<PageId> = of_kind.map(|(id, _)| *id).collect();
        let first = match visits {
            Visits::EveryStep => ids.drain(..ids.len().min(2)).collect(),
            _ => Vec::new(),
        };
        let count = ids.len();
        // Bit-reversed numbers lie far from those before them.
        let bits = count.next_power_of_two().trailing_zeros();
        let reversed = |i: usize| {
            i.reverse_bits()
                .checked_shr(usize::BITS - bits)
                .unwrap_or(0)
        };
        let places = (0..1usize << bits)
            .map(reversed)
            .filter(|&place| place < count);
        order.extend(places.map(|place| ids[place]));
        order.extend(first);
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_leave_far_from_each_other_and_the_first_block_last() {
        let groups = [
            vec![Group::Double; 4],
            vec![Group::Single; 4],
            vec![Group::DoubleModulators; 1],
            vec![Group::EncoderLayers; 2],
        ];
        let pages: Vec<_> = (0u32..).map(PageId).zip(groups.concat()).collect();
        let order: Vec<u32> = spread_out(&pages).iter().map(|page| page.0).collect();
        assert_eq!(order, [9, 10, 8, 2, 6, 4, 3, 7, 5, 0, 1]);
    }
}
