//! The fast path's work on headers: what a router must check, and what it changes (RFC 1812 §5.2, §5.3; RFC 8200 §3).

use tailwater_fib::AdjacencyWord;
use tailwater_stack::checksum;
use tailwater_xdp::FlowKey;

use crate::frame::Frame;
use crate::ledger::DropReason;

const ETHERNET_LEN: usize = 14;
const ETHERTYPE_IP4: [u8; 2] = [0x08, 0x00];
const ETHERTYPE_IP6: [u8; 2] = [0x86, 0xdd];
const TCP: u8 = 6;
const UDP: u8 = 17;

/// A packet that may be forwarded, as far as its own headers say: its destination, and the length of the IP packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transit {
    Ip4(u32, u32),
    Ip6(u128, u32),
}

/// Why a packet leaves the fast path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Surprise {
    /// To be discarded, nobody is told.
    Drop(DropReason),
    /// TTL or hop limit used up.
    TtlExceeded,
}

/// Checks Ethernet and IP headers, notes where the IP header starts, and says where the packet wants to go.
#[inline]
pub(crate) fn transit(frame: &mut Frame) -> Result<Transit, Surprise> {
    let total_len = frame.total_len();
    let bytes = frame.bytes();
    let l3 = match frame.l3_offset() {
        0 => ETHERNET_LEN,
        known => known,
    };
    let Some(ethertype) = bytes.get(l3 - 2..l3) else { return Err(Surprise::Drop(DropReason::BadEthernet)) };
    if bytes[0] & 1 != 0 {
        // RFC 1812 §5.3.4: what was sent to a group of stations is not forwarded.
        return Err(Surprise::Drop(DropReason::NotForUs));
    }
    let available = total_len - l3;
    let transit = if ethertype == ETHERTYPE_IP4 {
        transit4(&bytes[l3..], available)?
    } else if ethertype == ETHERTYPE_IP6 {
        transit6(&bytes[l3..], available)?
    } else {
        return Err(Surprise::Drop(DropReason::UnknownEthertype));
    };
    frame.set_l3_offset(l3 as u8);
    Ok(transit)
}

/// RFC 1812 §5.2.2: the five tests of an IPv4 header, then the addresses.
#[inline]
fn transit4(packet: &[u8], available: usize) -> Result<Transit, Surprise> {
    let bad = Err(Surprise::Drop(DropReason::BadIp4));
    let Some(header) = packet.first_chunk::<20>() else { return bad };
    let header_len = usize::from(header[0] & 15) * 4;
    let packet_len = usize::from(u16::from_be_bytes([header[2], header[3]]));
    if header[0] >> 4 != 4 || header_len < 20 || packet_len < header_len || packet_len > available {
        return bad;
    }
    let valid = if header_len == 20 {
        sum20(header) == 0xffff
    } else {
        packet.get(..header_len).is_some_and(checksum::is_valid)
    };
    if !valid {
        return Err(Surprise::Drop(DropReason::BadIp4Checksum));
    }
    let source = u32::from_be_bytes([header[12], header[13], header[14], header[15]]);
    let destination = u32::from_be_bytes([header[16], header[17], header[18], header[19]]);
    if stays4(source) || stays4(destination) {
        return Err(Surprise::Drop(DropReason::MartianAddress));
    }
    if header[8] <= 1 {
        return Err(Surprise::TtlExceeded);
    }
    Ok(Transit::Ip4(destination, packet_len as u32))
}

/// One's complement sum of a header of 20 bytes; 0xffff if its checksum is right.
#[inline]
fn sum20(header: &[u8; 20]) -> u32 {
    let (words, _) = header.as_chunks::<4>();
    let sum: u64 = words.iter().map(|word| u64::from(u32::from_ne_bytes(*word))).sum();
    let sum = (sum >> 32) + (sum & 0xffff_ffff);
    let sum = ((sum >> 32) + (sum & 0xffff_ffff)) as u32;
    let sum = (sum >> 16) + (sum & 0xffff);
    (sum >> 16) + (sum & 0xffff)
}

/// RFC 1812 §5.3.7, RFC 3927 §7: 0/8, 127/8, 169.254/16, multicast, class E and limited broadcast stay on their link.
#[inline]
fn stays4(addr: u32) -> bool {
    let first = addr >> 24;
    first == 0 || first == 127 || first >= 224 || addr >> 16 == 0xa9fe
}

