//! The way out: IP header, fragments, next hop, link header.

use alloc::collections::VecDeque;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use zerocopy::network_endian::U16;
use zerocopy::{FromBytes, IntoBytes};

use crate::buffer::Buffer;
use crate::drop_reason::DropReason;
use crate::env::Env;
use crate::interface::{InterfaceId, Station};
use crate::neighbour::Resolved;
use crate::packet::Packet;
use crate::route::Hop;
use crate::stack::Stack;
use crate::verdict::{Sent, Verdict};
use crate::wire::ethernet::{EthernetHeader, MacAddress, ethertype};
use crate::wire::ipv4::{self, Fragment, Ipv4Header, Ipv4Send};
use crate::wire::ipv6::{self, Ipv6Header, Ipv6Send};
use crate::wire::ipv6_extension::{FRAGMENT_LEN, FragmentHeader};
use crate::wire::protocol;
use crate::wire::vlan::VlanTag;

/// Fragments made of one datagram: 65,535 bytes at the lowest path MTU believed (552).
pub const FRAGMENTS_MAX: usize = 128;

/// An IP packet to be sent; both addresses are of one family.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outgoing {
    pub(crate) source: IpAddr,
    pub(crate) destination: IpAddr,
    pub(crate) protocol: u8,
    pub(crate) hop_limit: u8,
    pub(crate) traffic_class: u8,
}

