//! Where a service listens.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

pub(crate) use tailwater_xdp::Transport;

/// A port of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Listener {
    pub(crate) transport: Transport,
    /// `0.0.0.0` and `[::]` stand for all addresses of their family.
    pub(crate) at: SocketAddr,
}

impl Listener {
    /// The same as seen at `address`, if it listens there.
    pub(super) fn seen_at(self, address: IpAddr) -> Option<Self> {
        let any = self.at.ip().is_unspecified() && self.at.is_ipv4() == address.is_ipv4();
        any.then(|| Self { at: SocketAddr::new(address, self.at.port()), ..self })
    }

    /// Whether what comes to `one` comes to this one too; of link-local addresses whatever the link, as in the program's map.
    pub(crate) fn covers(self, one: Self) -> bool {
        let any = self.at.ip().is_unspecified() && self.at.is_ipv4() == one.at.is_ipv4();
        self.transport == one.transport && self.at.port() == one.at.port() && (any || self.at.ip() == one.at.ip())
    }

    /// Whether the kernel gives the port to one of both only, or may.
    pub(super) fn excludes(self, other: Self) -> bool {
        self.covers(other) || other.covers(self)
    }
}

impl fmt::Display for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self.transport {
            Transport::Tcp => "TCP",
            Transport::Udp => "UDP",
        };
        write!(f, "{name} {}", self.at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listeners_exclude_each_other_where_one_has_all_addresses_or_both_the_same() {
        let of = |transport, at: &str| Listener { transport, at: at.parse().unwrap() };
        for (one, other, exclude) in [
            ("0.0.0.0:7", "10.1.0.1:7", true),
            ("10.1.0.1:7", "10.1.0.1:7", true),
            ("[::]:7", "[fe80::1%2]:7", true),
            ("10.1.0.1:7", "10.1.0.2:7", false),
            ("0.0.0.0:7", "10.1.0.1:8", false),
            ("[::]:7", "10.1.0.1:7", false),
        ] {
            let (tcp, other_tcp) = (of(Transport::Tcp, one), of(Transport::Tcp, other));
            assert_eq!((tcp.excludes(other_tcp), other_tcp.excludes(tcp)), (exclude, exclude), "{one} {other}");
            assert!(!tcp.excludes(of(Transport::Udp, other)));
        }
    }
}
