//! Frames, built header by header, for feeding to the program.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::{OWN_MAC, PEER_MAC};

pub(crate) const ETHERTYPE_IP4: u16 = 0x0800;
pub(crate) const ETHERTYPE_ARP: u16 = 0x0806;
pub(crate) const ETHERTYPE_IP6: u16 = 0x86dd;
pub(crate) const ETHERTYPE_VLAN: u16 = 0x8100;
pub(crate) const ETHERTYPE_QINQ: u16 = 0x88a8;

pub(crate) const ICMP: u8 = 1;
pub(crate) const TCP: u8 = 6;
pub(crate) const UDP: u8 = 17;
pub(crate) const ICMP6: u8 = 58;

/// Ethernet header and what follows it.
pub(crate) fn ethernet(dst: [u8; 6], ethertype: u16, payload: &[u8]) -> Vec<u8> {
    [&dst[..], &PEER_MAC, &ethertype.to_be_bytes(), payload].concat()
}

/// A frame with our encapsulation header: subtype, version and form, 16 bits of the flow hash.
pub(crate) fn encapsulated(ethertype: u16, flow_bits: u16) -> Vec<u8> {
    let header = [&[0x77, 0x11][..], &flow_bits.to_be_bytes(), &[0; 40]].concat();
    ethernet(OWN_MAC, ethertype, &header)
}

/// Puts a VLAN tag in front of what an Ethernet frame carries.
pub(crate) fn tagged(frame: &[u8], tpid: u16, vlan: u16) -> Vec<u8> {
    [&frame[..12], &tpid.to_be_bytes(), &vlan.to_be_bytes(), &frame[12..]].concat()
}

/// An IPv4 packet, all fields open.
#[derive(Clone)]
pub(crate) struct Ip4 {
    pub(crate) src: Ipv4Addr,
    pub(crate) dst: Ipv4Addr,
    pub(crate) proto: u8,
    pub(crate) ttl: u8,
    pub(crate) fragment: u16,
    pub(crate) options: Vec<u8>,
    pub(crate) payload: Vec<u8>,
}

impl Ip4 {
    pub(crate) fn new(src: [u8; 4], dst: [u8; 4], proto: u8, payload: Vec<u8>) -> Self {
        Self { src: src.into(), dst: dst.into(), proto, ttl: 64, fragment: 0, options: vec![], payload }
    }

    pub(crate) fn packet(&self) -> Vec<u8> {
        let header_len = 20 + self.options.len();
        let total = u16::try_from(header_len + self.payload.len()).unwrap();
        let mut header = vec![0x40 | (header_len / 4) as u8, 0];
        header.extend(total.to_be_bytes());
        header.extend([0x12, 0x34]);
        header.extend(self.fragment.to_be_bytes());
        header.extend([self.ttl, self.proto, 0, 0]);
        header.extend(self.src.octets());
        header.extend(self.dst.octets());
        header.extend(&self.options);
        let check = checksum(&header);
        header[10..12].copy_from_slice(&check.to_be_bytes());
        [header, self.payload.clone()].concat()
    }

    /// To our MAC address.
    pub(crate) fn frame(&self) -> Vec<u8> {
        ethernet(OWN_MAC, ETHERTYPE_IP4, &self.packet())
    }
}

/// An IPv6 packet. `next` is the first next header, whatever the payload holds.
#[derive(Clone)]
pub(crate) struct Ip6 {
    pub(crate) src: Ipv6Addr,
    pub(crate) dst: Ipv6Addr,
    pub(crate) next: u8,
    pub(crate) hop_limit: u8,
    pub(crate) payload: Vec<u8>,
}

impl Ip6 {
    pub(crate) fn new(src: &str, dst: &str, next: u8, payload: Vec<u8>) -> Self {
        Self { src: src.parse().unwrap(), dst: dst.parse().unwrap(), next, hop_limit: 64, payload }
    }

    pub(crate) fn packet(&self) -> Vec<u8> {
        let len = u16::try_from(self.payload.len()).unwrap();
        let head = [0x60, 0, 0, 0];
        let tail = [self.next, self.hop_limit];
        [&head[..], &len.to_be_bytes(), &tail, &self.src.octets(), &self.dst.octets(), &self.payload].concat()
    }

    pub(crate) fn frame(&self) -> Vec<u8> {
        ethernet(OWN_MAC, ETHERTYPE_IP6, &self.packet())
    }
}

/// UDP header without checksum, and some payload.
pub(crate) fn udp(sport: u16, dport: u16) -> Vec<u8> {
    [&sport.to_be_bytes()[..], &dport.to_be_bytes(), &12u16.to_be_bytes(), &[0, 0], b"ping"].concat()
}

/// TCP header of a SYN.
pub(crate) fn tcp(sport: u16, dport: u16) -> Vec<u8> {
    [&sport.to_be_bytes()[..], &dport.to_be_bytes(), &[0; 8], &[0x50, 2, 0xff, 0xff, 0, 0, 0, 0]].concat()
}

/// ICMP echo request.
pub(crate) fn icmp_echo() -> Vec<u8> {
    vec![8, 0, 0, 0, 0, 1, 0, 1]
}

/// ICMPv6 message of a type.
pub(crate) fn icmp6(kind: u8) -> Vec<u8> {
    vec![kind, 0, 0, 0, 0, 1, 0, 1]
}

/// Neighbour solicitation (135) or advertisement (136) for a target.
pub(crate) fn neighbour(kind: u8, target: &str) -> Vec<u8> {
    let target: Ipv6Addr = target.parse().unwrap();
    [&[kind, 0, 0, 0, 0, 0, 0, 0][..], &target.octets()].concat()
}

/// ARP request for an address, to everybody.
pub(crate) fn arp_request(target: [u8; 4]) -> Vec<u8> {
    let head = [0, 1, 8, 0, 6, 4, 0, 1];
    let body = [&head[..], &PEER_MAC, &[10, 1, 0, 2], &[0; 6], &target].concat();
    ethernet([0xff; 6], ETHERTYPE_ARP, &body)
}

/// RFC 1071, over an even number of bytes.
pub(crate) fn checksum(bytes: &[u8]) -> u16 {
    let sum: u32 = bytes.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    let once = (sum & 0xffff) + (sum >> 16);
    !(((once & 0xffff) + (once >> 16)) as u16)
}
