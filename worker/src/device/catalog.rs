//! The models of a device by name, and how each is loaded. A model is loaded when a job asks for
//! it and unloaded when another one needs its memory, when it was idle for long, or on request.

use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ovis_protocol::{ErrorCode, Residence, WireError};

use super::backend::Backend;
use super::probe::Probe;
use crate::jobs::{unknown_model, Model, ModelList};
use crate::text::panic_text;

/// Loads a model. Its error is the reason, without the model's name, and a hint.
pub type Loader<B> = Box<dyn FnMut() -> Result<B, LoadFailure>>;

/// Why a model could not be loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadFailure {
    /// The reason, as a clause.
    pub reason: String,
    /// What to do about it.
    pub hint: String,
    /// Whether the device had too little memory for it.
    pub lacks_memory: bool,
}

/// When models are unloaded that no job runs on.
#[derive(Clone, Copy, Debug, Default)]
pub struct Retention {
    /// Most models that are loaded at a time; `None` for as many as fit.
    pub most: Option<usize>,
    /// How long a model may be idle; `None` for as long as it likes.
    pub idle: Option<Duration>,
}

struct Entry<B> {
    model: Arc<Model>,
    /// `None` for a model that cannot be loaded again, and so is never unloaded.
    load: Option<Loader<B>>,
    loaded: Option<B>,
    used: Instant,
}

/// The models of a device. The first is the default.
pub struct Catalog<B> {
    entries: Vec<Entry<B>>,
    probe: Box<dyn Probe>,
    retention: Retention,
}

impl<B: Backend> Catalog<B> {
    /// One model, which is never unloaded.
    pub fn of_one(name: &str, backend: B) -> Self {
        let (can, costs) = (backend.capabilities(), backend.costs());
        let model = Model::new(name, can, costs, backend.weight_bytes());
        Self::new(model, backend, None, Retention::default())
    }

    /// A default model, which is loaded. Without `load` it is never unloaded, as nothing could load
    /// it again.
    pub fn new(model: Model, backend: B, load: Option<Loader<B>>, retention: Retention) -> Self {
        let bytes = Self::bytes(&model);
        model.set_weights(Residence::Resident, bytes);
        model.set_memory(backend.memory_report());
        Self {
            probe: backend.probe(),
            entries: vec![Entry {
                model: model.into(),
                load,
                loaded: Some(backend),
                used: Instant::now(),
            }],
            retention,
        }
    }

    /// Adds a model that is loaded when a job asks for it.
    pub fn push(&mut self, model: Model, load: Loader<B>) {
        self.entries.push(Entry {
            model: model.into(),
            load: Some(load),
            loaded: None,
            used: Instant::now(),
        });
    }

    /// The models, for [`Jobs`](crate::jobs::Jobs).
    pub fn list(&self) -> ModelList {
        let mut models = self.entries.iter().map(|entry| entry.model.clone());
        match models.next() {
            Some(default) => ModelList::new(default, models),
            None => unreachable!("a catalog begins with its default model"),
        }
    }

    /// The device itself.
    pub fn probe(&self) -> &dyn Probe {
        &*self.probe
    }

    /// A loaded model, which counts as used now.
    pub fn get_mut(&mut self, name: &str) -> Option<&mut B> {
        let entry = self.entries.iter_mut().find(|e| &*e.model.name == name)?;
        entry.used = Instant::now();
        entry.loaded.as_mut()
    }

    /// Bytes of the loaded weights, as [`JobCosts::weights`](crate::jobs::JobCosts::weights) counts
    /// them.
    pub fn loaded_weights(&self) -> u64 {
        self.loaded().map(|e| e.model.costs.weights()).sum()
    }

    /// Bytes of device memory that weights of loaded models could leave.
    pub fn movable(&self) -> u64 {
        let loaded = self
            .entries
            .iter()
            .filter_map(|entry| entry.loaded.as_ref());
        loaded.map(Backend::movable).sum()
    }

    /// The names of the loaded models.
    pub fn loaded_names(&self) -> Vec<String> {
        self.loaded()
            .map(|entry| entry.model.name.to_string())
            .collect()
    }

    fn loaded(&self) -> impl Iterator<Item = &Entry<B>> {
        self.entries.iter().filter(|entry| entry.loaded.is_some())
    }

    /// Bytes that a model's weights take in the device's memory, as far as is known.
    fn bytes(model: &Model) -> u64 {
        match model.costs.weights() {
            0 => model.weight_bytes,
            bytes => bytes,
        }
    }

    /// Whether a job of this model, which takes so many bytes of device memory, could begin if
    /// every model gave way that is not busy.
    pub fn can_begin(&self, name: &str, bytes: u64, is_busy: &dyn Fn(&str) -> bool) -> bool {
        let Some(entry) = self.entries.iter().find(|e| &*e.model.name == name) else {
            return true; // It fails at once.
        };
        if entry.loaded.is_some() {
            return true;
        }
        let busy = |e: &&Entry<B>| is_busy(&e.model.name) || e.load.is_none();
        let (staying, going): (Vec<_>, Vec<_>) = self.loaded().partition(busy);
        let freed: u64 = going.iter().map(|e| Self::bytes(&e.model)).sum();
        let needed = Self::bytes(&entry.model).saturating_add(bytes);
        self.retention.most.is_none_or(|most| staying.len() < most)
            && self
                .probe
                .room()
                .is_none_or(|room| room.saturating_add(freed) >= needed)
    }

