//! A network as its user sees it: built, run, looked at.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tailwater_impair::Random;
use tailwater_stack::{AddressError, Cidr, Config, Instant, InterfaceConfig, InterfaceId, Route, Stack};

use crate::addressing::{ConnectError, End, IntoEnd, mac};
use crate::buffer::SimBuffer;
use crate::capture::Capture;
use crate::digest::Digest;
use crate::flow::Flow;
use crate::host::{Host, HostContext, HostEnv};
use crate::link::{LinkConfig, LinkCounters, LinkId};
use crate::network::{FRAMES_MAX, Kind, LINK_HEADER_MAX, Network, Node, Stalled};
use crate::path::{Path, Port};
use crate::router::{Router, RouterPort};
use crate::routing::{Attachment, Segments, gateways_of, routes_of};
use crate::switch::Switch;
use crate::workload::Workload;

/// Nodes from which on a network that falls into several parts runs in groups of these, on several cores if there are.
const GROUPED_FROM: usize = 16;
/// Each has its share of the frames, and a thread of its own at most.
const GROUPS_MAX: usize = 8;

/// Names a node of one simulation.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct NodeId(pub(crate) usize);

struct Link {
    name: String,
    ends: [End; 2],
    /// Their numbers at the ends' nodes.
    ports: [usize; 2],
    /// The first leads from the first end to the second.
    paths: [usize; 2],
}

/// What has happened so far.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Counters {
    /// Deadlines met.
    pub events: u64,
    /// Frames that arrived at a node.
    pub frames: u64,
    /// Times that no frame was to be had ([`FRAMES_MAX`]).
    pub frames_exhausted: u64,
    /// Datagrams and replies that no workload wanted.
    pub unclaimed: u64,
    /// Stations that a switch had no room for.
    pub stations_forgotten: u64,
}

/// A network of hosts, switches and routers on a virtual clock.
///
/// # Building
/// [`add_host`](Self::add_host), [`add_router`](Self::add_router), [`add_switch`](Self::add_switch),
/// [`connect`](Self::connect), [`add_workload`](Self::add_workload), in any order, also while it runs. Routes need not be
/// given: they are computed when it next runs.
///
/// # Running
/// [`run_until`](Self::run_until), [`run_for`](Self::run_for), on as many threads as [`set_threads`](Self::set_threads) allows.
/// In between, [`set_link`](Self::set_link) and [`set_link_up`](Self::set_link_up) change the network, and
/// [`with_host`](Self::with_host) reaches a host's stack.
///
/// # Outputs
/// [`flows`](Self::flows), [`link_counters`](Self::link_counters), [`counters`](Self::counters),
/// [`digest`](Self::digest), and captures ([`capture`](Self::capture)).
pub struct Simulation {
    seed: u64,
    network: Network,
    /// What works on the other groups at the same time.
    beside: Vec<Network>,
    /// Nodes between which frames can pass, and no others.
    parts: Vec<Vec<usize>>,
    /// Of parts. The same on every machine, whatever number of threads runs them.
    groups: Vec<Range<usize>>,
    threads: usize,
    links: Vec<Link>,
    /// Names of links, and how many more between the same nodes there are.
    link_names: BTreeMap<String, u32>,
    macs: u32,
    routes_stale: bool,
}

