//! The device thread's loop: denoise jobs a step at a time, short jobs in between.

use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ovis_protocol::{ErrorCode, Outcome, WireError};

use super::active::{Active, ActiveJobs};
use super::admission::no_device_memory;
use super::backend::Backend;
use super::job::{wire_error, Event, Job, Output, Product, Ticket, Work};
use super::shared::{shutting_down, Next, Shared};
use crate::nn::Operation;
use crate::pipeline::{Cost, Result};
use crate::text::panic_text;

/// How old what a device told of its memory may be, while it has work.
const MEMORY_EVERY: Duration = Duration::from_secs(1);

pub(super) struct DeviceThread<B: Backend> {
    backend: B,
    shared: Arc<Shared>,
    active: ActiveJobs<B::Denoise>,
    /// Whether the device answers nothing but errors any more.
    is_lost: bool,
}

/// Runs a piece of backend work within an operation's bounds; an error or a panic becomes what
/// the client is told.
fn guarded<T>(
    operation: Operation,
    work: impl FnOnce() -> Result<T>,
) -> std::result::Result<T, WireError> {
    match catch_unwind(AssertUnwindSafe(|| operation.run(work))) {
        Ok(result) => result.map_err(|error| wire_error(&error)),
        Err(panic) => Err(WireError::new(
            ErrorCode::Internal,
            format!("The worker failed unexpectedly: {}", panic_text(&*panic)),
            "This is a defect of the worker; its log says where.",
        )),
    }
}

/// Seconds left when `left` more steps follow these. The first step also warms
/// up caches and kernels, so it counts only while it is the only one.
fn seconds_left(steps: &[Duration], left: u32) -> f32 {
    let typical = if steps.len() > 1 { &steps[1..] } else { steps };
    let recent = &typical[typical.len().saturating_sub(8)..];
    let mean = recent.iter().sum::<Duration>().as_secs_f32() / recent.len().max(1) as f32;
    mean * left as f32
}

impl<B: Backend> DeviceThread<B> {
    pub fn new(backend: B, shared: Arc<Shared>) -> Self {
        Self {
            backend,
            shared,
            active: ActiveJobs::new(),
            is_lost: false,
        }
    }

    /// Runs jobs until the engine stops or the device is lost.
    pub fn run(mut self) {
        let mut may_slip = true;
        let mut asked: Option<Instant> = None;
        while !self.is_lost {
            for cancelled in self.active.take_cancelled() {
                self.end(&cancelled.ticket, Event::Cancelled);
            }
            // Not between any two steps: each time is a call of the driver.
            if asked.is_none_or(|at| at.elapsed() >= MEMORY_EVERY) {
                self.look_at_memory();
                asked = Some(Instant::now());
            }
            let next = self.shared.next(self.active.joining().as_ref(), may_slip);
            let begun = Instant::now();
            match next {
                Next::Stop => break,
                Next::Idle => {
                    asked = None;
                    self.look_at_device();
                }
                Next::Job(job) => {
                    // One other job a step: the rest wait, but denoising goes on.
                    may_slip = self.active.is_empty();
                    self.begin(*job);
                }
                Next::Step => {
                    may_slip = true;
                    self.step();
                }
            }
            self.shared.lock().counts.busy_seconds += begun.elapsed().as_secs_f64();
        }
        for active in self.active.drain() {
            let event = Event::Failed(shutting_down());
            self.shared.lock().end(&active.ticket, event);
        }
        // Nothing else would take what still waits.
        self.shared.lock().stop();
    }

    fn look_at_memory(&mut self) {
        self.shared.lock().memory = self.backend.memory();
        if self.active.is_empty() {
            let left = self.backend.device_memory_left();
            self.shared.ledger.set_device_memory(left);
        }
    }

    /// Ends the thread where the device is lost: a GPU that has failed so answers every call of
    /// the process with the same error, so only another process can go on.
    fn look_at_device(&mut self) {
        if let Err(error) = self.backend.check_device() {
            tracing::error!(%error, "the device is lost; this process cannot use it any more");
            self.is_lost = true;
        }
    }

