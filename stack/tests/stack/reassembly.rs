//! Fragments: every order, and every known attack.

use std::time::Duration;

use proptest::prelude::*;
use tailwater_stack::testing::{SEGMENT_LEN, VecBuffer};
use tailwater_stack::{Config, DropReason, InterfaceConfig, ReassemblyLimits, Verdict};

use crate::frames::*;
use crate::host::Host;

fn payload(len: usize) -> Vec<u8> {
    (0..len).map(|n| (n * 31 % 251) as u8).collect()
}

/// Both families' fragments of one datagram to port 7.
fn both(len: usize, piece: usize) -> [Vec<Vec<u8>>; 2] {
    [split4(9, &udp4(5000, 7, &payload(len)), piece), split6(9, &udp6(5000, 7, &payload(len)), piece)]
}

fn listening(config: Config) -> Host {
    let mut host = Host::with(config, InterfaceConfig::exclusive(OUR_MAC, 1500));
    host.bind("0.0.0.0:7");
    host.bind("[::]:7");
    host
}

fn limits(change: impl FnOnce(&mut ReassemblyLimits)) -> Config {
    let mut reassembly = ReassemblyLimits::default();
    change(&mut reassembly);
    Config { reassembly, ..Config::default() }
}

/// Receives all frames; the last must complete a datagram.
fn receive_all(host: &mut Host, frames: &[Vec<u8>]) -> Vec<u8> {
    let (last, before) = frames.split_last().unwrap();
    for frame in before {
        assert!(matches!(host.receive(frame), Verdict::Held));
    }
    let datagram = host.datagram(last);
    assert_eq!(host.stack.held(), 0);
    datagram.payload_pieces().collect::<Vec<_>>().concat()
}

#[test]
fn fragments_in_order_and_in_reverse_make_the_datagram() {
    let mut host = listening(Config::default());
    for mut frames in both(5000, 1480) {
        assert_eq!(receive_all(&mut host, &frames), payload(5000));
        frames.reverse();
        assert_eq!(receive_all(&mut host, &frames), payload(5000));
    }
    assert_eq!(host.stack.ledger().delivered, 4);
}

#[test]
fn the_largest_datagram_fits() {
    let mut host = listening(Config::default());
    let [v4, _] = both(65_507, 1480);
    assert_eq!(receive_all(&mut host, &v4), payload(65_507));
}

#[test]
fn a_reassembled_datagram_is_echoed_in_fragments() {
    let mut host = listening(Config::default());
    host.meet_peer();
    for (frames, header) in both(5000, 1480).into_iter().zip([20, 48]) {
        let (last, before) = frames.split_last().unwrap();
        before.iter().for_each(|frame| drop(host.receive(frame)));
        let datagram = host.datagram(last);
        host.reply(datagram).unwrap();
        let sent: Vec<_> = std::iter::from_fn(|| host.sent()).collect();
        assert_eq!(sent.len(), 4);
        let body: Vec<u8> = sent.iter().flat_map(|frame| frame[ETHERNET + header..].to_vec()).collect();
        assert_eq!(body[8..], payload(5000));
    }
}

#[test]
fn a_long_echo_request_is_answered_in_fragments() {
    let mut host = Host::acquainted();
    for frames in [split4(1, &echo4(1, 1, &payload(4000)), 1480), split6(1, &echo6(1, 1, &payload(4000)), 1448)] {
        let (last, before) = frames.split_last().unwrap();
        before.iter().for_each(|frame| assert!(matches!(host.receive(frame), Verdict::Held)));
        assert!(matches!(host.receive(last), Verdict::Answered));
        assert_eq!(std::iter::from_fn(|| host.sent()).count(), 3);
    }
}

#[test]
fn buffers_that_cannot_be_chained_are_joined_in_the_first() {
    let mut host = listening(Config::default());
    for frames in both(5000, 1480) {
        let mut result = None;
        for frame in frames {
            result = Some(host.receive_buffer(VecBuffer::from_bytes(&frame).unchainable()));
        }
        let Some(Verdict::Datagram(datagram)) = result else { panic!("not delivered") };
        assert_eq!(datagram.payload(), payload(5000));
    }
    // And where the first has no room, the datagram is given up, with nothing lost.
    let frames = split4(9, &udp4(5000, 7, &payload(SEGMENT_LEN + 1000)), 1480);
    let mut result = None;
    for frame in frames {
        result = Some(host.receive_buffer(VecBuffer::from_bytes(&frame).unchainable()));
    }
    assert!(matches!(result, Some(Verdict::Discarded(DropReason::ReassemblyNoRoom))));
    assert_eq!(host.stack.held(), 0);
}

