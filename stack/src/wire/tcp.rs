//! TCP header (RFC 9293 §3.1), as far as flow keys and forwarding need it.

use zerocopy::network_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Length of a header without options.
pub const HEADER_LEN: usize = 20;

pub mod flag {
    pub const FIN: u8 = 0x01;
    pub const SYN: u8 = 0x02;
    pub const RST: u8 = 0x04;
    pub const PSH: u8 = 0x08;
    pub const ACK: u8 = 0x10;
    pub const URG: u8 = 0x20;
    pub const ECE: u8 = 0x40;
    pub const CWR: u8 = 0x80;
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Copy, Debug)]
#[repr(C)]
pub struct TcpHeader {
    pub source_port: U16,
    pub destination_port: U16,
    pub seq: U32,
    pub ack: U32,
    /// Header length in 4-byte words in the high nibble.
    pub data_offset: u8,
    pub flags: u8,
    pub window: U16,
    /// In memory order.
    pub checksum: [u8; 2],
    pub urgent: U16,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TcpError {
    Truncated,
    /// Data offset under 20 bytes, or beyond the segment.
    HeaderLen,
}

/// A header whose length fits its segment, with its options.
#[derive(Clone, Copy, Debug)]
pub struct Tcp<'a> {
    pub header: &'a TcpHeader,
    pub options: &'a [u8],
    pub header_len: usize,
}

pub fn parse(bytes: &[u8]) -> Result<Tcp<'_>, TcpError> {
    let (header, rest) = TcpHeader::ref_from_prefix(bytes).map_err(|_| TcpError::Truncated)?;
    let header_len = usize::from(header.data_offset >> 4) * 4;
    let options_len = header_len.checked_sub(HEADER_LEN).ok_or(TcpError::HeaderLen)?;
    let options = rest.get(..options_len).ok_or(TcpError::HeaderLen)?;
    Ok(Tcp { header, options, header_len })
}
