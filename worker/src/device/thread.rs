//! The device thread's loop: denoise jobs a step at a time, short operations in between.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ovis_protocol::{ErrorCode, Outcome, WireError};

use super::active::{Active, ActiveJobs};
use super::backend::Backend;
use super::catalog::Catalog;
use super::operations::{guarded, start_denoise, Product};
use super::room::Room;
use super::states::StateSchedule;
use crate::jobs::{deadline_exceeded, unknown_model, Event, Job, Jobs, Next, Ticket, Wanted, Work};
use crate::nn::Operation;
use crate::pipeline::{Output, StepReport};

/// How old the reported memory figures of a busy device may get. Each query is a driver call.
const MEMORY_EVERY: Duration = Duration::from_secs(1);

/// Steps whose mean duration the estimate of the time left is based on.
const RECENT_STEPS: usize = 8;

/// The device thread's state.
pub(super) struct DeviceThread<B: Backend> {
    models: Catalog<B>,
    jobs: Jobs,
    active: ActiveJobs<B::Denoise>,
    room: Room,
    /// Whether the device answers every call with an error.
    is_lost: bool,
}

/// An estimate of the seconds that `left` more steps take. The first step also warms up caches
/// and kernels, so it counts only while there is no other.
fn seconds_left(steps: &[Duration], left: u32) -> f32 {
    let typical = if steps.len() > 1 { &steps[1..] } else { steps };
    let recent = &typical[typical.len().saturating_sub(RECENT_STEPS)..];
    let mean = recent.iter().sum::<Duration>().as_secs_f32() / recent.len().max(1) as f32;
    mean * left as f32
}

impl<B: Backend> DeviceThread<B> {
    /// A thread that runs `jobs` on these models.
    pub fn new(models: Catalog<B>, jobs: Jobs) -> Self {
        Self {
            models,
            jobs,
            active: ActiveJobs::new(),
            room: Room::default(),
            is_lost: false,
        }
    }

    /// Runs jobs until they are stopped or the device is lost.
    pub fn run(mut self) {
        // Whether another job may run before the next denoise step. One may per step: the
        // rest wait, and denoising goes on.
        let mut may_interleave = true;
        let mut memory_reported: Option<Instant> = None;
        while !self.is_lost {
            for given_up in self.active.take_given_up(Instant::now()) {
                let end = match given_up.ticket.is_cancelled() {
                    true => Event::Cancelled,
                    false => Event::Failed(deadline_exceeded()),
                };
                self.jobs.end(&given_up.ticket, end);
            }
            if memory_reported.is_none_or(|at| at.elapsed() >= MEMORY_EVERY) {
                self.report_memory();
                memory_reported = Some(Instant::now());
            }
            self.sweep();
            let next = self.next(may_interleave);
            let begun = Instant::now();
            match next {
                Next::Stop => break,
                Next::Unload(names) => {
                    for name in names.iter().filter(|name| !self.active.uses(name)) {
                        self.models.unload(name, "it was asked for");
                    }
                    self.note_models();
                    memory_reported = None;
                }
                Next::Idle => {
                    memory_reported = None;
                    self.check_device();
                    self.room.settle(&mut self.models);
                }
                Next::Job(job) => {
                    may_interleave = self.active.is_empty();
                    self.begin(*job);
                }
                Next::Continue => {
                    may_interleave = true;
                    self.step();
                }
            }
            self.jobs.metrics().add_busy(begun.elapsed());
        }
        for active in self.active.drain().collect::<Vec<_>>() {
            self.leave(&active);
        }
        // After a loss of the device, jobs are still queued and would be accepted.
        self.jobs.stop();
    }

    /// Parts with a job that the worker's end interrupts. A job in the journal goes on from here
    /// when the worker is back. Another one fails, and its client gets its state before if it
    /// asked for states.
    fn leave(&mut self, active: &Active<B::Denoise>) {
        if !self.is_lost && (active.for_journal.is_wanted() || active.for_client.is_wanted()) {
            self.write_state(
                active,
                active.for_client.is_wanted(),
                active.for_journal.is_wanted(),
            );
        }
        self.jobs.interrupt(&active.ticket);
    }

    /// Hands the state of a job over to its client, to the journal, or to both.
    fn write_state(&mut self, active: &Active<B::Denoise>, to_client: bool, to_journal: bool) {
        let jobs = self.jobs.clone();
        let _beat = jobs.pulse().begin("snapshot", Some(active.ticket.id));
        let operation = self.operation(&active.ticket);
        let Some(backend) = self.models.get_mut(&active.model) else {
            return;
        };
        let step = backend.report(&active.state).step;
        let state = match guarded(operation, || backend.snapshot(&active.state)) {
            Ok(state) => Arc::<[u8]>::from(state),
            // A job can do without.
            Err(error) => return tracing::warn!(%error, "the job's state cannot be written"),
        };
        if to_client {
            active.ticket.report(Event::State(step, state.clone()));
        }
        if to_journal {
            self.jobs.checkpoint(&active.ticket, step, state);
        }
    }

