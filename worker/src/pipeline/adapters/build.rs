//! From the changes of a stack to what a network's layers look up.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::layer::{layer_change, Applied};
use super::network::Network;
use super::stack::StackedAdapter;
use crate::models::sites::LayerSite;
use crate::nn::{check_cancelled, AdapterSet};
use crate::pipeline::error::{Error, Result};

/// Makes the set of a stack for a network; `None` if the stack changes nothing in it.
///
/// # Errors
/// A file cannot be read, the device has no memory, or the job is cancelled.
pub(super) fn build(
    network: &Network,
    stack: &[&StackedAdapter],
) -> Result<Option<Arc<AdapterSet>>> {
    let mut layers: BTreeMap<&str, (&Arc<LayerSite>, Vec<Applied>)> = BTreeMap::new();
    let mut parameters: BTreeMap<&str, Vec<Applied>> = BTreeMap::new();
    for stacked in stack {
        let changes = stacked.adapter.changes(network.part).iter().enumerate();
        for (index, change) in changes {
            let name = &change.place.tensor[..];
            let applied = Applied {
                adapter: &stacked.adapter,
                index,
                change,
                strength: stacked.strength_of(network, name),
            };
            if applied.strength == 0.0 {
                continue;
            }
            match network.sites.layer(name) {
                None => parameters.entry(name).or_default().push(applied),
                Some(site) => {
                    let first = site.weights.first().map_or(name, |(first, _)| first);
                    let layer = layers.entry(first).or_insert_with(|| (site, Vec::new()));
                    layer.1.push(applied);
                }
            }
        }
    }
    let mut set = AdapterSet::default();
    for (site, applied) in layers.values() {
        check_cancelled()?;
        set.change(site.id, layer_change(network, site, applied)?);
    }
    for (name, applied) in parameters {
        let Some(site) = network.sites.parameter(name) else {
            return Err(Error::invalid(
                format!("an adapter changes `{name}`, which this model does not use"),
                "",
            ));
        };
        let values = network.merged(name, applied.iter().map(Applied::merging))?;
        let shape = &network.tensor(name)?.shape;
        set.replace(site.id, network.on_device(values, shape, site.dtype)?)?;
    }
    Ok((!set.is_empty()).then(|| Arc::new(set)))
}
