//! Segments with nothing but fixed headers, timestamps and text, on a way that is known: nearly all that leave.
//!
//! ```text
//!   | Ethernet 14 | IPv4 20 or IPv6 40 | TCP 20 | timestamps 12, or none | text
//! ```
//! Their headers are put together as numbers. Each is added to its checksum and stored once, in the place that it leaves from:
//! what is written in small pieces and read again in large ones keeps the CPU waiting.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::emit::Leaving;
use super::flow::Flow;
use super::path_mtu::headers_len;
use super::seq::SeqNum;
use super::tcb::{Cx, Tcb};
use super::way::Way;
use crate::buffer::Buffer;
use crate::checksum::Sum;
use crate::drop_reason::DropReason;
use crate::env::Env;
use crate::packet::sum_pieces;
use crate::wire::tcp::{HEADER_LEN, flag};
use crate::wire::tcp_option::{TIMESTAMPS_LEN, Timestamps};
use crate::wire::{ethernet, ipv4, ipv6, protocol};

impl<B: Buffer> Tcb<B> {
    /// Whether this is such a segment, its way is known, and it fits a packet there.
    #[inline]
    pub(super) fn is_plain<E: Env<Buffer = B>>(&self, leaving: &Leaving<B>, cx: &Cx<'_, B, E>) -> bool {
        let text_len = leaving.text.as_ref().map_or(0, |text| text.len() as u32);
        leaving.flags & (flag::SYN | flag::ACK) == flag::ACK
            && self.extension.is_none()
            && self.sack_report.is_none()
            && self.knows_way(cx)
            && headers_len(&self.flow) + TIMESTAMPS_LEN as u32 + text_len <= self.way.mtu.into()
    }

    /// Sends such a segment; whether a buffer for it could be had.
    #[inline]
    pub(super) fn emit_plain<E: Env<Buffer = B>>(&mut self, leaving: Leaving<B>, cx: &mut Cx<'_, B, E>) -> bool {
        let Leaving { seq, flags, text, sum, fresh } = leaving;
        let Some(buffer) = text.or_else(|| cx.allocate()) else { return false };
        let common = self.common_as(fresh && !buffer.is_empty(), cx);
        cx.stack.tcp.counters.segments_out += 1;
        common.send(Plain { seq, flags, len: buffer.len(), sum, buffer }, &self.flow, &self.way, cx);
        true
    }

    /// What the headers of new text have in common that leaves now, and acknowledges what has arrived.
    #[inline]
    pub(super) fn common<E: Env<Buffer = B>>(&mut self, cx: &Cx<'_, B, E>) -> Common {
        self.common_as(true, cx)
    }

    /// `fresh`: of text that was never sent before.
    #[inline(always)]
    fn common_as<E: Env<Buffer = B>>(&mut self, fresh: bool, cx: &Cx<'_, B, E>) -> Common {
        let common = Common {
            ack: self.rcv_nxt.0,
            window: self.window_out(cx),
            stamps: self.timestamps_ok.then(|| Timestamps { value: self.now_ts(cx), echo: self.ts_recent }),
            hop_limit: cx.stack.config.hop_limit,
            traffic_class: self.options.dscp << 2 | self.ecn.field_out(fresh),
        };
        self.on_ack_sent();
        common
    }
}

/// What the headers of segments that leave together have in common besides their flow.
pub(super) struct Common {
    ack: u32,
    window: u16,
    stamps: Option<Timestamps>,
    hop_limit: u8,
    traffic_class: u8,
}

impl Common {
    /// Puts headers in front of a segment, and sends it.
    #[inline(always)]
    pub(super) fn send<B: Buffer, E: Env<Buffer = B>>(
        &self,
        segment: Plain<B>,
        flow: &Flow,
        way: &Way,
        cx: &mut Cx<'_, B, E>,
    ) {
        let headers = self.headers(&segment, way, cx);
        let mut buffer = segment.buffer;
        let written = headers.write(flow, &way.link, &mut buffer);
        match written {
            Some(()) if headers.sum.is_none() => cx.stack.ledger.transmit_unsummed(cx.env, way.interface(), buffer),
            Some(()) => cx.stack.ledger.transmit(cx.env, way.interface(), buffer),
            None => cx.stack.ledger.discard(cx.env, buffer, DropReason::NoHeadroom),
        }
    }

