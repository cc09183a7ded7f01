//! Losses found and repaired: RFC 8985 (RACK-TLP), RFC 6582, RFC 6298, RFC 5682, RFC 3522, RFC 2883, RFC 9937,
//! RFC 3168, RFC 8899.

use std::time::Duration;

use tailwater_stack::tcp::ConnectionId;
use tailwater_stack::tcp::congestion::control;

use crate::script::*;

/// A connection with SACK and a round trip of 100 ms, of which ten segments of 1000 bytes are in flight.
fn ten_in_flight(timestamps: bool) -> (Host, ConnectionId, u32) {
    ten_in_flight_of(Host::new(), timestamps)
}

fn ten_in_flight_of(mut host: Host, timestamps: bool) -> (Host, ConnectionId, u32) {
    host.listen();
    let mut syn = seg(SYN, 1_000, 0);
    (syn.mss, syn.sack_permitted) = (Some(if timestamps { 1_012 } else { 1_000 }), true);
    syn.timestamps = timestamps.then_some((1, 0));
    host.get(&syn);
    let answer = host.expect();
    host.wait_ms(100);
    let first = answer.seq + 1;
    let mut ack = seg(ACK, 1_001, first);
    ack.timestamps = answer.timestamps.map(|(value, _)| (2, value));
    host.get(&ack);
    let id = match host.events[..] {
        [tailwater_stack::tcp::TcpEvent::Accepted { connection, .. }] => connection,
        _ => panic!("{:?}", host.events),
    };
    host.send(id, &bytes(0, 10_000));
    assert_eq!(host.env.transmitted.len(), 10);
    if !timestamps {
        host.all();
    }
    (host, id, first)
}

fn acked(first: u32, upto: u32, blocks: &[(u32, u32)]) -> Segment {
    let blocks: Vec<_> = blocks.iter().map(|&(l, r)| (first + l * 1_000, first + r * 1_000)).collect();
    seg(ACK, 1_001, first + upto * 1_000).sack(&blocks)
}

fn numbers(segments: &[Segment], first: u32) -> Vec<u32> {
    segments.iter().map(|segment| segment.seq.wrapping_sub(first) / 1_000).collect()
}

#[test]
fn what_overtakes_others_does_not_tell_how_long_the_path_is_rfc8985_s6_2() {
    let (mut host, id, first) = ten_in_flight(false);
    let least = |host: &Host| host.stack.tcp_snapshot(id, host.env.now).unwrap().min_rtt.unwrap().as_millis();
    assert!((99..=100).contains(&least(&host)));
    host.wait_ms(50);
    host.get(&acked(first, 0, &[(6, 7)]));
    assert!((99..=100).contains(&least(&host)));
    // What nothing is missing before does.
    host.wait_ms(20);
    host.get(&acked(first, 2, &[(6, 7)]));
    assert!((69..=70).contains(&least(&host)));
    host.all();
}

#[test]
fn three_segments_sacked_behind_a_hole_mark_it_lost_rfc8985_s6_2() {
    // RFC 8985 §6.2 step 4, without reordering seen.
    for host in Host::of_any_numbers() {
        let (mut host, id, first) = ten_in_flight_of(host, false);
        host.wait_ms(100);
        host.get(&acked(first, 0, &[(1, 2)]));
        host.get(&acked(first, 0, &[(1, 3)]));
        host.expect_nothing();
        host.get(&acked(first, 0, &[(1, 4)]));
        assert_eq!(numbers(&host.all(), first), [0]);
        let snapshot = host.stack.tcp_snapshot(id, host.env.now).unwrap();
        assert!(snapshot.in_recovery);
        assert_eq!(host.stack.tcp_counters().recoveries, 1);
    }
}

#[test]
fn one_sack_is_enough_after_the_reordering_window_rfc8985_s6_2() {
    // RFC 8985 §6.2 step 5: a quarter of the least round trip.
    let (mut host, _, first) = ten_in_flight(false);
    host.wait_ms(100);
    host.get(&acked(first, 8, &[(9, 10)]));
    host.expect_nothing();
    host.wait_ms(20);
    host.expect_nothing();
    host.wait_ms(6);
    assert_eq!(numbers(&host.all(), first), [8]);
}

#[test]
fn a_lost_retransmission_is_found_by_what_was_sent_after_it_rfc8985_s3_2() {
    // RFC 8985 §3.2: not by counting, for duplicate acknowledgements cannot show it.
    let (mut host, id, first) = ten_in_flight(false);
    host.send(id, &bytes(10_000, 20_000));
    host.all();
    host.wait_ms(100);
    host.get(&acked(first, 0, &[(1, 6)]));
    let resent = host.all();
    assert_eq!(numbers(&resent, first)[0], 0);
    let newer = *numbers(&resent, first).last().unwrap();
    assert!(newer >= 10, "new text was sent after it: {:?}", numbers(&resent, first));
    host.wait_ms(101);
    host.get(&acked(first, 0, &[(1, newer + 1)]));
    host.wait_ms(30);
    assert!(numbers(&host.all(), first).contains(&0), "sent a third time, without a time-out");
    assert_eq!(host.stack.tcp_counters().timeouts, 0);
}

