//! Connections come up (RFC 9293 §3.5) and go down (§3.6).

use std::time::Duration;

use tailwater_stack::tcp::{
    CloseReason, Connect, ConnectError, Listen, ListenError, SynCookies, TcpConfig, TcpError, TcpEvent,
};
use tailwater_stack::{Config, DropReason, Verdict};

use crate::script::*;

#[test]
fn a_syn_to_a_listener_is_answered_and_its_ack_makes_a_connection_rfc9293_s3_5() {
    for mut host in Host::of_both_families() {
        let (id, _) = host.accept();
        assert_eq!(host.state(id), "ESTABLISHED");
        host.expect_nothing();
    }
}

#[test]
fn a_syn_to_a_closed_port_is_reset_at_its_end_rfc9293_s3_10_7_1() {
    // RFC 9293 §3.10.7.1: ACK off: <SEQ=0><ACK=SEG.SEQ+SEG.LEN><CTL=RST,ACK>.
    for mut host in Host::of_both_families() {
        host.get(&seg(SYN, 1_000, 0));
        let reset = host.expect();
        assert_eq!((reset.flags, reset.seq, reset.ack), (RST | ACK, 0, 1_001));
        // ACK on: <SEQ=SEG.ACK><CTL=RST>.
        host.get(&seg(ACK, 1_000, 77));
        let reset = host.expect();
        assert_eq!((reset.flags, reset.seq), (RST, 77));
        // A reset is never answered.
        host.get(&seg(RST, 1_000, 0));
        host.expect_nothing();
    }
}

#[test]
fn options_are_answered_only_if_they_were_asked_for_rfc7323_s1_3() {
    // RFC 7323 §1.3, RFC 2018 §2.
    let mut host = Host::new();
    host.listen();
    host.get(&seg(SYN, 1_000, 0));
    let bare = host.expect();
    assert_eq!((bare.mss, bare.scale, bare.sack_permitted, bare.timestamps), (Some(1_460), None, false, None));
    let mut syn = seg(SYN, 1_000, 0).ts(5, 0).via(5_001);
    (syn.scale, syn.sack_permitted) = (Some(3), true);
    host.get(&syn);
    let full = host.expect();
    assert!(full.scale.is_some() && full.sack_permitted);
    assert_eq!(full.timestamps.unwrap().1, 5);
}

#[test]
fn connecting_sends_a_syn_with_every_option_and_acknowledges_the_answer_rfc9293_s3_5() {
    for mut host in Host::of_both_families() {
        let id = host.connect();
        let syn = host.expect();
        assert_eq!((syn.flags & !(ECE | CWR), syn.mss), (SYN, Some(host.mss())));
        assert!(syn.scale.is_some() && syn.sack_permitted && syn.timestamps.is_some());
        assert_eq!(host.state(id), "SYN-SENT");
        host.get(&seg(SYN | ACK, 1_000, syn.seq + 1));
        let ack = host.expect();
        assert_eq!((ack.flags, ack.seq, ack.ack), (ACK, syn.seq + 1, 1_001));
        assert_eq!(host.events, [TcpEvent::Connected(id)]);
        assert_eq!(host.state(id), "ESTABLISHED");
    }
}

#[test]
fn a_syn_sent_is_reset_only_by_an_acceptable_acknowledgement_rfc9293_s3_10_7_3() {
    // RFC 9293 §3.10.7.3.
    let mut host = Host::new();
    let id = host.connect();
    let syn = host.expect();
    host.get(&seg(RST, 1_000, 0));
    host.get(&seg(RST | ACK, 1_000, syn.seq + 2));
    assert_eq!(host.state(id), "SYN-SENT");
    // A wrong acknowledgement is answered by a reset at it.
    host.get(&seg(SYN | ACK, 1_000, syn.seq + 2));
    let reset = host.expect();
    assert_eq!((reset.flags, reset.seq), (RST, syn.seq + 2));
    host.get(&seg(RST | ACK, 0, syn.seq + 1));
    assert_eq!(host.closed(), Some(CloseReason::Refused));
    assert_eq!(host.state(id), "gone");
}

#[test]
fn a_syn_is_sent_again_with_growing_pauses_and_then_given_up_rfc9293_s3_8_3() {
    // RFC 9293 §3.8.3; RFC 6298 §5.5.
    let mut host = Host::new();
    host.connect();
    assert!(host.expect().has(SYN));
    for seconds in [1, 2, 4, 8, 16, 32] {
        host.wait(Duration::from_millis(seconds * 1_000 - 10));
        host.expect_nothing();
        host.wait_ms(11);
        let again = host.expect();
        assert!(again.has(SYN) && !again.has(ECE), "asks for ECN only once (RFC 3168 §6.1.1.1)");
    }
    host.wait(Duration::from_secs(130));
    assert_eq!(host.closed(), Some(CloseReason::TimedOut));
}