    #[inline(always)]
    fn headers<B: Buffer, E: Env<Buffer = B>>(&self, segment: &Plain<B>, way: &Way, cx: &Cx<'_, B, E>) -> Headers {
        let &Plain { seq, flags, len, sum, ref buffer } = segment;
        let sum = match sum {
            None if len > 0 && cx.env.completes_sums(way.interface()) => None,
            None => Some(sum_pieces(Sum::new(), buffer, 0, len).folded()),
            known => known,
        };
        let &Self { ack, window, stamps, hop_limit, traffic_class } = self;
        Headers { text_len: len, sum, seq: seq.0, ack, flags, window, stamps, hop_limit, traffic_class }
    }
}

/// A segment to be sent behind plain headers.
pub(super) struct Plain<B> {
    pub(super) seq: SeqNum,
    pub(super) flags: u8,
    /// Bytes of text.
    pub(super) len: usize,
    /// Of the text, if it is known.
    pub(super) sum: Option<u16>,
    /// Text alone, or nothing.
    pub(super) buffer: B,
}

/// What the headers of a segment tell besides its flow.
struct Headers {
    text_len: usize,
    /// Of the text; `None` leaves the checksum undone.
    sum: Option<u16>,
    seq: u32,
    ack: u32,
    flags: u8,
    window: u16,
    stamps: Option<Timestamps>,
    hop_limit: u8,
    traffic_class: u8,
}

/// All that is in front of the text, in so many words.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Front<const IP: usize, const OPTIONS: usize> {
    link: [u8; ethernet::HEADER_LEN],
    ip: [[u8; 4]; IP],
    tcp: [[u8; 4]; TCP_WORDS - 1],
    last: [u8; 4],
    options: [[u8; 4]; OPTIONS],
}

const IPV4_WORDS: usize = ipv4::HEADER_LEN / 4;
const IPV6_WORDS: usize = ipv6::HEADER_LEN / 4;
const TCP_WORDS: usize = HEADER_LEN / 4;

impl Headers {
    /// Puts them in front of the text, for which there must be room.
    #[inline(always)]
    fn write<B: Buffer>(&self, flow: &Flow, link: &[u8; ethernet::HEADER_LEN], buffer: &mut B) -> Option<()> {
        match (flow.local, flow.remote) {
            (IpAddr::V4(local), IpAddr::V4(remote)) => {
                let ip = |tcp_len| {
                    (self.ipv4(local, remote, tcp_len), Sum::pseudo_v4(local, remote, protocol::TCP, tcp_len))
                };
                self.write_behind(ip, flow, link, buffer)
            }
            (IpAddr::V6(local), IpAddr::V6(remote)) => {
                let ip = |tcp_len| {
                    (self.ipv6(local, remote, tcp_len), Sum::pseudo_v6(local, remote, protocol::TCP, tcp_len))
                };
                self.write_behind(ip, flow, link, buffer)
            }
            _ => None,
        }
    }

    /// `ip` makes the IP header of the TCP segment's length, and the sum of the pseudo header.
    #[inline(always)]
    fn write_behind<B: Buffer, const IP: usize>(
        &self,
        ip: impl FnOnce(usize) -> ([u32; IP], Sum),
        flow: &Flow,
        link: &[u8; ethernet::HEADER_LEN],
        buffer: &mut B,
    ) -> Option<()> {
        match self.stamps {
            Some(Timestamps { value, echo }) => {
                self.write_all([Timestamps::PADDED_HEAD, value, echo], ip, flow, link, buffer)
            }
            None => self.write_all([], ip, flow, link, buffer),
        }
    }

