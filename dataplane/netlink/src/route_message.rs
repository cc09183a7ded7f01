//! Route and nexthop messages of the kernel, taken apart.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netlink_packet_core::{
    DecodeError, NLM_F_APPEND, NLM_F_REPLACE, NlasIterator, ParseableParametrized, parse_ip, parse_u32,
};
use netlink_packet_route::AddressFamily;
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteLwEnCapType, RouteMetric, RouteNextHop,
    RouteNextHopFlags, RouteType, RouteVia,
};

use crate::prefix::Prefix;
use crate::route::{Candidate, NextHop, Nexthop, NexthopTarget, Path, Placement, RouteKind};

const ROUTE_HEADER_LEN: usize = 12;
/// `RTA_DST` alone is read where the rest of a route makes no sense to us.
const RTA_DST: u16 = 1;
const RTA_TABLE: u16 = 15;

const NEXTHOP_HEADER_LEN: usize = 8;
const NHA_ID: u16 = 1;
const NHA_GROUP: u16 = 2;
const NHA_BLACKHOLE: u16 = 4;
const NHA_OIF: u16 = 5;
const NHA_GATEWAY: u16 = 6;
const NHA_ENCAP: u16 = 8;
const NHA_FDB: u16 = 11;
/// `struct nexthop_grp`: id, weight - 1 in two bytes (low, high), two spare bytes.
const NEXTHOP_MEMBER_LEN: usize = 8;

pub(crate) struct RouteUpdate {
    pub(crate) table: u32,
    pub(crate) prefix: Prefix,
    pub(crate) candidate: Candidate,
}

/// `None` for routes which are not part of a routing table as a forwarder sees it: cached clones,
/// source-specific routes, other protocol families.
pub(crate) fn decode(payload: &[u8]) -> Result<Option<RouteUpdate>, DecodeError> {
    let header = RouteHeader::parse(payload)?;
    let any = match header.address_family {
        AddressFamily::Inet => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        AddressFamily::Inet6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        _ => return Ok(None),
    };
    if header.flags.contains(RouteFlags::Cloned) || header.source_prefix_length != 0 {
        return Ok(None);
    }
    let attributes = payload.get(ROUTE_HEADER_LEN..).unwrap_or_default();
    let mut route = Parts::new(&header, any);
    if route.read(attributes, &header).is_err() {
        route = Parts::new(&header, any);
        route.path.kind = RouteKind::Unsupported;
        route.read_place(attributes)?;
    }
    let prefix = Prefix::new(route.destination, header.destination_prefix_length)
        .ok_or_else(|| DecodeError::from("prefix longer than its address"))?;
    Ok(Some(RouteUpdate {
        table: route.table,
        prefix,
        candidate: Candidate {
            metric: route.metric,
            tos: header.tos,
            protocol: header.protocol.into(),
            path: route.finish(header.flags),
        },
    }))
}

pub(crate) fn placement(message_flags: u16) -> Placement {
    if message_flags & NLM_F_REPLACE != 0 {
        Placement::Replace
    } else if message_flags & NLM_F_APPEND != 0 {
        Placement::Append
    } else {
        Placement::Prepend
    }
}

struct Parts {
    table: u32,
    destination: IpAddr,
    metric: u32,
    path: Path,
    /// The only next hop of a route without `RTA_MULTIPATH`.
    single: NextHop,
}

const NOWHERE: NextHop =
    NextHop { ifindex: 0, gateway: None, weight: 1, onlink: false, dead: false, linkdown: false, encapsulated: false };

impl Parts {
    fn new(header: &RouteHeader, any: IpAddr) -> Self {
        Self {
            table: u32::from(header.table),
            destination: any,
            metric: 0,
            path: Path {
                kind: kind(header.kind),
                next_hops: Vec::new(),
                mtu_bytes: None,
                preferred_source: None,
                nexthop_id: None,
            },
            single: NOWHERE,
        }
    }

    fn read(&mut self, attributes: &[u8], header: &RouteHeader) -> Result<(), DecodeError> {
        let context = (header.address_family, header.kind, RouteLwEnCapType::default());
        for nla in NlasIterator::new(attributes) {
            match RouteAttribute::parse_with_param(&nla?, context)? {
                RouteAttribute::Table(table) => self.table = table,
                RouteAttribute::Priority(metric) => self.metric = metric,
                RouteAttribute::Destination(address) => {
                    self.destination = ip(&address).unwrap_or(self.destination);
                }
                RouteAttribute::PrefSource(address) => self.path.preferred_source = ip(&address),
                RouteAttribute::NhId(id) => self.path.nexthop_id = Some(id),
                RouteAttribute::Metrics(metrics) => {
                    self.path.mtu_bytes = metrics.iter().find_map(|metric| match metric {
                        RouteMetric::Mtu(mtu) if *mtu != 0 => Some(*mtu),
                        _ => None,
                    });
                }
                RouteAttribute::MultiPath(hops) => {
                    self.path.next_hops = hops.iter().map(next_hop).collect();
                }
                other => read_hop(&mut self.single, &other),
            }
        }
        Ok(())
    }

