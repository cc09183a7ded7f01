//! Follows the kernel's addresses, routes, neighbours and MTUs for the workers' stacks, so that DHCP or `ip` configure
//! them without knowing of it; puts the workers' questions to the kernel; keeps the XDP program's listeners in step.
//!
//! A thread of its own, which sleeps until the kernel or a worker has something to say.

mod grant;

use std::collections::{BTreeSet, VecDeque};
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tailwater_netlink::{
    Address, Control, Event, Limits, Link, Mirror, Neighbour, NeighbourState, Prefix, Route, RouteKind, TABLE_MAIN,
};
use tailwater_stack::{Cidr, InterfaceId, MacAddress};
use tailwater_xdp::Shared;

use super::listener::Listener;
use super::mailbox::{Mailbox, Questions, Update};
use super::reservation::Reservation;
use crate::runtime::PortChange;

/// Changes that wait for a worker whose mailbox is full, before no more are taken from the mirror, which keeps those of one
/// route as one. What one event brings, or a port that joins, may lie above.
const BACKLOG_MAX: usize = 32_768;
/// Events taken before the workers are told.
const EVENTS_MAX: usize = 65_536;
/// Neighbours kept fresh; those asked for longest ago are forgotten.
const KEPT_MAX: usize = 1_024;
/// How often neighbours in use are checked. The kernel sees none of our packets to them.
const KEEP: Duration = Duration::from_secs(15);
/// Routes mirrored; the stack holds fewer.
const ROUTES_MAX: usize = 100_000;
/// Pause before trying again to empty a backlog, or after an error of netlink's.
const RETRY: Duration = Duration::from_millis(10);

/// What of the kernel's state the workers are told.
pub(super) struct Follower {
    mirror: Mirror,
    control: Control,
    /// Kernel indices in port order; 0 where no port is.
    ifindices: Vec<u32>,
    /// The kernel resolves neighbours for us; otherwise only permanent entries count.
    resolves: bool,
    mailboxes: Arc<[Mailbox]>,
    /// Those that the workers were told of, and at which port.
    routes: BTreeSet<(Prefix, InterfaceId)>,
    /// By worker.
    backlog: Vec<VecDeque<Update>>,
    questions: Arc<Questions>,
    /// Neighbours that workers asked for, newest last.
    kept: VecDeque<(InterfaceId, IpAddr)>,
    keep_at: Instant,
    listeners: Vec<Listener>,
    /// Where listeners are registered, once packets may come.
    shared: Option<Shared>,
    /// Addresses that listeners at the unspecified address are registered for.
    registered: BTreeSet<IpAddr>,
    /// Ports that were asked for since the start; without the kernel's where another socket has that by now.
    reservations: Vec<(Listener, Option<Reservation>)>,
    /// Of these, such as nobody wants any more, and when they go.
    leaving: VecDeque<(Instant, Listener)>,
}

impl Follower {
    /// Reads the present state into the workers' mailboxes.
    pub(super) fn open(
        ifindices: Vec<u32>,
        resolves: bool,
        mailboxes: Arc<[Mailbox]>,
        questions: Arc<Questions>,
        listeners: Vec<Listener>,
    ) -> Result<Self, tailwater_netlink::Error> {
        let limits = Limits { tables: vec![TABLE_MAIN], routes_max: ROUTES_MAX, ..Limits::default() };
        let mut follower = Self {
            mirror: Mirror::open(limits)?,
            control: Control::open()?,
            ifindices,
            resolves,
            backlog: mailboxes.iter().map(|_| VecDeque::new()).collect(),
            mailboxes,
            routes: BTreeSet::new(),
            questions,
            kept: VecDeque::new(),
            keep_at: Instant::now() + KEEP,
            listeners,
            shared: None,
            registered: BTreeSet::new(),
            reservations: Vec::new(),
            leaving: VecDeque::new(),
        };
        while let Some(event) = follower.mirror.try_next()? {
            // Addresses and neighbours come first; of routes, the rest follows while the workers run.
            if event == Event::Resynchronised {
                break;
            }
            follower.apply(event);
            if follower.lags() {
                break;
            }
        }
        follower.deliver();
        Ok(follower)
    }

