//! Models by name: which is loaded, and which gives way.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ovis_protocol::{Capabilities, DenoiseRequest, EncodeRequest, ErrorCode, PromptCut, Residence};

use crate::device::{Backend, Catalog, LoadFailure, Loader, Probe, Retention};
use crate::jobs::{testing, JobCosts, Model, ModelList};
use crate::pipeline::{
    Ask, Conditioning, Cost, DenoiseInputs, Forwards, Image, Latent, Preview, Result, StepReport,
};

/// A device of so many free bytes, and what happened on it.
#[derive(Clone, Default)]
pub(super) struct Machine {
    free: Rc<Cell<u64>>,
    /// Bytes that are left on the GPU, if it is one.
    pub gpu: Rc<Cell<Option<u64>>>,
    events: Rc<RefCell<Vec<String>>>,
    /// What the next load fails with, if it does.
    fails: Rc<RefCell<Option<LoadFailure>>>,
}

impl Machine {
    pub fn with(bytes: u64) -> Self {
        let machine = Self::default();
        machine.free.set(bytes);
        machine
    }

    fn load(&self, name: &'static str, bytes: u64) -> Loaded {
        self.free.set(self.free.get() - bytes);
        self.events.borrow_mut().push(format!("+{name}"));
        Loaded {
            machine: self.clone(),
            name,
            bytes,
        }
    }

    fn loader(&self, name: &'static str, bytes: u64) -> Loader<Loaded> {
        let machine = self.clone();
        Box::new(move || match machine.fails.borrow_mut().take() {
            Some(failure) => Err(failure),
            None if machine.free.get() < bytes => Err(LoadFailure {
                reason: "it is too large".into(),
                hint: "Buy memory.".into(),
                lacks_memory: true,
            }),
            None => Ok(machine.load(name, bytes)),
        })
    }

    /// Three models of 10, 20 and 30 bytes, of which the first is loaded.
    pub fn catalog(&self, retention: Retention) -> Catalog<Loaded> {
        let first = self.load("a", 10);
        let mut models = Catalog::new(model("a", 10), first, Some(self.loader("a", 10)), retention);
        models.push(model("b", 20), self.loader("b", 20));
        models.push(model("c", 30), self.loader("c", 30));
        models
    }

    pub fn events(&self) -> String {
        self.events
            .borrow_mut()
            .drain(..)
            .collect::<Vec<_>>()
            .join(" ")
    }
}

impl Probe for Machine {
    fn room(&self) -> Option<u64> {
        Some(self.free.get())
    }

    fn gpu_memory_left(&self) -> Option<u64> {
        self.gpu.get()
    }
}

/// A loaded model of so many bytes.
pub(super) struct Loaded {
    machine: Machine,
    name: &'static str,
    bytes: u64,
}

impl Drop for Loaded {
    fn drop(&mut self) {
        let free = &self.machine.free;
        free.set(free.get() + self.bytes);
        let event = format!("-{}", self.name);
        self.machine.events.borrow_mut().push(event);
    }
}

/// Weights of so many bytes; jobs are free.
struct Weights(u64);

impl JobCosts for Weights {
    fn cost(&self, _: Ask) -> Cost {
        Cost::default()
    }

    fn weights(&self) -> u64 {
        self.0
    }
}

fn model(name: &str, bytes: u64) -> Model {
    Model::new(name, testing::capabilities(), Arc::new(Weights(bytes)), 7)
}

impl Backend for Loaded {
    type Denoise = ();

    fn capabilities(&self) -> Capabilities {
        testing::capabilities()
    }

    fn probe(&self) -> Box<dyn Probe> {
        Box::new(self.machine.clone())
    }

    /// At most 10 bytes leave the device.
    fn make_room(&mut self, bytes: u64) -> Result<()> {
        let gpu = &self.machine.gpu;
        gpu.set(gpu.get().map(|left| left + bytes.min(10)));
        self.machine
            .events
            .borrow_mut()
            .push(format!("{} gives {bytes}", self.name));
        Ok(())
    }

    fn settle(&mut self, room: u64) -> Result<()> {
        self.machine
            .events
            .borrow_mut()
            .push(format!("{} takes {room}", self.name));
        Ok(())
    }

    fn movable(&self) -> u64 {
        10
    }

    fn encode(&mut self, _: &EncodeRequest) -> Result<(Conditioning, Vec<PromptCut>)> {
        unreachable!("no job runs here")
    }

    fn start_denoise(&mut self, _: &DenoiseRequest, _: DenoiseInputs) -> Result<()> {
        unreachable!("no job runs here")
    }

    fn resume_denoise(&mut self, _: &DenoiseRequest, _: DenoiseInputs, _: &[u8]) -> Result<()> {
        unreachable!("no job runs here")
    }

    fn snapshot(&mut self, (): &()) -> Result<Vec<u8>> {
        unreachable!("no job runs here")
    }

    fn report(&self, (): &()) -> StepReport {
        unreachable!("no job runs here")
    }

    fn step(&mut self, (): &mut ()) -> Result<StepReport> {
        unreachable!("no job runs here")
    }

    fn forwards(&self, (): &()) -> Forwards {
        unreachable!("no job runs here")
    }

    fn preview(&mut self, (): &()) -> Result<Option<Preview>> {
        unreachable!("no job runs here")
    }

    fn finish_denoise(&mut self, (): ()) -> Result<Latent> {
        unreachable!("no job runs here")
    }

    fn decode(&mut self, _: Latent) -> Result<Image> {
        unreachable!("no job runs here")
    }

    fn vae_encode(&mut self, _: Image) -> Result<Latent> {
        unreachable!("no job runs here")
    }
}

fn idle(_: &str) -> bool {
    false
}

