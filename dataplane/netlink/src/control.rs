//! Commands for the kernel, and listings on request.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use netlink_packet_core::NLM_F_CREATE;
use netlink_packet_route::neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use crate::address::{self, Address};
use crate::error::{Error, Result};
use crate::group::LinkChange;
use crate::link::{self, Link, LinkUpdate};
use crate::mirror::REQUEST_BUFFER_BYTES;
use crate::names::similar;
use crate::queues::{self, Queues};
use crate::request;
use crate::socket::{Dump, Netlink};

/// Requests in one system call; their acknowledgements fit the request socket's buffer many times.
pub(crate) const BATCH_MAX: usize = 256;
/// Listings of links before the last one is taken although links kept changing.
const LISTING_ATTEMPTS_MAX: u32 = 16;

/// Commands to the kernel in the network namespace of the thread that opened it. Each call returns
/// after the kernel has acted. Changing anything needs `CAP_NET_ADMIN`; listing needs nothing.
///
/// The commands for whole interface groups, and for many links at once, are in `group.rs`.
pub struct Control {
    pub(crate) requests: Netlink,
    /// For listings that are broken off: what is left of one must not hold up the next request.
    pub(crate) glances: Netlink,
}

impl Control {
    /// # Errors
    /// [`Error::Socket`].
    pub fn open() -> Result<Self> {
        Ok(Self {
            requests: Netlink::open(&[], REQUEST_BUFFER_BYTES)?,
            glances: Netlink::open(&[], REQUEST_BUFFER_BYTES)?,
        })
    }

    /// All links of the namespace now, with statistics, in order of interface index.
    ///
    /// # Errors
    /// [`Error::Socket`], [`Error::Refused`], [`Error::NoAnswer`].
    pub fn links(&mut self) -> Result<Vec<Link>> {
        self.list_links(true, |_| true)
    }

    /// All links of the namespace now, in order of interface index, without statistics.
    ///
    /// # Errors
    /// As [`Control::links`].
    pub fn links_now(&mut self) -> Result<Vec<Link>> {
        self.list_links(false, |_| true)
    }

    /// The links whose message `wanted` lets pass, taken apart.
    pub(crate) fn list_links(&mut self, with_stats: bool, wanted: impl Fn(&[u8]) -> bool) -> Result<Vec<Link>> {
        let mut links = BTreeMap::new();
        for _ in 0..LISTING_ATTEMPTS_MAX {
            links.clear();
            let dump = self.requests.dump("list links", request::links(with_stats), |message| {
                if wanted(message.payload)
                    && let Ok(LinkUpdate::Present(link)) = link::decode(message.payload, true, with_stats)
                {
                    links.insert(link.ifindex, *link);
                }
            })?;
            if dump != Dump::Interrupted {
                break;
            }
        }
        Ok(links.into_values().collect())
    }

    /// All addresses of the namespace now, in order of interface index.
    ///
    /// # Errors
    /// As [`Control::links`].
    pub fn addresses(&mut self) -> Result<Vec<Address>> {
        let mut addresses = BTreeMap::new();
        for _ in 0..LISTING_ATTEMPTS_MAX {
            addresses.clear();
            let dump = self.requests.dump("list addresses", request::addresses(), |message| {
                if let Ok(Some(address)) = address::decode(message.payload) {
                    addresses.insert(address.key(), address);
                }
            })?;
            if dump != Dump::Interrupted {
                break;
            }
        }
        Ok(addresses.into_values().collect())
    }

    /// The link with this name or alternative name.
    ///
    /// # Errors
    /// [`Error::NoSuchLink`] with similar names; else as [`Control::links`].
    pub fn link_by_name(&mut self, name: &str) -> Result<Link> {
        find_by_name(&self.links()?, name).cloned()
    }

    /// The links with these names or alternative names, without statistics, in the order of the names; each once.
    ///
    /// # Errors
    /// As [`Control::link_by_name`], for the first name that no link has.
    pub fn links_by_name(&mut self, names: &[String]) -> Result<Vec<Link>> {
        let links = self.links_now()?;
        let mut found: Vec<Link> = Vec::with_capacity(names.len());
        let mut seen = BTreeSet::new();
        for name in names {
            let link = find_by_name(&links, name)?;
            if seen.insert(link.ifindex) {
                found.push(link.clone());
            }
        }
        Ok(found)
    }

    /// Queues in use on a link, from sysfs; where that shows another namespace, the number the link
    /// was made with.
    pub fn queues(&self, link: &Link) -> Queues {
        queues::queues(link).unwrap_or(Queues { rx: link.rx_queues_max, tx: link.tx_queues_max })
    }

    /// Driver of a link: of its hardware, else the kind of virtual link (`veth`), else `None`.
    pub fn driver(&self, link: &Link) -> Option<String> {
        queues::driver(link).or_else(|| link.kind.clone())
    }

