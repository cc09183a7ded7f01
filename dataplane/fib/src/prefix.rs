//! Addresses as integers in host order, and prefixes of them.

use std::fmt;
use std::hash::Hash;
use std::net::{Ipv4Addr, Ipv6Addr};

use zerocopy::{Immutable, IntoBytes};

use crate::error::FibError;

/// An IP address as an integer: `u32` for IPv4, `u128` for IPv6, most significant bit first on the wire.
pub trait Address: Copy + Eq + Ord + Hash + fmt::Debug + IntoBytes + Immutable + Send + Sync + 'static {
    /// Bits in an address, and the longest prefix.
    const LEN_MAX: u8;

    /// Bits that index the first level of a table.
    const ROOT_BITS: u8;

    /// Whether nearly all addresses end at the first level, as few IPv4 prefixes are longer than 24 bits: then it has a
    /// short form.
    const ROOT_DECIDES_MOST: bool;

    /// The address of all zeros.
    const ZERO: Self;

    /// The first [`Self::ROOT_BITS`] bits.
    fn root_index(self) -> usize;

    /// The eight bits behind the first `depth`; `depth` is below `LEN_MAX`, by a multiple of eight.
    fn octet(self, depth: u8) -> u8;

    /// Keeps the first `len` bits and clears the others; `len` is at most [`Self::LEN_MAX`].
    fn masked(self, len: u8) -> Self;
}

impl Address for u32 {
    const LEN_MAX: u8 = 32;
    const ROOT_BITS: u8 = 24;
    const ROOT_DECIDES_MOST: bool = true;
    const ZERO: Self = 0;

    #[inline]
    fn root_index(self) -> usize {
        (self >> (Self::LEN_MAX - Self::ROOT_BITS)) as usize
    }

    #[inline(always)]
    fn octet(self, depth: u8) -> u8 {
        (self >> (24 - (depth & 24))) as u8
    }

    #[inline]
    fn masked(self, len: u8) -> Self {
        self & u32::MAX.checked_shl(u32::from(Self::LEN_MAX - len)).unwrap_or(0)
    }
}

impl Address for u128 {
    const LEN_MAX: u8 = 128;
    const ROOT_BITS: u8 = 24;
    const ROOT_DECIDES_MOST: bool = false;
    const ZERO: Self = 0;

    #[inline]
    fn root_index(self) -> usize {
        (self >> (Self::LEN_MAX - Self::ROOT_BITS)) as usize
    }

    #[inline(always)]
    fn octet(self, depth: u8) -> u8 {
        let half = if depth < 64 { (self >> 64) as u64 } else { self as u64 };
        (half >> (56 - (depth & 56))) as u8
    }

    #[inline]
    fn masked(self, len: u8) -> Self {
        self & u128::MAX.checked_shl(u32::from(Self::LEN_MAX - len)).unwrap_or(0)
    }
}

/// The first `len` bits of `addr`; all other bits are zero.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Prefix<A> {
    addr: A,
    len: u8,
}

/// An IPv4 prefix.
pub type Prefix4 = Prefix<u32>;
/// An IPv6 prefix.
pub type Prefix6 = Prefix<u128>;

impl<A: Address> Prefix<A> {
    /// A prefix of `len` bits; bits of `addr` behind them are cleared.
    pub fn new(addr: impl Into<A>, len: u8) -> Result<Self, FibError> {
        if len > A::LEN_MAX {
            return Err(FibError::PrefixTooLong { len, len_max: A::LEN_MAX });
        }
        Ok(Self { addr: addr.into().masked(len), len })
    }

    pub fn addr(self) -> A {
        self.addr
    }

    /// Length in bits, 0 to [`Address::LEN_MAX`].
    #[expect(clippy::len_without_is_empty, reason = "a prefix of length 0 is not empty")]
    pub fn len(self) -> u8 {
        self.len
    }

    pub fn contains(self, addr: A) -> bool {
        addr.masked(self.len) == self.addr
    }

    /// The prefix of the first `len` bits of this one; `None` unless that is shorter.
    pub(crate) fn shortened(self, len: u8) -> Option<Self> {
        (len < self.len).then(|| Self { addr: self.addr.masked(len), len })
    }
}

impl fmt::Display for Prefix4 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", Ipv4Addr::from(self.addr), self.len)
    }
}

impl fmt::Display for Prefix6 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", Ipv6Addr::from(self.addr), self.len)
    }
}
