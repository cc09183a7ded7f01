//! When text leaves (RFC 9293 §3.8.6), and what keeps a quiet connection alive (§3.8.4).

use std::time::Duration;

use tailwater_stack::tcp::congestion::control;
use tailwater_stack::tcp::{CloseReason, ConnectionOptions, KeepAlive, TcpError, TcpEvent};
use tailwater_stack::testing::VecBuffer;
use tailwater_stack::{Buffer, Config, Env};

use crate::script::*;

fn with(change: impl FnOnce(&mut ConnectionOptions)) -> Host {
    let mut config = Config::default();
    change(&mut config.tcp.connection);
    Host::with(config)
}

#[test]
fn text_leaves_in_full_segments_and_the_last_pushes_rfc9293_s3_9_1_2() {
    let mut host = Host::new();
    let (id, first) = host.accept();
    let text = bytes(0, 2_500);
    assert_eq!(host.send(id, &text), 2_500);
    let sent = host.all();
    // The small end waits for nothing: no other small segment is in flight.
    assert_eq!(sent.iter().map(|s| s.text.len()).collect::<Vec<_>>(), [1_000, 1_000, 500]);
    assert_eq!(sent.iter().map(|s| s.has(PSH)).collect::<Vec<_>>(), [false, false, true]);
    assert_eq!(sent.iter().map(|s| s.seq - first).collect::<Vec<_>>(), [0, 1_000, 2_000]);
    assert_eq!(sent.concat_text(), text);
}

trait ConcatText {
    fn concat_text(&self) -> Vec<u8>;
}

impl ConcatText for Vec<Segment> {
    fn concat_text(&self) -> Vec<u8> {
        self.iter().flat_map(|segment| segment.text.clone()).collect()
    }
}

#[test]
fn the_initial_window_is_ten_segments_rfc6928_s2() {
    // RFC 6928 §2.
    let mut host = Host::new();
    let (id, _) = host.accept();
    host.send(id, &bytes(0, 50_000));
    assert_eq!(host.all().len(), 10);
}

#[test]
fn small_segments_wait_while_a_small_one_is_in_flight_rfc9293_s3_7_4() {
    // RFC 9293 §3.7.4 (Nagle), by Minshall's rule.
    let mut host = Host::new();
    let (id, first) = host.accept();
    host.send(id, b"one");
    assert_eq!(host.expect().text, b"one");
    host.send(id, b"two");
    host.send(id, b"three");
    host.expect_nothing();
    host.get(&seg(ACK, 1_001, first + 3));
    assert_eq!(host.expect().text, b"twothree");
    // Without it they leave at once.
    host.stack.tcp_set_nagle(id, false, &mut host.env).unwrap();
    host.send(id, b"four");
    assert_eq!(host.expect().text, b"four");
}

#[test]
fn a_small_window_is_not_filled_with_small_segments_rfc9293_s3_8_6_2_1() {
    // RFC 9293 §3.8.6.2.1: wait for a full segment, half of the largest window, or the override.
    let mut host = Host::new();
    let (id, first) = host.accept();
    host.get(&seg(ACK, 1_001, first).window(100));
    host.send(id, &bytes(0, 3_000));
    host.expect_nothing();
    host.wait_ms(250);
    assert_eq!(host.expect().text.len(), 100, "the override timeout has come");
    host.get(&seg(ACK, 1_001, first + 100).window(2_000));
    assert_eq!(host.all().iter().map(|s| s.text.len()).sum::<usize>(), 1_900);
}

#[test]
fn a_small_window_is_filled_in_time_though_the_peer_keeps_sending_rfc9293_s3_8_6_2_1() {
    let mut host = Host::new();
    let (id, first) = host.accept();
    host.get(&seg(ACK, 1_001, first).window(500));
    host.send(id, &bytes(0, 3_000));
    for n in 0..6 {
        host.get(&seg(ACK, 1_001 + n * 10, first).window(500).text(&bytes(0, 10)));
        host.wait_ms(50);
    }
    let text: Vec<u8> = host.all().concat_text();
    assert_eq!(text, bytes(0, 500), "the override timeout has come");
    host.read(id);
}

