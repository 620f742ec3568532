//! How many sockets there may be, and which is evicted for a newer one.
//!
//! A socket is silent until its client has said hello. Silent sockets are limited, in all and
//! per address. At the limit the oldest is evicted, never the newest, so a crowd of silent
//! sockets keeps out neither a client that says hello soon nor a request for `/health`.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ovis_protocol::{ErrorCode, WireError};
use tokio::sync::Notify;

use crate::jobs::neighbourhood;

/// How many sockets there may be.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionLimits {
    /// Silent sockets in all.
    pub silent: usize,
    /// Silent sockets of one address.
    pub silent_per_address: usize,
    /// Clients that have said hello. One address may hold no more of these places than are
    /// free.
    pub clients: usize,
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        Self {
            silent: 128,
            silent_per_address: 64,
            clients: 256,
        }
    }
}

struct Silent {
    number: u64,
    address: IpAddr,
    evicted: Arc<Notify>,
}

#[derive(Default)]
struct Inner {
    next: u64,
    /// The oldest first.
    silent: Vec<Silent>,
    clients: Vec<IpAddr>,
    /// Silent sockets that were evicted.
    evictions: u64,
}

/// Counts sockets and holds them to their limits.
pub struct Connections {
    limits: ConnectionLimits,
    inner: Mutex<Inner>,
}

impl Connections {
    /// No connections yet.
    pub fn new(limits: ConnectionLimits) -> Arc<Self> {
        Arc::new(Self {
            limits,
            inner: Mutex::default(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a new socket, which is silent until it is [promoted](SilentSocket::promote).
    pub fn accept(self: &Arc<Self>, address: IpAddr) -> SilentSocket {
        let address = neighbourhood(address);
        let mut inner = self.lock();
        let of_address = inner.silent.iter().filter(|s| s.address == address).count();
        let oldest = if of_address >= self.limits.silent_per_address {
            inner.silent.iter().position(|s| s.address == address)
        } else if inner.silent.len() >= self.limits.silent {
            Some(0)
        } else {
            None
        };
        if let Some(oldest) = oldest {
            inner.silent.remove(oldest).evicted.notify_one();
            inner.evictions += 1;
        }
        let number = inner.next;
        inner.next += 1;
        let evicted = Arc::new(Notify::new());
        inner.silent.push(Silent {
            number,
            address,
            evicted: evicted.clone(),
        });
        SilentSocket {
            connections: self.clone(),
            number,
            address,
            evicted,
        }
    }

    /// Clients, silent sockets, and silent sockets evicted since the start.
    pub fn counts(&self) -> (usize, usize, u64) {
        let inner = self.lock();
        (inner.clients.len(), inner.silent.len(), inner.evictions)
    }
}

/// A socket that has not said hello. It stops counting when dropped.
pub struct SilentSocket {
    connections: Arc<Connections>,
    number: u64,
    /// The peer's address, reduced by [`neighbourhood`].
    pub address: IpAddr,
    evicted: Arc<Notify>,
}

impl SilentSocket {
    /// Waits until the socket is evicted for a newer one.
    pub async fn evicted(&self) {
        self.evicted.notified().await;
    }

    /// Counts the socket as a client from now on, until the slot is dropped.
    ///
    /// # Errors
    /// `QueueFull` if there are too many clients, in all or at this address.
    pub fn promote(&self) -> Result<ClientSlot, WireError> {
        let mut inner = self.connections.lock();
        let of_address = inner.clients.iter().filter(|a| **a == self.address).count();
        let limit = self.connections.limits.clients;
        let free = limit.saturating_sub(inner.clients.len());
        if of_address >= free {
            return Err(WireError::new(
                ErrorCode::QueueFull,
                format!(
                    "This worker has {} connections, {of_address} of them from this address, and {free} \
                     places for more.",
                    inner.clients.len()
                ),
                "An address gets no more connections than are free: close one, and use one for \
                 many jobs.",
            ));
        }
        inner.silent.retain(|s| s.number != self.number);
        inner.clients.push(self.address);
        Ok(ClientSlot {
            connections: self.connections.clone(),
            address: self.address,
        })
    }
}

impl Drop for SilentSocket {
    fn drop(&mut self) {
        let number = self.number;
        self.connections
            .lock()
            .silent
            .retain(|s| s.number != number);
    }
}

/// A client's place among the connections, given back when dropped.
pub struct ClientSlot {
    connections: Arc<Connections>,
    address: IpAddr,
}

impl Drop for ClientSlot {
    fn drop(&mut self) {
        let mut inner = self.connections.lock();
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

    fn is_evicted(socket: &SilentSocket) -> bool {
        socket.evicted().now_or_never().is_some()
    }

    #[test]
    fn the_oldest_silent_socket_is_evicted() {
        let connections = Connections::new(ConnectionLimits {
            silent: 4,
            silent_per_address: 2,
            clients: 9,
        });
        let first = connections.accept(address(1));
        let other = connections.accept(address(2));
        let second = connections.accept(address(1));
        assert!(!is_evicted(&first));
        let third = connections.accept(address(1));
        assert!(is_evicted(&first) && !is_evicted(&second) && !is_evicted(&other));
        let _client = second.promote().unwrap();
        let more: Vec<_> = (3..6).map(|i| connections.accept(address(i))).collect();
        assert!(is_evicted(&other) && !is_evicted(&third) && !is_evicted(&second));
        assert_eq!(connections.counts(), (1, 4, 2));
        drop((first, other, second, third, more));
        assert_eq!(connections.counts(), (1, 0, 2));
    }

    #[test]
    fn one_address_leaves_places_for_others() {
        let connections = Connections::new(ConnectionLimits {
            clients: 8,
            ..ConnectionLimits::default()
        });
        let promote = |last| connections.accept(address(last)).promote();
        let slots: Vec<_> = std::iter::from_fn(|| promote(1).ok()).collect();
        assert_eq!(slots.len(), 4);
        let others: Vec<_> = (2..5).map(|last| promote(last).unwrap()).collect();
        assert_eq!(promote(1).err().unwrap().code, ErrorCode::QueueFull);
        drop((slots, others));
        assert_eq!(connections.counts().0, 0);
    }
}