    /// Loads the model of a job that takes `bytes` of device memory, unless it is loaded, and
    /// unloads others if they are in its way: the least recently used first, and never a busy one.
    ///
    /// # Errors
    /// The model is unknown, or cannot be loaded; the other models work on.
    pub fn bring(
        &mut self,
        name: &str,
        bytes: u64,
        is_busy: &dyn Fn(&str) -> bool,
    ) -> Result<(), WireError> {
        let at = self.entries.iter().position(|e| &*e.model.name == name);
        let Some(at) = at else {
            return Err(unknown_model(name));
        };
        self.entries[at].used = Instant::now();
        let stays = |other: &str| other == name || is_busy(other);
        if self.entries[at].loaded.is_some() {
            self.make_room(bytes, &stays);
            return Ok(());
        }
        let most = self.retention.most.unwrap_or(usize::MAX);
        while self.loaded().count() >= most && self.unload_oldest(&stays) {}
        let needed = Self::bytes(&self.entries[at].model).saturating_add(bytes);
        self.make_room(needed, &stays);
        let mut loaded = self.load(at);
        // The estimates may have been too low. What remains idle can be loaded again.
        while loaded.as_ref().is_err_and(|e| e.lacks_memory) && self.unload_oldest(&stays) {
            loaded = self.load(at);
        }
        loaded.map_err(|failure| {
            let code = match failure.lacks_memory {
                true => ErrorCode::OutOfMemory,
                false => ErrorCode::MissingModel,
            };
            let message = format!("The model `{name}` cannot be loaded: {}.", failure.reason);
            WireError::new(code, message, failure.hint)
        })
    }

    fn load(&mut self, at: usize) -> Result<(), LoadFailure> {
        let before = self.probe.gpu_memory_left();
        let Entry {
            model,
            load,
            loaded,
            used,
        } = &mut self.entries[at];
        let Some(load) = load else {
            return Ok(());
        };
        let begun = Instant::now();
        tracing::info!(model = &*model.name, "loading");
        let backend = catch_unwind(AssertUnwindSafe(load)).unwrap_or_else(|panic| {
            Err(LoadFailure {
                reason: format!("loading it failed unexpectedly: {}", panic_text(&*panic)),
                hint: "This is a defect of the worker; its log says where.".into(),
                lacks_memory: false,
            })
        });
        let backend = backend.and_then(|backend| match backend.capabilities() {
            can if can == model.capabilities => Ok(backend),
            _ => Err(LoadFailure {
                reason: "its files have changed since the worker was started".into(),
                hint: "Start the worker again.".into(),
                lacks_memory: false,
            }),
        });
        match backend {
            Ok(backend) => {
                let after = self.probe.gpu_memory_left();
                let taken = before.zip(after).map(|(b, a)| b.saturating_sub(a));
                let bytes = taken.unwrap_or_else(|| Self::bytes(model));
                model.set_weights(Residence::Resident, bytes);
                model.set_memory(backend.memory_report());
                (*loaded, *used) = (Some(backend), Instant::now());
                let seconds = begun.elapsed().as_secs_f32();
                tracing::info!(model = &*model.name, bytes, seconds, "loaded");
                Ok(())
            }
            Err(failure) => {
                self.probe.give_back();
                tracing::warn!(model = &*model.name, error = failure.reason, "not loaded");
                Err(failure)
            }
        }
    }

    /// Unloads models until there are so many bytes of memory, or none is left that may go.
    fn make_room(&mut self, bytes: u64, stays: &dyn Fn(&str) -> bool) {
        while self.probe.room().is_some_and(|room| room < bytes) && self.unload_oldest(stays) {}
    }

    /// Unloads the least recently used of the models that may go, if there is one.
    fn unload_oldest(&mut self, stays: &dyn Fn(&str) -> bool) -> bool {
        let going = self.loaded().filter(|e| e.load.is_some());
        let going = going.filter(|e| !stays(&e.model.name));
        let oldest = going.min_by_key(|e| e.used).map(|e| e.model.name.clone());
        match oldest {
            Some(name) => self.unload(&name, "another model needs its memory"),
            None => false,
        }
    }

    /// Unloads a model, if it is loaded and can be loaded again. Returns whether it was unloaded.
    pub fn unload(&mut self, name: &str, why: &str) -> bool {
        let entry = self.entries.iter_mut().find(|e| &*e.model.name == name);
        let Some(entry) = entry.filter(|entry| entry.load.is_some()) else {
            return false;
        };
        if entry.loaded.take().is_none() {
            return false;
        }
        entry.model.set_weights(Residence::Unloaded, 0);
        self.probe.give_back();
        tracing::info!(model = name, why, "unloaded");
        true
    }

    /// Unloads the models that were idle for too long.
    pub fn sweep(&mut self, now: Instant, is_busy: &dyn Fn(&str) -> bool) {
        let Some(most) = self.retention.idle else {
            return;
        };
        let idle = self
            .loaded()
            .filter(|e| now.saturating_duration_since(e.used) >= most && !is_busy(&e.model.name));
        let idle: Vec<_> = idle.map(|e| e.model.name.clone()).collect();
        for name in idle {
            self.unload(&name, "it was idle");
        }
    }
}