#[test]
fn a_closed_window_is_probed_with_growing_pauses_for_as_long_as_it_answers_rfc9293_s3_8_6_1() {
    // RFC 9293 §3.8.6.1.
    let mut host = Host::new();
    let (id, first) = host.accept();
    host.get(&seg(ACK, 1_001, first).window(0));
    host.send(id, b"waiting");
    host.expect_nothing();
    let mut probes = 0;
    for _ in 0..200 {
        host.wait(Duration::from_secs(10));
        for probe in host.all() {
            assert_eq!((probe.seq, probe.text.len()), (first - 1, 0));
            probes += 1;
            host.get(&seg(ACK, 1_001, first).window(0));
        }
    }
    assert!((20..60).contains(&probes), "{probes} in 2000 s");
    assert_eq!(host.state(id), "ESTABLISHED");
    host.get(&seg(ACK, 1_001, first).window(1_000));
    assert_eq!(host.expect().text, b"waiting");
    // The pauses have not made the retransmission timer slow.
    host.wait_ms(1_500);
    assert_eq!(host.expect().text, b"waiting");
}

#[test]
fn a_closed_window_that_does_not_answer_ends_the_connection_rfc9293_s3_8_6_1() {
    let mut host = Host::new();
    let (id, first) = host.accept();
    host.get(&seg(ACK, 1_001, first).window(0));
    host.send(id, b"waiting");
    host.wait(Duration::from_secs(3_600));
    assert_eq!(host.closed(), Some(CloseReason::TimedOut));
}

#[test]
fn a_closed_window_does_not_keep_a_connection_that_nobody_wants() {
    let mut host = Host::new();
    let (id, first) = host.accept();
    host.get(&seg(ACK, 1_001, first).window(0));
    host.send(id, b"waiting");
    host.stack.tcp_close(id, &mut host.env).unwrap();
    for _ in 0..200 {
        host.wait(Duration::from_secs(10));
        for _ in host.all() {
            host.get(&seg(ACK, 1_001, first).window(0));
        }
    }
    assert_eq!(host.stack.tcp_connections(host.env.now).count(), 0);
}

#[test]
fn a_window_that_closes_over_text_in_flight_keeps_a_connection_while_somebody_wants_it_rfc9293_s3_8_6_1() {
    for (wanted, kept) in [(true, 1), (false, 0)] {
        let mut host = Host::new();
        let (id, first) = host.accept();
        host.send(id, &bytes(0, 3_000));
        // The peer takes its window back, and acknowledges nothing.
        host.get(&seg(ACK, 1_001, first).window(0));
        if !wanted {
            host.stack.tcp_close(id, &mut host.env).unwrap();
        }
        for _ in 0..400 {
            host.wait(Duration::from_secs(10));
            for _ in host.all() {
                host.get(&seg(ACK, 1_001, first).window(0));
            }
        }
        assert_eq!(host.stack.tcp_connections(host.env.now).count(), kept, "wanted: {wanted}");
    }
}

#[test]
fn a_fin_waits_for_room_in_the_window_behind_text_that_fills_it_rfc9293_s3_4() {
    let mut host = Host::new();
    let (id, first) = host.accept();
    host.get(&seg(ACK, 1_001, first).window(0));
    host.send(id, &bytes(0, 1_500));
    host.shutdown(id);
    host.get(&seg(ACK, 1_001, first).window(1_500));
    let sent = host.all();
    assert_eq!(sent.iter().map(|s| s.text.len()).collect::<Vec<_>>(), [1_000, 500]);
    assert!(!sent[1].has(FIN) && sent[1].has(PSH), "{sent:?}");
    host.get(&seg(ACK, 1_001, first + 1_500).window(0));
    host.expect_nothing();
    host.get(&seg(ACK, 1_001, first + 1_500).window(1));
    let fin = host.expect();
    assert_eq!((fin.seq, fin.text.len(), fin.has(FIN)), (first + 1_500, 0, true));
    host.get(&seg(ACK, 1_001, first + 1_501));
    assert_eq!(host.state(id), "FIN-WAIT-2");
}

