//! Whom a job belongs to.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use ovis_protocol::limits::SECRET_BYTES;
use sha2::{Digest, Sha256};

/// Names an owner on every worker and in every state folder: a digest of its secret. It does
/// not reveal the secret, and nobody can choose it to equal another owner's.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OwnerId(pub [u8; 32]);

impl OwnerId {
    /// The owner that knows this secret.
    pub fn of_secret(secret: &[u8; SECRET_BYTES]) -> Self {
        Self::digest(b"ovis-worker owner of a secret\0", secret)
    }

    /// The owner that a client without a secret counts as, for fairness only.
    fn of_name(name: &str) -> Self {
        Self::digest(b"ovis-worker owner of a name\0", name.as_bytes())
    }

    fn digest(kind: &[u8], bytes: &[u8]) -> Self {
        let mut hasher = Sha256::new();
        hasher.update(kind);
        hasher.update(bytes);
        Self(hasher.finalize().into())
    }
}

/// The first 8 hexadecimal digits, which tell owners apart in a log.
impl fmt::Display for OwnerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0[..4]
            .iter()
            .try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for OwnerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OwnerId({self})")
    }
}

/// Those among whom the queue is divided first. A client may invent owners, but neither
/// addresses nor tokens.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Party {
    /// All clients at a network address, reduced by [`neighbourhood`].
    Address(IpAddr),
    /// All clients with the named token.
    Token(Arc<str>),
}

/// The owner of jobs: between parties the queue is fair, and within a party between owners.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Owner {
    /// Which owner.
    pub id: OwnerId,
    /// What its share of the queue is part of.
    pub party: Party,
    /// The name in the client's hello, for logs.
    pub name: String,
    /// Whether its jobs outlive its connections: whether it has a secret.
    pub is_lasting: bool,
}

impl Owner {
    /// A client without a secret at `address` that calls itself `name`. Its jobs end with its
    /// connection. Clients of one name share a lane of the queue, so reconnecting gains nothing.
    pub fn new(address: IpAddr, name: impl Into<String>) -> Self {
        Self::anonymous(Party::Address(neighbourhood(address)), name)
    }

    /// A client of `party` without a secret that calls itself `name`.
    pub fn anonymous(party: Party, name: impl Into<String>) -> Self {
        let name = name.into();
        Self {
            id: OwnerId::of_name(&name),
            party,
            name,
            is_lasting: false,
        }
    }

    /// The owner of a secret.
    pub fn of_secret(party: Party, name: impl Into<String>, secret: &[u8; SECRET_BYTES]) -> Self {
        Self {
            id: OwnerId::of_secret(secret),
            party,
            name: name.into(),
            is_lasting: true,
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

    #[test]
    fn an_owner_is_who_knows_the_secret() {
        let party = || Party::Token("studio".into());
        let owner = |name, byte| Owner::of_secret(party(), name, &[byte; SECRET_BYTES]);
        assert_eq!(owner("a", 1).id, owner("b", 1).id);
        assert_ne!(owner("a", 1).id, owner("a", 2).id);
        let shown = format!("{} {:?}", owner("a", 1).id, owner("a", 1));
        assert!(!shown.contains("[1, 1"), "{shown}");
        assert_eq!(owner("a", 1).id.to_string().len(), 8);
        // A name cannot be chosen to be the owner of a secret.
        let name = String::from_utf8(vec![1; SECRET_BYTES]).unwrap();
        assert_ne!(Owner::anonymous(party(), name).id, owner("a", 1).id);
    }
}