#[test]
fn recovery_halves_the_flight_bit_by_bit_rfc9937_s6_2() {
    // RFC 9937: in proportion to what is delivered, not at once.
    let (mut host, id, first) = ten_in_flight(false);
    host.send(id, &bytes(10_000, 30_000));
    host.all();
    host.wait_ms(100);
    let mut sent = Vec::new();
    for sacked in 2..=10 {
        host.get(&acked(first, 0, &[(1, sacked)]));
        sent.push(host.all().len());
    }
    let total: usize = sent.iter().sum();
    // CUBIC: 0.7 of ten, one of which fills the hole.
    assert!((6..=8).contains(&total), "{sent:?}");
    assert!(sent.iter().all(|&n| n <= 2), "no burst: {sent:?}");
}

#[test]
fn below_the_threshold_only_a_safe_acknowledgement_sends_more_than_was_delivered_rfc9937_s6_2() {
    // RFC 9937 §6.2: of ten, seven were lost, so little is in flight. SafeACK: SND.UNA moves, and nothing more is judged lost.
    let acks = [
        // Safe: one arrived, and one more leaves, as in slow start.
        (1, vec![(7, 10)], 2),
        (2, vec![(7, 10)], 3),
        // Nothing below has moved: as much as arrived.
        (0, vec![(1, 2), (7, 10)], 1),
    ];
    for (upto, blocks, sent) in acks {
        let (mut host, id, first) = ten_in_flight(false);
        host.wait_ms(100);
        host.get(&acked(first, 0, &[(7, 10)]));
        // Conservation: three arrived.
        assert_eq!(numbers(&host.all(), first), [0, 1, 2]);
        let snapshot = host.stack.tcp_snapshot(id, host.env.now).unwrap();
        let threshold = snapshot.congestion.ssthresh.unwrap();
        assert!(snapshot.in_recovery && snapshot.in_flight + 3_000 < threshold, "{snapshot:?}");
        host.wait_ms(100);
        host.get(&acked(first, upto, &blocks));
        assert_eq!(host.all().len(), sent, "acknowledged {upto}, SACKed {blocks:?}");
    }
}

#[test]
fn an_acknowledgement_that_shows_a_retransmission_lost_is_not_safe_rfc9937_s6_2() {
    let (mut host, _, first) = ten_in_flight(false);
    host.wait_ms(100);
    host.get(&acked(first, 0, &[(7, 10)]));
    assert_eq!(numbers(&host.all(), first), [0, 1, 2]);
    host.wait_ms(100);
    host.get(&acked(first, 1, &[(7, 10)]));
    assert_eq!(numbers(&host.all(), first), [3, 4]);
    host.wait_ms(100);
    // SND.UNA moves, but what was sent a round trip after the third is here and the third is not: two arrived, two leave.
    host.get(&acked(first, 2, &[(3, 4), (7, 10)]));
    assert_eq!(numbers(&host.all(), first), [2, 5]);
}

#[test]
fn text_that_left_upon_sacks_is_not_in_what_is_halved_rfc5681_s3_2() {
    // RFC 5681 §3.2 step 2, RFC 6675 §5 step 4.2: else the longer reordering is given, the less the window shrinks.
    let (mut host, id, first) = ten_in_flight(false);
    host.stack.tcp_set_congestion_control(id, control("reno").unwrap(), &mut host.env).unwrap();
    host.send(id, &bytes(10_000, 60_000));
    host.wait_ms(100);
    host.get(&acked(first, 0, &[(1, 2)]));
    host.get(&acked(first, 2, &[]));
    for sacked in 4..=9 {
        host.get(&acked(first, 2, &[(3, sacked)]));
        assert!(!host.all().is_empty(), "reordering was seen: what is missing may be late");
    }
    let before = host.stack.tcp_snapshot(id, host.env.now).unwrap().congestion;
    assert_eq!(before.ssthresh, None);
    host.wait_ms(30);
    let after = host.stack.tcp_snapshot(id, host.env.now).unwrap().congestion;
    assert_eq!(host.stack.tcp_counters().recoveries, 1);
    assert_eq!(after.ssthresh.map(|ssthresh| ssthresh / 1_000), Some(before.cwnd / 2_000));
}

#[test]
fn a_lost_tail_is_probed_long_before_the_timer_rfc8985_s7() {
    // RFC 8985 §7.
    let (mut host, _, first) = ten_in_flight(false);
    host.wait_ms(100);
    host.get(&acked(first, 8, &[]));
    host.wait_ms(195);
    host.expect_nothing();
    host.wait_ms(10);
    let probe = host.all();
    assert_eq!(numbers(&probe, first), [9], "the last segment");
    assert_eq!(host.stack.tcp_counters().loss_probes, 1);
    // Its SACK shows that the one before is lost.
    host.wait_ms(100);
    host.get(&acked(first, 8, &[(9, 10)]));
    host.wait_ms(30);
    assert_eq!(numbers(&host.all(), first), [8]);
    assert_eq!(host.stack.tcp_counters().timeouts, 0);
}

/// The last but one of ten segments arrived, and is not acknowledged; the last was sent once more, as a probe.
fn tail_probed() -> (Host, ConnectionId, u32) {
    let (mut host, id, first) = ten_in_flight(false);
    host.wait_ms(100);
    host.get(&acked(first, 8, &[]));
    host.wait_ms(205);
    assert_eq!(numbers(&host.all(), first), [9]);
    assert_eq!((host.stack.tcp_counters().loss_probes, host.stack.tcp_counters().timeouts), (1, 0));
    (host, id, first)
}

/// Another segment goes out behind the ten, and is acknowledged after a round trip.
fn one_more_acknowledged(host: &mut Host, id: ConnectionId, first: u32) {
    host.send(id, &bytes(10_000, 1_000));
    host.all();
    host.wait_ms(100);
    host.get(&acked(first, 11, &[]));
}