#[test]
fn a_full_send_buffer_takes_less_and_tells_when_there_is_room() {
    let mut host = with(|options| options.send_buffer_max = 4_000);
    let (id, first) = host.accept();
    assert_eq!(host.send(id, &bytes(0, 10_000)), 4_000);
    assert_eq!(host.send(id, b"more"), 0);
    host.all();
    host.get(&seg(ACK, 1_001, first + 1_000));
    assert_eq!(host.events, []);
    host.get(&seg(ACK, 1_001, first + 2_000));
    assert_eq!(host.events, [TcpEvent::Writable(id)]);
    assert_eq!(host.stack.tcp_send_room(id), 2_000);
}

#[test]
fn of_text_that_has_to_wait_some_whole_segments_are_taken_and_more_when_the_window_lets_them_go() {
    let mut host = with(|options| options.unsent_max = 2_500);
    let (id, first) = host.accept();
    // Ten segments are the initial window.
    assert_eq!(host.send(id, &bytes(0, 30_000)), 12_000);
    assert_eq!((host.all().len(), host.send(id, b"more"), host.stack.tcp_send_room(id)), (10, 0, 0));
    host.get(&seg(ACK, 1_001, first + 1_000));
    assert_eq!(host.events, [TcpEvent::Writable(id)]);
    assert_eq!((host.all().len(), host.stack.tcp_send_room(id)), (2, 2_000));
    assert_eq!(host.send(id, &bytes(12_000, 500)), 500, "what is all that there is");
}

#[test]
fn text_that_waits_behind_a_closed_window_is_taken_again_when_it_opens() {
    let mut host = with(|options| options.unsent_max = 2_500);
    let (id, first) = host.accept();
    host.get(&seg(ACK, 1_001, first).window(5_000));
    assert_eq!(host.send(id, &bytes(0, 30_000)), 7_000);
    host.all();
    host.get(&seg(ACK, 1_001, first + 5_000).window(0));
    assert_eq!((host.events.as_slice(), host.stack.tcp_send_room(id)), (&[][..], 0));
    host.get(&seg(ACK, 1_001, first + 5_000).window(5_000));
    assert_eq!(host.all().len(), 2);
    host.get(&seg(ACK, 1_001, first + 7_000).window(5_000));
    assert_eq!(host.events, [TcpEvent::Writable(id)]);
    assert_eq!(host.stack.tcp_send_room(id), 7_000);
}

#[test]
fn a_received_buffer_is_sent_back_without_a_copy() {
    let mut host = Host::new();
    let (id, first) = host.accept();
    host.get(&seg(ACK | PSH, 1_001, first).text(b"echo"));
    let allocated = host.env.allocated;
    let text = host.stack.tcp_receive(id, &mut host.env).unwrap().unwrap();
    host.stack.tcp_send_buffer(id, text, &mut host.env).unwrap();
    let echo = host.expect();
    assert_eq!((echo.text.as_slice(), echo.ack), (&b"echo"[..], 1_005));
    assert_eq!(host.env.allocated - allocated, 1, "one more handle, no copy");
    host.get(&seg(ACK, 1_005, first + 4));
}

/// Buffers with these bytes, cut into pieces.
fn buffers(host: &mut Host, text: &[u8], piece: usize) -> Vec<VecBuffer> {
    let mut fill = |text: &[u8]| {
        let mut buffer = host.env.allocate().unwrap();
        buffer.append(text.len()).unwrap().copy_from_slice(text);
        buffer
    };
    text.chunks(piece).map(&mut fill).collect()
}

#[test]
fn buffers_leave_together_and_short_text_joins_a_segment_that_waits() {
    let mut host = Host::new();
    let (id, first) = host.accept();
    host.send(id, b"small");
    assert_eq!(host.expect().text, b"small");
    // These wait for its acknowledgement (Nagle), in one segment.
    let text = bytes(5, 600);
    let mut short = buffers(&mut host, &text, 200).into_iter();
    assert_eq!(host.stack.tcp_send_buffers(id, || short.next(), &mut host.env), Ok(3));
    host.expect_nothing();
    host.get(&seg(ACK, 1_001, first + 5));
    assert_eq!(host.expect().text, text);
    host.get(&seg(ACK, 1_001, first + 605));
    // Long text stays in its buffers; only the last pushes.
    let text = bytes(605, 2_400);
    let mut long = buffers(&mut host, &text, 1_000).into_iter();
    assert_eq!(host.stack.tcp_send_buffers(id, || long.next(), &mut host.env), Ok(3));
    let sent = host.all();
    let shapes: Vec<_> = sent.iter().map(|s| (s.text.len(), s.has(PSH))).collect();
    assert_eq!(shapes, [(1_000, false), (1_000, false), (400, true)]);
    assert_eq!(sent.concat_text(), text);
}

