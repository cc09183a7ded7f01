//! Which frames can leave as one.

use tailwater_stack::checksum::Sum;
use tailwater_stack::wire::protocol::TCP;
use tailwater_stack::wire::tcp::CHECKSUM_OFFSET;
use tailwater_stack::wire::tcp::flag::{ACK, ECE, FIN, PSH};

use crate::blocks::header::{ADDRESSES_LEN, ETHERNET_LEN, be16};
use crate::frame::Frame;
use crate::port::virtio::{GSO_TCP4, GSO_TCP6, NEEDS_CHECKSUM, WORDS_LEN};

/// Ethernet, IPv6 and TCP with all options.
const HEADERS_MAX: usize = ETHERNET_LEN + 40 + 60;
/// What the length fields of IP can tell, in bytes.
pub(in crate::port) const IP_LEN_MAX: usize = 65_535;
/// Bytes of a train that need not be told to a device: a file of 64 KiB leaves whole, with what is said in front of it.
pub(super) const LONG_LEN_MAX: usize = 2 * IP_LEN_MAX;
/// Pieces of memory in one train, of at most `UIO_MAXIOV` (1024).
pub(super) const PIECES_MAX: usize = 256;

/// Flags that a segment in a train may have. SYN and RST carry no text; URG and CWR (RFC 3168 §6.1.2) would be repeated.
const COUPLED: u8 = FIN | PSH | ACK | ECE;

/// Where a segment's headers are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Places {
    is_ip6: bool,
    transport: usize,
    text: usize,
}

/// A TCP segment in a frame.
#[derive(Clone, Copy)]
struct Segment<'a> {
    headers: &'a [u8],
    places: Places,
    /// Bytes behind the headers.
    text_len: usize,
}

impl<'a> Segment<'a> {
    /// The frame's segment, if it could be in a train; `None` for anything else.
    fn of(frame: &'a Frame) -> Option<Self> {
        if !frame.is_lent() {
            return None;
        }
        let bytes = frame.bytes();
        let network = bytes.get(ETHERNET_LEN..)?;
        let total = frame.total_len() - ETHERNET_LEN;
        let (is_ip6, transport) = match (be16(bytes, ADDRESSES_LEN)?, *network.first()?) {
            // Without options; not fragmented, and never to be: then it does not matter that the kernel numbers packets.
            (0x0800, 0x45) if be16(network, 6)? == 0x4000 && *network.get(9)? == TCP => {
                (usize::from(be16(network, 2)?) == total).then_some((false, ETHERNET_LEN + 20))?
            }
            (0x86dd, 0x60..=0x6f) if *network.get(6)? == TCP => {
                (usize::from(be16(network, 4)?) + 40 == total).then_some((true, ETHERNET_LEN + 40))?
            }
            _ => return None,
        };
        let text = transport + usize::from(*bytes.get(transport + 12)? >> 4) * 4;
        let headers = bytes.get(..text).filter(|_| text >= transport + 20)?;
        let flags = *headers.get(transport + 13)?;
        let text_len = frame.total_len() - text;
        let fits = text_len > 0 && flags & ACK != 0 && flags & !COUPLED == 0;
        fits.then_some(Self { headers, places: Places { is_ip6, transport, text }, text_len })
    }

    fn at(&self, offset: usize) -> &'a [u8] {
        self.headers.get(self.places.transport + offset..).unwrap_or_default()
    }

    fn seq(&self) -> u32 {
        self.at(4).first_chunk().map_or(0, |bytes| u32::from_be_bytes(*bytes))
    }

    fn flags(&self) -> u8 {
        self.at(13).first().copied().unwrap_or(0)
    }

    /// Whether nothing can come behind it.
    fn is_last(&self) -> bool {
        self.flags() & (FIN | PSH) != 0
    }

    /// Whether its headers are those of `first`, except for what the kernel writes for each: lengths, identification,
    /// checksums, sequence number, FIN and PSH.
    fn is_like(&self, first: &Self) -> bool {
        let places = self.places;
        if places != first.places {
            return false;
        }
        let same = |from: usize, to: usize| self.headers.get(from..to) == first.headers.get(from..to);
        let network = if places.is_ip6 {
            same(0, ETHERNET_LEN + 4) && same(ETHERNET_LEN + 6, places.transport)
        } else {
            same(0, ETHERNET_LEN + 2)
                && same(ETHERNET_LEN + 6, ETHERNET_LEN + 10)
                && same(ETHERNET_LEN + 12, places.transport)
        };
        let transport = places.transport;
        network
            && same(transport, transport + 4)
            && same(transport + 8, transport + 13)
            && (self.flags() ^ first.flags()) & !(FIN | PSH) == 0
            && same(transport + 14, transport + CHECKSUM_OFFSET)
            && same(transport + CHECKSUM_OFFSET + 2, places.text)
    }
}

