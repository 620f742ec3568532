//! Admission by memory, before a job is queued.
//!
//! A job's memory follows from its shapes alone. A job that can never fit is refused with the
//! numbers; one that does not fit beside the jobs already admitted is refused until some of
//! them have ended. An admitted job holds a [`Reservation`], which returns the memory wherever
//! the job ends.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ovis_protocol::limits::MAX_TENSOR_BYTES;
use ovis_protocol::{ErrorCode, WireError};

use crate::pipeline::{shown_bytes, Ask, Budget, Cost, Costs, Shortage};

/// Estimates jobs' memory. Any thread may ask.
pub trait JobCosts: Send + Sync {
    /// The memory of a job with these shapes.
    fn cost(&self, ask: Ask) -> Cost;

    /// Bytes of the model's weights in the memory that its operations take theirs from: the GPU's,
    /// or the host's where jobs have no memory of their own. By default the weights take none.
    fn weights(&self) -> u64 {
        0
    }
}

impl JobCosts for Costs {
    fn cost(&self, ask: Ask) -> Cost {
        Costs::cost(self, ask)
    }
}

/// Costs of a model that has none to estimate: every job is free.
pub struct Free;

impl JobCosts for Free {
    fn cost(&self, _: Ask) -> Cost {
        Cost::default()
    }
}

/// Costs of a job that goes on from a state.
pub(super) struct WithState<'a> {
    /// What it costs without.
    pub costs: &'a dyn JobCosts,
    /// Bytes of the state.
    pub bytes: u64,
}

impl JobCosts for WithState<'_> {
    fn cost(&self, ask: Ask) -> Cost {
        let cost = self.costs.cost(ask);
        Cost {
            host: cost.host.saturating_add(self.bytes),
            ..cost
        }
    }

    fn weights(&self) -> u64 {
        self.costs.weights()
    }
}

/// The memory that jobs may take, and what they have reserved of it.
pub struct Ledger {
    book: Mutex<Book>,
}

struct Book {
    /// Memory for jobs and for the weights of loaded models.
    budget: Budget,
    /// Bytes of these weights.
    loaded: u64,
    /// Host bytes of all admitted jobs that have not ended.
    host: u64,
    /// Peak of each of these jobs: its device bytes and, where both are in one memory, its
    /// model's weights.
    peaks: Vec<u64>,
}

impl Book {
    /// Bytes that an operation may take beside the tensors of all jobs; `None` is unbounded.
    fn room(&self) -> Option<u64> {
        match self.budget {
            Budget::OneMemory(bytes) => {
                let taken = self.host.saturating_add(self.loaded);
                Some(bytes?.saturating_sub(taken))
            }
            Budget::TwoMemories { device, .. } => Some(device?.saturating_sub(self.loaded)),
        }
    }

    /// What jobs of a model with so many bytes of weights may take while no other model is
    /// loaded: models without a running job give way.
    fn beside(&self, weights: u64) -> Budget {
        let less = |bytes: Option<u64>| bytes.map(|bytes| bytes.saturating_sub(weights));
        match self.budget {
            Budget::OneMemory(bytes) => Budget::OneMemory(less(bytes)),
            Budget::TwoMemories { host, device } => Budget::TwoMemories {
                host,
                device: less(device),
            },
        }
    }

    /// Reserves a job's memory, for a model with so many bytes of weights. Returns the job's peak.
    fn reserve(&mut self, cost: Cost, weights: u64) -> Result<u64, Refusal> {
        self.beside(weights).check(cost).map_err(Refusal::Never)?;
        let peak = cost.device().saturating_add(weights);
        let host = self.host.saturating_add(cost.host);
        let (total, limit, weights) = match self.budget {
            Budget::OneMemory(limit) => {
                let others = self.peaks.iter().copied().max().unwrap_or(0);
                (host.saturating_add(others.max(peak)), limit, weights)
            }
            // Operations run one at a time, so each may take all of the device.
            Budget::TwoMemories { host: limit, .. } => (host, limit, 0),
        };
        match limit {
            Some(limit) if total > limit => Err(Refusal::Now {
                needed: cost.host,
                limit: limit.saturating_sub(weights),
            }),
            _ => {
                self.host = host;
                self.peaks.push(peak);
                Ok(peak)
            }
        }
    }

    fn release(&mut self, cost: Cost, peak: u64) {
        self.host = self.host.saturating_sub(cost.host);
        if let Some(at) = self.peaks.iter().position(|&p| p == peak) {
            self.peaks.swap_remove(at);
        }
    }
}

/// Why a job was not admitted.
#[derive(Debug, PartialEq, Eq)]
enum Refusal {
    /// It does not fit even alone.
    Never(Shortage),
    /// It does not fit beside the jobs already admitted.
    Now { needed: u64, limit: u64 },
}

