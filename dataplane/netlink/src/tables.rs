//! The mirrored tables: applies messages of the kernel and notes what differs. No I/O.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;

use netlink_packet_core::DecodeError;

use crate::address::{self, Address, AddressKey};
use crate::doubt::Doubt;
use crate::event::Event;
use crate::link::{self, Link, LinkUpdate};
use crate::mirror::{Counters, Limits};
use crate::neighbour::{self, Neighbour};
use crate::request::{
    RTM_DELADDR, RTM_DELLINK, RTM_DELNEIGH, RTM_DELNEXTHOP, RTM_DELROUTE, RTM_NEWADDR, RTM_NEWLINK, RTM_NEWNEIGH,
    RTM_NEWNEXTHOP, RTM_NEWROUTE,
};
use crate::rib::{Inserted, LinkState, Removed, Rib, RouteChange};
use crate::route_message::{self, RouteUpdate};
use crate::socket::Message;
use crate::stale::Stale;

/// New contents of the small tables while they are listed.
#[derive(Default)]
pub(crate) struct Listing {
    pub(crate) links: BTreeMap<u32, Link>,
    pub(crate) addresses: BTreeMap<AddressKey, Address>,
    pub(crate) neighbours: BTreeMap<(u32, IpAddr), Neighbour>,
    pub(crate) nexthop_ids: Vec<u32>,
}

pub(crate) struct Tables {
    pub(crate) limits: Limits,
    pub(crate) links: BTreeMap<u32, Link>,
    pub(crate) addresses: BTreeMap<AddressKey, Address>,
    pub(crate) neighbours: BTreeMap<(u32, IpAddr), Neighbour>,
    pub(crate) rib: Rib,
    pub(crate) events: VecDeque<Event>,
    pub(crate) stale: Stale,
    pub(crate) doubt: Doubt,
    /// Notifications may still tell of changes from before the last listing of these routes ended.
    pub(crate) catching_up: Stale,
    /// The mirror lacks routes which the kernel has, since [`Limits::routes_max`] was reached.
    routes_refused: bool,
    pub(crate) counters: Counters,
}

