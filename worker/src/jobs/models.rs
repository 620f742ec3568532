//! The models that jobs may ask for by name.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ovis_protocol::{
    is_model_name, shown, Capabilities, ErrorCode, ModelInfo, ModelState, Residence, WireError,
};

use super::admission::JobCosts;
use crate::pipeline::MemoryReport;

/// A model of the device. Its weights may be loaded or not.
pub struct Model {
    /// The name that jobs ask for it by.
    pub name: Arc<str>,
    /// What it can do.
    pub capabilities: Capabilities,
    /// What its jobs take.
    pub costs: Arc<dyn JobCosts>,
    /// Bytes of its weights, as their files store them; 0 if unknown.
    pub weight_bytes: u64,
    memory: Mutex<Option<MemoryReport>>,
    weights: Mutex<(Residence, u64)>,
}

impl Model {
    /// A model whose weights are not loaded.
    pub fn new(
        name: impl Into<Arc<str>>,
        capabilities: Capabilities,
        costs: Arc<dyn JobCosts>,
        weight_bytes: u64,
    ) -> Self {
        Self {
            name: name.into(),
            capabilities,
            costs,
            weight_bytes,
            weights: Mutex::default(),
            memory: Mutex::default(),
        }
    }

    /// Reports where the weights are, and how many bytes of the device's memory they take.
    pub fn set_weights(&self, residence: Residence, bytes: u64) {
        *self.lock() = (residence, bytes);
    }

    /// Where the weights are, and how many bytes of the device's memory they take.
    pub fn weights(&self) -> (Residence, u64) {
        *self.lock()
    }

    /// Reports the plan that the weights are kept by within a budget of GPU memory.
    pub fn set_memory(&self, memory: Option<MemoryReport>) {
        *self.memory.lock().unwrap_or_else(PoisonError::into_inner) = memory;
    }

    /// The plan that the weights are kept by within a budget of GPU memory, if there is one.
    pub fn memory(&self) -> Option<MemoryReport> {
        let memory = self.memory.lock();
        memory.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether any of the weights are in memory.
    pub fn is_loaded(&self) -> bool {
        self.weights().0 != Residence::Unloaded
    }

    fn lock(&self) -> MutexGuard<'_, (Residence, u64)> {
        self.weights.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The model with its precision and device. Another identity gives other results.
    pub fn identity(&self) -> String {
        let can = &self.capabilities;
        format!("{}, {}, {}", can.model, can.precision, can.device)
    }

    fn info(&self) -> ModelInfo {
        let can = &self.capabilities;
        ModelInfo {
            name: self.name.to_string(),
            model: can.model.clone(),
            precision: can.precision.clone(),
            operations: can.operations.clone(),
            latent_channels: can.latent_channels,
            conditioning_width: can.conditioning_width,
        }
    }
}

/// A worker's models. The first is the default, which jobs go to that name none.
pub struct ModelList {
    default: Arc<Model>,
    others: Vec<Arc<Model>>,
    capabilities: Capabilities,
}

impl ModelList {
    /// A default model and others.
    pub fn new(
        default: impl Into<Arc<Model>>,
        others: impl IntoIterator<Item = Arc<Model>>,
    ) -> Self {
        let default = default.into();
        let others: Vec<_> = others.into_iter().collect();
        let all = std::iter::once(&default).chain(&others);
        Self {
            capabilities: Capabilities {
                models: all.map(|model| model.info()).collect(),
                ..default.capabilities.clone()
            },
            default,
            others,
        }
    }

    /// All models, the default first.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Model>> {
        std::iter::once(&self.default).chain(&self.others)
    }

    /// The model that jobs go to that name none.
    pub fn default_model(&self) -> &Arc<Model> {
        &self.default
    }

    /// Bytes of the weights that are loaded, as their files store them.
    pub fn loaded_bytes(&self) -> u64 {
        let loaded = self.iter().filter(|model| model.is_loaded());
        loaded.map(|model| model.weight_bytes).sum()
    }

    /// What the default model can do, with a list of all models.
    pub fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    /// The model that a job asks for.
    ///
    /// # Errors
    /// `InvalidRequest` if it is no name of a model, `MissingModel` if there is no such model.
    pub fn find(&self, name: Option<&str>) -> Result<&Arc<Model>, WireError> {
        let Some(name) = name else {
            return Ok(&self.default);
        };
        if let Some(model) = self.iter().find(|model| &*model.name == name) {
            return Ok(model);
        }
        let code = match is_model_name(name) {
            true => ErrorCode::MissingModel,
            false => ErrorCode::InvalidRequest,
        };
        let names: Vec<_> = self.iter().map(|model| &*model.name).collect();
        Err(WireError::new(
            code,
            format!("This worker has no model `{}`.", shown(name)),
            format!("It has: {}.", names.join(", ")),
        ))
    }

    /// Where the weights of each model are.
    pub fn states(&self) -> Vec<ModelState> {
        let state = |model: &Arc<Model>| {
            let (state, bytes) = model.weights();
            ModelState {
                name: model.name.to_string(),
                state,
                bytes,
            }
        };
        self.iter().map(state).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jobs::{testing, Free};

    fn model(name: &str, precision: &str) -> Model {
        let capabilities = Capabilities {
            precision: precision.into(),
            ..testing::capabilities()
        };
        Model::new(name, capabilities, Arc::new(Free), 7)
    }

    #[test]
    fn a_job_finds_its_model_or_reads_which_there_are() {
        let models = ModelList::new(model("main", "bf16"), [model("fast", "fp8").into()]);
        let found = |name| models.find(name).unwrap().name.to_string();
        assert_eq!(found(None), "main");
        assert_eq!(found(Some("fast")), "fast");
        let error = models.find(Some("poster")).err().unwrap();
        assert_eq!(error.code, ErrorCode::MissingModel);
        assert!(error.message.contains("`poster`"), "{error}");
        assert_eq!(error.hint, "It has: main, fast.");
        for name in ["", "a b", "x\n", &"x".repeat(65)] {
            let error = models.find(Some(name)).err().unwrap();
            assert_eq!(error.code, ErrorCode::InvalidRequest, "{name:?}");
            assert!(error.message.len() < 150, "{error}");
        }
    }

    #[test]
    fn the_default_comes_first_in_the_capabilities() {
        let models = ModelList::new(model("main", "bf16"), [model("fast", "fp8").into()]);
        let can = models.capabilities();
        let listed = can.models.iter().map(|m| (&*m.name, &*m.precision));
        assert!(listed.eq([("main", "bf16"), ("fast", "fp8")]));
        assert_eq!(can.precision, "bf16");
        models.default_model().set_weights(Residence::Resident, 5);
        let states = models.states();
        let states = states.iter().map(|s| (&*s.name, s.state, s.bytes));
        let wanted = [
            ("main", Residence::Resident, 5),
            ("fast", Residence::Unloaded, 0),
        ];
        assert!(states.eq(wanted));
    }
}
