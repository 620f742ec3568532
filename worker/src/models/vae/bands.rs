//! Runs steps on one band of rows after another, with the result of a run on the whole image.
//!
//! Each band carries halo rows on both sides, so that the zeros with which its convolutions pad
//! its edges never reach the rows of its result. The moments of a group norm are those of the
//! whole image: the steps up to the norm run on every band and the bands' moments are combined,
//! before any band runs beyond the norm. So the steps before a norm run once more for each norm
//! after them; that is the price of never holding the whole image.

use std::ops::Range;

use candle_core::{Result, Tensor};

use super::norms::Norms;
use super::shapes::{output, peak_values, Scratch, Size, StepShape};
use super::steps::{run, Step};
use crate::nn::{concat, GroupMoments, GroupNorm};

/// The bands that steps run in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bands {
    /// Rows of the input whose result a band computes.
    pub rows: usize,
    /// Further rows of the input that it carries on either side.
    pub halo: usize,
}

/// The number that all edges of bands are multiples of: the rows of the input that become one
/// row of the result.
pub fn alignment(steps: &[StepShape]) -> usize {
    steps.iter().map(|step| step.stride()).product()
}

/// The halo that steps need, in rows of their input.
pub fn halo(steps: &[StepShape]) -> usize {
    let align = alignment(steps);
    // Rows after the steps so far, as a fraction of the rows of the input.
    let (mut upsampled, mut downsampled) = (1, 1);
    let (mut contaminated, mut halo) = (0, 0);
    for step in steps {
        contaminated = step.contaminated_rows(contaminated);
        match step {
            StepShape::Upsample => upsampled *= 2,
            step => downsampled *= step.stride(),
        }
        halo = halo.max((contaminated * downsampled).div_ceil(upsampled));
    }
    halo.next_multiple_of(align)
}

/// Norms with known moments, as many as there are; the next one ends the run.
struct KnownMoments<'a> {
    moments: &'a [GroupMoments],
    next: usize,
    /// The norm that ended the run, and its input.
    unknown: Option<(GroupNorm, Tensor)>,
}

impl Norms for KnownMoments<'_> {
    fn norm(&mut self, norm: &GroupNorm, x: &Tensor) -> Result<Option<Tensor>> {
        let Some(moments) = self.moments.get(self.next) else {
            self.unknown = Some((norm.clone(), x.clone()));
            return Ok(None);
        };
        self.next += 1;
        norm.forward_by(x, moments, true).map(Some)
    }
}

/// A band as two ranges of the input's rows.
struct Band {
    /// The rows that the steps run on.
    with_halo: Range<usize>,
    /// The rows whose result the band computes.
    own: Range<usize>,
}

impl Band {
    /// The band's rows of the input, with its halo.
    fn input(&self, x: &Tensor) -> Result<Tensor> {
        x.narrow(2, self.with_halo.start, self.with_halo.len())
    }

    /// The result of the band's own rows, cut out of the result with the halo.
    fn without_halo(&self, y: &Tensor) -> Result<Tensor> {
        let scaled = |rows: usize| rows * y.dims()[2] / self.with_halo.len();
        let start = scaled(self.own.start - self.with_halo.start);
        y.narrow(2, start, scaled(self.own.len()))
    }
}

impl Bands {
    /// The bands of an image of `rows` rows.
    fn of(self, rows: usize) -> Vec<Band> {
        (0..rows)
            .step_by(self.rows)
            .map(|start| {
                let end = (start + self.rows).min(rows);
                Band {
                    with_halo: start.saturating_sub(self.halo)..(end + self.halo).min(rows),
                    own: start..end,
                }
            })
            .collect()
    }

