//! IPv4 header, options and fragment fields (RFC 791).

use core::net::Ipv4Addr;

use zerocopy::network_endian::U16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::checksum;

/// Length of a header without options.
pub const HEADER_LEN: usize = 20;
/// What such a header begins with: version 4, and its length in words.
pub const VERSION_IHL: u8 = 0x45;
/// Smallest MTU of any IPv4 link (RFC 791 §3.2).
pub const MTU_MIN: usize = 68;
/// Largest datagram the length field can tell.
pub const TOTAL_LEN_MAX: usize = 65_535;

pub const DONT_FRAGMENT: u16 = 0x4000;
pub const MORE_FRAGMENTS: u16 = 0x2000;
const OFFSET_MASK: u16 = 0x1fff;

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Copy, Debug)]
#[repr(C)]
pub struct Ipv4Header {
    /// Version 4 in the high nibble, header length in 4-byte words in the low one.
    pub version_ihl: u8,
    /// DSCP (6 bits) and ECN (2 bits).
    pub tos: u8,
    pub total_len: U16,
    pub ident: U16,
    pub flags_offset: U16,
    pub ttl: u8,
    pub protocol: u8,
    /// In memory order, as [`checksum`] uses it.
    pub checksum: [u8; 2],
    pub source: [u8; 4],
    pub destination: [u8; 4],
}

impl Ipv4Header {
    /// Computes the checksum of a header without options.
    #[inline]
    pub fn fill_checksum(&mut self) {
        self.checksum = [0; 2];
        self.checksum = checksum::Sum::new().with_words(self.as_bytes()).checksum();
    }
}

/// Where a datagram's piece belongs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fragment {
    pub offset: usize,
    pub more: bool,
}

/// A header whose version, lengths and checksum are right.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ipv4 {
    pub header_len: usize,
    /// Header and payload; the frame holds at least as much.
    pub total_len: usize,
    pub tos: u8,
    pub ident: u16,
    pub dont_fragment: bool,
    /// `None` for a whole datagram.
    pub fragment: Option<Fragment>,
    pub ttl: u8,
    pub protocol: u8,
    pub source: Ipv4Addr,
    pub destination: Ipv4Addr,
}

impl Ipv4 {
    pub fn payload_len(&self) -> usize {
        self.total_len - self.header_len
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ipv4Error {
    /// Fewer bytes than the header.
    Truncated,
    Version,
    /// Header length field under 20 bytes, or beyond the total length.
    HeaderLen,
    /// Total length field under the header length, or beyond the frame.
    TotalLen,
    Checksum,
}

/// Reads a header from `bytes`, which begin with it, of a packet with `available` bytes in all.
#[inline]
pub fn parse(bytes: &[u8], available: usize) -> Result<Ipv4, Ipv4Error> {
    let (parsed, header) = parse_unverified(bytes)?;
    if parsed.total_len > available {
        return Err(Ipv4Error::TotalLen);
    }
    // RFC 1122 §3.2.1.2: verify the checksum of every datagram.
    if !checksum::Sum::new().with_words(header).is_valid() {
        return Err(Ipv4Error::Checksum);
    }
    Ok(parsed)
}

/// As [`parse`], for a packet of which only the front is there (quoted in an ICMP error, RFC 792),
/// so neither the frame's length nor the checksum can be held against it.
pub fn parse_quoted(bytes: &[u8]) -> Result<Ipv4, Ipv4Error> {
    parse_unverified(bytes).map(|(parsed, _)| parsed)
}

#[inline]
fn parse_unverified(bytes: &[u8]) -> Result<(Ipv4, &[u8]), Ipv4Error> {
    let (header, _) = Ipv4Header::ref_from_prefix(bytes).map_err(|_| Ipv4Error::Truncated)?;
    if header.version_ihl >> 4 != 4 {
        return Err(Ipv4Error::Version);
    }
    let header_len = usize::from(header.version_ihl & 0x0f) * 4;
    if header_len < HEADER_LEN {
        return Err(Ipv4Error::HeaderLen);
    }
    let with_options = bytes.get(..header_len).ok_or(Ipv4Error::Truncated)?;
    let total_len = usize::from(header.total_len.get());
    if total_len < header_len {
        return Err(Ipv4Error::TotalLen);
    }
    let flags_offset = header.flags_offset.get();
    let fragment =
        Fragment { offset: usize::from(flags_offset & OFFSET_MASK) * 8, more: flags_offset & MORE_FRAGMENTS != 0 };
    let parsed = Ipv4 {
        header_len,
        total_len,
        tos: header.tos,
        ident: header.ident.get(),
        dont_fragment: flags_offset & DONT_FRAGMENT != 0,
        fragment: Some(fragment).filter(|f| f.more || f.offset != 0),
        ttl: header.ttl,
        protocol: header.protocol,
        source: header.source.into(),
        destination: header.destination.into(),
    };
    Ok((parsed, with_options))
}

/// One option of a header (RFC 791 §3.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ipv4Option<'a> {
    /// Copied flag, class and number as one byte.
    pub kind: u8,
    pub body: &'a [u8],
}

pub mod option {
    pub const END: u8 = 0;
    pub const NOP: u8 = 1;
    pub const RECORD_ROUTE: u8 = 7;
    pub const TIMESTAMP: u8 = 68;
    pub const LOOSE_SOURCE_ROUTE: u8 = 131;
    pub const STRICT_SOURCE_ROUTE: u8 = 137;
    pub const ROUTER_ALERT: u8 = 148;
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OptionLenError;

/// Walks the options; ends after the first malformed one. At most 40 bytes, so at most 40 steps.
pub fn options(bytes: &[u8]) -> impl Iterator<Item = Result<Ipv4Option<'_>, OptionLenError>> {
    let mut rest = bytes;
    core::iter::from_fn(move || {
        loop {
            let (&kind, after) = rest.split_first()?;
            match kind {
                option::END => return None,
                option::NOP => rest = after,
                _ => {
                    let body = after.split_first().and_then(|(&len, _)| {
                        let len = usize::from(len).checked_sub(2)?;
                        after.get(1..)?.split_at_checked(len)
                    });
                    let Some((body, tail)) = body else {
                        rest = &[];
                        return Some(Err(OptionLenError));
                    };
                    rest = tail;
                    return Some(Ok(Ipv4Option { kind, body }));
                }
            }
        }
    })
}

/// A header to be sent, without options.
#[derive(Clone, Copy, Debug)]
pub struct Ipv4Send {
    pub tos: u8,
    pub payload_len: usize,
    pub ident: u16,
    pub dont_fragment: bool,
    pub ttl: u8,
    pub protocol: u8,
    pub source: Ipv4Addr,
    pub destination: Ipv4Addr,
}

impl Ipv4Send {
    /// `payload_len` must leave room for the header in [`TOTAL_LEN_MAX`].
    #[inline]
    pub fn header(&self) -> Ipv4Header {
        debug_assert!(self.payload_len <= TOTAL_LEN_MAX - HEADER_LEN);
        let mut header = Ipv4Header {
            version_ihl: VERSION_IHL,
            tos: self.tos,
            total_len: U16::new((HEADER_LEN + self.payload_len) as u16),
            ident: U16::new(self.ident),
            flags_offset: U16::new(if self.dont_fragment { DONT_FRAGMENT } else { 0 }),
            ttl: self.ttl,
            protocol: self.protocol,
            checksum: [0; 2],
            source: self.source.octets(),
            destination: self.destination.octets(),
        };
        header.fill_checksum();
        header
    }
}
