//! ICMP for us: echo in place, errors to whom they concern, and errors about what came in.

use core::net::{IpAddr, SocketAddr};

use zerocopy::FromBytes;

use crate::buffer::Buffer;
use crate::checksum::{self, Sum};
use crate::drop_reason::DropReason;
use crate::env::Env;
use crate::event::{Event, Undelivered};
use crate::icmp_error::{self, IcmpError, Offending};
use crate::interface::Local;
use crate::output::Outgoing;
use crate::packet::{Packet, sum_pieces};
use crate::stack::Stack;
use crate::tcp::QuotedSegment;
use crate::verdict::Verdict;
use crate::wire::icmpv4::{self, Icmpv4Header};
use crate::wire::icmpv6::{self, Icmpv6Header};
use crate::wire::{ipv4, ipv6, ipv6_extension, protocol, tcp, udp};

/// The lower six bits of the traffic class: DSCP stays, ECN is not the receiver's to send back.
const DSCP_MASK: u8 = 0xfc;

impl<B: Buffer> Stack<B> {
    pub(crate) fn on_icmpv4<E: Env<Buffer = B>>(&mut self, packet: Packet, buffer: B, env: &mut E) -> Verdict<B> {
        let Ok((&header, body)) = Icmpv4Header::ref_from_prefix(packet.payload(&buffer)) else {
            return self.drop_packet(buffer, DropReason::IcmpTruncated, env);
        };
        let len = packet.payload_len(&buffer);
        if !sum_pieces(Sum::new(), &buffer, packet.payload_offset, len).is_valid() {
            return self.drop_packet(buffer, DropReason::IcmpChecksum, env);
        }
        let (ident, sequence) = (header.ident.get(), header.sequence.get());
        match (header.kind, header.code) {
            (icmpv4::kind::ECHO_REQUEST, 0) => self.on_echo_request(packet, buffer, env),
            (icmpv4::kind::ECHO_REPLY, 0) => self.on_echo_reply(ident, sequence, packet, buffer, env),
            (kind, code) if icmpv4::is_error(kind) => {
                let why = undelivered_v4(kind, code, usize::from(sequence));
                let matched = match quoted_v4(body).zip(why) {
                    Some((quoted, why)) => self.on_error(&packet, quoted, why, env),
                    None => false,
                };
                self.end_error(matched, buffer, env)
            }
            _ => self.drop_packet(buffer, DropReason::IcmpUnhandled, env),
        }
    }

    pub(crate) fn on_icmpv6<E: Env<Buffer = B>>(&mut self, packet: Packet, buffer: B, env: &mut E) -> Verdict<B> {
        let Ok((&header, body)) = Icmpv6Header::ref_from_prefix(packet.payload(&buffer)) else {
            return self.drop_packet(buffer, DropReason::IcmpTruncated, env);
        };
        if !packet.sum(&buffer, packet.payload_len(&buffer)).is_valid() {
            return self.drop_packet(buffer, DropReason::IcmpChecksum, env);
        }
        let (ident, sequence) = (header.ident.get(), header.sequence.get());
        match (header.kind, header.code) {
            (icmpv6::kind::ECHO_REQUEST, 0) => self.on_echo_request(packet, buffer, env),
            (icmpv6::kind::ECHO_REPLY, 0) => self.on_echo_reply(ident, sequence, packet, buffer, env),
            (kind @ (icmpv6::kind::NEIGHBOUR_SOLICITATION | icmpv6::kind::NEIGHBOUR_ADVERTISEMENT), _) => {
                self.on_ndp(kind, &packet, buffer, env)
            }
            (kind, code) if icmpv6::is_error(kind) => {
                let why = undelivered_v6(kind, code, header.value());
                let matched = match quoted_v6(body).zip(why) {
                    Some((quoted, why)) => self.on_error(&packet, quoted, why, env),
                    None => false,
                };
                self.end_error(matched, buffer, env)
            }
            _ => self.drop_packet(buffer, DropReason::IcmpUnhandled, env),
        }
    }