fn cwnd_of(host: &Host, id: ConnectionId) -> u32 {
    host.stack.tcp_snapshot(id, host.env.now).unwrap().cwnd
}

#[test]
fn a_probe_that_repairs_the_loss_itself_still_slows_down_rfc8985_s7_4_2() {
    // RFC 8985 §7.4.2.
    let (mut host, id, first) = tail_probed();
    let before = cwnd_of(&host, id);
    host.send(id, b"x");
    host.all();
    host.wait_ms(100);
    host.get(&seg(ACK, 1_001, first + 10_001));
    assert!(cwnd_of(&host, id) < before);
}

#[test]
fn a_probe_that_repairs_the_end_of_all_slows_down_what_comes_next_rfc8985_s7_4_2() {
    // The acknowledgement of what was repaired moves on, and is no duplicate (case 2).
    let (mut host, id, first) = tail_probed();
    host.wait_ms(100);
    host.get(&acked(first, 10, &[]));
    let before = cwnd_of(&host, id);
    one_more_acknowledged(&mut host, id, first);
    assert!(cwnd_of(&host, id) < before, "{before} then {}", cwnd_of(&host, id));
    assert_eq!((host.stack.tcp_counters().timeouts, host.stack.tcp_counters().recoveries), (0, 0));
}

#[test]
fn a_probe_whose_segment_had_arrived_costs_nothing_rfc8985_s7_4_2() {
    // Case 2: a peer without D-SACK acknowledges the segment, and again the probe.
    let (mut host, id, first) = tail_probed();
    host.get(&acked(first, 10, &[]));
    host.wait_ms(100);
    host.get(&acked(first, 10, &[]));
    let before = cwnd_of(&host, id);
    one_more_acknowledged(&mut host, id, first);
    assert!(cwnd_of(&host, id) >= before);
}

#[test]
fn a_probe_that_was_needless_costs_nothing_rfc8985_s7_4_2() {
    // RFC 8985 §7.4.2 case 1: told by D-SACK.
    let (mut host, id, first) = tail_probed();
    let before = cwnd_of(&host, id);
    host.get(&acked(first, 10, &[(9, 10)]));
    one_more_acknowledged(&mut host, id, first);
    assert!(cwnd_of(&host, id) >= before);
}

#[test]
fn without_sack_three_duplicates_resend_the_first_and_partial_acks_the_next_rfc6582_s3_2() {
    // RFC 6582 §3.2.
    for mut host in Host::of_any_numbers() {
        let (id, first) = host.accept();
        host.send(id, &bytes(0, 10_000));
        host.all();
        for _ in 0..2 {
            host.get(&seg(ACK, 1_001, first));
        }
        assert!(numbers(&host.all(), first).iter().all(|&n| n >= 10), "limited transmit only");
        host.get(&seg(ACK, 1_001, first));
        assert!(numbers(&host.all(), first).contains(&0));
        host.get(&seg(ACK, 1_001, first + 3_000));
        assert!(numbers(&host.all(), first).contains(&3));
        host.get(&seg(ACK, 1_001, first + 10_000));
        assert!(!host.stack.tcp_snapshot(id, host.env.now).unwrap().in_recovery);
    }
}

#[test]
fn without_sack_duplicates_let_recovery_send_in_proportion_rfc9937_s6_2() {
    // Each stands for a segment that was delivered.
    let mut host = Host::new();
    let (id, first) = host.accept();
    host.send(id, &bytes(0, 40_000));
    assert_eq!(host.all().len(), 10);
    let mut sent = Vec::new();
    for _ in 0..9 {
        host.get(&seg(ACK, 1_001, first));
        sent.push(host.all().len());
    }
    let total: usize = sent.iter().sum();
    // As with SACK: 0.7 of ten, one of which fills the hole.
    assert!((6..=8).contains(&total), "{sent:?}");
    assert!(sent.iter().all(|&n| n <= 2), "no burst: {sent:?}");
    host.get(&seg(ACK, 1_001, first + 12_000));
    assert!(host.all().len() <= 4);
    assert!(!host.stack.tcp_snapshot(id, host.env.now).unwrap().in_recovery);
}

#[test]
fn duplicates_beyond_what_is_in_flight_send_nothing_rfc9937_s6_2() {
    let mut host = Host::new();
    let (id, first) = host.accept();
    host.send(id, &bytes(0, 200_000));
    host.all();
    for _ in 0..200 {
        host.get(&seg(ACK, 1_001, first));
    }
    let sent = host.all().len();
    assert!(sent < 40, "{sent} segments for duplicates that nothing can have caused");
}

#[test]
fn the_timer_resends_the_first_segment_and_backs_off_rfc6298_s5_4() {
    // RFC 6298 §5.4 to §5.6.
    for mut host in Host::of_both_families() {
        let (id, first) = host.accept();
        host.send(id, b"once");
        host.expect();
        let mut pauses = Vec::new();
        let mut at = host.env.now;
        for _ in 0..5 {
            while host.env.transmitted.is_empty() {
                host.wait_ms(1);
            }
            pauses.push(host.env.now.since(at).as_millis());
            at = host.env.now;
            assert_eq!(numbers(&host.all(), first), [0]);
        }
        for pair in pauses.windows(2) {
            let ratio = pair[1] as f64 / pair[0] as f64;
            assert!((1.9..2.1).contains(&ratio), "{pauses:?}");
        }
        assert_eq!(host.stack.tcp_snapshot(id, host.env.now).unwrap().cwnd, 1_000, "RFC 5681 §3.1: the loss window");
    }
}

