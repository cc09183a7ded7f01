//! UDP header (RFC 768).

use zerocopy::network_endian::U16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

pub const HEADER_LEN: usize = 8;

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Copy, Debug)]
#[repr(C)]
pub struct UdpHeader {
    pub source_port: U16,
    pub destination_port: U16,
    /// Header and payload.
    pub len: U16,
    /// In memory order. Zero: the sender computed none, allowed over IPv4 only.
    pub checksum: [u8; 2],
}

/// A header whose length fits its IP packet. The checksum is not verified yet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Udp {
    pub source_port: u16,
    pub destination_port: u16,
    /// Header and payload; at most what the IP payload holds.
    pub len: usize,
    pub has_checksum: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum UdpError {
    Truncated,
    /// Length field under 8, or beyond the IP payload.
    Len,
}

/// Reads the header at the front of `bytes`, of an IP payload with `available` bytes in all.
#[inline]
pub fn parse(bytes: &[u8], available: usize) -> Result<Udp, UdpError> {
    let (header, _) = UdpHeader::ref_from_prefix(bytes).map_err(|_| UdpError::Truncated)?;
    let len = usize::from(header.len.get());
    if len < HEADER_LEN || len > available {
        return Err(UdpError::Len);
    }
    Ok(Udp {
        source_port: header.source_port.get(),
        destination_port: header.destination_port.get(),
        len,
        has_checksum: header.checksum != [0; 2],
    })
}

/// The ports alone, from the eight or more bytes which an ICMP error quotes: `(source, destination)`.
pub fn ports_quoted(bytes: &[u8]) -> Option<(u16, u16)> {
    let (header, _) = UdpHeader::ref_from_prefix(bytes).ok()?;
    Some((header.source_port.get(), header.destination_port.get()))
}