#[test]
fn two_syns_that_cross_make_one_connection_rfc9293_s3_5() {
    // RFC 9293 §3.5, figure 8.
    let mut host = Host::new();
    let id = host.connect();
    let syn = host.expect();
    host.get(&seg(SYN, 1_000, 0));
    let answer = host.expect();
    assert_eq!((answer.flags, answer.seq, answer.ack), (SYN | ACK, syn.seq, 1_001));
    assert_eq!(host.state(id), "SYN-RECEIVED");
    host.get(&seg(SYN | ACK, 1_000, syn.seq + 1));
    assert_eq!(host.state(id), "ESTABLISHED");
    assert_eq!(host.events, [TcpEvent::Connected(id)]);
}

#[test]
fn a_lost_syn_ack_is_sent_again_on_time_out_and_on_the_syn_rfc9293_s3_8_1() {
    for mut host in Host::of_both_families() {
        host.listen();
        let syn = seg(SYN, 1_000, 0);
        host.get(&syn);
        let first = host.expect();
        host.get(&syn);
        assert_eq!(host.expect(), first);
        host.wait_ms(1_001);
        assert_eq!(host.expect(), first);
    }
}

#[test]
fn a_half_open_connection_answers_a_client_that_began_anew_rfc9293_s3_10_7_4() {
    // First: what is not acceptable is acknowledged; the client, which knows nothing of that, resets.
    let mut host = Host::new();
    host.listen();
    host.get(&seg(SYN, 1_000, 0));
    let first = host.expect();
    let anew = seg(SYN, 900_000, 0);
    assert_eq!(host.refusal(&anew), DropReason::TcpOutOfWindow);
    let answer = host.expect();
    assert_eq!((answer.flags, answer.seq, answer.ack), (ACK, first.seq + 1, 1_001));
    host.get(&seg(RST, 1_001, 0));
    host.expect_nothing();
    host.get(&anew);
    let again = host.expect();
    assert_eq!((again.flags & !(ECE | CWR), again.ack), (SYN | ACK, 900_001));
}

#[test]
fn a_half_open_connection_is_forgotten_when_nobody_completes_it() {
    let mut host = Host::new();
    host.listen();
    host.get(&seg(SYN, 1_000, 0));
    host.wait(Duration::from_secs(120));
    assert!(host.all().len() == 6, "SYN,ACK and five repetitions");
    assert_eq!(host.stack.tcp_connections(host.env.now).count(), 0);
    assert_eq!(host.stack.tcp_listeners().map(|(_, _, half_open, _)| half_open).collect::<Vec<_>>(), [0]);
}

#[test]
fn a_reset_in_syn_received_returns_to_listening_rfc9293_s3_10_7_4() {
    let mut host = Host::new();
    host.listen();
    host.get(&seg(SYN, 1_000, 0));
    host.expect();
    host.get(&seg(RST, 1_001, 0));
    assert_eq!(host.stack.tcp_connections(host.env.now).count(), 0);
    assert_eq!(host.events, []);
}

#[test]
fn closing_first_goes_through_fin_wait_and_time_wait_rfc9293_s3_6() {
    // RFC 9293 §3.6, figure 12.
    for mut host in Host::of_both_families() {
        let (id, first) = host.accept();
        host.shutdown(id);
        let fin = host.expect();
        assert_eq!((fin.flags & !PSH, fin.seq), (FIN | ACK, first));
        assert_eq!(host.state(id), "FIN-WAIT-1");
        host.get(&seg(ACK, 1_001, first + 1));
        assert_eq!(host.state(id), "FIN-WAIT-2");
        // Half closed: text still comes in.
        host.get(&seg(ACK, 1_001, first + 1).text(b"late"));
        assert_eq!(host.read(id), b"late");
        host.all();
        host.get(&seg(FIN | ACK, 1_005, first + 1));
        // Once: a peer that has forgotten the connection would answer a second one with a reset.
        assert_eq!(host.expect().ack, 1_006);
        assert!(host.all().is_empty());
        assert_eq!(host.closed(), Some(CloseReason::Finished));
        // The application is gone, the connection waits.
        let waiting: Vec<_> = host.stack.tcp_connections(host.env.now).map(|c| c.state.name()).collect();
        assert_eq!(waiting, ["TIME-WAIT"]);
        // The peer's FIN again: acknowledged, and the time starts again.
        host.wait(Duration::from_secs(40));
        host.get(&seg(FIN | ACK, 1_005, first + 1));
        assert_eq!(host.expect().ack, 1_006);
        host.wait(Duration::from_secs(59));
        assert_eq!(host.stack.tcp_connections(host.env.now).count(), 1);
        host.wait(Duration::from_secs(2));
        assert_eq!(host.stack.tcp_connections(host.env.now).count(), 0);
    }
}

