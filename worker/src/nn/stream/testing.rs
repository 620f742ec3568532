//! Copiers for tests.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use candle_core::{bail, DType, Device, Result, Tensor};

use super::{Copier, Home, HostCopier, PageLayout, SlotId};

/// What a slow copier's thread has to do.
type Work = Box<dyn FnOnce() -> Result<()> + Send>;

/// Copies on a thread of its own with random delays, and checks that it is told in time when slots
/// are used. Slots begin as NaN, so that reading one too early shows.
pub struct SlowCopier {
    work: mpsc::Sender<Work>,
    /// By slot, what the thread reports of each copy that nothing has waited for yet.
    under_way: RefCell<HashMap<u8, Vec<mpsc::Receiver<Result<()>>>>>,
    /// Slots in use, from [`ready`](Copier::ready) to [`used`](Copier::used).
    in_use: RefCell<Vec<u8>>,
    random: Cell<u64>,
}

impl SlowCopier {
    /// With delays that `seed` determines.
    pub fn new(seed: u64) -> Self {
        let (work, todo) = mpsc::channel::<Work>();
        // The thread ends with the copier.
        thread::spawn(move || todo.into_iter().for_each(|work| drop(work())));
        Self {
            work,
            under_way: RefCell::default(),
            in_use: RefCell::default(),
            random: Cell::new(seed | 1),
        }
    }

    /// Marsaglia 2003, "Xorshift RNGs".
    fn delay(&self) -> Duration {
        let mut x = self.random.get();
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        self.random.set(x);
        Duration::from_micros(x % 1500)
    }
}

impl Copier for SlowCopier {
    fn memory(&self, dtype: DType, elements: usize) -> Result<Tensor> {
        Tensor::full(f32::NAN, elements, &Device::Cpu)?.to_dtype(dtype)
    }

    fn save(&self, from: &Tensor, into: &mut [u8]) -> Result<()> {
        HostCopier.save(from, into)
    }

    fn copy(&self, into: &Tensor, layout: &PageLayout, from: &Home) -> Result<()> {
        HostCopier.copy(into, layout, from)
    }

    fn fill(&self, slot: SlotId, into: &Tensor, layout: &PageLayout, from: &Home) -> Result<()> {
        assert!(
            !self.in_use.borrow().contains(&slot.0),
            "{slot:?} is in use"
        );
        let page = Tensor::zeros(layout.elements, layout.dtype, &Device::Cpu)?;
        HostCopier.copy(&page, layout, from)?;
        let (done, report) = mpsc::channel();
        let (into, delay) = (into.clone(), self.delay());
        let work = move || {
            thread::sleep(delay);
            let copied = into.slice_set(&page, 0, 0);
            let _ = done.send(copied);
            Ok(())
        };
        self.work.send(Box::new(work)).unwrap();
        let mut under_way = self.under_way.borrow_mut();
        under_way.entry(slot.0).or_default().push(report);
        Ok(())
    }

    fn ready(&self, slot: SlotId) -> Result<()> {
        let reports = self.under_way.borrow_mut().remove(&slot.0);
        for report in reports.into_iter().flatten() {
            report.recv().unwrap()?;
        }
        self.in_use.borrow_mut().push(slot.0);
        Ok(())
    }

    fn used(&self, slot: SlotId) -> Result<()> {
        self.in_use.borrow_mut().retain(|used| *used != slot.0);
        Ok(())
    }
}

/// Copies at once, until it is told to fail.
pub struct FailingCopier {
    /// How many more copies into slots succeed before one fails; `None` for all.
    pub successes: Rc<Cell<Option<u32>>>,
}

impl Copier for FailingCopier {
    fn memory(&self, dtype: DType, elements: usize) -> Result<Tensor> {
        HostCopier.memory(dtype, elements)
    }

    fn save(&self, from: &Tensor, into: &mut [u8]) -> Result<()> {
        HostCopier.save(from, into)
    }

    fn copy(&self, into: &Tensor, layout: &PageLayout, from: &Home) -> Result<()> {
        HostCopier.copy(into, layout, from)
    }

    fn fill(&self, slot: SlotId, into: &Tensor, layout: &PageLayout, from: &Home) -> Result<()> {
        match self.successes.get() {
            Some(0) => bail!("a copy failed, as the test wants"),
            Some(more) => self.successes.set(Some(more - 1)),
            None => {}
        }
        HostCopier.fill(slot, into, layout, from)
    }

    fn ready(&self, slot: SlotId) -> Result<()> {
        HostCopier.ready(slot)
    }

    fn used(&self, slot: SlotId) -> Result<()> {
        HostCopier.used(slot)
    }
}
