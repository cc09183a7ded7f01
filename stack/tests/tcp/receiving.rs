//! What is acknowledged when, and what window is offered: RFC 5681 §4.2, RFC 9293 §3.8.6, RFC 2018, RFC 2883.

use std::time::Duration;

use tailwater_stack::tcp::{ConnectionId, TcpConfig, TcpEvent};
use tailwater_stack::{Config, DropReason, Verdict};

use crate::script::*;

#[test]
fn a_lone_small_segment_is_acknowledged_late_rfc9293_s3_8_6_3() {
    // RFC 9293 §3.8.6.3: within 500 ms.
    let mut host = Host::new();
    let (_, first) = host.accept();
    host.get(&seg(ACK | PSH, 1_001, first).text(b"hi"));
    host.expect_nothing();
    host.wait_ms(39);
    host.expect_nothing();
    host.wait_ms(2);
    assert_eq!(host.expect().ack, 1_003);
}

#[test]
fn the_answer_carries_the_acknowledgement_rfc9293_s3_8_6_3() {
    let mut host = Host::new();
    let (id, first) = host.accept();
    host.get(&seg(ACK | PSH, 1_001, first).text(b"ping"));
    assert_eq!(host.read(id), b"ping");
    host.send(id, b"pong");
    let answer = host.expect();
    assert_eq!((answer.text.as_slice(), answer.ack), (&b"pong"[..], 1_005));
    host.wait_ms(60);
    host.expect_nothing();
    host.get(&seg(ACK, 1_005, first + 4));
}

#[test]
fn every_second_full_segment_is_acknowledged_at_once_rfc5681_s4_2() {
    // RFC 5681 §4.2.
    let mut host = Host::new();
    let (id, first) = host.accept();
    let mut seq = 1_001;
    for n in 0..40 {
        host.get(&seg(ACK, seq, first).text(&[0; 1_000]));
        seq += 1_000;
        host.read(id);
        let acked = host.all().iter().any(|ack| ack.ack == seq);
        // The first sixteen one by one.
        assert!(n < 16 || acked == (n % 2 == 1), "segment {n}");
        assert!(n >= 16 || acked, "segment {n}");
    }
}

#[test]
fn a_filled_gap_does_not_make_acknowledgements_rare_rfc5681_s4_2() {
    // The peer's segments are no larger for what had come before them.
    let mut host = Host::new();
    let (id, first) = host.accept();
    let mut seq = 1_001;
    let mut next = |host: &mut Host| {
        host.get(&seg(ACK, seq, first).text(&[0; 1_000]));
        seq += 1_000;
        host.read(id);
        host.all().iter().any(|ack| ack.ack == seq)
    };
    assert!(next(&mut host));
    for early in [3_001, 4_001] {
        host.get(&seg(ACK, early, first).text(&[0; 1_000]));
    }
    host.get(&seg(ACK, 2_001, first).text(&[0; 1_000]));
    host.read(id);
    assert_eq!(host.all().last().unwrap().ack, 5_001);
    let next = |host: &mut Host, n: u32| {
        host.get(&seg(ACK, 5_001 + n * 1_000, first).text(&[0; 1_000]));
        host.read(id);
        host.all().iter().any(|ack| ack.ack == 6_001 + n * 1_000)
    };
    let acked: Vec<_> = (0..40).map(|n| next(&mut host, n)).collect();
    assert!(acked[..10].iter().all(|&acked| acked), "one by one at the start: {acked:?}");
    assert!(acked.windows(2).all(|two| two[0] || two[1]), "every second at least: {acked:?}");
}