#[test]
fn closing_second_goes_through_close_wait_and_last_ack_rfc9293_s3_6() {
    for mut host in Host::of_both_families() {
        let (id, first) = host.accept();
        host.get(&seg(FIN | ACK, 1_001, first));
        assert_eq!(host.expect().ack, 1_002);
        assert_eq!(host.state(id), "CLOSE-WAIT");
        assert_eq!(host.events, [TcpEvent::Readable(id)]);
        assert_eq!(host.stack.tcp_receive(id, &mut host.env).unwrap_err(), TcpError::Finished);
        // The other direction is open.
        assert_eq!(host.send(id, b"bye"), 3);
        assert_eq!(host.expect().text, b"bye");
        host.shutdown(id);
        assert!(host.expect().has(FIN));
        assert_eq!(host.state(id), "LAST-ACK");
        host.get(&seg(ACK, 1_002, first + 4));
        assert_eq!(host.closed(), Some(CloseReason::Finished));
        assert_eq!(host.stack.tcp_connections(host.env.now).count(), 0);
    }
}

#[test]
fn closing_at_once_goes_through_closing_rfc9293_s3_6() {
    // RFC 9293 §3.6, figure 13.
    let mut host = Host::new();
    let (id, first) = host.accept();
    host.shutdown(id);
    host.expect();
    host.get(&seg(FIN | ACK, 1_001, first));
    assert_eq!(host.state(id), "CLOSING");
    assert_eq!(host.expect().ack, 1_002);
    host.get(&seg(ACK, 1_002, first + 1));
    assert_eq!(host.closed(), Some(CloseReason::Finished));
    let waiting: Vec<_> = host.stack.tcp_connections(host.env.now).map(|c| c.state.name()).collect();
    assert_eq!(waiting, ["TIME-WAIT"]);
}

#[test]
fn a_fin_rides_on_the_last_text_rfc9293_s3_10_4() {
    let mut host = Host::new();
    let (id, _) = host.accept();
    host.send(id, &[1; 1_000]);
    host.all();
    // Held back by Nagle, then joined by the FIN.
    host.send(id, b"small");
    host.send(id, b"er");
    host.all();
    host.shutdown(id);
    let rest = host.all();
    let last = rest.last().unwrap();
    assert!(last.has(FIN) && last.text == b"er", "{rest:?}");
}

#[test]
fn aborting_resets_the_peer_and_forgets_everything_rfc9293_s3_10_5() {
    // RFC 9293 §3.10.5.
    let mut host = Host::new();
    let (id, first) = host.accept();
    host.send(id, b"never mind");
    host.all();
    host.stack.tcp_abort(id, &mut host.env).unwrap();
    let reset = host.expect();
    assert_eq!((reset.flags, reset.seq), (RST | ACK, first + 10));
    assert_eq!(host.stack.tcp_connections(host.env.now).count(), 0);
    assert_eq!(host.stack.tcp_send(id, b"x", &mut host.env), Err(TcpError::Unknown));
}

#[test]
fn letting_go_with_text_unread_resets_the_peer_rfc2525_s2_17() {
    // RFC 2525 §2.17.
    let mut host = Host::new();
    let (id, first) = host.accept();
    host.get(&seg(ACK, 1_001, first).text(b"unread"));
    host.all();
    host.stack.tcp_close(id, &mut host.env).unwrap();
    assert!(host.expect().has(RST));
    assert_eq!(host.stack.ledger().discarded(DropReason::TcpUnread), 1);
}

#[test]
fn text_for_nobody_resets_the_peer_rfc2525_s2_17() {
    let mut host = Host::new();
    let (id, first) = host.accept();
    host.stack.tcp_close(id, &mut host.env).unwrap();
    assert!(host.expect().has(FIN));
    host.get(&seg(ACK, 1_001, first + 1));
    host.get(&seg(ACK, 1_001, first + 1).text(b"anybody?"));
    assert!(host.expect().has(RST));
    assert_eq!(host.stack.tcp_connections(host.env.now).count(), 0);
}

#[test]
fn fin_wait_2_without_an_application_ends_after_a_minute_rfc1122_s4_2_2_20() {
    let mut host = Host::new();
    let (id, first) = host.accept();
    host.stack.tcp_close(id, &mut host.env).unwrap();
    host.get(&seg(ACK, 1_001, first + 1));
    host.wait(Duration::from_secs(59));
    assert_eq!(host.stack.tcp_connections(host.env.now).count(), 1);
    host.wait(Duration::from_secs(2));
    assert_eq!(host.stack.tcp_connections(host.env.now).count(), 0);
}

