//! What the stack has to tell besides the packets it delivers.

use core::net::{IpAddr, SocketAddr};

use crate::interface::InterfaceId;
use crate::udp::SocketId;
use crate::wire::ethernet::MacAddress;

/// Why a packet of ours did not arrive, as an ICMP error told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Undelivered {
    /// The host is there, the port or the protocol is closed.
    PortUnreachable,
    /// No way to the host or network.
    HostUnreachable,
    /// Forbidden by an administrator.
    Prohibited,
    /// Too big for the path; the path MTU is this now.
    TooBig { mtu: usize },
    /// Hop limit ran out.
    HopLimit,
    /// Fragments were lost.
    Reassembly,
    /// The other end did not understand a header.
    ParameterProblem,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Event {
    /// [`NeighbourMode::External`](crate::NeighbourMode::External): packets wait for the MAC of
    /// `address`. Repeated each second while they do.
    ResolveNeeded { interface: InterfaceId, address: IpAddr },
    /// `address` did not answer; packets to it were dropped.
    NeighbourFailed { interface: InterfaceId, address: IpAddr },
    /// Another station claims an address of ours (RFC 5227 §2.4, RFC 4862 §5.4.4).
    AddressConflict { interface: InterfaceId, address: IpAddr, mac: MacAddress },
    /// A datagram from this socket to `remote` did not arrive, says `from`.
    UdpUndelivered { socket: SocketId, remote: SocketAddr, from: IpAddr, why: Undelivered },
    /// An echo request to `remote` did not arrive, says `from`.
    EchoUndelivered { remote: IpAddr, ident: u16, sequence: u16, from: IpAddr, why: Undelivered },
}
