//! Whole interface groups (`IFLA_GROUP`), and many links in few system calls.
//!
//! A request that carries a group and no link means all its members in this namespace: the kernel changes them in one
//! go, under one lock, and stops at the first that refuses. Traps of that request, and what closes them:
//!
//! - With index 0 it is the group that is meant, so no other request here is sent with index 0 ([`Error::ZeroIndex`]).
//! - With a name nobody has, kernels before 2022 took the group instead: no request here carries a name.
//! - A group without members is no error to the kernel. It is one here ([`Error::EmptyGroup`]).
//! - Group 0 is every link that nobody put anywhere. A [`Group`] is only made of it on purpose.

use std::net::IpAddr;
use std::ops::ControlFlow;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use crate::control::{BATCH_MAX, Control};
use crate::error::{Error, Result};
use crate::link::{self, Link};
use crate::request;
use crate::socket::{Dump, Message};

const LOOKING: &str = "look for members";

/// A group that commands may change.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Group(u32);

impl Group {
    /// # Errors
    /// [`Error::DefaultGroup`] for 0.
    pub fn new(number: u32) -> Result<Self> {
        if number == 0 { Err(Error::DefaultGroup) } else { Ok(Self(number)) }
    }

    /// Any group, 0 included: for those who mean every link that is in no other, loopback among them.
    pub fn or_default(number: u32) -> Self {
        Self(number)
    }

    pub fn number(self) -> u32 {
        self.0
    }
}

/// What to change of a link, or of all links of a group.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LinkChange {
    /// Administratively up.
    Up,
    /// Administratively down.
    Down,
    /// Largest IP packet, in bytes.
    Mtu(u32),
}

/// An address to put on a link or to take from it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AddressChange {
    pub ifindex: u32,
    pub ip: IpAddr,
    /// 0 to 32, or to 128.
    pub prefix_len: u8,
    /// Adding what is there, and taking away what is not, are refused.
    pub add: bool,
}

impl Control {
    /// Members of an interface group, without statistics, in order of interface index; for group 0, all links that are in
    /// no other.
    ///
    /// # Errors
    /// As [`Control::links`].
    pub fn links_in_group(&mut self, group: u32) -> Result<Vec<Link>> {
        self.list_links(false, |message| link::group_of(message) == Some(group))
    }

