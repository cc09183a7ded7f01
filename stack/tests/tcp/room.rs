//! Text for which there is no room below.

use tailwater_stack::tcp::{ConnectionId, TcpEvent};

use crate::script::*;

/// A burst in which so many packets may leave; what left.
fn turn(host: &mut Host, room: usize) -> Vec<Segment> {
    host.env.room = Some(room);
    host.stack.begin_burst();
    host.stack.tcp_go_on(&mut host.env);
    host.stack.end_burst(&mut host.env);
    host.all()
}

/// Ports of the segments.
fn ports(segments: &[Segment]) -> Vec<u16> {
    segments.iter().map(|segment| segment.port).collect()
}

/// A connection from this port, with SACK and MSS 1000, and our first number.
fn connected(host: &mut Host, port: u16) -> (ConnectionId, u32) {
    let mut syn = seg(SYN, 1_000, 0).via(port);
    (syn.mss, syn.sack_permitted) = (Some(1_000), true);
    host.get(&syn);
    let first = host.expect().seq.wrapping_add(1);
    host.get(&seg(ACK, 1_001, first).via(port));
    let accepted = host.events.drain(..).find_map(|event| match event {
        TcpEvent::Accepted { connection, .. } => Some(connection),
        _ => None,
    });
    (accepted.expect("accepted"), first)
}

/// Connections from these ports, without room for text.
fn all_connected(host: &mut Host, ports: &[u16]) -> Vec<(ConnectionId, u32)> {
    host.listen();
    let connections = ports.iter().map(|&port| connected(host, port)).collect();
    host.env.room = Some(0);
    connections
}

#[test]
fn text_without_room_waits_and_leaves_in_order_when_there_is() {
    let mut host = Host::new();
    let (id, first) = host.accept();
    host.env.room = Some(3);
    assert_eq!(host.send(id, &bytes(0, 8_000)), 8_000);
    let mut sent = host.all();
    assert_eq!((sent.len(), host.stack.is_quiet()), (3, false));
    assert_eq!((turn(&mut host, 0), host.stack.is_quiet()), (vec![], false));
    sent.extend(turn(&mut host, 4));
    sent.extend(turn(&mut host, 4));
    assert!(host.stack.is_quiet());
    let text: Vec<u8> = sent.iter().flat_map(|segment| segment.text.clone()).collect();
    assert_eq!((sent.len(), sent[0].seq, text == bytes(0, 8_000)), (8, first, true));
    assert_eq!(host.stack.tcp_counters().room_waits, 2);
    host.get(&seg(ACK, 1_001, first + 8_000));
    host.assert_books();
}

#[test]
fn what_a_connection_has_begun_it_ends_where_there_is_spare_room_and_another_begins_nothing() {
    let mut host = Host::new();
    let connections = all_connected(&mut host, &[2_001, 2_002]);
    for &(id, _) in &connections {
        assert_eq!(host.send(id, &bytes(0, 5_000)), 5_000);
    }
    host.env.spare_room = 3;
    assert_eq!(ports(&turn(&mut host, 2)), [2_001; 5]);
    assert_eq!(ports(&turn(&mut host, 1)), [2_002; 4], "no more than there is");
    assert_eq!(ports(&turn(&mut host, 1)), [2_002]);
    assert!(host.stack.is_quiet());
}

#[test]
fn an_acknowledgement_needs_no_room() {
    let mut host = Host::new();
    let (_, first) = host.accept();
    host.env.room = Some(0);
    host.get(&seg(ACK, 1_001, first).text(&bytes(0, 1_000)));
    host.get(&seg(ACK, 2_001, first).text(&bytes(0, 1_000)));
    assert_eq!(host.all().last().map(|ack| ack.ack), Some(3_001));
}

#[test]
fn waiting_for_room_is_neither_a_loss_nor_a_closed_window() {
    let mut host = Host::new();
    let (id, _) = host.accept();
    host.env.room = Some(0);
    host.send(id, &bytes(0, 3_000));
    host.wait_ms(60_000);
    host.expect_nothing();
    let counters = host.stack.tcp_counters();
    assert_eq!((counters.timeouts, counters.window_probes, counters.loss_probes), (0, 0, 0));
    assert_eq!(turn(&mut host, 9).len(), 3);
}

#[test]
fn a_window_that_closes_while_there_is_no_room_is_probed() {
    let mut host = Host::new();
    let (id, first) = host.accept();
    host.env.room = Some(0);
    host.get(&seg(ACK, 1_001, first).window(0));
    host.send(id, &bytes(0, 1_000));
    assert_eq!(turn(&mut host, 9), []);
    host.wait_ms(60_000);
    assert!(host.stack.tcp_counters().window_probes > 0);
}

#[test]
fn those_who_wait_have_turns_in_the_order_in_which_they_came() {
    let mut host = Host::new();
    let connections = all_connected(&mut host, &[6_001, 6_002, 6_003]);
    for (id, _) in &connections {
        host.send(*id, &bytes(0, 4_000));
    }
    assert_eq!(ports(&turn(&mut host, 6)), [6_001, 6_001, 6_001, 6_001, 6_002, 6_002]);
    // The second stands behind the third now.
    assert_eq!(ports(&turn(&mut host, 5)), [6_003, 6_003, 6_003, 6_003, 6_002]);
    assert_eq!(ports(&turn(&mut host, 5)), [6_002]);
    assert!(host.stack.is_quiet());
}

#[test]
fn what_was_lost_goes_before_new_text_of_others() {
    let mut host = Host::new();
    let connections = all_connected(&mut host, &[6_001, 6_002]);
    let [(waiting, _), (losing, first)] = connections[..] else { panic!("two") };
    host.env.room = Some(9);
    host.send(losing, &bytes(0, 9_000));
    assert_eq!(host.all().len(), 9);
    host.send(waiting, &bytes(0, 2_000));
    host.wait_ms(1);
    host.get(&seg(ACK, 1_001, first).via(6_002).sack(&[(first + 1_000, first + 9_000)]));
    assert_eq!((host.all(), host.stack.is_quiet()), (vec![], false));
    let sent = turn(&mut host, 1);
    assert_eq!((sent[0].port, sent[0].seq), (6_002, first));
    assert_eq!(ports(&turn(&mut host, 9)), [6_001, 6_001]);
}

#[test]
fn a_connection_that_ends_in_line_leaves_its_place_to_others() {
    let mut host = Host::new();
    let connections = all_connected(&mut host, &[6_001, 6_002]);
    for (id, _) in &connections {
        host.send(*id, &bytes(0, 2_000));
    }
    host.stack.tcp_abort(connections[0].0, &mut host.env).unwrap();
    host.all();
    // It stands in line at the place of the one that is gone.
    host.env.room = None;
    let (next, _) = connected(&mut host, 6_003);
    host.env.room = Some(0);
    host.send(next, &bytes(0, 1_000));
    assert_eq!(ports(&turn(&mut host, 9)), [6_003, 6_002, 6_002]);
    assert!(host.stack.is_quiet());
}
