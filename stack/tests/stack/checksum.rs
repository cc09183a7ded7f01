//! The Internet checksum against the textbook, and against two other implementations.

use proptest::prelude::*;
use smoltcp::wire::{Ipv4Packet, UdpPacket};
use tailwater_stack::checksum::{self, Sum};

use crate::frames::{ETHERNET, udp4};

/// RFC 1071 §4.1, word by word.
fn textbook(bytes: &[u8]) -> [u8; 2] {
    let mut sum = 0u32;
    for pair in bytes.chunks(2) {
        sum += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
        sum = (sum & 0xffff) + (sum >> 16);
    }
    (!(sum as u16)).to_be_bytes()
}

#[test]
fn agrees_with_the_example_of_rfc_1071() {
    // RFC 1071 §3: the sum is ddf2, so the checksum is its complement.
    let bytes = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
    assert_eq!(checksum::of(&bytes), [0x22, 0x0d]);
}

#[test]
fn carries_of_all_ones_are_not_lost() {
    for len in 0..200 {
        let bytes = vec![0xff; len];
        assert_eq!(checksum::of(&bytes), textbook(&bytes), "{len} bytes");
    }
    assert_eq!(checksum::of(&[0xff; 65_536]), textbook(&[0xff; 65_536]));
    // More than lanes of 32 bits take at once.
    let (many, mut copy) = (vec![0xff; 3_000_003], vec![0; 3_000_003]);
    assert_eq!(checksum::of(&many), textbook(&many));
    assert_eq!(checksum::copy(&mut copy, &many).checksum(), textbook(&many));
    assert_eq!(copy, many);
}

proptest! {
    #[test]
    fn equals_the_textbook(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
        prop_assert_eq!(checksum::of(&bytes), textbook(&bytes));
    }

    #[test]
    fn equals_etherparse(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let theirs = etherparse::checksum::Sum16BitWords::new().add_slice(&bytes).ones_complement();
        prop_assert_eq!(checksum::of(&bytes), theirs.to_ne_bytes());
    }

    #[test]
    fn pieces_of_any_length_sum_up_as_the_whole(
        bytes in prop::collection::vec(any::<u8>(), 0..500),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
    ) {
        let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
        at.sort_unstable();
        let (mut sum, mut from) = (Sum::new(), 0);
        for to in at.into_iter().chain([bytes.len()]) {
            sum = sum.with(&bytes[from..to]);
            from = to;
        }
        prop_assert_eq!(sum.checksum(), textbook(&bytes));
    }

    #[test]
    fn pseudo_headers_equal_their_bytes(
        v4: ([u8; 4], [u8; 4]), v6: ([u8; 16], [u8; 16]), protocol: u8, len: u16,
    ) {
        let bytes = [&v4.0[..], &v4.1, &[0, protocol], &len.to_be_bytes()].concat();
        let sum = Sum::pseudo_v4(v4.0.into(), v4.1.into(), protocol, len.into());
        prop_assert_eq!(sum.checksum(), textbook(&bytes));
        let bytes = [&v6.0[..], &v6.1, &u32::from(len).to_be_bytes(), &[0, 0, 0, protocol]].concat();
        let sum = Sum::pseudo_v6(v6.0.into(), v6.1.into(), protocol, len.into());
        prop_assert_eq!(sum.checksum(), textbook(&bytes));
        prop_assert_eq!(sum.with_u16(len).checksum(), textbook(&[&bytes[..], &len.to_be_bytes()].concat()));
    }

    /// RFC 1624: the update equals a new computation, as long as not everything is zero.
    #[test]
    fn updates_equal_recomputing(mut words in prop::collection::vec(any::<[u8; 4]>(), 2..12),
                                 at: prop::sample::Index, new: [u8; 4]) {
        words[0][0] |= 1; // an IP header is never all zero
        let at = 1 + at.index(words.len() - 1);
        let before = textbook(&words.concat());
        let old = core::mem::replace(&mut words[at], new);
        let after = textbook(&words.concat());
        prop_assert_eq!(checksum::update_u32(before, old, new), after);
        let halves = checksum::update_u16(before, [old[0], old[1]], [new[0], new[1]]);
        prop_assert_eq!(checksum::update_u16(halves, [old[2], old[3]], [new[2], new[3]]), after);
    }

    #[test]
    fn updating_the_ttl_keeps_the_header_valid(source: [u8; 4], ident: u16, ttl: u8) {
        let mut frame = udp4(1, 2, b"x");
        {
            let mut ip = Ipv4Packet::new_unchecked(&mut frame[ETHERNET..]);
            ip.set_src_addr(source.into());
            ip.set_ident(ident);
            ip.set_hop_limit(ttl);
            ip.fill_checksum();
        }
        let header = &mut frame[ETHERNET..];
        let new = checksum::update_ttl([header[10], header[11]], header[9], ttl, ttl.wrapping_sub(1));
        header[8] = ttl.wrapping_sub(1);
        header[10..12].copy_from_slice(&new);
        prop_assert!(Ipv4Packet::new_unchecked(&*header).verify_checksum());
        prop_assert!(checksum::is_valid(&header[..20]));
    }

    #[test]
    fn smoltcp_finds_our_udp_checksum_right(
        source: [u8; 4], to: [u8; 4], payload in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        let len = 8 + payload.len();
        let header = [0x12, 0x34, 0x56, 0x78, (len >> 8) as u8, len as u8, 0, 0];
        let mut udp = [&header[..], &payload].concat();
        let sum = Sum::pseudo_v4(source.into(), to.into(), 17, len).with(&udp);
        udp[6..8].copy_from_slice(&sum.checksum());
        prop_assume!(udp[6..8] != [0, 0]);
        let theirs = UdpPacket::new_checked(&udp[..]).unwrap();
        let (source, to): (std::net::Ipv4Addr, std::net::Ipv4Addr) = (source.into(), to.into());
        prop_assert!(theirs.verify_checksum(&source.into(), &to.into()));
    }
}
