//! The low-rank updates of a linear layer.

use std::ops::Range;
use std::sync::Arc;

use candle_core::{Result, Tensor, D};

use crate::nn::backend::fused;
use crate::nn::copy::concat;
use crate::nn::factors::{Update, WideUp};
use crate::nn::fused::Fused;
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
    wide: Option<Wide>,
    outputs: usize,
    bytes: u64,
}

/// All factors as two matrices, for products that add the updates themselves.
#[derive(Debug)]
struct Wide {
    down: Arc<dyn Weight>,
    up: WideUp,
    inputs: usize,
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
        let wide = match fused().takes_updates(&down)? && outputs.is_multiple_of(WideUp::ROWS) {
            true => Some(Wide::new(&groups, outputs)?),
            false => None,
        };
        let mut bytes = size(&down) + wide.as_ref().map_or(0, Wide::bytes);
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
            wide,
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

    /// The products of `x` `[.., in]` with all lower factors, for
    /// [`wide_update`](Self::wide_update); `None` where no fused product takes them.
    ///
    /// # Errors
    /// The shapes do not fit, or the operation was cancelled.
    pub(in crate::nn) fn wide_inner(&self, x: &Tensor) -> Result<Option<Tensor>> {
        let product = |wide: &Wide| wide.down.product(&Input::Dense(x.clone()), None);
        self.wide.as_ref().map(product).transpose()
    }

    /// The updates as a fused product takes them.
    pub(in crate::nn) fn wide_update<'a>(&'a self, inner: &'a Tensor) -> Option<Update<'a>> {
        let up = &self.wide.as_ref()?.up;
        Some(Update { inner, up })
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

impl Wide {
    /// Factors by the rows that they change.
    fn new(groups: &[(&Range<usize>, Vec<&LowRankPart>)], outputs: usize) -> Result<Self> {
        let mut downs = Vec::new();
        let mut ups = Vec::new();
        let mut ranks = Vec::new();
        let mut end = 0;
        for (rows, group) in groups {
            let down: Vec<&Tensor> = group.iter().map(|part| &part.down).collect();
            let up: Vec<&Tensor> = group.iter().map(|part| &part.up).collect();
            let (down, up) = (joined(&down, 0)?, joined(&up, 1)?);
            let count = down.dim(0)?.next_multiple_of(WideUp::RANKS);
            let missing = count - down.dim(0)?;
            downs.push(down.pad_with_zeros(0, 0, missing)?);
            let up = up.pad_with_zeros(1, 0, missing)?;
            ups.push(up.pad_with_zeros(0, rows.start, outputs - rows.end)?);
            ranks.push((*rows, end..end + count));
            end += count;
        }
        let down = joined(&downs.iter().collect::<Vec<_>>(), 0)?;
        let pieces: Vec<u32> = (0..outputs / WideUp::ROWS)
            .flat_map(|piece| pieces(&ranks, piece * WideUp::ROWS..(piece + 1) * WideUp::ROWS))
            .collect();
        let shape = (outputs / WideUp::ROWS, 2);
        let up = WideUp {
            factors: joined(&ups.iter().collect::<Vec<_>>(), 1)?.contiguous()?,
            pieces: Tensor::from_vec(pieces, shape, down.device())?,
        };
        Ok(Self {
            inputs: down.dim(1)?,
            down: dense(down.contiguous()?),
            up,
        })
    }

    fn bytes(&self) -> u64 {
        let WideUp { factors, pieces } = &self.up;
        // The lower factors have as many rows as the upper ones columns.
        let down = factors.dims()[1] * self.inputs;
        size(factors) + size(pieces) + (down * factors.dtype().size_in_bytes()) as u64
    }
}

/// The pieces of the ranks that change some of `rows`: the first and the end.
fn pieces(ranks: &[(&Range<usize>, Range<usize>)], rows: Range<usize>) -> [u32; 2] {
    let here = ranks
        .iter()
        .filter(|(changed, _)| changed.start < rows.end && rows.start < changed.end)
        .map(|(_, ranks)| ranks);
    let first = here.clone().map(|ranks| ranks.start).min().unwrap_or(0);
    let end = here.map(|ranks| ranks.end).max().unwrap_or(0);
    [first, end].map(|rank| (rank / WideUp::RANKS) as u32)
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

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};

    use super::*;
    use crate::nn::relative_error;

    #[test]
    fn wide_factors_add_up_to_the_same_updates() {
        let random = |shape: &[usize]| Tensor::randn(0f32, 1f32, shape, &Device::Cpu).unwrap();
        let part = |rows: Range<usize>, rank| LowRankPart {
            down: random(&[rank, 96]),
            up: random(&[rows.len(), rank]),
            rows,
        };
        let parts = [
            part(0..512, 4),
            part(0..140, 70),
            part(384..512, 3),
            part(0..512, 2),
        ];
        let updates = LowRank::new(&parts, 512).unwrap();
        let x = random(&[2, 5, 96]);
        let zeros = Tensor::zeros((2, 5, 512), DType::F32, &Device::Cpu).unwrap();
        let wanted = updates.add_to(zeros, &x).unwrap();
        let groups = [
            (&parts[0].rows, vec![&parts[0], &parts[3]]),
            (&parts[1].rows, vec![&parts[1]]),
            (&parts[2].rows, vec![&parts[2]]),
        ];
        let wide = Wide::new(&groups, 512).unwrap();
        let inner = wide.down.product(&Input::Dense(x), None).unwrap();
        let up = dense(wide.up.factors.clone());
        let found = up.product(&Input::Dense(inner), None).unwrap();
        assert!(relative_error(&found, &wanted) < 1e-6);
        // 64 ranks of the first group, 128 of the second and 64 of the third.
        let pieces = wide.up.pieces.to_vec2::<u32>().unwrap();
        assert_eq!(pieces, [[0, 3], [0, 3], [0, 1], [0, 4]]);
        assert_eq!(wide.bytes(), (512 + 96) * 256 * 4 + 4 * 8);
        // Rows that a piece leaves out have zeros there.
        let skipped = wide.up.factors.narrow(0, 256, 128).unwrap();
        let skipped = skipped
            .narrow(1, 64, 192)
            .unwrap()
            .sqr()
            .unwrap()
            .sum_all()
            .unwrap();
        assert_eq!(skipped.to_scalar::<f32>().unwrap(), 0.0);
    }
}