/// A job's memory, returned to the ledger when dropped.
pub struct Reservation {
    ledger: Arc<Ledger>,
    cost: Cost,
    peak: u64,
}

impl Reservation {
    /// The job's memory.
    pub fn cost(&self) -> Cost {
        self.cost
    }
}

impl std::fmt::Debug for Reservation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reservation")
            .field("cost", &self.cost)
            .finish_non_exhaustive()
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.ledger.lock().release(self.cost, self.peak);
    }
}

impl Ledger {
    /// A ledger that jobs' memory is reserved in: `budget` is what there is for them beside the
    /// loaded models.
    pub fn new(budget: Budget) -> Arc<Self> {
        Arc::new(Self {
            book: Mutex::new(Book {
                budget,
                loaded: 0,
                host: 0,
                peaks: Vec::new(),
            }),
        })
    }

    /// Counts the weights that are loaded already into the budget, which leaves them out.
    pub(super) fn with_loaded(self: Arc<Self>, weights: u64) -> Arc<Self> {
        let more = |bytes: &mut Option<u64>| {
            *bytes = bytes.map(|bytes| bytes.saturating_add(weights));
        };
        let mut book = self.lock();
        match &mut book.budget {
            Budget::OneMemory(bytes) => more(bytes),
            Budget::TwoMemories { device, .. } => more(device),
        }
        book.loaded = weights;
        drop(book);
        self
    }

    /// Updates the bytes of the loaded models' weights.
    pub fn set_loaded(&self, weights: u64) {
        self.lock().loaded = weights;
    }