#[inline]
fn transit6(packet: &[u8], available: usize) -> Result<Transit, Surprise> {
    let bad = Err(Surprise::Drop(DropReason::BadIp6));
    let Some(header) = packet.first_chunk::<40>() else { return bad };
    let payload_len = usize::from(u16::from_be_bytes([header[4], header[5]]));
    if header[0] >> 4 != 6 || 40 + payload_len > available {
        return bad;
    }
    let address = |at: usize| header[at..].first_chunk::<16>().map_or(0, |bytes| u128::from_be_bytes(*bytes));
    let (source, destination) = (address(8), address(24));
    if stays6(source) || stays6(destination) {
        return Err(Surprise::Drop(DropReason::MartianAddress));
    }
    if header[7] <= 1 {
        return Err(Surprise::TtlExceeded);
    }
    Ok(Transit::Ip6(destination, 40 + payload_len as u32))
}

/// RFC 4291 §2.5, §2.7: unspecified, loopback, IPv4-mapped, link-local and multicast stay on their link.
#[inline]
fn stays6(addr: u128) -> bool {
    let high = (addr >> 64) as u64;
    high == 0 || high >> 56 == 0xff || high >> 54 == 0xfe80 >> 6
}

/// Bytes of the IP packet.
#[inline]
pub(crate) fn packet_len(frame: &Frame) -> usize {
    let packet = &frame.bytes()[frame.l3_offset()..];
    match packet {
        [first, _, high, low, ..] if first >> 4 == 4 => usize::from(u16::from_be_bytes([*high, *low])),
        [_, _, _, _, high, low, ..] => 40 + usize::from(u16::from_be_bytes([*high, *low])),
        _ => 0,
    }
}

/// Counts the hop and addresses the frame to its next station. `frame` has passed [`transit`].
#[inline]
pub(crate) fn rewrite(frame: &mut Frame, to: AdjacencyWord, source_mac: [u8; 6]) {
    let l3 = frame.l3_offset();
    let bytes = frame.bytes_mut();
    if let Some(addresses) = bytes.first_chunk_mut::<12>() {
        // Whole words, in registers all the way; the source address covers the last two bytes of the first one.
        addresses[..8].copy_from_slice(&to.mac_and_two_more());
        addresses[6..].copy_from_slice(&source_mac);
    }
    let Some(header) = bytes.get_mut(l3..).and_then(|packet| packet.first_chunk_mut::<20>()) else { return };
    if header[0] >> 4 == 4 {
        // RFC 1812 §5.3.1; the checksum follows by RFC 1624.
        header[8] = header[8].wrapping_sub(1);
        let sum = u32::from(u16::from_be_bytes([header[10], header[11]])) + 0x100;
        let sum = ((sum >> 16) + (sum & 0xffff)) as u16;
        header[10..12].copy_from_slice(&sum.to_be_bytes());
    } else {
        header[7] = header[7].wrapping_sub(1);
    }
}

/// The flow that a packet belongs to, for choosing among equal paths. Fragments go by addresses alone, so that all of a
/// datagram take one path.
pub(crate) fn flow_key(frame: &Frame) -> Option<FlowKey> {
    flow_key_of(frame.bytes().get(frame.l3_offset()..)?)
}

