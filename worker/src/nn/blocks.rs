//! Access to the weights of a network's blocks.

use std::cell::RefCell;
use std::rc::Rc;

use candle_core::{bail, Result, Tensor};

use super::linear::Linear;
use super::stream::{Group, PageFact, PageId, Pager};

/// A block whose large weights can leave the device.
pub trait Block {
    /// Its large linear layers, by page, always in the same order.
    fn pages(&mut self) -> Vec<Vec<&mut Linear>>;
}

/// A network's blocks, in the order in which they run. Their weights are reached through
/// [`with`](Self::with) alone, so that a network does not depend on where they are kept.
pub struct Blocks<B> {
    blocks: Vec<Paged<B>>,
    pager: Rc<Pager>,
    group: Group,
    /// Pages so far, counted as [`Block::pages`] does.
    pages: usize,
}

/// A block and its pages.
struct Paged<B> {
    block: RefCell<B>,
    pages: Vec<Place>,
}

/// A page of a block, and the block's layers whose weights it consists of.
struct Place {
    id: PageId,
    layers: Vec<usize>,
}

/// Blocks without their type, for what moves their pages.
pub trait PagedBlocks {
    /// All pages.
    fn facts(&self) -> Vec<PageFact>;

    /// Takes a page off the device, and returns how many bytes that frees: 0 if it is not one of
    /// these blocks' or not on the device.
    ///
    /// # Errors
    /// The page is in use, the device fails, or the host has too little memory.
    fn evict(&self, page: PageId) -> Result<u64>;

    /// Brings a page back to stay, and returns how many bytes that takes: 0 if it is not one of
    /// these blocks' or on the device already.
    ///
    /// # Errors
    /// The page is in use or cannot be read, or the device has too little memory.
    fn restore(&self, page: PageId) -> Result<u64>;
}

impl<B: Block> Blocks<B> {
    /// No blocks yet, of a group whose pages a pager moves.
    pub fn new(pager: &Rc<Pager>, group: Group) -> Self {
        Self {
            blocks: Vec::new(),
            pager: pager.clone(),
            group,
            pages: 0,
        }
    }

    /// Adds the block that runs next. Its pages that do not stay leave the device at once.
    ///
    /// # Errors
    /// The device fails, or the host has too little memory.
    pub fn push(&mut self, mut block: B) -> Result<()> {
        let mut places = Vec::new();
        let mut leaving = Vec::new();
        let mut first = 0;
        for layers in block.pages() {
            let stays = self.pager.residence().stays(self.group, self.pages);
            self.pages += 1;
            // The layers' weights are movable or not, and of one type or of several.
            let weights = layers.iter().enumerate();
            let mut weights: Vec<(usize, &Tensor)> = weights
                .filter_map(|(i, layer)| Some((first + i, layer.bulk()?)))
                .collect();
            first += layers.len();
            while let Some((_, like)) = weights.first() {
                let dtype = like.dtype();
                let alike = weights.extract_if(.., |(_, weight)| weight.dtype() == dtype);
                let (layers, tensors): (Vec<_>, Vec<_>) = alike.unzip();
                if let Some(id) = self.pager.add(self.group, &tensors) {
                    places.push(Place { id, layers });
                    leaving.extend((!stays).then_some(id));
                }
            }
        }
        self.blocks.push(Paged {
            block: RefCell::new(block),
            pages: places,
        });
        leaving
            .into_iter()
            .try_for_each(|page| self.evict(page).map(drop))
    }
}

impl<B> Blocks<B> {
    /// Number of blocks.
    pub fn len(&self) -> usize {
        self.blocks.len()
    }

    /// Whether there are no blocks.
    pub fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }
}

impl<B: Block> Blocks<B> {
    /// Runs `body` with block `i`, whose weights are on the device meanwhile.
    ///
    /// # Errors
    /// There is no such block, its weights cannot be brought to the device, or `body` fails.
    pub fn with<R>(&self, i: usize, body: impl FnOnce(&B) -> Result<R>) -> Result<R> {
        let Some(Paged { block, pages }) = self.blocks.get(i) else {
            bail!("there is no block {i} of {}", self.len());
        };
        let ids = || pages.iter().map(|place| place.id);
        if !self.pager.any_streams(ids()) {
            return body(&block.borrow());
        }
        let Ok(mut entered) = block.try_borrow_mut() else {
            bail!("block {i} is in use");
        };
        let mut absent = Vec::new();
        for (page, views) in self.pager.enter(ids())? {
            let place = pages.iter().find(|place| place.id == page);
            let layers = place.map_or(&[][..], |place| &place.layers);
            absent.extend(
                layers
                    .iter()
                    .copied()
                    .zip(exchange(&mut *entered, layers, views)),
            );
        }
        let result = body(&entered);
        let (layers, weights): (Vec<_>, Vec<_>) = absent.into_iter().unzip();
        exchange(&mut *entered, &layers, weights);
        let left = self.pager.leave();
        result.and_then(|result| left.map(|()| result))
    }

    /// The block of a page, and the page's place in it.
    fn find(&self, page: PageId) -> Option<(&RefCell<B>, &Place)> {
        self.blocks.iter().find_map(|Paged { block, pages }| {
            let place = pages.iter().find(|place| place.id == page)?;
            Some((block, place))
        })
    }
}

/// Replaces the weights of some of a block's layers, and returns the old ones.
fn exchange<B: Block>(block: &mut B, layers: &[usize], weights: Vec<Tensor>) -> Vec<Tensor> {
    let mut all: Vec<&mut Linear> = block.pages().into_iter().flatten().collect();
    let pairs = layers.iter().zip(weights);
    pairs
        .filter_map(|(&layer, weight)| all[layer].move_bulk(weight))
        .collect()
}

impl<B: Block> PagedBlocks for Blocks<B> {
    fn facts(&self) -> Vec<PageFact> {
        let pages = self.blocks.iter().flat_map(|paged| &paged.pages);
        self.pager.facts(pages.map(|place| place.id))
    }

    fn evict(&self, page: PageId) -> Result<u64> {
        let Some((block, place)) = self.find(page) else {
            return Ok(0);
        };
        let facts = self.pager.facts([page]);
        if facts.iter().any(|fact| !fact.is_resident) {
            return Ok(0);
        }
        let Ok(mut block) = block.try_borrow_mut() else {
            bail!("page {} is in use", page.0);
        };
        let absent = {
            let all: Vec<&mut Linear> = block.pages().into_iter().flatten().collect();
            let layers = place.layers.iter().map(|&layer| &*all[layer]);
            let origins: Vec<_> = layers
                .clone()
                .map(|layer| layer.origin().cloned())
                .collect();
            let weights: Vec<_> = layers.filter_map(Linear::bulk).collect();
            self.pager.evict(page, &weights, &origins)?
        };
        exchange(&mut *block, &place.layers, absent);
        Ok(facts.iter().map(|fact| fact.bytes).sum())
    }

    fn restore(&self, page: PageId) -> Result<u64> {
        let Some((block, place)) = self.find(page) else {
            return Ok(0);
        };
        let facts = self.pager.facts([page]);
        if facts.iter().any(|fact| fact.is_resident) {
            return Ok(0);
        }
        let Ok(mut block) = block.try_borrow_mut() else {
            bail!("page {} is in use", page.0);
        };
        let weights = self.pager.restore(page)?;
        exchange(&mut *block, &place.layers, weights);
        Ok(facts.iter().map(|fact| fact.bytes).sum())
    }
}
