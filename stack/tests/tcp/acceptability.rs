//! What is not to be believed: RFC 9293 §3.4, RFC 5961, RFC 7323 §5, RFC 5927.

use std::time::Duration;

use tailwater_stack::tcp::CloseReason;
use tailwater_stack::{DropReason, Verdict};

use crate::script::*;

#[test]
fn text_outside_of_the_window_is_acknowledged_and_dropped_rfc9293_s3_10_7_4() {
    let mut host = Host::new();
    let (_, first) = host.accept();
    let window = 65_535;
    for seq in [1_001 + window, 1_001u32.wrapping_sub(10)] {
        assert_eq!(host.refusal(&seg(ACK, seq, first).text(b"x")), DropReason::TcpOutOfWindow);
        assert_eq!(host.expect().ack, 1_001);
    }
}

#[test]
fn a_reset_counts_only_at_exactly_rcv_nxt_rfc5961_s3_2() {
    // RFC 5961 §3.2.
    for mut host in Host::of_both_families() {
        let (id, first) = host.accept();
        // Outside: silently dropped.
        host.get(&seg(RST, 900, 0));
        host.expect_nothing();
        // Inside, but not at the edge: challenged.
        assert_eq!(host.refusal(&seg(RST, 1_002, 0)), DropReason::TcpResetUnacceptable);
        let challenge = host.expect();
        assert_eq!((challenge.flags, challenge.seq, challenge.ack), (ACK, first, 1_001));
        assert_eq!(host.state(id), "ESTABLISHED");
        host.get(&seg(RST, 1_001, 0));
        assert_eq!(host.closed(), Some(CloseReason::Reset));
    }
}

#[test]
fn a_syn_on_a_connection_is_challenged_rfc5961_s4_2() {
    // RFC 5961 §4.2.
    for mut host in Host::of_both_families() {
        let (id, _) = host.accept();
        assert_eq!(host.refusal(&seg(SYN, 2_000, 0)), DropReason::TcpSynUnexpected);
        assert_eq!(host.expect().ack, 1_001);
        assert_eq!(host.state(id), "ESTABLISHED");
    }
}

#[test]
fn acknowledgements_of_the_future_and_the_far_past_are_challenged_rfc5961_s5_2() {
    // RFC 5961 §5.2.
    for mut host in Host::of_both_families() {
        let (id, first) = host.accept();
        for ack in [first + 1, first.wrapping_sub(70_000)] {
            host.wait_ms(100);
            assert_eq!(host.refusal(&seg(ACK, 1_001, ack).text(b"injected")), DropReason::TcpAckUnacceptable);
            assert_eq!(host.expect().ack, 1_001);
        }
        assert_eq!(host.read(id), b"");
        // One that is merely old is only old.
        host.get(&seg(ACK, 1_001, first.wrapping_sub(100)).text(b"fine"));
        assert_eq!(host.read(id), b"fine");
    }
}

#[test]
fn one_connection_does_not_use_up_the_challenges_of_others_rfc5961_s7() {
    let mut host = Host::new();
    host.listen();
    for port in [1, 2] {
        host.accept_with(&seg(SYN, 1_000, 0).via(port));
    }
    for _ in 0..1_000 {
        host.get(&seg(SYN, 2_000, 0).via(1));
    }
    assert_eq!(host.all().len(), 1);
    assert_eq!(host.stack.tcp_counters().challenge_acks_withheld, 999);
    host.get(&seg(SYN, 2_000, 0).via(2));
    assert_eq!((host.expect().port, host.stack.tcp_counters().challenge_acks), (2, 2));
    host.wait_ms(100);
    host.get(&seg(SYN, 2_000, 0).via(1));
    assert_eq!(host.expect().port, 1);
}

#[test]
fn challenges_are_limited_for_the_whole_stack_to_a_number_that_nobody_knows_rfc5961_s7() {
    // Of a fixed number, what is left tells how many others were challenged (CVE-2016-5696).
    let mut host = Host::new();
    host.listen();
    for port in 1..=300 {
        host.accept_with(&seg(SYN, 1_000, 0).via(port));
    }
    let mut granted = std::collections::BTreeSet::new();
    for _ in 0..10 {
        host.wait(Duration::from_secs(1));
        for port in 1..=300 {
            host.get(&seg(SYN, 2_000, 0).via(port));
        }
        granted.insert(host.all().len());
    }
    assert!(granted.iter().all(|sent| (50..=100).contains(sent)), "{granted:?}");
    assert!(granted.len() > 5, "{granted:?}");
    assert!(host.stack.tcp_counters().challenge_acks_withheld >= 2_000);
}

