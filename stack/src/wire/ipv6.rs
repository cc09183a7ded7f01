//! IPv6 header (RFC 8200 §3).

use core::net::Ipv6Addr;

use zerocopy::network_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

pub const HEADER_LEN: usize = 40;
/// RFC 8200 §5: every link carries this much.
pub const MTU_MIN: usize = 1280;
/// Largest payload the length field can tell; jumbograms (RFC 2675) are not supported.
pub const PAYLOAD_LEN_MAX: usize = 65_535;

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Copy, Debug)]
#[repr(C)]
pub struct Ipv6Header {
    /// Version 6 (4 bits), traffic class (8), flow label (20).
    pub version_class_flow: U32,
    pub payload_len: U16,
    pub next_header: u8,
    pub hop_limit: u8,
    pub source: [u8; 16],
    pub destination: [u8; 16],
}

/// A header whose version and length are right.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ipv6 {
    /// Extension headers and payload; the frame holds at least as much beyond the header.
    pub payload_len: usize,
    pub traffic_class: u8,
    pub flow_label: u32,
    pub next_header: u8,
    pub hop_limit: u8,
    pub source: Ipv6Addr,
    pub destination: Ipv6Addr,
}

impl Ipv6 {
    pub fn total_len(&self) -> usize {
        HEADER_LEN + self.payload_len
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ipv6Error {
    Truncated,
    Version,
    /// Payload length beyond the frame.
    PayloadLen,
}

/// Reads a header from `bytes`, which begin with it, of a packet with `available` bytes in all.
#[inline]
pub fn parse(bytes: &[u8], available: usize) -> Result<Ipv6, Ipv6Error> {
    let parsed = parse_quoted(bytes)?;
    if parsed.total_len() > available {
        return Err(Ipv6Error::PayloadLen);
    }
    Ok(parsed)
}

/// As [`parse`], for a packet of which only the front is there (quoted in an ICMP error).
#[inline]
pub fn parse_quoted(bytes: &[u8]) -> Result<Ipv6, Ipv6Error> {
    let (header, _) = Ipv6Header::ref_from_prefix(bytes).map_err(|_| Ipv6Error::Truncated)?;
    let first = header.version_class_flow.get();
    if first >> 28 != 6 {
        return Err(Ipv6Error::Version);
    }
    Ok(Ipv6 {
        payload_len: usize::from(header.payload_len.get()),
        traffic_class: (first >> 20) as u8,
        flow_label: first & 0x000f_ffff,
        next_header: header.next_header,
        hop_limit: header.hop_limit,
        source: header.source.into(),
        destination: header.destination.into(),
    })
}

/// A header to be sent.
#[derive(Clone, Copy, Debug)]
pub struct Ipv6Send {
    pub traffic_class: u8,
    pub flow_label: u32,
    pub payload_len: usize,
    pub next_header: u8,
    pub hop_limit: u8,
    pub source: Ipv6Addr,
    pub destination: Ipv6Addr,
}

impl Ipv6Send {
    /// `payload_len` must be at most [`PAYLOAD_LEN_MAX`].
    #[inline]
    pub fn header(&self) -> Ipv6Header {
        debug_assert!(self.payload_len <= PAYLOAD_LEN_MAX);
        let class = u32::from(self.traffic_class) << 20;
        Ipv6Header {
            version_class_flow: U32::new(6 << 28 | class | (self.flow_label & 0x000f_ffff)),
            payload_len: U16::new(self.payload_len as u16),
            next_header: self.next_header,
            hop_limit: self.hop_limit,
            source: self.source.octets(),
            destination: self.destination.octets(),
        }
    }
}