    fn next(&self, may_interleave: bool) -> Next {
        let Some(joining) = self.active.joining() else {
            return self.jobs.next(&Wanted::Any);
        };
        if !may_interleave {
            return self.jobs.next(&Wanted::Nothing);
        }
        let is_busy = |name: &str| self.active.uses(name);
        let accepts = |job: &Job| {
            let bytes = job.reservation.cost().device();
            joining.accepts(job, self.jobs.ledger().room())
                && self.models.can_begin(&job.model.name, bytes, &is_busy)
        };
        self.jobs.next(&Wanted::If(&accepts))
    }

    fn report_memory(&mut self) {
        let jobs = self.jobs.clone();
        let _beat = jobs.pulse().begin("memory query", None);
        let probe = self.models.probe();
        self.jobs.report_memory(probe.memory());
        if self.active.is_empty() {
            let movable = self.models.movable();
            let left = probe.gpu_memory_left();
            let room = left.map(|left| left.saturating_add(movable));
            self.jobs.ledger().set_device_memory(room);
        }
    }

    /// Unloads the models that were idle for too long.
    fn sweep(&mut self) {
        let active = &self.active;
        self.models.sweep(Instant::now(), &|name| active.uses(name));
        self.note_models();
    }

    /// Brings the memory that jobs are admitted by up to date with the models that are loaded.
    fn note_models(&self) {
        let loaded = self.models.loaded_weights();
        self.jobs.ledger().set_loaded(loaded);
    }

    /// Ends the thread if the device is lost. A GPU that has failed in this way answers every
    /// later call of the process with the same error, so only another process can go on.
    fn check_device(&mut self) {
        let _beat = self.jobs.pulse().begin("check", None);
        if let Err(error) = self.models.probe().check() {
            tracing::error!(%error, "the device is lost; this process cannot use it any more");
            self.is_lost = true;
        }
    }

    /// The bounds of a job's next operation.
    fn operation(&self, ticket: &Ticket) -> Operation {
        let room = self.jobs.ledger().room();
        Operation {
            cancelled: ticket.cancelled.clone(),
            host_memory: room.map(|room| room.saturating_sub(self.active.kept())),
        }
    }

    /// Runs a short operation to its end, or prepares a denoise job.
    fn begin(&mut self, job: Job) {
        let ticket = job.ticket;
        let begun = Instant::now();
        if ticket.is_cancelled() {
            return self.jobs.end(&ticket, Event::Cancelled);
        }
        let span = ticket.span.clone();
        let _entered = span.enter();
        tracing::info!("started");
        let (cost, model) = (job.reservation.cost(), job.model.name.clone());
        // Loading takes as long as the files' disk does: no limit of the watchdog's applies.
        let active = &self.active;
        let brought = (self.models).bring(&model, cost.device(), &|name| active.uses(name));
        self.note_models();
        if ticket.is_cancelled() {
            return self.jobs.end(&ticket, Event::Cancelled);
        }
        let jobs = self.jobs.clone();
        let _beat = jobs.pulse().begin(ticket.operation, Some(ticket.id));
        let made = brought.and_then(|()| self.room.make(&mut self.models, &model, cost));
        if let Err(error) = made {
            return self.fail(&ticket, error);
        }
        let operation = self.operation(&ticket);
        let Some(backend) = self.models.get_mut(&model) else {
            return self.fail(&ticket, unknown_model(&model));
        };
        let product = match job.work {
            Work::Denoise(request, inputs, resume) => {
                let elements = inputs.latent.elements();
                let begin = || start_denoise(backend, &request, inputs, resume);
                match guarded(operation, begin) {
                    Ok(state) => {
                        let StepReport { step, total, .. } = backend.report(&state);
                        let journal = self.jobs.checkpoint_interval(&ticket);
                        self.active.push(Active {
                            for_client: StateSchedule::new(ticket.state, step),
                            for_journal: StateSchedule::new(journal, step),
                            ticket,
                            model,
                            state,
                            begun,
                            steps: Vec::new(),
                            left: total.saturating_sub(step).min(request.steps),
                            elements,
                            reservation: job.reservation,
                        });
                    }
                    Err(error) => self.fail(&ticket, error),
                }
                return;
            }
            Work::Encode(request) => guarded(operation, || {
                let (conditioning, cuts) = backend.encode(&request)?;
                let output = Output::conditioning(&conditioning)?;
                Ok(Product { output, cuts })
            }),
            Work::Decode(latent) => guarded(operation, || {
                Ok(Output::image(&backend.decode(latent)?)?.into())
            }),
            Work::VaeEncode(image) => guarded(operation, || {
                Ok(Output::latent(&backend.vae_encode(image)?)?.into())
            }),
        };
        self.deliver(&ticket, begun, product);
    }

