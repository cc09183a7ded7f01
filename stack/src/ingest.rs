//! The way in: link header, then by ethertype; and back together by transport.

use core::net::IpAddr;

use crate::address::is_source_invalid;
use crate::buffer::Buffer;
use crate::drop_reason::DropReason;
use crate::env::Env;
use crate::icmp_error::IcmpError;
use crate::interface::{InterfaceId, Local};
use crate::packet::Packet;
use crate::stack::Stack;
use crate::verdict::Verdict;
use crate::wire::ethernet::{self, Link, LinkError, ethertype};
use crate::wire::protocol;

impl<B: Buffer> Stack<B> {
    /// Takes in a frame received on `id`, from its Ethernet header on, and says what became of it.
    pub fn ingest<E: Env<Buffer = B>>(&mut self, id: InterfaceId, buffer: B, env: &mut E) -> Verdict<B> {
        self.ledger.ingested += 1;
        self.on_expected(id, buffer, env)
    }

    /// A received frame, or one that reassembly made whole.
    #[inline(never)]
    pub(crate) fn on_frame<E: Env<Buffer = B>>(&mut self, id: InterfaceId, buffer: B, env: &mut E) -> Verdict<B> {
        match self.admit(id, &buffer) {
            Ok(link) => match link.ethertype {
                ethertype::IPV4 => self.on_ipv4(id, &link, buffer, env),
                ethertype::IPV6 => self.on_ipv6(id, &link, buffer, env),
                ethertype::ARP => self.on_arp(id, &link, buffer, env),
                _ => self.drop_packet(buffer, DropReason::EthertypeUnknown, env),
            },
            Err(reason) => self.drop_packet(buffer, reason, env),
        }
    }

    /// Whether the frame is for this interface at all.
    fn admit(&self, id: InterfaceId, buffer: &B) -> Result<Link, DropReason> {
        let interface = self.interface(id).ok_or(DropReason::InterfaceUnknown)?;
        let config = &interface.station.config;
        let link = ethernet::parse(buffer.bytes()).map_err(|LinkError::Truncated| DropReason::EthernetTruncated)?;
        if link.destination != config.mac && !link.destination.is_group() {
            return Err(DropReason::EthernetNotOurs);
        }
        if !link.source.is_station() {
            return Err(DropReason::EthernetSource);
        }
        if link.vlan != config.vlan {
            return Err(DropReason::VlanMismatch);
        }
        Ok(link)
    }

    /// Whether the addresses may lead a packet to us, and how it is addressed.
    pub(crate) fn admit_addresses(
        &self,
        id: InterfaceId,
        link: &Link,
        source: IpAddr,
        destination: IpAddr,
    ) -> Result<Local, DropReason> {
        let station = &self.interface(id).ok_or(DropReason::InterfaceUnknown)?.station;
        let local = station.local(destination).ok_or(DropReason::AddressNotOurs)?;
        // RFC 1122 §3.3.6: a station's address in a frame for everybody is somebody's mistake.
        if local == Local::Unicast && link.destination.is_group() {
            return Err(DropReason::UnicastInLinkGroup);
        }
        // RFC 1122 §3.2.1.3: a host silently discards what has an impossible source.
        if is_source_invalid(source) || matches!(source, IpAddr::V4(s) if station.is_broadcast(s)) {
            return Err(DropReason::SourceInvalid);
        }
        if station.has(source) {
            return Err(DropReason::SourceOurs);
        }
        Ok(local)
    }

    /// The payload of a whole packet for us.
    pub(crate) fn on_payload<E: Env<Buffer = B>>(&mut self, packet: Packet, buffer: B, env: &mut E) -> Verdict<B> {
        match (packet.protocol, packet.source) {
            (protocol::TCP, _) => self.on_tcp(packet, buffer, env),
            (protocol::UDP, _) => self.on_udp(packet, buffer, env),
            (protocol::ICMP, IpAddr::V4(_)) => self.on_icmpv4(packet, buffer, env),
            (protocol::ICMPV6, IpAddr::V6(_)) => self.on_icmpv6(packet, buffer, env),
            (protocol::NO_NEXT_HEADER, IpAddr::V6(_)) => {
                self.ledger.release(env, buffer);
                Verdict::Consumed
            }
            _ => {
                // RFC 1122 §3.2.2.1, RFC 8200 §4.
                let pointer = packet.protocol_offset as u32;
                let error = IcmpError::ProtocolUnknown { pointer };
                self.report_unreachable(error, &packet, &buffer, env);
                self.drop_packet(buffer, DropReason::ProtocolUnknown, env)
            }
        }
    }
}
