//! Access to the weights of a network's blocks.

use std::cell::RefCell;
use std::rc::Rc;

use candle_core::{bail, Result, Tensor};

use super::device::is_memory_limited;
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

    /// Adds the block that runs next. Its pages that do not stay leave the device at once. Those that
    /// do get memory of their own where memory is limited, since the weights are in transit there.
    ///
    /// # Errors
    /// The device fails or has too little memory, or the host has.
    pub fn push(&mut self, mut block: B) -> Result<()> {
        let mut places = Vec::new();
        let (mut leaving, mut joining) = (Vec::new(), Vec::new());
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
                    match stays {
                        true if is_memory_limited(tensors[0].device()) => joining.push(id),
                        true => {}
                        false => leaving.push(id),
                    }
                }
            }
        }
        self.blocks.push(Paged {
            block: RefCell::new(block),
            pages: places,
        });
        joining.into_iter().try_for_each(|page| self.join(page))?;
        leaving
            .into_iter()
            .try_for_each(|page| self.evict(page).map(drop))
    }

    /// Puts a page that stays into memory of its own.
    fn join(&self, page: PageId) -> Result<()> {
        let Some((block, place)) = self.find(page) else {
            return Ok(());
        };
        let Ok(mut block) = block.try_borrow_mut() else {
            bail!("page {} is in use", page.0);
        };
        let joined = {
            let all: Vec<&mut Linear> = block.pages().into_iter().flatten().collect();
            let layers = place.layers.iter().map(|&layer| &*all[layer]);
            let weights: Vec<_> = layers.filter_map(Linear::bulk).collect();
            self.pager.join(page, &weights)?
        };
        exchange(&mut *block, &place.layers, joined);
        Ok(())
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

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};

    use super::*;
    use crate::nn::{HostCopier, Residence};

    /// A block of one page with a float32 and a bf16 weight.
    struct Pair(Linear, Linear);

    impl Block for Pair {
        fn pages(&mut self) -> Vec<Vec<&mut Linear>> {
            vec![vec![&mut self.0, &mut self.1]]
        }
    }

    fn pair(value: f32) -> Pair {
        let weight = Tensor::full(value, (2, 2), &Device::Cpu).unwrap();
        let half = weight.to_dtype(DType::BF16).unwrap();
        Pair(Linear::new(weight, None), Linear::new(half, None))
    }

    /// The sums of what both layers make of ones.
    fn sums(pair: &Pair) -> Result<[f32; 2]> {
        let ones = Tensor::ones((1, 2), DType::F32, &Device::Cpu)?;
        let sum = |linear: &Linear| linear.forward(&ones)?.sum_all()?.to_scalar::<f32>();
        Ok([sum(&pair.0)?, sum(&pair.1)?])
    }

    fn blocks(stays: &[bool]) -> Blocks<Pair> {
        let residence = Residence {
            resident: vec![stays.to_vec()],
            ..Residence::ALL
        };
        let pager = Pager::new(Box::new(|| Ok(Box::new(HostCopier))), &residence);
        let mut blocks = Blocks::new(&Rc::new(pager), Group::Double);
        for value in [1.0, 2.0, 3.0] {
            blocks.push(pair(value)).unwrap();
        }
        blocks
    }

    #[test]
    fn blocks_are_reached_by_their_index_wherever_they_are() {
        for stays in [[true; 3], [false; 3], [true, false, true]] {
            let blocks = blocks(&stays);
            assert_eq!((blocks.len(), blocks.is_empty()), (3, false));
            for _ in 0..2 {
                for (i, value) in [1.0, 2.0, 3.0].into_iter().enumerate() {
                    assert_eq!(blocks.with(i, sums).unwrap(), [4.0 * value; 2]);
                }
            }
            assert!(blocks.with(3, |_| Ok(())).is_err());
            // A page for each type of weight.
            let facts = blocks.facts();
            let resident: Vec<bool> = facts.iter().map(|page| page.is_resident).collect();
            assert_eq!(resident, stays.map(|stays| [stays; 2]).concat());
            assert_eq!(
                facts.iter().map(|page| page.bytes).sum::<u64>(),
                3 * (16 + 8)
            );
        }
    }

    #[test]
    fn a_page_that_joins_has_the_same_weights() {
        let blocks = blocks(&[true, true, true]);
        for page in blocks.facts() {
            blocks.join(page.id).unwrap();
        }
        for (i, value) in [1.0, 2.0, 3.0].into_iter().enumerate() {
            assert_eq!(blocks.with(i, sums).unwrap(), [4.0 * value; 2]);
        }
        blocks
            .with(1, |_| {
                assert!(blocks.join(blocks.facts()[2].id).is_err());
                Ok(())
            })
            .unwrap();
    }

    #[test]
    fn a_block_in_use_does_not_leave() {
        let blocks = blocks(&[true, true, true]);
        let [first, .., last] = blocks.facts()[..] else {
            panic!("pages");
        };
        blocks
            .with(0, |pair| {
                assert!(blocks.evict(first.id).is_err());
                assert_eq!(blocks.evict(last.id).unwrap(), last.bytes);
                sums(pair)
            })
            .unwrap();
        assert_eq!(blocks.evict(last.id).unwrap(), 0);
        assert_eq!(blocks.evict(PageId(99)).unwrap(), 0);
        assert_eq!(blocks.with(2, sums).unwrap(), [12.0; 2]);
        assert_eq!(blocks.restore(last.id).unwrap(), last.bytes);
        assert_eq!(blocks.restore(last.id).unwrap(), 0);
        assert_eq!(blocks.with(2, sums).unwrap(), [12.0; 2]);
    }

    #[test]
    fn what_fails_leaves_the_block_usable() {
        let blocks = blocks(&[false; 3]);
        let failed: Result<()> = blocks.with(1, |_| bail!("no"));
        assert!(failed.is_err());
        assert_eq!(blocks.with(1, sums).unwrap(), [8.0; 2]);
    }
}
