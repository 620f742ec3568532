//! Whom a job belongs to.

use std::net::{IpAddr, Ipv6Addr};

/// The owner of a job, between whom the queue is fair: a network address and, within it, a
/// client's name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Owner {
    /// The client's address, reduced by [`neighbourhood`].
    pub address: IpAddr,
    /// The name in the client's hello. A client may invent any, so names only divide the
    /// share of their address.
    pub name: String,
}

impl Owner {
    /// The owner at `address` that calls itself `name`.
    pub fn new(address: IpAddr, name: impl Into<String>) -> Self {
        Self {
            address: neighbourhood(address),
            name: name.into(),
        }
    }
}

/// What counts as one address: an IPv4 address, or the /64 network of an IPv6 address, within
/// which a machine may choose its address freely.
pub fn neighbourhood(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) if !address.is_loopback() => {
            let bits = u128::from(address) & !u128::from(u64::MAX);
            IpAddr::V6(Ipv6Addr::from(bits))
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv6_network_is_one_address() {
        let parsed = |text: &str| neighbourhood(text.parse().unwrap());
        assert_eq!(parsed("2001:db8::1"), parsed("2001:db8::ffff:2"));
        assert_ne!(parsed("2001:db8::1"), parsed("2001:db8:0:1::1"));
        assert_eq!(parsed("::ffff:10.0.0.1"), parsed("10.0.0.1"));
        assert_ne!(parsed("10.0.0.1"), parsed("10.0.0.2"));
        assert!(parsed("::1").is_loopback());
    }
}
