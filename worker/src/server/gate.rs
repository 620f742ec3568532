//! Who may be connected: sockets that are yet to say hello, and those that have.
//!
//! A socket that has not said hello is silent. There are few of them, of one address and in
//! all, and one too many is never the newest: the oldest goes. So a crowd of silent sockets
//! keeps out neither a client that says hello soon nor who asks for `/health`.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ovis_protocol::{ErrorCode, WireError};
use tokio::sync::Notify;

use crate::engine::neighbourhood;

/// How many sockets there may be.
#[derive(Clone, Copy, Debug)]
pub struct Crowd {
    /// Silent ones in all.
    pub silent: usize,
    /// Silent ones of one address.
    pub silent_of_one: usize,
    /// Clients that have said hello. Those of one address may be no more than the places
    /// that are left.
    pub clients: usize,
}

impl Default for Crowd {
    fn default() -> Self {
        Self {
            silent: 128,
            silent_of_one: 64,
            clients: 256,
        }
    }
}

struct Silent {
    number: u64,
    address: IpAddr,
    out: Arc<Notify>,
}

#[derive(Default)]
struct Inner {
    next: u64,
    /// The oldest first.
    silent: Vec<Silent>,
    clients: Vec<IpAddr>,
    turned_out: u64,
}

/// Counts sockets.
pub struct Gate {
    crowd: Crowd,
    inner: Mutex<Inner>,
}

impl Gate {
    /// A gate before an empty house.
    pub fn new(crowd: Crowd) -> Arc<Self> {
        Arc::new(Self {
            crowd,
            inner: Mutex::default(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets a new socket in, which is silent until it [enters](Guest::enter).
    pub fn knock(self: &Arc<Self>, address: IpAddr) -> Guest {
        let address = neighbourhood(address);
        let mut inner = self.lock();
        let of_one = inner.silent.iter().filter(|s| s.address == address).count();
        let oldest = if of_one >= self.crowd.silent_of_one {
            inner.silent.iter().position(|s| s.address == address)
        } else if inner.silent.len() >= self.crowd.silent {
            Some(0)
        } else {
            None
        };
        if let Some(oldest) = oldest {
            inner.silent.remove(oldest).out.notify_one();
            inner.turned_out += 1;
        }
        let number = inner.next;
        inner.next += 1;
        let out = Arc::new(Notify::new());
        inner.silent.push(Silent {
            number,
            address,
            out: out.clone(),
        });
        Guest {
            gate: self.clone(),
            number,
            address,
            out,
        }
    }

    /// Clients, silent sockets, and those that had to make way for newer ones since the start.
    pub fn counts(&self) -> (usize, usize, u64) {
        let inner = self.lock();
        (inner.clients.len(), inner.silent.len(), inner.turned_out)
    }
}

/// A socket that has not said hello. It stops counting when it is dropped.
pub struct Guest {
    gate: Arc<Gate>,
    number: u64,
    /// As [`neighbourhood`] has it.
    pub address: IpAddr,
    out: Arc<Notify>,
}

impl Guest {
    /// Waits until it has to make way for a newer one.
    pub async fn turned_out(&self) {
        self.out.notified().await;
    }

    /// Counts as a client from now on, as long as what is returned lives.
    ///
    /// # Errors
    /// There are too many clients.
    pub fn enter(&self) -> Result<Entry, WireError> {
        let mut inner = self.gate.lock();
        let of_one = inner.clients.iter().filter(|a| **a == self.address).count();
        let free = self.gate.crowd.clients.saturating_sub(inner.clients.len());
        if of_one >= free {
            return Err(WireError::new(
                ErrorCode::QueueFull,
                format!(
                    "This worker has {} connections, {of_one} of them from this address, and {free} \
                     places for more.",
                    inner.clients.len()
                ),
                "An address gets no more connections than are free: close one, and use one for \
                 many jobs.",
            ));
        }
        inner.silent.retain(|s| s.number != self.number);
        inner.clients.push(self.address);
        Ok(Entry {
            gate: self.gate.clone(),
            address: self.address,
        })
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let number = self.number;
        self.gate.lock().silent.retain(|s| s.number != number);
    }
}

/// A client's place. It is given back when dropped.
pub struct Entry {
    gate: Arc<Gate>,
    address: IpAddr,
}

impl Drop for Entry {
    fn drop(&mut self) {
        let mut inner = self.gate.lock();
        if let Some(at) = inner.clients.iter().position(|a| *a == self.address) {
            inner.clients.swap_remove(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    fn address(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    fn is_out(guest: &Guest) -> bool {
        guest.turned_out().now_or_never().is_some()
    }

    #[test]
    fn the_oldest_silent_socket_makes_way() {
        let gate = Gate::new(Crowd {
            silent: 4,
            silent_of_one: 2,
            clients: 9,
        });
        let first = gate.knock(address(1));
        let other = gate.knock(address(2));
        let second = gate.knock(address(1));
        assert!(!is_out(&first));
        let third = gate.knock(address(1));
        assert!(is_out(&first) && !is_out(&second) && !is_out(&other));
        let _client = second.enter().unwrap();
        let more: Vec<_> = (3..6).map(|i| gate.knock(address(i))).collect();
        assert!(is_out(&other) && !is_out(&third) && !is_out(&second));
        assert_eq!(gate.counts(), (1, 4, 2));
        drop((first, other, second, third, more));
        assert_eq!(gate.counts(), (1, 0, 2));
    }

    #[test]
    fn one_address_leaves_places_for_others() {
        let gate = Gate::new(Crowd {
            clients: 8,
            ..Crowd::default()
        });
        let enter = |last| gate.knock(address(last)).enter();
        let entries: Vec<_> = std::iter::from_fn(|| enter(1).ok()).collect();
        assert_eq!(entries.len(), 4);
        let others: Vec<_> = (2..5).map(|last| enter(last).unwrap()).collect();
        assert_eq!(enter(1).err().unwrap().code, ErrorCode::QueueFull);
        drop((entries, others));
        assert_eq!(gate.counts().0, 0);
    }
}