#[test]
fn segments_without_an_acknowledgement_are_dropped_rfc9293_s3_10_7_4() {
    // RFC 9293 §3.10.7.4, fifth.
    let mut host = Host::new();
    let (id, _) = host.accept();
    assert_eq!(host.refusal(&seg(0, 1_001, 0).text(b"x")), DropReason::TcpAckMissing);
    assert_eq!(host.read(id), b"");
}

fn refusal_of(host: &mut Host, frame: &[u8]) -> DropReason {
    match host.frame(frame) {
        Verdict::Discarded(reason) => reason,
        other => panic!("not refused: {other:?}"),
    }
}

#[test]
fn corrupt_and_cut_segments_are_named_rfc9293_s3_1() {
    let mut host = Host::new();
    host.accept();
    let mut corrupt = seg(ACK, 1_001, 0).text(b"xyz").frame(PORT);
    *corrupt.last_mut().unwrap() ^= 1;
    assert_eq!(refusal_of(&mut host, &corrupt), DropReason::TcpChecksum);
    let mut long = seg(ACK, 1_001, 0).frame(PORT);
    long[14 + 20 + 12] = 0xf0;
    assert_eq!(refusal_of(&mut host, &long), DropReason::TcpHeaderLen);
    let mut short = seg(ACK, 1_001, 0).frame(PORT);
    short[14 + 20 + 12] = 0x40;
    assert_eq!(refusal_of(&mut host, &short), DropReason::TcpHeaderLen);
}

fn with_timestamps(host: &mut Host) -> (tailwater_stack::tcp::ConnectionId, u32, u32) {
    host.listen();
    let mut syn = seg(SYN, 1_000, 0).ts(5_000, 0);
    syn.mss = Some(1_000);
    let (id, first) = host.accept_with(&syn);
    host.send(id, b"?");
    let echo = host.expect().timestamps.unwrap().0;
    (id, first + 1, echo)
}

#[test]
fn an_old_timestamp_is_acknowledged_and_dropped_rfc7323_s5_3() {
    // RFC 7323 §5.3.
    let mut host = Host::new();
    let (id, first, echo) = with_timestamps(&mut host);
    host.get(&seg(ACK, 1_001, first).ts(5_010, echo).text(b"new"));
    host.all();
    assert_eq!(host.refusal(&seg(ACK, 1_004, first).ts(5_009, echo).text(b"old")), DropReason::TcpPaws);
    assert_eq!(host.expect().ack, 1_004);
    assert_eq!(host.read(id), b"new");
}

#[test]
fn after_24_days_of_silence_an_older_timestamp_takes_the_place_of_the_last_rfc7323_s5_5() {
    // RFC 7323 §5.5.
    let mut host = Host::new();
    let (id, first, echo) = with_timestamps(&mut host);
    host.get(&seg(ACK, 1_001, first).ts(5_010, echo).text(b"new"));
    assert_eq!(host.read(id), b"new");
    host.wait(Duration::from_secs(25 * 24 * 3_600));
    host.all();
    host.get(&seg(ACK, 1_004, first).ts(5_009, echo).text(b"old"));
    assert_eq!(host.read(id), b"old");
    // From here on it is the last.
    host.send(id, b"!");
    assert_eq!(host.expect().timestamps.map(|(_, echo)| echo), Some(5_009));
    let older = seg(ACK, 1_007, first).ts(5_008, echo).text(b"older");
    assert_eq!(host.refusal(&older), DropReason::TcpPaws);
    host.get(&seg(ACK, 1_007, first).ts(5_009, echo).text(b"next"));
    assert_eq!(host.read(id), b"next");
}

#[test]
fn the_timestamp_echoed_is_that_of_the_last_segment_that_moved_the_acknowledgement_rfc7323_s4_3() {
    // RFC 7323 §4.3.
    let mut host = Host::new();
    let (_, first, echo) = with_timestamps(&mut host);
    host.get(&seg(ACK, 1_001, first).ts(5_001, echo).text(&[1; 1_000]));
    host.get(&seg(ACK, 2_001, first).ts(5_002, echo).text(&[1; 1_000]));
    let acks = host.all();
    assert_eq!(acks.last().unwrap().timestamps.unwrap().1, 5_002);
    // A gap: the timestamp of what came before it is echoed.
    host.get(&seg(ACK, 4_001, first).ts(5_009, echo).text(&[1; 1_000]));
    assert_eq!(host.expect().timestamps.unwrap().1, 5_002);
}

