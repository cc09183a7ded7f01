//! The stack: its state, its configuration and its commands.

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::net::IpAddr;

use crate::address::{Cidr, is_source_invalid};
use crate::buffer::Buffer;
use crate::drop_reason::DropReason;
use crate::env::Env;
use crate::event::Event;
use crate::interface::{
    ADDRESSES_MAX, AddressError, GROUPS_MAX, INTERFACES_MAX, Interface, InterfaceConfig, InterfaceId, Station,
};
use crate::ledger::Ledger;
use crate::neighbour::{Due, NeighbourCache, NeighbourLimits, NeighbourMode, NeighbourState};
use crate::path_mtu::PathMtus;
use crate::ports::LocalPorts;
use crate::rate_limit::{RateLimit, TokenBucket};
use crate::reassembly::{Gone, Reassembly, ReassemblyLimits};
use crate::route::{Route, RouteTable, RoutesFull};
use crate::sockets::UdpSockets;
use crate::tcp::{Tcp, TcpConfig};
use crate::time::{Instant, earliest};
use crate::wire::ethernet::MacAddress;

/// Identifiers of echo requests awaited at the same time.
pub const ECHO_IDENTS_MAX: usize = 64;

/// Bounds and defaults of a [`Stack`].
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// TTL and hop limit of what we send.
    pub hop_limit: u8,
    pub neighbours: NeighbourLimits,
    pub reassembly: ReassemblyLimits,
    /// ICMP errors sent.
    pub icmp_errors: RateLimit,
    /// Path MTUs remembered.
    pub path_mtus_max: usize,
    /// UDP sockets open.
    pub sockets_max: usize,
    /// Events waiting for [`Stack::poll_event`].
    pub events_max: usize,
    /// What is opened without a local port gets one of these.
    pub local_ports: LocalPorts,
    pub tcp: TcpConfig,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            hop_limit: 64,
            neighbours: NeighbourLimits::default(),
            reassembly: ReassemblyLimits::default(),
            icmp_errors: RateLimit::default(),
            path_mtus_max: 1_024,
            sockets_max: 65_536,
            events_max: 256,
            local_ports: LocalPorts::DYNAMIC,
            tcp: TcpConfig::default(),
        }
    }
}

/// IP, ICMP, neighbours, UDP and TCP of one host or one worker of it, without any I/O.
///
/// # Events in
/// - [`ingest`](Self::ingest): a frame was received.
/// - [`on_timeout`](Self::on_timeout): the time of [`poll_timeout`](Self::poll_timeout) has come.
/// - [`set_neighbour`](Self::set_neighbour), [`remove_neighbour`](Self::remove_neighbour): somebody
///   else resolved (or lost) a neighbour.
/// - [`confirm_neighbour`](Self::confirm_neighbour): a layer above saw the neighbour make progress.
///
/// # Commands
/// - [`add_interface`](Self::add_interface), [`set_interface`](Self::set_interface),
///   [`remove_interface`](Self::remove_interface),
///   [`set_mtu`](Self::set_mtu), [`add_address`](Self::add_address),
///   [`remove_address`](Self::remove_address), [`join_group`](Self::join_group),
///   [`leave_group`](Self::leave_group), [`add_route`](Self::add_route),
///   [`remove_route`](Self::remove_route)
/// - [`announce`](Self::announce): tell the link about an address of ours.
/// - [`udp_bind`](Self::udp_bind), [`udp_bind_ephemeral`](Self::udp_bind_ephemeral),
///   [`udp_close`](Self::udp_close), [`udp_send`](Self::udp_send), [`udp_reply`](Self::udp_reply)
/// - [`echo_open`](Self::echo_open), [`echo_request`](Self::echo_request),
///   [`echo_close`](Self::echo_close)
/// - [`tcp_listen`](Self::tcp_listen), [`tcp_connect`](Self::tcp_connect),
///   [`tcp_send`](Self::tcp_send), [`tcp_receive`](Self::tcp_receive), [`tcp_read`](Self::tcp_read),
///   [`tcp_shutdown`](Self::tcp_shutdown), [`tcp_close`](Self::tcp_close),
///   [`tcp_abort`](Self::tcp_abort)
///
/// # Outputs
/// - The [`Verdict`](crate::Verdict) of `ingest`: datagrams and echo replies, in place.
/// - [`Env::transmit`], called by any of the above that takes an `env`.
/// - [`tcp_poll`](Self::tcp_poll): what happened to connections; ask after each burst.
/// - [`poll_event`](Self::poll_event): what else there is to tell; ask after each burst.
/// - [`poll_timeout`](Self::poll_timeout): when to call `on_timeout`; ask after each burst.
/// - [`ledger`](Self::ledger), [`held`](Self::held), [`neighbours`](Self::neighbours), …: state.
///
/// A worker's turn: `ingest` each frame of the burst and act on its verdict, `on_timeout` if it is
/// time, `poll_event` until there is none, send what `transmit` collected.
pub struct Stack<B: Buffer> {
    pub(crate) config: Config,
    seed: u64,
    pub(crate) interfaces: Vec<Option<Interface<B>>>,
    pub(crate) routes: RouteTable,
    pub(crate) sockets: UdpSockets,
    pub(crate) tcp: Tcp<B>,
    pub(crate) echo_idents: Vec<u16>,
    pub(crate) reassembly: Reassembly<B>,
    pub(crate) path_mtus: PathMtus,
    pub(crate) icmp_errors: TokenBucket,
    pub(crate) events: EventQueue,
    pub(crate) ledger: Ledger,
}