#[test]
fn a_gap_is_told_at_once_and_filled_at_once_rfc5681_s4_2() {
    // RFC 5681 §4.2; RFC 2018 §4: the block that changed last comes first.
    for mut host in Host::of_any_numbers() {
        let (id, first) = host.accept_sack();
        host.get(&seg(ACK, 2_001, first).text(&bytes(1_000, 1_000)));
        let ack = host.expect();
        assert_eq!((ack.ack, ack.sack), (1_001, vec![(2_001, 3_001)]));
        host.get(&seg(ACK, 5_001, first).text(&bytes(4_000, 1_000)));
        assert_eq!(host.expect().sack, [(5_001, 6_001), (2_001, 3_001)]);
        host.get(&seg(ACK, 3_001, first).text(&bytes(2_000, 1_000)));
        assert_eq!(host.expect().sack, [(2_001, 4_001), (5_001, 6_001)]);
        assert_eq!(host.read(id), b"");
        host.get(&seg(ACK, 1_001, first).text(&bytes(0, 1_000)));
        let ack = host.expect();
        assert_eq!((ack.ack, ack.sack), (4_001, vec![(5_001, 6_001)]));
        host.get(&seg(ACK, 4_001, first).text(&bytes(3_000, 1_000)));
        let ack = host.expect();
        assert_eq!((ack.ack, ack.sack), (6_001, vec![]));
        assert_eq!(host.read(id), bytes(0, 5_000));
    }
}

#[test]
fn text_that_came_twice_is_told_once_rfc2883_s4() {
    // RFC 2883 §4.
    let mut host = Host::new();
    let (id, first) = host.accept_sack();
    let segment = seg(ACK, 1_001, first).text(&bytes(0, 1_000));
    host.get(&segment);
    host.all();
    assert_eq!(host.refusal(&segment), DropReason::TcpOutOfWindow);
    assert_eq!(host.expect().sack, [(1_001, 2_001)]);
    // Early text that came twice: below the block that holds it (§4.1.2).
    let early = seg(ACK, 3_001, first).text(&bytes(2_000, 1_000));
    host.get(&early);
    assert_eq!(host.expect().sack, [(3_001, 4_001)]);
    assert_eq!(host.refusal(&early), DropReason::TcpDuplicate);
    assert_eq!(host.expect().sack, [(3_001, 4_001), (3_001, 4_001)]);
    host.read(id);
}

#[test]
fn overlapping_texts_are_put_together_byte_for_byte_rfc9293_s3_10_7_4() {
    let mut host = Host::new();
    let (id, first) = host.accept_sack();
    let piece = |from: usize, n: usize| seg(ACK, 1_001 + from as u32, first).text(&bytes(from, n));
    for (from, n) in [(500, 200), (900, 100), (450, 500), (100, 1_000), (0, 150), (100, 400)] {
        host.get(&piece(from, n));
    }
    assert_eq!(host.read(id), bytes(0, 1_100));
    host.all();
}

#[test]
fn any_order_of_overlapping_pieces_yields_the_stream() {
    use proptest::prelude::*;
    proptest!(ProptestConfig::with_cases(200), |(pieces in proptest::collection::vec((0usize..3_000, 1usize..900), 1..60))| {
        for mut host in Host::of_any_numbers() {
        let (id, first) = host.accept_sack();
        let mut there = vec![false; 4_000];
        for &(from, n) in &pieces {
            host.get(&seg(ACK, 1_001 + from as u32, first).text(&bytes(from, n)));
            there[from..from + n].fill(true);
            let acks = host.all();
            for (left, right) in acks.iter().flat_map(|ack| ack.sack.clone()) {
                for at in left..right {
                    prop_assert!(there[(at - 1_001) as usize], "reported what never came");
                }
            }
            host.assert_books();
        }
        let whole = there.iter().position(|there| !there).unwrap();
        prop_assert_eq!(host.read(id), bytes(0, whole));
        }
    });
}

#[test]
fn a_fin_beyond_a_gap_waits_for_the_text_before_it_rfc9293_s3_10_7_4() {
    let mut host = Host::new();
    let (id, first) = host.accept();
    host.get(&seg(FIN | ACK, 1_101, first));
    assert_eq!(host.expect().ack, 1_001);
    assert_eq!(host.state(id), "ESTABLISHED");
    host.get(&seg(ACK, 1_001, first).text(&[7; 100]));
    assert_eq!(host.expect().ack, 1_102);
    assert_eq!(host.state(id), "CLOSE-WAIT");
    assert_eq!(host.read(id), [7; 100]);
}

