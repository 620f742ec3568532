//! Steps run on one band of rows after another, with the result of the whole image.
//!
//! Each band is given more rows than it answers for, so many that the zeros which its
//! convolutions see beyond its edges do not reach those. A group norm is about the whole image:
//! its moments are put together from all bands, by running the steps up to it, before any band
//! goes beyond it. So the steps before a norm run once more for each norm behind them, which is
//! the price of never holding the whole.

use candle_core::{Result, Tensor};

use super::shapes::{most_values, output, Scratch, Size, StepShape};
use super::steps::{run, Norms, Step};
use crate::nn::{concat, GroupMoments, GroupNorm};

/// How steps are run in bands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bands {
    /// Rows of the input that a band answers for.
    pub rows: usize,
    /// More rows that it is given at either side.
    pub margin: usize,
}

/// The fewest rows that all edges of bands are multiples of: what makes one row in the end.
pub fn alignment(steps: &[StepShape]) -> usize {
    steps.iter().map(|step| step.stride()).product()
}

/// The margin that steps need.
pub fn margin(steps: &[StepShape]) -> usize {
    let align = alignment(steps);
    // Rows that one of the input has become, as a fraction.
    let (mut made, mut of) = (1, 1);
    let (mut spoilt, mut margin) = (0, 0);
    for step in steps {
        spoilt = step.spoilt(spoilt);
        match step {
            StepShape::Double => made *= 2,
            step => of *= step.stride(),
        }
        margin = margin.max((spoilt * of).div_ceil(made));
    }
    margin.next_multiple_of(align)
}

/// Norms whose moments are known, up to the first that is not.
struct Known<'a> {
    moments: &'a [GroupMoments],
    next: usize,
    /// The first unknown norm and what came to it.
    reached: Option<(GroupNorm, Tensor)>,
}

impl Norms for Known<'_> {
    fn norm(&mut self, norm: &GroupNorm, x: &Tensor) -> Result<Option<Tensor>> {
        let Some(moments) = self.moments.get(self.next) else {
            self.reached = Some((norm.clone(), x.clone()));
            return Ok(None);
        };
        self.next += 1;
        norm.forward_by(x, moments, true).map(Some)
    }
}

/// A band: the rows it is given, and those it answers for.
struct Band {
    given: std::ops::Range<usize>,
    own: std::ops::Range<usize>,
}

impl Band {
    fn of(&self, x: &Tensor) -> Result<Tensor> {
        x.narrow(2, self.given.start, self.given.len())
    }

    /// Its own rows of what has become of those it was given.
    fn own_of(&self, y: &Tensor) -> Result<Tensor> {
        let made = |rows: usize| rows * y.dims()[2] / self.given.len();
        let start = made(self.own.start - self.given.start);
        y.narrow(2, start, made(self.own.len()))
    }
}

impl Bands {
    fn of(self, rows: usize) -> Vec<Band> {
        (0..rows)
            .step_by(self.rows)
            .map(|start| {
                let end = (start + self.rows).min(rows);
                Band {
                    given: start.saturating_sub(self.margin)..(end + self.margin).min(rows),
                    own: start..end,
                }
            })
            .collect()
    }

    /// What `steps` make of an image `[1, C, H, W]`. No attention may be among them.
    ///
    /// # Errors
    /// The shapes do not fit, or the device fails.
    pub fn run(self, steps: &[Step], x: &Tensor) -> Result<Tensor> {
        let bands = self.of(x.dim(2)?);
        let mut moments = Vec::new();
        for _ in 0..steps.iter().map(|step| step.shape().norms()).sum() {
            let mut whole: Option<GroupMoments> = None;
            for band in &bands {
                let Reached::Norm(norm, x) = reach(steps, band.of(x)?, &moments)? else {
                    candle_core::bail!("there are fewer norms than steps say");
                };
                let own = norm.moments(&band.own_of(&x)?)?;
                whole = Some(whole.map_or(own.clone(), |whole| whole.with(&own)));
            }
            moments.extend(whole);
        }
        let mut made = Vec::with_capacity(bands.len());
        for band in &bands {
            let Reached::End(y) = reach(steps, band.of(x)?, &moments)? else {
                candle_core::bail!("there are more norms than steps say");
            };
            made.push(band.own_of(&y)?);
        }
        concat(&made.iter().collect::<Vec<_>>(), 2)
    }

    /// The most values that live at a time while `steps` run on an image of this size, which is
    /// kept.
    pub fn most_values(self, steps: &[StepShape], size: Size, scratch: Scratch) -> usize {
        let band = Size {
            rows: (self.rows + 2 * self.margin).min(size.rows),
            ..size
        };
        let result = output(steps, size);
        // The result in pieces, and then together.
        let kept = size.values().saturating_add(2 * result.values());
        kept.saturating_add(most_values(steps, band, scratch))
    }
}

/// How far steps come.
enum Reached {
    /// The first norm whose moments are not known, and what came to it.
    Norm(GroupNorm, Tensor),
    /// The end, and what they made.
    End(Tensor),
}

/// Runs steps by known moments.
fn reach(steps: &[Step], x: Tensor, moments: &[GroupMoments]) -> Result<Reached> {
    let mut norms = Known {
        moments,
        next: 0,
        reached: None,
    };
    match (run(steps, x, &mut norms)?, norms.reached) {
        (Some(y), _) => Ok(Reached::End(y)),
        (None, Some((norm, x))) => Ok(Reached::Norm(norm, x)),
        (None, None) => candle_core::bail!("steps ended before a norm did"),
    }
}