/// Bounded; when full, new events are lost and counted.
pub(crate) struct EventQueue {
    events: VecDeque<Event>,
    events_max: usize,
    lost: u64,
}

impl EventQueue {
    pub(crate) fn push(&mut self, event: Event) {
        if self.events.len() < self.events_max {
            self.events.push_back(event);
        } else {
            self.lost += 1;
        }
    }
}

impl<B: Buffer> Stack<B> {
    /// `seed`: random, so that nobody can predict how tables are laid out.
    pub fn new(config: Config, seed: u64) -> Self {
        Self {
            config,
            seed,
            interfaces: Vec::new(),
            routes: RouteTable::default(),
            sockets: UdpSockets::new(config.sockets_max, seed),
            tcp: Tcp::new(config.tcp, seed),
            echo_idents: Vec::new(),
            reassembly: Reassembly::new(config.reassembly),
            path_mtus: PathMtus::new(config.path_mtus_max, seed),
            icmp_errors: TokenBucket::new(config.icmp_errors),
            events: EventQueue { events: VecDeque::new(), events_max: config.events_max, lost: 0 },
            ledger: Ledger::default(),
        }
    }

    // ---- interfaces, addresses, routes ------------------------------------------------------

    pub fn add_interface(&mut self, config: InterfaceConfig) -> InterfaceId {
        let id = InterfaceId(self.interfaces.len() as u32);
        self.place_interface(id, config);
        id
    }

    /// Makes an interface of this number, which has none; those below it that are missing stay away. Refused where there
    /// is one, and for a number beyond [`INTERFACES_MAX`].
    pub fn set_interface(&mut self, id: InterfaceId, config: InterfaceConfig) -> bool {
        let at = id.0 as usize;
        if at >= INTERFACES_MAX || self.interfaces.get(at).is_some_and(Option::is_some) {
            return false;
        }
        self.place_interface(id, config);
        true
    }

    fn place_interface(&mut self, id: InterfaceId, config: InterfaceConfig) {
        let station = Station { id, config, addresses: Vec::new(), groups: Vec::new() };
        let neighbours = NeighbourCache::new(self.config.neighbours, self.seed.rotate_left(id.0));
        let at = id.0 as usize;
        if self.interfaces.len() <= at {
            self.interfaces.resize_with(at + 1, || None);
        }
        self.interfaces[at] = Some(Interface { station, neighbours });
        self.tcp.forget_recognized();
    }

