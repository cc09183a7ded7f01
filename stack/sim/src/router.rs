//! A router: forwards IP packets between its ports by routes that the simulation computes, and answers for itself through
//! a stack of its own. It does not fragment; its queues are those of its links.

use std::net::IpAddr;
use std::time::Duration;

use hashbrown::HashMap;

use foldhash::fast::FixedState;
use tailwater_impair::Random;
use tailwater_stack::icmp_error::{self, IcmpError, Offending};
use tailwater_stack::rate_limit::{RateLimit, TokenBucket};
use tailwater_stack::wire::ethernet::{self, Link, ethertype};
use tailwater_stack::wire::{ipv4, ipv6};
use tailwater_stack::{Buffer, Cidr, Config, Env, Instant, InterfaceId, MacAddress, Stack, checksum};

use crate::buffer::{Pool, SimBuffer};
use crate::host::HostEnv;

/// Who has which address: routers ask nobody.
pub(crate) type Directory = HashMap<IpAddr, MacAddress, FixedState>;

/// Frames on their way out of a node, with the port.
pub(crate) type Outbox = Vec<(InterfaceId, SimBuffer)>;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct RouterRoute {
    pub(crate) prefix: Cidr,
    pub(crate) port: usize,
    /// `None`: the destination is on the link.
    pub(crate) gateway: Option<IpAddr>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct RouterPort {
    pub(crate) mac: MacAddress,
    pub(crate) mtu: usize,
}

pub(crate) struct Router {
    pub(crate) stack: Stack<SimBuffer>,
    pub(crate) ports: Vec<RouterPort>,
    /// Longest prefix first.
    routes: Vec<RouterRoute>,
    errors: TokenBucket,
    random: Random,
    pub(crate) forwarded: u64,
    pub(crate) refused: u64,
}

/// What of an IP packet forwarding needs.
struct Transit {
    source: IpAddr,
    destination: IpAddr,
    total_len: usize,
    hop_limit: u8,
}

impl Router {
    pub(crate) fn new(mut random: Random) -> Self {
        Self {
            stack: Stack::new(Config::default(), random.next()),
            ports: Vec::new(),
            routes: Vec::new(),
            errors: TokenBucket::new(RateLimit::default()),
            random,
            forwarded: 0,
            refused: 0,
        }
    }

    pub(crate) fn set_routes(&mut self, mut routes: Vec<RouterRoute>) {
        routes.sort_by_key(|route| std::cmp::Reverse(route.prefix.prefix_len()));
        self.routes = routes;
    }

    pub(crate) fn on_frame(
        &mut self,
        port: usize,
        frame: SimBuffer,
        now: Instant,
        directory: &Directory,
        pool: &mut Pool,
        outbox: &mut Outbox,
    ) {
        let ours = self.ports.get(port).map(|port| port.mac);
        match ethernet::parse(frame.bytes()).ok().zip(transit(&frame)) {
            Some((link, transit)) if Some(link.destination) == ours && !self.is_for_us(transit.destination) => {
                self.forward(port, frame, &link, &transit, now, directory, pool, outbox);
            }
            _ => {
                let mut env = HostEnv { now, random: &mut self.random, pool, outbox };
                // What it answers leaves by the outbox; nothing else is of interest to a router.
                let _ = self.stack.ingest(InterfaceId(port as u32), frame, &mut env);
            }
        }
    }

    /// Does what is due; returns when to come again.
    pub(crate) fn settle(&mut self, now: Instant, pool: &mut Pool, outbox: &mut Outbox) -> Option<Instant> {
        let due = self.stack.poll_timeout()?;
        if due <= now {
            self.stack.on_timeout(&mut HostEnv { now, random: &mut self.random, pool, outbox });
        }
        while self.stack.poll_event().is_some() {}
        self.stack.poll_timeout().map(|due| due.max(now + Duration::from_nanos(1)))
    }

    fn is_for_us(&self, destination: IpAddr) -> bool {
        let ports = 0..self.ports.len() as u32;
        let own = |port| self.stack.addresses(InterfaceId(port)).iter().any(|own| own.address() == destination);
        destination.is_multicast() || ports.into_iter().any(own)
    }

    #[allow(clippy::too_many_arguments, reason = "the packet, what is known of it, and the world")]
    fn forward(
        &mut self,
        from: usize,
        mut frame: SimBuffer,
        link: &Link,
        transit: &Transit,
        now: Instant,
        directory: &Directory,
        pool: &mut Pool,
        outbox: &mut Outbox,
    ) {
        match self.next_hop(transit, directory) {
            Ok((port, next)) => {
                let mac = self.ports.get(port).map_or(MacAddress::ZERO, |port| port.mac);
                write_macs(frame.bytes_mut(), next, mac);
                decrement(frame.bytes_mut(), link);
                self.forwarded += 1;
                outbox.push((InterfaceId(port as u32), frame));
            }
            Err(error) => {
                self.refused += 1;
                let mut env = HostEnv { now, random: &mut self.random, pool, outbox };
                let own = self.stack.addresses(InterfaceId(from as u32)).iter().map(Cidr::address);
                let own = own.into_iter().find(|own| own.is_ipv4() == transit.source.is_ipv4());
                if let Some(own) = own.filter(|_| self.errors.take(now)) {
                    report(error, &frame, link, own, from, &mut env);
                }
                env.pool.give(frame);
            }
        }
    }

    /// The port to leave by, and the station to go to.
    fn next_hop(&self, transit: &Transit, directory: &Directory) -> Result<(usize, MacAddress), IcmpError> {
        if transit.hop_limit <= 1 {
            return Err(IcmpError::TimeExceeded);
        }
        let route = self.routes.iter().find(|route| route.prefix.contains(transit.destination));
        let route = route.ok_or(IcmpError::NoRoute)?;
        let port = self.ports.get(route.port).ok_or(IcmpError::NoRoute)?;
        if transit.total_len > port.mtu {
            return Err(IcmpError::PacketTooBig { mtu: port.mtu });
        }
        let next = directory.get(&route.gateway.unwrap_or(transit.destination));
        Ok((route.port, *next.ok_or(IcmpError::HostUnreachable)?))
    }
}

fn transit(frame: &SimBuffer) -> Option<Transit> {
    let bytes = frame.bytes();
    let link = ethernet::parse(bytes).ok()?;
    let packet = bytes.get(link.header_len..)?;
    let available = frame.len() - link.header_len;
    match link.ethertype {
        ethertype::IPV4 => {
            let ip = ipv4::parse(packet, available).ok()?;
            let (source, destination) = (ip.source.into(), ip.destination.into());
            Some(Transit { source, destination, total_len: ip.total_len, hop_limit: ip.ttl })
        }
        ethertype::IPV6 => {
            let ip = ipv6::parse(packet, available).ok()?;
            let (source, destination) = (ip.source.into(), ip.destination.into());
            Some(Transit { source, destination, total_len: ip.total_len(), hop_limit: ip.hop_limit })
        }
        _ => None,
    }
}

fn write_macs(frame: &mut [u8], to: MacAddress, from: MacAddress) {
    if let Some((header, _)) = frame.split_first_chunk_mut::<12>() {
        header[..6].copy_from_slice(&to.0);
        header[6..].copy_from_slice(&from.0);
    }
}

// RFC 1812 §5.3.1, RFC 8200 §3: one hop less; IPv4's checksum follows.
fn decrement(frame: &mut [u8], link: &Link) {
    let Some(packet) = frame.get_mut(link.header_len..) else { return };
    if link.ethertype == ethertype::IPV6 {
        if let Some(hop_limit) = packet.get_mut(7) {
            *hop_limit -= 1;
        }
    } else if let [_, _, _, _, _, _, _, _, ttl, protocol, sum_high, sum_low, ..] = packet {
        let old = *ttl;
        *ttl -= 1;
        [*sum_high, *sum_low] = checksum::update_ttl([*sum_high, *sum_low], *protocol, old, *ttl);
    }
}

/// Tells the sender of `frame` why it was not forwarded.
fn report(error: IcmpError, frame: &SimBuffer, link: &Link, own: IpAddr, port: usize, env: &mut HostEnv<'_>) {
    let packet = frame.bytes().get(link.header_len..).unwrap_or_default();
    let Some(mut answer) = env.allocate() else { return };
    let built = icmp_error::build(error, Offending { packet, to_group: false }, own, &mut answer);
    if built.is_err() || answer.prepend(ethernet::HEADER_LEN).is_err() {
        return env.pool.give(answer);
    }
    write_macs(answer.bytes_mut(), link.source, link.destination);
    if let Some(place) = answer.bytes_mut().get_mut(12..14) {
        place.copy_from_slice(&link.ethertype.to_be_bytes());
    }
    env.transmit(InterfaceId(port as u32), answer);
}