#[test]
fn buffers_that_find_no_room_stay_where_they_are() {
    let mut host = with(|options| options.send_buffer_max = 1_500);
    let (id, _) = host.accept();
    let mut texts = buffers(&mut host, &bytes(0, 5_000), 1_000).into_iter();
    assert_eq!(host.stack.tcp_send_buffers(id, || texts.next(), &mut host.env), Ok(2));
    assert_eq!(texts.len(), 3);
    texts.for_each(|text| host.env.release(text));
}

#[test]
fn after_shutdown_nothing_can_be_written_rfc9293_s3_10_2() {
    let mut host = Host::new();
    let (id, _) = host.accept();
    host.shutdown(id);
    assert_eq!(host.stack.tcp_send(id, b"x", &mut host.env), Err(TcpError::Shutdown));
}

#[test]
fn a_quiet_peer_is_probed_and_given_up_if_asked_for_rfc9293_s3_8_4() {
    // RFC 9293 §3.8.4.
    let keep_alive = KeepAlive { idle: Duration::from_secs(60), interval: Duration::from_secs(5), probes_max: 3 };
    let mut host = with(|options| options.keep_alive = Some(keep_alive));
    let (id, first) = host.accept();
    host.wait(Duration::from_secs(59));
    host.expect_nothing();
    host.wait(Duration::from_secs(2));
    let probe = host.expect();
    assert_eq!((probe.seq, probe.text.len()), (first - 1, 0));
    host.get(&seg(ACK, 1_001, first));
    host.wait(Duration::from_secs(50));
    host.expect_nothing();
    host.wait(Duration::from_secs(40));
    assert!(host.all().iter().any(|segment| segment.has(RST)));
    assert_eq!(host.closed(), Some(CloseReason::TimedOut));
    assert_eq!(host.state(id), "gone");
}

#[test]
fn without_keep_alive_an_idle_connection_costs_no_timer_rfc9293_s3_8_4() {
    let mut host = Host::new();
    host.accept();
    host.wait(Duration::from_secs(1));
    assert_eq!(host.stack.poll_timeout(), None);
}

#[test]
fn the_user_timeout_ends_a_connection_that_makes_no_progress_rfc5482_s3_1() {
    // RFC 5482.
    let mut host = with(|options| options.user_timeout = Some(Duration::from_secs(30)));
    let (id, _) = host.accept();
    host.send(id, b"anybody?");
    host.wait(Duration::from_secs(25));
    assert_eq!(host.state(id), "ESTABLISHED");
    host.wait(Duration::from_secs(40));
    assert_eq!(host.closed(), Some(CloseReason::TimedOut));
}

#[test]
fn without_a_user_timeout_fifteen_retransmissions_are_made_rfc1122_s4_2_3_5() {
    // RFC 1122 §4.2.3.5.
    let mut host = Host::new();
    let (id, _) = host.accept();
    host.send(id, b"anybody?");
    host.wait(Duration::from_secs(100));
    assert_eq!(host.state(id), "ESTABLISHED", "R2 is at least 100 s");
    host.wait(Duration::from_secs(3_600));
    assert_eq!(host.closed(), Some(CloseReason::TimedOut));
    assert_eq!(host.all().iter().filter(|segment| segment.text == b"anybody?").count(), 16);
}