#[test]
fn time_wait_is_reused_by_a_syn_that_is_surely_new_rfc6191_s2() {
    // RFC 6191 §2; RFC 9293 §3.10.7.4.
    let mut host = Host::new();
    host.listen();
    let mut syn = seg(SYN, 1_000, 0).ts(100, 0);
    syn.mss = Some(1_000);
    let (id, first) = host.accept_with(&syn);
    host.shutdown(id);
    let echo = host.expect().timestamps.unwrap().0;
    host.get(&seg(FIN | ACK, 1_001, first + 1).ts(101, echo));
    host.all();
    // An old duplicate is not.
    host.get(&seg(SYN, 1_000, 0).ts(100, 0));
    assert!(!host.all().iter().any(|s| s.has(SYN)));
    host.get(&seg(SYN, 900, 0).ts(102, 0));
    let answer = host.expect();
    assert!(answer.has(SYN | ACK), "{answer:?}");
    assert!((answer.seq.wrapping_sub(first) as i32) > 65_535, "numbers are behind the old ones");
}

/// A connection that we opened and closed, in TIME-WAIT; the numbers that it sent last and its last timestamp.
fn opened_and_closed(host: &mut Host, timestamps: bool) -> (u32, u32) {
    let id = host.connect();
    let syn = host.expect();
    let ts =
        |segment: Segment, value: u32| if timestamps { segment.ts(value, syn.timestamps.unwrap().0) } else { segment };
    host.get(&ts(seg(SYN | ACK, 1_000, syn.seq + 1), 100));
    host.all();
    host.stack.tcp_close(id, &mut host.env).unwrap();
    let fin = host.all().pop().unwrap();
    assert!(fin.has(FIN), "{fin:?}");
    host.get(&ts(seg(FIN | ACK, 1_001, fin.seq + 1), 101));
    let last = host.all().pop().unwrap();
    (last.seq, last.timestamps.map_or(0, |(value, _)| value))
}

#[test]
fn time_wait_gives_way_to_a_connection_of_ours_that_is_surely_new() {
    // RFC 6191 §2, from the side that opens.
    let mut host = Host::new();
    let (seq, value) = opened_and_closed(&mut host, true);
    let again = Connect { local_port: PORT, ..Connect::to((PEER, PEER_PORT).into()) };
    let too_soon = host.stack.tcp_connect(again, |_| true, &mut host.env);
    assert_eq!(too_soon, Err(ConnectError::InUse), "in the same tick of the timestamp clock");
    host.wait_ms(2);
    let id = host.connect();
    let syn = host.expect();
    assert!(syn.has(SYN) && syn.seq.wrapping_sub(seq) as i32 > 65_535, "{syn:?} is not far behind {seq}");
    assert!(syn.timestamps.unwrap().0.wrapping_sub(value) as i32 > 0, "timestamps, too");
    assert_eq!((host.state(id), host.stack.tcp_connections(host.env.now).count()), ("SYN-SENT", 1));
    host.get(&seg(SYN | ACK, 9_000, syn.seq + 1).ts(200, syn.timestamps.unwrap().0));
    assert_eq!(host.state(id), "ESTABLISHED");
    host.all();
    host.assert_books();
}

#[test]
fn time_wait_without_timestamps_is_waited_for() {
    let mut host = Host::new();
    opened_and_closed(&mut host, false);
    host.wait_ms(2);
    let again = Connect { local_port: PORT, ..Connect::to((PEER, PEER_PORT).into()) };
    assert_eq!(host.stack.tcp_connect(again, |_| true, &mut host.env), Err(ConnectError::InUse));
}

#[test]
fn a_reset_does_not_end_time_wait_rfc1337_s3() {
    // RFC 1337 §3, F1.
    let mut host = Host::new();
    let (id, first) = host.accept();
    host.shutdown(id);
    host.get(&seg(FIN | ACK, 1_001, first + 1));
    host.all();
    host.get(&seg(RST, 1_002, 0));
    assert_eq!(host.stack.tcp_connections(host.env.now).count(), 1);
}

#[test]
fn listeners_are_told_apart_by_address_and_a_second_is_refused() {
    let mut host = Host::new();
    let any = host.stack.tcp_listen("0.0.0.0:80".parse().unwrap(), Listen::default()).unwrap();
    let own = host.stack.tcp_listen("192.0.2.1:80".parse().unwrap(), Listen::default()).unwrap();
    let again = host.stack.tcp_listen("0.0.0.0:80".parse().unwrap(), Listen::default());
    assert_eq!(again, Err(ListenError::InUse));
    host.get(&seg(SYN, 1_000, 0));
    let answer = host.expect();
    host.get(&seg(ACK, 1_001, answer.seq + 1));
    assert!(matches!(host.events[..], [TcpEvent::Accepted { listener, .. }] if listener == own));
    assert!(host.stack.tcp_unlisten(own, &mut host.env));
    assert!(host.stack.tcp_unlisten(any, &mut host.env));
    host.get(&seg(SYN, 1_000, 0).via(6_000));
    assert!(host.expect().has(RST));
}