#[test]
fn the_timer_follows_the_round_trip_rfc6298_s2() {
    // RFC 6298 §2.
    let (mut host, id, first) = ten_in_flight(false);
    host.wait_ms(100);
    host.get(&acked(first, 10, &[]));
    let snapshot = host.stack.tcp_snapshot(id, host.env.now).unwrap();
    assert_eq!(snapshot.srtt, Some(Duration::from_millis(100)));
    assert!((Duration::from_millis(300)..Duration::from_millis(320)).contains(&snapshot.rto), "{:?}", snapshot.rto);
}

#[test]
fn a_retransmission_is_no_measure_of_the_round_trip_rfc6298_s3() {
    // RFC 6298 §3 (Karn).
    let mut host = Host::new();
    let (id, first) = host.accept();
    host.send(id, b"x");
    host.wait(Duration::from_secs(3));
    host.all();
    let before = host.stack.tcp_snapshot(id, host.env.now).unwrap().srtt;
    host.get(&seg(ACK, 1_001, first + 1));
    assert_eq!(host.stack.tcp_snapshot(id, host.env.now).unwrap().srtt, before);
}

#[test]
fn an_acknowledgement_that_measures_nothing_leaves_the_timer_backed_off_rfc6298_s5() {
    // RFC 6298 §5, note, with §3: else a path whose round trip grows beyond the timer has everything sent twice for ever.
    let mut host = Host::new();
    let (id, first) = host.accept();
    let mut resent = Vec::new();
    let mut at = 0;
    for round_trip in [50, 50, 50, 50, 600, 600, 600, 600, 600] {
        host.send(id, b"?");
        host.wait_ms(round_trip);
        resent.push(host.all().len() - 1);
        at += 1;
        host.get(&seg(ACK, 1_001, first + at));
    }
    assert_eq!(resent, [0, 0, 0, 0, 1, 1, 0, 0, 0]);
    let snapshot = host.stack.tcp_snapshot(id, host.env.now).unwrap();
    assert!(snapshot.srtt.unwrap() > Duration::from_millis(150), "{:?}", snapshot.srtt);
    assert!(snapshot.rto < Duration::from_millis(2_000), "as measured: {:?}", snapshot.rto);
}

#[test]
fn what_waited_behind_a_hole_is_no_measure_of_the_round_trip_rfc6298_s3() {
    // Without SACK the acknowledgement of what came early comes when the hole is filled.
    let mut host = Host::new();
    let (id, first) = host.accept();
    host.send(id, &bytes(0, 5_000));
    host.all();
    host.wait(Duration::from_secs(10));
    host.all();
    let before = host.stack.tcp_snapshot(id, host.env.now).unwrap().srtt;
    host.get(&seg(ACK, 1_001, first + 5_000));
    assert_eq!(host.stack.tcp_snapshot(id, host.env.now).unwrap().srtt, before);
}

#[test]
fn a_needless_time_out_is_taken_back_by_timestamps_rfc3522_s3_2() {
    // RFC 3522 §3.2 (Eifel).
    let (mut host, id, first) = ten_in_flight(true);
    let sent: Vec<_> = host.all();
    let echo = sent[0].timestamps.unwrap().0;
    let before = host.stack.tcp_snapshot(id, host.env.now).unwrap().cwnd;
    host.wait_ms(1_000);
    assert!(host.stack.tcp_counters().timeouts >= 1);
    host.all();
    host.get(&seg(ACK, 1_001, first + 2_000).ts(3, echo));
    assert_eq!(host.stack.tcp_counters().spurious, 1);
    let after = host.stack.tcp_snapshot(id, host.env.now).unwrap();
    assert!(after.cwnd >= before && !after.in_recovery, "{} then {}", before, after.cwnd);
}

#[test]
fn a_needless_time_out_is_taken_back_by_what_arrives_of_the_first_sending_rfc5682_s3_1() {
    // RFC 5682 §3.1.
    let (mut host, id, first) = ten_in_flight(false);
    let before = host.stack.tcp_snapshot(id, host.env.now).unwrap().cwnd;
    host.wait_ms(1_000);
    host.all();
    assert!(host.stack.tcp_counters().timeouts >= 1);
    host.get(&acked(first, 3, &[]));
    assert_eq!(host.stack.tcp_counters().spurious, 1);
    assert!(host.stack.tcp_snapshot(id, host.env.now).unwrap().cwnd >= before);
}

#[test]
fn without_sack_a_time_out_is_found_needless_by_two_acknowledgements_rfc5682_s2_1() {
    // RFC 5682 §2.1.
    let mut host = Host::new();
    let (id, first) = host.accept();
    host.send(id, &bytes(0, 30_000));
    host.all();
    let before = host.stack.tcp_snapshot(id, host.env.now).unwrap().cwnd;
    host.wait_ms(250);
    assert_eq!(numbers(&host.all(), first), [0]);
    // Step 2: new segments, not the next old ones.
    host.get(&seg(ACK, 1_001, first + 1_000));
    assert_eq!(numbers(&host.all(), first), [10, 11]);
    assert_eq!(host.stack.tcp_counters().spurious, 0);
    // Step 3b.
    host.get(&seg(ACK, 1_001, first + 2_000));
    assert_eq!(host.stack.tcp_counters().spurious, 1);
    assert!(host.stack.tcp_snapshot(id, host.env.now).unwrap().cwnd >= before);
}