#[test]
fn a_segment_without_timestamps_is_dropped_once_they_are_agreed_rfc7323_s3_2() {
    // RFC 7323 §3.2; resets excepted.
    let mut host = Host::new();
    let (id, first, _) = with_timestamps(&mut host);
    assert_eq!(host.refusal(&seg(ACK, 1_001, first).text(b"x")), DropReason::TcpTimestampMissing);
    host.get(&seg(RST, 1_001, 0));
    assert_eq!(host.state(id), "gone");
}

#[test]
fn only_the_peers_fin_again_makes_time_wait_longer_rfc9293_s3_10_7_4() {
    let mut host = Host::new();
    let (id, first, echo) = with_timestamps(&mut host);
    host.shutdown(id);
    let fin = seg(FIN | ACK, 1_001, first + 1);
    host.get(&fin.clone().ts(5_001, echo));
    host.all();
    host.wait(Duration::from_secs(40));
    let others = [
        (fin.clone(), DropReason::TcpTimestampMissing),
        (fin.clone().ts(4_000, echo), DropReason::TcpPaws),
        (seg(FIN | ACK, 900, first + 1).ts(5_002, echo), DropReason::TcpOutOfWindow),
        (seg(FIN | ACK, 900_000, first + 1).ts(5_002, echo), DropReason::TcpOutOfWindow),
        (seg(FIN | ACK, 1_003, first + 9_000).ts(5_002, echo), DropReason::TcpAckUnacceptable),
    ];
    for (other, reason) in &others {
        assert_eq!(host.refusal(other), *reason);
    }
    // At a limited rate, challenges included.
    assert_eq!(host.all().len(), 1);
    host.wait(Duration::from_secs(19));
    assert_eq!(host.stack.tcp_connections(host.env.now).count(), 1);
    host.get(&fin.clone().ts(5_003, echo));
    assert_eq!(host.expect().ack, 1_002);
    host.wait(Duration::from_secs(59));
    assert_eq!(host.stack.tcp_connections(host.env.now).count(), 1, "it was the peer's");
    for (other, _) in &others {
        host.get(other);
    }
    host.wait(Duration::from_secs(2));
    assert_eq!(host.stack.tcp_connections(host.env.now).count(), 0);
    host.all();
}

pub fn icmp_about(host: &mut Host, kind: u8, code: u8, mtu: u16, quoted: &[u8]) {
    let mut body = vec![kind, code, 0, 0, 0, 0];
    body.extend(mtu.to_be_bytes());
    body.extend(&quoted[14..14 + 28]);
    smoltcp::wire::Icmpv4Packet::new_unchecked(&mut body).fill_checksum();
    let header =
        etherparse::Ipv4Header::new(body.len() as u16, 64, etherparse::IpNumber::ICMP, PEER.octets(), OURS.octets())
            .unwrap();
    let mut header = header;
    header.header_checksum = header.calc_header_checksum();
    let macs = [tailwater_stack::testing::mac(1).0, tailwater_stack::testing::mac(2).0].concat();
    let frame = [&macs[..], &[8, 0], &header.to_bytes(), &body].concat();
    let _ = host.frame(&frame);
}

#[test]
fn a_hard_icmp_error_ends_an_attempt_but_not_a_connection_rfc5927_s5_2() {
    // RFC 5927 §5.2.
    let mut host = Host::new();
    let id = host.connect();
    let syn = host.env.sent().unwrap();
    icmp_about(&mut host, 3, 3, 0, &syn);
    assert_eq!(host.closed(), Some(CloseReason::Unreachable));
    assert_eq!(host.state(id), "gone");

    let mut host = Host::new();
    let (id, _) = host.accept();
    host.send(id, b"data");
    let sent = host.env.sent().unwrap();
    icmp_about(&mut host, 3, 3, 0, &sent);
    assert_eq!(host.state(id), "ESTABLISHED");
}