    /// Each word is stored where it is worked out: all of them at once are more than the CPU has registers for.
    #[inline(always)]
    fn write_all<B: Buffer, const IP: usize, const OPTIONS: usize>(
        &self,
        options: [u32; OPTIONS],
        ip: impl FnOnce(usize) -> ([u32; IP], Sum),
        flow: &Flow,
        link: &[u8; ethernet::HEADER_LEN],
        buffer: &mut B,
    ) -> Option<()> {
        let room = buffer.prepend(size_of::<Front<IP, OPTIONS>>()).ok()?;
        let front = Front::<IP, OPTIONS>::mut_from_bytes(room).ok()?;
        front.link = *link;
        let tcp_words = TCP_WORDS + OPTIONS;
        let (ip, pseudo) = ip(self.text_len + tcp_words * 4);
        front.ip = ip.map(u32::to_ne_bytes);
        let tcp = [
            u32::from(flow.local_port) << 16 | u32::from(flow.remote_port),
            self.seq,
            self.ack,
            // The data offset counts words.
            (tcp_words as u32) << 28 | u32::from(self.flags) << 16 | u32::from(self.window),
        ];
        let sum = put(&mut front.options, options, put(&mut front.tcp, tcp, pseudo));
        front.last = self.last_word(pseudo, sum);
        Some(())
    }

    /// Checksum and urgent pointer; `headers` is the sum of all in front of the text.
    #[inline]
    fn last_word(&self, pseudo: Sum, headers: Sum) -> [u8; 4] {
        let [a, b] = match self.sum {
            Some(text) => headers.with_folded(text).checksum(),
            None => pseudo.folded().to_ne_bytes(),
        };
        [a, b, 0, 0]
    }

    /// RFC 791 §3.1, in memory order. RFC 6864 §4.1: the identification of a packet that cannot be fragmented means nothing.
    #[inline]
    fn ipv4(&self, source: Ipv4Addr, destination: Ipv4Addr, payload_len: usize) -> [u32; IPV4_WORDS] {
        let len = (ipv4::HEADER_LEN + payload_len) as u32;
        let [a, b, c, d, e] = [
            0x45 << 24 | u32::from(self.traffic_class) << 16 | len & 0xffff,
            ipv4::DONT_FRAGMENT.into(),
            u32::from(self.hop_limit) << 24 | u32::from(protocol::TCP) << 16,
            source.to_bits(),
            destination.to_bits(),
        ]
        .map(u32::to_be);
        let [f, g] = Sum::new().with_native([a, b, c, d, e]).checksum();
        [a, b, c | u32::from_ne_bytes([0, 0, f, g]), d, e]
    }

    /// RFC 8200 §3, in memory order.
    #[inline]
    fn ipv6(&self, source: Ipv6Addr, destination: Ipv6Addr, payload_len: usize) -> [u32; IPV6_WORDS] {
        let words = |address: Ipv6Addr| {
            let bits = address.to_bits();
            [(bits >> 96) as u32, (bits >> 64) as u32, (bits >> 32) as u32, bits as u32]
        };
        let ([a, b, c, d], [e, f, g, h]) = (words(source), words(destination));
        let class = 6 << 28 | u32::from(self.traffic_class) << 20;
        let lengths = (payload_len as u32) << 16 | u32::from(protocol::TCP) << 8 | u32::from(self.hop_limit);
        [class, lengths, a, b, c, d, e, f, g, h].map(u32::to_be)
    }
}

