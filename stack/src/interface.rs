//! Interfaces: what a station on a link needs to know about itself.

use alloc::vec::Vec;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::address::{Cidr, is_unicast_link_local, solicited_node};
use crate::neighbour::{NeighbourCache, NeighbourMode};
use crate::wire::ethernet::MacAddress;

/// Addresses per interface.
pub const ADDRESSES_MAX: usize = 64;
/// Multicast groups joined per interface.
pub const GROUPS_MAX: usize = 64;

/// Interfaces of one stack that are named by their number ([`set_interface`](crate::Stack::set_interface)).
pub const INTERFACES_MAX: usize = 65_536;

/// Names an interface of one [`Stack`](crate::Stack); given by [`add_interface`](crate::Stack::add_interface), counted from
/// 0, or chosen by the caller of [`set_interface`](crate::Stack::set_interface).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct InterfaceId(pub u32);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct InterfaceConfig {
    pub mac: MacAddress,
    /// Bytes an IP packet may have here; at least 68, and 1280 for IPv6.
    pub mtu: usize,
    /// Frames carry this VLAN tag (1 to 4094), or none.
    pub vlan: Option<u16>,
    /// What `SocketAddrV6::scope_id` calls this interface (the kernel's index); 0: nothing.
    pub scope_id: u32,
    pub neighbours: NeighbourMode,
    /// Answer echo requests and neighbours' questions here.
    pub answers: bool,
    /// Report closed ports and unknown protocols by ICMP.
    pub reports_unreachable: bool,
}

impl InterfaceConfig {
    /// All traffic of the interface is ours.
    pub fn exclusive(mac: MacAddress, mtu: usize) -> Self {
        Self {
            mac,
            mtu,
            vlan: None,
            scope_id: 0,
            neighbours: NeighbourMode::Own,
            answers: true,
            reports_unreachable: true,
        }
    }

    /// The kernel shares the interface: it resolves neighbours, answers echo and reports errors.
    pub fn shared(mac: MacAddress, mtu: usize) -> Self {
        Self {
            neighbours: NeighbourMode::External,
            answers: false,
            reports_unreachable: false,
            ..Self::exclusive(mac, mtu)
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AddressError {
    /// [`ADDRESSES_MAX`] or [`GROUPS_MAX`] reached.
    Full,
    /// No such interface.
    InterfaceUnknown,
    /// Neither a unicast address (to have) nor a group (to join), as the case may be.
    Kind,
}

/// To whom on this interface an IP packet goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Local {
    Unicast,
    Broadcast,
    Multicast,
}

/// The interface as others on the link see it.
pub(crate) struct Station {
    pub(crate) id: InterfaceId,
    pub(crate) config: InterfaceConfig,
    pub(crate) addresses: Vec<Cidr>,
    pub(crate) groups: Vec<IpAddr>,
}

pub(crate) struct Interface<B> {
    pub(crate) station: Station,
    pub(crate) neighbours: NeighbourCache<B>,
}

impl Station {
    #[inline]
    pub(crate) fn has(&self, address: IpAddr) -> bool {
        self.addresses.iter().any(|own| own.address() == address)
    }

    /// Whether a packet to `destination` is for us, and in which way.
    #[inline]
    pub(crate) fn local(&self, destination: IpAddr) -> Option<Local> {
        if self.has(destination) {
            return Some(Local::Unicast);
        }
        match destination {
            IpAddr::V4(v4) => {
                if self.is_broadcast(v4) {
                    return Some(Local::Broadcast);
                }
                let joined = v4 == ALL_HOSTS || self.groups.contains(&destination);
                (v4.is_multicast() && joined).then_some(Local::Multicast)
            }
            IpAddr::V6(v6) => {
                let joined = v6 == ALL_NODES || self.groups.contains(&destination);
                (v6.is_multicast() && (joined || self.is_solicited(v6))).then_some(Local::Multicast)
            }
        }
    }

    /// RFC 1122 §3.2.1.3: the limited and each prefix's directed broadcast.
    #[inline]
    pub(crate) fn is_broadcast(&self, address: Ipv4Addr) -> bool {
        address.is_broadcast() || self.addresses.iter().any(|a| a.broadcast() == Some(address))
    }

    /// Whether `group` is the solicited-node group of one of our addresses (RFC 4291 §2.8).
    fn is_solicited(&self, group: Ipv6Addr) -> bool {
        self.addresses.iter().any(|own| matches!(own.address(), IpAddr::V6(v6) if solicited_node(v6) == group))
    }

    /// The address to speak from to `destination`, of which `next` is the next hop.
    pub(crate) fn source_for(&self, destination: IpAddr, next: IpAddr) -> Option<IpAddr> {
        let family = self.addresses.iter().filter(|a| a.address().is_ipv4() == next.is_ipv4());
        match destination {
            // RFC 1122 §3.3.4.3: an address of the network the packet goes through.
            IpAddr::V4(_) => family.max_by_key(|a| a.contains(next)).map(Cidr::address),
            // RFC 6724 §5, rules 2 and 8: the right scope, then the longest matching prefix.
            IpAddr::V6(v6) => {
                let local_scope =
                    is_unicast_link_local(destination) || (v6.is_multicast() && v6.segments()[0] & 0xf <= 2);
                family
                    .max_by_key(|a| {
                        let scope_fits = is_unicast_link_local(a.address()) == local_scope;
                        (scope_fits, a.common_len(destination))
                    })
                    .map(Cidr::address)
            }
        }
    }
}

/// 224.0.0.1, RFC 1112 §4.
const ALL_HOSTS: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 1);
/// ff02::1, RFC 4291 §2.7.1.
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
