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
}

/// The memory that jobs may take, and what they have reserved of it.
pub struct Ledger {
    book: Mutex<Book>,
}

struct Book {
    budget: Budget,
    /// Host bytes of all admitted jobs that have not ended.
    host: u64,
    /// Device bytes of each of these jobs.
    device: Vec<u64>,
}

impl Book {
    /// Bytes that an operation may take beside the tensors of all jobs; `None` is unbounded.
    fn room(&self) -> Option<u64> {
        match self.budget {
            Budget::OneMemory(bytes) => Some(bytes?.saturating_sub(self.host)),
            Budget::TwoMemories { device, .. } => device,
        }
    }

    fn reserve(&mut self, cost: Cost) -> Result<(), Refusal> {
        self.budget.check(cost).map_err(Refusal::Never)?;
        let host = self.host.saturating_add(cost.host);
        let (total, limit) = match self.budget {
            Budget::OneMemory(limit) => {
                let others = self.device.iter().copied().max().unwrap_or(0);
                (host.saturating_add(others.max(cost.device())), limit)
            }
            // Operations run one at a time, so each may take all of the device.
            Budget::TwoMemories { host: limit, .. } => (host, limit),
        };
        match limit {
            Some(limit) if total > limit => Err(Refusal::Now {
                needed: cost.host,
                limit,
            }),
            _ => {
                self.host = host;
                self.device.push(cost.device());
                Ok(())
            }
        }
    }

    fn release(&mut self, cost: Cost) {
        self.host = self.host.saturating_sub(cost.host);
        if let Some(at) = self.device.iter().position(|&d| d == cost.device()) {
            self.device.swap_remove(at);
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
        self.ledger.lock().release(self.cost);
    }
}

impl Ledger {
    /// A ledger that jobs' memory is reserved in.
    pub fn new(budget: Budget) -> Arc<Self> {
        Arc::new(Self {
            book: Mutex::new(Book {
                budget,
                host: 0,
                device: Vec::new(),
            }),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Updates the free memory of an idle GPU. Without a GPU this has no effect.
    pub fn set_device_memory(&self, left: Option<u64>) {
        if let Budget::TwoMemories { device, .. } = &mut self.lock().budget {
            *device = left;
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
        let budget = self.lock().budget;
        let alone = budget.check_with_decode(ask, |ask| costs.cost(ask));
        let reserved = alone
            .map_err(Refusal::Never)
            .and_then(|()| self.lock().reserve(cost));
        match reserved {
            Ok(()) => Ok(Reservation {
                ledger: self.clone(),
                cost,
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
        let budget = self.lock().budget;
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
            host: 0,
            device: Vec::new(),
        }
    }

    #[test]
    fn on_a_cpu_one_memory_holds_all_tensors_and_the_largest_operation() {
        let mut book = book(Budget::OneMemory(Some(100)));
        assert!(matches!(
            book.reserve(cost(60, 41)),
            Err(Refusal::Never(Shortage { needed: 101, .. }))
        ));
        book.reserve(cost(20, 50)).unwrap();
        book.reserve(cost(20, 10)).unwrap();
        assert_eq!(book.room(), Some(60));
        // Its tensors fit beside the others', but not while the first job's operation runs.
        assert_eq!(
            book.reserve(cost(11, 0)),
            Err(Refusal::Now {
                needed: 11,
                limit: 100
            })
        );
        book.release(cost(20, 50));
        book.reserve(cost(11, 0)).unwrap();
        assert_eq!(book.room(), Some(69));
    }

    #[test]
    fn a_gpu_has_a_memory_of_its_own() {
        let mut book = book(Budget::TwoMemories {
            host: Some(10),
            device: Some(100),
        });
        assert!(matches!(
            book.reserve(cost(1, 101)),
            Err(Refusal::Never(Shortage {
                of: "GPU memory",
                ..
            }))
        ));
        book.reserve(cost(6, 100)).unwrap();
        // Operations run one at a time, so both may take all of the device.
        book.reserve(cost(4, 100)).unwrap();
        assert!(matches!(book.reserve(cost(1, 1)), Err(Refusal::Now { .. })));
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
