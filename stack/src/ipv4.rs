//! IPv4 packets for us (RFC 791, RFC 1122 §3.2).

use crate::buffer::Buffer;
use crate::drop_reason::DropReason;
use crate::env::Env;
use crate::interface::InterfaceId;
use crate::packet::Packet;
use crate::reassembly::{Key, Piece};
use crate::stack::Stack;
use crate::verdict::Verdict;
use crate::wire::ethernet::Link;
use crate::wire::ipv4::{self, Fragment, Ipv4, Ipv4Error, option};

impl<B: Buffer> Stack<B> {
    pub(crate) fn on_ipv4<E: Env<Buffer = B>>(
        &mut self,
        id: InterfaceId,
        link: &Link,
        mut buffer: B,
        env: &mut E,
    ) -> Verdict<B> {
        let (ip, packet) = match self.admit_ipv4(id, link, &buffer) {
            Ok(admitted) => admitted,
            Err(reason) => return self.drop_packet(buffer, reason, env),
        };
        // What follows the packet is Ethernet's padding.
        buffer.truncate(link.header_len + ip.total_len);
        match ip.fragment {
            None => self.on_payload(packet, buffer, env),
            Some(fragment) => self.on_ipv4_fragment(&ip, fragment, packet, buffer, env),
        }
    }

    pub(crate) fn admit_ipv4(&self, id: InterfaceId, link: &Link, buffer: &B) -> Result<(Ipv4, Packet), DropReason> {
        let bytes = buffer.bytes().get(link.header_len..).unwrap_or_default();
        let ip = ipv4::parse(bytes, buffer.len() - link.header_len)?;
        let plain = ip.header_len == ipv4::HEADER_LEN;
        if !plain {
            let options = bytes.get(ipv4::HEADER_LEN..ip.header_len).unwrap_or_default();
            check_options(options)?;
        }
        let packet = Packet {
            interface: id,
            link_source: link.source,
            link_group: link.destination.is_group(),
            local: self.admit_addresses(id, link, ip.source.into(), ip.destination.into())?,
            source: ip.source.into(),
            destination: ip.destination.into(),
            protocol: ip.protocol,
            hop_limit: ip.ttl,
            traffic_class: ip.tos,
            ip_offset: link.header_len,
            payload_offset: link.header_len + ip.header_len,
            protocol_offset: 9,
            plain,
        };
        Ok((ip, packet))
    }

    fn on_ipv4_fragment<E: Env<Buffer = B>>(
        &mut self,
        ip: &Ipv4,
        fragment: Fragment,
        packet: Packet,
        buffer: B,
        env: &mut E,
    ) -> Verdict<B> {
        let key = Key {
            interface: packet.interface,
            source: packet.source,
            destination: packet.destination,
            ident: u32::from(ip.ident),
            protocol: ip.protocol,
        };
        let end_max = ipv4::TOTAL_LEN_MAX - ip.header_len;
        match Piece::new(fragment.offset, ip.payload_len(), fragment.more, end_max) {
            Ok(piece) => self.on_fragment(key, piece, packet, buffer, env),
            Err(reason) => self.drop_packet(buffer, reason, env),
        }
    }
}

impl From<Ipv4Error> for DropReason {
    fn from(error: Ipv4Error) -> Self {
        match error {
            Ipv4Error::Truncated => Self::Ipv4Truncated,
            Ipv4Error::Version => Self::Ipv4Version,
            Ipv4Error::HeaderLen => Self::Ipv4HeaderLen,
            Ipv4Error::TotalLen => Self::Ipv4TotalLen,
            Ipv4Error::Checksum => Self::Ipv4Checksum,
        }
    }
}

/// RFC 1122 §3.2.1.8: options are passed over silently, but source routes are refused.
fn check_options(options: &[u8]) -> Result<(), DropReason> {
    for option in ipv4::options(options) {
        match option.map_err(|_| DropReason::Ipv4Option)?.kind {
            option::LOOSE_SOURCE_ROUTE | option::STRICT_SOURCE_ROUTE => {
                return Err(DropReason::Ipv4SourceRoute);
            }
            _ => {}
        }
    }
    Ok(())
}