#[test]
fn text_that_reaches_over_an_early_fin_loses_no_buffer() {
    // What a fuzzer found: a peer that sends more than it said it would.
    let mut host = Host::new();
    let (id, first) = host.accept();
    host.get(&seg(FIN | ACK, 2_001, first).text(&bytes(1_000, 200)));
    host.get(&seg(ACK, 1_001, first).text(&bytes(0, 1_400)));
    assert_eq!(host.read(id), bytes(0, 1_400));
    host.all();
}

#[test]
fn an_early_fin_is_kept_once_however_often_it_comes_rfc9293_s3_10_7_4() {
    for text_len in [0, 100] {
        let mut host = Host::new();
        let (id, first) = host.accept();
        let end = seg(FIN | ACK, 2_001 - text_len as u32, first).text(&bytes(1_000 - text_len, text_len));
        // More often than one connection keeps buffers.
        for _ in 0..9_000 {
            host.get(&end);
            host.env.transmitted.clear();
        }
        host.get(&seg(ACK, 1_801, first).text(&bytes(800, 200 - text_len)));
        host.get(&seg(ACK, 1_001, first).text(&bytes(0, 800)));
        assert_eq!(host.read(id), bytes(0, 1_000), "there was a place for what came last");
        assert_eq!((host.all().last().unwrap().ack, host.state(id)), (2_002, "CLOSE-WAIT"));
    }
}

#[test]
fn early_fins_take_places_of_which_there_are_so_many() {
    // What no sane peer does: it ends its stream in many places.
    let mut host = Host::new();
    let (_, first) = host.accept();
    let refused = (0..20_000).find(|n| {
        let verdict = host.frame(&seg(FIN | ACK, 2_001 + 2 * n, first).frame(PORT));
        host.env.transmitted.clear();
        matches!(verdict, Verdict::Discarded(DropReason::TcpMemory))
    });
    assert_eq!(refused, Some(8_192));
}

#[test]
fn the_window_shrinks_with_what_waits_and_never_moves_back_rfc9293_s3_8_6() {
    let mut config = Config::default();
    (config.tcp.connection.receive_buffer, config.tcp.connection.receive_buffer_max) = (65_535, 65_535);
    let mut host = Host::with(config);
    let (id, first) = host.accept();
    let edge = |segment: &Segment| segment.ack + u32::from(segment.window);
    let mut highest = 1_001 + 65_535;
    let mut seq = 1_001;
    for _ in 0..62 {
        host.get(&seg(ACK, seq, first).text(&[0; 1_000]));
        seq += 1_000;
        for ack in host.all() {
            assert!(edge(&ack) >= highest, "the right edge moved back");
            highest = edge(&ack);
        }
    }
    // The application reads: the window opens, and says so.
    assert_eq!(host.read(id).len(), 62_000);
    let update = host.all();
    assert!(update.iter().any(|ack| ack.window > 60_000), "{update:?}");
}

#[test]
fn a_closed_window_opens_only_by_a_worthwhile_step_rfc9293_s3_8_6_2_2() {
    // RFC 9293 §3.8.6.2.2.
    let mut config = Config::default();
    (config.tcp.connection.receive_buffer, config.tcp.connection.receive_buffer_max) = (4_000, 4_000);
    let mut host = Host::with(config);
    let (id, first) = host.accept();
    for n in 0..4 {
        host.get(&seg(ACK, 1_001 + n * 1_000, first).text(&[0; 1_000]));
    }
    assert_eq!(host.all().last().unwrap().window, 0);
    assert_eq!(host.refusal(&seg(ACK, 5_001, first).text(b"x")), DropReason::TcpOutOfWindow);
    assert_eq!(host.expect().window, 0);
    let mut to = [0; 100];
    host.stack.tcp_read(id, &mut to, &mut host.env).unwrap();
    host.expect_nothing();
    while host.stack.tcp_readable(id) > 0 {
        host.stack.tcp_read(id, &mut to, &mut host.env).unwrap();
    }
    assert!(host.all().last().unwrap().window >= 2_000);
    // As the reading took the buffers apart.
    let taken = host.env.returned;
    assert!(taken >= 4);
}