    /// Forgets the interface with its addresses, neighbours and routes.
    pub fn remove_interface<E: Env<Buffer = B>>(&mut self, id: InterfaceId, env: &mut E) {
        let Some(mut interface) = self.interfaces.get_mut(id.0 as usize).and_then(Option::take) else {
            return;
        };
        let Self { ledger, reassembly, routes, .. } = self;
        for packet in interface.neighbours.drain() {
            ledger.discard(env, packet, DropReason::InterfaceRemoved);
        }
        reassembly.remove_interface(id, |gone| end_fragment(ledger, env, gone));
        routes.remove_interface(id);
        self.tcp.forget_recognized();
    }

    /// Whether the interface exists.
    pub fn set_mtu(&mut self, id: InterfaceId, mtu: usize) -> bool {
        let Some(interface) = self.interface_mut(id) else { return false };
        interface.station.config.mtu = mtu;
        self.routes.outdate();
        true
    }

    /// Gives the interface an address, and a route to the prefix that comes with it.
    pub fn add_address(&mut self, id: InterfaceId, address: Cidr) -> Result<(), AddressError> {
        let ip = address.address();
        if ip.is_unspecified() || is_source_invalid(ip) {
            return Err(AddressError::Kind);
        }
        let interface = self.interface_mut(id).ok_or(AddressError::InterfaceUnknown)?;
        let addresses = &mut interface.station.addresses;
        addresses.retain(|own| own.address() != ip);
        if addresses.len() >= ADDRESSES_MAX {
            return Err(AddressError::Full);
        }
        addresses.push(address);
        self.tcp.forget_recognized();
        let connected = Route { prefix: address, gateway: None, interface: id };
        self.routes.add(connected).map_err(|RoutesFull| AddressError::Full)
    }

    /// Takes the address away, with the route that came with it.
    pub fn remove_address(&mut self, id: InterfaceId, address: IpAddr) -> bool {
        let Some(interface) = self.interface_mut(id) else { return false };
        let addresses = &mut interface.station.addresses;
        let Some(at) = addresses.iter().position(|own| own.address() == address) else {
            return false;
        };
        let removed = addresses.swap_remove(at);
        let shared = addresses.iter().any(|own| own.network() == removed.network());
        self.tcp.forget_recognized();
        if !shared {
            self.routes.remove(removed, id);
        }
        true
    }

    /// Accepts packets to a multicast group. Nobody is told (see DEVIATIONS.md).
    pub fn join_group(&mut self, id: InterfaceId, group: IpAddr) -> Result<(), AddressError> {
        if !group.is_multicast() {
            return Err(AddressError::Kind);
        }
        let interface = self.interface_mut(id).ok_or(AddressError::InterfaceUnknown)?;
        let groups = &mut interface.station.groups;
        if groups.contains(&group) {
            return Ok(());
        }
        if groups.len() >= GROUPS_MAX {
            return Err(AddressError::Full);
        }
        groups.push(group);
        Ok(())
    }

    pub fn leave_group(&mut self, id: InterfaceId, group: IpAddr) {
        if let Some(interface) = self.interface_mut(id) {
            interface.station.groups.retain(|&joined| joined != group);
        }
    }

    /// A route to the same prefix over the same interface is replaced.
    pub fn add_route(&mut self, route: Route) -> Result<(), RoutesFull> {
        self.routes.add(route)
    }

    pub fn remove_route(&mut self, prefix: Cidr, interface: InterfaceId) -> bool {
        self.routes.remove(prefix, interface)
    }

    // ---- neighbours -------------------------------------------------------------------------

    /// Fixes the MAC of a neighbour and sends what waited for it; `false` if the table is full.
    pub fn set_neighbour<E: Env<Buffer = B>>(
        &mut self,
        id: InterfaceId,
        address: IpAddr,
        mac: MacAddress,
        env: &mut E,
    ) -> bool {
        let now = env.now();
        let Some(pending) = self.interface_mut(id).and_then(|i| i.neighbours.set_fixed(address, mac, now)) else {
            return false;
        };
        self.send_pending(id, mac, pending, env);
        true
    }

