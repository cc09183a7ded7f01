//! TCP header (RFC 9293 §3.1).

use zerocopy::network_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Length of a header without options.
pub const HEADER_LEN: usize = 20;
/// Length of a header with as many options as the data offset can tell.
pub const HEADER_LEN_MAX: usize = 60;
/// Where the checksum lies.
pub const CHECKSUM_OFFSET: usize = 16;

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

#[inline]
pub fn parse(bytes: &[u8]) -> Result<Tcp<'_>, TcpError> {
    let (header, rest) = TcpHeader::ref_from_prefix(bytes).map_err(|_| TcpError::Truncated)?;
    let header_len = usize::from(header.data_offset >> 4) * 4;
    let options_len = header_len.checked_sub(HEADER_LEN).ok_or(TcpError::HeaderLen)?;
    let options = rest.get(..options_len).ok_or(TcpError::HeaderLen)?;
    Ok(Tcp { header, options, header_len })
}

/// Ports and sequence number of a segment of which only the first eight bytes are there (quoted in
/// an ICMP error, RFC 792).
pub fn quoted(bytes: &[u8]) -> Option<(u16, u16, u32)> {
    let (ports, rest) = bytes.split_first_chunk::<4>()?;
    let seq = rest.first_chunk::<4>()?;
    let [a, b, c, d] = *ports;
    Some((u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]), u32::from_be_bytes(*seq)))
}

/// A header to be sent; checksum and options are the caller's.
#[derive(Clone, Copy, Debug)]
pub struct TcpSend {
    pub source_port: u16,
    pub destination_port: u16,
    pub seq: u32,
    pub ack: u32,
    pub flags: u8,
    pub window: u16,
    /// A multiple of four, at most 40.
    pub options_len: usize,
}

impl TcpSend {
    #[inline]
    pub fn header(&self) -> TcpHeader {
        debug_assert!(self.options_len.is_multiple_of(4) && self.options_len <= HEADER_LEN_MAX - HEADER_LEN);
        TcpHeader {
            source_port: U16::new(self.source_port),
            destination_port: U16::new(self.destination_port),
            seq: U32::new(self.seq),
            ack: U32::new(self.ack),
            data_offset: (((HEADER_LEN + self.options_len) / 4) as u8) << 4,
            flags: self.flags,
            window: U16::new(self.window),
            checksum: [0; 2],
            urgent: U16::new(0),
        }
    }
}