#[test]
fn a_fin_whose_text_is_acknowledged_without_it_is_sent_again_rfc6298_s5_4() {
    // In one piece, and in several that cannot be cut in the middle.
    for buffer_len in [1_000, 60] {
        let mut host = Host::new();
        host.env.buffer_len = buffer_len;
        let (id, first) = host.accept();
        host.send(id, b"small");
        host.send(id, &bytes(0, 200));
        host.shutdown(id);
        host.get(&seg(ACK, 1_001, first + 5));
        // It is still being read below: nothing of it can be lent.
        let last = Segment::read(&host.env.transmitted.back().unwrap().1.to_vec());
        assert_eq!((last.seq, last.text.len(), last.has(FIN)), (first + 5, 200, true));
        host.get(&seg(ACK, 1_001, first + 205));
        assert_eq!(host.state(id), "FIN-WAIT-1");
        host.wait_ms(300);
        let again = host.all().pop().unwrap();
        assert_eq!((again.seq, again.text.len(), again.has(FIN)), (first + 205, 0, true));
        host.get(&seg(ACK, 1_001, first + 206));
        assert_eq!(host.state(id), "FIN-WAIT-2");
    }
}

#[test]
fn what_was_lost_is_sent_again_where_no_new_text_may_leave_rfc5682_s2_1() {
    // Step 2: conventional recovery.
    let silly = (3_600, &[9_000][..], 3);
    let nagle = (60_000, &[3_500, 100][..], 4);
    for (window, writes, sent) in [silly, nagle] {
        let mut host = Host::new();
        let (id, first) = host.accept();
        host.get(&seg(ACK, 1_001, first).window(window));
        writes.iter().for_each(|&n| assert_eq!(host.send(id, &bytes(0, n)), n));
        assert_eq!(host.all().len(), sent, "the rest is held back");
        host.wait_ms(250);
        assert_eq!(numbers(&host.all(), first), [0]);
        host.get(&seg(ACK, 1_001, first + 1_000).window(window - 1_000));
        assert_eq!(numbers(&host.all(), first), [1, 2]);
    }
}

#[test]
fn a_real_time_out_resends_everything_that_was_lost_rfc6298_s5_4() {
    let (mut host, id, first) = ten_in_flight(false);
    host.wait_ms(700);
    let mut seen = std::collections::BTreeSet::new();
    let mut upto = 0;
    for _ in 0..30 {
        for n in numbers(&host.all(), first) {
            seen.insert(n);
        }
        while seen.contains(&upto) {
            upto += 1;
        }
        host.wait_ms(100);
        host.get(&acked(first, upto, &[]));
    }
    assert_eq!(upto, 10);
    assert_eq!(host.stack.tcp_snapshot(id, host.env.now).unwrap().send_queue, 0);
    assert_eq!(host.stack.tcp_counters().spurious, 0);
}

#[test]
fn retransmissions_all_told_needless_are_taken_back_rfc3708_s3() {
    // RFC 3708 §3.
    let (mut host, id, first) = ten_in_flight(false);
    let before = host.stack.tcp_snapshot(id, host.env.now).unwrap().cwnd;
    host.wait_ms(100);
    host.get(&acked(first, 0, &[(1, 4)]));
    assert_eq!(numbers(&host.all(), first), [0]);
    host.get(&acked(first, 4, &[]));
    host.get(&acked(first, 4, &[(0, 1)]));
    assert_eq!(host.stack.tcp_counters().spurious, 1);
    let snapshot = host.stack.tcp_snapshot(id, host.env.now).unwrap();
    assert!(snapshot.cwnd >= before && !snapshot.in_recovery);
}

#[test]
fn a_peer_that_takes_back_its_sacks_gets_everything_again_rfc2018_s8() {
    // RFC 2018 §8.
    let (mut host, id, first) = ten_in_flight(false);
    host.wait_ms(100);
    host.get(&acked(first, 0, &[(1, 10)]));
    host.all();
    // It had all, says nothing of it, and wants the second.
    host.get(&acked(first, 1, &[]));
    let mut upto = 1;
    for _ in 0..40 {
        host.wait_ms(100);
        for n in numbers(&host.all(), first) {
            upto = upto.max(n + 1).min(if n == upto { n + 1 } else { upto });
        }
        host.get(&acked(first, upto, &[]));
    }
    assert_eq!(host.stack.tcp_snapshot(id, host.env.now).unwrap().send_queue, 0);
}

#[test]
fn sack_blocks_of_attackers_are_ignored_rfc2018_s4() {
    let (mut host, id, first) = ten_in_flight(false);
    let wild = [(first + 20_000, first + 30_000), (first - 5_000, first + 10_000), (first + 2_000, first + 1_000)];
    host.get(&seg(ACK, 1_001, first).sack(&wild));
    let snapshot = host.stack.tcp_snapshot(id, host.env.now).unwrap();
    assert_eq!((snapshot.sacked, snapshot.lost), (0, 0));
    host.all();
}