    /// Runs steps on an image `[1, C, H, W]`. There must be no attention among them.
    ///
    /// # Errors
    /// The shapes do not fit, or the device fails or has too little memory.
    pub fn run(self, steps: &[Step], x: &Tensor) -> Result<Tensor> {
        let bands = self.of(x.dim(2)?);
        let mut moments = Vec::new();
        for _ in 0..steps.iter().map(|step| step.shape().norms()).sum() {
            let mut whole: Option<GroupMoments> = None;
            for band in &bands {
                let Reached::Norm(norm, x) = run_by(&moments, steps, band.input(x)?)? else {
                    candle_core::bail!("the steps have fewer norms than their shapes say");
                };
                let own = norm.moments(&band.without_halo(&x)?)?;
                whole = Some(whole.map_or(own.clone(), |whole| whole.with(&own)));
            }
            moments.extend(whole);
        }
        let mut results = Vec::with_capacity(bands.len());
        for band in &bands {
            let Reached::End(y) = run_by(&moments, steps, band.input(x)?)? else {
                candle_core::bail!("the steps have more norms than their shapes say");
            };
            results.push(band.without_halo(&y)?);
        }
        concat(&results.iter().collect::<Vec<_>>(), 2)
    }

    /// The most values alive at a time while steps run in these bands on an image of a size. The
    /// image itself stays alive.
    pub fn peak_values(self, steps: &[StepShape], size: Size, scratch: Scratch) -> usize {
        let band = Size {
            rows: (self.rows + 2 * self.halo).min(size.rows),
            ..size
        };
        let result = output(steps, size);
        // The bands' results, then their concatenation beside them.
        let kept = size.values().saturating_add(2 * result.values());
        kept.saturating_add(peak_values(steps, band, scratch))
    }
}

/// How far a run with known moments came.
enum Reached {
    /// To a norm whose moments are not known: the norm and its input.
    Norm(GroupNorm, Tensor),
    /// To the end: the result.
    End(Tensor),
}

/// Runs steps with the moments of their first norms.
fn run_by(moments: &[GroupMoments], steps: &[Step], x: Tensor) -> Result<Reached> {
    let mut norms = KnownMoments {
        moments,
        next: 0,
        unknown: None,
    };
    match (run(steps, x, &mut norms)?, norms.unknown) {
        (Some(y), _) => Ok(Reached::End(y)),
        (None, Some((norm, x))) => Ok(Reached::Norm(norm, x)),
        (None, None) => candle_core::bail!("a run ended, but not at a norm"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONV: StepShape = StepShape::Conv {
        outputs: 8,
        kernel: 3,
        stride: 1,
        padding: 2,
    };

    #[test]
    fn a_halo_is_the_receptive_field_in_rows_of_the_input() {
        assert_eq!(halo(&[CONV]), 1);
        assert_eq!(halo(&[CONV, CONV, StepShape::Norm]), 2);
        // After upsampling, a row of the input is two, and half of one is contaminated.
        assert_eq!(halo(&[StepShape::Upsample, CONV]), 1);
        assert_eq!(halo(&[StepShape::Upsample, CONV, CONV, CONV]), 2);
        let residual = StepShape::Residual {
            outputs: 8,
            has_shortcut: false,
        };
        assert_eq!(halo(&[residual]), 2);
        let downsample = StepShape::Conv {
            outputs: 8,
            kernel: 3,
            stride: 2,
            padding: 1,
        };
        // Edges of bands are multiples of the stride, so the halo is too.
        assert_eq!(alignment(&[CONV, downsample]), 2);
        assert_eq!(halo(&[CONV, downsample]), 2);
    }

    #[test]
    fn bands_cover_all_rows_once() {
        let bands = Bands { rows: 4, halo: 3 }.of(10);
        let own: Vec<usize> = bands.iter().flat_map(|band| band.own.clone()).collect();
        assert_eq!(own, (0..10).collect::<Vec<_>>());
        let with_halo: Vec<_> = bands.iter().map(|band| band.with_halo.clone()).collect();
        assert_eq!(with_halo, [0..7, 1..10, 5..10]);
    }
}