/// As [`flow_key`], of an IP packet. The steering program makes the same key of it (`xdp/bpf/parse.h`).
pub(crate) fn flow_key_of(packet: &[u8]) -> Option<FlowKey> {
    let ports = |at: usize| {
        let bytes = packet.get(at..at + 4)?;
        Some((u16::from_be_bytes([bytes[0], bytes[1]]), u16::from_be_bytes([bytes[2], bytes[3]])))
    };
    match packet.first()? >> 4 {
        4 => {
            let header = packet.first_chunk::<20>()?;
            let fragment = header[6] & 0x3f != 0 || header[7] != 0;
            let proto = header[9];
            let transport = matches!(proto, TCP | UDP) && !fragment;
            let (sport, dport) = transport.then(|| ports(usize::from(header[0] & 15) * 4)).flatten().unwrap_or((0, 0));
            let source = [header[12], header[13], header[14], header[15]];
            let destination = [header[16], header[17], header[18], header[19]];
            Some(FlowKey::v4(source.into(), sport, destination.into(), dport, proto))
        }
        _ => {
            let header = packet.first_chunk::<40>()?;
            let proto = header[6];
            let transport = matches!(proto, TCP | UDP);
            let (sport, dport) = transport.then(|| ports(40)).flatten().unwrap_or((0, 0));
            let source: [u8; 16] = *header[8..].first_chunk()?;
            let destination: [u8; 16] = *header[24..].first_chunk()?;
            Some(FlowKey::v6(source.into(), sport, destination.into(), dport, proto))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::{Pool, Region, RegionConfig};

    fn pool() -> Pool {
        let config = RegionConfig { chunks: 64, huge_pages: false, ..RegionConfig::default() };
        Pool::new(Region::in_process(config).unwrap())
    }

    /// An IPv4 UDP frame from 10.1.0.2 to 10.2.0.2 with the given TTL and a right checksum.
    fn ip4(ttl: u8) -> Vec<u8> {
        let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0];
        let mut header = vec![0x45, 0, 0, 28, 1, 2, 0, 0, ttl, 17, 0, 0, 10, 1, 0, 2, 10, 2, 0, 2];
        let sum = checksum::of(&header);
        header[10..12].copy_from_slice(&sum);
        frame.extend(header);
        frame.extend([0x12, 0x34, 0, 9, 0, 8, 0, 0]);
        frame
    }

    #[test]
    fn forwarding_keeps_the_checksum_right_for_every_ttl() {
        let mut pool = pool();
        let (mut fib, reader) = tailwater_fib::new(tailwater_fib::Limits::default()).unwrap();
        let next_hop = fib.adjacencies.add().unwrap();
        fib.adjacencies.resolve(next_hop, 0, [9; 6]).unwrap();
        let neighbour = reader.join().unwrap().resolve_word(next_hop, 0);
        for ttl in 2..=255 {
            let mut frame = pool.allocate_copy(&ip4(ttl)).unwrap();
            assert_eq!(transit(&mut frame), Ok(Transit::Ip4(0x0a02_0002, 28)));
            rewrite(&mut frame, neighbour, [8; 6]);
            assert_eq!(frame.bytes()[22], ttl - 1);
            assert!(checksum::is_valid(&frame.bytes()[14..34]), "ttl {ttl}");
            assert_eq!(frame.bytes()[..12], [9, 9, 9, 9, 9, 9, 8, 8, 8, 8, 8, 8]);
            pool.release(frame);
        }
    }

    #[test]
    fn what_a_router_must_not_forward_is_refused_by_name() {
        let mut pool = pool();
        let mut check = |change: &dyn Fn(&mut Vec<u8>), expected: Surprise| {
            let mut bytes = ip4(64);
            change(&mut bytes);
            let mut frame = pool.allocate_copy(&bytes).unwrap();
            assert_eq!(transit(&mut frame), Err(expected), "{bytes:02x?}");
            pool.release(frame);
        };
        fn fix(bytes: &mut [u8]) {
            bytes[24..26].fill(0);
            let sum = checksum::of(&bytes[14..34]);
            bytes[24..26].copy_from_slice(&sum);
        }
        check(&|b| b[0] = 1, Surprise::Drop(DropReason::NotForUs));
        check(&|b| b[12] = 9, Surprise::Drop(DropReason::UnknownEthertype));
        check(&|b| b.truncate(13), Surprise::Drop(DropReason::BadEthernet));
        check(&|b| b.truncate(33), Surprise::Drop(DropReason::BadIp4));
        check(&|b| b[14] = 0x65, Surprise::Drop(DropReason::BadIp4));
        check(&|b| b[14] = 0x44, Surprise::Drop(DropReason::BadIp4));
        check(&|b| b[17] = 200, Surprise::Drop(DropReason::BadIp4));
        check(&|b| b[24] ^= 1, Surprise::Drop(DropReason::BadIp4Checksum));
        check(
            &|b| {
                b[22] = 1;
                fix(b)
            },
            Surprise::TtlExceeded,
        );
        for source in [[0, 1, 2, 3], [127, 0, 0, 1], [224, 0, 0, 1], [169, 254, 1, 1], [255; 4]] {
            check(
                &|b| {
                    b[26..30].copy_from_slice(&source);
                    fix(b)
                },
                Surprise::Drop(DropReason::MartianAddress),
            );
        }
    }

    #[test]
    fn fragments_of_one_datagram_have_one_flow() {
        let mut pool = pool();
        let mut first = ip4(64);
        first[20] = 0x20; // more fragments
        let mut second = ip4(64);
        second[21] = 1; // offset 8
        second[34..38].copy_from_slice(&[1, 2, 3, 4]);
        let keys = [first, second].map(|bytes| {
            let mut frame = pool.allocate_copy(&bytes).unwrap();
            frame.set_l3_offset(14);
            let key = flow_key(&frame);
            pool.release(frame);
            key
        });
        assert!(keys[0].is_some());
        assert_eq!(keys[0], keys[1]);
    }
}