    fn read_place(&mut self, attributes: &[u8]) -> Result<(), DecodeError> {
        for nla in NlasIterator::new(attributes) {
            let nla = nla?;
            match nla.kind() {
                RTA_DST => self.destination = parse_ip(nla.value())?,
                RTA_TABLE => self.table = parse_u32(nla.value())?,
                _ => {}
            }
        }
        Ok(())
    }

    /// Brings a path into the form in which equal routes are equal, see [`Candidate`].
    fn finish(mut self, flags: RouteFlags) -> Path {
        let goes_somewhere = matches!(
            self.path.kind,
            RouteKind::Unicast | RouteKind::Local | RouteKind::Broadcast | RouteKind::Anycast | RouteKind::Multicast
        );
        if !goes_somewhere || self.path.nexthop_id.is_some() {
            self.path.next_hops.clear();
        } else if self.path.next_hops.is_empty() && self.single.ifindex != 0 {
            self.single.onlink = flags.contains(RouteFlags::Onlink);
            self.single.dead = flags.contains(RouteFlags::Dead);
            self.path.next_hops.push(self.single);
        }
        self.path
    }
}

fn next_hop(wire: &RouteNextHop) -> NextHop {
    let mut hop = NextHop {
        ifindex: wire.interface_index,
        weight: u32::from(wire.hops) + 1,
        onlink: wire.flags.contains(RouteNextHopFlags::Onlink),
        dead: wire.flags.contains(RouteNextHopFlags::Dead),
        ..NOWHERE
    };
    for attribute in &wire.attributes {
        read_hop(&mut hop, attribute);
    }
    hop
}

fn read_hop(hop: &mut NextHop, attribute: &RouteAttribute) {
    match attribute {
        RouteAttribute::Oif(ifindex) => hop.ifindex = *ifindex,
        RouteAttribute::Gateway(address) => hop.gateway = ip(address),
        RouteAttribute::Via(RouteVia::Inet(v4)) => hop.gateway = Some((*v4).into()),
        RouteAttribute::Via(RouteVia::Inet6(v6)) => hop.gateway = Some((*v6).into()),
        RouteAttribute::Encap(_) | RouteAttribute::EncapType(_) => hop.encapsulated = true,
        _ => {}
    }
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(v4) => Some((*v4).into()),
        RouteAddress::Inet6(v6) => Some((*v6).into()),
        _ => None,
    }
}

fn kind(wire: RouteType) -> RouteKind {
    match wire {
        RouteType::Unicast => RouteKind::Unicast,
        RouteType::Local => RouteKind::Local,
        RouteType::Broadcast => RouteKind::Broadcast,
        RouteType::Anycast => RouteKind::Anycast,
        RouteType::Multicast => RouteKind::Multicast,
        RouteType::BlackHole => RouteKind::Blackhole,
        RouteType::Unreachable => RouteKind::Unreachable,
        RouteType::Prohibit => RouteKind::Prohibit,
        RouteType::Throw => RouteKind::Throw,
        _ => RouteKind::Unsupported,
    }
}

/// A nexthop object (`struct nhmsg` and `NHA_*`, linux/nexthop.h). `None` for those of bridges.
pub(crate) fn decode_nexthop(payload: &[u8]) -> Result<Option<Nexthop>, DecodeError> {
    let flags = parse_u32(payload.get(4..NEXTHOP_HEADER_LEN).unwrap_or_default())?;
    let flags = RouteNextHopFlags::from_bits_retain(flags as u8);
    let mut id = None;
    let mut hop = NextHop { onlink: flags.contains(RouteNextHopFlags::Onlink), ..NOWHERE };
    let mut target = None;
    for nla in NlasIterator::new(payload.get(NEXTHOP_HEADER_LEN..).unwrap_or_default()) {
        let nla = nla?;
        match nla.kind() {
            NHA_ID => id = Some(parse_u32(nla.value())?),
            NHA_OIF => hop.ifindex = parse_u32(nla.value())?,
            NHA_GATEWAY => hop.gateway = Some(parse_ip(nla.value())?),
            NHA_ENCAP => hop.encapsulated = true,
            NHA_BLACKHOLE => target = Some(NexthopTarget::Blackhole),
            NHA_GROUP => target = Some(NexthopTarget::Group(members(nla.value())?)),
            NHA_FDB => return Ok(None),
            _ => {}
        }
    }
    let target = target.unwrap_or(NexthopTarget::Hop(hop));
    Ok(id.map(|id| Nexthop { id, target }))
}

fn members(value: &[u8]) -> Result<Vec<(u32, u32)>, DecodeError> {
    value
        .chunks_exact(NEXTHOP_MEMBER_LEN)
        .map(|member| match member {
            [a, b, c, d, low, high, _, _] => {
                let id = u32::from_ne_bytes([*a, *b, *c, *d]);
                Ok((id, u32::from(u16::from_le_bytes([*low, *high])) + 1))
            }
            _ => Err(DecodeError::from("nexthop group member of wrong length")),
        })
        .collect()
}
