//! Ethernet II framing (RFC 894, RFC 2464).

use core::fmt;
use core::net::{Ipv4Addr, Ipv6Addr};

use zerocopy::network_endian::U16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::vlan::VlanTag;

/// Length of an untagged header.
pub const HEADER_LEN: usize = 14;

pub mod ethertype {
    pub const IPV4: u16 = 0x0800;
    pub const ARP: u16 = 0x0806;
    pub const VLAN: u16 = 0x8100;
    pub const IPV6: u16 = 0x86dd;
    pub const SERVICE_VLAN: u16 = 0x88a8;
}

/// An IEEE 802 48-bit address.
#[derive(
    FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default,
)]
#[repr(C)]
pub struct MacAddress(pub [u8; 6]);

impl MacAddress {
    pub const BROADCAST: Self = Self([0xff; 6]);
    pub const ZERO: Self = Self([0; 6]);

    /// Group bit set: multicast or broadcast.
    pub const fn is_group(self) -> bool {
        let [first, ..] = self.0;
        first & 1 != 0
    }

    /// An address one station can have: neither a group nor all zero.
    #[inline]
    pub fn is_station(self) -> bool {
        !self.is_group() && self != Self::ZERO
    }

    /// RFC 1112 §6.4: the low 23 bits of the group below 01:00:5e.
    pub const fn of_ipv4_group(group: Ipv4Addr) -> Self {
        let [_, b, c, d] = group.octets();
        Self([0x01, 0x00, 0x5e, b & 0x7f, c, d])
    }

    /// RFC 2464 §7: 33:33 and the last four octets of the group.
    pub const fn of_ipv6_group(group: Ipv6Addr) -> Self {
        let [.., m, n, o, p] = group.octets();
        Self([0x33, 0x33, m, n, o, p])
    }
}

impl fmt::Display for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// ```text
/// | destination 6 | source 6 | ethertype 2 |
/// ```
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Copy, Debug)]
#[repr(C)]
pub struct EthernetHeader {
    pub destination: MacAddress,
    pub source: MacAddress,
    pub ethertype: U16,
}

/// What the link header of a frame says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Link {
    pub destination: MacAddress,
    pub source: MacAddress,
    /// VLAN id of the only tag; `None` if untagged or priority-tagged (id 0).
    pub vlan: Option<u16>,
    /// Type of what follows the tag.
    pub ethertype: u16,
    /// Bytes up to the network header: 14, or 18 with a tag.
    pub header_len: usize,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LinkError {
    /// Shorter than its header.
    Truncated,
}

/// Reads the link header, with at most one VLAN tag: a second tag shows as ethertype.
#[inline]
pub fn parse(bytes: &[u8]) -> Result<Link, LinkError> {
    let (header, rest) = EthernetHeader::ref_from_prefix(bytes).map_err(|_| LinkError::Truncated)?;
    let link = Link {
        destination: header.destination,
        source: header.source,
        vlan: None,
        ethertype: header.ethertype.get(),
        header_len: HEADER_LEN,
    };
    if link.ethertype != ethertype::VLAN {
        return Ok(link);
    }
    let (tag, _) = VlanTag::ref_from_prefix(rest).map_err(|_| LinkError::Truncated)?;
    Ok(Link {
        vlan: Some(tag.id()).filter(|&id| id != 0),
        ethertype: tag.ethertype.get(),
        header_len: HEADER_LEN + super::vlan::TAG_LEN,
        ..link
    })
}
