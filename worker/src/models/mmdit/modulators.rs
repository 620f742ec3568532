//! The layers that turn time embeddings into modulations. They run once for a portion of a job's
//! steps, so they are blocks of their own, apart from those that run in every step.

use std::rc::Rc;

use candle_core::{Result, Tensor};

use crate::checkpoint::MmditConfig;
use crate::models::builder::{Builder, Built};
use crate::nn::{Block, Blocks, Group, Linear, PagedBlocks, Pager};

/// Of a double-stream block: the image's layer and the text's.
struct DoubleModulator([Linear; 2]);

/// Of a single-stream block.
struct SingleModulator(Linear);

impl Block for DoubleModulator {
    fn pages(&mut self) -> Vec<Vec<&mut Linear>> {
        self.0.iter_mut().map(|linear| vec![linear]).collect()
    }
}

impl Block for SingleModulator {
    fn pages(&mut self) -> Vec<Vec<&mut Linear>> {
        vec![vec![&mut self.0]]
    }
}

/// The modulation layers of all blocks.
pub(super) struct Modulators {
    double: Blocks<DoubleModulator>,
    single: Blocks<SingleModulator>,
}

impl Modulators {
    /// Of no blocks yet.
    pub fn new(pager: &Rc<Pager>) -> Self {
        Self {
            double: Blocks::new(pager, Group::DoubleModulators),
            single: Blocks::new(pager, Group::SingleModulators),
        }
    }

    /// Adds those of the next double-stream block.
    pub fn push_double(&mut self, at: &Builder, config: &MmditConfig) -> Built<()> {
        let hidden = config.hidden_size;
        let linear = |stream: &str| at.at(stream).linear("lin", hidden, 6 * hidden);
        let modulator = DoubleModulator([linear("img_mod")?, linear("txt_mod")?]);
        at.placed(self.double.push(modulator))
    }

    /// Adds that of the next single-stream block.
    pub fn push_single(&mut self, at: &Builder, config: &MmditConfig) -> Built<()> {
        let hidden = config.hidden_size;
        let linear = at.at("modulation").linear("lin", hidden, 3 * hidden)?;
        at.placed(self.single.push(SingleModulator(linear)))
    }

    /// Rows `[steps, 6 H]` of the image and the text stream of each double-stream block, for time
    /// embeddings `[steps, H]`.
    pub fn double(&self, time: &Tensor) -> Result<Vec<[Tensor; 2]>> {
        let rows = |DoubleModulator([image, text]): &DoubleModulator| {
            Ok([image.forward(time)?, text.forward(time)?])
        };
        (0..self.double.len())
            .map(|i| self.double.with(i, rows))
            .collect()
    }

    /// Rows `[steps, 3 H]` of each single-stream block.
    pub fn single(&self, time: &Tensor) -> Result<Vec<Tensor>> {
        (0..self.single.len())
            .map(|i| self.single.with(i, |modulator| modulator.0.forward(time)))
            .collect()
    }

    /// The blocks whose pages can be moved.
    pub fn paged(&self) -> [&dyn PagedBlocks; 2] {
        [&self.double, &self.single]
    }
}