/// Frames that leave as one packet by the socket, and what stands in front of their text.
pub(in crate::port) struct Train {
    /// How many frames, from the first one on.
    pub(in crate::port) frames: usize,
    /// Offset of the text in each.
    pub(super) text_at: usize,
    /// Longer than IP can tell.
    pub(in crate::port) long: bool,
    front: [u8; WORDS_LEN + HEADERS_MAX],
}

impl Train {
    /// The train that starts with the first of `frames`, if that can be coupled with the next: at most `len_max` bytes from the
    /// IP header on.
    pub(in crate::port) fn couple(frames: &[Frame], len_max: usize) -> Option<Self> {
        let (leader, others) = frames.split_first()?;
        let first = Segment::of(leader)?;
        let size = first.text_len;
        let (mut count, mut text_len, mut pieces) = (1, size, leader.segments().count());
        let (mut flags, mut is_open) = (first.flags(), !first.is_last());
        let text_max = len_max - (first.places.text - ETHERNET_LEN);
        for frame in others {
            let Some(next) = Segment::of(frame).filter(|_| is_open) else { break };
            pieces += frame.segments().count();
            let follows = next.seq() == first.seq().wrapping_add(text_len as u32) && next.is_like(&first);
            if !follows || next.text_len > size || text_len + next.text_len > text_max || pieces > PIECES_MAX {
                break;
            }
            (count, text_len, flags) = (count + 1, text_len + next.text_len, flags | next.flags());
            is_open = next.text_len == size && !next.is_last();
        }
        let long = text_len > IP_LEN_MAX - (first.places.text - ETHERNET_LEN);
        let front = || front(&first, text_len, flags);
        (count > 1).then(|| Self { frames: count, text_at: first.places.text, long, front: front() })
    }

    /// The first of `frames` alone, if it carries text: nothing is cut or summed up.
    pub(in crate::port) fn alone(frames: &[Frame]) -> Option<Self> {
        let first = frames.first().filter(|frame| frame.is_lent())?;
        let fits = first.segments().count() <= PIECES_MAX;
        fits.then_some(Self { frames: 1, text_at: 0, long: false, front: [0; WORDS_LEN + HEADERS_MAX] })
    }

    /// The words for the kernel and the headers.
    pub(super) fn front(&self) -> &[u8] {
        self.front.get(..WORDS_LEN + self.text_at).unwrap_or_default()
    }
}

/// `struct virtio_net_hdr` in the machine's byte order, and the headers of a packet of `text_len` bytes: the kernel adapts
/// them to each segment, and completes the checksum that here covers the pseudo header.
fn front(first: &Segment<'_>, text_len: usize, flags: u8) -> [u8; WORDS_LEN + HEADERS_MAX] {
    let Places { is_ip6, transport, text } = first.places;
    let mut front = [0; WORDS_LEN + HEADERS_MAX];
    let (words, packet) = front.split_at_mut(WORDS_LEN);
    words[..2].copy_from_slice(&[NEEDS_CHECKSUM, if is_ip6 { GSO_TCP6 } else { GSO_TCP4 }]);
    let numbers = [text, first.text_len, transport, CHECKSUM_OFFSET];
    for (field, number) in words[2..].chunks_exact_mut(2).zip(numbers) {
        field.copy_from_slice(&(number as u16).to_ne_bytes());
    }
    packet[..text].copy_from_slice(&first.headers[..text]);
    let transport_len = text - transport + text_len;
    let network = &mut packet[ETHERNET_LEN..];
    let pseudo = if is_ip6 {
        network[4..6].copy_from_slice(&length_field(transport_len));
        Sum::new().with(&network[8..40])
    } else {
        network[2..4].copy_from_slice(&length_field(20 + transport_len));
        network[10..12].fill(0);
        let sum = Sum::new().with(&network[..20]).checksum();
        network[10..12].copy_from_slice(&sum);
        Sum::new().with(&network[12..20])
    };
    let pseudo = pseudo.with(&[0, TCP]).with(&(transport_len as u32).to_be_bytes());
    packet[transport + 13] = flags;
    // The sum itself, not its complement.
    let partial = pseudo.checksum().map(|byte| !byte);
    packet[transport + CHECKSUM_OFFSET..][..2].copy_from_slice(&partial);
    front
}

