//! L3 forwarding: the kernel's routes, neighbours and addresses as tables that workers read without locks.
//!
//! ```text
//!   kernel --netlink--> Follower (one thread)  --writes-->  FIB, adjacencies, port table
//!     ^                    ^                                     |
//!     |  "resolve this"    |  requests (bounded queue)           v  read by
//!     +--------------------+------------------------------  ip-forward blocks (one per worker)
//! ```
//!
//! Whatever configures the kernel (`ip route`, FRR, BIRD, DHCP) configures Tailwater. Neighbours are resolved by the
//! kernel: a block that meets an unresolved one parks the packet and asks the follower.
//!
//! | file | what |
//! |---|---|
//! | `follower` | netlink events to table changes |
//! | `ways` | adjacencies and groups by use, counted |
//! | `fast_path` | a batch through check, lookup and rewriting |
//! | `header` | parsing, checks and rewriting of the fast path |
//! | `parked` | packets that wait for a neighbour |
//! | `fragment` | IPv4 fragmentation |
//! | `links` | the port table, and room reserved on links |

pub(crate) mod fast_path;
mod follower;
mod fragment;
pub(crate) mod header;
mod links;
pub(crate) mod parked;
mod ways;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use crossbeam_queue::ArrayQueue;
use rustix::event::{EventfdFlags, eventfd};
use tailwater_fib::{FibReader, NextHop};
use tailwater_netlink::Link;
use tailwater_xdp::HashKey;

use crate::graph::{EGRESS, GraphSpec};
use crate::runtime::{PortChange, PortChanges, PortListener};
pub use fast_path::FastPath;
pub use follower::{Follower, FollowerError, Following};
pub(crate) use fragment::{fragment4, may_fragment};
use links::{Links, Reserved};

/// Requests for neighbours under way; more are dropped, and asked again when the packet is looked at next.
const REQUESTS_MAX: usize = 1024;

/// The graph of a router: every port into one `ip-forward` block, which chooses the way out.
pub fn router_graph(ports: &[String]) -> GraphSpec {
    let graph = GraphSpec::default().node("router", "ip-forward", &[]).edge("router", EGRESS);
    ports.iter().fold(graph, |graph, port| graph.edge(&format!("rx:{port}"), "router"))
}

/// A port as the forwarder knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PortEntry {
    /// Name of the interface; empty while the place is vacant.
    pub name: String,
    /// Kernel interface index.
    pub ifindex: u32,
    /// Our Ethernet address on it.
    pub mac: [u8; 6],
    /// Largest IP packet to forward, in bytes; 0 while the port is down.
    pub mtu: u32,
    /// What the link itself carries: more than `mtu` while blocks add headers of their own behind the forwarder. Filled in
    /// by [`ForwardingPlane::publish_ports`].
    pub link_mtu: u32,
    /// Source of ICMPv4 errors about packets that came in by it.
    pub ip4: Option<Ipv4Addr>,
    /// Source of ICMPv6 errors.
    pub ip6: Option<Ipv6Addr>,
}

/// A neighbour that a block needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// The unresolved adjacency.
    pub next_hop: NextHop,
    /// Destination of the packet: the neighbour itself, if the adjacency stands for a whole link.
    pub destination: IpAddr,
}

/// What blocks share with the follower.
pub struct ForwardingPlane {
    reader: FibReader,
    links: Arc<Links>,
    requests: ArrayQueue<Request>,
    /// Ports that join and leave, for the follower.
    changes: PortChanges,
    wake: OwnedFd,
    hash_key: HashKey,
}

impl ForwardingPlane {
    /// A plane over the readers' side of a FIB, for `ports` in index order.
    pub fn new(reader: FibReader, ports: Vec<PortEntry>, hash_key: HashKey) -> std::io::Result<Self> {
        Ok(Self {
            reader,
            links: Arc::new(Links::new(ports)),
            requests: ArrayQueue::new(REQUESTS_MAX),
            changes: PortChanges::default(),
            wake: eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?,
            hash_key,
        })
    }

    pub(crate) fn reader(&self) -> &FibReader {
        &self.reader
    }

    pub(crate) fn hash_key(&self) -> &HashKey {
        &self.hash_key
    }

    /// Number of the current port table.
    #[inline]
    pub(crate) fn ports_version(&self) -> u64 {
        self.links.version()
    }

    /// The current port table. Takes a lock that only writers share; for after a change.
    pub fn ports(&self) -> Arc<Vec<PortEntry>> {
        self.links.shown()
    }

    /// Shows a changed port table.
    pub fn publish_ports(&self, ports: Vec<PortEntry>) {
        self.links.publish(ports);
    }

    /// Leaves `bytes` of each frame that goes out by `port` (empty: by any) to blocks of this kind, while the value
    /// returned is there. Equal reservations count once.
    pub(crate) fn reserve(&self, kind: &'static str, port: &str, bytes: u32) -> Reservation {
        let reserved = Reserved { kind, port: port.to_owned(), bytes };
        self.links.reserve(&reserved);
        Reservation { links: Arc::clone(&self.links), reserved }
    }

    /// Asks for a neighbour. Returns false when too many requests are under way.
    pub(crate) fn request(&self, request: Request) -> bool {
        let asked = self.requests.push(request).is_ok();
        self.wake();
        asked
    }

    fn wake(&self) {
        // A full counter means that the follower is being woken already.
        let _ = rustix::io::write(&self.wake, &1u64.to_ne_bytes());
    }

    /// Requests that blocks have made since the last call.
    pub fn take_request(&self) -> Option<Request> {
        self.requests.pop()
    }
}

impl PortListener for ForwardingPlane {
    fn joined(&self, port: u16, link: &Link) {
        self.changes.tell(PortChange::Joined { port, link: Box::new(link.clone()) });
        self.wake();
    }

    fn leaving(&self, port: u16, ifindex: u32) {
        let number = self.changes.tell(PortChange::Leaving { port, ifindex });
        self.wake();
        self.changes.wait(number);
    }
}

/// Room on a link, taken until dropped.
pub(crate) struct Reservation {
    links: Arc<Links>,
    reserved: Reserved,
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.links.release(&self.reserved);
    }
}
