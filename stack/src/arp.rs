//! ARP for one station (RFC 826, RFC 5227 §2.4 in part).

use core::net::Ipv4Addr;

use zerocopy::{FromBytes, IntoBytes};

use crate::buffer::Buffer;
use crate::drop_reason::DropReason;
use crate::env::Env;
use crate::event::Event;
use crate::interface::{InterfaceId, Station};
use crate::neighbour::{Evidence, NeighbourMode};
use crate::stack::Stack;
use crate::verdict::Verdict;
use crate::wire::arp::{self, Arp, Operation};
use crate::wire::ethernet::{EthernetHeader, Link, MacAddress, ethertype};

impl<B: Buffer> Stack<B> {
    /// RFC 826, "Packet Reception": learn from the sender, then answer if we are the target.
    pub(crate) fn on_arp<E: Env<Buffer = B>>(
        &mut self,
        id: InterfaceId,
        link: &Link,
        mut buffer: B,
        env: &mut E,
    ) -> Verdict<B> {
        let bytes = buffer.bytes().get(link.header_len..).unwrap_or_default();
        let Ok(packet) = arp::parse(bytes) else {
            return self.drop_packet(buffer, DropReason::ArpMalformed, env);
        };
        let Some(interface) = self.interface_mut(id) else {
            return self.drop_packet(buffer, DropReason::InterfaceUnknown, env);
        };
        let station = &interface.station;
        let own_mac = station.config.mac;
        if station.config.neighbours == NeighbourMode::External {
            return self.drop_packet(buffer, DropReason::ArpExternal, env);
        }
        let sender = packet.sender_ip.into();
        // RFC 5227 §2.4: somebody else uses our address; we keep it and say so.
        if station.has(sender) {
            if packet.sender_mac != own_mac {
                let mac = packet.sender_mac;
                self.events.push(Event::AddressConflict { interface: id, address: sender, mac });
            }
            self.ledger.release(env, buffer);
            return Verdict::Consumed;
        }
        let for_us = station.has(packet.target_ip.into());
        let answers = station.config.answers;
        let asked = packet.operation == Operation::Request;
        // RFC 5227 §2.1.1: a probe has no sender address to learn.
        let mut known = false;
        if !packet.sender_ip.is_unspecified() && !packet.sender_ip.is_multicast() {
            known = interface.neighbours.knows(sender);
            // Replies nobody asked for are hearsay, whoever they go to.
            let answers_us = !asked && interface.neighbours.is_asked(sender);
            let evidence = if answers_us { Evidence::Answer } else { Evidence::Hearsay };
            let create = for_us && asked;
            let (now, random) = (env.now(), env.random());
            let mac = packet.sender_mac;
            let pending = interface.neighbours.learn(sender, mac, evidence, create, now, random);
            self.send_pending(id, mac, pending, env);
        }
        if for_us && asked && answers {
            let reply = packet.reply(own_mac);
            return match write_in_place(&mut buffer, link, &reply) {
                Some(()) => {
                    self.ledger.answer(env, id, buffer);
                    Verdict::Answered
                }
                None => self.drop_packet(buffer, DropReason::ArpMalformed, env),
            };
        }
        if !known && !for_us {
            return self.drop_packet(buffer, DropReason::ArpNotOurs, env);
        }
        self.ledger.release(env, buffer);
        Verdict::Consumed
    }
}

/// Turns the frame of a request into the reply's.
fn write_in_place<B: Buffer>(buffer: &mut B, link: &Link, reply: &Arp) -> Option<()> {
    let (front, rest) = buffer.bytes_mut().split_at_mut_checked(link.header_len)?;
    let (ethernet, _) = EthernetHeader::mut_from_prefix(front).ok()?;
    ethernet.destination = reply.target_mac;
    ethernet.source = reply.sender_mac;
    reply.packet().write_to_prefix(rest).ok()
}

impl Station {
    /// Writes the frame that asks who has `target`: everybody, or the station that had it.
    pub(crate) fn arp_request<B: Buffer>(
        &self,
        target: Ipv4Addr,
        mac: Option<MacAddress>,
        buffer: &mut B,
    ) -> Result<(), DropReason> {
        // RFC 5227 §2.1.1: the all-zero sender is a probe's, and all we can say without address.
        let sender = match self.source_for(target.into(), target.into()) {
            Some(core::net::IpAddr::V4(sender)) => sender,
            _ => Ipv4Addr::UNSPECIFIED,
        };
        self.arp_frame(Arp::request(self.config.mac, sender, target), mac, buffer)
    }

    /// Writes the frame that tells everybody where `address` is (RFC 5227 §2.3).
    pub(crate) fn arp_announcement<B: Buffer>(&self, address: Ipv4Addr, buffer: &mut B) -> Result<(), DropReason> {
        self.arp_frame(Arp::request(self.config.mac, address, address), None, buffer)
    }

    fn arp_frame<B: Buffer>(&self, arp: Arp, to: Option<MacAddress>, buffer: &mut B) -> Result<(), DropReason> {
        let room = buffer.append(arp::PACKET_LEN).map_err(|_| DropReason::TooBig)?;
        arp.packet().write_to(room).map_err(|_| DropReason::TooBig)?;
        self.prepend_ethernet(to.unwrap_or(MacAddress::BROADCAST), ethertype::ARP, buffer)
    }
}