/// The receive buffer, which was 20 kB, after 20 round trips in each of which 18 kB came; the application reads all of it as it
/// comes, or so many bytes of it.
fn receive_buffer_after(read_each: Option<usize>) -> u32 {
    let mut config = Config::default();
    (config.tcp.connection.receive_buffer, config.tcp.connection.receive_buffer_max) = (20_000, 200_000);
    let mut host = Host::with(config);
    host.listen();
    let mut syn = seg(SYN, 1_000, 0);
    (syn.mss, syn.scale) = (Some(1_000), Some(0));
    host.get(&syn);
    let first = host.expect().seq + 1;
    host.wait_ms(20);
    host.get(&seg(ACK, 1_001, first));
    let [TcpEvent::Accepted { connection: id, .. }] = host.events[..] else { panic!() };
    let mut seq = 1_001;
    for _ in 0..20 {
        for _ in 0..18 {
            // As much as the window takes.
            if host.stack.tcp_snapshot(id, host.env.now).unwrap().rcv_wnd >= 1_000 {
                host.get(&seg(ACK, seq, first).text(&[0; 1_000]));
                seq += 1_000;
            }
            if read_each.is_none() {
                host.read(id);
            }
        }
        if let Some(len) = read_each {
            host.stack.tcp_read(id, &mut vec![0; len], &mut host.env).unwrap();
        }
        host.wait_ms(20);
        host.all();
    }
    assert!(seq > 20_000);
    let buffer = host.stack.tcp_snapshot(id, host.env.now).unwrap().receive_buffer;
    host.read(id);
    buffer
}

#[test]
fn auto_tuning_grows_the_receive_buffer_of_an_application_that_keeps_up() {
    let grown = receive_buffer_after(None);
    assert!((40_000..=200_000).contains(&grown), "{grown}");
}

#[test]
fn auto_tuning_does_not_grow_the_receive_buffer_of_an_application_that_reads_slowly() {
    // Twice of what is read in a round trip, and 16 segments: the buffer has as much already, however much comes.
    for read_each in [0, 1_000] {
        assert_eq!(receive_buffer_after(Some(read_each)), 20_000, "{read_each} bytes a round trip");
    }
}

#[test]
fn what_was_read_before_the_first_round_trip_is_not_counted_in_it() {
    let mut config = Config::default();
    (config.tcp.connection.receive_buffer, config.tcp.connection.receive_buffer_max) = (20_000, 200_000);
    let mut host = Host::with(config);
    let (id, first) = host.accept();
    // 10,000 bytes at once, then 1,000 in a round trip: twice that and 16 segments are less than the buffer.
    let mut seq = 1_001;
    for count in [10, 1, 1, 1] {
        for _ in 0..count {
            host.get(&seg(ACK, seq, first).text(&[0; 1_000]));
            seq += 1_000;
        }
        host.stack.tcp_read(id, &mut [0; 10_000], &mut host.env).unwrap();
        host.wait_ms(110);
    }
    assert_eq!(host.stack.tcp_snapshot(id, host.env.now).unwrap().receive_buffer, 20_000);
    host.all();
}

#[test]
fn text_in_several_segments_is_read_in_parts_without_a_buffer_and_without_a_hole() {
    let mut host = Host::new();
    let (id, first) = host.accept();
    host.get_segmented(&seg(ACK, 1_001, first).text(&bytes(0, 1_000)), 200);
    host.get(&seg(ACK, 2_001, first).text(&bytes(1_000, 500)));
    host.all();
    host.env.pool = 0;
    let mut read: Vec<u8> = Vec::new();
    let mut to = [0; 350];
    while read.len() < 1_050 {
        let n = host.stack.tcp_read(id, &mut to, &mut host.env).unwrap();
        assert_eq!(n, 350);
        read.extend(&to[..n]);
        assert_eq!(host.stack.tcp_readable(id), 1_500 - read.len());
    }
    assert_eq!(read, bytes(0, 1_050));
    host.env.pool = usize::MAX;
    assert_eq!(host.read(id), bytes(1_050, 450));
    host.all();
}

