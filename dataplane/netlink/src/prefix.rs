//! An IP prefix with its host bits cleared.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// `address/length`. Bits of the address beyond `length` are always zero, so two prefixes are the
/// same set of addresses exactly when they compare equal. Ordered IPv4 before IPv6, then by address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Prefix {
    address: IpAddr,
    length: u8,
}

impl Prefix {
    /// Masks `address` to `length` bits. `None` when `length` exceeds 32 (IPv4) or 128 (IPv6).
    pub fn new(address: IpAddr, length: u8) -> Option<Self> {
        let address = match address {
            IpAddr::V4(v4) => {
                let host = 32u32.checked_sub(u32::from(length))?;
                let mask = u32::MAX.checked_shl(host).unwrap_or(0);
                IpAddr::V4(Ipv4Addr::from_bits(v4.to_bits() & mask))
            }
            IpAddr::V6(v6) => {
                let host = 128u32.checked_sub(u32::from(length))?;
                let mask = u128::MAX.checked_shl(host).unwrap_or(0);
                IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & mask))
            }
        };
        Some(Self { address, length })
    }

    /// The lowest address of the prefix.
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// Number of leading bits that count: 0 to 32 for IPv4, 0 to 128 for IPv6.
    pub fn length(&self) -> u8 {
        self.length
    }

    pub fn is_ipv4(&self) -> bool {
        self.address.is_ipv4()
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}

impl fmt::Debug for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_bits_are_cleared() {
        let p = Prefix::new(IpAddr::from([10, 1, 2, 3]), 9).map(|p| p.to_string());
        assert_eq!(p.as_deref(), Some("10.0.0.0/9"));
        let p = Prefix::new(IpAddr::from([0xfd00, 1, 2, 3, 4, 5, 6, 7]), 33).map(|p| p.to_string());
        assert_eq!(p.as_deref(), Some("fd00:1::/33"));
    }

    #[test]
    fn the_default_route_and_a_host_route_are_both_expressible() {
        let all = Prefix::new(IpAddr::from([10, 1, 2, 3]), 0).map(|p| p.to_string());
        assert_eq!(all.as_deref(), Some("0.0.0.0/0"));
        let host = Prefix::new(IpAddr::from([10, 1, 2, 3]), 32).map(|p| p.to_string());
        assert_eq!(host.as_deref(), Some("10.1.2.3/32"));
    }

    #[test]
    fn a_length_beyond_the_address_is_refused() {
        assert_eq!(Prefix::new(IpAddr::from([10, 1, 2, 3]), 33), None);
        assert_eq!(Prefix::new(IpAddr::V6(Ipv6Addr::LOCALHOST), 129), None);
    }
}