#[test]
fn a_duplicate_is_ignored() {
    let mut host = listening(Config::default());
    for frames in both(3000, 1480) {
        assert!(matches!(host.receive(&frames[0]), Verdict::Held));
        assert_eq!(host.refusal(&frames[0]), DropReason::FragmentDuplicate);
        assert_eq!(receive_all(&mut host, &frames[1..]), payload(3000));
    }
}

#[test]
fn overlap_ends_the_datagram_and_its_stragglers() {
    // teardrop, and every way to cover a byte twice: (offset, length) after [16, 32) came.
    for (offset, len) in [(0, 24), (8, 16), (16, 8), (24, 8), (24, 16), (8, 40), (16, 24)] {
        for six in [false, true] {
            let mut host = listening(Config::default());
            let piece = |offset, len| match six {
                false => fragment4(5, 17, offset, true, &[1; 64][..len]),
                true => fragment6(5, 17, offset, true, &[1; 64][..len]),
            };
            assert!(matches!(host.receive(&piece(16, 16)), Verdict::Held));
            assert_eq!(host.refusal(&piece(offset, len)), DropReason::FragmentOverlap, "{offset}+{len}");
            assert_eq!(host.stack.held(), 0);
            assert_eq!(host.stack.ledger().discarded(DropReason::FragmentOverlap), 2);
            // RFC 5722 §4: also those not yet received.
            assert_eq!(host.refusal(&piece(40, 8)), DropReason::FragmentOverlap);
            host.wait(Duration::from_secs(60));
            assert!(matches!(host.receive(&piece(40, 8)), Verdict::Held), "a new datagram by now");
        }
    }
}

#[test]
fn fragments_beyond_the_largest_datagram_are_dropped() {
    let mut host = listening(Config::default());
    // Ping of death: the end lies beyond 65,535 bytes.
    assert_eq!(host.refusal(&fragment4(5, 1, 65_528, false, &[0; 100])), DropReason::FragmentOversize);
    assert_eq!(host.refusal(&fragment6(5, 17, 65_528, false, &[0; 100])), DropReason::FragmentOversize);
    let report = host.only_sent();
    assert_eq!(report[ETHERNET + 40..][..2], [4, 0]);
    assert_eq!(report[ETHERNET + 44..][..4], 42u32.to_be_bytes(), "points at the fragment offset");
    assert_eq!(host.stack.held(), 0);
}

#[test]
fn fragments_of_wrong_length_are_dropped() {
    let mut host = listening(Config::default());
    assert_eq!(host.refusal(&fragment4(5, 17, 8, true, &[0; 9])), DropReason::FragmentLen);
    assert_eq!(host.refusal(&fragment4(5, 17, 8, false, &[])), DropReason::FragmentLen);
    assert_eq!(host.refusal(&fragment6(5, 17, 8, true, &[0; 9])), DropReason::FragmentLen);
    let report = host.only_sent();
    assert_eq!(report[ETHERNET + 44..][..4], 4u32.to_be_bytes(), "points at the payload length");
}

#[test]
fn fragments_that_disagree_about_the_end_are_dropped() {
    let mut host = listening(Config::default());
    let last_at = |at| fragment4(5, 17, at, false, &[0; 8]);
    assert!(matches!(host.receive(&last_at(64)), Verdict::Held));
    assert_eq!(host.refusal(&last_at(128)), DropReason::FragmentEnd);
    assert_eq!(host.stack.held(), 0);
    let mut host = listening(Config::default());
    assert!(matches!(host.receive(&fragment4(5, 17, 64, true, &[0; 8])), Verdict::Held));
    assert_eq!(host.refusal(&last_at(32)), DropReason::FragmentEnd);
    let mut host = listening(Config::default());
    assert!(matches!(host.receive(&last_at(32)), Verdict::Held));
    assert_eq!(host.refusal(&fragment4(5, 17, 64, true, &[0; 8])), DropReason::FragmentEnd);
}

#[test]
fn a_first_ipv6_fragment_without_its_transport_header_is_reported() {
    let mut host = listening(Config::default());
    let header = [6, 0, 0, 1, 0, 0, 0, 5];
    let tiny = [&header[..], &[0; 16]].concat();
    assert_eq!(host.refusal(&ip6(44, &tiny)), DropReason::FragmentTiny);
    assert_eq!(host.only_sent()[ETHERNET + 40..][..2], [4, 3], "RFC 7112");
}