#[test]
fn what_is_left_of_a_text_read_in_part_is_taken_in_a_buffer_of_its_own() {
    let mut host = Host::new();
    let (id, first) = host.accept();
    host.get_segmented(&seg(ACK, 1_001, first).text(&bytes(0, 1_000)), 200);
    host.all();
    let mut to = [0; 350];
    assert_eq!(host.stack.tcp_read(id, &mut to, &mut host.env), Ok(350));
    host.env.pool = 0;
    assert_eq!((host.read(id), host.stack.tcp_readable(id)), (vec![], 650), "not without a buffer, and not lost");
    host.env.pool = usize::MAX;
    assert_eq!((to.to_vec(), host.read(id)), (bytes(0, 350), bytes(350, 650)));
}

#[test]
fn a_connection_that_was_let_go_tells_nothing_more_rfc9293_s3_10_4() {
    let mut host = Host::new();
    let (id, first) = host.accept();
    let _ = host.frame_unnoticed(&seg(FIN | ACK, 1_001, first).frame(PORT));
    assert!(host.stack.tcp_has_news());
    host.stack.tcp_close(id, &mut host.env).unwrap();
    assert_eq!(host.stack.tcp_poll(), None);
    host.all();
}

#[test]
fn nor_does_what_comes_while_it_stands_in_line_rfc9293_s3_10_4() {
    let mut host = Host::new();
    let id = host.connect();
    let syn = host.expect();
    let _ = host.frame_unnoticed(&seg(SYN | ACK, 1_000, syn.seq + 1).frame(PORT));
    assert!(host.stack.tcp_has_news(), "connected");
    host.stack.tcp_close(id, &mut host.env).unwrap();
    let _ = host.frame_unnoticed(&seg(FIN | ACK, 1_001, syn.seq + 2).frame(PORT));
    assert_eq!(host.state(id), "TIME-WAIT");
    assert_eq!(host.stack.tcp_poll(), None);
    host.all();
}

#[test]
fn tiny_segments_do_not_use_up_the_buffers() {
    let mut host = Host::new();
    let (id, first) = host.accept();
    for n in 0..1_000u32 {
        host.get(&seg(ACK, 1_001 + n, first).text(&[n as u8]));
    }
    assert!(host.stack.held() < 100, "{} buffers for 1000 bytes", host.stack.held());
    assert_eq!(host.read(id), (0..1_000u32).map(|n| n as u8).collect::<Vec<_>>());
    host.all();
}

#[test]
fn buffers_are_bounded_for_the_whole_stack_and_early_text_goes_first() {
    let tcp = TcpConfig { buffers_max: 4, ..TcpConfig::default() };
    let mut host = Host::with(Config { tcp, ..Config::default() });
    let (id, first) = host.accept_sack();
    for n in 1..=4 {
        host.get(&seg(ACK, 1_001 + n * 400, first).text(&bytes(n as usize * 400, 400)));
    }
    let fifth = seg(ACK, 3_001, first).text(&bytes(2_000, 100));
    assert_eq!(host.refusal(&fifth), DropReason::TcpMemory);
    host.get(&seg(ACK, 1_001, first).text(&bytes(0, 400)));
    assert_eq!(host.read(id), bytes(0, 1_600), "the last early text made room");
    assert_eq!(host.stack.ledger().discarded(DropReason::TcpMemory), 2);
    host.all();
}

/// A connection that has all the buffers there are, into which so much more may come, with our first number.
fn out_of_buffers(receive_buffer: u32) -> (Host, ConnectionId, u32) {
    let mut config = Config::default();
    config.tcp.buffers_max = 4;
    (config.tcp.connection.receive_buffer, config.tcp.connection.receive_buffer_max) = (receive_buffer, receive_buffer);
    let mut host = Host::with(config);
    let (id, first) = host.accept();
    for n in 0..4 {
        host.get(&seg(ACK, 1_001 + n * 500, first).text(&bytes(n as usize * 500, 500)));
    }
    host.all();
    (host, id, first)
}

#[test]
fn a_probe_of_a_closed_window_is_answered_without_memory_too_rfc9293_s3_8_6_1() {
    let (mut host, id, first) = out_of_buffers(2_000);
    for _ in 0..20 {
        host.wait(Duration::from_secs(10));
        assert_eq!(host.refusal(&seg(ACK, 3_001, first).text(b"x")), DropReason::TcpOutOfWindow);
        let answer = host.expect();
        assert_eq!((answer.ack, answer.window), (3_001, 0));
    }
    assert_eq!(host.read(id), bytes(0, 2_000));
    assert!(host.all().last().unwrap().window >= 1_000);
}