fn with_tcp(change: impl FnOnce(&mut TcpConfig)) -> Host {
    let mut config = Config::default();
    change(&mut config.tcp);
    Host::with(config)
}

#[test]
fn a_full_syn_backlog_is_answered_by_cookies_that_keep_nothing_rfc4987_s3_6() {
    // RFC 4987 §3.6.
    let mut host = Host::new();
    let how = Listen { syn_backlog_max: 2, ..Listen::default() };
    host.stack.tcp_listen("0.0.0.0:80".parse().unwrap(), how).unwrap();
    for port in 1..=2 {
        host.get(&seg(SYN, 1_000, 0).via(port));
    }
    host.all();
    let mut syn = seg(SYN, 1_000, 0).ts(9, 0);
    (syn.mss, syn.scale, syn.sack_permitted) = (Some(1_400), Some(4), true);
    host.get(&syn);
    let answer = host.expect();
    assert!(answer.has(SYN | ACK) && answer.scale.is_some() && answer.sack_permitted);
    assert_eq!(host.stack.tcp_connections(host.env.now).count(), 2);
    // A guess is refused.
    host.get(&seg(ACK, 1_001, answer.seq + 2).ts(9, answer.timestamps.unwrap().0));
    assert!(host.expect().has(RST));
    // The cookie is worth a connection with what was agreed.
    host.get(&seg(ACK, 1_001, answer.seq + 1).ts(9, answer.timestamps.unwrap().0).text(b"hello"));
    let [TcpEvent::Accepted { connection, .. }, TcpEvent::Readable(_)] = host.events[..] else {
        panic!("{:?}", host.events)
    };
    let snapshot = host.stack.tcp_snapshot(connection, host.env.now).unwrap();
    assert_eq!((snapshot.smss, snapshot.sack, snapshot.timestamps), (1_388, true, true));
    assert_eq!(snapshot.window_scale.map(|(_, theirs)| theirs), Some(4));
    assert_eq!(host.read(connection), b"hello");
    assert_eq!(host.stack.tcp_counters().syn_cookies_accepted, 1);
}

#[test]
fn a_stale_cookie_is_refused_rfc4987_s3_6() {
    let mut host = with_tcp(|tcp| tcp.syn_cookies = SynCookies::Always);
    host.listen();
    host.get(&seg(SYN, 1_000, 0));
    let answer = host.expect();
    host.wait(Duration::from_secs(200));
    // Another keeps cookies in use.
    host.get(&seg(SYN, 1_000, 0).via(9));
    host.all();
    host.get(&seg(ACK, 1_001, answer.seq + 1));
    assert!(host.expect().has(RST));
}

#[test]
fn a_cookie_offers_no_larger_segments_than_are_wanted_rfc6691_s2() {
    let mut host = with_tcp(|tcp| (tcp.syn_cookies, tcp.connection.mss_max) = (SynCookies::Always, 700));
    host.listen();
    host.get(&seg(SYN, 1_000, 0));
    assert_eq!(host.expect().mss, Some(700));
}

#[test]
fn a_client_is_served_amid_a_flood_of_spoofed_syns_rfc4987_s3_6() {
    // RFC 4987: the flood fills the backlog once, and keeps nothing after.
    let mut host = Host::new();
    host.listen();
    let flood = |host: &mut Host, from: u32| {
        for n in from..from + 5_000 {
            host.get(&seg(SYN, n, 0).via(10_000 + (n % 50_000) as u16));
        }
        host.env.transmitted.clear();
    };
    flood(&mut host, 0);
    let mut syn = seg(SYN, 1_000, 0).ts(9, 0);
    (syn.mss, syn.sack_permitted) = (Some(1_000), true);
    let (id, first) = host.accept_with(&syn);
    let mut echo = 0;
    for n in 0..50u32 {
        flood(&mut host, 5_000 * (n + 1));
        host.get(&seg(ACK, 1_001 + n * 500, first).ts(10 + n, echo).text(&[n as u8; 500]));
        assert_eq!(host.read(id), [n as u8; 500]);
        echo = host.all().last().and_then(|ack| ack.timestamps).map_or(echo, |(value, _)| value);
    }
    let half_open: Vec<_> = host.stack.tcp_listeners().map(|(_, _, half_open, _)| half_open).collect();
    assert_eq!(half_open, [1_024]);
    assert!(host.stack.tcp_counters().syn_cookies_sent > 200_000);
}