    /// Forgets a neighbour and drops what waited for it.
    pub fn remove_neighbour<E: Env<Buffer = B>>(&mut self, id: InterfaceId, address: IpAddr, env: &mut E) {
        let pending = self.interface_mut(id).map(|i| i.neighbours.remove(address));
        for packet in pending.into_iter().flatten() {
            self.ledger.discard(env, packet, DropReason::NeighbourUnreachable);
        }
    }

    /// RFC 4861 §7.3.1: a layer above got an answer through this neighbour.
    pub fn confirm_neighbour<E: Env<Buffer = B>>(&mut self, id: InterfaceId, address: IpAddr, env: &mut E) {
        let (now, random) = (env.now(), env.random());
        if let Some(interface) = self.interface_mut(id) {
            interface.neighbours.confirm(address, now, random);
        }
    }

    /// Tells everybody on the link where an address of ours is, after it moved here
    /// (RFC 5227 §2.3, RFC 4861 §7.2.6).
    pub fn announce<E: Env<Buffer = B>>(
        &mut self,
        id: InterfaceId,
        address: IpAddr,
        env: &mut E,
    ) -> Result<(), DropReason> {
        let Self { interfaces, ledger, .. } = self;
        let interface = interfaces.get(id.0 as usize).and_then(Option::as_ref);
        let station = &interface.ok_or(DropReason::InterfaceUnknown)?.station;
        if !station.has(address) {
            return Err(DropReason::NoSource);
        }
        let mut buffer = ledger.allocate(env).ok_or(DropReason::NoBuffer)?;
        let written = match address {
            IpAddr::V4(address) => station.arp_announcement(address, &mut buffer),
            IpAddr::V6(address) => station.ndp_announcement(address, &mut buffer),
        };
        match written {
            Ok(()) => ledger.transmit(env, id, buffer),
            Err(reason) => ledger.discard(env, buffer, reason),
        }
        written
    }

    // ---- time -------------------------------------------------------------------------------

