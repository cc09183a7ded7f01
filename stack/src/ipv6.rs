//! IPv6 packets for us (RFC 8200).

use crate::buffer::Buffer;
use crate::drop_reason::DropReason;
use crate::env::Env;
use crate::icmp_error::IcmpError;
use crate::interface::InterfaceId;
use crate::packet::Packet;
use crate::reassembly::{Key, Piece};
use crate::stack::Stack;
use crate::verdict::Verdict;
use crate::wire::ethernet::Link;
use crate::wire::ipv4::Fragment;
use crate::wire::ipv6::{self, Ipv6, Ipv6Error};
use crate::wire::ipv6_extension::{self, Chain, ExtensionError, FRAGMENT_LEN, FragmentField};
use crate::wire::{protocol, tcp, udp};

impl<B: Buffer> Stack<B> {
    pub(crate) fn on_ipv6<E: Env<Buffer = B>>(
        &mut self,
        id: InterfaceId,
        link: &Link,
        mut buffer: B,
        env: &mut E,
    ) -> Verdict<B> {
        let (ip, mut packet) = match self.admit_ipv6(id, link, &buffer) {
            Ok(admitted) => admitted,
            Err(reason) => return self.drop_packet(buffer, reason, env),
        };
        // What follows the packet is Ethernet's padding.
        buffer.truncate(link.header_len + ip.total_len());
        let chain = match ipv6_extension::walk(ip.next_header, packet.payload(&buffer)) {
            Ok(chain) => chain,
            Err(error) => return self.on_ipv6_extension_error(error, &packet, buffer, env),
        };
        if let Some(field) = chain.fragment {
            return self.on_ipv6_fragment(&ip, &chain, field, packet, buffer, env);
        }
        packet.follow(&chain);
        self.on_payload(packet, buffer, env)
    }

    pub(crate) fn admit_ipv6(&self, id: InterfaceId, link: &Link, buffer: &B) -> Result<(Ipv6, Packet), DropReason> {
        let bytes = buffer.bytes().get(link.header_len..).unwrap_or_default();
        let ip = ipv6::parse(bytes, buffer.len() - link.header_len)?;
        let packet = Packet {
            interface: id,
            link_source: link.source,
            link_group: link.destination.is_group(),
            local: self.admit_addresses(id, link, ip.source.into(), ip.destination.into())?,
            source: ip.source.into(),
            destination: ip.destination.into(),
            protocol: ip.next_header,
            hop_limit: ip.hop_limit,
            traffic_class: ip.traffic_class,
            ip_offset: link.header_len,
            payload_offset: link.header_len + ipv6::HEADER_LEN,
            protocol_offset: 6,
            plain: true,
        };
        Ok((ip, packet))
    }

    fn on_ipv6_extension_error<E: Env<Buffer = B>>(
        &mut self,
        error: ExtensionError,
        packet: &Packet,
        buffer: B,
        env: &mut E,
    ) -> Verdict<B> {
        let pointer = |offset: usize| u32::try_from(offset).unwrap_or(0);
        let (reason, report) = match error {
            ExtensionError::Truncated if !buffer.contiguous() => (DropReason::HeaderSplit, None),
            ExtensionError::Truncated | ExtensionError::OptionLen => (DropReason::Ipv6Extension, None),
            ExtensionError::TooMany => (DropReason::Ipv6ExtensionTooMany, None),
            // RFC 8200 §4: a header out of its place is an unrecognized next header.
            ExtensionError::Misplaced { offset } => {
                let error = IcmpError::ProtocolUnknown { pointer: pointer(offset) };
                (DropReason::Ipv6Extension, Some(error))
            }
            ExtensionError::OptionUnknown { offset, report } => {
                let error = IcmpError::OptionUnknown { pointer: pointer(offset) };
                let wanted = report.is_some_and(|also_group| also_group || packet.is_unicast());
                (DropReason::Ipv6OptionUnknown, Some(error).filter(|_| wanted))
            }
            // RFC 8200 §4.4: parameter problem at the routing type.
            ExtensionError::Routing { offset } => {
                let error = IcmpError::HeaderField { pointer: pointer(offset) };
                (DropReason::Ipv6Routing, Some(error))
            }
        };
        if let Some(error) = report {
            self.report(error, packet, &buffer, env);
        }
        self.drop_packet(buffer, reason, env)
    }

    fn on_ipv6_fragment<E: Env<Buffer = B>>(
        &mut self,
        ip: &Ipv6,
        chain: &Chain,
        field: FragmentField,
        mut packet: Packet,
        buffer: B,
        env: &mut E,
    ) -> Verdict<B> {
        let Fragment { offset, more } = field.fragment;
        // RFC 6946 §4: an atomic fragment stands for itself, whatever else has its ident.
        if offset == 0 && !more {
            packet.follow(chain);
            return self.on_payload(packet, buffer, env);
        }
        // RFC 8200 §4.5: the first fragment holds all headers up to the upper-layer one.
        let behind = field.offset + FRAGMENT_LEN;
        let upper_len = ip.payload_len.saturating_sub(chain.payload_offset);
        if offset == 0 && upper_len < upper_header_len(chain.protocol) {
            self.report(IcmpError::IncompleteChain, &packet, &buffer, env);
            return self.drop_packet(buffer, DropReason::FragmentTiny, env);
        }
        let key = Key {
            interface: packet.interface,
            source: packet.source,
            destination: packet.destination,
            ident: field.ident,
            protocol: 0,
        };
        let len = ip.payload_len.saturating_sub(behind);
        let end_max = ipv6::PAYLOAD_LEN_MAX - field.offset;
        let piece = match Piece::new(offset, len, more, end_max) {
            Ok(piece) => piece,
            Err(reason) => {
                // RFC 8200 §4.5: at the payload length, or at the fragment offset.
                let at = match reason {
                    DropReason::FragmentLen => 4,
                    _ => ipv6::HEADER_LEN + field.offset + 2,
                };
                let error = IcmpError::HeaderField { pointer: at as u32 };
                self.report(error, &packet, &buffer, env);
                return self.drop_packet(buffer, reason, env);
            }
        };
        packet.payload_offset += behind;
        self.on_fragment(key, piece, packet, buffer, env)
    }
}

impl Packet {
    /// Moves on to the end of the header chain.
    fn follow(&mut self, chain: &Chain) {
        self.plain = chain.payload_offset == 0;
        self.protocol = chain.protocol;
        self.protocol_offset = chain.next_header_offset;
        self.payload_offset += chain.payload_offset;
    }
}

impl From<Ipv6Error> for DropReason {
    fn from(error: Ipv6Error) -> Self {
        match error {
            Ipv6Error::Truncated => Self::Ipv6Truncated,
            Ipv6Error::Version => Self::Ipv6Version,
            Ipv6Error::PayloadLen => Self::Ipv6PayloadLen,
        }
    }
}

/// Bytes which a first fragment must have of an upper-layer header (RFC 7112 §4).
fn upper_header_len(next_header: u8) -> usize {
    match next_header {
        protocol::TCP => tcp::HEADER_LEN,
        protocol::UDP | protocol::ICMPV6 => udp::HEADER_LEN,
        _ => 0,
    }
}