#[test]
fn a_block_within_a_known_one_says_nothing_and_one_that_goes_beyond_says_more_rfc2018_s4() {
    let (mut host, id, first) = ten_in_flight(false);
    let reports: [(&[(u32, u32)], u32); 8] = [
        (&[(1, 5)], 4_000),
        (&[(2, 4)], 4_000),
        (&[(1, 6)], 5_000),
        (&[(8, 9), (1, 6)], 6_000),
        // Of a receiver that has forgotten where the block began.
        (&[(3, 7)], 7_000),
        (&[(1, 9)], 8_000),
        (&[(3, 9)], 8_000),
        (&[(1, 10)], 9_000),
    ];
    for (blocks, sacked) in reports {
        host.get(&acked(first, 0, blocks));
        assert_eq!(host.stack.tcp_snapshot(id, host.env.now).unwrap().sacked, sacked, "{blocks:?}");
    }
    host.all();
}

#[test]
fn an_ecn_echo_slows_down_once_per_window_and_says_so_rfc3168_s6_1_2() {
    // RFC 3168 §6.1.2.
    let mut host = Host::new();
    let id = host.connect();
    let syn = host.expect();
    assert!(syn.has(ECE | CWR));
    let mut answer = seg(SYN | ACK | ECE, 1_000, syn.seq + 1);
    answer.mss = Some(1_000);
    host.get(&answer);
    let first = syn.seq + 1;
    host.send(id, &bytes(0, 30_000));
    let sent = host.all();
    assert!(sent.iter().filter(|s| !s.text.is_empty()).all(|s| s.ecn == 2), "ECT(0)");
    let before = host.stack.tcp_snapshot(id, host.env.now).unwrap().cwnd;
    host.get(&seg(ACK | ECE, 1_001, first + 1_000));
    let reduced = host.stack.tcp_snapshot(id, host.env.now).unwrap().cwnd;
    assert!(reduced < before);
    host.get(&seg(ACK | ECE, 1_001, first + 2_000));
    assert!(host.stack.tcp_snapshot(id, host.env.now).unwrap().cwnd >= reduced - 1_000);
    host.get(&seg(ACK, 1_001, first + 8_000));
    let next = host.all();
    assert!(next.iter().find(|s| !s.text.is_empty()).unwrap().has(CWR), "{next:?}");
}

/// A connection with ECN that we opened, by our first number.
fn with_ecn() -> (Host, ConnectionId, u32) {
    let mut host = Host::new();
    let id = host.connect();
    let syn = host.expect();
    let mut answer = seg(SYN | ACK | ECE, 1_000, syn.seq + 1);
    answer.mss = Some(1_000);
    host.get(&answer);
    host.all();
    (host, id, syn.seq + 1)
}

#[test]
fn a_mark_is_reacted_to_once_though_its_echo_lasts_until_we_say_so_rfc3168_s6_1_2() {
    // The acknowledgement of all that was in flight is of the same mark: CWR comes behind.
    let (mut host, id, first) = with_ecn();
    host.send(id, &bytes(0, 10_000));
    host.all();
    let cwnd = |host: &Host| host.stack.tcp_snapshot(id, host.env.now).unwrap().cwnd;
    host.get(&seg(ACK | ECE, 1_001, first + 1_000));
    let reduced = cwnd(&host);
    host.get(&seg(ACK | ECE, 1_001, first + 10_000));
    assert!(cwnd(&host) >= reduced, "{reduced} then {}", cwnd(&host));
    // A mark behind it is another.
    host.send(id, &bytes(10_000, 1_000));
    assert!(host.expect().has(CWR));
    let before = cwnd(&host);
    host.get(&seg(ACK | ECE, 1_001, first + 11_000));
    assert!(cwnd(&host) < before);
}

/// Ten segments in flight of a connection with ECN and SACK, of which the first is acknowledged, and a mark echoed.
fn marked(name: &str, len: usize) -> (Host, ConnectionId, u32) {
    let mut host = Host::new();
    let id = host.connect();
    let syn = host.expect();
    let mut answer = seg(SYN | ACK | ECE, 1_000, syn.seq + 1);
    (answer.mss, answer.sack_permitted) = (Some(1_000), true);
    host.wait_ms(100);
    host.get(&answer);
    host.stack.tcp_set_congestion_control(id, control(name).unwrap(), &mut host.env).unwrap();
    let first = syn.seq + 1;
    host.send(id, &bytes(0, len));
    host.wait_ms(100);
    host.all();
    host.get(&Segment { flags: ACK | ECE, ..acked(first, 1, &[]) });
    assert!(ssthresh_of(&host, id).is_some(), "{name}");
    (host, id, first)
}

fn ssthresh_of(host: &Host, id: ConnectionId) -> Option<u32> {
    host.stack.tcp_snapshot(id, host.env.now).unwrap().congestion.ssthresh
}

#[test]
fn a_mark_and_a_loss_in_the_same_window_slow_down_once_rfc3168_s6_1_2() {
    for name in ["cubic", "reno"] {
        let (mut host, id, first) = marked(name, 30_000);
        let reduced = ssthresh_of(&host, id);
        host.get(&acked(first, 1, &[(2, 6)]));
        assert!(numbers(&host.all(), first).contains(&1), "{name}");
        assert_eq!(host.stack.tcp_counters().recoveries, 1);
        assert_eq!(ssthresh_of(&host, id), reduced, "{name}");
        // It was late, and not lost: what the mark took stays taken.
        host.get(&acked(first, 6, &[(1, 2)]));
        assert_eq!(host.stack.tcp_counters().spurious, 1, "{name}");
        assert_eq!(ssthresh_of(&host, id), reduced, "{name}");
        assert!(cwnd_of(&host, id) < 8_000, "{name}: {}", cwnd_of(&host, id));
    }
}