#[test]
fn without_cookies_a_full_backlog_drops_syns_by_name_rfc4987_s3_6() {
    let mut host = with_tcp(|tcp| tcp.syn_cookies = SynCookies::Never);
    let how = Listen { syn_backlog_max: 1, ..Listen::default() };
    host.stack.tcp_listen("0.0.0.0:80".parse().unwrap(), how).unwrap();
    host.get(&seg(SYN, 1_000, 0).via(1));
    assert_eq!(host.refusal(&seg(SYN, 1_000, 0).via(2)), DropReason::TcpSynBacklogFull);
}

#[test]
fn a_full_accept_queue_drops_the_last_step_so_that_the_peer_repeats_it() {
    let mut host = Host::new();
    let how = Listen { backlog_max: 0, ..Listen::default() };
    host.stack.tcp_listen("0.0.0.0:80".parse().unwrap(), how).unwrap();
    assert_eq!(host.refusal(&seg(SYN, 1_000, 0)), DropReason::TcpAcceptQueueFull);
}

/// A segment arrives, and the application looks for no news.
fn get_unnoticed(host: &mut Host, segment: &Segment) -> Option<DropReason> {
    match host.frame_unnoticed(&segment.frame(PORT)) {
        Verdict::Discarded(reason) => Some(reason),
        _ => None,
    }
}

/// How many connections the application is told of.
fn accepted(host: &mut Host) -> usize {
    std::iter::from_fn(|| host.stack.tcp_poll()).filter(|event| matches!(event, TcpEvent::Accepted { .. })).count()
}

#[test]
fn clients_beyond_the_backlog_come_in_by_trying_again_and_none_is_reset() {
    let mut host = Host::new();
    let how = Listen { backlog_max: 2, ..Listen::default() };
    let listener = host.stack.tcp_listen("0.0.0.0:80".parse().unwrap(), how).unwrap();
    // Four begin, of which only two may end: the application takes none.
    let begun = [1, 2, 3, 4].map(|port| {
        host.get(&seg(SYN, 1_000, 0).via(port));
        host.expect().seq
    });
    let finish = |port: u16| seg(ACK, 1_001, begun[usize::from(port) - 1] + 1).via(port);
    let full = Some(DropReason::TcpAcceptQueueFull);
    [1, 2].iter().for_each(|&port| assert_eq!(get_unnoticed(&mut host, &finish(port)), None));
    [3, 4].iter().for_each(|&port| assert_eq!(get_unnoticed(&mut host, &finish(port)), full));
    assert_eq!(get_unnoticed(&mut host, &seg(SYN, 1_000, 0).via(5)), full);
    assert!(host.all().is_empty(), "nobody is answered, by a reset least of all");
    // Two are taken up, and two places are free: the SYN,ACK that is sent again brings the ACK again.
    assert_eq!(accepted(&mut host), 2);
    host.wait_ms(1_500);
    let again = host.all();
    assert!(again.len() == 2 && again.iter().all(|reply| reply.flags & (SYN | ACK | RST) == SYN | ACK));
    [3, 4].iter().for_each(|&port| assert_eq!(get_unnoticed(&mut host, &finish(port)), None));
    assert_eq!(accepted(&mut host), 2);
    // An application that lets them wait itself says so.
    assert!(host.stack.tcp_set_backlog(listener, 0));
    assert_eq!(host.refusal(&seg(SYN, 1_000, 0).via(5)), DropReason::TcpAcceptQueueFull);
    assert!(host.stack.tcp_set_backlog(listener, 1));
    host.get(&seg(SYN, 1_000, 0).via(5));
    assert_eq!(host.expect().flags & (SYN | ACK | RST), SYN | ACK);
}

#[test]
fn a_listener_that_refuses_answers_with_resets_until_it_takes_connections_again() {
    let mut host = Host::new();
    let listener = host.listen();
    host.get(&seg(SYN, 1_000, 0).via(1));
    let begun = host.expect();
    assert!(host.stack.tcp_refuse(listener, true));
    host.get(&seg(SYN, 2_000, 0).via(2));
    let refusal = host.expect();
    assert_eq!((refusal.flags, refusal.ack), (RST | ACK, 2_001));
    // The handshake that had begun does not end well either, and nothing of it is left.
    host.get(&seg(ACK, 1_001, begun.seq + 1).via(1));
    let refusal = host.expect();
    assert_eq!((refusal.flags, refusal.seq), (RST, begun.seq + 1));
    let half_open: Vec<_> = host.stack.tcp_listeners().map(|(_, _, half_open, _)| half_open).collect();
    assert_eq!((half_open, host.events.len()), (vec![0], 0));
    assert!(host.stack.tcp_refuse(listener, false));
    host.get(&seg(SYN, 3_000, 0).via(3));
    assert_eq!(host.expect().flags & (SYN | ACK | RST), SYN | ACK);
}

