//! Neighbour discovery for one station (RFC 4861 §7.2).

use core::net::{IpAddr, Ipv6Addr};

use zerocopy::IntoBytes;

use crate::address::solicited_node;
use crate::buffer::Buffer;
use crate::checksum::Sum;
use crate::drop_reason::DropReason;
use crate::env::Env;
use crate::event::Event;
use crate::interface::Station;
use crate::neighbour::{Evidence, NeighbourMode};
use crate::packet::Packet;
use crate::stack::Stack;
use crate::verdict::Verdict;
use crate::wire::ethernet::MacAddress;
use crate::wire::ipv6::Ipv6Send;
use crate::wire::ndp::{self, Advertisement, NdpMessage, Solicitation};
use crate::wire::{icmpv6, protocol};

/// ff02::1, RFC 4291 §2.7.1.
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

impl<B: Buffer> Stack<B> {
    /// A solicitation or advertisement, whose checksum is right.
    pub(crate) fn on_ndp<E: Env<Buffer = B>>(
        &mut self,
        kind: u8,
        packet: &Packet,
        buffer: B,
        env: &mut E,
    ) -> Verdict<B> {
        let external =
            self.interface(packet.interface).is_some_and(|i| i.station.config.neighbours == NeighbourMode::External);
        if external {
            return self.drop_packet(buffer, DropReason::NdpExternal, env);
        }
        // RFC 4861 §7.1.1, §7.1.2: only a neighbour's packet still has this hop limit.
        if packet.hop_limit != ndp::HOP_LIMIT || !buffer.contiguous() {
            return self.drop_packet(buffer, DropReason::NdpInvalid, env);
        }
        let bytes = packet.payload(&buffer);
        if kind == icmpv6::kind::NEIGHBOUR_SOLICITATION {
            match ndp::parse_solicitation(bytes) {
                Ok(message) => self.on_solicitation(message, packet, buffer, env),
                Err(_) => self.drop_packet(buffer, DropReason::NdpInvalid, env),
            }
        } else {
            match ndp::parse_advertisement(bytes) {
                Ok(message) => self.on_advertisement(message, packet, buffer, env),
                Err(_) => self.drop_packet(buffer, DropReason::NdpInvalid, env),
            }
        }
    }

    /// RFC 4861 §7.2.3.
    fn on_solicitation<E: Env<Buffer = B>>(
        &mut self,
        message: Solicitation,
        packet: &Packet,
        buffer: B,
        env: &mut E,
    ) -> Verdict<B> {
        let id = packet.interface;
        let (IpAddr::V6(source), IpAddr::V6(to)) = (packet.source, packet.destination) else {
            return self.drop_packet(buffer, DropReason::NdpInvalid, env);
        };
        // RFC 4861 §7.1.1: duplicate address detection goes to the solicited-node group and names
        // no link-layer address.
        let from_nobody = source.is_unspecified();
        let to_solicited = to == solicited_node(message.target);
        if from_nobody && (message.source_mac.is_some() || !to_solicited) {
            return self.drop_packet(buffer, DropReason::NdpInvalid, env);
        }
        let Some(interface) = self.interface_mut(id) else {
            return self.drop_packet(buffer, DropReason::InterfaceUnknown, env);
        };
        if !interface.station.has(message.target.into()) {
            return self.drop_packet(buffer, DropReason::NdpNotOurs, env);
        }
        let answers = interface.station.config.answers;
        if !from_nobody && let Some(mac) = message.source_mac {
            let (now, random) = (env.now(), env.random());
            let from = packet.source;
            let pending = interface.neighbours.learn(from, mac, Evidence::Hearsay, true, now, random);
            self.send_pending(id, mac, pending, env);
        }
        if !answers {
            self.ledger.release(env, buffer);
            return Verdict::Consumed;
        }
        self.advertise(message.target, source, packet, buffer, env)
    }

    /// RFC 4861 §7.2.4: the answer, in the solicitation's buffer.
    fn advertise<E: Env<Buffer = B>>(
        &mut self,
        target: Ipv6Addr,
        asker: Ipv6Addr,
        packet: &Packet,
        mut buffer: B,
        env: &mut E,
    ) -> Verdict<B> {
        let from_nobody = asker.is_unspecified();
        let destination = if from_nobody { ALL_NODES } else { asker };
        let mac = match from_nobody {
            true => MacAddress::of_ipv6_group(ALL_NODES),
            false => packet.link_source,
        };
        let Some(interface) = self.interface(packet.interface) else {
            return self.drop_packet(buffer, DropReason::InterfaceUnknown, env);
        };
        let station = &interface.station;
        let message = ndp::advertisement(target, station.config.mac, !from_nobody);
        let written = buffer
            .trim_front(buffer.bytes().len().min(packet.payload_offset))
            .map_err(|_| DropReason::HeaderSplit)
            .and_then(|()| {
                buffer.truncate(0);
                station.ndp_frame(target, destination, mac, message, &mut buffer)
            });
        match written {
            Ok(()) => {
                self.ledger.answer(env, packet.interface, buffer);
                Verdict::Answered
            }
            Err(reason) => self.drop_packet(buffer, reason, env),
        }
    }