#[test]
fn an_atomic_fragment_stands_for_itself() {
    let mut host = listening(Config::default());
    let udp = &udp6(5000, 7, b"atomic")[ETHERNET + 40..];
    assert!(matches!(host.receive(&fragment6(5, 17, 8, true, &[0; 8])), Verdict::Held));
    assert_eq!(host.datagram(&fragment6(5, 17, 0, false, udp)).payload(), b"atomic");
    assert_eq!(host.stack.held(), 1);
}

#[test]
fn nested_fragment_headers_are_refused() {
    let mut host = listening(Config::default());
    let nested = [&[44, 0, 0, 1, 0, 0, 0, 5][..], &[17, 0, 0, 0, 0, 0, 0, 6], &[0; 16]].concat();
    assert_eq!(host.refusal(&ip6(44, &nested)), DropReason::Ipv6Extension);
    host.sent();
}

#[test]
fn a_datagram_that_stays_incomplete_is_given_up_and_reported() {
    for (six, seconds) in [(false, 30), (true, 60)] {
        let mut host = listening(Config::default());
        let [v4, v6] = both(3000, 1480);
        let frames = if six { v6 } else { v4 };
        let _ = host.receive(&frames[0]);
        let _ = host.receive(&frames[1]);
        host.wait(Duration::from_millis(seconds * 1000 - 1));
        assert_eq!(host.stack.held(), 2);
        host.wait(Duration::from_millis(1));
        assert_eq!(host.stack.held(), 0);
        assert_eq!(host.env.take_drops(), [DropReason::ReassemblyTimeout; 2]);
        let report = host.only_sent();
        let icmp = if six { &report[ETHERNET + 40..] } else { &report[ETHERNET + 20..] };
        assert_eq!(icmp[..2], if six { [3, 1] } else { [11, 1] });
        assert_eq!(icmp[8..48], frames[0][ETHERNET..][..40], "the first fragment as it came");
        assert_eq!(host.stack.poll_timeout(), None);
    }
}

#[test]
fn without_its_first_fragment_nothing_is_reported() {
    let mut host = listening(Config::default());
    let [v4, _] = both(3000, 1480);
    let _ = host.receive(&v4[1]);
    host.wait(Duration::from_secs(30));
    assert_eq!(host.env.take_drops(), [DropReason::ReassemblyTimeout]);
    assert!(host.sent().is_none());
}

#[test]
fn the_number_of_datagrams_is_bounded_and_the_newest_stay() {
    let mut host = listening(limits(|l| l.datagrams_max = 4));
    for ident in 0..10 {
        host.wait(Duration::from_millis(1));
        let _ = host.receive(&fragment4(ident, 17, 8, true, &[0; 8]));
    }
    assert_eq!(host.stack.held(), 4);
    assert_eq!(host.env.take_drops(), [DropReason::ReassemblyEvicted; 6]);
}

#[test]
fn buffers_and_bytes_are_bounded_and_later_datagrams_still_complete() {
    for config in [limits(|l| l.buffers_max = 8), limits(|l| l.bytes_max = 12_000)] {
        let mut host = listening(config);
        for ident in 100..200 {
            host.wait(Duration::from_millis(1));
            let _ = host.receive(&fragment4(ident, 17, 1480, true, &[0; 1480]));
            assert!(host.stack.held() <= 8);
        }
        let [v4, v6] = both(5000, 1480);
        assert_eq!(receive_all_amid(&mut host, &v4), payload(5000));
        assert_eq!(receive_all_amid(&mut host, &v6), payload(5000));
    }
}

fn receive_all_amid(host: &mut Host, frames: &[Vec<u8>]) -> Vec<u8> {
    let (last, before) = frames.split_last().unwrap();
    before.iter().for_each(|frame| assert!(matches!(host.receive(frame), Verdict::Held)));
    host.datagram(last).payload_pieces().collect::<Vec<_>>().concat()
}

#[test]
fn a_datagram_in_too_many_crumbs_is_given_up() {
    let mut host = listening(Config::default());
    for n in 0..64 {
        assert!(matches!(host.receive(&fragment4(5, 17, n * 16, true, &[0; 8])), Verdict::Held));
    }
    assert_eq!(host.refusal(&fragment4(5, 17, 64 * 16, true, &[0; 8])), DropReason::FragmentTooMany);
    assert_eq!(host.stack.held(), 0);
}

#[test]
fn a_single_datagram_larger_than_the_bound_cannot_hold_the_pool() {
    let mut host = listening(limits(|l| l.bytes_max = 4_000));
    let [v4, _] = both(9000, 1480);
    for frame in &v4 {
        let _ = host.receive(frame);
        assert!(host.stack.held() <= 2);
    }
    assert_eq!(host.stack.ledger().delivered, 0);
}

