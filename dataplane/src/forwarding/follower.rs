//! The thread that turns what the kernel says into tables: routes, neighbours, addresses, links.
//!
//! A prefix may stand in the kernel's local table, in its main table, and be a neighbour on a connected link; the first
//! of these wins. Neighbours become host routes, so that a connected prefix costs the fast path nothing extra.

mod ports;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tailwater_fib::{FibError, FibWriter, NextHop, Prefix4, Prefix6};
use tailwater_netlink::{
    Address, Control, Event, Limits, Link, Mirror, Neighbour, NeighbourState, Path, Prefix, RouteKind, TABLE_LOCAL,
};
use tailwater_xdp::{HashKey, Shared};

use super::ways::{Way, Ways};
use super::{ForwardingPlane, PortEntry, Request};

/// Time between two looks at the stop flag and at what must be tried again.
const TICK: Duration = Duration::from_millis(200);
/// Time between two confirmations of the neighbours in use: the kernel sees none of their traffic.
const CONFIRM: Duration = Duration::from_secs(10);
/// Longest wait for the kernel's tables at the start.
const START_MAX: Duration = Duration::from_secs(60);
/// Events handled before the requests of the workers get a turn.
const EVENTS_PER_TURN: usize = 4096;

/// Why the kernel cannot be followed.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum FollowerError {
    #[error(transparent)]
    Netlink(#[from] tailwater_netlink::Error),
    #[error(transparent)]
    Fib(#[from] FibError),
    #[error("{0}")]
    System(#[from] std::io::Error),
    #[error("the kernel's tables did not arrive within {START_MAX:?}")]
    Slow,
}

/// What is known about one prefix.
#[derive(Default)]
struct Known {
    local: Option<Arc<Path>>,
    main: Option<Arc<Path>>,
    /// What the FIB says now.
    installed: Option<NextHop>,
}

/// Follows the kernel and writes the tables.
pub struct Follower {
    mirror: Mirror,
    netlink: Control,
    fib: FibWriter,
    plane: Arc<ForwardingPlane>,
    /// The dataplane's interfaces, by kernel index.
    ports: HashMap<u32, u16>,
    entries: Vec<PortEntry>,
    known: HashMap<Prefix, Known>,
    /// Prefixes of single addresses that are resolved neighbours, and on which links: a host that answers for all its
    /// addresses everywhere may be one on several.
    neighbours: BTreeMap<Prefix, Vec<u32>>,
    ways: Ways,
    /// Prefixes that the FIB was too busy or too full to take.
    again: BTreeSet<Prefix>,
    shared: Option<Shared>,
    addresses: HashMap<IpAddr, usize>,
}

/// A follower on its thread.
pub struct Following {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Follower {
    /// Reads the kernel's tables, for the interfaces with these kernel indices in port order (0 is a place where one may
    /// join later), and returns once they are complete. `progress` hears how many routes have come so far.
    pub fn start(
        ifindexes: &[u32],
        shared: Option<Shared>,
        hash_key: HashKey,
        limits: tailwater_fib::Limits,
        mut progress: impl FnMut(usize),
    ) -> Result<(Self, Arc<ForwardingPlane>), FollowerError> {
        let (fib, reader) = tailwater_fib::new(limits)?;
        let entries: Vec<_> = ifindexes.iter().map(|&ifindex| PortEntry { ifindex, ..PortEntry::default() }).collect();
        let plane = Arc::new(ForwardingPlane::new(reader, entries.clone(), hash_key)?);
        let mut follower = Self {
            mirror: Mirror::open(Limits::default())?,
            netlink: Control::open()?,
            fib,
            plane: Arc::clone(&plane),
            ports: ports::by_ifindex(ifindexes),
            entries,
            known: HashMap::new(),
            neighbours: BTreeMap::new(),
            ways: Ways::default(),
            again: BTreeSet::new(),
            shared,
            addresses: HashMap::new(),
        };
        let started = Instant::now();
        loop {
            match follower.mirror.next(Some(TICK))? {
                Some(Event::Resynchronised) => break,
                Some(event) => follower.on_event(event),
                None if started.elapsed() > START_MAX => return Err(FollowerError::Slow),
                None => {}
            }
            progress(follower.known.len());
        }
        follower.ask_for_gateways();
        Ok((follower, plane))
    }

    /// Goes on following on a thread of its own.
    pub fn spawn(self) -> std::io::Result<Following> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::Builder::new().name("tailwater/follow".into()).spawn(move || self.run(&stopped))?;
        Ok(Following { stop, thread: Some(thread) })
    }

    fn run(mut self, stop: &AtomicBool) {
        let mut confirmed = Instant::now();
        while !stop.load(Ordering::Relaxed) {
            self.wait();
            if let Err(error) = self.turn() {
                tracing::error!(%error, "following the kernel failed; trying again");
                std::thread::sleep(TICK);
            }
            if confirmed.elapsed() >= CONFIRM {
                confirmed = Instant::now();
                self.ask_for_gateways();
            }
        }
    }

    fn wait(&self) {
        let plane = self.plane.wake.as_fd();
        let mut set = [
            PollFd::from_borrowed_fd(self.mirror.as_fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(plane, PollFlags::IN),
        ];
        let timeout = Timespec { tv_sec: 0, tv_nsec: TICK.subsec_nanos().into() };
        // An interrupted wait is as good as a short one.
        let _ = poll(&mut set, Some(&timeout));
        let _ = rustix::io::read(&self.plane.wake, &mut [0u8; 8]);
    }

    fn turn(&mut self) -> Result<(), FollowerError> {
        for _ in 0..EVENTS_PER_TURN {
            match self.mirror.try_next()? {
                Some(event) => self.on_event(event),
                None => break,
            }
        }
        self.take_up_ports();
        self.serve();
        for prefix in std::mem::take(&mut self.again) {
            self.install(prefix);
        }
        Ok(())
    }

    /// Passes the workers' requests on to the kernel.
    fn serve(&mut self) {
        let mut asked = BTreeSet::new();
        while let Some(Request { next_hop, destination }) = self.plane.take_request() {
            if let Some(way) = self.ways.meaning(next_hop) {
                asked.insert((way.ifindex, way.gateway.unwrap_or(destination)));
            }
        }
        if !asked.is_empty() {
            self.ask(&asked.into_iter().collect::<Vec<_>>());
        }
    }

    fn ask_for_gateways(&mut self) {
        let gateways: Vec<_> = self.ways.gateways().collect();
        self.ask(&gateways);
    }

    /// Tells the kernel that neighbours are in use. Not those that an administrator has set: the kernel takes the word for
    /// a wish to have them resolved, and forgets that they were permanent (Linux 5.16 and later).
    fn ask(&mut self, neighbours: &[(u32, IpAddr)]) {
        let fixed = |&(ifindex, ip): &(u32, IpAddr)| {
            self.mirror
                .neighbour(ifindex, ip)
                .is_some_and(|neighbour| matches!(neighbour.state, NeighbourState::Permanent | NeighbourState::NoArp))
        };
        let neighbours: Vec<_> = neighbours.iter().copied().filter(|neighbour| !fixed(neighbour)).collect();
        match self.netlink.use_neighbours(&neighbours) {
            Ok(verdicts) => verdicts.into_iter().filter_map(Result::err).for_each(|error| {
                tracing::debug!(%error, "the kernel does not resolve a neighbour");
            }),
            Err(error) => tracing::warn!(%error, "asking the kernel for neighbours failed"),
        }
    }

    fn on_event(&mut self, event: Event) {
        match event {
            Event::LinkChanged(link) => self.on_link(&link),
            Event::LinkRemoved { ifindex, .. } => self.on_link_gone(ifindex),
            Event::AddressAdded(address) => self.on_address(&address, true),
            Event::AddressRemoved(address) => self.on_address(&address, false),
            Event::RouteChanged(route) => {
                let path = Some(Arc::clone(&route.path));
                self.on_route(route.table, route.prefix, path);
            }
            Event::RouteRemoved { table, prefix } => self.on_route(table, prefix, None),
            Event::NeighbourChanged(neighbour) => self.on_neighbour(&neighbour),
            Event::NeighbourRemoved { ifindex, ip } => self.on_neighbour_gone(ifindex, ip),
            Event::Resynchronised => {}
        }
    }

    fn on_link(&mut self, link: &Link) {
        let Some(&port) = self.ports.get(&link.ifindex) else { return };
        let Some(entry) = self.entries.get_mut(usize::from(port)) else { return };
        let before = entry.clone();
        entry.name.clone_from(&link.name);
        entry.mac = link.mac.as_slice().try_into().unwrap_or_default();
        entry.mtu = if link.up { link.mtu_bytes } else { 0 };
        if *entry != before {
            self.plane.publish_ports(self.entries.clone());
        }
    }

    fn on_link_gone(&mut self, ifindex: u32) {
        let Some(&port) = self.ports.get(&ifindex) else { return };
        if let Some(entry) = self.entries.get_mut(usize::from(port)) {
            *entry = PortEntry { ifindex, ..PortEntry::default() };
            self.plane.publish_ports(self.entries.clone());
        }
    }

    fn on_address(&mut self, address: &Address, added: bool) {
        self.count_address(address.ip, added);
        self.choose_addresses(address.ifindex, (!added).then_some(address.ip));
    }

    /// Looks for the addresses that errors about packets of an interface come from; `gone` is none any more.
    fn choose_addresses(&mut self, ifindex: u32, gone: Option<IpAddr>) {
        let Some(&port) = self.ports.get(&ifindex) else { return };
        // The first usable address of a family is the one that errors come from.
        let of_port = |mirror: &Mirror, wanted: &dyn Fn(&IpAddr) -> bool| {
            let mut usable: Vec<_> = mirror
                .addresses()
                .filter(|other| other.ifindex == ifindex && !other.tentative && !other.duplicate)
                .filter(|other| wanted(&other.ip) && Some(other.ip) != gone)
                .collect();
            usable.sort_by_key(|other| (other.scope, other.secondary));
            usable.first().map(|other| other.ip)
        };
        let ip4 = of_port(&self.mirror, &IpAddr::is_ipv4);
        let ip6 = of_port(&self.mirror, &IpAddr::is_ipv6);
        if let Some(entry) = self.entries.get_mut(usize::from(port)) {
            entry.ip4 = ip4.and_then(|ip| if let IpAddr::V4(ip) = ip { Some(ip) } else { None });
            entry.ip6 = ip6.and_then(|ip| if let IpAddr::V6(ip) = ip { Some(ip) } else { None });
            self.plane.publish_ports(self.entries.clone());
        }
    }

    /// The XDP program leaves packets for the host's own addresses to the kernel. An address may stand on several links.
    fn count_address(&mut self, ip: IpAddr, added: bool) {
        let count = self.addresses.entry(ip).or_insert(0);
        let before = *count;
        *count = if added { before + 1 } else { before.saturating_sub(1) };
        let after = *count;
        if after == 0 {
            self.addresses.remove(&ip);
        }
        let Some(shared) = &self.shared else { return };
        let told = match (before, after) {
            (0, 1..) => shared.local_addrs().insert(ip),
            (1.., 0) => shared.local_addrs().remove(ip).map(drop),
            _ => Ok(()),
        };
        if let Err(error) = told {
            tracing::error!(%error, %ip, "the steering program was not told about an address");
        }
    }

    fn on_route(&mut self, table: u32, prefix: Prefix, path: Option<Arc<Path>>) {
        let known = self.known.entry(prefix).or_default();
        let place = if table == TABLE_LOCAL { &mut known.local } else { &mut known.main };
        let path = path.filter(|path| path.kind != RouteKind::Throw);
        let before = std::mem::replace(place, path.clone());
        self.install(prefix);
        let connects = |path: &Option<Arc<Path>>| {
            path.as_ref().is_some_and(|path| path.next_hops.iter().any(|hop| hop.gateway.is_none()))
        };
        if connects(&before) || connects(&path) {
            // Whether neighbours within are reached directly may have changed.
            let within: Vec<_> = self.neighbours.keys().filter(|host| covers(&prefix, host)).copied().collect();
            within.into_iter().for_each(|host| self.install(host));
        }
    }

    fn on_neighbour(&mut self, neighbour: &Neighbour) {
        let Some(&port) = self.ports.get(&neighbour.ifindex) else { return };
        let mac = neighbour.usable_mac().and_then(|mac| <[u8; 6]>::try_from(mac).ok());
        let way = Way { ifindex: neighbour.ifindex, gateway: Some(neighbour.ip) };
        if let Some(next_hop) = self.ways.find(&way) {
            self.resolve(next_hop, port, mac);
        }
        self.note_neighbour(neighbour.ip, neighbour.ifindex, mac.is_some());
    }

    /// An address is a resolved neighbour on a link, or is none there.
    fn note_neighbour(&mut self, ip: IpAddr, ifindex: u32, resolved: bool) {
        let Some(prefix) = host_prefix(ip) else { return };
        let links = self.neighbours.entry(prefix).or_default();
        let before = links.len();
        links.retain(|&link| link != ifindex);
        let changed = (links.len() < before) != resolved;
        links.extend(resolved.then_some(ifindex));
        if links.is_empty() {
            self.neighbours.remove(&prefix);
        }
        if changed {
            self.known.entry(prefix).or_default();
            self.install(prefix);
        }
    }

    fn on_neighbour_gone(&mut self, ifindex: u32, ip: IpAddr) {
        let Some(&port) = self.ports.get(&ifindex) else { return };
        if let Some(next_hop) = self.ways.find(&Way { ifindex, gateway: Some(ip) }) {
            self.resolve(next_hop, port, None);
        }
        self.note_neighbour(ip, ifindex, false);
    }

    fn resolve(&mut self, next_hop: NextHop, port: u16, mac: Option<[u8; 6]>) {
        let told = match mac {
            Some(mac) => self.fib.adjacencies.resolve(next_hop, port, mac),
            None => self.fib.adjacencies.unresolve(next_hop),
        };
        if let Err(error) = told {
            tracing::error!(%error, "an adjacency was not updated");
        }
    }

    /// Brings the FIB's entry for a prefix up to date with what is known about it.
    fn install(&mut self, prefix: Prefix) {
        let wanted = match self.next_hop_for(prefix) {
            Ok(wanted) => wanted,
            Err(error) => {
                tracing::warn!(%error, %prefix, "a route has to wait");
                self.again.insert(prefix);
                return;
            }
        };
        let Some(known) = self.known.get_mut(&prefix) else { return };
        let before = known.installed;
        let done = match wanted {
            Some(next_hop) => insert(&mut self.fib, prefix, next_hop),
            None if before.is_some() => remove(&mut self.fib, prefix),
            None => Ok(()),
        };
        match done {
            Ok(()) => {
                known.installed = wanted;
                let routeless = wanted.is_none() && known.local.is_none() && known.main.is_none();
                if routeless && !self.neighbours.contains_key(&prefix) {
                    self.known.remove(&prefix);
                }
                // `next_hop_for` counted the new use; the old one ends here.
                before.into_iter().for_each(|next_hop| self.ways.release(&mut self.fib, next_hop));
            }
            Err(error) => {
                tracing::warn!(%error, %prefix, "a route has to wait");
                wanted.into_iter().for_each(|next_hop| self.ways.release(&mut self.fib, next_hop));
                self.again.insert(prefix);
            }
        }
    }

    /// The next hop that a prefix should have, with one more use counted.
    fn next_hop_for(&mut self, prefix: Prefix) -> Result<Option<NextHop>, FibError> {
        let Some(known) = self.known.get(&prefix) else { return Ok(None) };
        let path = known.local.as_ref().or(known.main.as_ref()).cloned();
        if let Some(path) = path {
            return self.next_hop_of(&path).map(Some);
        }
        let links = self.neighbours.get(&prefix).map(Vec::as_slice).unwrap_or_default();
        match links.iter().copied().find(|&ifindex| self.is_connected(prefix, ifindex)) {
            Some(ifindex) => {
                let way = Way { ifindex, gateway: Some(prefix.address()) };
                self.acquire(vec![(way, 1)]).map(Some)
            }
            None => Ok(None),
        }
    }

    /// Whether the kernel would reach this address directly on this link.
    fn is_connected(&self, prefix: Prefix, ifindex: u32) -> bool {
        let covering = (0..prefix.length()).rev().find_map(|length| {
            let covering = Prefix::new(prefix.address(), length)?;
            let known = self.known.get(&covering)?;
            known.local.as_ref().or(known.main.as_ref()).cloned()
        });
        covering.is_some_and(|path| {
            path.kind == RouteKind::Unicast
                && path.live_next_hops().any(|hop| hop.gateway.is_none() && hop.ifindex == ifindex)
        })
    }

    fn next_hop_of(&mut self, path: &Path) -> Result<NextHop, FibError> {
        match path.kind {
            RouteKind::Blackhole => Ok(NextHop::BLACKHOLE),
            RouteKind::Unreachable => Ok(NextHop::UNREACHABLE),
            RouteKind::Prohibit => Ok(NextHop::PROHIBIT),
            RouteKind::Unicast => {
                let ways: Vec<_> = path
                    .live_next_hops()
                    .filter(|hop| self.ports.contains_key(&hop.ifindex) && !hop.encapsulated)
                    .map(|hop| (Way { ifindex: hop.ifindex, gateway: hop.gateway }, hop.weight.min(65_535) as u16))
                    .collect();
                // Out of an interface that is not ours: the kernel's packet.
                if ways.is_empty() { Ok(NextHop::LOCAL) } else { self.acquire(ways) }
            }
            _ => Ok(NextHop::LOCAL),
        }
    }

    /// Counts a use of these ways and resolves those that are new from the mirror's neighbours.
    fn acquire(&mut self, mut ways: Vec<(Way, u16)>) -> Result<NextHop, FibError> {
        let new: Vec<Way> = ways.iter().map(|(way, _)| *way).filter(|way| self.ways.find(way).is_none()).collect();
        let next_hop = self.ways.acquire(&mut self.fib, &mut ways)?;
        for way in new {
            let (Some(gateway), Some(&port)) = (way.gateway, self.ports.get(&way.ifindex)) else { continue };
            let mac = self.mirror.neighbour(way.ifindex, gateway).and_then(Neighbour::usable_mac);
            let mac = mac.and_then(|mac| <[u8; 6]>::try_from(mac).ok());
            if let Some(adjacency) = self.ways.find(&way) {
                self.resolve(adjacency, port, mac);
            }
        }
        Ok(next_hop)
    }
}

impl Following {
    /// Ends the thread.
    pub fn stop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the follower ended with a panic");
        }
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A neighbour's own prefix. Link-local addresses are never forwarded to.
fn host_prefix(ip: IpAddr) -> Option<Prefix> {
    match ip {
        IpAddr::V4(_) => Prefix::new(ip, 32),
        IpAddr::V6(v6) if v6.segments()[0] & 0xffc0 == 0xfe80 || v6.is_multicast() => None,
        IpAddr::V6(_) => Prefix::new(ip, 128),
    }
}

fn covers(prefix: &Prefix, other: &Prefix) -> bool {
    other.length() > prefix.length() && Prefix::new(other.address(), prefix.length()) == Some(*prefix)
}

fn insert(fib: &mut FibWriter, prefix: Prefix, next_hop: NextHop) -> Result<(), FibError> {
    match prefix.address() {
        IpAddr::V4(ip) => fib.v4.insert(Prefix4::new(ip, prefix.length())?, next_hop).map(drop),
        IpAddr::V6(ip) => fib.v6.insert(Prefix6::new(ip, prefix.length())?, next_hop).map(drop),
    }
}

fn remove(fib: &mut FibWriter, prefix: Prefix) -> Result<(), FibError> {
    match prefix.address() {
        IpAddr::V4(ip) => fib.v4.remove(Prefix4::new(ip, prefix.length())?).map(drop),
        IpAddr::V6(ip) => fib.v6.remove(Prefix6::new(ip, prefix.length())?).map(drop),
    }
}