    /// RFC 792 "Echo", RFC 4443 §4.2: the reply goes out in the request's buffer.
    fn on_echo_request<E: Env<Buffer = B>>(&mut self, packet: Packet, mut buffer: B, env: &mut E) -> Verdict<B> {
        let station = self.interface(packet.interface).map(|interface| &interface.station);
        let source = station.filter(|s| s.config.answers).and_then(|station| {
            match (packet.local, packet.destination) {
                (Local::Unicast, own) => Some(own),
                // RFC 1122 §3.2.2.6 allows to ignore requests to groups, which are how Smurf works.
                (_, IpAddr::V4(_)) => None,
                // RFC 4443 §4.2: from a unicast address of the interface.
                (_, IpAddr::V6(_)) => station.source_for(packet.source, packet.source),
            }
        });
        let Some(source) = source.filter(|_| !packet.source.is_unspecified()) else {
            return self.drop_packet(buffer, DropReason::EchoRefused, env);
        };
        let reply = match packet.source {
            IpAddr::V4(_) => icmpv4::kind::ECHO_REPLY,
            IpAddr::V6(_) => icmpv6::kind::ECHO_REPLY,
        };
        let payload = buffer.bytes_mut().get_mut(packet.payload_offset..).unwrap_or_default();
        if let Ok((header, _)) = Icmpv4Header::mut_from_prefix(payload) {
            let (old, new) = ([header.kind, 0], [reply, 0]);
            header.checksum = checksum::update_u16(header.checksum, old, new);
            header.kind = reply;
            // The pseudo header of ICMPv6 has the source in place of the group.
            if let (IpAddr::V6(old), IpAddr::V6(new)) = (packet.destination, source)
                && old != new
            {
                header.checksum = replace_address(header.checksum, old.octets(), new.octets());
            }
        }
        let out = Outgoing {
            source,
            destination: packet.source,
            protocol: packet.protocol,
            hop_limit: self.config.hop_limit,
            // RFC 1349 §5.1: the reply has the request's type of service.
            traffic_class: packet.traffic_class & DSCP_MASK,
        };
        self.answer(&packet, &out, buffer, env)
    }

    /// Hands an error to the socket or echo client whose packet it quotes; `false` if there is none
    /// (RFC 5927 §4.1: the quoted packet must be one we could have sent).
    fn on_error<E: Env<Buffer = B>>(
        &mut self,
        packet: &Packet,
        quoted: Quoted<'_>,
        why: Undelivered,
        env: &mut E,
    ) -> bool {
        if !self.is_ours(quoted.source) || quoted.source != packet.destination {
            return false;
        }
        if quoted.protocol == protocol::TCP {
            let segment = quoted.segment();
            return segment.is_some_and(|segment| self.on_tcp_undelivered(&segment, packet.interface, why, env));
        }
        let from = packet.source;
        let event = match quoted.protocol {
            protocol::UDP => udp::ports_quoted(quoted.payload).and_then(|(source, destination)| {
                let local = SocketAddr::new(quoted.source, source);
                let remote = SocketAddr::new(quoted.destination, destination);
                let socket = self.sockets.lookup(local, remote)?;
                Some(Event::UdpUndelivered { socket, remote, from, why })
            }),
            protocol::ICMP | protocol::ICMPV6 => quoted.echo_request().and_then(|(id, sequence)| {
                let open = self.echo_idents.contains(&id);
                let remote = quoted.destination;
                open.then_some(Event::EchoUndelivered { remote, ident: id, sequence, from, why })
            }),
            _ => None,
        };
        let Some(mut event) = event else { return false };
        if let Undelivered::TooBig { mtu } = why {
            let link_mtu = self.interface(packet.interface).map_or(0, |i| i.station.config.mtu);
            let to = quoted.destination;
            let Some(new) = self.path_mtus.reported(to, mtu, quoted.total_len, link_mtu, env.now()) else {
                return true;
            };
            event.set_mtu(new);
        }
        self.events.push(event);
        true
    }

