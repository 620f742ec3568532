//! The names by which this worker may be addressed.
//!
//! A web page can point its own host name at any address, this machine's included (DNS
//! rebinding), and then send requests as if it were served by this worker. It cannot keep that
//! name out of the `Host` header, so a name that the worker was not configured with is refused.

use std::net::{IpAddr, Ipv6Addr};

/// The names that a request's `Host` may have, besides loopback names and IP addresses.
#[derive(Clone, Debug, Default)]
pub struct Hosts {
    names: Vec<String>,
}

impl Hosts {
    /// Allows these names in addition.
    pub fn new<N: AsRef<str>>(names: impl IntoIterator<Item = N>) -> Self {
        let names = names.into_iter();
        Self {
            names: names.map(|name| normalized(name.as_ref())).collect(),
        }
    }

    /// Whether `host`, a name or an address with or without a port, is allowed.
    pub fn allows(&self, host: &str) -> bool {
        let Some(name) = without_port(host) else {
            return false;
        };
        let bracketed = name
            .strip_prefix('[')
            .and_then(|name| name.strip_suffix(']'));
        if let Some(address) = bracketed {
            return address.parse::<Ipv6Addr>().is_ok();
        }
        let name = normalized(name);
        name.parse::<IpAddr>()
            .is_ok_and(|address| address.is_ipv4())
            || name == "localhost"
            || name.ends_with(".localhost")
            || self.names.contains(&name)
    }
}

/// A name as it is compared: lower case, without the dot of the DNS root.
fn normalized(name: &str) -> String {
    let name = name.trim().to_ascii_lowercase();
    name.strip_suffix('.').map(str::to_owned).unwrap_or(name)
}

/// The part before the port; `None` if what follows is not a port.
fn without_port(host: &str) -> Option<&str> {
    let end = match host.find(']') {
        Some(bracket) => bracket + 1,
        None => host.find(':').unwrap_or(host.len()),
    };
    let (name, port) = host.split_at(end);
    let is_port = |port: &str| port.len() <= 5 && port.bytes().all(|b| b.is_ascii_digit());
    (port.is_empty() || port.strip_prefix(':').is_some_and(is_port)).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_configured_names_are_allowed() {
        let hosts = Hosts::new(["gpu-box", "Worker.Example.org."]);
        for ours in [
            "localhost",
            "LocalHost:7867",
            "comfy.localhost",
            "127.0.0.1:7867",
            "192.168.1.9",
            "0.0.0.0:1",
            "[::1]",
            "[2001:db8::1]:7867",
            "gpu-box",
            "GPU-BOX:7867",
            "worker.example.org",
            "worker.example.org.:7867",
            "127.0.0.1:",
        ] {
            assert!(hosts.allows(ours), "{ours}");
        }
        for other in [
            "",
            "evil.example",
            "evil.example:7867",
            "localhost.evil.example",
            "evillocalhost",
            "127.0.0.1.evil.example",
            "[::1].evil.example",
            "[evil]",
            "[127.0.0.1]",
            "2130706433",
            "0x7f.1",
            "user@localhost",
            "localhost:http",
            "localhost:1:2",
            "::1",
            "gpu-box.evil.example",
            "localhost, evil.example",
        ] {
            assert!(!hosts.allows(other), "{other}");
        }
        assert!(!Hosts::default().allows("gpu-box"));
    }
}