#[test]
fn an_icmp_error_about_what_is_not_in_flight_is_ignored_rfc5927_s4_1() {
    // RFC 5927 §4.1.
    let mut host = Host::new();
    let (id, _) = host.accept();
    host.send(id, &[0; 900]);
    let mut sent = host.env.sent().unwrap();
    sent[14 + 20 + 4] ^= 0x40;
    icmp_about(&mut host, 3, 4, 600, &sent);
    assert_eq!(host.stack.tcp_snapshot(id, host.env.now).unwrap().path_mtu, 1_500);
    assert_eq!(host.stack.ledger().discarded(DropReason::IcmpErrorUnmatched), 1);
}

#[test]
fn packet_too_big_makes_segments_smaller_and_sends_them_again_at_once_rfc1191_s6_4() {
    // RFC 1191 §6.4, RFC 8201 §4.
    let mut host = Host::new();
    let (id, first) = host.accept();
    let text = bytes(0, 1_000);
    host.send(id, &text);
    let sent = host.env.sent().unwrap();
    icmp_about(&mut host, 3, 4, 600, &sent);
    let again = host.expect();
    assert_eq!((again.seq, again.text.len()), (first, 560));
    assert_eq!(again.text, text[..560]);
    assert_eq!(host.stack.tcp_snapshot(id, host.env.now).unwrap().smss, 560);
    host.get(&seg(ACK, 1_001, first + 560));
    assert_eq!(host.expect().text, text[560..]);
    host.get(&seg(ACK, 1_001, first + 1_000));
}

/// ICMPv6 Packet Too Big from a router, about this frame of ours.
fn too_big_v6(host: &mut Host, mtu: u32, quoted: &[u8]) {
    let mut body = vec![2, 0, 0, 0];
    body.extend(mtu.to_be_bytes());
    body.extend(&quoted[14..14 + 60]);
    let mut header = smoltcp::wire::Icmpv6Packet::new_unchecked(&mut body);
    header.fill_checksum(&ROUTER_V6, &OURS_V6);
    let len = (body.len() as u16).to_be_bytes();
    let macs = [tailwater_stack::testing::mac(1).0, tailwater_stack::testing::mac(2).0].concat();
    let ip = [&[0x60, 0, 0, 0], &len[..], &[58, 64], &ROUTER_V6.octets(), &OURS_V6.octets()].concat();
    let _ = host.frame(&[&macs[..], &[0x86, 0xdd], &ip, &body].concat());
}

const ROUTER_V6: std::net::Ipv6Addr = std::net::Ipv6Addr::new(0x2001, 0xdb8, 9, 0, 0, 0, 0, 9);

/// A connection over IPv6 that has just sent 1440 bytes; their frame.
fn sent_over_v6() -> (Host, tailwater_stack::tcp::ConnectionId, u32, Vec<u8>) {
    let mut host = Host::v6();
    host.listen();
    let mut syn = seg(SYN, 1_000, 0);
    syn.mss = Some(1_440);
    let (id, first) = host.accept_with(&syn);
    host.send(id, &bytes(0, 1_440));
    let sent = host.env.sent().unwrap();
    assert_eq!(Segment::read(&sent).text.len(), 1_440);
    (host, id, first, sent)
}

fn path_of(host: &Host, id: tailwater_stack::tcp::ConnectionId) -> (u32, u32) {
    let snapshot = host.stack.tcp_snapshot(id, host.env.now).unwrap();
    (snapshot.path_mtu, snapshot.smss)
}

#[test]
fn packet_too_big_of_ipv6_makes_segments_smaller_and_sends_them_again_at_once_rfc8201_s4() {
    let (mut host, id, first, sent) = sent_over_v6();
    too_big_v6(&mut host, 1_400, &sent);
    assert_eq!(path_of(&host, id), (1_400, 1_340));
    let again = host.all();
    assert_eq!((again[0].seq, again[0].text.len()), (first, 1_340));
    assert_eq!(again.iter().flat_map(|segment| segment.text.clone()).collect::<Vec<_>>(), bytes(0, 1_440));
    // The least that every link carries is believed, too.
    too_big_v6(&mut host, 1_280, &sent);
    assert_eq!(path_of(&host, id), (1_280, 1_220));
    assert_eq!(host.all()[0].text.len(), 1_220);
    host.get(&seg(ACK, 1_001, first + 1_440));
}

