//! ARP for IPv4 over Ethernet (RFC 826).

use core::net::Ipv4Addr;

use zerocopy::network_endian::U16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::ethernet::{MacAddress, ethertype};

pub const PACKET_LEN: usize = 28;
const HARDWARE_ETHERNET: u16 = 1;
const REQUEST: u16 = 1;
const REPLY: u16 = 2;

/// ```text
/// | hardware 2 | protocol 2 | hw len 1 | proto len 1 | operation 2 |
/// | sender mac 6 | sender ip 4 | target mac 6 | target ip 4 |
/// ```
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Copy, Debug)]
#[repr(C)]
pub struct ArpPacket {
    pub hardware_type: U16,
    pub protocol_type: U16,
    pub hardware_len: u8,
    pub protocol_len: u8,
    pub operation: U16,
    pub sender_mac: MacAddress,
    pub sender_ip: [u8; 4],
    pub target_mac: MacAddress,
    pub target_ip: [u8; 4],
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Operation {
    Request,
    Reply,
}

/// A well-formed ARP packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Arp {
    pub operation: Operation,
    pub sender_mac: MacAddress,
    pub sender_ip: Ipv4Addr,
    pub target_mac: MacAddress,
    pub target_ip: Ipv4Addr,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ArpError {
    Truncated,
    /// Not Ethernet, not IPv4, or with lengths that fit neither.
    NotIpv4OverEthernet,
    /// Neither request nor reply.
    Operation,
    /// The sender claims a group address, or the all-zero one.
    SenderMac,
}

pub fn parse(bytes: &[u8]) -> Result<Arp, ArpError> {
    let (packet, _) = ArpPacket::ref_from_prefix(bytes).map_err(|_| ArpError::Truncated)?;
    let ours = packet.hardware_type.get() == HARDWARE_ETHERNET
        && packet.protocol_type.get() == ethertype::IPV4
        && packet.hardware_len == 6
        && packet.protocol_len == 4;
    if !ours {
        return Err(ArpError::NotIpv4OverEthernet);
    }
    let operation = match packet.operation.get() {
        REQUEST => Operation::Request,
        REPLY => Operation::Reply,
        _ => return Err(ArpError::Operation),
    };
    if !packet.sender_mac.is_station() {
        return Err(ArpError::SenderMac);
    }
    Ok(Arp {
        operation,
        sender_mac: packet.sender_mac,
        sender_ip: packet.sender_ip.into(),
        target_mac: packet.target_mac,
        target_ip: packet.target_ip.into(),
    })
}

impl Arp {
    pub fn request(sender_mac: MacAddress, sender_ip: Ipv4Addr, target_ip: Ipv4Addr) -> Self {
        Self { operation: Operation::Request, sender_mac, sender_ip, target_mac: MacAddress::ZERO, target_ip }
    }

    /// The reply to this request from the station that has `mac`.
    pub fn reply(&self, mac: MacAddress) -> Self {
        Self {
            operation: Operation::Reply,
            sender_mac: mac,
            sender_ip: self.target_ip,
            target_mac: self.sender_mac,
            target_ip: self.sender_ip,
        }
    }

    pub fn packet(&self) -> ArpPacket {
        ArpPacket {
            hardware_type: U16::new(HARDWARE_ETHERNET),
            protocol_type: U16::new(ethertype::IPV4),
            hardware_len: 6,
            protocol_len: 4,
            operation: U16::new(match self.operation {
                Operation::Request => REQUEST,
                Operation::Reply => REPLY,
            }),
            sender_mac: self.sender_mac,
            sender_ip: self.sender_ip.octets(),
            target_mac: self.target_mac,
            target_ip: self.target_ip.octets(),
        }
    }
}