    /// RFC 4861 §7.2.5.
    fn on_advertisement<E: Env<Buffer = B>>(
        &mut self,
        message: Advertisement,
        packet: &Packet,
        buffer: B,
        env: &mut E,
    ) -> Verdict<B> {
        let id = packet.interface;
        let target = message.target.into();
        // RFC 4861 §7.1.2: what goes to a group answers nobody.
        if packet.destination.is_multicast() && message.solicited {
            return self.drop_packet(buffer, DropReason::NdpInvalid, env);
        }
        let Some(interface) = self.interface_mut(id) else {
            return self.drop_packet(buffer, DropReason::InterfaceUnknown, env);
        };
        // RFC 4862 §5.4.4: somebody else has our address.
        if interface.station.has(target) {
            let mac = message.target_mac.unwrap_or(packet.link_source);
            if mac != interface.station.config.mac {
                self.events.push(Event::AddressConflict { interface: id, address: target, mac });
            }
            self.ledger.release(env, buffer);
            return Verdict::Consumed;
        }
        // RFC 4861 §7.2.5: no entry, no interest.
        if !interface.neighbours.knows(target) {
            return self.drop_packet(buffer, DropReason::NdpNotOurs, env);
        }
        // RFC 4861 §7.2.4 lets an answer to a unicast probe leave the option out.
        let known = interface.neighbours.mac_of(target);
        let Some(mac) = message.target_mac.or(known) else {
            self.ledger.release(env, buffer);
            return Verdict::Consumed;
        };
        let agrees = known.is_none_or(|known| known == mac);
        let evidence = match (message.solicited, message.overrides || agrees) {
            (true, true) => Evidence::Answer,
            (false, true) => Evidence::Hearsay,
            (_, false) => Evidence::WeakHearsay,
        };
        let (now, random) = (env.now(), env.random());
        let pending = interface.neighbours.learn(target, mac, evidence, false, now, random);
        self.send_pending(id, mac, pending, env);
        self.ledger.release(env, buffer);
        Verdict::Consumed
    }
}

impl Station {
    /// Writes the frame that asks who has `target`: its group, or the station that had it.
    pub(crate) fn solicitation<B: Buffer>(
        &self,
        target: Ipv6Addr,
        mac: Option<MacAddress>,
        buffer: &mut B,
    ) -> Result<(), DropReason> {
        let Some(IpAddr::V6(source)) = self.source_for(target.into(), target.into()) else {
            return Err(DropReason::NoSource);
        };
        let group = solicited_node(target);
        // RFC 4861 §7.3.3: a probe goes to the neighbour itself.
        let (destination, to) = match mac {
            Some(mac) => (target, mac),
            None => (group, MacAddress::of_ipv6_group(group)),
        };
        let message = ndp::solicitation(target, self.config.mac);
        self.ndp_frame(source, destination, to, message, buffer)
    }

    /// Writes the frame that tells everybody where `address` is (RFC 4861 §7.2.6).
    pub(crate) fn ndp_announcement<B: Buffer>(&self, address: Ipv6Addr, buffer: &mut B) -> Result<(), DropReason> {
        let message = ndp::advertisement(address, self.config.mac, false);
        self.ndp_frame(address, ALL_NODES, MacAddress::of_ipv6_group(ALL_NODES), message, buffer)
    }

    /// Writes a whole frame into the empty `buffer`.
    fn ndp_frame<B: Buffer>(
        &self,
        source: Ipv6Addr,
        destination: Ipv6Addr,
        to: MacAddress,
        mut message: NdpMessage,
        buffer: &mut B,
    ) -> Result<(), DropReason> {
        let sum = Sum::pseudo_v6(source, destination, protocol::ICMPV6, ndp::MESSAGE_LEN);
        message.header.checksum = sum.with(message.as_bytes()).checksum();
        let room = buffer.append(ndp::MESSAGE_LEN).map_err(|_| DropReason::TooBig)?;
        message.write_to(room).map_err(|_| DropReason::TooBig)?;
        let header = Ipv6Send {
            traffic_class: 0,
            flow_label: 0,
            payload_len: ndp::MESSAGE_LEN,
            next_header: protocol::ICMPV6,
            hop_limit: ndp::HOP_LIMIT,
            source,
            destination,
        }
        .header();
        crate::output::prepend(buffer, header.as_bytes())?;
        self.prepend_link(to, buffer)
    }
}