#[test]
fn connections_are_bounded_and_counted() {
    let mut host = with_tcp(|tcp| (tcp.connections_max, tcp.syn_cookies) = (1, SynCookies::Never));
    host.connect();
    let more = host.stack.tcp_connect(Connect::to((PEER, 9).into()), |_| true, &mut host.env);
    assert_eq!(more.unwrap_err(), ConnectError::Full);
    assert_eq!(host.stack.tcp_counters().connections_max_hit, 1);
}

#[test]
fn impossible_peers_are_refused() {
    let mut host = Host::new();
    for remote in ["0.0.0.0:80", "192.0.2.2:0", "224.0.0.1:80", "255.255.255.255:80"] {
        let refused = host.stack.tcp_connect(Connect::to(remote.parse().unwrap()), |_| true, &mut host.env);
        assert_eq!(refused.unwrap_err(), ConnectError::Address, "{remote}");
    }
    let refused = host.stack.tcp_connect(Connect::to("203.0.113.1:80".parse().unwrap()), |_| true, &mut host.env);
    assert_eq!(refused.unwrap_err(), ConnectError::NoRoute);
}

#[test]
fn ports_are_only_those_that_the_caller_accepts_rfc6056_s3_1() {
    // RFC 6056; a worker takes ports whose replies hash to it.
    let mut host = Host::new();
    let mut used = std::collections::BTreeSet::new();
    for _ in 0..100 {
        let connect = Connect::to((PEER, 9).into());
        let id = host.stack.tcp_connect(connect, |local| local.port() % 4 == 1, &mut host.env).unwrap();
        let port = host.stack.tcp_snapshot(id, host.env.now).unwrap().local.port();
        assert!(port >= 49_152 && port % 4 == 1 && used.insert(port));
    }
    let none = host.stack.tcp_connect(Connect::to((PEER, 9).into()), |_| false, &mut host.env);
    assert_eq!(none.unwrap_err(), ConnectError::NoPort);
}

#[test]
fn first_numbers_differ_by_flow_and_grow_with_time_rfc6528_s3() {
    // RFC 6528 §3.
    let mut host = Host::new();
    host.listen();
    let first = |host: &mut Host, port| {
        host.get(&seg(SYN, 1_000, 0).via(port));
        let seq = host.expect().seq;
        host.get(&seg(RST, 1_001, 0).via(port));
        seq
    };
    let [one, two] = [first(&mut host, 1), first(&mut host, 2)];
    assert!(one.abs_diff(two) > 1_000);
    host.wait_ms(100);
    let later = first(&mut host, 1);
    let grown = later.wrapping_sub(one);
    assert!((20_000..30_000).contains(&grown), "a step every 4 µs: {grown}");
}

#[test]
fn first_numbers_tell_nothing_to_who_does_not_know_the_secret_rfc6528_s3() {
    // RFC 6528 §3: the same flow at the same time, on hosts that differ in their secrets only.
    let firsts: Vec<u32> = (0..100)
        .map(|secret| {
            let mut host = Host::with_secret(secret);
            host.listen();
            host.get(&seg(SYN, 1_000, 0));
            host.expect().seq
        })
        .collect();
    let set: std::collections::BTreeSet<_> = firsts.iter().collect();
    assert_eq!(set.len(), firsts.len());
    // Nor do secrets that follow each other: numbers as far apart as any.
    let near = firsts.windows(2).filter(|pair| pair[0].wrapping_sub(pair[1]) as i32 / 1_000_000 == 0).count();
    assert!(near <= 2, "{near} of {}", firsts.len());
    // The same secret, the same number.
    let mut host = Host::with_secret(7);
    host.listen();
    host.get(&seg(SYN, 1_000, 0));
    assert_eq!(host.expect().seq, firsts[7]);
}

#[test]
fn after_a_lost_syn_the_window_is_one_segment_rfc5681_s3_1() {
    let mut host = Host::new();
    let id = host.connect();
    host.wait_ms(1_001);
    let syn = host.all().pop().unwrap();
    let mut answer = seg(SYN | ACK, 1_000, syn.seq + 1);
    answer.mss = Some(1_000);
    host.get(&answer);
    host.all();
    host.send(id, &bytes(0, 10_000));
    assert_eq!(host.all().len(), 1);
}