    /// When [`on_timeout`](Self::on_timeout) has something to do; `None`: not before another event.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let neighbours = self.interfaces.iter().flatten().map(|i| i.neighbours.next_deadline());
        let own = earliest(self.reassembly.next_deadline(), self.tcp.next_deadline());
        neighbours.fold(own, earliest)
    }

    /// Whether [`on_timeout`](Self::on_timeout) may have something to do now: a cheaper question than when it will have.
    #[inline]
    pub fn may_be_due(&self, now: Instant) -> bool {
        let due = |deadline: Option<Instant>| deadline.is_some_and(|deadline| deadline <= now);
        let mut neighbours = self.interfaces.iter().flatten().map(|i| i.neighbours.next_deadline());
        self.tcp.may_be_due(now) || due(self.reassembly.next_deadline()) || neighbours.any(due)
    }

    /// Does what is due. Calling it early is harmless.
    pub fn on_timeout<E: Env<Buffer = B>>(&mut self, env: &mut E) {
        let now = env.now();
        let Self { interfaces, ledger, events, .. } = self;
        for Interface { station, neighbours } in interfaces.iter_mut().flatten() {
            neighbours.on_timeout(now, |due| match due {
                Due::Ask(address, mac) => station.ask(address, mac, env, ledger, events),
                Due::Failed(address, pending) => {
                    for packet in pending {
                        ledger.discard(env, packet, DropReason::NeighbourUnreachable);
                    }
                    events.push(Event::NeighbourFailed { interface: station.id, address });
                }
            });
        }
        self.expire_fragments(env);
        self.on_tcp_timeout(env);
    }

    // ---- outputs ----------------------------------------------------------------------------

    /// Whether [`tcp_poll`](Self::tcp_poll) and [`poll_event`](Self::poll_event) have nothing, and
    /// [`end_burst`](Self::end_burst) has nothing to send.
    #[inline]
    pub fn is_quiet(&self) -> bool {
        self.tcp.is_quiet() && self.events.events.is_empty()
    }

    /// Whether [`poll_event`](Self::poll_event) has something.
    #[inline]
    pub fn has_events(&self) -> bool {
        !self.events.events.is_empty()
    }

    #[inline]
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.events.pop_front()
    }

    /// Events lost because nobody polled.
    pub fn events_lost(&self) -> u64 {
        self.events.lost
    }

    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Packets inside: fragments, what waits for neighbours, what TCP keeps.
    pub fn held(&self) -> usize {
        let waiting: usize = self.interfaces.iter().flatten().map(|i| i.neighbours.pending_len()).sum();
        waiting + self.reassembly.buffers() + self.tcp.held()
    }

    /// Known neighbours of an interface, in no order.
    pub fn neighbours(&self, id: InterfaceId) -> impl Iterator<Item = (IpAddr, Option<MacAddress>, NeighbourState)> {
        self.interface(id).into_iter().flat_map(|interface| interface.neighbours.iter())
    }

    pub fn addresses(&self, id: InterfaceId) -> &[Cidr] {
        self.interface(id).map(|interface| &*interface.station.addresses).unwrap_or_default()
    }

    pub fn routes(&self) -> impl Iterator<Item = &Route> {
        self.routes.iter()
    }

    /// Largest packet that gets to `destination` through an interface with this MTU.
    pub fn path_mtu(&self, destination: IpAddr, link_mtu: usize, now: Instant) -> usize {
        self.path_mtus.get(destination, link_mtu, now)
    }

    // ---- inside -----------------------------------------------------------------------------

    pub(crate) fn interface(&self, id: InterfaceId) -> Option<&Interface<B>> {
        self.interfaces.get(id.0 as usize)?.as_ref()
    }

    pub(crate) fn interface_mut(&mut self, id: InterfaceId) -> Option<&mut Interface<B>> {
        self.interfaces.get_mut(id.0 as usize)?.as_mut()
    }

    /// Whether any interface has `address`.
    pub(crate) fn is_ours(&self, address: IpAddr) -> bool {
        self.interfaces.iter().flatten().any(|interface| interface.station.has(address))
    }

    /// The interface that a scope id names.
    pub(crate) fn scoped(&self, scope_id: u32) -> Option<InterfaceId> {
        let mut stations = self.interfaces.iter().flatten().map(|interface| &interface.station);
        stations.find(|station| scope_id != 0 && station.config.scope_id == scope_id).map(|station| station.id)
    }
}

impl Station {
    /// Asks who has `address`: everybody, or the station `mac` that had it.
    pub(crate) fn ask<E: Env>(
        &self,
        address: IpAddr,
        mac: Option<MacAddress>,
        env: &mut E,
        ledger: &mut Ledger,
        events: &mut EventQueue,
    ) {
        if self.config.neighbours == NeighbourMode::External {
            events.push(Event::ResolveNeeded { interface: self.id, address });
            return;
        }
        let Some(mut buffer) = ledger.allocate(env) else { return };
        let built = match address {
            IpAddr::V4(address) => self.arp_request(address, mac, &mut buffer),
            IpAddr::V6(address) => self.solicitation(address, mac, &mut buffer),
        };
        match built {
            Ok(()) => ledger.transmit(env, self.id, buffer),
            Err(reason) => ledger.discard(env, buffer, reason),
        }
    }
}

/// Books the end of a fragment's buffer.
pub(crate) fn end_fragment<E: Env>(ledger: &mut Ledger, env: &mut E, gone: Gone<E::Buffer>) {
    match gone {
        Gone::Absorbed(None) => ledger.consumed += 1,
        Gone::Absorbed(Some(spent)) => ledger.release(env, spent),
        Gone::Dropped(buffer, reason) => ledger.discard(env, buffer, reason),
        Gone::FirstTimedOut(buffer) => ledger.discard(env, buffer, DropReason::ReassemblyTimeout),
    }
}