impl<B: Buffer> Stack<B> {
    /// Sends `buffer`, an upper-layer packet, in as many IP packets as the path needs.
    pub(crate) fn send_ip<E: Env<Buffer = B>>(
        &mut self,
        out: &Outgoing,
        hop: Hop,
        mut buffer: B,
        env: &mut E,
    ) -> Result<Sent, DropReason> {
        let Some(interface) = self.interface(hop.interface) else {
            self.ledger.discard(env, buffer, DropReason::InterfaceRemoved);
            return Err(DropReason::InterfaceRemoved);
        };
        let link_mtu = interface.station.config.mtu;
        let mtu = self.path_mtus.get(out.destination, link_mtu, env.now());
        let header_len = if out.destination.is_ipv4() { ipv4::HEADER_LEN } else { ipv6::HEADER_LEN };
        if header_len + buffer.len() > mtu {
            return self.send_fragments(out, hop, mtu, buffer, env);
        }
        let written = match (out.source, out.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let header = out.ipv4(source, destination, buffer.len());
                prepend(&mut buffer, header.as_bytes())
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                let header = out.ipv6(source, destination, buffer.len());
                prepend(&mut buffer, header.as_bytes())
            }
            _ => Err(DropReason::NoSource),
        };
        match written {
            Ok(()) => self.send_packet(hop, buffer, env),
            Err(reason) => {
                self.ledger.discard(env, buffer, reason);
                Err(reason)
            }
        }
    }

    /// RFC 791 §3.2 (example of fragmentation), RFC 8200 §4.5: at the source only.
    fn send_fragments<E: Env<Buffer = B>>(
        &mut self,
        out: &Outgoing,
        hop: Hop,
        mtu: usize,
        buffer: B,
        env: &mut E,
    ) -> Result<Sent, DropReason> {
        let (headers_len, end_max) = match out.destination {
            IpAddr::V4(_) => (ipv4::HEADER_LEN, ipv4::TOTAL_LEN_MAX - ipv4::HEADER_LEN),
            IpAddr::V6(_) => (ipv6::HEADER_LEN + FRAGMENT_LEN, ipv6::PAYLOAD_LEN_MAX),
        };
        let payload_max = mtu.saturating_sub(headers_len) & !7;
        let total = buffer.len();
        if total > end_max || payload_max == 0 || total.div_ceil(payload_max) > FRAGMENTS_MAX {
            self.ledger.discard(env, buffer, DropReason::TooBig);
            return Err(DropReason::TooBig);
        }
        // RFC 7739 §5: not predictable; RFC 6864 §4.3 asks for uniqueness, see DEVIATIONS.md.
        let ident = env.random() as u32;
        let mut result = Ok(Sent::Transmitted);
        let mut offset = 0;
        while offset < total {
            let Some(mut piece) = self.ledger.allocate(env) else {
                self.ledger.discard(env, buffer, DropReason::NoBuffer);
                return Err(DropReason::NoBuffer);
            };
            // A fragment lies in one segment: where that holds less than the MTU, fragments are smaller.
            let len = payload_max.min(piece.tailroom() & !7).min(total - offset);
            if len == 0 {
                self.ledger.discard(env, piece, DropReason::TooBig);
                result = Err(DropReason::TooBig);
                break;
            }
            let fragment = Fragment { offset, more: offset + len < total };
            let sent = match out.fragment(fragment, ident, len, &buffer, &mut piece) {
                Ok(()) => self.send_packet(hop, piece, env),
                Err(reason) => {
                    self.ledger.discard(env, piece, reason);
                    Err(reason)
                }
            };
            match sent {
                Ok(Sent::Transmitted) => {}
                Ok(Sent::Queued) => result = Ok(Sent::Queued),
                // One missing fragment makes the others useless.
                Err(reason) => {
                    result = Err(reason);
                    break;
                }
            }
            offset += len;
        }
        self.ledger.release(env, buffer);
        result
    }

    /// Sends an IP packet to its next hop, or lets it wait for that.
    pub(crate) fn send_packet<E: Env<Buffer = B>>(
        &mut self,
        hop: Hop,
        packet: B,
        env: &mut E,
    ) -> Result<Sent, DropReason> {
        let Self { interfaces, ledger, events, .. } = self;
        let Some(interface) = interfaces.get_mut(hop.interface.0 as usize).and_then(Option::as_mut) else {
            ledger.discard(env, packet, DropReason::InterfaceRemoved);
            return Err(DropReason::InterfaceRemoved);
        };
        let station = &interface.station;
        let (mac, mut packet) = match station.group_mac(hop.next) {
            Some(mac) => (mac, packet),
            None => match interface.neighbours.resolve(hop.next, packet, env.now()) {
                Resolved::Ready(mac, packet) => (mac, packet),
                Resolved::Queued { ask, displaced } => {
                    if let Some(oldest) = displaced {
                        ledger.discard(env, oldest, DropReason::NeighbourQueueFull);
                    }
                    if ask {
                        station.ask(hop.next, None, env, ledger, events);
                    }
                    return Ok(Sent::Queued);
                }
                Resolved::Refused(packet, reason) => {
                    ledger.discard(env, packet, reason);
                    return Err(reason);
                }
            },
        };
        match station.prepend_link(mac, &mut packet) {
            Ok(()) => {
                ledger.transmit(env, hop.interface, packet);
                Ok(Sent::Transmitted)
            }
            Err(reason) => {
                ledger.discard(env, packet, reason);
                Err(reason)
            }
        }
    }

    /// Sends what waited for a neighbour, now that its MAC is known.
    pub(crate) fn send_pending<E: Env<Buffer = B>>(
        &mut self,
        id: InterfaceId,
        mac: MacAddress,
        pending: VecDeque<B>,
        env: &mut E,
    ) {
        let Self { interfaces, ledger, .. } = self;
        let interface = interfaces.get(id.0 as usize).and_then(Option::as_ref);
        for mut packet in pending {
            let written = interface
                .ok_or(DropReason::InterfaceRemoved)
                .and_then(|interface| interface.station.prepend_link(mac, &mut packet));
            match written {
                Ok(()) => ledger.transmit(env, id, packet),
                Err(reason) => ledger.discard(env, packet, reason),
            }
        }
    }

    /// Sends `buffer`, whose IP payload has become an answer, back where `packet` came from: in
    /// place and to the same station where the headers allow, else as a new packet.
    pub(crate) fn answer<E: Env<Buffer = B>>(
        &mut self,
        packet: &Packet,
        out: &Outgoing,
        mut buffer: B,
        env: &mut E,
    ) -> Verdict<B> {
        let Some(interface) = self.interface(packet.interface) else {
            return self.drop_packet(buffer, DropReason::InterfaceRemoved, env);
        };
        let station = &interface.station;
        let fits = buffer.len().saturating_sub(packet.ip_offset) <= station.config.mtu;
        if packet.plain && fits && station.turn_around(packet, out, &mut buffer).is_some() {
            self.ledger.answer(env, packet.interface, buffer);
            return Verdict::Answered;
        }
        if buffer.trim_front(packet.payload_offset).is_err() {
            return self.drop_packet(buffer, DropReason::HeaderSplit, env);
        }
        match self.send_back(packet, out, buffer, env) {
            Ok(_) => Verdict::Answered,
            Err(reason) => Verdict::Discarded(reason),
        }
    }

    /// Sends an upper-layer packet to where `packet` came from, through the routing table.
    pub(crate) fn send_back<E: Env<Buffer = B>>(
        &mut self,
        packet: &Packet,
        out: &Outgoing,
        buffer: B,
        env: &mut E,
    ) -> Result<Sent, DropReason> {
        let same = self.routes.lookup(out.destination, Some(packet.interface));
        let Some(hop) = same.or_else(|| self.routes.lookup(out.destination, None)) else {
            self.ledger.discard(env, buffer, DropReason::NoRoute);
            return Err(DropReason::NoRoute);
        };
        self.send_ip(out, hop, buffer, env)
    }

    pub(crate) fn drop_packet<E: Env<Buffer = B>>(&mut self, buffer: B, reason: DropReason, env: &mut E) -> Verdict<B> {
        self.ledger.discard(env, buffer, reason);
        Verdict::Discarded(reason)
    }
}

