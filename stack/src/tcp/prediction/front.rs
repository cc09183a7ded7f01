//! What a frame says that may hold an expected segment, read where it lies.

use core::net::IpAddr;

use zerocopy::FromBytes;

use crate::buffer::Buffer;
use crate::checksum::Sum;
use crate::interface::InterfaceId;
use crate::packet::sum_pieces;
use crate::tcp::flow::Flow;
use crate::tcp::seg::{CE, ECN_MASK};
use crate::tcp::seq::SeqNum;
use crate::wire::ethernet::{EthernetHeader, HEADER_LEN as LINK_LEN, ethertype};
use crate::wire::ipv4::{self, Ipv4Header};
use crate::wire::ipv6::{self, Ipv6Header};
use crate::wire::protocol;
use crate::wire::tcp::{self, TcpHeader, flag};
use crate::wire::tcp_option::{TIMESTAMPS_LEN, Timestamps};

/// What a frame says in front of its TCP options.
pub(super) struct Front<'a> {
    pub(super) link: &'a EthernetHeader,
    pub(super) addresses: Addresses<'a>,
    pub(super) tcp: &'a TcpHeader,
    /// Offset of the TCP header.
    pub(super) tcp_at: usize,
    /// Behind the IP packet; padding may follow.
    pub(super) end: usize,
}

/// Remote and local address as they lie in the IP header.
#[derive(Clone, Copy)]
pub(super) enum Addresses<'a> {
    V4(&'a [u8; 4], &'a [u8; 4]),
    V6(&'a [u8; 16], &'a [u8; 16]),
}

impl Addresses<'_> {
    #[inline(always)]
    pub(super) fn are(self, remote: IpAddr, local: IpAddr) -> bool {
        match (self, remote, local) {
            (Self::V4(from, to), IpAddr::V4(remote), IpAddr::V4(local)) => {
                *from == remote.octets() && *to == local.octets()
            }
            (Self::V6(from, to), IpAddr::V6(remote), IpAddr::V6(local)) => {
                *from == remote.octets() && *to == local.octets()
            }
            _ => false,
        }
    }

    #[inline(always)]
    pub(super) fn ethertype(self) -> u16 {
        match self {
            Self::V4(..) => ethertype::IPV4,
            Self::V6(..) => ethertype::IPV6,
        }
    }

    /// Remote and local.
    pub(super) fn as_ip(self) -> (IpAddr, IpAddr) {
        match self {
            Self::V4(from, to) => (IpAddr::from(*from), IpAddr::from(*to)),
            Self::V6(from, to) => (IpAddr::from(*from), IpAddr::from(*to)),
        }
    }

    #[inline(always)]
    pub(super) fn pseudo_header(self, len: usize) -> Sum {
        match self {
            Self::V4(from, to) => Sum::pseudo_v4((*from).into(), (*to).into(), protocol::TCP, len),
            Self::V6(from, to) => Sum::pseudo_v6((*from).into(), (*to).into(), protocol::TCP, len),
        }
    }

    /// Of the remote address, what is likely to differ.
    #[inline(always)]
    pub(super) fn low_bits(self) -> u32 {
        match self {
            Self::V4(from, _) => u32::from_be_bytes(*from),
            Self::V6([.., a, b, c, d], _) => u32::from_be_bytes([*a, *b, *c, *d]),
        }
    }
}

impl<'a> Front<'a> {
    #[inline(always)]
    pub(super) fn flow(&self, id: InterfaceId) -> Flow {
        let (remote, local) = self.addresses.as_ip();
        let (remote_port, local_port) = (self.tcp.source_port.get(), self.tcp.destination_port.get());
        Flow::on(id, local, remote, local_port, remote_port)
    }

    /// Whether the checksum of the segment is right (RFC 9293 §3.1).
    #[inline(always)]
    pub(super) fn is_summed_right<B: Buffer>(&self, buffer: &B) -> bool {
        let len = self.end - self.tcp_at;
        sum_pieces(self.addresses.pseudo_header(len), buffer, self.tcp_at, len).is_valid()
    }

