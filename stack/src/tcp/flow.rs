//! What tells one connection from another: the two sockets (RFC 9293 §3.3.1).

use core::net::{IpAddr, SocketAddr, SocketAddrV6};
use core::num::NonZeroU32;

use crate::address::is_unicast_link_local;
use crate::interface::InterfaceId;

/// Addresses and ports of a connection, seen from here.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct Flow {
    pub(super) local: IpAddr,
    pub(super) remote: IpAddr,
    pub(super) local_port: u16,
    pub(super) remote_port: u16,
    /// Number of the interface plus one, where addresses are only unique there (RFC 4007 §6).
    pub(super) zone: Option<NonZeroU32>,
}

impl Flow {
    /// Of a segment that came in by an interface.
    pub(super) fn on(interface: InterfaceId, local: IpAddr, remote: IpAddr, local_port: u16, remote_port: u16) -> Self {
        let zoned = remote.is_ipv6() && is_unicast_link_local(remote);
        let zone = if zoned { NonZeroU32::MIN.checked_add(interface.0) } else { None };
        Self { local, remote, local_port, remote_port, zone }
    }

    /// The interface, where addresses are only unique there.
    pub(super) fn zone(&self) -> Option<InterfaceId> {
        self.zone.map(|zone| InterfaceId(zone.get() - 1))
    }

    /// `scope_id`: what the zone is called in socket addresses.
    pub(super) fn local_addr(&self, scope_id: u32) -> SocketAddr {
        socket_addr(self.local, self.local_port, scope_id)
    }

    pub(super) fn remote_addr(&self, scope_id: u32) -> SocketAddr {
        socket_addr(self.remote, self.remote_port, scope_id)
    }
}

fn socket_addr(ip: IpAddr, port: u16, scope_id: u32) -> SocketAddr {
    match ip {
        IpAddr::V6(v6) if v6.is_unicast_link_local() => SocketAddrV6::new(v6, port, 0, scope_id).into(),
        _ => SocketAddr::new(ip, port),
    }
}