    /// Whether a group has a member; stops looking at the first.
    ///
    /// # Errors
    /// As [`Control::links`].
    pub fn has_members(&mut self, group: u32) -> Result<bool> {
        let is_member = |message: Message<'_>| match link::group_of(message.payload) {
            Some(found) if found == group => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        };
        // To leave out the statistics, the kernel first looks for the largest answer, at every link. Not asked to, it
        // allots a page, and where a link with many names needs more, it ends the list there and says nothing.
        let found = match self.glances.glance(LOOKING, request::links(true), is_member)? {
            Dump::Enough => Dump::Enough,
            _ => self.glances.dump_until(LOOKING, request::links(false), is_member)?,
        };
        Ok(found == Dump::Enough)
    }

    /// Changes all members of a group by the kernel's own group request. The kernel stops at the first member that
    /// refuses, without naming it; those before it have changed. [`Control::change_links`] then tells them apart.
    ///
    /// # Errors
    /// [`Error::EmptyGroup`] before anything is touched; [`Error::Refused`]; socket errors.
    pub fn change_group(&mut self, group: Group, change: LinkChange) -> Result<()> {
        let number = group.number();
        if !self.has_members(number)? {
            return Err(Error::EmptyGroup { group: number });
        }
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::Group(number));
        let verdicts = self.each(
            "change a group of links",
            &[message],
            |_| format!("{} all of group {number}", change.words()),
            |message| change.request(message.clone()),
            &mut |_| {},
        )?;
        verdicts.into_iter().collect()
    }

    /// Changes links one by one, many in a system call, and returns a verdict on each, in order. `progress` hears now and
    /// then how many are done.
    ///
    /// Taking links down is a system call each: the kernel waits for RCU readers at every link, and where it returns to
    /// the caller in between it waits for half as long (Linux 6.18, two CPUs; `ip -batch` against one request for all).
    ///
    /// # Errors
    /// [`Error::ZeroIndex`] before anything is touched; socket errors. Each verdict is [`Error::Refused`] for its link.
    pub fn change_links(
        &mut self,
        ifindexes: &[u32],
        change: LinkChange,
        progress: &mut dyn FnMut(usize),
    ) -> Result<Vec<Result<()>>> {
        refuse_zero(ifindexes.iter().copied())?;
        let batch_len = if change == LinkChange::Down { 1 } else { BATCH_MAX };
        self.each_in_batches(
            batch_len,
            "change links",
            ifindexes,
            |ifindex| format!("{} interface {ifindex}", change.words()),
            |ifindex| change.request(by_index(*ifindex)),
            progress,
        )
    }

    /// Puts links into a group; else as [`Control::change_links`].
    ///
    /// # Errors
    /// As there.
    pub fn set_groups(
        &mut self,
        ifindexes: &[u32],
        group: u32,
        progress: &mut dyn FnMut(usize),
    ) -> Result<Vec<Result<()>>> {
        refuse_zero(ifindexes.iter().copied())?;
        let request = |ifindex: &u32| {
            let mut message = by_index(*ifindex);
            message.attributes.push(LinkAttribute::Group(group));
            (RouteNetlinkMessage::NewLink(message), 0)
        };
        self.each("group links", ifindexes, |i| format!("put interface {i} into group {group}"), request, progress)
    }

    /// Adds and removes addresses; else as [`Control::change_links`].
    ///
    /// # Errors
    /// As there.
    pub fn change_addresses(
        &mut self,
        changes: &[AddressChange],
        progress: &mut dyn FnMut(usize),
    ) -> Result<Vec<Result<()>>> {
        refuse_zero(changes.iter().map(|change| change.ifindex))?;
        let doing = |change: &AddressChange| {
            let AddressChange { ifindex, ip, prefix_len, add } = change;
            let verb = if *add { "add" } else { "remove" };
            format!("{verb} {ip}/{prefix_len} on interface {ifindex}")
        };
        self.each("change addresses", changes, doing, AddressChange::request, progress)
    }
}

impl LinkChange {
    fn words(self) -> String {
        match self {
            Self::Up => "set up".into(),
            Self::Down => "set down".into(),
            Self::Mtu(mtu_bytes) => format!("set an MTU of {mtu_bytes} on"),
        }
    }

    /// RTM_NEWLINK without NLM_F_CREATE changes what exists and never makes anything.
    fn request(self, mut message: LinkMessage) -> (RouteNetlinkMessage, u16) {
        match self {
            Self::Up => (message.header.flags, message.header.change_mask) = (LinkFlags::Up, LinkFlags::Up),
            Self::Down => (message.header.flags, message.header.change_mask) = (LinkFlags::empty(), LinkFlags::Up),
            Self::Mtu(mtu_bytes) => message.attributes.push(LinkAttribute::Mtu(mtu_bytes)),
        }
        (RouteNetlinkMessage::NewLink(message), 0)
    }
}

impl AddressChange {
    fn request(&self) -> (RouteNetlinkMessage, u16) {
        let Self { ifindex, ip, prefix_len, add } = *self;
        let mut message = AddressMessage::default();
        message.header.family = if ip.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
        message.header.index = ifindex;
        message.header.prefix_len = prefix_len;
        message.attributes.extend([AddressAttribute::Local(ip), AddressAttribute::Address(ip)]);
        if add {
            (RouteNetlinkMessage::NewAddress(message), NLM_F_CREATE | NLM_F_EXCL)
        } else {
            (RouteNetlinkMessage::DelAddress(message), 0)
        }
    }
}

/// To the kernel, index 0 and a group means the whole group: never let one slip in.
fn refuse_zero(mut ifindexes: impl Iterator<Item = u32>) -> Result<()> {
    if ifindexes.any(|ifindex| ifindex == 0) { Err(Error::ZeroIndex) } else { Ok(()) }
}

fn by_index(ifindex: u32) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.header.index = ifindex;
    message
}
