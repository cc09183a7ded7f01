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

    /// Whether the kernel gives the port to one of both only.
    pub(super) fn excludes(self, other: Self) -> bool {
        let covers = |any: Self, one: Self| any.seen_at(one.at.ip()) == Some(one);
        self == other || covers(self, other) || covers(other, self)
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
