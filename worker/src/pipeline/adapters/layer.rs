//! What a stack of adapters changes in one linear layer.
//!
//! Where all changes are low-rank updates, DoRA's included, they stay beside the layer's own
//! weight. With g the factors of DoRA's rows, d its difference and s its strength, a weight that
//! earlier changes made `f W + D` becomes `(1 - s + s g) (f W + D) + s g d`
//! ([`Change::row_factors`]): the factors of the rows and the upper factors of the earlier updates
//! are multiplied by `1 - s + s g`, and one more update is added. With any other kind of change the
//! layer gets a weight of its own, merged on the host.

use std::ops::Range;

use super::fitted::{FittedAdapter, Thin};
use super::network::Network;
use crate::checkpoint::Change;
use crate::models::sites::LayerSite;
use crate::nn::{LayerChange, LowRank, LowRankPart};
use crate::pipeline::error::Result;

/// A change in a stack.
#[derive(Clone, Copy)]
pub(super) struct Applied<'a> {
    pub adapter: &'a FittedAdapter,
    /// The change's index in its adapter.
    pub index: usize,
    pub change: &'a Change,
    pub strength: f64,
}

impl<'a> Applied<'a> {
    /// What merging takes.
    pub fn merging(&self) -> (&'a Change, f64) {
        (self.change, self.strength)
    }
}

/// A low-rank update with its strength.
struct Update {
    thin: Thin,
    /// Rows of the layer.
    rows: Range<usize>,
    strength: f64,
    /// A further factor of each row.
    factors: Option<Vec<f32>>,
}

impl Update {
    /// Multiplies rows of the update, given by the layer's rows, by factors.
    fn scale_rows(&mut self, rows: &Range<usize>, factors: &[f32]) {
        let first = self.rows.start.max(rows.start);
        let end = self.rows.end.min(rows.end);
        let count = self.rows.len();
        let own = self.factors.get_or_insert_with(|| vec![1.0; count]);
        for row in first..end {
            own[row - self.rows.start] *= factors[row - rows.start];
        }
    }

    fn part(self, network: &Network) -> Result<LowRankPart> {
        let Thin { down, mut up, .. } = self.thin;
        if self.strength != 1.0 {
            up = (up * self.strength)?;
        }
        if let Some(factors) = self.factors {
            let shape = [factors.len(), 1];
            up = up.broadcast_mul(&network.on_device(factors, &shape, up.dtype())?)?;
        }
        Ok(LowRankPart {
            rows: self.rows,
            down,
            up,
        })
    }
}

/// The changes of a layer's weight and bias, in the order of the stack, made into one.
///
/// # Errors
/// A file cannot be read, or the device has no memory.
pub(super) fn layer_change(
    network: &Network,
    site: &LayerSite,
    applied: &[Applied],
) -> Result<LayerChange> {
    let (biases, weights): (Vec<Applied>, Vec<Applied>) = applied
        .iter()
        .partition(|applied| applied.change.place.tensor.ends_with(".bias"));
    let mut change = LayerChange::default();
    if let Some(first) = biases.first() {
        let name = &first.change.place.tensor;
        let values = network.merged(name, biases.iter().map(Applied::merging))?;
        let shape = [values.len()];
        change = change.with_bias(network.on_device(values, &shape, network.placement.weights)?);
    }
    if weights.is_empty() {
        return Ok(change);
    }
    let Some((updates, factors)) = updates(network, site, &weights)? else {
        let weight = merged_weight(network, site, &weights)?;
        return Ok(change.with_weight(weight, site.format)?);
    };
    if let Some(factors) = factors {
        let shape = [factors.len()];
        let dtype = network.placement.compute();
        change = change.with_factors(network.on_device(factors, &shape, dtype)?);
    }
    let parts: Vec<LowRankPart> = updates
        .into_iter()
        .map(|update| update.part(network))
        .collect::<Result<_>>()?;
    Ok(change.with_low_rank(LowRank::new(&parts, site.outputs())?))
}

/// Low-rank updates, and factors of all outputs if there are any.
type Updates = (Vec<Update>, Option<Vec<f32>>);

/// The changes as low-rank updates; `None` if one of them is none.
fn updates(network: &Network, site: &LayerSite, applied: &[Applied]) -> Result<Option<Updates>> {
    let mut updates: Vec<Update> = Vec::with_capacity(applied.len());
    let mut all_factors: Option<Vec<f32>> = None;
    for (place, one) in applied.iter().enumerate() {
        let Applied {
            adapter,
            index,
            change,
            strength,
        } = *one;
        let magnitude = change.magnitude.as_ref();
        if magnitude.is_some_and(|magnitude| !magnitude.of_rows) {
            return Ok(None);
        }
        let Some(thin) = adapter.thin(network, index, change.max_thin_rank())? else {
            return Ok(None);
        };
        let first = site.first_row(&change.place.tensor);
        let rows = first + thin.rows.start..first + thin.rows.end;
        let mut update = Update {
            thin,
            rows: rows.clone(),
            strength,
            factors: None,
        };
        if magnitude.is_some() {
            let earlier = &applied[..place];
            let own = row_factors(network, one, earlier)?;
            let kept: Vec<f32> = own
                .iter()
                .map(|g| (1.0 - strength + strength * f64::from(*g)) as f32)
                .collect();
            for earlier in &mut updates {
                earlier.scale_rows(&rows, &kept);
            }
            let all = all_factors.get_or_insert_with(|| vec![1.0; site.outputs()]);
            for (factor, kept) in all[rows.clone()].iter_mut().zip(&kept) {
                *factor *= kept;
            }
            update.scale_rows(&rows, &own);
        }
        updates.push(update);
    }
    Ok(Some((updates, all_factors)))
}

/// DoRA's factors of a change that comes after others, in the order of the model's rows.
fn row_factors(network: &Network, one: &Applied, earlier: &[Applied]) -> Result<Vec<f32>> {
    let change = one.change;
    let before: Vec<_> = earlier
        .iter()
        .filter(|earlier| earlier.change.place.tensor == change.place.tensor)
        .collect();
    let make = || {
        let merging = before.iter().map(|before| before.merging());
        let whole = network.merged(&change.place.tensor, merging)?;
        let columns = change.place.shape.get(1).copied().unwrap_or(1);
        let mut module = Vec::with_capacity(change.place.len());
        for rows in &change.place.rows {
            module.extend_from_slice(&whole[rows.start * columns..rows.end * columns]);
        }
        let factors = change.row_factors(&module)?.unwrap_or_default();
        let mut sorted: Vec<(usize, f32)> = change
            .place
            .rows
            .iter()
            .flat_map(Clone::clone)
            .zip(factors)
            .collect();
        sorted.sort_by_key(|(row, _)| *row);
        Ok(sorted.into_iter().map(|(_, factor)| factor).collect())
    };
    match before.is_empty() {
        true => {
            let known = one.adapter.factors((network.part, one.index), make)?;
            Ok((*known).clone())
        }
        false => make(),
    }
}

/// The layer's weight with all changes merged, on the device.
pub(super) fn merged_weight(
    network: &Network,
    site: &LayerSite,
    applied: &[Applied],
) -> Result<candle_core::Tensor> {
    let mut values = Vec::with_capacity(site.outputs() * site.inputs);
    for (name, _) in &site.weights {
        let own = applied
            .iter()
            .filter(|applied| applied.change.place.tensor == *name);
        values.extend(network.merged(name, own.map(Applied::merging))?);
    }
    let shape = [site.outputs(), site.inputs];
    Ok(network.on_device(values, &shape, network.placement.weights)?)
}
