//! Commands for the kernel, and listings on request.

use std::collections::BTreeMap;
use std::net::IpAddr;

use netlink_packet_core::NLM_F_CREATE;
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use netlink_packet_route::neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use crate::error::{Error, Result};
use crate::link::{self, Link, LinkUpdate};
use crate::mirror::REQUEST_BUFFER_BYTES;
use crate::names::similar;
use crate::queues::{self, Queues};
use crate::request;
use crate::socket::{Dump, Netlink};

/// Requests in one system call; their acknowledgements fit the request socket's buffer many times.
const BATCH_MAX: usize = 256;
/// Listings of links before the last one is taken although links kept changing.
const LISTING_ATTEMPTS_MAX: u32 = 16;

/// Commands to the kernel in the network namespace of the thread that opened it. Each call returns
/// after the kernel has acted. Changing anything needs `CAP_NET_ADMIN`; listing needs nothing.
///
/// A group command is a single request, which the kernel applies to every member, as
/// `ip link set group N up` does. It never carries a name: the kernel would once have taken a
/// mistyped name with a group for the whole group.
pub struct Control {
    requests: Netlink,
}

impl Control {
    /// # Errors
    /// [`Error::Socket`].
    pub fn open() -> Result<Self> {
        Ok(Self { requests: Netlink::open(&[], REQUEST_BUFFER_BYTES)? })
    }

    /// All links of the namespace now, with statistics, in order of interface index.
    ///
    /// # Errors
    /// [`Error::Socket`], [`Error::Refused`], [`Error::NoAnswer`].
    pub fn links(&mut self) -> Result<Vec<Link>> {
        let mut links = BTreeMap::new();
        for _ in 0..LISTING_ATTEMPTS_MAX {
            links.clear();
            let dump = self.requests.dump("list links", request::links(true), |message| {
                if let Ok(LinkUpdate::Present(link)) = link::decode(message.payload, true, true) {
                    links.insert(link.ifindex, *link);
                }
            })?;
            if dump != Dump::Interrupted {
                break;
            }
        }
        Ok(links.into_values().collect())
    }

    /// The link with this name or alternative name.
    ///
    /// # Errors
    /// [`Error::NoSuchLink`] with similar names; else as [`Control::links`].
    pub fn link_by_name(&mut self, name: &str) -> Result<Link> {
        let links = self.links()?;
        let named = |link: &&Link| link.name == name || link.alternative_names.iter().any(|n| n == name);
        if let Some(link) = links.iter().find(named) {
            return Ok(link.clone());
        }
        let names = links.iter().flat_map(|link| link.alternative_names.iter().chain([&link.name])).map(String::as_str);
        Err(Error::NoSuchLink { name: name.to_owned(), similar: similar(name, names) })
    }

    /// Members of an interface group; for group 0, all links that are in no other.
    ///
    /// # Errors
    /// As [`Control::links`].
    pub fn links_in_group(&mut self, group: u32) -> Result<Vec<Link>> {
        let mut links = self.links()?;
        links.retain(|link| link.group == group);
        Ok(links)
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
        let mut verdicts = Vec::with_capacity(neighbours.len());
        for batch in neighbours.chunks(BATCH_MAX) {
            let requests = batch.iter().map(|(ifindex, ip)| (use_request(*ifindex, *ip), NLM_F_CREATE)).collect();
            let answers = self.requests.execute("use neighbours", requests)?;
            for ((ifindex, ip), answer) in batch.iter().zip(answers) {
                verdicts.push(answer.map_err(|source| Error::Refused {
                    doing: format!("use neighbour {ip} on interface {ifindex}"),
                    source,
                }));
            }
        }
        Ok(verdicts)
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
        let doing = format!("set interface {ifindex} {}", if up { "up" } else { "down" });
        self.change(doing, by_index(ifindex)?, Change::Up(up))
    }

    /// Sets the largest IP packet of a link, in bytes.
    ///
    /// # Errors
    /// As [`Control::set_link_up`]; also where the driver cannot.
    pub fn set_mtu(&mut self, ifindex: u32, mtu_bytes: u32) -> Result<()> {
        let doing = format!("set the MTU of interface {ifindex} to {mtu_bytes}");
        self.change(doing, by_index(ifindex)?, Change::Mtu(mtu_bytes))
    }

    /// Puts a link into an interface group.
    ///
    /// # Errors
    /// As [`Control::set_link_up`].
    pub fn set_group(&mut self, ifindex: u32, group: u32) -> Result<()> {
        let mut message = by_index(ifindex)?;
        message.attributes.push(LinkAttribute::Group(group));
        self.set(format!("put interface {ifindex} into group {group}"), message)
    }

    /// Sets all links of a group up or down in one request. The kernel stops at the first member that
    /// refuses; those before it have changed.
    ///
    /// # Errors
    /// [`Error::DefaultGroup`] for group 0, [`Error::EmptyGroup`], both before anything is touched;
    /// else as [`Control::set_link_up`].
    pub fn set_group_up(&mut self, group: u32, up: bool) -> Result<()> {
        let message = self.by_group(group)?;
        let doing = format!("set group {group} {}", if up { "up" } else { "down" });
        self.change(doing, message, Change::Up(up))
    }

    /// Sets the MTU of all links of a group in one request, in bytes.
    ///
    /// # Errors
    /// As [`Control::set_group_up`].
    pub fn set_group_mtu(&mut self, group: u32, mtu_bytes: u32) -> Result<()> {
        let message = self.by_group(group)?;
        let doing = format!("set the MTU of group {group} to {mtu_bytes}");
        self.change(doing, message, Change::Mtu(mtu_bytes))
    }

    fn by_group(&mut self, group: u32) -> Result<LinkMessage> {
        if group == 0 {
            return Err(Error::DefaultGroup);
        }
        if self.links_in_group(group)?.is_empty() {
            return Err(Error::EmptyGroup { group });
        }
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::Group(group));
        Ok(message)
    }

    fn change(&mut self, doing: String, mut message: LinkMessage, change: Change) -> Result<()> {
        match change {
            Change::Up(up) => {
                message.header.change_mask = LinkFlags::Up;
                message.header.flags = if up { LinkFlags::Up } else { LinkFlags::empty() };
            }
            Change::Mtu(mtu_bytes) => message.attributes.push(LinkAttribute::Mtu(mtu_bytes)),
        }
        self.set(doing, message)
    }

    fn set(&mut self, doing: String, message: LinkMessage) -> Result<()> {
        // RTM_NEWLINK without NLM_F_CREATE changes what exists and never makes anything.
        let request = vec![(RouteNetlinkMessage::NewLink(message), 0)];
        let verdicts = self.requests.execute("change links", request)?;
        match verdicts.into_iter().next() {
            Some(Err(source)) => Err(Error::Refused { doing, source }),
            Some(Ok(())) | None => Ok(()),
        }
    }
}

enum Change {
    Up(bool),
    Mtu(u32),
}

/// To the kernel, index 0 and a group means the whole group: never let one slip in.
fn by_index(ifindex: u32) -> Result<LinkMessage> {
    if ifindex == 0 {
        return Err(Error::ZeroIndex);
    }
    let mut message = LinkMessage::default();
    message.header.index = ifindex;
    Ok(message)
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
