//! Tells systemd how the worker is doing: ready, alive, stopping.
//!
//! The protocol is that of `sd_notify(3)`: datagrams to the socket that the variable
//! `NOTIFY_SOCKET` names, a path or, after an `@`, a name in the abstract namespace. Without the
//! variable, nothing is sent.

#[cfg(target_os = "linux")]
use std::os::{
    linux::net::SocketAddrExt,
    unix::net::{SocketAddr, UnixDatagram},
};
use std::sync::Arc;
use std::time::Duration;

/// Where the service manager listens; `None` if there is none.
#[derive(Debug, Default)]
pub struct ServiceManager {
    #[cfg(target_os = "linux")]
    socket: Option<(UnixDatagram, SocketAddr)>,
    alive_every: Option<Duration>,
}

impl ServiceManager {
    /// The one that has started this process, by its environment.
    pub fn of_this_process() -> Self {
        let variable = |name| std::env::var(name).ok().filter(|text| !text.is_empty());
        let for_us =
            variable("WATCHDOG_PID").is_none_or(|pid| pid == std::process::id().to_string());
        let limit = variable("WATCHDOG_USEC").filter(|_| for_us);
        Self {
            #[cfg(target_os = "linux")]
            socket: variable("NOTIFY_SOCKET").and_then(|name| connect(&name)),
            alive_every: limit
                .and_then(|microseconds| microseconds.parse().ok())
                .filter(|&microseconds| microseconds > 0)
                // Twice within the limit, as sd_watchdog_enabled(3) recommends.
                .map(|microseconds| Duration::from_micros(microseconds) / 2),
        }
    }

    /// Says that the worker accepts connections and, if the service manager asks for it, says from
    /// now on that its async runtime is alive. The device has a watchdog of its own.
    pub fn ready(self) -> Arc<Self> {
        self.send("READY=1");
        let manager = Arc::new(self);
        if let Some(every) = manager.alive_every {
            let manager = manager.clone();
            tokio::spawn(async move {
                let mut due = tokio::time::interval(every);
                loop {
                    due.tick().await;
                    manager.send("WATCHDOG=1");
                }
            });
        }
        manager
    }

    /// Says that the worker is about to end.
    pub fn say_stopping(&self) {
        self.send("STOPPING=1");
    }

    #[cfg(target_os = "linux")]
    fn send(&self, state: &str) {
        if let Some((socket, address)) = &self.socket {
            if let Err(error) = socket.send_to_addr(state.as_bytes(), address) {
                tracing::debug!(%error, state, "the service manager does not listen");
            }
        }
    }

    #[cfg(not(target_os = "linux"))]
    fn send(&self, _state: &str) {}
}

#[cfg(target_os = "linux")]
fn connect(name: &str) -> Option<(UnixDatagram, SocketAddr)> {
    let address = match name.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(name),
    };
    match address.and_then(|address| Ok((UnixDatagram::unbound()?, address))) {
        Ok(found) => Some(found),
        Err(error) => {
            tracing::warn!(%error, "NOTIFY_SOCKET cannot be used");
            None
        }
    }
}