#[test]
fn after_a_lost_syn_the_timer_starts_at_three_seconds_until_the_round_trip_is_measured_rfc6298_s5_7() {
    let mut host = Host::new();
    let id = host.connect();
    host.wait_ms(1_001);
    let syn = host.all().pop().unwrap();
    host.get(&seg(SYN | ACK, 1_000, syn.seq + 1));
    host.all();
    host.send(id, b"slow?");
    host.expect();
    host.wait_ms(2_990);
    host.expect_nothing();
    host.wait_ms(20);
    assert_eq!(host.expect().text, b"slow?");
    host.get(&seg(ACK, 1_001, syn.seq + 6));
    host.send(id, b"measured");
    host.wait_ms(100);
    host.get(&seg(ACK, 1_001, syn.seq + 14));
    let rto = host.stack.tcp_snapshot(id, host.env.now).unwrap().rto;
    assert!(rto < Duration::from_millis(400), "{rto:?}");
    host.all();
}

#[test]
fn a_connection_by_cookie_has_not_lost_its_syn_rfc6298_s5_7() {
    let mut host = with_tcp(|tcp| tcp.syn_cookies = SynCookies::Always);
    host.listen();
    let (id, _) = host.accept_with(&seg(SYN, 1_000, 0));
    assert_eq!(host.stack.tcp_snapshot(id, host.env.now).unwrap().rto, Duration::from_secs(1));
}

#[test]
fn the_mss_option_counts_no_options_and_segments_do_rfc6691_s2() {
    let mut host = Host::new();
    host.listen();
    let mut syn = seg(SYN, 1_000, 0).ts(5, 0);
    syn.mss = Some(1_000);
    host.get(&syn);
    let answer = host.expect();
    assert_eq!(answer.mss, Some(1_460), "1500 without the fixed headers, though timestamps will come");
    host.get(&seg(ACK, 1_001, answer.seq + 1).ts(6, answer.timestamps.unwrap().0));
    let [TcpEvent::Accepted { connection: id, .. }] = host.events[..] else { panic!("{:?}", host.events) };
    host.send(id, &bytes(0, 2_000));
    assert_eq!(host.all().iter().map(|s| s.text.len()).collect::<Vec<_>>(), [988, 988, 24]);
}

#[test]
fn a_peer_that_names_no_mss_gets_536_bytes_rfc9293_s3_7_1() {
    let mut host = Host::new();
    host.listen();
    let (id, _) = host.accept_with(&seg(SYN, 1_000, 0));
    host.send(id, &bytes(0, 1_000));
    assert_eq!(host.all().iter().map(|s| s.text.len()).collect::<Vec<_>>(), [536, 464]);
}

#[test]
fn ports_follow_each_other_towards_one_peer_and_tell_nothing_of_others_rfc6056_s3_3_3() {
    let mut host = Host::new();
    let mut port_to = |port: u16| {
        let id = host.stack.tcp_connect(Connect::to((PEER, port).into()), |_| true, &mut host.env).unwrap();
        host.stack.tcp_snapshot(id, host.env.now).unwrap().local.port()
    };
    let (first, second, other) = (port_to(9), port_to(9), port_to(10));
    assert_eq!((second - 49_152) % 16_384, (first - 49_152 + 1) % 16_384);
    assert!(other.abs_diff(second) > 16, "{first}, {second}, then {other}");
}

#[test]
fn options_that_lie_about_their_length_end_the_list_and_unknown_ones_are_skipped_rfc9293_s3_2() {
    let mss = [2, 4, 1_000_u16.to_be_bytes()[0], 1_000_u16.to_be_bytes()[1]];
    let lies: [(&[u8], Option<u32>); 6] = [
        // Unknown, skipped by its length.
        (&[254, 4, 1, 1], Some(1_000)),
        // A length of 0 or 1 would never end.
        (&[254, 0, 1, 1], None),
        (&[254, 1, 1, 1], None),
        // Longer than the header.
        (&[254, 40, 1, 1], None),
        // The end of the list.
        (&[0, 1, 1, 1], None),
        // An MSS option of the wrong length says nothing.
        (&[2, 3, 9, 1], Some(1_000)),
    ];
    for (lie, smss) in lies {
        let mut host = Host::new();
        host.listen();
        let (id, _) = host.accept_with(&seg(SYN, 1_000, 0).raw_options(&[lie, &mss].concat()));
        let found = host.stack.tcp_snapshot(id, host.env.now).unwrap().smss;
        assert_eq!(found, smss.unwrap_or(536), "{lie:?}");
    }
}

#[test]
fn ecn_is_granted_only_to_a_syn_that_asks_rfc3168_s6_1_1() {
    for (asks, granted) in [(0, false), (ECE, false), (CWR, false), (ECE | CWR, true)] {
        let mut host = Host::new();
        host.listen();
        let (id, _) = host.accept_with(&seg(SYN | asks, 1_000, 0));
        assert_eq!(host.stack.tcp_snapshot(id, host.env.now).unwrap().ecn, granted, "{asks}");
    }
}
