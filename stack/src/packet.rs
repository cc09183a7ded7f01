//! What is known of a received IP packet once its headers are read.

use core::net::IpAddr;

use crate::buffer::Buffer;
use crate::checksum::Sum;
use crate::interface::{InterfaceId, Local};
use crate::wire::ethernet::MacAddress;

/// A received IP packet for us. Offsets count from the start of the frame, which ends where the
/// packet does.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Packet {
    pub(crate) interface: InterfaceId,
    pub(crate) link_source: MacAddress,
    /// The frame went to several stations.
    pub(crate) link_group: bool,
    pub(crate) local: Local,
    pub(crate) source: IpAddr,
    pub(crate) destination: IpAddr,
    pub(crate) protocol: u8,
    pub(crate) hop_limit: u8,
    pub(crate) traffic_class: u8,
    pub(crate) ip_offset: usize,
    pub(crate) payload_offset: usize,
    /// Offset from the IP header of the byte that names `protocol`.
    pub(crate) protocol_offset: usize,
    /// The header has no options or extensions, so the reply's fits exactly in its place.
    pub(crate) plain: bool,
}

impl Packet {
    pub(crate) fn payload_len<B: Buffer>(&self, buffer: &B) -> usize {
        buffer.len().saturating_sub(self.payload_offset)
    }

    /// The IP payload in the first segment.
    pub(crate) fn payload<'a, B: Buffer>(&self, buffer: &'a B) -> &'a [u8] {
        buffer.bytes().get(self.payload_offset..).unwrap_or_default()
    }

    /// Sum over the first `len` bytes of IP payload and the pseudo header.
    pub(crate) fn sum<B: Buffer>(&self, buffer: &B, len: usize) -> Sum {
        let pseudo = pseudo_header(self.source, self.destination, self.protocol, len);
        sum_pieces(pseudo, buffer, self.payload_offset, len)
    }

    pub(crate) fn is_unicast(&self) -> bool {
        self.local == Local::Unicast && !self.link_group
    }
}

/// The pseudo header's sum; both addresses are of one family.
pub(crate) fn pseudo_header(source: IpAddr, destination: IpAddr, protocol: u8, len: usize) -> Sum {
    match (source, destination) {
        (IpAddr::V4(s), IpAddr::V4(d)) => Sum::pseudo_v4(s, d, protocol, len),
        (IpAddr::V6(s), IpAddr::V6(d)) => Sum::pseudo_v6(s, d, protocol, len),
        _ => Sum::new(),
    }
}

#[inline(always)]
pub(crate) fn sum_pieces<B: Buffer>(sum: Sum, buffer: &B, offset: usize, len: usize) -> Sum {
    if buffer.contiguous() {
        let bytes = buffer.bytes().get(offset..offset + len).unwrap_or_default();
        return sum.and(B::sum(bytes));
    }
    sum_chain(sum, buffer, offset, len)
}

#[inline(never)]
fn sum_chain<B: Buffer>(sum: Sum, buffer: &B, offset: usize, len: usize) -> Sum {
    buffer.pieces(offset, len).map(B::sum).fold(sum, Sum::and)
}
