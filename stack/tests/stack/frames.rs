//! Frames from and to a peer, built and checked by other people's code.

use std::net::{Ipv4Addr, Ipv6Addr};

use etherparse::{IpFragOffset, IpNumber, Ipv4Header, Ipv6Header, PacketBuilder};
use smoltcp::wire::{
    ArpPacket, EthernetFrame, EthernetProtocol, Icmpv4Packet, Icmpv6Packet, IpProtocol, Ipv4Packet, Ipv6Packet,
    UdpPacket,
};
use tailwater_stack::MacAddress;
use tailwater_stack::testing::mac;

pub(crate) const OUR_MAC: MacAddress = mac(1);
pub(crate) const PEER_MAC: MacAddress = mac(2);
pub(crate) const OURS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
pub(crate) const PEER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
/// Reached through the peer.
pub(crate) const REMOTE: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 9);
pub(crate) const OURS6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
pub(crate) const PEER6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2);
pub(crate) const REMOTE6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xffff, 0, 0, 0, 0, 9);
pub(crate) const ETHERNET: usize = 14;

pub(crate) fn link(kind: u16, body: &[u8]) -> Vec<u8> {
    [&OUR_MAC.0[..], &PEER_MAC.0, &kind.to_be_bytes(), body].concat()
}

pub(crate) fn udp4(source_port: u16, port: u16, payload: &[u8]) -> Vec<u8> {
    udp4_between(PEER, OURS, source_port, port, payload)
}

pub(crate) fn udp4_between(source: Ipv4Addr, to: Ipv4Addr, source_port: u16, port: u16, payload: &[u8]) -> Vec<u8> {
    let builder = PacketBuilder::ethernet2(PEER_MAC.0, OUR_MAC.0);
    let builder = builder.ipv4(source.octets(), to.octets(), 17).udp(source_port, port);
    let mut frame = Vec::new();
    builder.write(&mut frame, payload).unwrap();
    frame
}

pub(crate) fn udp6(source_port: u16, port: u16, payload: &[u8]) -> Vec<u8> {
    udp6_between(PEER6, OURS6, source_port, port, payload)
}

pub(crate) fn udp6_between(source: Ipv6Addr, to: Ipv6Addr, source_port: u16, port: u16, payload: &[u8]) -> Vec<u8> {
    let builder = PacketBuilder::ethernet2(PEER_MAC.0, OUR_MAC.0);
    let builder = builder.ipv6(source.octets(), to.octets(), 17).udp(source_port, port);
    let mut frame = Vec::new();
    builder.write(&mut frame, payload).unwrap();
    frame
}

pub(crate) fn echo4(ident: u16, sequence: u16, payload: &[u8]) -> Vec<u8> {
    let builder = PacketBuilder::ethernet2(PEER_MAC.0, OUR_MAC.0);
    let builder = builder.ipv4(PEER.octets(), OURS.octets(), 17).icmpv4_echo_request(ident, sequence);
    let mut frame = Vec::new();
    builder.write(&mut frame, payload).unwrap();
    frame
}

pub(crate) fn echo6(ident: u16, sequence: u16, payload: &[u8]) -> Vec<u8> {
    let builder = PacketBuilder::ethernet2(PEER_MAC.0, OUR_MAC.0);
    let builder = builder.ipv6(PEER6.octets(), OURS6.octets(), 17).icmpv6_echo_request(ident, sequence);
    let mut frame = Vec::new();
    builder.write(&mut frame, payload).unwrap();
    frame
}

/// An IPv4 frame with this payload and, if asked, options (a multiple of four bytes).
pub(crate) fn ip4(protocol: u8, options: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut header =
        Ipv4Header::new(payload.len() as u16, 17, IpNumber(protocol), PEER.octets(), OURS.octets()).unwrap();
    header.options = options.try_into().unwrap();
    header.total_len = (header.header_len() + payload.len()) as u16;
    header.header_checksum = header.calc_header_checksum();
    link(0x0800, &[&header.to_bytes()[..], payload].concat())
}

/// An IPv6 frame with this payload.
pub(crate) fn ip6(next_header: u8, payload: &[u8]) -> Vec<u8> {
    ip6_between(PEER6, OURS6, next_header, payload)
}

pub(crate) fn ip6_between(source: Ipv6Addr, to: Ipv6Addr, next_header: u8, payload: &[u8]) -> Vec<u8> {
    let header = Ipv6Header {
        payload_length: payload.len() as u16,
        next_header: IpNumber(next_header),
        hop_limit: 17,
        source: source.octets(),
        destination: to.octets(),
        ..Default::default()
    };
    link(0x86dd, &[&header.to_bytes()[..], payload].concat())
}

/// One fragment of a datagram from the peer; `offset` in bytes.
pub(crate) fn fragment4(ident: u16, protocol: u8, offset: usize, more: bool, payload: &[u8]) -> Vec<u8> {
    let mut header =
        Ipv4Header::new(payload.len() as u16, 17, IpNumber(protocol), PEER.octets(), OURS.octets()).unwrap();
    header.identification = ident;
    header.dont_fragment = false;
    header.more_fragments = more;
    header.fragment_offset = IpFragOffset::try_new((offset / 8) as u16).unwrap();
    header.header_checksum = header.calc_header_checksum();
    link(0x0800, &[&header.to_bytes()[..], payload].concat())
}

