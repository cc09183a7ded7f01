//! What became of a packet.

use core::net::{IpAddr, SocketAddr};

use crate::buffer::{Buffer, NoRoom};
use crate::drop_reason::DropReason;
use crate::interface::InterfaceId;
use crate::packet::Packet;
use crate::udp::SocketId;

/// What became of an ingested frame.
#[must_use = "a delivered packet is inside"]
#[derive(Debug)]
pub enum Verdict<B> {
    /// For a socket. Read it in place; then [`udp_reply`](crate::Stack::udp_reply) or keep it.
    Datagram(Datagram<B>),
    /// The answer to an [`echo_request`](crate::Stack::echo_request).
    EchoReply(EchoReply<B>),
    /// Turned into its answer and sent back, or queued to be.
    Answered,
    /// A fragment that waits for the others, or TCP text that waits for the application.
    Held,
    /// Did its work inside the stack.
    Consumed,
    Discarded(DropReason),
}

/// What became of a packet that was to be sent. Refused ones were discarded with their reason.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sent {
    Transmitted,
    /// Waits until its neighbour is known.
    Queued,
}

/// A received UDP datagram, in the buffer it came in.
#[derive(Debug)]
pub struct Datagram<B> {
    pub socket: SocketId,
    pub source: SocketAddr,
    /// The address it was sent to, which may be a group.
    pub destination: SocketAddr,
    pub(crate) packet: Packet,
    pub(crate) buffer: B,
    /// The payload was changed: the checksum is out of date.
    pub(crate) changed: bool,
}

impl<B: Buffer> Datagram<B> {
    pub(crate) fn payload_offset(&self) -> usize {
        self.packet.payload_offset + crate::wire::udp::HEADER_LEN
    }

    pub fn interface(&self) -> InterfaceId {
        self.packet.interface
    }

    /// TTL or hop limit it arrived with.
    pub fn hop_limit(&self) -> u8 {
        self.packet.hop_limit
    }

    /// DSCP and ECN it arrived with.
    pub fn traffic_class(&self) -> u8 {
        self.packet.traffic_class
    }

    pub fn payload_len(&self) -> usize {
        self.buffer.len().saturating_sub(self.payload_offset())
    }

    /// The payload in the first segment: all of it, unless the frame has several.
    pub fn payload(&self) -> &[u8] {
        self.buffer.bytes().get(self.payload_offset()..).unwrap_or_default()
    }

    /// The payload in all its segments.
    pub fn payload_pieces(&self) -> impl Iterator<Item = &[u8]> {
        self.buffer.pieces(self.payload_offset(), self.payload_len())
    }

    /// Copies payload from `offset` on, over segment borders.
    pub fn read_payload_at(&self, offset: usize, to: &mut [u8]) -> Result<(), NoRoom> {
        self.buffer.read_at(self.payload_offset() + offset, to)
    }

    /// The payload in the first segment, to be changed before a reply.
    pub fn payload_mut(&mut self) -> &mut [u8] {
        self.changed = true;
        let offset = self.payload_offset();
        self.buffer.bytes_mut().get_mut(offset..).unwrap_or_default()
    }

    /// Shortens the payload before a reply.
    pub fn truncate_payload(&mut self, len: usize) {
        self.changed = true;
        self.buffer.truncate(self.payload_offset() + len);
    }

    /// Lengthens the payload by `n` bytes before a reply, and returns these.
    pub fn append_payload(&mut self, n: usize) -> Result<&mut [u8], NoRoom> {
        self.changed = true;
        self.buffer.append(n)
    }

    /// The whole frame.
    pub fn buffer(&self) -> &B {
        &self.buffer
    }

    /// The whole frame, to be kept or given back to its pool.
    pub fn into_buffer(self) -> B {
        self.buffer
    }

    /// The frame with everything in front of the payload taken off (it becomes headroom).
    pub fn into_payload(self) -> B {
        let offset = self.payload_offset();
        let mut buffer = self.buffer;
        // The UDP header was read in the first segment, so this much lies there.
        let trimmed = buffer.trim_front(offset);
        debug_assert_eq!(trimmed, Ok(()));
        buffer
    }
}

/// A received answer to an echo request.
#[derive(Debug)]
pub struct EchoReply<B> {
    pub source: IpAddr,
    pub destination: IpAddr,
    pub ident: u16,
    pub sequence: u16,
    pub(crate) packet: Packet,
    pub(crate) buffer: B,
}

impl<B: Buffer> EchoReply<B> {
    fn payload_offset(&self) -> usize {
        self.packet.payload_offset + crate::wire::icmpv4::HEADER_LEN
    }

    pub fn interface(&self) -> InterfaceId {
        self.packet.interface
    }

    /// TTL or hop limit it arrived with.
    pub fn hop_limit(&self) -> u8 {
        self.packet.hop_limit
    }

    pub fn payload_len(&self) -> usize {
        self.buffer.len().saturating_sub(self.payload_offset())
    }

    /// The data in the first segment: all of it, unless the frame has several.
    pub fn payload(&self) -> &[u8] {
        self.buffer.bytes().get(self.payload_offset()..).unwrap_or_default()
    }

    /// Copies data from `offset` on, over segment borders.
    pub fn read_payload_at(&self, offset: usize, to: &mut [u8]) -> Result<(), NoRoom> {
        self.buffer.read_at(self.payload_offset() + offset, to)
    }

    /// The whole frame.
    pub fn buffer(&self) -> &B {
        &self.buffer
    }

    /// The whole frame, to be given back to its pool.
    pub fn into_buffer(self) -> B {
        self.buffer
    }
}