    /// Tells the kernel that these neighbours are in use (`NTF_USE`), one verdict each, in order.
    ///
    /// An unknown or failed one is asked for by ARP or neighbour solicitation; a stale one is probed
    /// after `delay_first_probe_time` (5 s); a reachable one is kept from being collected. Never
    /// changes an address, but a permanent entry ceases to be one (the kernel's doing): leave those out. This is the whole of neighbour upkeep for a path that bypasses the kernel,
    /// which sees none of its packets: call it once when a next hop is first needed, and again every
    /// few seconds for those that carried packets. The answer arrives as
    /// [`crate::Event::NeighbourChanged`].
    ///
    /// # Errors
    /// [`Error::Socket`], [`Error::NoAnswer`] for the whole; each verdict is [`Error::Refused`] for its
    /// neighbour (link gone or down, address not of the link's family, or the neighbour table full:
    /// `gc_thresh3`, 1024 entries by default for all namespaces together).
    pub fn use_neighbours(&mut self, neighbours: &[(u32, IpAddr)]) -> Result<Vec<Result<()>>> {
        self.each(
            "use neighbours",
            neighbours,
            |(ifindex, ip)| format!("use neighbour {ip} on interface {ifindex}"),
            |(ifindex, ip)| (use_request(*ifindex, *ip), NLM_F_CREATE),
            &mut |_| {},
        )
    }

    /// Asks the kernel to resolve one neighbour; see [`Control::use_neighbours`].
    ///
    /// # Errors
    /// As there.
    pub fn resolve(&mut self, ifindex: u32, ip: IpAddr) -> Result<()> {
        self.use_neighbours(&[(ifindex, ip)])?.into_iter().collect()
    }

    /// Sets a link administratively up or down.
    ///
    /// # Errors
    /// [`Error::Refused`] where there is no such link or no permission; socket errors.
    pub fn set_link_up(&mut self, ifindex: u32, up: bool) -> Result<()> {
        let change = if up { LinkChange::Up } else { LinkChange::Down };
        self.change_links(&[ifindex], change, &mut |_| {})?.into_iter().collect()
    }

    /// Sets the largest IP packet of a link, in bytes.
    ///
    /// # Errors
    /// As [`Control::set_link_up`]; also where the driver cannot.
    pub fn set_mtu(&mut self, ifindex: u32, mtu_bytes: u32) -> Result<()> {
        self.change_links(&[ifindex], LinkChange::Mtu(mtu_bytes), &mut |_| {})?.into_iter().collect()
    }

    /// Puts a link into an interface group.
    ///
    /// # Errors
    /// As [`Control::set_link_up`].
    pub fn set_group(&mut self, ifindex: u32, group: u32) -> Result<()> {
        self.set_groups(&[ifindex], group, &mut |_| {})?.into_iter().collect()
    }

    /// Sends one request for each item, many in a system call, and returns the verdicts in order. `progress` hears after
    /// each batch how many are done.
    pub(crate) fn each<T>(
        &mut self,
        all: &'static str,
        items: &[T],
        doing: impl Fn(&T) -> String,
        request: impl Fn(&T) -> (RouteNetlinkMessage, u16),
        progress: &mut dyn FnMut(usize),
    ) -> Result<Vec<Result<()>>> {
        self.each_in_batches(BATCH_MAX, all, items, doing, request, progress)
    }

    /// As [`Control::each`], `batch_len` requests in a system call.
    pub(crate) fn each_in_batches<T>(
        &mut self,
        batch_len: usize,
        all: &'static str,
        items: &[T],
        doing: impl Fn(&T) -> String,
        request: impl Fn(&T) -> (RouteNetlinkMessage, u16),
        progress: &mut dyn FnMut(usize),
    ) -> Result<Vec<Result<()>>> {
        let mut verdicts = Vec::with_capacity(items.len());
        for batch in items.chunks(batch_len) {
            let answers = self.requests.execute(all, batch.iter().map(&request).collect())?;
            let told = batch.iter().zip(answers);
            verdicts.extend(told.map(|(item, answer)| answer.map_err(|refusal| Error::refused(doing(item), refusal))));
            progress(verdicts.len());
        }
        Ok(verdicts)
    }
}

fn find_by_name<'a>(links: &'a [Link], name: &str) -> Result<&'a Link> {
    let named = |link: &&Link| link.name == name || link.alternative_names.iter().any(|other| other == name);
    links.iter().find(named).ok_or_else(|| {
        let names = links.iter().flat_map(|link| link.alternative_names.iter().chain([&link.name])).map(String::as_str);
        Error::NoSuchLink { name: name.to_owned(), similar: similar(name, names) }
    })
}

fn use_request(ifindex: u32, ip: IpAddr) -> RouteNetlinkMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = match ip {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    };
    message.header.ifindex = ifindex;
    message.header.flags = NeighbourFlags::Use;
    message.attributes.push(NeighbourAttribute::Destination(NeighbourAddress::from(ip)));
    RouteNetlinkMessage::NewNeighbour(message)
}