    fn end_error<E: Env<Buffer = B>>(&mut self, matched: bool, buffer: B, env: &mut E) -> Verdict<B> {
        if !matched {
            return self.drop_packet(buffer, DropReason::IcmpErrorUnmatched, env);
        }
        self.ledger.release(env, buffer);
        Verdict::Consumed
    }

    /// As [`report`](Self::report), where the interface reports what is closed.
    pub(crate) fn report_unreachable<E: Env<Buffer = B>>(
        &mut self,
        error: IcmpError,
        packet: &Packet,
        buffer: &B,
        env: &mut E,
    ) {
        let wanted =
            self.interface(packet.interface).is_some_and(|interface| interface.station.config.reports_unreachable);
        if wanted {
            self.report(error, packet, buffer, env);
        }
    }

    /// Sends an ICMP error about a received packet, if rules, rate and pool allow.
    pub(crate) fn report<E: Env<Buffer = B>>(&mut self, error: IcmpError, packet: &Packet, buffer: &B, env: &mut E) {
        let Self { interfaces, ledger, icmp_errors, .. } = self;
        let Some(interface) = interfaces.get(packet.interface.0 as usize).and_then(Option::as_ref) else {
            return;
        };
        let station = &interface.station;
        // In shared mode the host's own stack speaks for the address.
        if !station.config.answers {
            return;
        }
        let offending = Offending {
            packet: buffer.bytes().get(packet.ip_offset..).unwrap_or_default(),
            to_group: packet.link_group || packet.local == Local::Broadcast,
        };
        let source = match packet.local {
            Local::Unicast => Some(packet.destination),
            _ => station.source_for(packet.source, packet.source),
        };
        let Some(source) = source else { return };
        // RFC 4443 §2.4(f): the rate limit comes last, so that only real errors use it up.
        if icmp_error::may_answer(error, offending).is_err() || !icmp_errors.take(env.now()) {
            return;
        }
        let Some(mut answer) = ledger.allocate(env) else { return };
        let written = icmp_error::build(error, offending, source, &mut answer)
            .map_err(|_| DropReason::TooBig)
            .and_then(|()| station.prepend_link(packet.link_source, &mut answer));
        match written {
            Ok(()) => ledger.transmit(env, packet.interface, answer),
            Err(reason) => ledger.discard(env, answer, reason),
        }
    }
}

/// A packet of ours, as an ICMP error quotes it.
#[derive(Clone, Copy, Debug)]
struct Quoted<'a> {
    source: IpAddr,
    destination: IpAddr,
    protocol: u8,
    total_len: usize,
    /// What is there of the payload, from its first byte on.
    payload: &'a [u8],
}

impl Quoted<'_> {
    fn segment(&self) -> Option<QuotedSegment> {
        let (local_port, remote_port, seq) = tcp::quoted(self.payload)?;
        let (local, remote, total_len) = (self.source, self.destination, self.total_len);
        Some(QuotedSegment { local, remote, local_port, remote_port, seq, total_len })
    }

    /// Identifier and sequence number, if it was an echo request.
    fn echo_request(&self) -> Option<(u16, u16)> {
        let (header, _) = Icmpv4Header::ref_from_prefix(self.payload).ok()?;
        let request = match self.protocol {
            protocol::ICMP => icmpv4::kind::ECHO_REQUEST,
            _ => icmpv6::kind::ECHO_REQUEST,
        };
        (header.kind == request).then(|| (header.ident.get(), header.sequence.get()))
    }
}

impl Event {
    /// Puts in the path MTU that was concluded from the one reported.
    fn set_mtu(&mut self, new: usize) {
        if let Self::UdpUndelivered { why: Undelivered::TooBig { mtu }, .. }
        | Self::EchoUndelivered { why: Undelivered::TooBig { mtu }, .. } = self
        {
            *mtu = new;
        }
    }
}

