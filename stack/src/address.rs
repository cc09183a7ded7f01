//! Prefixes, and what single addresses may be used for.

use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::wire::ethernet::MacAddress;

/// An address with the length of its network prefix: `192.0.2.1/24`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Cidr {
    address: IpAddr,
    prefix_len: u8,
}

/// A prefix length over 32 (IPv4) or 128 (IPv6).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PrefixLenError;

impl Cidr {
    pub fn new(address: impl Into<IpAddr>, prefix_len: u8) -> Result<Self, PrefixLenError> {
        let address = address.into();
        let max = if address.is_ipv4() { 32 } else { 128 };
        if prefix_len > max {
            return Err(PrefixLenError);
        }
        Ok(Self { address, prefix_len })
    }

    /// The single address.
    pub fn host(address: impl Into<IpAddr>) -> Self {
        let address = address.into();
        Self { address, prefix_len: if address.is_ipv4() { 32 } else { 128 } }
    }

    /// `0.0.0.0/0`
    pub fn default_v4() -> Self {
        Self { address: Ipv4Addr::UNSPECIFIED.into(), prefix_len: 0 }
    }

    /// `::/0`
    pub fn default_v6() -> Self {
        Self { address: Ipv6Addr::UNSPECIFIED.into(), prefix_len: 0 }
    }

    pub fn address(&self) -> IpAddr {
        self.address
    }

    pub fn prefix_len(&self) -> u8 {
        self.prefix_len
    }

    /// The same prefix with every bit behind it zero: `192.0.2.0/24`.
    pub fn network(&self) -> Self {
        let len = u32::from(self.prefix_len);
        let address = match self.address {
            IpAddr::V4(a) => {
                let mask = u32::MAX.checked_shl(32 - len).unwrap_or(0);
                Ipv4Addr::from_bits(a.to_bits() & mask).into()
            }
            IpAddr::V6(a) => {
                let mask = u128::MAX.checked_shl(128 - len).unwrap_or(0);
                Ipv6Addr::from_bits(a.to_bits() & mask).into()
            }
        };
        Self { address, prefix_len: self.prefix_len }
    }

    /// Whether `other` lies in the network; never if it is of the other family.
    pub fn contains(&self, other: IpAddr) -> bool {
        self.common_len(other) >= Some(self.prefix_len)
    }

    /// How many leading bits `other` has in common with the address.
    pub fn common_len(&self, other: IpAddr) -> Option<u8> {
        let zeros = match (self.address, other) {
            (IpAddr::V4(a), IpAddr::V4(b)) => (a.to_bits() ^ b.to_bits()).leading_zeros(),
            (IpAddr::V6(a), IpAddr::V6(b)) => (a.to_bits() ^ b.to_bits()).leading_zeros(),
            _ => return None,
        };
        Some(zeros as u8)
    }

    /// The directed broadcast address; none on IPv6 and on prefixes over 30 (RFC 3021).
    #[inline]
    pub fn broadcast(&self) -> Option<Ipv4Addr> {
        let IpAddr::V4(address) = self.address else { return None };
        if self.prefix_len > 30 {
            return None;
        }
        Some(Ipv4Addr::from_bits(address.to_bits() | u32::MAX >> self.prefix_len))
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix_len)
    }
}

/// RFC 4291 §2.7.1: the group at which `address` is solicited.
pub const fn solicited_node(address: Ipv6Addr) -> Ipv6Addr {
    let [.., n, o, p] = address.octets();
    Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | n as u16, (o as u16) << 8 | p as u16)
}

/// RFC 4291 appendix A: the link-local address made from a MAC address.
pub const fn link_local(mac: MacAddress) -> Ipv6Addr {
    let [a, b, c, d, e, f] = mac.0;
    Ipv6Addr::new(
        0xfe80,
        0,
        0,
        0,
        ((a ^ 2) as u16) << 8 | b as u16,
        (c as u16) << 8 | 0xff,
        0xfe00 | d as u16,
        (e as u16) << 8 | f as u16,
    )
}

/// RFC 1122 §3.2.1.3, RFC 4291 §2.7: addresses which a packet on a link cannot come from.
/// The unspecified one is left to the protocols that allow it.
#[inline]
pub fn is_source_invalid(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(a) => a.is_multicast() || a.is_loopback() || a.to_bits() >> 24 == 0 || is_class_e(a),
        IpAddr::V6(a) => a.is_multicast() || a.is_loopback(),
    }
}

/// 240.0.0.0/4, the limited broadcast included (RFC 1112 §4).
fn is_class_e(address: Ipv4Addr) -> bool {
    address.to_bits() >> 28 == 0xf
}

pub fn is_unicast_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(a) => a.is_link_local(),
        IpAddr::V6(a) => a.is_unicast_link_local(),
    }
}