#[test]
fn a_loss_behind_the_window_that_was_marked_slows_down_again_rfc3168_s6_1_2() {
    for name in ["cubic", "reno"] {
        let (mut host, id, first) = marked(name, 30_000);
        host.get(&acked(first, 10, &[]));
        let sent = host.all();
        assert_eq!(numbers(&sent, first)[0], 10);
        let reduced = ssthresh_of(&host, id).unwrap();
        host.wait_ms(100);
        host.get(&acked(first, 10, &[(11, 14)]));
        assert!(numbers(&host.all(), first).contains(&10), "{name}");
        assert!(ssthresh_of(&host, id).unwrap() < reduced, "{name}");
    }
}

#[test]
fn a_probe_that_repairs_a_loss_in_a_marked_window_slows_down_no_more_rfc3168_s6_1_2() {
    let (mut host, id, first) = marked("reno", 10_000);
    host.get(&acked(first, 8, &[]));
    host.wait_ms(250);
    assert_eq!(numbers(&host.all(), first), [9]);
    host.get(&acked(first, 10, &[]));
    let reduced = ssthresh_of(&host, id);
    one_more_acknowledged(&mut host, id, first);
    assert_eq!((ssthresh_of(&host, id), host.stack.tcp_counters().loss_probes), (reduced, 1));
}

#[test]
fn a_reduction_that_was_taken_back_does_not_cover_the_next_loss_rfc3168_s6_1_2() {
    let (mut host, id, first) = marked("cubic", 30_000);
    host.get(&acked(first, 10, &[]));
    host.send(id, &bytes(30_000, 10_000));
    host.wait_ms(100);
    let last = numbers(&host.all(), first).last().unwrap() + 1;
    let before = ssthresh_of(&host, id);
    host.get(&acked(first, 10, &[(11, 14)]));
    assert!(ssthresh_of(&host, id) < before);
    host.get(&acked(first, 14, &[(10, 11)]));
    assert_eq!((host.stack.tcp_counters().spurious, ssthresh_of(&host, id)), (1, before));
    host.get(&acked(first, 14, &[(15, last)]));
    host.wait_ms(100);
    assert_eq!(host.stack.tcp_counters().recoveries, 2);
    assert!(ssthresh_of(&host, id) < before);
    host.all();
}

#[test]
fn a_marked_request_is_reacted_to_once_however_long_the_answer_rfc3168_s6_1_2() {
    let (mut host, id, first) = with_ecn();
    host.send(id, &bytes(0, 500));
    host.all();
    let before = host.stack.tcp_snapshot(id, host.env.now).unwrap().cwnd;
    for n in 0..100 {
        host.get(&seg(ACK | ECE, 1_001 + n * 1_000, first + 500).text(&[0; 1_000]));
    }
    host.read(id);
    host.all();
    let after = host.stack.tcp_snapshot(id, host.env.now).unwrap().cwnd;
    assert!((before / 2..before).contains(&after), "{before} then {after}");
}

#[test]
fn full_segments_that_vanish_become_small_ones_rfc8899_s4_3() {
    // RFC 8899 §4.3: a path that drops large packets and tells nobody.
    let mut host = Host::new();
    host.listen();
    let mut syn = seg(SYN, 1_000, 0);
    syn.mss = Some(1_460);
    let (id, first) = host.accept_with(&syn);
    host.send(id, &bytes(0, 5_000));
    let mut upto = 0;
    for _ in 0..400 {
        host.wait_ms(100);
        for segment in host.all() {
            // Only what is small enough arrives.
            if segment.text.len() <= 1_240 && segment.seq == first + upto {
                upto += segment.text.len() as u32;
            }
        }
        host.get(&seg(ACK, 1_001, first + upto));
    }
    assert_eq!(upto, 5_000);
    assert_eq!(host.stack.tcp_counters().black_holes, 1);
    assert_eq!(host.stack.tcp_snapshot(id, host.env.now).unwrap().smss, 1_240);
}

#[test]
fn a_needless_retransmission_gives_reordering_more_time_rfc8985_s6_2() {
    // Step 4: a quarter of the least round trip, and a quarter more for each round trip with a D-SACK.
    let (mut host, id, first) = ten_in_flight(false);
    host.wait_ms(100);
    host.get(&acked(first, 0, &[(1, 2)]));
    host.wait_ms(26);
    assert_eq!(numbers(&host.all(), first), [0]);
    // It was only late, and so the peer has it twice.
    host.get(&acked(first, 2, &[]));
    host.get(&acked(first, 10, &[(0, 1)]));
    host.send(id, &bytes(10_000, 10_000));
    host.all();
    host.wait_ms(100);
    host.get(&acked(first, 10, &[(11, 12)]));
    host.wait_ms(45);
    host.expect_nothing();
    host.wait_ms(10);
    assert_eq!(numbers(&host.all(), first), [10]);
}

#[test]
fn only_text_sent_for_the_first_time_may_be_marked_rfc3168_s6_1_4_and_s6_1_5() {
    let mut host = Host::new();
    let id = host.connect();
    let syn = host.expect();
    assert_eq!(syn.ecn, 0);
    let mut answer = seg(SYN | ACK | ECE, 1_000, syn.seq + 1);
    answer.mss = Some(1_000);
    host.get(&answer);
    assert_eq!(host.expect().ecn, 0, "an acknowledgement");
    host.send(id, b"once");
    assert_eq!(host.expect().ecn, 2);
    host.wait_ms(1_500);
    let again = host.expect();
    assert_eq!((again.text.as_slice(), again.ecn), (&b"once"[..], 0));
}