impl Outgoing {
    #[inline]
    pub(crate) fn ipv4(&self, source: Ipv4Addr, destination: Ipv4Addr, payload_len: usize) -> Ipv4Header {
        // RFC 6864 §4.1: the identification of a packet that cannot be fragmented means nothing.
        Ipv4Send {
            tos: self.traffic_class,
            payload_len,
            ident: 0,
            dont_fragment: true,
            ttl: self.hop_limit,
            protocol: self.protocol,
            source,
            destination,
        }
        .header()
    }

    #[inline]
    pub(crate) fn ipv6(&self, source: Ipv6Addr, destination: Ipv6Addr, payload_len: usize) -> Ipv6Header {
        Ipv6Send {
            traffic_class: self.traffic_class,
            flow_label: 0,
            payload_len,
            next_header: self.protocol,
            hop_limit: self.hop_limit,
            source,
            destination,
        }
        .header()
    }

    /// Writes one fragment of `whole` into the empty `piece`.
    fn fragment<B: Buffer>(
        &self,
        fragment: Fragment,
        ident: u32,
        len: usize,
        whole: &B,
        piece: &mut B,
    ) -> Result<(), DropReason> {
        let payload = piece.append(len).map_err(|_| DropReason::TooBig)?;
        whole.read_at(fragment.offset, payload).map_err(|_| DropReason::TooBig)?;
        match (self.source, self.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let mut header = self.ipv4(source, destination, len);
                let more = if fragment.more { ipv4::MORE_FRAGMENTS } else { 0 };
                header.ident = U16::new(ident as u16);
                header.flags_offset = U16::new(more | (fragment.offset / 8) as u16);
                header.fill_checksum();
                prepend(piece, header.as_bytes())
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                let extension = FragmentHeader::new(self.protocol, fragment, ident);
                prepend(piece, extension.as_bytes())?;
                let mut header = self.ipv6(source, destination, FRAGMENT_LEN + len);
                header.next_header = protocol::FRAGMENT;
                prepend(piece, header.as_bytes())
            }
            _ => Err(DropReason::NoSource),
        }
    }
}

impl Station {
    /// The MAC address of a group or broadcast address; `None` for a station's.
    fn group_mac(&self, address: IpAddr) -> Option<MacAddress> {
        match address {
            IpAddr::V4(v4) if v4.is_multicast() => Some(MacAddress::of_ipv4_group(v4)),
            IpAddr::V6(v6) if v6.is_multicast() => Some(MacAddress::of_ipv6_group(v6)),
            IpAddr::V4(v4) => self.is_broadcast(v4).then_some(MacAddress::BROADCAST),
            IpAddr::V6(_) => None,
        }
    }

    /// Puts the link header in front of an IP packet.
    pub(crate) fn prepend_link<B: Buffer>(&self, to: MacAddress, packet: &mut B) -> Result<(), DropReason> {
        let kind = match packet.bytes().first().map(|first| first >> 4) {
            Some(6) => ethertype::IPV6,
            _ => ethertype::IPV4,
        };
        self.prepend_ethernet(to, kind, packet)
    }

    pub(crate) fn prepend_ethernet<B: Buffer>(
        &self,
        to: MacAddress,
        kind: u16,
        packet: &mut B,
    ) -> Result<(), DropReason> {
        let mut outer = kind;
        if let Some(id) = self.config.vlan {
            prepend(packet, VlanTag::new(id, 0, kind).as_bytes())?;
            outer = ethertype::VLAN;
        }
        let header = EthernetHeader { destination: to, source: self.config.mac, ethertype: U16::new(outer) };
        prepend(packet, header.as_bytes())
    }

    /// Rewrites the headers of a received frame in place, so that it goes back as `out`.
    pub(crate) fn turn_around<B: Buffer>(&self, packet: &Packet, out: &Outgoing, buffer: &mut B) -> Option<()> {
        let payload_len = buffer.len().checked_sub(packet.payload_offset)?;
        let (link, rest) = buffer.bytes_mut().split_at_mut_checked(packet.ip_offset)?;
        let (ethernet, _) = EthernetHeader::mut_from_prefix(link).ok()?;
        ethernet.destination = packet.link_source;
        ethernet.source = self.config.mac;
        match (out.source, out.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let (header, _) = Ipv4Header::mut_from_prefix(rest).ok()?;
                *header = out.ipv4(source, destination, payload_len);
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                let (header, _) = Ipv6Header::mut_from_prefix(rest).ok()?;
                *header = out.ipv6(source, destination, payload_len);
            }
            _ => return None,
        }
        Some(())
    }
}

/// Writes `header` in front of the buffer's bytes.
pub(crate) fn prepend<B: Buffer>(buffer: &mut B, header: &[u8]) -> Result<(), DropReason> {
    let room = buffer.prepend(header.len()).map_err(|_| DropReason::NoHeadroom)?;
    room.copy_from_slice(header);
    Ok(())
}