    /// Addresses of the interfaces that can be used now.
    pub(super) fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        let ours = self.mirror.addresses().filter(|address| self.port(address.ifindex).is_some() && usable(address));
        ours.map(|address| address.ip)
    }

    /// Registers the listeners, and from now on keeps them in step with the addresses.
    pub(super) fn register(&mut self, shared: Shared) -> Result<(), tailwater_xdp::Error> {
        for listener in self.listeners.iter().filter(|listener| !listener.at.ip().is_unspecified()) {
            shared.listeners().insert(listener.transport, listener.at)?;
        }
        self.shared = Some(shared);
        let addresses: BTreeSet<IpAddr> = self.addresses().collect();
        addresses.into_iter().try_for_each(|address| self.listen_at(address))
    }

    /// Follows until told to stop.
    pub(super) fn run(mut self) {
        while !self.questions.stopping() {
            let caught_up = self.catch_up();
            self.take_up_ports();
            self.grant_ports();
            // Questions are put again.
            if !self.lags() {
                self.answer();
                if self.keep_at <= Instant::now() {
                    self.keep_at = Instant::now() + KEEP;
                    self.keep();
                }
            }
            let delivered = self.deliver();
            self.wait(caught_up, delivered);
        }
    }

    /// Takes in what has changed since, as far as the workers do. Whether that was all.
    fn catch_up(&mut self) -> bool {
        // The mirror's changes end; a storm of them must not starve the workers.
        for _ in 0..EVENTS_MAX {
            if self.lags() {
                return false;
            }
            match self.mirror.try_next() {
                Ok(Some(event)) => self.apply(event),
                Ok(None) => return true,
                Err(error) => {
                    tracing::warn!(%error, "cannot follow the kernel's tables");
                    return false;
                }
            }
        }
        false
    }

    /// What the mirror still has is not waited for.
    fn wait(&self, caught_up: bool, delivered: bool) {
        let at_most = if caught_up && delivered { KEEP } else { RETRY };
        let at_most = self.mirror.listing_due_in().map_or(at_most, |due_in| due_in.min(at_most));
        let timeout = Timespec { tv_sec: at_most.as_secs() as i64, tv_nsec: at_most.subsec_nanos().into() };
        let mirror = self.mirror.as_fd();
        let questions = self.questions.as_fd();
        let mut fds = [PollFd::new(&questions, PollFlags::IN), PollFd::new(&mirror, PollFlags::IN)];
        // Interrupted or not, what there is to do is looked for next.
        let _ = poll(&mut fds[..if caught_up { 2 } else { 1 }], Some(&timeout));
        self.questions.woken();
    }

    /// Ports that have joined, and such that are about to leave.
    fn take_up_ports(&mut self) {
        let questions = Arc::clone(&self.questions);
        while let Some(change) = questions.next_change() {
            match change {
                PortChange::Joined { port, link } => self.port_joined(InterfaceId(port.into()), &link),
                PortChange::Leaving { port, .. } => self.port_leaves(InterfaceId(port.into())),
            }
            questions.change_done();
        }
    }

    fn port_joined(&mut self, port: InterfaceId, link: &Link) {
        let Some(place) = self.ifindices.get_mut(port.0 as usize) else { return };
        let Ok(config) = super::host::interface(link, self.resolves) else { return };
        *place = link.ifindex;
        self.tell(Update::Interface(port, config));
        let addresses: Vec<_> =
            self.mirror.addresses().filter(|known| known.ifindex == link.ifindex).cloned().collect();
        addresses.iter().for_each(|address| self.address_changed(address));
        let over = |route: &Route| route.path.next_hops.iter().any(|hop| hop.ifindex == link.ifindex);
        let routes: Vec<Route> = self.mirror.routes().filter(over).collect();
        routes.iter().for_each(|route| self.route_changed_at(port, route));
        let neighbours: Vec<_> =
            self.mirror.neighbours().filter(|known| known.ifindex == link.ifindex).cloned().collect();
        neighbours.iter().for_each(|neighbour| self.neighbour_changed(neighbour));
    }

    fn port_leaves(&mut self, port: InterfaceId) {
        let Some(place) = self.ifindices.get_mut(port.0 as usize) else { return };
        let ifindex = std::mem::take(place);
        self.tell(Update::NoInterface(port));
        self.routes.retain(|(_, other)| *other != port);
        self.kept.retain(|(other, _)| *other != port);
        let its_own: Vec<_> = self.mirror.addresses().filter(|known| known.ifindex == ifindex).cloned().collect();
        for address in its_own {
            if !self.addresses().any(|other| other == address.ip) {
                self.stop_listening_at(address.ip);
            }
        }
    }

    /// Those that are there.
    fn ports(&self) -> impl Iterator<Item = InterfaceId> + use<> {
        let there: Vec<usize> = (0..self.ifindices.len()).filter(|&at| self.ifindices[at] != 0).collect();
        there.into_iter().map(|at| InterfaceId(at as u32))
    }

    fn port(&self, ifindex: u32) -> Option<InterfaceId> {
        let at = self.ifindices.iter().position(|&known| known == ifindex);
        at.map(|at| InterfaceId(at as u32))
    }

    /// One difference of the kernel's state.
    fn apply(&mut self, event: Event) {
        match event {
            Event::LinkChanged(link) => {
                if let Some(port) = self.port(link.ifindex) {
                    self.tell(Update::Mtu(port, link.mtu_bytes as usize));
                }
            }
            Event::AddressAdded(address) => self.address_changed(&address),
            Event::AddressRemoved(address) => self.address_changed(&address),
            Event::RouteChanged(route) => self.route_changed(&route),
            Event::RouteRemoved { prefix, .. } => self.ports().for_each(|port| self.no_route(port, prefix)),
            Event::NeighbourChanged(neighbour) => self.neighbour_changed(&neighbour),
            Event::NeighbourRemoved { ifindex, ip } => {
                if let Some(port) = self.port(ifindex) {
                    self.tell(Update::NoNeighbour(port, ip));
                }
            }
            Event::LinkRemoved { .. } | Event::Resynchronised => {}
        }
    }

    /// An address has come, gone, or become usable: what counts is what the interface has now.
    fn address_changed(&mut self, changed: &Address) {
        let Some(port) = self.port(changed.ifindex) else { return };
        let ip = changed.ip;
        let now = self.mirror.addresses().find(|a| a.ifindex == changed.ifindex && a.ip == ip && usable(a));
        let Some(now) = now else {
            self.tell(Update::NoAddress(port, ip));
            if !self.addresses().any(|other| other == ip) {
                self.stop_listening_at(ip);
            }
            return;
        };
        // With a peer the prefix is the peer's.
        let prefix_len = if now.peer.is_some() { host_len(ip) } else { now.prefix_len };
        if let Ok(address) = Cidr::new(ip, prefix_len) {
            self.tell(Update::Address(port, address));
        }
        if let Err(error) = self.listen_at(ip) {
            tracing::warn!(%error, %ip, "cannot listen at a new address");
        }
    }

    fn route_changed(&mut self, route: &Route) {
        self.ports().for_each(|port| self.route_changed_at(port, route));
    }

    fn route_changed_at(&mut self, port: InterfaceId, route: &Route) {
        let Some(&ifindex) = self.ifindices.get(port.0 as usize) else { return };
        let mut hops = route.path.live_next_hops().filter(|hop| hop.ifindex == ifindex && !hop.encapsulated);
        match (route.path.kind, hops.next(), cidr(route.prefix)) {
            (RouteKind::Unicast, Some(hop), Some(prefix)) => {
                self.routes.insert((route.prefix, port));
                self.tell(Update::Route(tailwater_stack::Route { prefix, gateway: hop.gateway, interface: port }));
            }
            _ => self.no_route(port, route.prefix),
        }
    }

    fn no_route(&mut self, port: InterfaceId, prefix: Prefix) {
        if self.routes.remove(&(prefix, port))
            && let Some(prefix) = cidr(prefix)
        {
            self.tell(Update::NoRoute(port, prefix));
        }
    }

    fn neighbour_changed(&mut self, neighbour: &Neighbour) {
        let Some(port) = self.port(neighbour.ifindex) else { return };
        if !self.resolves && neighbour.state != NeighbourState::Permanent {
            return;
        }
        match (neighbour.usable_mac().and_then(|mac| mac.try_into().ok()), neighbour.state) {
            (Some(mac), _) => self.tell(Update::Neighbour(port, neighbour.ip, MacAddress(mac))),
            (None, NeighbourState::Failed) => self.tell(Update::NoNeighbour(port, neighbour.ip)),
            (None, _) => {}
        }
    }

    /// Passes the workers' questions on to the kernel, or answers them from what is known.
    fn answer(&mut self) {
        let mut unknown = Vec::new();
        // Bounded by the queue.
        while let Some((port, ip)) = self.questions.next() {
            let Some(&ifindex) = self.ifindices.get(port.0 as usize) else { continue };
            self.remember(port, ip);
            let known = self.mirror.neighbour(ifindex, ip).filter(|neighbour| neighbour.usable_mac().is_some());
            match known.cloned() {
                Some(neighbour) => self.neighbour_changed(&neighbour),
                None => unknown.push((port, ifindex, ip)),
            }
        }
        self.use_neighbours(&unknown);
    }

    fn remember(&mut self, port: InterfaceId, ip: IpAddr) {
        if !self.kept.contains(&(port, ip)) {
            if self.kept.len() == KEPT_MAX {
                self.kept.pop_front();
            }
            self.kept.push_back((port, ip));
        }
    }

    /// Has the kernel check the neighbours in use that it has not heard of lately.
    fn keep(&mut self) {
        let mut stale = Vec::new();
        for &(port, ip) in &self.kept {
            let Some(&ifindex) = self.ifindices.get(port.0 as usize) else { continue };
            if self.mirror.neighbour(ifindex, ip).is_some_and(|known| known.state == NeighbourState::Stale) {
                stale.push((port, ifindex, ip));
            }
        }
        self.use_neighbours(&stale);
    }

    fn use_neighbours(&mut self, wanted: &[(InterfaceId, u32, IpAddr)]) {
        if wanted.is_empty() {
            return;
        }
        let request: Vec<(u32, IpAddr)> = wanted.iter().map(|&(_, ifindex, ip)| (ifindex, ip)).collect();
        match self.control.use_neighbours(&request) {
            Ok(verdicts) => {
                for (&(port, _, ip), _) in wanted.iter().zip(verdicts).filter(|(_, verdict)| verdict.is_err()) {
                    self.tell(Update::NoNeighbour(port, ip));
                }
            }
            // The stack asks again in a second.
            Err(error) => tracing::warn!(%error, "cannot ask the kernel for neighbours"),
        }
    }

    fn listen_at(&mut self, address: IpAddr) -> Result<(), tailwater_xdp::Error> {
        let Some(shared) = &self.shared else { return Ok(()) };
        if self.registered.insert(address) {
            for listener in wildcards(&self.listeners, address) {
                shared.listeners().insert(listener.transport, listener.at)?;
            }
        }
        Ok(())
    }

    fn stop_listening_at(&mut self, address: IpAddr) {
        let Some(shared) = &self.shared else { return };
        if self.registered.remove(&address) {
            for listener in wildcards(&self.listeners, address) {
                if let Err(error) = shared.listeners().remove(listener.transport, listener.at) {
                    tracing::warn!(%error, %listener, "cannot leave a listener to the kernel again");
                }
            }
        }
    }

    fn tell(&mut self, update: Update) {
        self.backlog.iter_mut().for_each(|backlog| backlog.push_back(update));
    }

    /// Whether a worker has yet to take so many changes that further ones have to wait.
    fn lags(&self) -> bool {
        self.backlog.iter().any(|backlog| backlog.len() >= BACKLOG_MAX)
    }

    /// Moves changes into the mailboxes; whether all went.
    fn deliver(&mut self) -> bool {
        let mut all = true;
        for (backlog, mailbox) in self.backlog.iter_mut().zip(self.mailboxes.iter()) {
            let any = !backlog.is_empty();
            while let Some(update) = backlog.pop_front() {
                if let Err(update) = mailbox.updates.push(update) {
                    backlog.push_front(update);
                    all = false;
                    break;
                }
            }
            if any {
                mailbox.wake();
            }
        }
        all
    }
}

