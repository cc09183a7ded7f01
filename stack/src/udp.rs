//! UDP (RFC 768, RFC 1122 §4.1, RFC 8085 §5).

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

use zerocopy::network_endian::U16;
use zerocopy::{FromBytes, IntoBytes};

use crate::buffer::Buffer;
use crate::checksum::Sum;
use crate::drop_reason::DropReason;
use crate::env::Env;
use crate::icmp_error::IcmpError;
use crate::interface::{InterfaceId, Local};
use crate::output::{Outgoing, prepend};
use crate::packet::{Packet, pseudo_header, sum_pieces};
use crate::route::Hop;
pub use crate::sockets::{BindError, SOCKETS_PER_PORT_MAX, SocketId};
use crate::stack::Stack;
use crate::verdict::{Datagram, Sent, Verdict};
use crate::wire::protocol;
use crate::wire::udp::{self, UdpError, UdpHeader};

/// Largest payload of a datagram over IPv4; IPv6 has 20 bytes more.
pub const PAYLOAD_MAX: usize = 65_507;

impl<B: Buffer> Stack<B> {
    /// Opens a socket at `local` (address or unspecified for any), for `remote` only if given.
    pub fn udp_bind(&mut self, local: SocketAddr, remote: Option<SocketAddr>) -> Result<SocketId, BindError> {
        self.sockets.bind(local, remote)
    }

    /// As [`udp_bind`](Self::udp_bind), at a port of [`Config::local_ports`](crate::Config) which is free and `accepted`: for
    /// instance whose replies hash back to this worker.
    pub fn udp_bind_ephemeral(
        &mut self,
        address: IpAddr,
        remote: Option<SocketAddr>,
        random: u64,
        accepted: impl FnMut(u16) -> bool,
    ) -> Result<SocketId, BindError> {
        self.sockets.bind_ephemeral(address, remote, self.config.local_ports, random, accepted)
    }

    /// The address that we would speak to `remote` from; `None` if no route leads there.
    pub fn source_for(&self, remote: SocketAddr) -> Option<IpAddr> {
        let unspecified: IpAddr =
            if remote.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        self.source_and_hop(unspecified, remote, None).ok().map(|(_, source)| source)
    }

    /// Whether the socket was open.
    pub fn udp_close(&mut self, socket: SocketId) -> bool {
        self.sockets.close(socket)
    }

    /// Gives what the socket sends from now on this DSCP: the upper six bits of the traffic class (RFC 1122 §4.1.4). Whether
    /// it is open.
    pub fn udp_set_dscp(&mut self, socket: SocketId, dscp: u8) -> bool {
        let bound = self.sockets.get_mut(socket);
        bound.map(|bound| bound.dscp = dscp).is_some()
    }

    /// Where the socket is bound.
    pub fn udp_local(&self, socket: SocketId) -> Option<SocketAddr> {
        self.sockets.get(socket).map(|bound| bound.local)
    }

    /// Every open socket with its local and remote address.
    pub fn udp_sockets(&self) -> impl Iterator<Item = (SocketId, SocketAddr, Option<SocketAddr>)> {
        self.sockets.iter().map(|(id, bound)| (id, bound.local, bound.remote))
    }

    pub(crate) fn on_udp<E: Env<Buffer = B>>(&mut self, packet: Packet, mut buffer: B, env: &mut E) -> Verdict<B> {
        let header = match admit(&packet, &buffer) {
            Ok(header) => header,
            Err(reason) => return self.drop_packet(buffer, reason, env),
        };
        let source = self.socket_addr(packet.source, header.source_port, packet.interface);
        let destination = self.socket_addr(packet.destination, header.destination_port, packet.interface);
        let Some(socket) = self.sockets.lookup(destination, source) else {
            // RFC 1122 §4.1.3.1.
            self.report_unreachable(IcmpError::PortUnreachable, &packet, &buffer, env);
            return self.drop_packet(buffer, DropReason::UdpPortClosed, env);
        };
        // RFC 1122 §4.1.3.2 has nothing to say about what follows the datagram in its packet.
        buffer.truncate(packet.payload_offset + header.len);
        self.ledger.delivered += 1;
        Verdict::Datagram(Datagram { socket, source, destination, packet, buffer, changed: false })
    }