fn quoted_v4(bytes: &[u8]) -> Option<Quoted<'_>> {
    let ip = ipv4::parse_quoted(bytes).ok()?;
    // A fragment other than the first shows nobody's ports.
    if ip.fragment.is_some_and(|fragment| fragment.offset != 0) {
        return None;
    }
    Some(Quoted {
        source: ip.source.into(),
        destination: ip.destination.into(),
        protocol: ip.protocol,
        total_len: ip.total_len,
        payload: bytes.get(ip.header_len..)?,
    })
}

fn quoted_v6(bytes: &[u8]) -> Option<Quoted<'_>> {
    let ip = ipv6::parse_quoted(bytes).ok()?;
    let behind = bytes.get(ipv6::HEADER_LEN..)?;
    let chain = ipv6_extension::walk(ip.next_header, behind).ok()?;
    if chain.fragment.is_some_and(|field| field.fragment.offset != 0) {
        return None;
    }
    Some(Quoted {
        source: ip.source.into(),
        destination: ip.destination.into(),
        protocol: chain.protocol,
        total_len: ip.total_len(),
        payload: behind.get(chain.payload_offset..)?,
    })
}

/// RFC 1122 §3.2.2.1: what each code means to a transport. Source quench (RFC 6633) and redirects
/// mean nothing.
fn undelivered_v4(kind: u8, code: u8, mtu: usize) -> Option<Undelivered> {
    use icmpv4::{time_exceeded, unreachable};
    match (kind, code) {
        (icmpv4::kind::UNREACHABLE, unreachable::PROTOCOL | unreachable::PORT) => Some(Undelivered::PortUnreachable),
        (icmpv4::kind::UNREACHABLE, unreachable::FRAGMENTATION_NEEDED) => Some(Undelivered::TooBig { mtu }),
        (icmpv4::kind::UNREACHABLE, 9 | 10 | unreachable::ADMINISTRATIVELY) => Some(Undelivered::Prohibited),
        (icmpv4::kind::UNREACHABLE, _) => Some(Undelivered::HostUnreachable),
        (icmpv4::kind::TIME_EXCEEDED, time_exceeded::TTL) => Some(Undelivered::HopLimit),
        (icmpv4::kind::TIME_EXCEEDED, time_exceeded::REASSEMBLY) => Some(Undelivered::Reassembly),
        (icmpv4::kind::PARAMETER_PROBLEM, _) => Some(Undelivered::ParameterProblem),
        _ => None,
    }
}

fn undelivered_v6(kind: u8, code: u8, value: u32) -> Option<Undelivered> {
    use icmpv6::{parameter_problem, time_exceeded, unreachable};
    match (kind, code) {
        (icmpv6::kind::UNREACHABLE, unreachable::PORT)
        | (icmpv6::kind::PARAMETER_PROBLEM, parameter_problem::NEXT_HEADER) => Some(Undelivered::PortUnreachable),
        (icmpv6::kind::UNREACHABLE, unreachable::PROHIBITED | 5 | 6) => Some(Undelivered::Prohibited),
        (icmpv6::kind::UNREACHABLE, _) => Some(Undelivered::HostUnreachable),
        (icmpv6::kind::PACKET_TOO_BIG, _) => {
            Some(Undelivered::TooBig { mtu: usize::try_from(value).unwrap_or(usize::MAX) })
        }
        (icmpv6::kind::TIME_EXCEEDED, time_exceeded::HOP_LIMIT) => Some(Undelivered::HopLimit),
        (icmpv6::kind::TIME_EXCEEDED, time_exceeded::REASSEMBLY) => Some(Undelivered::Reassembly),
        (icmpv6::kind::PARAMETER_PROBLEM, _) => Some(Undelivered::ParameterProblem),
        _ => None,
    }
}

/// The checksum after an IPv6 address in the pseudo header changed.
fn replace_address(mut checksum: [u8; 2], old: [u8; 16], new: [u8; 16]) -> [u8; 2] {
    let (old, _) = old.as_chunks::<4>();
    let (new, _) = new.as_chunks::<4>();
    for (&old, &new) in old.iter().zip(new) {
        checksum = checksum::update_u32(checksum, old, new);
    }
    checksum
}