/// What IP cannot tell is told as 0, as Linux does within itself ("BIG TCP").
fn length_field(len: usize) -> [u8; 2] {
    u16::try_from(len).unwrap_or(0).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tailwater_stack::checksum;

    use super::*;
    use crate::frame::{Pool, Region, RegionConfig};
    use crate::port::packet::segments_of;

    const MSS: usize = 100;

    fn pool() -> Pool {
        let config = RegionConfig { chunks: 512, huge_pages: false, ..RegionConfig::default() };
        Pool::new(Region::in_process(config).unwrap())
    }

    /// A segment of the connection 10.1.0.1:80 to 10.1.0.2:81, or of its counterpart over IPv6.
    fn segment(is_ip6: bool, seq: u32, flags: u8, text: &[u8]) -> Vec<u8> {
        let mut tcp = vec![0, 80, 0, 81];
        tcp.extend(seq.to_be_bytes());
        tcp.extend([0, 0, 0, 1, 0x80, flags, 1, 0, 0, 0, 0, 0, 1, 1, 8, 10, 0, 0, 0, 5, 0, 0, 0, 6]);
        tcp.extend(text);
        let mut packet = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
        let (head, addresses) = if is_ip6 {
            packet.extend([0x86, 0xdd, 0x60, 0, 0, 0, (tcp.len() >> 8) as u8, tcp.len() as u8, TCP, 64]);
            (0, [[0xfd; 16], [0xfe; 16]].concat())
        } else {
            let len = tcp.len() + 20;
            packet.extend([8, 0, 0x45, 0, (len >> 8) as u8, len as u8, 0, 0, 0x40, 0, 64, TCP, 0, 0]);
            (20, vec![10, 1, 0, 1, 10, 1, 0, 2])
        };
        packet.extend(&addresses);
        if head > 0 {
            let sum = checksum::of(&packet[14..34]);
            packet[24..26].copy_from_slice(&sum);
        }
        let pseudo = Sum::new().with(&addresses).with(&[0, TCP]).with(&(tcp.len() as u32).to_be_bytes());
        let sum = pseudo.with(&tcp).checksum();
        tcp[CHECKSUM_OFFSET..][..2].copy_from_slice(&sum);
        packet.extend(tcp);
        packet
    }

    /// As the stack hands it over: the text in a frame that is kept, the headers in front of it in the one that is sent.
    fn lent(pool: &mut Pool, kept: &mut Vec<Frame>, packet: &[u8]) -> Frame {
        let text_at = if packet[12] == 8 { 66 } else { 86 };
        let mut text = pool.allocate_copy(&packet[text_at..]).unwrap();
        let mut frame = pool.share(&mut text).unwrap();
        kept.push(text);
        frame.prepend(text_at).unwrap();
        frame.bytes_mut()[..text_at].copy_from_slice(&packet[..text_at]);
        frame
    }

    /// What the kernel makes of a train: its packets, without the identification that it counts up.
    fn cut(train: &Train, frames: &[Frame]) -> Vec<Vec<u8>> {
        let mut whole = train.front().to_vec();
        for frame in &frames[..train.frames] {
            whole.extend(&frame.segments().collect::<Vec<_>>().concat()[train.text_at..]);
        }
        let (words, packet) = whole.split_first_chunk().unwrap();
        segments_of(words, packet)
    }

    /// Sends `packets` as the port does; what arrives, and in how many packets it left.
    fn sent(packets: &[Vec<u8>]) -> (Vec<Vec<u8>>, usize) {
        sent_within(IP_LEN_MAX, packets)
    }

    fn sent_within(len_max: usize, packets: &[Vec<u8>]) -> (Vec<Vec<u8>>, usize) {
        let (mut pool, mut kept) = (pool(), Vec::new());
        let frames: Vec<Frame> = packets.iter().map(|packet| lent(&mut pool, &mut kept, packet)).collect();
        let (mut arrived, mut at, mut calls) = (Vec::new(), 0, 0);
        while at < frames.len() {
            calls += 1;
            match Train::couple(&frames[at..], len_max) {
                Some(train) => {
                    arrived.extend(cut(&train, &frames[at..]));
                    at += train.frames;
                }
                None => {
                    arrived.push(packets[at].clone());
                    at += 1;
                }
            }
        }
        frames.into_iter().chain(kept).for_each(|frame| pool.release(frame));
        (arrived, calls)
    }

    /// Without identification and the header checksum that covers it.
    fn unnumbered(mut packets: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
        for packet in packets.iter_mut().filter(|packet| packet[12] == 8) {
            assert!(Sum::new().with(&packet[14..34]).is_valid(), "header checksum");
            packet[18..20].fill(0);
            packet[24..26].fill(0);
        }
        packets
    }

    fn stream(is_ip6: bool, lens: &[usize], last_flags: u8) -> Vec<Vec<u8>> {
        let mut seq = 0xffff_ff00_u32;
        let last = lens.len() - 1;
        let packet = |(number, &len): (usize, &usize)| {
            let text: Vec<u8> = (0..len).map(|n| (n * 7 + number) as u8).collect();
            let packet = segment(is_ip6, seq, ACK | if number == last { last_flags } else { 0 }, &text);
            seq = seq.wrapping_add(len as u32);
            packet
        };
        lens.iter().enumerate().map(packet).collect()
    }

    #[test]
    fn full_segments_and_a_last_shorter_one_leave_as_one_packet_that_is_cut_into_the_same() {
        for (is_ip6, flags) in [(false, 0), (true, 0), (false, PSH), (true, PSH | FIN)] {
            let packets = stream(is_ip6, &[MSS, MSS, MSS, 33], flags);
            let (arrived, calls) = sent(&packets);
            assert_eq!((unnumbered(arrived), calls), (unnumbered(packets), 1));
        }
    }

    #[test]
    fn jumbo_frames_of_several_chunks_leave_as_one_packet() {
        let packets = stream(false, &[8948, 8948, 8948, 10], 0);
        let (arrived, calls) = sent(&packets);
        assert_eq!((unnumbered(arrived), calls), (unnumbered(packets), 1));
    }

    #[test]
    fn a_train_is_no_longer_than_ip_can_tell() {
        let packets = stream(false, &[1448; 100], 0);
        let (arrived, calls) = sent(&packets);
        assert_eq!((arrived.len(), calls), (100, 3), "45 x 1448 bytes and headers fit 65,535");
    }

    #[test]
    fn a_train_that_no_device_is_told_of_is_longer_and_is_cut_into_the_same() {
        for is_ip6 in [false, true] {
            let packets = stream(is_ip6, &[1428; 100], PSH | FIN);
            let (arrived, calls) = sent_within(LONG_LEN_MAX, &packets);
            assert_eq!(
                (unnumbered(arrived), calls),
                (unnumbered(packets), 2),
                "91 x 1428 bytes and headers fit 131,070"
            );
        }
    }

    #[test]
    fn a_push_a_gap_a_longer_or_another_segment_ends_a_train() {
        let full = |seq, flags| segment(false, seq, flags, &[1; MSS]);
        let mut other_port = full(100, ACK);
        other_port[34 + 3] ^= 1;
        let mut other_ack = full(100, ACK);
        other_ack[34 + 11] ^= 1;
        for (first, second) in [
            (full(0, ACK | PSH), full(100, ACK)),
            (full(0, ACK), full(101, ACK)),
            (full(0, ACK), segment(false, 100, ACK, &[1; MSS + 1])),
            (full(0, ACK), full(100, ACK | 0x80)),
            (full(0, ACK), full(100, ACK | ECE)),
            (full(0, ACK), segment(true, 100, ACK, &[1; MSS])),
            (full(0, ACK), segment(false, 100, ACK, &[])),
            (full(0, ACK), other_port),
            (full(0, ACK), other_ack),
        ] {
            assert_eq!(sent(&[first, second]).1, 2);
        }
    }

    #[test]
    fn what_the_stack_does_not_keep_is_left_alone() {
        let mut pool = pool();
        let frames: Vec<Frame> =
            stream(false, &[MSS; 3], 0).iter().map(|packet| pool.allocate_copy(packet).unwrap()).collect();
        assert!(Train::couple(&frames, IP_LEN_MAX).is_none());
        frames.into_iter().for_each(|frame| pool.release(frame));
    }

    proptest! {
        #[test]
        fn damage_in_one_segment_is_not_spread_to_others(
            lens in prop::collection::vec(1..=MSS, 1..6),
            is_ip6: bool,
            at in 0_usize..66,
            bit in 0..8_u32,
            which in 0_usize..6,
        ) {
            // By this byte the test tells the two kinds apart.
            prop_assume!(at != 12);
            let mut packets = stream(is_ip6, &lens, 0);
            let which = which % packets.len();
            packets[which][at] ^= 1_u8 << bit;
            let (arrived, _) = sent(&packets);
            prop_assert_eq!(arrived.len(), packets.len());
            let others = |packets: &[Vec<u8>]| {
                let others = packets.iter().enumerate().filter(|(number, _)| *number != which);
                others.map(|(_, packet)| unnumbered_unchecked(packet)).collect::<Vec<_>>()
            };
            prop_assert_eq!(others(&arrived), others(&packets));
        }
    }

    fn unnumbered_unchecked(packet: &[u8]) -> Vec<u8> {
        let mut packet = packet.to_vec();
        if packet[12] == 8 {
            packet[18..20].fill(0);
            packet[24..26].fill(0);
        }
        packet
    }
}
