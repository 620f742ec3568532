//! Starting a device's thread.

use std::sync::mpsc;
use std::thread::JoinHandle;

use super::backend::Backend;
use super::catalog::Catalog;
use super::thread::DeviceThread;
use crate::jobs::{Jobs, Limits, ModelList};
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
    let name = name.to_owned();
    let load = move || {
        let backend = load()?;
        let budget = backend.budget();
        Ok((Catalog::of_one(&name, backend), budget))
    };
    start_with(load, move |models, budget| {
        Jobs::new(limits, models, budget)
    })
}

/// As [`start`], with models that `load` returns together with the memory that those which are
/// loaded leave for jobs, and jobs that `make` creates from both.
///
/// # Errors
/// `load`'s error, or the thread could not be started or panicked.
pub fn start_with<B: Backend, E: Send + 'static>(
    load: impl FnOnce() -> Result<(Catalog<B>, Budget), E> + Send + 'static,
    make: impl FnOnce(ModelList, Budget) -> Jobs + Send + 'static,
) -> Result<Jobs, StartError<E>> {
    let (loaded, wait) = mpsc::channel();
    let device = move || {
        let (models, budget) = match load() {
            Ok(loaded) => loaded,
            Err(error) => {
                // The receiver waits until something is sent or this thread ends.
                let _ = loaded.send(Err(error));
                return;
            }
        };
        let jobs = make(models.list(), budget);
        let _ = loaded.send(Ok(jobs.clone()));
        DeviceThread::new(models, jobs).run();
    };
    let failed = |error: std::io::Error| StartError::Thread(error.into());
    let thread = std::thread::Builder::new()
        .name("device".into())
        .spawn(device)
        .map_err(failed)?;
    let loaded = wait.recv();
    let jobs = match loaded {
        Ok(Ok(jobs)) => jobs,
        Ok(Err(error)) => {
            wait_for(thread);
            return Err(StartError::Load(error));
        }
        Err(mpsc::RecvError) => {
            wait_for(thread);
            return Err(StartError::Thread(ThreadError::Panicked));
        }
    };
    let ended = jobs.clone();
    std::thread::Builder::new()
        .name("device-end".into())
        .spawn(move || {
            wait_for(thread);
            ended.report_device_ended();
        })
        .map_err(|error| {
            // Without a report of its end the device must not run on.
            jobs.stop();
            failed(error)
        })?;
    Ok(jobs)
}

/// Waits until a device's thread is gone: with all that it holds of the GPU, which is freed after
/// its last line of code. A process that ends meanwhile would free the GPU's libraries under it,
/// and crash.
fn wait_for(thread: JoinHandle<()>) {
    // A panic is logged by its hook.
    let _ = thread.join();
}