/// Stores words of a header; the sum with them.
#[inline(always)]
fn put<const N: usize>(place: &mut [[u8; 4]; N], words: [u32; N], sum: Sum) -> Sum {
    let words = words.map(u32::to_be);
    *place = words.map(u32::to_ne_bytes);
    sum.with_native(words)
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;
    use crate::output::Outgoing;
    use crate::tcp::emit::write_header;
    use crate::testing::VecBuffer;
    use crate::wire::tcp::{CHECKSUM_OFFSET, TcpSend};

    fn holding(text: &[u8]) -> VecBuffer {
        let mut buffer = VecBuffer::new();
        buffer.append(text.len()).unwrap().copy_from_slice(text);
        buffer
    }

    /// The same headers by way of the structures that everything else is sent by.
    fn expected(headers: &Headers, flow: &Flow, text: &[u8]) -> Vec<u8> {
        let mut buffer = holding(text);
        let padded = headers.stamps.map(Timestamps::padded);
        let options = padded.as_ref().map_or(&[][..], |padded| padded);
        let out = Outgoing {
            source: flow.local,
            destination: flow.remote,
            protocol: protocol::TCP,
            hop_limit: headers.hop_limit,
            traffic_class: headers.traffic_class,
        };
        let header = TcpSend {
            source_port: flow.local_port,
            destination_port: flow.remote_port,
            seq: headers.seq,
            ack: headers.ack,
            flags: headers.flags,
            window: headers.window,
            options_len: options.len(),
        };
        write_header(&mut buffer, &header, options, &out).unwrap();
        let ip = match (flow.local, flow.remote) {
            (IpAddr::V4(local), IpAddr::V4(remote)) => out.ipv4(local, remote, buffer.len()).as_bytes().to_vec(),
            (IpAddr::V6(local), IpAddr::V6(remote)) => out.ipv6(local, remote, buffer.len()).as_bytes().to_vec(),
            _ => unreachable!("addresses of two families"),
        };
        [&[7; ethernet::HEADER_LEN], &ip[..], buffer.bytes()].concat()
    }

    fn written(headers: &Headers, flow: &Flow, text: &[u8]) -> VecBuffer {
        let mut buffer = holding(text);
        headers.write(flow, &[7; ethernet::HEADER_LEN], &mut buffer).unwrap();
        buffer
    }

    /// The segment as somebody makes it who sums up what was left undone.
    fn completed(headers: Headers, flow: &Flow, text: &[u8]) -> Vec<u8> {
        let mut buffer = written(&headers, flow, text);
        let ip_len = if flow.local.is_ipv4() { ipv4::HEADER_LEN } else { ipv6::HEADER_LEN };
        let segment = &mut buffer.bytes_mut()[ethernet::HEADER_LEN + ip_len..];
        let checksum = Sum::new().with(segment).checksum();
        segment[CHECKSUM_OFFSET..][..2].copy_from_slice(&checksum);
        buffer.bytes().to_vec()
    }

    #[test]
    fn plain_headers_are_those_of_any_segment() {
        let v4 = |n| IpAddr::from([10, 200, 0, n]);
        let v6 = |n: u16| IpAddr::from([0xfd00, 0xffff, 0, 0x1234, 0, 0xfffe, 0, n]);
        for (local, remote) in [(v4(1), v4(255)), (v6(1), v6(0xffff))] {
            let flow = Flow { local, remote, local_port: 65_535, remote_port: 7, zone: None };
            for stamps in [None, Some(Timestamps { value: 0xfedc_ba98, echo: 0x8000_0001 })] {
                for len in [0, 1, 64, 1_447] {
                    let text: Vec<u8> = (0..len).map(|at| (at * 31 + 200) as u8).collect();
                    let headers = Headers {
                        text_len: len,
                        sum: Some(Sum::new().with(&text).folded()),
                        seq: 0xffff_fff0,
                        ack: 0x0102_0304,
                        flags: flag::ACK | flag::PSH | flag::ECE,
                        window: 0xff01,
                        stamps,
                        hop_limit: 64,
                        traffic_class: 0xba,
                    };
                    let buffer = written(&headers, &flow, &text);
                    assert_eq!(buffer.bytes(), expected(&headers, &flow, &text), "{flow:?} {stamps:?} {len}");
                    assert_eq!(completed(Headers { sum: None, ..headers }, &flow, &text), buffer.bytes());
                }
            }
        }
    }
}
