//! A received segment: the RFC's SEG.SEQ, SEG.ACK, SEG.LEN, SEG.WND (RFC 9293 §3.3.1).

use core::ops::Range;

use super::flow::Flow;
use super::seq::SeqNum;
use crate::buffer::Buffer;
use crate::drop_reason::DropReason;
use crate::packet::Packet;
use crate::wire::tcp::{self, TcpError, flag};
use crate::wire::tcp_option::TcpOptions;

/// ECN field of the traffic class (RFC 3168 §5).
pub(super) const ECN_MASK: u8 = 0b11;
pub(super) const ECT0: u8 = 0b10;
pub(super) const CE: u8 = 0b11;

/// A segment with a right checksum.
#[derive(Clone, Debug)]
pub(super) struct Seg {
    pub(super) packet: Packet,
    pub(super) flow: Flow,
    pub(super) seq: SeqNum,
    pub(super) ack: SeqNum,
    pub(super) flags: u8,
    /// Not scaled.
    pub(super) wnd: u16,
    pub(super) options: TcpOptions,
    /// Where the options lie in the frame, for layers above.
    pub(super) options_at: Range<usize>,
    /// Where the text begins in the frame, and its length.
    pub(super) text_at: usize,
    pub(super) text_len: u32,
}

impl Seg {
    /// Reads the header and verifies the checksum: on AF_XDP nobody did so before.
    pub(super) fn admit<B: Buffer>(packet: &Packet, buffer: &B) -> Result<Self, DropReason> {
        let tcp = tcp::parse(packet.payload(buffer)).map_err(|error| match error {
            TcpError::Truncated => DropReason::TcpTruncated,
            TcpError::HeaderLen => DropReason::TcpHeaderLen,
        })?;
        let len = packet.payload_len(buffer);
        if !packet.sum(buffer, len).is_valid() {
            return Err(DropReason::TcpChecksum);
        }
        let options_from = packet.payload_offset + tcp::HEADER_LEN;
        let text_at = packet.payload_offset + tcp.header_len;
        Ok(Self {
            packet: *packet,
            flow: Flow::on(
                packet.interface,
                packet.destination,
                packet.source,
                tcp.header.destination_port.get(),
                tcp.header.source_port.get(),
            ),
            seq: SeqNum(tcp.header.seq.get()),
            ack: SeqNum(tcp.header.ack.get()),
            flags: tcp.header.flags,
            wnd: tcp.header.window.get(),
            options: TcpOptions::parse(tcp.options),
            options_at: options_from..text_at,
            text_at,
            text_len: len.saturating_sub(tcp.header_len) as u32,
        })
    }

    #[inline]
    pub(super) fn has(&self, flags: u8) -> bool {
        self.flags & flags != 0
    }

    pub(super) fn syn(&self) -> bool {
        self.has(flag::SYN)
    }

    pub(super) fn fin(&self) -> bool {
        self.has(flag::FIN)
    }

    pub(super) fn rst(&self) -> bool {
        self.has(flag::RST)
    }

    pub(super) fn acks(&self) -> bool {
        self.has(flag::ACK)
    }

    /// SEG.LEN: text, SYN and FIN.
    pub(super) fn len(&self) -> u32 {
        self.text_len + u32::from(self.syn()) + u32::from(self.fin())
    }

    /// First sequence number behind it.
    pub(super) fn end(&self) -> SeqNum {
        self.seq + self.len()
    }

    /// A router marked it instead of dropping it.
    pub(super) fn congestion_experienced(&self) -> bool {
        self.packet.traffic_class & ECN_MASK == CE
    }
}
