//! A network that is on the device only while it is used.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use super::builder::Built;

/// A network that can leave the device and is loaded again when it is used.
pub struct Swapped<T> {
    load: Box<dyn Fn() -> Built<T>>,
    loaded: RefCell<Option<Rc<T>>>,
    stays: Cell<bool>,
}

impl<T> Swapped<T> {
    /// A network that `load` reads. If it `stays`, it is loaded at its first use and then kept.
    pub fn new(load: impl Fn() -> Built<T> + 'static, stays: bool) -> Self {
        Self {
            load: Box::new(load),
            loaded: RefCell::new(None),
            stays: Cell::new(stays),
        }
    }

    /// Runs `body` with the network, which is loaded before if it is not there, and leaves the
    /// device again unless it stays.
    ///
    /// # Errors
    /// The network cannot be loaded; `failed` turns the reason into the caller's error.
    pub fn with<R, E>(
        &self,
        failed: impl FnOnce(crate::checkpoint::WeightsError) -> E,
        body: impl FnOnce(&T) -> Result<R, E>,
    ) -> Result<R, E> {
        let network = self.get().map_err(failed)?;
        let result = body(&network);
        drop(network);
        if !self.stays.get() {
            self.leave();
        }
        result
    }

    fn get(&self) -> Built<Rc<T>> {
        if let Some(network) = &*self.loaded.borrow() {
            return Ok(network.clone());
        }
        let network = Rc::new((self.load)()?);
        self.loaded.replace(Some(network.clone()));
        Ok(network)
    }

    /// Whether it is on the device.
    pub fn is_loaded(&self) -> bool {
        self.loaded.borrow().is_some()
    }

    /// Takes it off the device until its next use. Returns whether it was there.
    pub fn leave(&self) -> bool {
        self.loaded.take().is_some()
    }

    /// Sets whether it stays on the device after a use.
    pub fn set_stays(&self, stays: bool) {
        self.stays.set(stays);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::WeightsError;

    #[test]
    fn it_is_loaded_for_each_use_unless_it_stays() {
        let loads = Rc::new(Cell::new(0));
        let counted = loads.clone();
        let network = Swapped::new(
            move || {
                counted.set(counted.get() + 1);
                Ok(counted.get())
            },
            false,
        );
        let used = || {
            network
                .with(|error: WeightsError| error, |&number| Ok(number))
                .unwrap()
        };
        assert_eq!((used(), used(), network.is_loaded()), (1, 2, false));
        network.set_stays(true);
        assert_eq!((used(), used(), network.is_loaded()), (3, 3, true));
        assert!(network.leave() && !network.leave());
        assert_eq!(used(), 4);
    }
}