/// By hand: etherparse 0.19 writes offset and flag of IPv6's fragment header in the order of IPv4's.
pub(crate) fn fragment6(ident: u32, protocol: u8, offset: usize, more: bool, payload: &[u8]) -> Vec<u8> {
    let field = (offset as u16 | u16::from(more)).to_be_bytes();
    let header = [&[protocol, 0][..], &field, &ident.to_be_bytes()].concat();
    ip6(44, &[&header[..], payload].concat())
}

/// The fragments, with `len` bytes of payload each, of a frame as [`udp4`] or [`echo4`] makes it.
pub(crate) fn split4(ident: u16, frame: &[u8], len: usize) -> Vec<Vec<u8>> {
    let (protocol, payload) = (frame[ETHERNET + 9], &frame[ETHERNET + 20..]);
    let pieces = payload.chunks(len).enumerate();
    pieces.map(|(n, piece)| fragment4(ident, protocol, n * len, n * len + piece.len() < payload.len(), piece)).collect()
}

pub(crate) fn split6(ident: u32, frame: &[u8], len: usize) -> Vec<Vec<u8>> {
    let (protocol, payload) = (frame[ETHERNET + 6], &frame[ETHERNET + 40..]);
    let pieces = payload.chunks(len).enumerate();
    pieces.map(|(n, piece)| fragment6(ident, protocol, n * len, n * len + piece.len() < payload.len(), piece)).collect()
}

/// An ICMPv4 message of any kind from `source`, its checksum right.
pub(crate) fn icmp4(source: Ipv4Addr, kind: u8, code: u8, rest: u32, body: &[u8]) -> Vec<u8> {
    let mut message = [&[kind, code, 0, 0][..], &rest.to_be_bytes(), body].concat();
    Icmpv4Packet::new_unchecked(&mut message).fill_checksum();
    let mut frame = ip4(1, &[], &message);
    frame[ETHERNET + 12..ETHERNET + 16].copy_from_slice(&source.octets());
    Ipv4Packet::new_unchecked(&mut frame[ETHERNET..]).fill_checksum();
    frame
}

/// An ICMPv6 message of any kind, its checksum right.
pub(crate) fn icmp6(source: Ipv6Addr, to: Ipv6Addr, kind: u8, code: u8, rest: u32, body: &[u8]) -> Vec<u8> {
    let mut message = [&[kind, code, 0, 0][..], &rest.to_be_bytes(), body].concat();
    Icmpv6Packet::new_unchecked(&mut message).fill_checksum(&source, &to);
    ip6_between(source, to, 58, &message)
}

/// As [`icmp6`], as neighbour discovery sends it.
pub(crate) fn ndp(source: Ipv6Addr, to: Ipv6Addr, kind: u8, flags: u32, body: &[u8]) -> Vec<u8> {
    let mut frame = icmp6(source, to, kind, 0, flags, body);
    frame[ETHERNET + 7] = 255;
    if to.is_multicast() {
        let [.., m, n, o, p] = to.octets();
        frame[..6].copy_from_slice(&[0x33, 0x33, m, n, o, p]);
    }
    frame
}

/// Panics unless smoltcp finds every length and checksum of the frame right.
pub(crate) fn assert_valid(bytes: &[u8]) {
    let frame = EthernetFrame::new_checked(bytes).expect("ethernet");
    assert_eq!(frame.src_addr().0, OUR_MAC.0, "sent from our address");
    match frame.ethertype() {
        EthernetProtocol::Arp => {
            ArpPacket::new_checked(frame.payload()).expect("arp");
        }
        EthernetProtocol::Ipv4 => {
            let ip = Ipv4Packet::new_checked(frame.payload()).expect("ipv4");
            assert!(ip.verify_checksum(), "ipv4 checksum");
            assert_eq!(usize::from(ip.total_len()), frame.payload().len(), "no padding");
            if ip.more_frags() || ip.frag_offset() != 0 {
                return;
            }
            match ip.next_header() {
                IpProtocol::Udp => {
                    let udp = UdpPacket::new_checked(ip.payload()).expect("udp");
                    assert!(udp.verify_checksum(&ip.src_addr().into(), &ip.dst_addr().into()), "udp checksum");
                }
                IpProtocol::Icmp => {
                    let icmp = Icmpv4Packet::new_checked(ip.payload()).expect("icmp");
                    assert!(icmp.verify_checksum(), "icmp checksum");
                }
                other => panic!("sent {other}"),
            }
        }
        EthernetProtocol::Ipv6 => {
            let ip = Ipv6Packet::new_checked(frame.payload()).expect("ipv6");
            assert_eq!(ip.total_len(), frame.payload().len(), "no padding");
            match ip.next_header() {
                IpProtocol::Udp => {
                    let udp = UdpPacket::new_checked(ip.payload()).expect("udp");
                    assert!(udp.verify_checksum(&ip.src_addr().into(), &ip.dst_addr().into()), "udp checksum");
                }
                IpProtocol::Icmpv6 => {
                    let icmp = Icmpv6Packet::new_checked(ip.payload()).expect("icmpv6");
                    assert!(icmp.verify_checksum(&ip.src_addr(), &ip.dst_addr()), "icmpv6 checksum");
                }
                IpProtocol::Ipv6Frag => {}
                other => panic!("sent {other}"),
            }
        }
        other => panic!("sent {other}"),
    }
}