    /// Runs the next step of the denoise job whose turn it is.
    fn step(&mut self) {
        let Some((place, mut active)) = self.active.take_next() else {
            return;
        };
        let span = active.ticket.span.clone();
        let _entered = span.enter();
        let begun = Instant::now();
        let operation = self.operation(&active.ticket);
        let jobs = self.jobs.clone();
        let _beat = jobs.pulse().begin("denoise step", Some(active.ticket.id));
        let Some(backend) = self.models.get_mut(&active.model) else {
            return self.fail(&active.ticket, unknown_model(&active.model));
        };
        let before = backend.forwards(&active.state);
        let report = match guarded(operation.clone(), || backend.step(&mut active.state)) {
            Ok(report) => report,
            Err(error) => return self.fail(&active.ticket, error),
        };
        let left = report.total.saturating_sub(report.step);
        if report.step > 0 {
            let preview = guarded(operation.clone(), || backend.preview(&active.state));
            let took = begun.elapsed();
            active.steps.push(took);
            active.ticket.trace.step(begun, &report);
            let after = backend.forwards(&active.state);
            self.jobs.metrics().step_ended(took, before, after);
            match preview {
                Ok(Some(preview)) => {
                    active.ticket.report(Event::Preview(report.step, preview));
                }
                Ok(None) => {}
                // A job can do without previews.
                Err(error) => tracing::warn!(%error, "no preview"),
            }
            let estimate = seconds_left(&active.steps, left * self.active.slowdown());
            tracing::debug!(step = report.step, total = report.total, "step");
            active.ticket.report(Event::Progress(report, estimate));
        }
        active.left = left;
        if left > 0 {
            let now = Instant::now();
            let to_client = active.for_client.take_due(report.step, now);
            let to_journal = active.for_journal.take_due(report.step, now);
            if to_client || to_journal {
                self.write_state(&active, to_client, to_journal);
            }
            return self.active.put_back(place, active);
        }
        let product = guarded(operation, || {
            Ok(Output::latent(&backend.finish_denoise(active.state)?)?.into())
        });
        self.deliver(&active.ticket, active.begun, product);
    }

    /// Ends a job whose work is done. A cancel that came meanwhile still counts.
    fn deliver(
        &mut self,
        ticket: &Ticket,
        begun: Instant,
        product: std::result::Result<Product, WireError>,
    ) {
        let event = match product {
            Err(error) => return self.fail(ticket, error),
            Ok(_) if ticket.is_cancelled() => Event::Cancelled,
            Ok(Product { output, cuts }) => Event::Done(
                Outcome {
                    seconds_queued: ticket.waited_until(begun).as_secs_f32(),
                    seconds_running: begun.elapsed().as_secs_f32(),
                    cuts,
                },
                output,
            ),
        };
        self.jobs.end(ticket, event);
    }

    /// Ends a job whose work failed, be it because it was cancelled. An internal error may come
    /// from a lost device.
    fn fail(&mut self, ticket: &Ticket, error: WireError) {
        if ticket.is_cancelled() {
            return self.jobs.end(ticket, Event::Cancelled);
        }
        if error.code == ErrorCode::Internal {
            self.check_device();
        }
        match (self.is_lost, ticket.journaled) {
            (true, Some(_)) => self.jobs.interrupt(ticket),
            _ => self.jobs.end(ticket, Event::Failed(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jobs::wire_error;
    use crate::pipeline::Error;

    #[test]
    fn the_estimate_leaves_out_the_first_step() {
        let second = Duration::from_secs(1);
        assert_eq!(seconds_left(&[9 * second], 2), 18.0);
        assert_eq!(seconds_left(&[9 * second, second, second], 2), 2.0);
        assert_eq!(seconds_left(&[second; 20], 0), 0.0);
        assert_eq!(seconds_left(&[], 3), 0.0);
    }

    #[test]
    fn errors_of_the_device_keep_their_meaning() {
        let memory = Error::Device(candle_core::Error::Msg("CUDA_ERROR_OUT_OF_MEMORY".into()));
        assert_eq!(wire_error(&memory).code, ErrorCode::OutOfMemory);
        let device = Error::Device(candle_core::Error::Msg("no kernel".into()));
        assert_eq!(wire_error(&device).code, ErrorCode::Internal);
    }
}