    /// With the scope that link-local addresses need.
    fn socket_addr(&self, ip: IpAddr, port: u16, interface: InterfaceId) -> SocketAddr {
        match ip {
            IpAddr::V6(v6) if v6.is_unicast_link_local() => {
                let scope = self.interface(interface).map_or(0, |i| i.station.config.scope_id);
                SocketAddrV6::new(v6, port, 0, scope).into()
            }
            _ => SocketAddr::new(ip, port),
        }
    }

    /// Sends `payload`, a buffer with nothing but the payload and [`HEADROOM`](crate::HEADROOM),
    /// from the socket. What is too long for the path goes in fragments.
    pub fn udp_send<E: Env<Buffer = B>>(
        &mut self,
        socket: SocketId,
        destination: SocketAddr,
        payload: B,
        env: &mut E,
    ) -> Result<Sent, DropReason> {
        self.ledger.originated += 1;
        let Some(&bound) = self.sockets.get(socket) else {
            self.ledger.discard(env, payload, DropReason::SocketUnknown);
            return Err(DropReason::SocketUnknown);
        };
        self.send_udp(bound.local, bound.dscp, destination, None, payload, env)
    }

    /// Sends the datagram back to where it came from, with the payload it has now. An unchanged or
    /// changed payload stays where it lies; an unchanged one keeps its checksum too, for swapped
    /// addresses and ports add up to the same.
    pub fn udp_reply<E: Env<Buffer = B>>(&mut self, datagram: Datagram<B>, env: &mut E) -> Result<Sent, DropReason> {
        self.ledger.originated += 1;
        let packet = datagram.packet;
        let interface = self.interface(packet.interface);
        let mtu = interface.map_or(0, |interface| interface.station.config.mtu);
        let total = datagram.buffer.len().saturating_sub(packet.ip_offset);
        let in_place = packet.plain && packet.local == Local::Unicast && total <= mtu;
        if !in_place || interface.is_none() {
            let Datagram { socket, source, destination, .. } = datagram;
            let from = if packet.local == Local::Unicast {
                destination
            } else {
                SocketAddr::new(unspecified(destination.ip()), destination.port())
            };
            let payload = datagram.into_payload();
            return self.send_udp(from, self.dscp_of(socket), source, Some(packet.interface), payload, env);
        }
        self.reply_in_place(datagram, env)
    }

    /// Of a socket, which may be closed by now.
    fn dscp_of(&self, socket: SocketId) -> u8 {
        self.sockets.get(socket).map_or(0, |bound| bound.dscp)
    }

    fn reply_in_place<E: Env<Buffer = B>>(&mut self, datagram: Datagram<B>, env: &mut E) -> Result<Sent, DropReason> {
        let Datagram { socket, source, destination, packet, mut buffer, changed } = datagram;
        let out = Outgoing {
            source: destination.ip(),
            destination: source.ip(),
            protocol: protocol::UDP,
            hop_limit: self.config.hop_limit,
            traffic_class: self.dscp_of(socket) << 2,
        };
        let (from, to) = (destination.port(), source.port());
        let written = write_header(&mut buffer, &out, packet.payload_offset, from, to, changed)
            .and_then(|()| self.interface(packet.interface)?.station.turn_around(&packet, &out, &mut buffer));
        match written {
            Some(()) => {
                self.ledger.transmit(env, packet.interface, buffer);
                Ok(Sent::Transmitted)
            }
            None => {
                self.ledger.discard(env, buffer, DropReason::HeaderSplit);
                Err(DropReason::HeaderSplit)
            }
        }
    }

    fn send_udp<E: Env<Buffer = B>>(
        &mut self,
        from: SocketAddr,
        dscp: u8,
        to: SocketAddr,
        via: Option<InterfaceId>,
        mut payload: B,
        env: &mut E,
    ) -> Result<Sent, DropReason> {
        let (hop, source) = match self.source_and_hop(from.ip(), to, via) {
            Ok(found) => found,
            Err(reason) => {
                self.ledger.discard(env, payload, reason);
                return Err(reason);
            }
        };
        let out = Outgoing {
            source,
            destination: to.ip(),
            protocol: protocol::UDP,
            hop_limit: self.config.hop_limit,
            traffic_class: dscp << 2,
        };
        let written = if payload.len() > usize::from(u16::MAX) - udp::HEADER_LEN {
            Err(DropReason::TooBig)
        } else {
            prepend(&mut payload, &[0; udp::HEADER_LEN])
        };
        let written = written.and_then(|()| {
            write_header(&mut payload, &out, 0, from.port(), to.port(), true).ok_or(DropReason::NoHeadroom)
        });
        match written {
            Ok(()) => self.send_ip(&out, hop, payload, env),
            Err(reason) => {
                self.ledger.discard(env, payload, reason);
                Err(reason)
            }
        }
    }