/// Listeners at the unspecified address, as seen at `address`.
fn wildcards(listeners: &[Listener], address: IpAddr) -> impl Iterator<Item = Listener> {
    listeners.iter().filter_map(move |listener| listener.seen_at(address))
}

/// RFC 4862 §5.4: not before duplicate address detection has finished, and never if it found another owner.
fn usable(address: &Address) -> bool {
    !address.tentative && !address.duplicate
}

fn host_len(ip: IpAddr) -> u8 {
    if ip.is_ipv4() { 32 } else { 128 }
}

fn cidr(prefix: Prefix) -> Option<Cidr> {
    Cidr::new(prefix.address(), prefix.length()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tailwater_lab::Lab;

    #[test]
    fn more_routes_than_may_wait_keep_no_change_from_a_worker_that_empties_its_mailbox() {
        const ROUTES: usize = 40_000;
        let lab = Lab::pair(1, 1500).unwrap();
        let dut = lab.dut();
        let others: Vec<String> = (1..8).map(|n| format!("p{n}")).collect();
        let mut lines: String =
            others.iter().map(|p| format!("link add {p} type veth peer name {p}x\nlink set {p} up\n")).collect();
        lines.extend((0..ROUTES).map(|n| format!("route add 20.0.{}.{}/32 dev d0\n", n / 256, n % 256)));
        dut.ip_batch(&lines).unwrap();
        let ports = std::iter::once("d0").chain(others.iter().map(String::as_str));
        let ifindices = ports.map(|port| dut.interface_index(port).unwrap()).collect();
        let (mailboxes, questions): (Arc<[Mailbox]>, _) =
            ([Mailbox::new()].into(), Arc::new(Questions::new().unwrap()));
        let open = || Follower::open(ifindices, false, Arc::clone(&mailboxes), Arc::clone(&questions), Vec::new());
        let follower = dut.enter(open).unwrap().unwrap();
        let thread = std::thread::spawn(move || follower.run());
        dut.ip("address add 10.9.0.1/24 dev p7").unwrap();
        let is_ours = |prefix: &Cidr| prefix.to_string().starts_with("20.0.");
        let (mut known, mut has_address) = (BTreeSet::new(), false);
        let end = Instant::now() + Duration::from_secs(60);
        while known.len() < ROUTES || !has_address {
            assert!(Instant::now() < end, "{} routes, address: {has_address}", known.len());
            match mailboxes[0].updates.pop() {
                Some(Update::Route(route)) if is_ours(&route.prefix) => {
                    known.insert(route.prefix.to_string());
                }
                Some(Update::NoRoute(port, prefix)) => panic!("{prefix} was never at {port:?}"),
                Some(Update::Address(_, address)) => has_address |= address.to_string().starts_with("10.9.0.1"),
                Some(_) => {}
                None => std::thread::sleep(Duration::from_millis(1)),
            }
        }
        // What was there goes, where it was.
        dut.ip("route del 20.0.0.7/32 dev d0").unwrap();
        let gone = std::iter::from_fn(|| {
            assert!(Instant::now() < end);
            std::thread::sleep(Duration::from_millis(1));
            Some(mailboxes[0].updates.pop())
        });
        let gone = gone.flatten().find(|update| matches!(update, Update::NoRoute(..)));
        assert!(
            matches!(gone, Some(Update::NoRoute(InterfaceId(0), prefix)) if prefix.to_string().starts_with("20.0.0.7"))
        );
        questions.stop();
        thread.join().unwrap();
    }
}