#[test]
fn packet_too_big_of_ipv6_about_what_is_not_in_flight_is_ignored_rfc5927_s4_1() {
    let (mut host, id, first, sent) = sent_over_v6();
    // Of the far future; of what comes next; of the past.
    for seq in [first ^ 0x4000_0000, first + 1_440, first.wrapping_sub(1)] {
        let mut forged = sent.clone();
        forged[14 + 40 + 4..][..4].copy_from_slice(&seq.to_be_bytes());
        too_big_v6(&mut host, 1_400, &forged);
    }
    // Of a connection that there is not.
    let mut forged = sent.clone();
    forged[14 + 40 + 3] ^= 1;
    too_big_v6(&mut host, 1_400, &forged);
    assert_eq!(host.stack.ledger().discarded(DropReason::IcmpErrorUnmatched), 4);
    assert_eq!(path_of(&host, id), (1_500, 1_440));
    host.expect_nothing();
    // Acknowledged, it is in flight no more.
    host.get(&seg(ACK, 1_001, first + 1_440));
    too_big_v6(&mut host, 1_400, &sent);
    assert_eq!(path_of(&host, id), (1_500, 1_440));
}

#[test]
fn packet_too_big_of_ipv6_below_1280_changes_nothing_rfc8201_s4() {
    let (mut host, id, _, sent) = sent_over_v6();
    for mtu in [1_279, 68, 0] {
        too_big_v6(&mut host, mtu, &sent);
        assert_eq!(path_of(&host, id), (1_500, 1_440), "{mtu}");
    }
    // Nor does one that is larger than the packet.
    too_big_v6(&mut host, 9_000, &sent);
    assert_eq!(path_of(&host, id), (1_500, 1_440));
    host.expect_nothing();
}

#[test]
fn what_the_path_carries_is_heeded_by_every_connection_over_it_rfc8201_s5_2() {
    // RFC 1191 §6.2.
    let mut host = Host::new();
    host.listen();
    let [(one, _), (two, first), (three, _)] = [1, 2, 3].map(|port| {
        let mut syn = seg(SYN, 1_000, 0).via(port);
        syn.mss = Some(1_460);
        host.accept_with(&syn)
    });
    let smss = |host: &Host, id| host.stack.tcp_snapshot(id, host.env.now).unwrap().smss;
    host.send(two, &bytes(0, 2_920));
    let frame = host.env.sent().unwrap();
    assert_eq!(host.all().len(), 1);
    host.send(one, &bytes(0, 1_460));
    let reported = host.env.sent().unwrap();
    icmp_about(&mut host, 3, 4, 1_400, &reported);
    assert_eq!((smss(&host, one), smss(&host, two)), (1_360, 1_460));
    host.all();
    // A router says it of the second, too: what was sent larger is sent again, before the timer.
    icmp_about(&mut host, 3, 4, 1_400, &frame);
    assert_eq!(smss(&host, two), 1_360);
    let again = host.all();
    assert_eq!(again.iter().map(|s| s.text.len()).collect::<Vec<_>>(), [1_360, 100, 1_360, 100]);
    assert_eq!((again[0].seq, again[0].port), (first, 2));
    // The third heeds it before anybody says so, and sends no fragments.
    host.send(three, &bytes(0, 3_000));
    let sent: Vec<_> = host.all().iter().map(|s| s.text.len()).collect();
    assert_eq!((sent.iter().sum(), sent.iter().max()), (3_000, Some(&1_360)));
    assert_eq!(smss(&host, three), 1_360);
}

#[test]
fn segments_follow_a_link_whose_mtu_shrinks_rfc1191_s6_2() {
    let mut host = Host::new();
    host.listen();
    let mut syn = seg(SYN, 1_000, 0);
    syn.mss = Some(1_460);
    let (id, first) = host.accept_with(&syn);
    host.send(id, &bytes(0, 1_460));
    assert_eq!(host.expect().text.len(), 1_460);
    assert!(host.stack.set_mtu(tailwater_stack::InterfaceId(0), 1_280));
    // What is sent again as well.
    host.wait_ms(1_100);
    assert_eq!(host.all().iter().map(|s| s.text.len()).max(), Some(1_240));
    host.get(&seg(ACK, 1_001, first + 1_460));
    host.send(id, &bytes(1_460, 2_480));
    assert_eq!(host.all().iter().map(|s| s.text.len()).max(), Some(1_240));
}

#[test]
fn urgent_text_is_text_rfc6093_s6() {
    // RFC 6093 §6: see DEVIATIONS.md.
    let mut host = Host::new();
    let (id, first) = host.accept();
    host.get(&seg(ACK | URG | PSH, 1_001, first).text(b"urgent"));
    assert_eq!(host.read(id), b"urgent");
}