#[test]
fn a_burst_with_one_time_for_all_does_not_lose_what_was_sent_again_in_it_rfc8985_s5_2() {
    let (mut host, id, first) = ten_in_flight(false);
    host.send(id, &bytes(10_000, 30_000));
    host.all();
    host.wait_ms(100);
    // All at once: new text leaves for the first, the hole is filled for the last.
    host.get(&acked(first, 3, &[]));
    host.get(&acked(first, 3, &[(4, 10)]));
    let sent = numbers(&host.all(), first);
    let at = sent.iter().position(|&n| n == 3).unwrap();
    assert!(at > 0 && sent[..at].iter().all(|&n| n >= 10), "{sent:?}");
    let newest = sent[at - 1];
    // What left before it arrives before it.
    host.wait_ms(100);
    host.get(&acked(first, 3, &[(4, newest + 1)]));
    assert!(!numbers(&host.all(), first).contains(&3), "judged lost though nothing sent after it has arrived");
    host.get(&acked(first, newest + 1, &[]));
    assert_eq!(host.stack.tcp_counters().segments_resent, 1);
}

#[test]
fn what_came_late_once_is_waited_for_as_long_rfc8985_s6_2() {
    let (mut host, id, first) = ten_in_flight(true);
    let echo = host.all()[0].timestamps.unwrap().0;
    // The last overtakes the others by 40 ms: these are given up after a quarter of the round trip.
    host.wait_ms(60);
    host.get(&acked(first, 0, &[(9, 10)]).ts(3, echo));
    host.wait_ms(26);
    assert!(numbers(&host.all(), first).contains(&0));
    host.wait_ms(14);
    host.get(&seg(ACK, 1_001, first + 10_000).ts(4, echo));
    assert_eq!(host.stack.tcp_counters().spurious, 1);
    // The same again does no harm.
    host.send(id, &bytes(10_000, 10_000));
    let echo = host.all()[0].timestamps.unwrap().0;
    host.wait_ms(60);
    host.get(&acked(first, 10, &[(19, 20)]).ts(5, echo));
    host.wait_ms(39);
    host.expect_nothing();
    host.get(&seg(ACK, 1_001, first + 20_000).ts(6, echo));
    assert_eq!(host.stack.tcp_counters().recoveries, 1);
}

#[test]
fn what_came_late_and_was_not_given_up_is_waited_for_as_long_rfc8985_s6_2() {
    let (mut host, id, first) = ten_in_flight(false);
    // The last overtakes the others by 15 ms, less than a quarter of the round trip.
    host.wait_ms(85);
    host.get(&acked(first, 0, &[(9, 10)]));
    host.wait_ms(15);
    host.get(&acked(first, 10, &[]));
    // Now by 30 ms: more than a quarter of 70, less than that and 15.
    host.send(id, &bytes(10_000, 10_000));
    host.all();
    host.wait_ms(70);
    host.get(&acked(first, 10, &[(19, 20)]));
    host.wait_ms(30);
    host.expect_nothing();
    host.get(&acked(first, 20, &[]));
    assert_eq!(host.stack.tcp_counters().recoveries, 0);
}

#[test]
fn a_retransmission_that_overtakes_does_not_make_old_echoes_take_the_reduction_back_rfc3522_s3_2() {
    let (mut host, id, first) = ten_in_flight(true);
    let echo = host.all()[0].timestamps.unwrap().0;
    let before = host.stack.tcp_snapshot(id, host.env.now).unwrap().cwnd;
    host.wait_ms(100);
    host.get(&acked(first, 0, &[(1, 6)]).ts(3, echo));
    assert_eq!(numbers(&host.all(), first), [0]);
    // It arrives before the last four, which were sent before it, and once.
    host.wait_ms(10);
    host.get(&acked(first, 6, &[]).ts(4, echo + 100));
    host.get(&acked(first, 7, &[]).ts(5, echo));
    assert_eq!(host.stack.tcp_counters().spurious, 0);
    assert!(host.stack.tcp_snapshot(id, host.env.now).unwrap().congestion.cwnd < before);
}

#[test]
fn what_was_sent_needlessly_before_does_not_take_a_later_reduction_back_rfc3708_s3() {
    let (mut host, id, first) = ten_in_flight(true);
    let echo = host.all()[0].timestamps.unwrap().0;
    host.wait_ms(60);
    host.get(&acked(first, 0, &[(9, 10)]).ts(3, echo));
    host.wait_ms(26);
    assert!(numbers(&host.all(), first).contains(&0));
    // It was late: taken back. Then others are lost indeed.
    host.wait_ms(14);
    host.get(&acked(first, 5, &[(9, 10)]).ts(4, echo));
    assert_eq!(host.stack.tcp_counters().spurious, 1);
    host.wait_ms(30);
    assert!(numbers(&host.all(), first).contains(&5));
    let reduced = host.stack.tcp_snapshot(id, host.env.now).unwrap().congestion.cwnd;
    // Now the peer has the first one twice.
    host.get(&acked(first, 5, &[(0, 1), (9, 10)]).ts(5, echo));
    assert_eq!(host.stack.tcp_counters().spurious, 1);
    assert_eq!(host.stack.tcp_snapshot(id, host.env.now).unwrap().congestion.cwnd, reduced);
}
