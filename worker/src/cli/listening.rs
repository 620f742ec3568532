//! The address that `serve` listens on. It is bound before the model is loaded and listened on
//! afterwards.

use std::io::{Error, ErrorKind};
use std::net::SocketAddr;

use clap::Args;
use tokio::net::{lookup_host, TcpListener, TcpSocket};

use super::error::CliError;
use super::values::text;

/// Most connections that the system holds until they are accepted.
const BACKLOG: u32 = 1024;

/// Exit status when another program has the address: the value of `EADDRINUSE` on Linux. The
/// program that started the worker can tell this from other failures.
const ADDRESS_IN_USE: u8 = 98;

/// Where to listen.
#[derive(Clone, Debug, Args)]
pub struct ListenArgs {
    /// Address and port to listen on. Only programs on this machine can reach the default
    /// address; an address that other machines can reach requires a token and is encrypted.
    #[arg(
        long = "listen",
        value_name = "HOST:PORT",
        default_value = "127.0.0.1:7867",
        value_parser = text(),
        allow_hyphen_values = true
    )]
    pub address: String,
}

/// A socket that is bound to its address but does not listen yet.
pub struct Bound {
    socket: TcpSocket,
    /// The address, with port 0 if the system is to choose one.
    pub address: SocketAddr,
    guard: Option<Guard>,
}

impl Bound {
    /// Resolves `HOST:PORT` and binds a socket to it.
    ///
    /// # Errors
    /// `listen` is not an address, the address is in use or not one of this machine's, or the
    /// port requires privileges.
    pub async fn bind(listen: &str) -> Result<Self, CliError> {
        let address = lookup_host(listen)
            .await
            .ok()
            .and_then(|mut all| all.next());
        let address = address.ok_or_else(|| {
            CliError::new(
                format!("`{listen}` is not an address to listen on"),
                "Use HOST:PORT, such as 127.0.0.1:7867, or 0.0.0.0:7867 for every network.",
            )
        })?;
        let guard = Guard::of(address).map_err(|e| cannot_listen(address, &e))?;
        let socket = match address {
            SocketAddr::V4(_) => TcpSocket::new_v4(),
            SocketAddr::V6(_) => TcpSocket::new_v6(),
        };
        let bound = socket.and_then(|socket| {
            // Lets a restarted worker bind while old connections are still in TIME_WAIT.
            #[cfg(unix)]
            socket.set_reuseaddr(true)?;
            socket.bind(address)?;
            Ok(socket)
        });
        match bound {
            Ok(socket) => Ok(Self {
                socket,
                address,
                guard,
            }),
            Err(error) => Err(cannot_listen(address, &error)),
        }
    }

    /// Starts to accept connections.
    ///
    /// # Errors
    /// Another program listens on the address, or the system is out of sockets.
    pub fn listen(self) -> Result<TcpListener, CliError> {
        let listener = self.socket.listen(BACKLOG);
        // A listening socket itself prevents others from binding the address.
        drop(self.guard);
        listener.map_err(|e| cannot_listen(self.address, &e))
    }
}

/// Prevents a second worker from binding the address while this one loads. With `SO_REUSEADDR`,
/// Linux lets two sockets bind one address as long as neither listens; both workers would load
/// their models before one of them fails.
#[cfg(target_os = "linux")]
struct Guard(#[allow(dead_code)] std::os::unix::net::UnixListener);

#[cfg(target_os = "linux")]
impl Guard {
    /// Binds an abstract Unix socket whose name holds the address. The system releases it when
    /// the process ends, however it ends. `None` where no guard is possible.
    fn of(address: SocketAddr) -> std::io::Result<Option<Self>> {
        use std::os::linux::net::SocketAddrExt;
        use std::os::unix::net::{SocketAddr as Name, UnixListener};
        if address.port() == 0 {
            return Ok(None);
        }
        let name = Name::from_abstract_name(format!("ovis-worker at {address}"))?;
        match UnixListener::bind_addr(&name) {
            Ok(listener) => Ok(Some(Self(listener))),
            Err(error) if error.kind() == ErrorKind::AddrInUse => Err(error),
            // A sandbox may forbid abstract sockets.
            Err(_) => Ok(None),
        }
    }
}

#[cfg(not(target_os = "linux"))]
struct Guard;

#[cfg(not(target_os = "linux"))]
impl Guard {
    fn of(_: SocketAddr) -> std::io::Result<Option<Self>> {
        Ok(None)
    }
}

fn cannot_listen(address: SocketAddr, error: &Error) -> CliError {
    let (ip, port) = (address.ip(), address.port());
    match error.kind() {
        ErrorKind::AddrInUse => CliError::new(
            format!("another program has the address {address}, or is starting there"),
            "If it is a worker, use that one; otherwise choose another port with --listen.",
        )
        .with_status(ADDRESS_IN_USE),
        ErrorKind::AddrNotAvailable => CliError::new(
            format!("this machine has no address {ip} to listen on"),
            format!("Behind a router or a cloud's NAT, the public address is not the machine's own: use 0.0.0.0:{port} for all networks."),
        ),
        ErrorKind::PermissionDenied => CliError::new(
            format!("the system does not let this user listen on port {port}"),
            "Choose a port from 1024 on with --listen.",
        ),
        _ => CliError::new(
            format!("the worker cannot listen on {address}: {error}"),
            "Choose another address or port with --listen.",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_address_is_taken_once_also_before_it_is_listened_on() {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = free.local_addr().unwrap().to_string();
        drop(free);
        let first = Bound::bind(&address).await.unwrap();
        let second = Bound::bind(&address).await.err().unwrap();
        assert_eq!(second.status, ADDRESS_IN_USE);
        let listening = first.listen().unwrap();
        let third = Bound::bind(&address).await.err().unwrap();
        assert_eq!(third.status, ADDRESS_IN_USE);
        drop(listening);
        Bound::bind(&address).await.unwrap();
    }

    #[tokio::test]
    async fn what_is_no_address_of_this_machine_is_told() {
        for (listen, words) in [
            (
                "203.0.113.7:7867",
                "this machine has no address 203.0.113.7",
            ),
            ("nonsense", "`nonsense` is not an address"),
            ("127.0.0.1:99999", "is not an address"),
        ] {
            let error = Bound::bind(listen).await.err().unwrap();
            assert!(error.message.contains(words), "{listen}: {}", error.message);
            assert_eq!(error.status, 1);
        }
    }
}
