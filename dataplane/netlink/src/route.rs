//! What the kernel says about one route, and what is left of it once links and nexthop objects are known.

use std::net::IpAddr;
use std::sync::Arc;

use crate::prefix::Prefix;

/// Table of the routes an administrator or a routing daemon adds (`RT_TABLE_MAIN`).
pub const TABLE_MAIN: u32 = 254;
/// Table of the host's own and broadcast addresses, kept by the kernel (`RT_TABLE_LOCAL`).
pub const TABLE_LOCAL: u32 = 255;

/// What the kernel does with a packet that matches (`RTN_*`).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub enum RouteKind {
    /// Forward to one of the next hops.
    Unicast,
    /// An address of this host.
    Local,
    /// A broadcast address of a link of this host.
    Broadcast,
    /// Deliver to this host, one of several owners of the address (IPv6 subnet-router anycast).
    Anycast,
    /// A multicast group range on a link.
    Multicast,
    /// Drop silently.
    Blackhole,
    /// Drop, answer ICMP host unreachable (no route to destination).
    Unreachable,
    /// Drop, answer ICMP administratively prohibited.
    Prohibit,
    /// As if this table had no route at all: go on with the next table.
    Throw,
    /// A route this crate cannot express; packets that match belong to the kernel.
    Unsupported,
}

/// One way to go. In events and snapshots `dead` and `linkdown` follow the link's present state.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub struct NextHop {
    /// Interface to leave by; 0 where the route needs none (blackhole and the like).
    pub ifindex: u32,
    /// Router to send to, of either family (an IPv4 route may have an IPv6 gateway, RFC 8950);
    /// `None`: the destination itself is on the link.
    pub gateway: Option<IpAddr>,
    /// Share of flows, 1 to 65536.
    pub weight: u32,
    /// The gateway counts as on the link though no prefix says so.
    pub onlink: bool,
    /// The link is administratively down or gone, or lost its last address: never use.
    pub dead: bool,
    /// The link is up but has no carrier. The kernel still uses it unless
    /// `net.ipv4.conf.*.ignore_routes_with_linkdown` is set.
    pub linkdown: bool,
    /// The kernel would wrap the packet (MPLS, SRv6, tunnel): leave it to the kernel.
    pub encapsulated: bool,
}

/// Where a route leads. Shared between all the routes which lead there.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Path {
    pub kind: RouteKind,
    /// Empty for kinds that go nowhere, or for an unknown nexthop object. More than one means ECMP.
    pub next_hops: Vec<NextHop>,
    /// Route MTU in bytes (`mtu` metric), where the route sets one.
    pub mtu_bytes: Option<u32>,
    /// Source address the host prefers for its own packets on this route.
    pub preferred_source: Option<IpAddr>,
    /// The nexthop object (`ip nexthop`, `RTA_NH_ID`) the next hops come from.
    pub nexthop_id: Option<u32>,
}

impl Path {
    /// Next hops which may be used now, by the rule the kernel applies by default.
    pub fn live_next_hops(&self) -> impl Iterator<Item = &NextHop> {
        self.next_hops.iter().filter(|hop| !hop.dead)
    }

    /// Whether both are the same route to the kernel, to which a dead next hop is no difference.
    pub(crate) fn is_same_way(&self, other: &Self) -> bool {
        let Self { kind, next_hops, mtu_bytes, preferred_source, nexthop_id } = self;
        let alive = |hop: &NextHop| NextHop { dead: false, ..*hop };
        *kind == other.kind
            && *mtu_bytes == other.mtu_bytes
            && *preferred_source == other.preferred_source
            && *nexthop_id == other.nexthop_id
            && next_hops.iter().map(alive).eq(other.next_hops.iter().map(alive))
    }

    /// Whether a lookup may end here rather than go on to the next candidate for the prefix.
    pub(crate) fn is_usable(&self) -> bool {
        match self.kind {
            RouteKind::Local
            | RouteKind::Blackhole
            | RouteKind::Unreachable
            | RouteKind::Prohibit
            | RouteKind::Throw
            | RouteKind::Unsupported => true,
            RouteKind::Unicast | RouteKind::Broadcast | RouteKind::Anycast | RouteKind::Multicast => {
                self.live_next_hops().next().is_some()
            }
        }
    }
}

/// The effective best route of one prefix in one table.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Route {
    pub table: u32,
    pub prefix: Prefix,
    /// Lower wins; IPv6 defaults to 1024, IPv4 to 0.
    pub metric: u32,
    /// Who installed it (`RTPROT_*`: 2 kernel, 3 boot, 4 static, 12 BIRD, 186 BGP ...).
    pub protocol: u8,
    pub path: Arc<Path>,
}

/// Where a new route goes among those of the same prefix, type of service and metric
/// (`NLM_F_REPLACE`, `NLM_F_APPEND`, neither).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Placement {
    Replace,
    Append,
    Prepend,
}

/// One of the kernel's routes for a prefix, as it was told, before links and nexthop objects are
/// looked up: `path.next_hops` is in the kernel's order, never carries `linkdown`, and is empty where
/// `path.nexthop_id` is set.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Candidate {
    pub metric: u32,
    /// Type of service the packet must have; 0 matches all.
    pub tos: u8,
    pub protocol: u8,
    pub path: Path,
}

impl Candidate {
    /// How many the kernel counts this for: each next hop of an IPv6 multipath route is a route of its own.
    pub(crate) fn routes(&self, ipv4: bool) -> usize {
        if ipv4 { 1 } else { self.path.next_hops.len().max(1) }
    }
}

/// A nexthop object (`ip nexthop`).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Nexthop {
    pub id: u32,
    pub target: NexthopTarget,
}

/// What a nexthop object stands for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum NexthopTarget {
    Hop(NextHop),
    /// Discards what is sent to it.
    Blackhole,
    /// `(id, weight)` of each member.
    Group(Vec<(u32, u32)>),
}