    /// The bounds of a job's next operation.
    fn operation(&self, ticket: &Ticket) -> Operation {
        let room = self.shared.ledger.room();
        Operation {
            cancelled: ticket.cancelled.clone(),
            host_memory: room.map(|room| room.saturating_sub(self.active.kept())),
        }
    }

    /// Whether a GPU has the memory for a job now. It had when the job was let in, but other
    /// programs may have taken it since.
    fn has_memory_for(&self, cost: Cost) -> std::result::Result<(), WireError> {
        match self.backend.device_memory_left() {
            Some(left) if cost.device() > left => Err(no_device_memory(cost.device(), left)),
            _ => Ok(()),
        }
    }

    fn begin(&mut self, job: Job) {
        let ticket = job.ticket;
        let begun = Instant::now();
        if ticket.is_cancelled() {
            return self.end(&ticket, Event::Cancelled);
        }
        let span = ticket.span.clone();
        let _entered = span.enter();
        tracing::info!("started");
        if let Err(error) = self.has_memory_for(job.reservation.cost()) {
            return self.fail(&ticket, error);
        }
        let operation = self.operation(&ticket);
        let backend = &mut self.backend;
        let product = match job.work {
            Work::Denoise(request, inputs) => {
                let elements = inputs.latent.tensor().elem_count() as u64;
                match guarded(operation, || backend.start_denoise(&request, inputs)) {
                    Ok(state) => self.active.push(Active {
                        client: job.client,
                        ticket,
                        state,
                        begun,
                        steps: Vec::new(),
                        left: request.steps,
                        elements,
                        reservation: job.reservation,
                    }),
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

    fn step(&mut self) {
        let Some((place, mut active)) = self.active.take_next() else {
            return;
        };
        let span = active.ticket.span.clone();
        let _entered = span.enter();
        let begun = Instant::now();
        let operation = self.operation(&active.ticket);
        let backend = &mut self.backend;
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
            let after = backend.forwards(&active.state);
            self.shared.lock().counts.add_step(took, before, after);
            match preview {
                Ok(Some(preview)) => active.ticket.tell(Event::Preview(report.step, preview)),
                Ok(None) => {}
                // The job can do without.
                Err(error) => tracing::warn!(%error, "no preview"),
            }
            let estimate = seconds_left(&active.steps, left * self.active.sharing());
            tracing::debug!(step = report.step, total = report.total, "step");
            active.ticket.tell(Event::Progress(report, estimate));
        }
        active.left = left;
        if left > 0 {
            return self.active.put_back(place, active);
        }
        let product = guarded(operation, || {
            Ok(Output::latent(&backend.finish_denoise(active.state)?)?.into())
        });
        self.deliver(&active.ticket, active.begun, product);
    }

    /// Ends a job whose work is over. A cancel that came during it still counts.
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
                    seconds_queued: (begun - ticket.submitted).as_secs_f32(),
                    seconds_running: begun.elapsed().as_secs_f32(),
                    cuts,
                },
                output,
            ),
        };
        self.end(ticket, event);
    }

    /// Ends a job whose work went wrong: because it was cancelled within, or for a reason that
    /// may lie with the device.
    fn fail(&mut self, ticket: &Ticket, error: WireError) {
        if ticket.is_cancelled() {
            return self.end(ticket, Event::Cancelled);
        }
        let may_be_the_device = error.code == ErrorCode::Internal;
        self.end(ticket, Event::Failed(error));
        if may_be_the_device {
            self.look_at_device();
        }
    }

    fn end(&self, ticket: &Ticket, event: Event) {
        self.shared.lock().end(ticket, event);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn estimate_leaves_out_the_first_step() {
        let second = Duration::from_secs(1);
        assert_eq!(seconds_left(&[9 * second], 2), 18.0);
        assert_eq!(seconds_left(&[9 * second, second, second], 2), 2.0);
        assert_eq!(seconds_left(&[second; 20], 0), 0.0);
        assert_eq!(seconds_left(&[], 3), 0.0);
    }
}
