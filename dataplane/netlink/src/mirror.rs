//! A live copy of the kernel's links, addresses, neighbours and routes.
//!
//! Subscribe first, list second: every change from then on is in the notification queue, so a listing
//! followed by the queued notifications in order ends at the kernel's state, whatever happened between.
//!
//! ```text
//!             requests socket                       notifications socket (large buffer)
//!   open ---> list links, addresses,          <---- subscribed before the first listing
//!             neighbours, nexthops, routes
//!                   |                                        |
//!                   v                                        v
//!             +-------------------- tables + RIB ---------------------+---> events, differences only
//!                   ^                                        |
//!                   +---- list again, and tell only differences, when the queue overflowed (ENOBUFS)
//!                         or the kernel dropped routes without saying so (link down, address gone);
//!                         later, when a change leaves routes in doubt (`doubt`)
//! ```

use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use netlink_packet_route::AddressFamily;

use crate::address::Address;
use crate::error::Result;
use crate::event::Event;
use crate::link::Link;
use crate::neighbour::Neighbour;
use crate::request;
use crate::route::{Route, TABLE_LOCAL, TABLE_MAIN};
use crate::route_count::RouteCount;
use crate::socket::{Dump, Netlink, Received};
use crate::stale::Stale;
use crate::tables::{Listing, Tables};

/// Bounds of a mirror. What exceeds them is counted in [`Counters::over_limit`] and left out; what is
/// mirrored already stays. Routes left out are asked for again once an eighth of the room is free.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Routes of both families together, all candidates for a prefix counted. About 250 bytes each at
    /// the peak, measured with 200,000.
    pub routes_max: usize,
    pub links_max: usize,
    pub addresses_max: usize,
    pub neighbours_max: usize,
    /// Notifications the kernel may queue, in bytes of its own accounting (about 1 KiB each). Capped by
    /// `net.core.rmem_max` without `CAP_NET_ADMIN`. Too small costs extra listings, never correctness.
    pub receive_buffer_bytes: usize,
    /// How often one table is listed again when it changed while it was listed, before what came is
    /// taken as it is.
    pub listing_attempts_max: u32,
    /// Routing tables to mirror. VRFs and policy rules are not interpreted: the reader decides which
    /// table answers which packet.
    pub tables: Vec<u32>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            routes_max: 2_000_000,
            links_max: 65_536,
            addresses_max: 65_536,
            neighbours_max: 262_144,
            receive_buffer_bytes: 32 * 1024 * 1024,
            listing_attempts_max: 16,
            tables: vec![TABLE_LOCAL, TABLE_MAIN],
        }
    }
}

/// What happened to a mirror since it was opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counters {
    /// Notifications received.
    pub notifications: u64,
    /// Times the kernel dropped notifications because the receive buffer was full.
    pub overflows: u64,
    /// Listings of one table each.
    pub listings: u64,
    /// Listings repeated because the table changed meanwhile.
    pub listings_interrupted: u64,
    /// Listings taken although the table changed during each attempt.
    pub listings_unsettled: u64,
    /// Messages which could not be taken apart; logged as warnings.
    pub undecodable: u64,
    /// Entries left out because of [`Limits`].
    pub over_limit: u64,
    /// Routes of tables not mirrored, source-specific routes, cached clones.
    pub routes_ignored: u64,
    /// Changes of routes which called for another listing, see the sources of `tables` and `siblings`.
    pub ambiguous: u64,
}

/// Follows the network namespace of the thread which opened it, for good.
///
/// Output: [`Mirror::try_next`], [`Mirror::next`]; to wait for several things at once, poll
/// [`AsFd::as_fd`] for reading after `try_next` returned `None`, for [`Mirror::listing_due_in`] at most.
/// The reader sees the present state as a first series of events which ends with [`Event::Resynchronised`].
pub struct Mirror {
    notifications: Netlink,
    requests: Netlink,
    ipv6_routes: RouteCount,
    tables: Tables,
    /// A listing's differences have not all been told.
    resynchronising: bool,
}

impl Mirror {
    /// Subscribes and lists all tables. Needs no privilege, but see [`Limits::receive_buffer_bytes`].
    ///
    /// # Errors
    /// [`crate::Error::Socket`], [`crate::Error::Refused`], [`crate::Error::NoAnswer`].
    pub fn open(limits: Limits) -> Result<Self> {
        let notifications = Netlink::open(&request::GROUPS, limits.receive_buffer_bytes)?;
        let requests = Netlink::open(&[], REQUEST_BUFFER_BYTES)?;
        let tables = Tables::new(limits);
        let ipv6_routes = RouteCount::open();
        let mut mirror = Self { notifications, requests, ipv6_routes, tables, resynchronising: false };
        mirror.list(Stale::EVERYTHING)?;
        Ok(mirror)
    }