    /// The next hop to `to`, and the address to send from unless `own` is one.
    pub(crate) fn source_and_hop(
        &self,
        own: IpAddr,
        to: SocketAddr,
        via: Option<InterfaceId>,
    ) -> Result<(Hop, IpAddr), DropReason> {
        let scope = match to {
            SocketAddr::V6(v6) => self.scoped(v6.scope_id()),
            SocketAddr::V4(_) => None,
        };
        let only = scope.or(via);
        let found = self.routes.lookup(to.ip(), only);
        let hop = match (found, only) {
            (Some(hop), _) => hop,
            // Groups and the limited broadcast need no route, only an interface.
            (None, Some(interface)) if is_link_group(to.ip()) => Hop { interface, next: to.ip() },
            (None, _) => self.routes.lookup(to.ip(), None).filter(|_| scope.is_none()).ok_or(DropReason::NoRoute)?,
        };
        // A group is reached on the link, whatever gateway its route names.
        let hop = if is_link_group(to.ip()) { Hop { next: to.ip(), ..hop } } else { hop };
        if own.is_ipv4() != to.is_ipv4() {
            return Err(DropReason::NoSource);
        }
        if !own.is_unspecified() {
            return Ok((hop, own));
        }
        let station = &self.interface(hop.interface).ok_or(DropReason::InterfaceRemoved)?.station;
        let source = station.source_for(to.ip(), hop.next).ok_or(DropReason::NoSource)?;
        Ok((hop, source))
    }
}

/// Reads the header and verifies the checksum: on AF_XDP nobody did so before.
fn admit<B: Buffer>(packet: &Packet, buffer: &B) -> Result<udp::Udp, DropReason> {
    let available = packet.payload_len(buffer);
    let header = udp::parse(packet.payload(buffer), available).map_err(|error| match error {
        UdpError::Truncated => DropReason::UdpTruncated,
        UdpError::Len => DropReason::UdpLen,
    })?;
    // RFC 768: zero means none. RFC 8200 §8.1: not so over IPv6.
    if !header.has_checksum && packet.source.is_ipv6() {
        return Err(DropReason::UdpChecksumMissing);
    }
    if header.has_checksum && !packet.sum(buffer, header.len).is_valid() {
        return Err(DropReason::UdpChecksum);
    }
    if packet.source.is_unspecified() {
        return Err(DropReason::SourceInvalid);
    }
    Ok(header)
}

/// Writes ports and length at `offset`, and the checksum if `sum` says so.
fn write_header<B: Buffer>(buffer: &mut B, out: &Outgoing, offset: usize, from: u16, to: u16, sum: bool) -> Option<()> {
    let len = buffer.len().checked_sub(offset)?;
    let bytes = buffer.bytes_mut().get_mut(offset..)?;
    let (header, _) = UdpHeader::mut_from_prefix(bytes).ok()?;
    header.source_port = U16::new(from);
    header.destination_port = U16::new(to);
    header.len = U16::new(u16::try_from(len).ok()?);
    if !sum {
        return Some(());
    }
    header.checksum = [0; 2];
    let pseudo: Sum = pseudo_header(out.source, out.destination, protocol::UDP, len);
    let checksum = match sum_pieces(pseudo, buffer, offset, len).checksum() {
        // RFC 768: a checksum that comes out as zero is sent as all ones.
        [0, 0] => [0xff; 2],
        checksum => checksum,
    };
    let bytes = buffer.bytes_mut().get_mut(offset + 6..offset + 8)?;
    checksum.write_to(bytes).ok()
}

fn unspecified(family_of: IpAddr) -> IpAddr {
    match family_of {
        IpAddr::V4(_) => core::net::Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => core::net::Ipv6Addr::UNSPECIFIED.into(),
    }
}

fn is_link_group(address: IpAddr) -> bool {
    address.is_multicast() || matches!(address, IpAddr::V4(v4) if v4.is_broadcast())
}