impl Simulation {
    /// Empty, at time zero. Everything random comes from `seed`.
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            network: Network::new(LinkConfig::default().mtu + LINK_HEADER_MAX),
            beside: Vec::new(),
            parts: Vec::new(),
            groups: Vec::new(),
            threads: std::thread::available_parallelism().map_or(1, usize::from),
            links: Vec::new(),
            link_names: BTreeMap::new(),
            macs: 0,
            routes_stale: false,
        }
    }

    // ---- building ---------------------------------------------------------------------------------------------------

    pub fn add_host(&mut self, name: impl Into<String>) -> NodeId {
        self.add_host_with(name, Config::default())
    }

    pub fn add_host_with(&mut self, name: impl Into<String>, config: Config) -> NodeId {
        let host = Host::new(config, self.next_random());
        self.add_node(name.into(), Kind::Host(Box::new(host)))
    }

    pub fn add_router(&mut self, name: impl Into<String>) -> NodeId {
        let router = Router::new(self.next_random());
        self.add_node(name.into(), Kind::Router(Box::new(router)))
    }

    pub fn add_switch(&mut self, name: impl Into<String>) -> NodeId {
        self.add_node(name.into(), Kind::Switch(Switch::new()))
    }

    fn add_node(&mut self, name: String, kind: Kind) -> NodeId {
        self.network.nodes.push(Node::new(name, kind));
        self.routes_stale = true;
        NodeId(self.network.nodes.len() - 1)
    }

    /// A sequence for the next node or path, so that adding one does not change what the others meet.
    fn next_random(&self) -> Random {
        Random::new(self.seed, (self.network.nodes.len() + self.network.paths.len()) as u64)
    }

    /// Joins two nodes by a link that is the same both ways. Hosts and routers need an address there:
    /// `(host, "10.0.0.1/24")`.
    pub fn connect(&mut self, a: impl IntoEnd, b: impl IntoEnd, config: LinkConfig) -> Result<LinkId, ConnectError> {
        self.connect_asymmetric(a, b, config, config)
    }

    /// Joins two nodes by a link that differs by direction: `there` from the first to the second.
    pub fn connect_asymmetric(
        &mut self,
        a: impl IntoEnd,
        b: impl IntoEnd,
        there: LinkConfig,
        back: LinkConfig,
    ) -> Result<LinkId, ConnectError> {
        let ends = [a.into_end()?, b.into_end()?];
        ends.iter().try_for_each(|end| self.check_end(end))?;
        let [first, second] = &ends;
        let ports = [self.add_port(first, there.mtu)?, self.add_port(second, back.mtu)?];
        let to = |end: &End, port| Port { node: end.node.0, port };
        let paths = [self.add_path(to(second, ports[1]), there), self.add_path(to(first, ports[0]), back)];
        for (end, path) in ends.iter().zip(paths) {
            if let Some(node) = self.network.nodes.get_mut(end.node.0) {
                node.ports.push(path);
            }
        }
        let name = self.name_link(format!("{}-{}", self.name(first.node), self.name(second.node)));
        self.links.push(Link { name, ends, ports, paths });
        self.routes_stale = true;
        Ok(LinkId(self.links.len() - 1))
    }

    /// `a-b`, or `a-b.2` for a second one.
    fn name_link(&mut self, between: String) -> String {
        let mut name = between.clone();
        while self.link_names.contains_key(&name) {
            let known = self.link_names.entry(between.clone()).or_default();
            *known += 1;
            name = format!("{between}.{}", *known + 1);
        }
        self.link_names.insert(name.clone(), 0);
        name
    }

    fn check_end(&self, end: &End) -> Result<(), ConnectError> {
        let switch = matches!(self.network.nodes.get(end.node.0).map(|node| &node.kind), Some(Kind::Switch(_)));
        match (switch, end.addresses.as_slice()) {
            (true, [_, ..]) => Err(ConnectError::OnSwitch(self.name(end.node).to_owned())),
            (false, []) => Err(ConnectError::Missing(self.name(end.node).to_owned())),
            (_, addresses) => {
                let taken = addresses.iter().find(|cidr| self.network.directory.contains_key(&cidr.address()));
                taken.map_or(Ok(()), |&taken| Err(ConnectError::Taken(taken)))
            }
        }
    }

    fn add_port(&mut self, end: &End, mtu: usize) -> Result<usize, ConnectError> {
        self.network.pool.grow(mtu + LINK_HEADER_MAX);
        self.beside.iter_mut().for_each(|other| other.pool.grow(mtu + LINK_HEADER_MAX));
        self.macs += 1;
        let mac = mac(self.macs);
        Arc::make_mut(&mut self.network.directory).extend(end.addresses.iter().map(|cidr| (cidr.address(), mac)));
        let Some(node) = self.network.nodes.get_mut(end.node.0) else { return Ok(0) };
        let stack = match &mut node.kind {
            Kind::Switch(_) => return Ok(node.ports.len()),
            Kind::Host(host) => &mut host.stack,
            Kind::Router(router) => {
                router.ports.push(RouterPort { mac, mtu });
                &mut router.stack
            }
        };
        let id = stack.add_interface(InterfaceConfig::exclusive(mac, mtu));
        for &address in &end.addresses {
            stack.add_address(id, address).map_err(|error| match error {
                AddressError::Kind => ConnectError::Kind(address),
                AddressError::Full | AddressError::InterfaceUnknown => ConnectError::Full(node.name.clone()),
            })?;
        }
        Ok(id.0 as usize)
    }

    fn add_path(&mut self, to: Port, config: LinkConfig) -> usize {
        let path = Path::new(to, config, self.next_random());
        self.network.add_path(path)
    }

    /// Adds an application to a host; on another node it never runs.
    pub fn add_workload(&mut self, host: NodeId, workload: impl Workload + 'static) {
        self.add_boxed_workload(host, Box::new(workload));
    }

    /// As [`add_workload`](Self::add_workload), for one whose kind was chosen at run time.
    pub fn add_boxed_workload(&mut self, host: NodeId, workload: Box<dyn Workload>) {
        let Network { nodes, now, pool, outbox, .. } = &mut self.network;
        if let Some(Node { kind: Kind::Host(host), .. }) = nodes.get_mut(host.0) {
            host.add(workload, *now, pool, outbox);
        }
        // It goes on when the simulation does, by routes that are known then.
        self.network.send_outbox(host.0);
        self.network.wake(host.0);
    }

    /// Changes a link both ways, from the next frame on. The MTU stays what it was.
    pub fn set_link(&mut self, link: LinkId, there: LinkConfig, back: LinkConfig) {
        let Some(link) = self.links.get(link.0) else { return };
        let now_ns = self.network.now.as_nanos();
        for (path, config) in link.paths.into_iter().zip([there, back]) {
            if let Some(path) = self.network.paths.get_mut(path) {
                path.set(LinkConfig { mtu: path.config().mtu, ..config }, now_ns);
            }
        }
    }

    /// Cuts a link (frames on it still arrive) or mends it.
    pub fn set_link_up(&mut self, link: LinkId, up: bool) {
        let Some(link) = self.links.get(link.0) else { return };
        for path in link.paths {
            if let Some(path) = self.network.paths.get_mut(path) {
                path.up = up;
            }
        }
    }

    /// Routes follow from who is connected to whom.
    fn update_routes(&mut self) {
        if !std::mem::take(&mut self.routes_stale) {
            return;
        }
        self.update_parts();
        let attachments = self.attachments();
        for (number, node) in self.network.nodes.iter_mut() {
            match &mut node.kind {
                Kind::Router(router) => router.set_routes(routes_of(number, &attachments)),
                Kind::Host(host) => {
                    let own = attachments.iter().filter(|attachment| attachment.node == number);
                    own.for_each(|own| add_default_routes(&mut host.stack, own, &attachments));
                }
                Kind::Switch(_) => {}
            }
        }
    }

    /// Nodes that links join, directly or not.
    fn update_parts(&mut self) {
        let mut joined = Segments::new(self.network.nodes.len());
        for link in &self.links {
            joined.join(link.ends[0].node.0, link.ends[1].node.0);
        }
        let mut parts: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for node in 0..self.network.nodes.len() {
            parts.entry(joined.find(node)).or_default().push(node);
        }
        self.parts = parts.into_values().collect();
        for (place, &node) in self.parts.iter().flat_map(|part| (0..).zip(part)) {
            if let Some(node) = self.network.nodes.get_mut(node) {
                node.place = place;
            }
        }
        self.groups = grouped(&self.parts);
        let capacity = self.network.pool.capacity();
        let others = self.groups.len().saturating_sub(1).max(self.beside.len());
        self.beside.resize_with(others, || Network::new(capacity));
        let frames_max = FRAMES_MAX / self.groups.len().max(1);
        self.network.pool.set_max(frames_max);
        self.beside.iter_mut().for_each(|other| other.pool.set_max(frames_max));
    }

    fn attachments(&self) -> Vec<Attachment> {
        let mut first_port = vec![0; self.network.nodes.len() + 1];
        for (number, node) in self.network.nodes.iter().enumerate() {
            first_port[number + 1] = first_port[number] + node.ports.len();
        }
        let mut segments = Segments::new(first_port.last().copied().unwrap_or(0));
        for link in &self.links {
            let [a, b] = [0, 1].map(|end| first_port[link.ends[end].node.0] + link.ports[end]);
            segments.join(a, b);
        }
        for (number, node) in self.network.nodes.iter().enumerate() {
            if matches!(node.kind, Kind::Switch(_)) {
                for port in 1..node.ports.len() {
                    segments.join(first_port[number], first_port[number] + port);
                }
            }
        }
        let ends = self.links.iter().flat_map(|link| link.ends.iter().zip(link.ports));
        let attachment = |(end, port): (&End, usize)| Attachment {
            node: end.node.0,
            port,
            router: matches!(self.network.nodes.get(end.node.0).map(|node| &node.kind), Some(Kind::Router(_))),
            segment: segments.find(first_port[end.node.0] + port),
            addresses: end.addresses.clone(),
        };
        ends.map(attachment).filter(|attachment| !attachment.addresses.is_empty()).collect()
    }

    // ---- running ----------------------------------------------------------------------------------------------------

    /// Runs every event up to and at `until`, or stops where time goes on no more.
    pub fn run_until(&mut self, until: Instant) -> Result<(), Stalled> {
        self.update_routes();
        let Self { network, beside, parts, groups, threads, .. } = self;
        let groups: Vec<&[Vec<usize>]> = groups.iter().filter_map(|group| parts.get(group.clone())).collect();
        let (own, others) = groups.split_first().map_or((&[][..], &[][..]), |(own, others)| (*own, others));
        beside.iter_mut().zip(others).for_each(|(other, group)| network.lend(group, other));
        let mut ran = vec![Ok(()); groups.len().max(1)];
        let networks = std::iter::once((&mut *network, own)).chain(beside.iter_mut().zip(others.iter().copied()));
        let waiting = Mutex::new(networks.zip(&mut ran));
        let next = || waiting.lock().unwrap_or_else(PoisonError::into_inner).next();
        let work = || {
            while let Some(((network, group), ran)) = next() {
                *ran = network.run(group, until);
            }
        };
        std::thread::scope(|scope| {
            (1..groups.len().min(*threads)).for_each(|_| _ = scope.spawn(work));
            work();
        });
        beside.iter_mut().zip(others).for_each(|(other, group)| other.lend(group, network));
        let ran: Result<(), Stalled> = ran.into_iter().collect();
        network.now = ran.as_ref().map_or_else(|stalled| Instant::ZERO + stalled.at, |()| network.now);
        ran
    }

    /// Threads that parts of the network which no link joins may run on: as many as the machine has cores, unless told
    /// otherwise. The run is the same with any number.
    pub fn set_threads(&mut self, threads: usize) {
        self.threads = threads.max(1);
    }

    pub fn run_for(&mut self, time: Duration) -> Result<(), Stalled> {
        self.run_until(self.network.now + time)
    }

    /// The host's stack and world, to do or look at something.
    pub fn with_host<R>(&mut self, node: NodeId, f: impl FnOnce(&mut HostContext<'_, '_>) -> R) -> Option<R> {
        self.update_routes();
        let Network { nodes, now, pool, outbox, .. } = &mut self.network;
        let result = match nodes.get_mut(node.0).map(|node| &mut node.kind) {
            Some(Kind::Host(host)) => {
                let Host { stack, random, .. } = &mut **host;
                let env = &mut HostEnv { now: *now, random, pool, outbox };
                Some(f(&mut HostContext { stack, env }))
            }
            _ => None,
        };
        self.network.after_node(node.0);
        result
    }

    // ---- outputs ----------------------------------------------------------------------------------------------------

    pub fn now(&self) -> Instant {
        self.network.now
    }

    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// Covers every frame delivered so far: its bytes, its time and its link.
    pub fn digest(&self) -> u64 {
        let mut digest = Digest::new();
        self.network.paths.iter().zip(0..).for_each(|(path, place)| digest.join(place, &path.digest));
        digest.value()
    }

    pub fn name(&self, node: NodeId) -> &str {
        self.network.nodes.get(node.0).map_or("", |node| &node.name)
    }

    pub fn link_name(&self, link: LinkId) -> &str {
        self.links.get(link.0).map_or("", |link| &link.name)
    }

    pub fn links(&self) -> impl Iterator<Item = LinkId> {
        (0..self.links.len()).map(LinkId)
    }

    /// Every flow, by name.
    pub fn flows(&self) -> BTreeMap<String, Flow> {
        self.flows_in(Flow::default)
    }

    /// Every flow, by name, with the latest delays only.
    pub(crate) fn flows_now(&self) -> BTreeMap<String, Flow> {
        let empty = Flow::without_histograms();
        self.flows_in(|| empty.clone())
    }

    fn flows_in(&self, empty: impl Fn() -> Flow) -> BTreeMap<String, Flow> {
        let mut flows: BTreeMap<String, Flow> = BTreeMap::new();
        for host in self.hosts() {
            for workload in host.workloads() {
                let flow = match flows.get_mut(workload.flow()) {
                    Some(flow) => flow,
                    None => flows.entry(workload.flow().to_owned()).or_insert_with(&empty),
                };
                workload.report(flow, &host.stack, self.network.now);
            }
        }
        flows
    }

    fn hosts(&self) -> impl Iterator<Item = &Host> {
        self.network.nodes.iter().filter_map(|node| match &node.kind {
            Kind::Host(host) => Some(&**host),
            Kind::Router(_) | Kind::Switch(_) => None,
        })
    }

    /// The stack of a host.
    pub fn stack(&self, node: NodeId) -> Option<&Stack<SimBuffer>> {
        match &self.network.nodes.get(node.0)?.kind {
            Kind::Host(host) => Some(&host.stack),
            Kind::Router(router) => Some(&router.stack),
            Kind::Switch(_) => None,
        }
    }

    /// From the first end to the second, and back.
    pub fn link_counters(&self, link: LinkId) -> [LinkCounters; 2] {
        let paths = self.links.get(link.0).map_or([usize::MAX; 2], |link| link.paths);
        paths.map(|path| self.network.paths.get(path).map(|path| path.counters).unwrap_or_default())
    }

    pub fn counters(&self) -> Counters {
        let switches = self.network.nodes.iter().filter_map(|node| match &node.kind {
            Kind::Switch(switch) => Some(switch.table_full),
            Kind::Host(_) | Kind::Router(_) => None,
        });
        Counters {
            events: self.networks().map(|network| network.counters.events).sum(),
            frames: self.networks().map(|network| network.counters.frames).sum(),
            frames_exhausted: self.networks().map(|network| network.pool.exhausted).sum(),
            unclaimed: self.hosts().map(|host| host.unclaimed).sum(),
            stations_forgotten: switches.sum(),
        }
    }

    /// Frames in use: on links, and inside stacks.
    pub fn frames_in_use(&self) -> usize {
        usize::try_from(self.networks().map(|network| network.pool.in_use()).sum::<isize>()).unwrap_or(0)
    }

    fn networks(&self) -> impl Iterator<Item = &Network> {
        std::iter::once(&self.network).chain(&self.beside)
    }

    /// Frames on links.
    pub fn frames_in_transit(&self) -> usize {
        self.network.paths.iter().map(Path::in_transit).sum()
    }

    /// Writes what `node` sends to and receives from `link` from now on, as pcapng.
    pub fn capture(&mut self, link: LinkId, node: NodeId, to: impl Write + Send + 'static) -> io::Result<()> {
        let Some(Link { name, ends, ports, .. }) = self.links.get(link.0) else { return Ok(()) };
        for (end, port) in ends.iter().zip(*ports) {
            if end.node == node {
                let capture = Capture::new(to, &format!("{name} at {}", self.name(node)))?;
                self.network.captures.add(Port { node: node.0, port }, capture);
                return Ok(());
            }
        }
        Ok(())
    }

    /// The two nodes that a link joins.
    pub fn link_ends(&self, link: LinkId) -> Option<[NodeId; 2]> {
        self.links.get(link.0).map(|Link { ends: [a, b], .. }| [a.node, b.node])
    }

    /// Completes captures; an error is the first that writing met.
    pub fn finish_captures(&mut self) -> io::Result<()> {
        self.network.captures.finish()
    }
}