    /// Reads the headers of a whole IPv4 packet without options, and without a mark of congestion.
    #[inline(always)]
    pub(super) fn of_ipv4<B: Buffer>(buffer: &'a B) -> Option<Self> {
        let (link, rest) = EthernetHeader::ref_from_prefix(buffer.bytes()).ok()?;
        let (header, _) = rest.split_first_chunk::<{ ipv4::HEADER_LEN }>()?;
        let ip = Ipv4Header::ref_from_bytes(header).ok()?;
        let whole = ip.flags_offset.get() & !ipv4::DONT_FRAGMENT == 0;
        let plain = ip.version_ihl == ipv4::VERSION_IHL && ip.protocol == protocol::TCP && whole;
        if !plain || ip.tos & ECN_MASK == CE || !Sum::new().with_words(header).is_valid() {
            return None;
        }
        let addresses = Addresses::V4(&ip.source, &ip.destination);
        Self::behind(link, rest, addresses, ipv4::HEADER_LEN, ip.total_len.get().into(), buffer.len())
    }

    /// Likewise of an IPv6 packet without extension headers.
    #[inline(always)]
    pub(super) fn of_ipv6<B: Buffer>(buffer: &'a B) -> Option<Self> {
        let (link, rest) = EthernetHeader::ref_from_prefix(buffer.bytes()).ok()?;
        let (ip, _) = Ipv6Header::ref_from_prefix(rest).ok()?;
        let version_class = ip.version_class_flow.get() >> 20;
        if version_class >> 8 != 6 || ip.next_header != protocol::TCP || version_class as u8 & ECN_MASK == CE {
            return None;
        }
        let len = ipv6::HEADER_LEN + usize::from(ip.payload_len.get());
        Self::behind(link, rest, Addresses::V6(&ip.source, &ip.destination), ipv6::HEADER_LEN, len, buffer.len())
    }

    /// `packet`: what is behind the link header, of which so many bytes are the IP header, and `len` the whole packet.
    #[inline(always)]
    fn behind(
        link: &'a EthernetHeader,
        packet: &'a [u8],
        addresses: Addresses<'a>,
        header_len: usize,
        len: usize,
        frame_len: usize,
    ) -> Option<Self> {
        let (tcp, _) = TcpHeader::ref_from_prefix(packet.get(header_len..)?).ok()?;
        let (tcp_at, end) = (LINK_LEN + header_len, LINK_LEN + len);
        let fits = end <= frame_len && tcp_at + tcp::HEADER_LEN <= end;
        fits.then_some(Self { link, addresses, tcp, tcp_at, end })
    }
}

/// Length of a header in words: without options, and with timestamps alone.
const BARE: u8 = (tcp::HEADER_LEN / 4) as u8;
const STAMPED: u8 = ((tcp::HEADER_LEN + TIMESTAMPS_LEN) / 4) as u8;

/// A segment that may be the expected one.
pub(super) struct Candidate {
    pub(super) seq: SeqNum,
    pub(super) ack: SeqNum,
    /// Not scaled.
    pub(super) wnd: u16,
    pub(super) stamps: Option<Timestamps>,
    pub(super) text_at: usize,
    pub(super) text_len: u32,
    /// Behind the text; padding may follow.
    pub(super) end: usize,
}

impl Candidate {
    /// Nothing but an acknowledgement, and text maybe: without options, or with timestamps alone.
    #[inline(always)]
    pub(super) fn read(front: &Front<'_>, bytes: &[u8]) -> Option<Self> {
        let header = front.tcp;
        if header.flags & !flag::PSH != flag::ACK {
            return None;
        }
        let options_at = front.tcp_at + tcp::HEADER_LEN;
        // Data offset, in words, above four reserved bits.
        let (stamps, text_at) = match header.data_offset >> 4 {
            BARE => (None, options_at),
            STAMPED => {
                let stamps = Timestamps::of_padded(bytes.get(options_at..)?.first_chunk()?)?;
                (Some(stamps), options_at + TIMESTAMPS_LEN)
            }
            _ => return None,
        };
        Some(Self {
            seq: SeqNum(header.seq.get()),
            ack: SeqNum(header.ack.get()),
            wnd: header.window.get(),
            stamps,
            text_at,
            text_len: u32::try_from(front.end.checked_sub(text_at)?).ok()?,
            end: front.end,
        })
    }
}