#[test]
fn pacing_spreads_a_window_over_the_round_trip_rfc9002_s7_7() {
    let mut host = with(|options| options.pacing = true);
    host.listen();
    let mut syn = seg(SYN, 1_000, 0);
    syn.mss = Some(1_000);
    host.get(&syn);
    let first = host.expect().seq + 1;
    host.wait_ms(100);
    host.get(&seg(ACK, 1_001, first));
    let [TcpEvent::Accepted { connection: id, .. }] = host.events[..] else { panic!("{:?}", host.events) };
    host.send(id, &bytes(0, 60_000));
    let begun = host.all().len();
    assert_eq!(begun, 10, "the rate is not known before the first acknowledgement");
    host.wait_ms(100);
    host.get(&seg(ACK, 1_001, first + 10_000));
    let at_once = host.all().len();
    assert!(at_once <= 3, "{at_once} at once");
    let mut later = 0;
    for _ in 0..10 {
        host.wait_ms(10);
        later += host.all().len();
    }
    assert!(later >= 10, "{later} over the round trip");
}

#[test]
fn the_user_timeout_is_told_and_the_peers_followed_within_bounds_rfc5482_s3_1() {
    let mut host = with(|options| {
        (options.user_timeout, options.user_timeout_option) = (Some(Duration::from_secs(40)), true);
    });
    host.connect();
    let syn = host.env.sent().unwrap();
    assert!(syn.windows(4).any(|option| option == [28, 4, 0, 40]), "{syn:?}");
    // The peer wants ten seconds, and gets L_LIMIT.
    let mut host = with(|options| options.user_timeout_option = true);
    host.listen();
    let (id, _) = host.accept_with(&seg(SYN, 1_000, 0).raw_options(&[28, 4, 0, 10]));
    host.send(id, b"anybody?");
    host.wait(Duration::from_secs(99));
    assert_eq!(host.state(id), "ESTABLISHED");
    host.wait(Duration::from_secs(120));
    assert_eq!(host.closed(), Some(CloseReason::TimedOut));
}

#[test]
fn parts_of_segments_count_as_delivered_bbr_draft_s4_1() {
    for (name, step) in [("cubic", 500), ("cubic", 1_000), ("bbr", 500), ("bbr", 1_000)] {
        let mut host = with(|options| options.congestion_control = control(name).unwrap());
        let (id, first) = host.accept();
        let mut bandwidth = None;
        for n in 0..10 {
            host.send(id, &bytes(n * 1_000, 1_000));
            host.wait_ms(50);
            for part in (step..=1_000).step_by(step as usize) {
                host.get(&seg(ACK, 1_001, first + n as u32 * 1_000 + part));
            }
            bandwidth = host.stack.tcp_snapshot(id, host.env.now).unwrap().congestion.bandwidth;
        }
        host.all();
        assert_eq!(host.stack.tcp_snapshot(id, host.env.now).unwrap().delivered, 10_000, "{name} {step}");
        if name == "bbr" {
            assert!((19_000..=20_100).contains(&bandwidth.unwrap()), "{step}: {bandwidth:?}");
        }
    }
}

#[test]
fn congestion_control_is_the_sockets_choice_and_exchanged_while_text_is_in_flight_rfc9293_s3_8_2() {
    let mut host = with(|options| options.congestion_control = control("reno").unwrap());
    let (id, first) = host.accept();
    let name = |host: &Host| host.stack.tcp_snapshot(id, host.env.now).unwrap().congestion.name;
    assert_eq!(name(&host), "reno");
    host.send(id, &bytes(0, 30_000));
    let mut sent = host.all().concat_text();
    for next in ["bbr", "cubic", "bbr3", "reno"] {
        let before = host.stack.tcp_snapshot(id, host.env.now).unwrap().congestion.cwnd;
        host.stack.tcp_set_congestion_control(id, control(next).unwrap(), &mut host.env).unwrap();
        let after = host.stack.tcp_snapshot(id, host.env.now).unwrap().congestion.cwnd;
        assert_eq!((name(&host), after), (next, before), "the window is what it was");
        host.wait_ms(20);
        sent.extend(host.all().concat_text());
        host.get(&seg(ACK, 1_001, first + sent.len() as u32));
        host.wait_ms(20);
        sent.extend(host.all().concat_text());
    }
    assert_eq!(sent, bytes(0, sent.len()));
    assert!(sent.len() > 20_000, "{}", sent.len());
}