    fn lock(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Updates the free memory of an idle GPU. Without a GPU this has no effect.
    pub fn set_device_memory(&self, left: Option<u64>) {
        let mut book = self.lock();
        let loaded = book.loaded;
        if let Budget::TwoMemories { device, .. } = &mut book.budget {
            *device = left.map(|left| left.saturating_add(loaded));
        }
    }

    /// Host bytes that all admitted jobs have reserved.
    pub fn reserved(&self) -> u64 {
        self.lock().host
    }

    /// Bytes that an operation may take beside the tensors of all jobs; `None` is unbounded.
    pub fn room(&self) -> Option<u64> {
        self.lock().room()
    }

    /// Reserves a job's memory.
    ///
    /// # Errors
    /// `InvalidRequest` if the result is larger than a job may return, `OutOfMemory` with what
    /// would fit if the job can never fit, `QueueFull` if it does not fit at present.
    pub fn admit(
        self: &Arc<Self>,
        costs: &dyn JobCosts,
        ask: Ask,
    ) -> Result<Reservation, WireError> {
        let cost = costs.cost(ask);
        if cost.result > MAX_TENSOR_BYTES {
            return Err(WireError::new(
                ErrorCode::InvalidRequest,
                format!(
                    "The job's result would have {}, the most one job may return is {}.",
                    shown_bytes(cost.result),
                    shown_bytes(MAX_TENSOR_BYTES)
                ),
                "Use a smaller size or batch, or fewer and shorter prompts.",
            ));
        }
        let budget = self.lock().beside(costs.weights());
        let alone = budget.check_with_decode(ask, |ask| costs.cost(ask));
        let reserved = alone
            .map_err(Refusal::Never)
            .and_then(|()| self.lock().reserve(cost, costs.weights()));
        match reserved {
            Ok(peak) => Ok(Reservation {
                ledger: self.clone(),
                cost,
                peak,
            }),
            Err(Refusal::Now { needed, limit }) => Err(WireError::new(
                ErrorCode::QueueFull,
                format!(
                    "The job needs {} of memory, and other jobs hold too much of the {} that this worker may use.",
                    shown_bytes(needed),
                    shown_bytes(limit)
                ),
                "Wait for a job to end, then submit it again.",
            )),
            Err(Refusal::Never(shortage)) => Err(WireError::new(
                ErrorCode::OutOfMemory,
                format!(
                    "The job {shortage}, and this worker has {} for it.",
                    shown_bytes(shortage.there)
                ),
                self.what_would_fit(costs, ask),
            )),
        }
    }

    fn what_would_fit(&self, costs: &dyn JobCosts, ask: Ask) -> String {
        let budget = self.lock().beside(costs.weights());
        let fits = |ask: Ask| budget.check_with_decode(ask, |ask| costs.cost(ask)).is_ok();
        ask.largest_that(fits).unwrap_or_else(|| {
            "Nothing like it fits: start the worker with a larger --memory, or on a machine with more."
                .into()
        })
    }
}

/// The error of an admitted job whose GPU memory other programs have taken since.
pub fn no_device_memory(needed: u64, left: u64) -> WireError {
    WireError::new(
        ErrorCode::OutOfMemory,
        format!(
            "The job needs {} of GPU memory, and {} is free now: other programs hold more of it than before.",
            shown_bytes(needed),
            shown_bytes(left)
        ),
        "Close what else uses the GPU, or use a smaller size or batch.",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cost(host: u64, device: u64) -> Cost {
        Cost {
            host,
            working: device,
            ..Cost::default()
        }
    }

    fn book(budget: Budget) -> Book {
        Book {
            budget,
            loaded: 0,
            host: 0,
            peaks: Vec::new(),
        }
    }

    #[test]
    fn on_a_cpu_one_memory_holds_all_tensors_and_the_largest_operation() {
        let mut book = book(Budget::OneMemory(Some(100)));
        assert!(matches!(
            book.reserve(cost(60, 41), 0),
            Err(Refusal::Never(Shortage { needed: 101, .. }))
        ));
        book.reserve(cost(20, 50), 0).unwrap();
        book.reserve(cost(20, 10), 0).unwrap();
        assert_eq!(book.room(), Some(60));
        // Its tensors fit beside the others', but not while the first job's operation runs.
        assert_eq!(
            book.reserve(cost(11, 0), 0),
            Err(Refusal::Now {
                needed: 11,
                limit: 100
            })
        );
        book.release(cost(20, 50), 50);
        book.reserve(cost(11, 0), 0).unwrap();
        assert_eq!(book.room(), Some(69));
    }

    #[test]
    fn a_gpu_has_a_memory_of_its_own() {
        let mut book = book(Budget::TwoMemories {
            host: Some(10),
            device: Some(100),
        });
        assert!(matches!(
            book.reserve(cost(1, 101), 0),
            Err(Refusal::Never(Shortage {
                of: "GPU memory",
                ..
            }))
        ));
        book.reserve(cost(6, 100), 0).unwrap();
        // Operations run one at a time, so both may take all of the device.
        book.reserve(cost(4, 100), 0).unwrap();
        assert!(matches!(
            book.reserve(cost(1, 1), 0),
            Err(Refusal::Now { .. })
        ));
    }

    #[test]
    fn models_and_jobs_share_one_memory() {
        let mut book = book(Budget::OneMemory(Some(100)));
        book.loaded = 30;
        assert_eq!(book.room(), Some(70));
        // The loaded model gives way to the job's, which takes more.
        assert!(matches!(
            book.reserve(cost(10, 51), 40),
            Err(Refusal::Never(Shortage {
                needed: 61,
                there: 60,
                ..
            }))
        ));
        assert_eq!(book.reserve(cost(10, 40), 40), Ok(80));
        assert_eq!(
            book.reserve(cost(11, 0), 30),
            Err(Refusal::Now {
                needed: 11,
                limit: 70
            })
        );
        book.release(cost(10, 40), 80);
        assert_eq!(book.reserve(cost(11, 0), 30), Ok(30));
    }

    #[test]
    fn an_idle_model_on_a_gpu_is_no_obstacle() {
        let ledger = Ledger::new(Budget::TwoMemories {
            host: None,
            device: Some(40),
        });
        let ledger = ledger.with_loaded(60);
        assert_eq!(ledger.room(), Some(40));
        let refused = |device, weights| ledger.lock().reserve(cost(0, device), weights).is_err();
        assert!(refused(41, 60) && !refused(40, 60) && !refused(80, 20));
        // It was unloaded, and other programs took some of what it left.
        ledger.set_loaded(0);
        ledger.set_device_memory(Some(90));
        assert!(refused(31, 60) && !refused(30, 60));
        assert_eq!(ledger.room(), Some(90));
    }

    #[test]
    fn a_dropped_reservation_gives_its_memory_back() {
        struct Ten;
        impl JobCosts for Ten {
            fn cost(&self, _: Ask) -> Cost {
                cost(10, 0)
            }
        }
        let ledger = Ledger::new(Budget::OneMemory(Some(15)));
        let ask = Ask::VaeEncode { image: [1, 16, 16] };
        let first = ledger.admit(&Ten, ask).unwrap();
        assert_eq!(
            ledger.admit(&Ten, ask).unwrap_err().code,
            ErrorCode::QueueFull
        );
        drop(first);
        ledger.admit(&Ten, ask).unwrap();
        let ledger = Ledger::new(Budget::OneMemory(Some(5)));
        let never = ledger.admit(&Ten, ask).unwrap_err();
        assert_eq!(never.code, ErrorCode::OutOfMemory);
        assert_eq!(
            never.message,
            "The job needs 10 bytes of memory, and this worker has 5 bytes for it."
        );
    }

    #[test]
    fn without_a_budget_every_job_is_admitted() {
        let ledger = Ledger::new(Budget::OneMemory(None));
        assert_eq!(ledger.room(), None);
        let ask = Ask::VaeEncode { image: [1, 16, 16] };
        ledger.admit(&Free, ask).unwrap();
    }
}