    /// The next difference, if one is known without waiting. May list tables anew, which for a million
    /// routes takes some seconds.
    ///
    /// # Errors
    /// As [`Mirror::open`]. The mirror stays usable; the next call tries again.
    pub fn try_next(&mut self) -> Result<Option<Event>> {
        loop {
            if let Some(event) = self.tables.next_event() {
                return Ok(Some(event));
            }
            if std::mem::take(&mut self.resynchronising) {
                return Ok(Some(Event::Resynchronised));
            }
            match self.notifications.receive()? {
                Received::Datagram(length) => {
                    for message in self.notifications.messages(length) {
                        self.tables.notified(message);
                    }
                }
                Received::Overflow => self.recover()?,
                Received::Empty => {
                    self.tables.caught_up();
                    let stale = self.tables.stale | self.tables.doubt.due(Instant::now());
                    if stale == Stale::NOTHING {
                        return Ok(None);
                    }
                    self.list(stale)?;
                }
            }
        }
    }

    /// The next difference, waiting up to `timeout` for it (`None`: for ever). `None` when time ran out.
    ///
    /// # Errors
    /// As [`Mirror::try_next`].
    pub fn next(&mut self, timeout: Option<Duration>) -> Result<Option<Event>> {
        let deadline = timeout.map(|timeout| Instant::now() + timeout);
        loop {
            if let Some(event) = self.try_next()? {
                return Ok(Some(event));
            }
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                return Ok(None);
            }
            self.notifications.wait(left.into_iter().chain(self.listing_due_in()).min())?;
        }
    }

    /// How long until [`Mirror::try_next`] has something to do though nothing can be read: routes which a change left
    /// in doubt are listed again, but for no more than a tenth of the time. `None` when none are in doubt.
    pub fn listing_due_in(&self) -> Option<Duration> {
        self.tables.doubt.due_in(Instant::now())
    }

    pub fn counters(&self) -> Counters {
        self.tables.counters
    }

    /// What the kernel granted of [`Limits::receive_buffer_bytes`], doubled as socket(7) says.
    pub fn receive_buffer_bytes(&self) -> usize {
        self.notifications.receive_buffer_bytes()
    }

    /// Links as of the last event told, in order of interface index.
    pub fn links(&self) -> impl Iterator<Item = &Link> {
        self.tables.links.values()
    }

    pub fn link(&self, ifindex: u32) -> Option<&Link> {
        self.tables.links.get(&ifindex)
    }

    pub fn addresses(&self) -> impl Iterator<Item = &Address> {
        self.tables.addresses.values()
    }

    pub fn neighbours(&self) -> impl Iterator<Item = &Neighbour> {
        self.tables.neighbours.values()
    }

    pub fn neighbour(&self, ifindex: u32, ip: IpAddr) -> Option<&Neighbour> {
        self.tables.neighbours.get(&(ifindex, ip))
    }

    /// The effective best route of every prefix, in order of table and prefix.
    pub fn routes(&self) -> impl Iterator<Item = Route> {
        self.tables.rib.routes()
    }

    /// After an overflow: what is still queued is older than what was lost, so it must go unread. The
    /// kernel queues nothing more until the queue has been empty, so this ends.
    fn recover(&mut self) -> Result<()> {
        self.tables.counters.overflows += 1;
        tracing::warn!("rtnetlink notifications lost; listing all tables again");
        while !matches!(self.notifications.receive()?, Received::Empty) {}
        self.list(Stale::EVERYTHING)
    }

    /// Lists what is stale, in an order in which each table only calls for those after it. On failure
    /// everything not yet listed stays stale.
    fn list(&mut self, what: Stale) -> Result<()> {
        let started = Instant::now();
        self.tables.stale = what;
        self.resynchronising = true;
        // The kernel announces that a link goes down, or an address goes, before it drops their routes, and
        // lists routes without waiting for either. All of it happens under one lock, which asking for a
        // single link takes too: when this is answered, whatever was announced has been done.
        self.requests.execute("wait for the kernel", vec![(request::loopback(), 0)])?;
        if self.tables.stale.links {
            let listing = self.list_small(|| request::links(false), "list links", "links")?;
            self.tables.links_listed(listing.links);
            self.tables.stale.links = false;
        }
        if self.tables.stale.addresses {
            let listing = self.list_small(request::addresses, "list addresses", "addresses")?;
            self.tables.addresses_listed(listing.addresses);
            self.tables.stale.addresses = false;
        }
        if self.tables.stale.neighbours {
            let mut all = Listing::default();
            for family in [AddressFamily::Inet, AddressFamily::Inet6] {
                let request = || request::neighbours(family);
                let listing = self.list_small(request, "list neighbours", "neighbours")?;
                all.neighbours.extend(listing.neighbours);
            }
            self.tables.neighbours_listed(all.neighbours);
            self.tables.stale.neighbours = false;
        }
        if self.tables.stale.nexthops {
            let listing = self.list_small(|| request::Nexthops, "list nexthops", "nexthops")?;
            self.tables.nexthops_listed(&listing.nexthop_ids);
            self.tables.stale.nexthops = false;
        }
        if self.tables.stale.ipv4_routes {
            self.list_routes(AddressFamily::Inet)?;
            self.tables.stale.ipv4_routes = false;
        }
        if self.tables.stale.ipv6_routes {
            self.list_routes(AddressFamily::Inet6)?;
            self.tables.stale.ipv6_routes = false;
        }
        self.tables.doubt.rest(started, Instant::now());
        Ok(())
    }

    fn list_small<M: netlink_packet_core::NetlinkSerializable>(
        &mut self,
        request: impl Fn() -> M,
        doing: &'static str,
        table: &'static str,
    ) -> Result<Listing> {
        let mut listing = Listing::default();
        for attempt in 1.. {
            listing = Listing::default();
            let tables = &mut self.tables;
            tables.counters.listings += 1;
            let dump = self.requests.dump(doing, request(), |message| {
                tables.listed(message, &mut listing);
            })?;
            if self.settled(dump, attempt, table) {
                break;
            }
        }
        Ok(listing)
    }

    fn list_routes(&mut self, family: AddressFamily) -> Result<()> {
        let ipv4 = family == AddressFamily::Inet;
        self.tables.routes_are_listed(ipv4);
        for attempt in 1.. {
            self.tables.rib.begin_dump();
            let dump = if ipv4 { self.dump_routes(family)?.0 } else { self.dump_ipv6_routes()? };
            if self.settled(dump, attempt, "routes") {
                break;
            }
        }
        self.tables.rib.end_dump(ipv4);
        Ok(())
    }

    /// The kernel counts all tables. Where one that is not mirrored has routes (always, for a mirror without the local
    /// table) every listing passes for one that left some out: that costs listings for doubt, never correctness.
    fn dump_ipv6_routes(&mut self) -> Result<Dump> {
        let count = self.ipv6_routes.read();
        let (dump, listed) = self.dump_routes(AddressFamily::Inet6)?;
        let whole = count == Some(listed) && self.ipv6_routes.read() == count;
        self.tables.rib.set_listing_whole(whole);
        Ok(dump)
    }

    /// How it ended, and how many routes the kernel counts what it listed for.
    fn dump_routes(&mut self, family: AddressFamily) -> Result<(Dump, usize)> {
        let (mut outcome, mut listed) = (Dump::Complete, 0);
        for table in self.tables.limits.tables.clone() {
            let tables = &mut self.tables;
            tables.counters.listings += 1;
            let request = request::routes(family, table);
            let dump = self.requests.dump("list routes", request, |message| {
                listed += tables.route_listed(message);
            })?;
            if dump == Dump::Interrupted {
                outcome = dump;
            }
        }
        Ok((outcome, listed))
    }

    /// Whether to take a listing, or to ask for it once more.
    fn settled(&mut self, dump: Dump, attempt: u32, table: &'static str) -> bool {
        if dump != Dump::Interrupted {
            return true;
        }
        let counters = &mut self.tables.counters;
        counters.listings_interrupted += 1;
        let enough = attempt >= self.tables.limits.listing_attempts_max;
        if enough {
            counters.listings_unsettled += 1;
            tracing::warn!(table, attempt, "table changed during every listing");
        }
        enough
    }
}

impl AsFd for Mirror {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.notifications.as_fd()
    }
}

/// Room for the answers to one batch of requests.
pub(crate) const REQUEST_BUFFER_BYTES: usize = 1024 * 1024;

#[cfg(test)]
mod tests;
