//! Link layer addresses of the hosts next door (ARP, neighbour discovery).

use std::net::IpAddr;

use netlink_packet_core::{DecodeError, NlasIterator, ParseableParametrized};
use netlink_packet_route::AddressFamily;
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourHeader, NeighbourState as WireState,
};

const NEIGHBOUR_HEADER_LEN: usize = 12;

/// RFC 4861 §7.3.2, with the kernel's additions.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NeighbourState {
    /// Known by name only; nobody asked yet.
    None,
    /// Asked, no answer yet.
    Incomplete,
    /// Confirmed lately.
    Reachable,
    /// Not confirmed for a while; good to use, which should make the kernel confirm it.
    Stale,
    /// In use while stale; the kernel probes in a moment.
    Delay,
    /// The kernel is probing.
    Probe,
    /// Nobody answered.
    Failed,
    /// The link needs no resolution.
    NoArp,
    /// Set by the administrator.
    Permanent,
}

/// One entry of the neighbour table.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Neighbour {
    pub ifindex: u32,
    pub ip: IpAddr,
    /// Link layer address, 6 bytes on Ethernet; `None` while unknown.
    pub mac: Option<Vec<u8>>,
    pub state: NeighbourState,
    /// The neighbour said that it is a router (RFC 4861 §7.2.5).
    pub router: bool,
}

impl Neighbour {
    /// The address packets may be sent to now (the kernel's `NUD_VALID`): a stale or probing entry
    /// counts, since the address in it has not been disproved.
    pub fn usable_mac(&self) -> Option<&[u8]> {
        match self.state {
            NeighbourState::Reachable
            | NeighbourState::Stale
            | NeighbourState::Delay
            | NeighbourState::Probe
            | NeighbourState::NoArp
            | NeighbourState::Permanent => self.mac.as_deref(),
            NeighbourState::None | NeighbourState::Incomplete | NeighbourState::Failed => None,
        }
    }
}

/// `None` for what is no neighbour of IPv4 or IPv6: bridge forwarding entries, proxy entries.
pub(crate) fn decode(payload: &[u8]) -> Result<Option<Neighbour>, DecodeError> {
    let header = NeighbourHeader::parse(payload)?;
    let family = header.family;
    if !matches!(family, AddressFamily::Inet | AddressFamily::Inet6) || header.flags.contains(NeighbourFlags::Proxy) {
        return Ok(None);
    }
    let (mut ip, mut mac) = (None, None);
    for nla in NlasIterator::new(payload.get(NEIGHBOUR_HEADER_LEN..).unwrap_or_default()) {
        match NeighbourAttribute::parse_with_param(&nla?, family) {
            Ok(NeighbourAttribute::Destination(NeighbourAddress::Inet(v4))) => ip = Some(v4.into()),
            Ok(NeighbourAttribute::Destination(NeighbourAddress::Inet6(v6))) => ip = Some(v6.into()),
            Ok(NeighbourAttribute::LinkLayerAddress(address)) => mac = Some(address),
            _ => {}
        }
    }
    Ok(ip.map(|ip| Neighbour {
        ifindex: header.ifindex,
        ip,
        mac,
        state: header.state.into(),
        router: header.flags.contains(NeighbourFlags::Router),
    }))
}

impl From<WireState> for NeighbourState {
    fn from(state: WireState) -> Self {
        match state {
            WireState::Incomplete => Self::Incomplete,
            WireState::Reachable => Self::Reachable,
            WireState::Stale => Self::Stale,
            WireState::Delay => Self::Delay,
            WireState::Probe => Self::Probe,
            WireState::Failed => Self::Failed,
            WireState::Noarp => Self::NoArp,
            WireState::Permanent => Self::Permanent,
            _ => Self::None,
        }
    }
}
