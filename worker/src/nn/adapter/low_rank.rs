//! The low-rank updates of a linear layer.

use std::ops::Range;
use std::sync::Arc;

use candle_core::{Result, Tensor, D};

use crate::nn::copy::concat;
use crate::nn::weight::{dense, Input, Weight};

/// One low-rank update (Hu et al. 2021): rows `rows` of the layer's result grow by `up (down x)`.
#[derive(Clone, Debug)]
pub struct LowRankPart {
    /// The rows of the layer's weight that it changes.
    pub rows: Range<usize>,
    /// `[rank, in]`.
    pub down: Tensor,
    /// `[rows, rank]`, with all strengths multiplied in.
    pub up: Tensor,
}

/// The sum of any number of low-rank updates of one layer. All lower factors are one matrix
/// `[sum of ranks, in]`, and the upper factors of the same rows are one matrix, so that the sum
/// takes two thin products over each output whatever the number of updates is.
#[derive(Debug)]
pub struct LowRank {
    down: Arc<dyn Weight>,
    /// Updates of disjoint rows, ascending, are one pass over the result.
    passes: Vec<Vec<Rows>>,
    outputs: usize,
    bytes: u64,
}

/// The upper factors of some rows.
#[derive(Debug)]
struct Rows {
    rows: Range<usize>,
    /// The columns of `down x` that they multiply.
    ranks: Range<usize>,
    up: Arc<dyn Weight>,
}

impl LowRank {
    /// The sum of updates of a layer with `outputs` rows.
    ///
    /// # Errors
    /// There is no update, or their shapes do not fit.
    pub fn new(parts: &[LowRankPart], outputs: usize) -> Result<Self> {
        let mut groups: Vec<(&Range<usize>, Vec<&LowRankPart>)> = Vec::new();
        for part in parts {
            if part.rows.end > outputs {
                candle_core::bail!("an adapter changes rows {:?} of {outputs}", part.rows);
            }
            match groups.iter_mut().find(|(rows, _)| **rows == part.rows) {
                Some((_, group)) => group.push(part),
                None => groups.push((&part.rows, vec![part])),
            }
        }
        groups.sort_by_key(|(rows, _)| (rows.start, rows.end));
        let downs: Vec<&Tensor> = groups
            .iter()
            .flat_map(|(_, group)| group.iter().map(|part| &part.down))
            .collect();
        let down = joined(&downs, 0)?;
        let mut bytes = size(&down);
        let mut passes: Vec<Vec<Rows>> = Vec::new();
        let mut rank = 0;
        for (rows, group) in groups {
            let ups: Vec<&Tensor> = group.iter().map(|part| &part.up).collect();
            let up = joined(&ups, 1)?;
            let (height, width) = up.dims2()?;
            if height != rows.len() {
                candle_core::bail!("an adapter has {height} rows for {rows:?}");
            }
            bytes += size(&up);
            let ranks = rank..rank + width;
            rank = ranks.end;
            let rows = Rows {
                rows: rows.clone(),
                ranks,
                up: dense(up),
            };
            let ends_before = |pass: &Vec<Rows>| {
                let end = pass.last().map_or(0, |last| last.rows.end);
                end <= rows.rows.start
            };
            match passes.iter_mut().find(|pass| ends_before(pass)) {
                Some(pass) => pass.push(rows),
                None => passes.push(vec![rows]),
            }
        }
        Ok(Self {
            down: dense(down),
            passes,
            outputs,
            bytes,
        })
    }

    /// Bytes of all factors.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// `y` `[.., out]`, the layer's result for `x` `[.., in]`, with all updates added.
    ///
    /// # Errors
    /// The shapes do not fit, or the operation was cancelled.
    pub(in crate::nn) fn add_to(&self, y: Tensor, x: &Tensor) -> Result<Tensor> {
        self.updates(x)?.try_fold(y, |y, update| y + update?)
    }

    /// The sum of all updates, `[.., out]`.
    ///
    /// # Errors
    /// The shapes do not fit, or the operation was cancelled.
    pub(in crate::nn) fn update(&self, x: &Tensor) -> Result<Tensor> {
        let mut updates = self.updates(x)?;
        match updates.next() {
            Some(first) => updates.try_fold(first?, |sum, update| sum + update?),
            None => candle_core::bail!("there is no update"),
        }
    }

    fn updates(&self, x: &Tensor) -> Result<impl Iterator<Item = Result<Tensor>> + '_> {
        let inner = self.down.product(&Input::Dense(x.clone()), None)?;
        let passes = self.passes.iter();
        Ok(passes.map(move |pass| self.pass(pass, &inner)))
    }

    fn pass(&self, pass: &[Rows], inner: &Tensor) -> Result<Tensor> {
        let zeros = |count: usize| {
            let mut shape = inner.dims().to_vec();
            if let Some(last) = shape.last_mut() {
                *last = count;
            }
            Tensor::zeros(shape, inner.dtype(), inner.device())
        };
        let mut parts = Vec::with_capacity(pass.len());
        let mut end = 0;
        for Rows { rows, ranks, up } in pass {
            if rows.start > end {
                parts.push(zeros(rows.start - end)?);
            }
            end = rows.end;
            let inner = inner.narrow(D::Minus1, ranks.start, ranks.len())?;
            parts.push(up.product(&Input::Dense(inner.contiguous()?), None)?);
        }
        if end < self.outputs {
            parts.push(zeros(self.outputs - end)?);
        }
        match &parts[..] {
            [whole] => Ok(whole.clone()),
            parts => concat(&parts.iter().collect::<Vec<_>>(), inner.rank() - 1),
        }
    }
}

fn joined(parts: &[&Tensor], dim: usize) -> Result<Tensor> {
    match parts {
        [whole] => Ok((*whole).clone()),
        parts => concat(parts, dim),
    }
}

/// Bytes of a tensor's values.
pub(super) fn size(tensor: &Tensor) -> u64 {
    (tensor.elem_count() * tensor.dtype().size_in_bytes()) as u64
}