#[test]
fn fragments_of_different_datagrams_are_not_mixed() {
    let mut host = listening(Config::default());
    let frame = udp4(5000, 7, &payload(2000));
    let (one, two) = (split4(1, &frame, 1480), split4(2, &frame, 1480));
    assert!(matches!(host.receive(&one[0]), Verdict::Held));
    assert!(matches!(host.receive(&two[1]), Verdict::Held));
    assert_eq!(host.datagram(&one[1]).payload_len(), 2000);
    assert_eq!(host.datagram(&two[0]).payload_len(), 2000);
}

#[test]
fn first_fragments_with_options_keep_them_and_their_limits() {
    let mut host = listening(Config::default());
    let frame = udp4(5000, 7, &payload(2000));
    let pieces = split4(3, &frame, 1400);
    // The first with a record-route option, which is not copied on fragmentation (RFC 791 §3.1).
    let mut first = ip4(17, &[7, 7, 4, 0, 0, 0, 0, 0], &pieces[0][ETHERNET + 20..]);
    first[ETHERNET + 4..ETHERNET + 8].copy_from_slice(&pieces[0][ETHERNET + 4..ETHERNET + 8]);
    smoltcp::wire::Ipv4Packet::new_unchecked(&mut first[ETHERNET..]).fill_checksum();
    assert!(matches!(host.receive(&first), Verdict::Held));
    let datagram = host.datagram(&pieces[1]);
    assert_eq!(datagram.payload_pieces().collect::<Vec<_>>().concat(), payload(2000));
    // 65,535 bytes with the last fragment's header, more with the first's.
    let whole = [&[0, 1, 0, 7, 0xff, 0xeb, 0, 0][..], &payload(65_507)].concat();
    let mut first = ip4(17, &[7, 7, 4, 0, 0, 0, 0, 0], &whole[..1400]);
    first[ETHERNET + 4..ETHERNET + 8].copy_from_slice(&[0, 8, 0x20, 0]);
    smoltcp::wire::Ipv4Packet::new_unchecked(&mut first[ETHERNET..]).fill_checksum();
    assert!(matches!(host.receive(&first), Verdict::Held));
    for offset in (1400..whole.len()).step_by(1400) {
        let end = whole.len().min(offset + 1400);
        let frame = fragment4(8, 17, offset, end < whole.len(), &whole[offset..end]);
        match host.receive(&frame) {
            Verdict::Held => assert!(end < whole.len()),
            Verdict::Discarded(reason) => assert_eq!((reason, end), (DropReason::FragmentOversize, whole.len())),
            other => panic!("{other:?}"),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn any_order_with_duplicates_makes_the_datagram(
        len in 100usize..4000, piece in 1usize..100, six: bool, order: prop::sample::Index, seed: u64,
    ) {
        let piece = (len / 60 + piece).div_ceil(8) * 8;
        let [v4, v6] = both(len, piece);
        let mut frames = if six { v6 } else { v4 };
        prop_assume!(frames.len() > 1);
        let first = order.index(frames.len());
        frames.rotate_left(first);
        let half = frames.len() / 2;
        frames[..half].reverse();
        let repeated = (seed as usize) % (frames.len() - 1);
        frames.insert(repeated, frames[repeated].clone());
        let mut host = listening(Config::default());
        let mut got = None;
        for frame in &frames {
            if let Verdict::Datagram(datagram) = host.receive(frame) {
                got = Some(datagram.payload_pieces().collect::<Vec<_>>().concat());
            }
        }
        prop_assert_eq!(got, Some(payload(len)));
        prop_assert_eq!(host.stack.held(), 0);
    }

    /// Whatever comes: what is delivered was sent in one piece each, bounds hold, books balance.
    #[test]
    fn random_pieces_never_break_bounds_or_books(
        pieces in prop::collection::vec((0usize..40, 1usize..6, any::<bool>(), 0u16..6, any::<bool>()), 1..200),
    ) {
        let mut host = listening(limits(|l| { l.datagrams_max = 3; l.buffers_max = 10; l.bytes_max = 400 }));
        for (offset, units, more, ident, six) in pieces {
            let data = vec![offset as u8; units * 8 - usize::from(!more)];
            let frame = match six {
                false => fragment4(ident, 17, offset * 8, more, &data),
                true => fragment6(ident.into(), 17, offset * 8, more, &data),
            };
            let _ = host.receive(&frame);
            host.wait(Duration::from_millis(400));
            prop_assert!(host.stack.held() <= 10);
            host.assert_books();
        }
        host.wait(Duration::from_secs(60));
        prop_assert_eq!(host.stack.held(), 0);
    }
}