impl Tables {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            rib: Rib::new(limits.routes_max),
            limits,
            links: BTreeMap::new(),
            addresses: BTreeMap::new(),
            neighbours: BTreeMap::new(),
            events: VecDeque::new(),
            stale: Stale::NOTHING,
            doubt: Doubt::default(),
            catching_up: Stale::NOTHING,
            routes_refused: false,
            counters: Counters::default(),
        }
    }

    pub(crate) fn next_event(&mut self) -> Option<Event> {
        self.events.pop_front().or_else(|| {
            self.rib.poll_change().map(|change| match change {
                RouteChange::Changed(route) => Event::RouteChanged(route),
                RouteChange::Removed { table, prefix } => Event::RouteRemoved { table, prefix },
            })
        })
    }

    /// One notification.
    pub(crate) fn notified(&mut self, message: Message<'_>) {
        self.counters.notifications += 1;
        if let Err(error) = self.apply(message) {
            self.undecodable(message.kind, &error);
        }
    }

    fn undecodable(&mut self, kind: u16, error: &DecodeError) {
        self.counters.undecodable += 1;
        tracing::warn!(kind, %error, "rtnetlink message not understood");
    }

    fn apply(&mut self, message: Message<'_>) -> Result<(), DecodeError> {
        let payload = message.payload;
        match message.kind {
            RTM_NEWLINK => match link::decode(payload, true, false)? {
                LinkUpdate::Present(link) => self.link_present(*link),
                LinkUpdate::Gone(_) | LinkUpdate::Partial => {}
            },
            RTM_DELLINK => {
                if let LinkUpdate::Gone(ifindex) = link::decode(payload, false, false)? {
                    self.link_gone(ifindex);
                }
            }
            RTM_NEWADDR => {
                if let Some(address) = address::decode(payload)? {
                    self.address_present(address);
                }
            }
            RTM_DELADDR => {
                if let Some(address) = address::decode(payload)? {
                    self.address_gone(&address);
                }
            }
            RTM_NEWNEIGH => {
                if let Some(neighbour) = neighbour::decode(payload)? {
                    self.neighbour_present(neighbour);
                }
            }
            RTM_DELNEIGH => {
                if let Some(neighbour) = neighbour::decode(payload)? {
                    self.neighbour_gone((neighbour.ifindex, neighbour.ip));
                }
            }
            RTM_NEWROUTE => {
                if let Some(route) = self.wanted(route_message::decode(payload)?) {
                    let placement = route_message::placement(message.flags);
                    let ipv4 = route.prefix.is_ipv4();
                    let RouteUpdate { table, prefix, candidate } = route;
                    let inserted = self.rib.insert(table, prefix, candidate, placement);
                    self.count(inserted);
                    // A replacement from before the listing may hit a route it never was about.
                    let misplaced = self.catching_up.routes(ipv4) && inserted == Inserted::Displaced;
                    if misplaced || inserted == Inserted::Doubtful {
                        self.ambiguous(ipv4);
                    }
                }
            }
            RTM_DELROUTE => {
                if let Some(route) = self.wanted(route_message::decode(payload)?) {
                    let ipv4 = route.prefix.is_ipv4();
                    let removed = self.rib.remove(route.table, route.prefix, &route.candidate);
                    // Where routes go during a listing the kernel may skip others, and does not say so: it goes on behind as many
                    // routes of an address (IPv4), or nodes of a table that changed (IPv6), as it had listed, those that went
                    // among them.
                    if self.catching_up.routes(ipv4) || removed == Removed::Doubtful {
                        self.ambiguous(ipv4);
                    }
                }
            }
            RTM_NEWNEXTHOP => {
                if let Some(nexthop) = route_message::decode_nexthop(payload)? {
                    self.rib.set_nexthop(nexthop);
                }
            }
            RTM_DELNEXTHOP => {
                if let Some(nexthop) = route_message::decode_nexthop(payload)? {
                    self.rib.remove_nexthop(nexthop.id);
                    // Groups it was a member of may have gone with it.
                    self.stale.nexthops = true;
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn wanted(&mut self, route: Option<RouteUpdate>) -> Option<RouteUpdate> {
        let route = route.filter(|route| self.limits.tables.contains(&route.table));
        if route.is_none() {
            self.counters.routes_ignored += 1;
        }
        route
    }

    /// A listing of all routes of a family starts.
    pub(crate) fn routes_are_listed(&mut self, ipv4: bool) {
        self.doubt.settle(ipv4);
        self.catching_up.ipv4_routes |= ipv4;
        self.catching_up.ipv6_routes |= !ipv4;
    }

    fn ambiguous(&mut self, ipv4: bool) {
        self.counters.ambiguous += 1;
        self.doubt.cast(ipv4);
    }

    fn count(&mut self, inserted: Inserted) {
        if inserted == Inserted::OverLimit {
            if self.counters.over_limit == 0 {
                tracing::warn!(limit = self.limits.routes_max, "more routes than the mirror may hold");
            }
            self.counters.over_limit += 1;
            self.routes_refused = true;
        }
    }

    /// Called when all notifications have been read: routes refused for want of room are asked for
    /// again once an eighth of the room is free, so that this happens rarely.
    pub(crate) fn caught_up(&mut self) {
        self.catching_up = Stale::NOTHING;
        let max = self.limits.routes_max;
        if self.routes_refused && self.rib.len() <= max - max / 8 {
            self.routes_refused = false;
            self.stale.ipv4_routes = true;
            self.stale.ipv6_routes = true;
        }
    }

    fn link_present(&mut self, link: Link) {
        let old = self.links.get(&link.ifindex);
        if old == Some(&link) {
            return;
        }
        if old.is_none() && self.links.len() >= self.limits.links_max {
            self.counters.over_limit += 1;
            return;
        }
        let was_up = old.map(|old| old.up);
        // The kernel drops the routes over a link that goes down, and tells only of some (IPv4: none).
        if was_up == Some(true) && !link.up {
            self.routes_may_have_gone();
        }
        if was_up == Some(false) && link.up {
            self.next_hops_may_have_returned(link.ifindex);
        }
        self.rib.set_link(link.ifindex, Some(LinkState { up: link.up, carrier: link.carrier }));
        self.links.insert(link.ifindex, link.clone());
        self.events.push_back(Event::LinkChanged(Box::new(link)));
    }

    fn link_gone(&mut self, ifindex: u32) {
        let Some(link) = self.links.remove(&ifindex) else { return };
        self.rib.set_link(ifindex, None);
        self.routes_may_have_gone();
        // Its peer or the links on top of it may have changed with it.
        self.stale.links = true;
        self.stale.addresses = true;
        self.stale.neighbours = true;
        self.events.push_back(Event::LinkRemoved { ifindex, name: link.name });
    }

    fn routes_may_have_gone(&mut self) {
        self.stale.nexthops = true;
        self.stale.ipv4_routes = true;
        self.stale.ipv6_routes = true;
    }

    fn next_hops_may_have_returned(&mut self, ifindex: u32) {
        if self.rib.has_dead_next_hop(ifindex) {
            self.stale.ipv4_routes = true;
            self.stale.ipv6_routes = true;
        }
    }

    fn address_present(&mut self, address: Address) {
        let key = address.key();
        let old = self.addresses.get(&key);
        if old == Some(&address) {
            return;
        }
        if old.is_none() && self.addresses.len() >= self.limits.addresses_max {
            self.counters.over_limit += 1;
            return;
        }
        if old.is_none() {
            self.next_hops_may_have_returned(address.ifindex);
        }
        self.addresses.insert(key, address.clone());
        self.events.push_back(Event::AddressAdded(address));
    }

    fn address_gone(&mut self, address: &Address) {
        // With an address go, unsaid, IPv4 routes which prefer it as source, and with the last IPv4
        // address of a link all its IPv4 routes; IPv6 routes lose their preferred source. An IPv6 address
        // may go before the kernel came round to announcing it: that it is unknown means nothing.
        self.stale.ipv4_routes |= address.ip.is_ipv4();
        self.stale.ipv6_routes |= address.ip.is_ipv6();
        if let Some(address) = self.addresses.remove(&address.key()) {
            self.events.push_back(Event::AddressRemoved(address));
        }
    }

    fn neighbour_present(&mut self, neighbour: Neighbour) {
        let key = (neighbour.ifindex, neighbour.ip);
        let old = self.neighbours.get(&key);
        if old == Some(&neighbour) {
            return;
        }
        if old.is_none() && self.neighbours.len() >= self.limits.neighbours_max {
            self.counters.over_limit += 1;
            return;
        }
        self.neighbours.insert(key, neighbour.clone());
        self.events.push_back(Event::NeighbourChanged(neighbour));
    }

    fn neighbour_gone(&mut self, key: (u32, IpAddr)) {
        if self.neighbours.remove(&key).is_some() {
            let (ifindex, ip) = key;
            self.events.push_back(Event::NeighbourRemoved { ifindex, ip });
        }
    }

    /// One entry of a listing of links, addresses, neighbours or nexthop objects.
    pub(crate) fn listed(&mut self, message: Message<'_>, listing: &mut Listing) {
        let payload = message.payload;
        let outcome = match message.kind {
            RTM_NEWLINK => link::decode(payload, true, false).map(|update| {
                if let LinkUpdate::Present(link) = update {
                    listing.links.insert(link.ifindex, *link);
                }
            }),
            RTM_NEWADDR => address::decode(payload).map(|address| {
                listing.addresses.extend(address.map(|address| (address.key(), address)));
            }),
            RTM_NEWNEIGH => neighbour::decode(payload).map(|neighbour| {
                listing.neighbours.extend(neighbour.map(|n| ((n.ifindex, n.ip), n)));
            }),
            RTM_NEWNEXTHOP => route_message::decode_nexthop(payload).map(|nexthop| {
                if let Some(nexthop) = nexthop {
                    listing.nexthop_ids.push(nexthop.id);
                    self.rib.set_nexthop(nexthop);
                }
            }),
            _ => Ok(()),
        };
        if let Err(error) = outcome {
            self.undecodable(message.kind, &error);
        }
    }

    /// One entry of a listing of routes. Returns how many the kernel counts it for.
    pub(crate) fn route_listed(&mut self, message: Message<'_>) -> usize {
        match route_message::decode(message.payload).map(|route| self.wanted(route)) {
            Ok(Some(RouteUpdate { table, prefix, candidate })) => {
                let routes = candidate.routes(prefix.is_ipv4());
                let inserted = self.rib.dumped(table, prefix, candidate);
                self.count(inserted);
                routes
            }
            Ok(None) => 1,
            Err(error) => {
                self.undecodable(message.kind, &error);
                1
            }
        }
    }

    pub(crate) fn links_listed(&mut self, links: BTreeMap<u32, Link>) {
        for ifindex in missing(&self.links, &links) {
            self.link_gone(ifindex);
        }
        links.into_values().for_each(|link| self.link_present(link));
    }

    pub(crate) fn addresses_listed(&mut self, addresses: BTreeMap<AddressKey, Address>) {
        for key in missing(&self.addresses, &addresses) {
            if let Some(address) = self.addresses.get(&key).cloned() {
                self.address_gone(&address);
            }
        }
        addresses.into_values().for_each(|address| self.address_present(address));
    }

    pub(crate) fn neighbours_listed(&mut self, neighbours: BTreeMap<(u32, IpAddr), Neighbour>) {
        for key in missing(&self.neighbours, &neighbours) {
            self.neighbour_gone(key);
        }
        neighbours.into_values().for_each(|neighbour| self.neighbour_present(neighbour));
    }

    pub(crate) fn nexthops_listed(&mut self, ids: &[u32]) {
        for id in self.rib.nexthop_ids() {
            if !ids.contains(&id) {
                self.rib.remove_nexthop(id);
            }
        }
    }
}

fn missing<K: Ord + Copy, V>(old: &BTreeMap<K, V>, new: &BTreeMap<K, V>) -> Vec<K> {
    old.keys().filter(|key| !new.contains_key(key)).copied().collect()
}
