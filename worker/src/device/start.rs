//! Starting a device's thread.

use std::sync::{mpsc, Arc};

use super::backend::Backend;
use super::models::Models;
use super::thread::DeviceThread;
use crate::jobs::{Jobs, Limits, Model};
use crate::pipeline::Budget;

/// The name of the model of a worker that is started with one.
pub const DEFAULT_MODEL: &str = "default";

/// Why a device could not be started.
#[derive(Debug)]
pub enum StartError<E> {
    /// Loading the model failed.
    Load(E),
    /// The device's thread failed.
    Thread(ThreadError),
}

/// Why a device's thread did not come up.
#[derive(Debug, thiserror::Error)]
pub enum ThreadError {
    /// The system gave no thread.
    #[error("the device thread cannot start: {0}")]
    Spawn(#[from] std::io::Error),
    /// Loading the model panicked. The panic is logged.
    #[error("loading the model failed unexpectedly; see above")]
    Panicked,
}

/// Starts the thread of a device, loads a model on it under a name with `load`, and waits
/// until it is loaded. Jobs given to what is returned then run on that thread, which ends when
/// the jobs are [stopped](Jobs::stop) or the device fails.
///
/// # Errors
/// `load`'s error, or the thread could not be started or panicked.
pub fn start<B: Backend, E: Send + 'static>(
    limits: Limits,
    name: &str,
    load: impl FnOnce() -> Result<B, E> + Send + 'static,
) -> Result<Jobs, StartError<E>> {
    start_with(name, load, move |model, budget| {
        Jobs::new(limits, model, budget)
    })
}

/// As [`start`], with jobs that `make` creates from the loaded model and the memory it leaves.
///
/// # Errors
/// `load`'s error, or the thread could not be started or panicked.
pub fn start_with<B: Backend, E: Send + 'static>(
    name: &str,
    load: impl FnOnce() -> Result<B, E> + Send + 'static,
    make: impl FnOnce(Model, Budget) -> Jobs + Send + 'static,
) -> Result<Jobs, StartError<E>> {
    let name = Arc::from(name);
    let (loaded, wait) = mpsc::channel();
    std::thread::Builder::new()
        .name("device".into())
        .spawn(move || {
            let models = match load() {
                Ok(backend) => Models::new((name, backend), []),
                Err(error) => {
                    // The receiver waits until something is sent or this thread ends.
                    let _ = loaded.send(Err(error));
                    return;
                }
            };
            let backend = models.default_model();
            let model = Model {
                name: models.default_name().clone(),
                capabilities: backend.capabilities(),
                costs: backend.costs(),
            };
            let jobs = make(model, backend.budget());
            let _ended = ReportEnd(jobs.clone());
            let _ = loaded.send(Ok(jobs.clone()));
            DeviceThread::new(models, jobs).run();
        })
        .map_err(|error| StartError::Thread(error.into()))?;
    match wait.recv() {
        Ok(loaded) => loaded.map_err(StartError::Load),
        Err(mpsc::RecvError) => Err(StartError::Thread(ThreadError::Panicked)),
    }
}

/// Reports the device's end however the thread ends, by a panic too.
struct ReportEnd(Jobs);

impl Drop for ReportEnd {
    fn drop(&mut self) {
        self.0.report_device_ended();
    }
}