fn loaded(models: &ModelList) -> Vec<&str> {
    let loaded = models.iter().filter(|model| model.is_loaded());
    loaded.map(|model| &*model.name).collect()
}

#[test]
fn the_least_recently_used_gives_way() {
    let machine = Machine::with(60);
    let mut models = machine.catalog(Retention::default());
    let list = models.list();
    models.bring("b", 0, &idle).unwrap();
    models.bring("c", 0, &idle).unwrap();
    assert_eq!(loaded(&list), ["a", "b", "c"], "all fit");
    assert_eq!(models.loaded_weights(), 60);
    // The oldest goes for a job's own memory, and as many as it takes.
    models.bring("a", 0, &idle).unwrap();
    machine.events();
    models.bring("c", 15, &idle).unwrap();
    assert_eq!(machine.events(), "-b");
    models.bring("b", 40, &idle).unwrap();
    assert_eq!(machine.events(), "-a -c +b", "a was used before c");
    assert_eq!(list.states()[1].state, Residence::Resident);
    assert_eq!((list.states()[1].bytes, list.states()[2].bytes), (20, 0));
}

#[test]
fn a_model_with_a_running_job_stays() {
    let machine = Machine::with(40);
    let mut models = machine.catalog(Retention::default());
    let busy = |name: &str| name == "a";
    assert!(models.can_begin("c", 0, &busy) && !models.can_begin("c", 1, &busy));
    assert!(models.can_begin("c", 1, &idle) && models.can_begin("a", 99, &busy));
    models.bring("b", 0, &busy).unwrap();
    machine.events();
    models.bring("c", 0, &busy).unwrap();
    assert_eq!(machine.events(), "-b +c");
    let error = models.bring("b", 0, &|_| true).unwrap_err();
    assert_eq!(error.code, ErrorCode::OutOfMemory);
    assert_eq!(
        error.message,
        "The model `b` cannot be loaded: it is too large."
    );
    assert_eq!(machine.events(), "", "nothing gave way in vain");
}

#[test]
fn no_more_models_than_wanted_are_loaded() {
    let machine = Machine::with(100);
    let mut models = machine.catalog(Retention {
        most: Some(2),
        idle: None,
    });
    let list = models.list();
    models.bring("b", 0, &idle).unwrap();
    models.bring("c", 0, &idle).unwrap();
    assert_eq!(loaded(&list), ["b", "c"]);
    assert!(models.can_begin("a", 0, &|name| name == "b"));
    assert!(!models.can_begin("a", 0, &|_| true));
}

#[test]
fn a_failed_load_leaves_the_others_as_they_are() {
    let machine = Machine::with(100);
    let mut models = machine.catalog(Retention::default());
    *machine.fails.borrow_mut() = Some(LoadFailure {
        reason: "`b.safetensors` is gone".into(),
        hint: "Put it back.".into(),
        lacks_memory: false,
    });
    machine.events();
    let error = models.bring("b", 0, &idle).unwrap_err();
    assert_eq!(error.code, ErrorCode::MissingModel);
    assert_eq!(
        (error.message.as_str(), error.hint.as_str()),
        (
            "The model `b` cannot be loaded: `b.safetensors` is gone.",
            "Put it back."
        )
    );
    assert!(models.get_mut("a").is_some() && models.get_mut("b").is_none());
    assert_eq!(machine.events(), "");
    models.bring("b", 0, &idle).unwrap();
    let error = models.bring("x", 0, &idle).unwrap_err();
    assert!(error.message.contains("`x`"), "{error}");
}

#[test]
fn memory_that_was_estimated_too_low_is_found_elsewhere() {
    let machine = Machine::with(100);
    let mut models = machine.catalog(Retention::default());
    *machine.fails.borrow_mut() = Some(LoadFailure {
        reason: "out of memory".into(),
        hint: String::new(),
        lacks_memory: true,
    });
    machine.events();
    models.bring("b", 0, &idle).unwrap();
    assert_eq!(machine.events(), "-a +b");
}

#[test]
fn another_models_files_are_not_taken_for_it() {
    let machine = Machine::with(100);
    let mut models = machine.catalog(Retention::default());
    let other = Capabilities {
        model: "another".into(),
        ..testing::capabilities()
    };
    let changed = Model::new("d", other, Arc::new(Weights(1)), 1);
    models.push(changed, machine.loader("d", 1));
    let error = models.bring("d", 0, &idle).unwrap_err();
    assert!(error.message.contains("have changed"), "{error}");
}

#[test]
fn idle_models_are_unloaded_and_the_default_too() {
    let machine = Machine::with(100);
    let mut models = machine.catalog(Retention {
        most: None,
        idle: Some(Duration::from_secs(60)),
    });
    let list = models.list();
    models.bring("b", 0, &idle).unwrap();
    let now = Instant::now();
    models.sweep(now + Duration::from_secs(59), &idle);
    assert_eq!(loaded(&list), ["a", "b"]);
    models.sweep(now + Duration::from_secs(61), &|name| name == "b");
    assert_eq!(loaded(&list), ["b"]);
    assert!(models.unload("b", "a test") && !models.unload("b", "a test"));
    models.bring("a", 0, &idle).unwrap();
    assert_eq!(loaded(&list), ["a"]);
}

#[test]
fn a_model_that_cannot_be_loaded_again_stays() {
    let machine = Machine::with(25);
    let mut models = Catalog::of_one("a", machine.load("a", 10));
    models.push(model("b", 20), machine.loader("b", 20));
    assert!(!models.unload("a", "a test"));
    assert!(!models.can_begin("b", 0, &idle));
    assert!(models.bring("b", 0, &idle).is_err());
    assert!(models.get_mut("a").is_some());
}