/// Parts with about as many nodes in each group.
fn grouped(parts: &[Vec<usize>]) -> Vec<Range<usize>> {
    let all: usize = parts.iter().map(Vec::len).sum();
    let count = if all < GROUPED_FROM { 1 } else { GROUPS_MAX };
    let (mut groups, mut nodes, mut from) = (Vec::new(), 0, 0);
    for (to, part) in (1..).zip(parts) {
        nodes += part.len();
        if nodes * count >= all * (groups.len() + 1) {
            groups.push(from..to);
            from = to;
        }
    }
    groups
}

fn add_default_routes(stack: &mut Stack<SimBuffer>, own: &Attachment, attachments: &[Attachment]) {
    for gateway in gateways_of(own, attachments).into_iter().flatten() {
        let prefix = if gateway.is_ipv4() { Cidr::default_v4() } else { Cidr::default_v6() };
        if !stack.routes().any(|route| route.prefix == prefix) {
            let route = Route { prefix, gateway: Some(gateway), interface: InterfaceId(own.port as u32) };
            // A stack takes a thousand routes, and this one gets two.
            let _ = stack.add_route(route);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::{Ping, Pings, UdpEcho, UdpRequests, UdpRequestsConfig};

    #[test]
    fn requests_that_take_no_time_end_the_run_with_the_name_of_a_node() {
        let mut simulation = Simulation::new(1);
        let [a, b] = ["a", "b"].map(|name| simulation.add_host(name));
        simulation.connect((a, "10.0.0.1/24"), (b, "10.0.0.2/24"), LinkConfig::default()).unwrap();
        let requests = UdpRequestsConfig {
            to: ([10, 0, 0, 2], 7_000).into(),
            size: 64,
            start: Duration::from_millis(5),
            stop: None,
            pause: Duration::ZERO,
            timeout: Duration::from_secs(1),
        };
        simulation.add_workload(b, UdpEcho::new("ask", ([0; 4], 7_000).into()));
        simulation.add_workload(a, UdpRequests::new("ask", requests));
        simulation.network.instant_events_max = 10_000;
        let stalled = simulation.run_for(Duration::from_secs(1)).unwrap_err();
        assert!(stalled.node == "a" || stalled.node == "b", "{stalled}");
        assert_eq!(stalled.at, Duration::from_millis(5));
        assert_eq!(simulation.now(), Instant::ZERO + stalled.at);
    }

    #[test]
    fn broadcasts_in_a_ring_of_switches_end_the_run() {
        let mut simulation = Simulation::new(1);
        let host = simulation.add_host("a");
        let switches = ["s1", "s2", "s3"].map(|name| simulation.add_switch(name));
        for n in 0..3 {
            simulation.connect(switches[n], switches[(n + 1) % 3], LinkConfig::default()).unwrap();
        }
        simulation.connect((host, "10.0.0.1/24"), switches[0], LinkConfig::default()).unwrap();
        simulation.add_workload(host, Ping::new("ping", Pings::to([10, 0, 0, 2])));
        simulation.network.instant_events_max = 10_000;
        assert!(simulation.run_for(Duration::from_secs(1)).is_err());
    }

    #[test]
    fn groups_have_all_parts_in_order_and_follow_from_their_sizes() {
        let sizes = |sizes: &[usize]| sizes.iter().map(|&size| vec![0; size]).collect::<Vec<_>>();
        assert_eq!(grouped(&[]), []);
        assert_eq!(grouped(&sizes(&[1, 100, 1])), [0..2, 2..3]);
        for parts in [
            sizes(&[2, 3, 4]),
            sizes(&[100]),
            sizes(&[2; 50]),
            sizes(&[1, 7, 3, 90, 2, 2, 2, 60, 1]),
            sizes(&[1; 1_000]),
        ] {
            let groups = grouped(&parts);
            assert!((1..=GROUPS_MAX).contains(&groups.len()), "{groups:?}");
            assert!(groups.iter().cloned().flatten().eq(0..parts.len()), "{groups:?}");
        }
        let counts = [&[2, 3, 4][..], &[100], &[2; 50]].map(|parts| grouped(&sizes(parts)).len());
        assert_eq!(counts, [1, 1, GROUPS_MAX]);
    }
}