#[test]
fn text_that_memory_refuses_is_acknowledged_rfc9293_s3_8_6_1() {
    let mut config = Config::default();
    config.tcp.buffers_max = 4;
    let mut host = Host::with(config);
    let (id, first) = host.accept();
    let mut syn = seg(SYN, 1_000, 0).via(PEER_PORT + 1);
    syn.mss = Some(1_000);
    // Another, which was promised as much, has all the buffers there are.
    let (other, others_first) = host.accept_with(&syn);
    for n in 0..4 {
        host.get(&seg(ACK, 1_001 + n * 500, others_first).text(&[0; 500]).via(PEER_PORT + 1));
    }
    host.all();
    let next = seg(ACK, 1_001, first).text(b"next");
    assert_eq!(host.refusal(&next), DropReason::TcpMemory);
    assert_eq!(host.expect().ack, 1_001);
    assert_eq!(host.read(other).len(), 2_000);
    host.all();
    host.get(&next);
    assert_eq!(host.read(id), b"next");
}

#[test]
fn a_mark_is_echoed_until_the_peer_says_that_it_slowed_down_rfc3168_s6_1_3() {
    // RFC 3168 §6.1.3.
    let mut host = Host::new();
    host.listen();
    let mut syn = seg(SYN | ECE | CWR, 1_000, 0);
    syn.mss = Some(1_000);
    host.get(&syn);
    let answer = host.expect();
    assert!(answer.has(SYN | ACK | ECE) && !answer.has(CWR));
    let first = answer.seq + 1;
    host.get(&seg(ACK, 1_001, first));
    let text = |n: u32, flags: u8, ecn: u8| {
        let mut segment = seg(ACK | flags, 1_001 + n * 1_000, first).text(&[0; 1_000]);
        segment.ecn = ecn;
        segment
    };
    host.get(&text(0, 0, 2));
    assert!(!host.expect().has(ECE));
    host.get(&text(1, 0, 3));
    assert!(host.expect().has(ECE));
    host.get(&text(2, 0, 2));
    assert!(host.expect().has(ECE));
    host.get(&text(3, CWR, 2));
    assert!(!host.expect().has(ECE));
    host.wait(Duration::from_millis(50));
}

#[test]
fn windows_are_scaled_but_in_syns_rfc7323_s2_2() {
    let mut host = Host::new();
    host.listen();
    let mut syn = seg(SYN, 1_000, 0).window(100);
    (syn.mss, syn.scale) = (Some(1_000), Some(3));
    host.get(&syn);
    let answer = host.expect();
    assert_eq!(answer.window, 65_535, "of a buffer of 256 kB");
    host.get(&seg(ACK, 1_001, answer.seq + 1).window(1_000));
    let [TcpEvent::Accepted { connection: id, .. }] = host.events[..] else { panic!("{:?}", host.events) };
    assert_eq!(host.stack.tcp_snapshot(id, host.env.now).unwrap().snd_wnd, 8_000);
    host.get(&seg(ACK | PSH, 1_001, answer.seq + 1).text(&[0; 1_000]));
    let offered = u32::from(host.expect().window) << answer.scale.unwrap();
    assert!((250_000..=262_144).contains(&offered), "{offered}");
    host.read(id);
}

#[test]
fn beside_timestamps_three_blocks_are_reported_rfc2018_s3() {
    let mut host = Host::new();
    host.listen();
    let mut syn = seg(SYN, 1_000, 0).ts(5, 0);
    (syn.mss, syn.sack_permitted) = (Some(1_000), true);
    let (id, first) = host.accept_with(&syn);
    for n in [2, 4, 6, 8] {
        host.get(&seg(ACK, 1_001 + n * 1_000, first).ts(6, 0).text(&[0; 1_000]));
    }
    let blocks = host.all().pop().unwrap().sack;
    assert_eq!(blocks, [(9_001, 10_001), (7_001, 8_001), (5_001, 6_001)]);
    host.stack.tcp_abort(id, &mut host.env).unwrap();
    host.all();
}
