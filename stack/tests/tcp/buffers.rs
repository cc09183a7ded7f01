//! Who gets how many of the stack's buffers.

use std::time::Duration;

use tailwater_stack::tcp::{CloseReason, ConnectionId, TcpError, TcpEvent};
use tailwater_stack::testing::VecBuffer;
use tailwater_stack::{Buffer, Config, DropReason, Env};

use crate::pair::{Faults, Net};
use crate::script::*;

#[test]
fn connections_that_hoard_leave_buffers_for_the_next() {
    let mut configs = [Config::default(), Config::default()];
    configs[0].tcp.buffers_max = 256;
    // The peer's window is what makes them hoard.
    configs[1].tcp.connection.receive_buffer = 4_000;
    configs[1].tcp.connection.receive_buffer_max = 4_000;
    let mut net = Net::with(configs, 1_500, 1, Faults::NONE);
    let clients: Vec<_> = (0..20).map(|n| net.connect(n % 2 == 0)).collect();
    net.run(Duration::from_secs(1));
    let mut taken = Vec::new();
    for round in 0..5 {
        for &client in &clients {
            net.envs[0].now = net.now;
            let sent = net.stacks[0].tcp_send(client, &[7; 1 << 20], &mut net.envs[0]).unwrap();
            taken.extend((round == 0).then_some(sent));
        }
        net.run(Duration::from_secs(1));
        assert!(net.stacks[0].held() <= 256, "{}", net.stacks[0].held());
    }
    assert!(taken[0] > 90 * 1_400, "one alone gets half of three quarters: {taken:?}");
    let queued = net.stacks[0].tcp_connections(net.now).map(|one| one.send_queue).collect::<Vec<_>>();
    // Twenty want all there is: each gets a share, and one more finds some left.
    assert!(queued.iter().all(|&bytes| bytes >= 1_400), "{queued:?}");
    let late = net.connect(false);
    net.run(Duration::from_secs(1));
    net.envs[0].now = net.now;
    let sent = net.stacks[0].tcp_send(late, &[7; 10_000], &mut net.envs[0]).unwrap();
    assert!(sent >= 1_400, "{sent} bytes beside {queued:?}");
}

#[test]
fn the_fewer_buffers_are_left_the_fewer_get_those_who_have_some() {
    const CONNECTIONS: u16 = 10;
    let mut config = Config::default();
    config.tcp.buffers_max = 64;
    let mut host = Host::with(config);
    host.listen();
    for port in (0..CONNECTIONS).map(|n| PEER_PORT + n) {
        let mut syn = seg(SYN, 1_000, 0).via(port);
        syn.mss = Some(1_000);
        let (id, first) = host.accept_with(&syn);
        // Nobody reads.
        for n in 0..40 {
            host.get(&seg(ACK, 1_001 + n * 1_000, first).via(port).text(&[0; 1_000]));
        }
        let kept = host.stack.tcp_snapshot(id, host.env.now).unwrap().receive_queue;
        assert!(kept > 0, "nothing for {port}, {} held", host.stack.held());
        host.all();
    }
}

#[test]
fn buffers_fewer_than_a_window_bound_the_window() {
    let mut net = Net::new(1, Faults::NONE);
    for stack in &mut net.stacks {
        stack.tcp_bound_buffers(400, 1_500);
    }
    let client = net.connect(false);
    net.run(Duration::from_secs(1));
    net.envs[0].now = net.now;
    // A quarter of the buffers, in full segments.
    assert_eq!(net.stacks[0].tcp_send(client, &[7; 1 << 20], &mut net.envs[0]), Ok(150_000));
    net.run(Duration::from_secs(10));
    let server = net.stacks[1].tcp_connections(net.now).next().unwrap();
    assert_eq!((server.receive_queue, server.receive_buffer), (150_000, 150_000));
    assert_eq!(net.stacks[1].ledger().discarded(DropReason::TcpMemory), 0);
}

/// A host with so few buffers that they bound its windows, and a connection of a peer with SACK and scaled windows.
fn host_of_400_buffers() -> (Host, ConnectionId, u32) {
    let mut config = Config::default();
    config.tcp.connection.receive_buffer = 1 << 20;
    let mut host = Host::with(config);
    host.stack.tcp_bound_buffers(400, 1_500);
    host.listen();
    let mut syn = seg(SYN, 1_000, 0);
    (syn.mss, syn.scale, syn.sack_permitted, syn.window) = (Some(1_460), Some(7), true, 60_000);
    let (id, first) = host.accept_with(&syn);
    (host, id, first)
}

/// Fills the window that the connection tells with segments of these lengths in turn; the bytes sent.
fn fill_window(host: &mut Host, first: u32, lens: &[usize]) -> Vec<u8> {
    // The SYN's window was not scaled.
    host.get(&seg(ACK, 1_001, first).text(&bytes(0, 1_460)).window(2_000));
    host.get(&seg(ACK, 2_461, first).text(&bytes(1_460, 1_460)).window(2_000));
    let mut at = 2_920;
    let mut edge = 0;
    for len in lens.iter().cycle() {
        for answer in host.all() {
            edge = edge.max(answer.ack + (u32::from(answer.window) << 2) - 1_001);
        }
        let len = (edge as usize - at).min(*len);
        if len == 0 {
            break;
        }
        host.get(&seg(ACK, 1_001 + at as u32, first).text(&bytes(at, len)).window(2_000));
        at += len;
    }
    bytes(0, at)
}

#[test]
fn small_segments_that_fill_the_window_find_memory_beside_a_full_send_queue() {
    for lens in [&[1_460][..], &[600], &[513, 1_460], &[900, 1_000], &[1], &[1_460, 1_460, 10, 700]] {
        for writes in [&[1_000_000][..], &[600; 2_000], &[513, 1_460].repeat(500)] {
            let (mut host, id, first) = host_of_400_buffers();
            for len in writes {
                host.send(id, &vec![7; *len]);
                host.get(&seg(ACK, 1_001, first).window(2_000));
            }
            let sent = fill_window(&mut host, first, lens);
            assert!(sent.len() > 120_000, "{} bytes in {lens:?}", sent.len());
            assert_eq!(host.stack.ledger().discarded(DropReason::TcpMemory), 0, "{lens:?} beside {:?}", &writes[..1]);
            assert!(host.read(id) == sent, "{lens:?}");
        }
    }
}

/// Opens a connection from that port and sends as much as it is told that there is room for, which nobody reads: its id, the
/// windows told first and last, our number, and the peer's next.
fn fill_another(host: &mut Host, port: u16) -> (ConnectionId, u16, u32, u32, u32) {
    let mut syn = seg(SYN, 1_000, 0).via(port);
    // A window for one segment is rounded up.
    (syn.mss, syn.scale) = (Some(1_459), Some(7));
    host.get(&syn);
    let Segment { seq, window: told, .. } = host.expect();
    let (first, mut next, mut edge, mut last) = (seq.wrapping_add(1), 1_001, 1_001 + u32::from(told), 0);
    host.events.clear();
    host.get(&seg(ACK, next, first).via(port));
    let Some(TcpEvent::Accepted { connection, .. }) = host.events.first().copied() else { panic!("not accepted") };
    // What makes no whole segment waits, unless there is not even one.
    while edge - next >= 1_459 || (edge > next && next == 1_001) {
        let len = (edge - next).min(1_459);
        host.get(&seg(ACK, next, first).text(&vec![0; len as usize]).via(port));
        next += len;
        host.wait_ms(50);
        for answer in host.all() {
            last = u32::from(answer.window) << 2;
            edge = edge.max(answer.ack + last);
        }
    }
    (connection, told, last, first, next)
}

#[test]
fn the_window_told_is_no_larger_than_the_memory_that_others_leave() {
    let (mut host, hoarder, first) = host_of_400_buffers();
    let hoarded = fill_window(&mut host, first, &[1_460]);
    assert!(hoarded.len() > 140_000);
    let filled: Vec<_> = (1..=40).map(|n| fill_another(&mut host, PEER_PORT + n)).collect();
    let told: Vec<u16> = filled.iter().map(|one| one.1).collect();
    assert!(told[0] > 60_000 && told[39] >= 1_459, "{told:?}");
    assert!(told.is_sorted_by(|a, b| a >= b) && told[39] < told[0] / 4, "{told:?}");
    assert_eq!(host.stack.ledger().discarded(DropReason::TcpMemory), 0);
    // A window for one segment takes several small ones, too.
    let mut syn = seg(SYN, 1_000, 0).via(PEER_PORT + 41);
    syn.mss = Some(1_459);
    host.events.clear();
    let (small, first) = host.accept_with(&syn);
    for n in 0..5 {
        host.get(&seg(ACK, 1_001 + n * 100, first).text(&[n as u8; 100]).via(PEER_PORT + 41));
    }
    assert_eq!(host.read(small).len(), 500);
    assert_eq!(host.stack.ledger().discarded(DropReason::TcpMemory), 0);
    host.all();
    // Who reads what little it got is told at once that it may get more.
    let (id, _, window, first, mut next) = filled[39];
    assert!(window < 1_459);
    for _ in 0..3 {
        assert_eq!(host.read(id).len(), 1_459);
        assert!(host.expect().window > 1_459 >> 2);
        host.get(&seg(ACK, next, first).text(&[0; 1_459]).via(PEER_PORT + 40));
        host.all();
        next += 1_459;
    }
    // What another reads makes room, too, and a probe finds it out, before the window and at its edge.
    assert!(host.read(hoarder) == hoarded);
    host.all();
    for ((_, _, window, first, next), n, back) in [(filled[37], 38, 1), (filled[38], 39, 0)] {
        assert!(window < 1_459);
        host.wait_ms(200);
        host.get(&seg(ACK, next + window - back, first).text(b"x").via(PEER_PORT + n));
        let answer = host.expect();
        assert!(answer.window >= 1_459 >> 2, "{back}: {answer:?}");
        host.all();
    }
}

#[test]
fn a_syn_sent_again_takes_back_nothing_of_the_window() {
    let (mut host, _, first) = host_of_400_buffers();
    let mut syn = seg(SYN, 1_000, 0).via(PEER_PORT + 1);
    syn.mss = Some(1_460);
    host.get(&syn);
    let told = host.expect().window;
    fill_window(&mut host, first, &[1_460]);
    for n in 2..=20 {
        fill_another(&mut host, PEER_PORT + n);
    }
    host.get(&syn);
    assert_eq!(host.expect().window, told);
}

/// Sends what lies in a buffer; whether it was taken.
fn send_buffer(host: &mut Host, id: ConnectionId, text: &[u8]) -> bool {
    let mut buffer: VecBuffer = host.env.allocate().unwrap();
    buffer.append(text.len()).unwrap().copy_from_slice(text);
    match host.stack.tcp_send_buffer(id, buffer, &mut host.env) {
        Ok(()) => true,
        Err((TcpError::Blocked, Some(buffer))) => {
            host.env.release(buffer);
            false
        }
        Err(other) => panic!("{other:?}"),
    }
}

#[test]
fn who_finds_no_memory_to_write_with_nothing_in_flight_is_told_to_try_again() {
    let mut config = Config::default();
    config.tcp.buffers_max = 4;
    let mut host = Host::with(config);
    let (id, first) = host.accept();
    // All buffers there may be wait for the application.
    for n in 0..4 {
        host.get(&seg(ACK, 1_001 + n * 500, first).text(&[0; 500]));
    }
    host.all();
    host.events.clear();
    for _ in 0..2 {
        assert!(!send_buffer(&mut host, id, b"no"));
        assert_eq!((host.send(id, b"no"), host.events.len()), (0, 0));
        host.wait_ms(20);
        assert_eq!(host.events, [TcpEvent::Writable(id)]);
        host.events.clear();
    }
    host.read(id);
    assert!(send_buffer(&mut host, id, b"yes"));
    host.get(&seg(ACK, 3_001, first + 3));
    // The pool is empty.
    host.env.pool = 0;
    assert_eq!((host.send(id, b"no"), host.events.len()), (0, 0));
    host.wait_ms(20);
    assert_eq!(host.events, [TcpEvent::Writable(id)]);
    host.env.pool = usize::MAX;
    assert_eq!(host.send(id, b"yes"), 3);
    host.get(&seg(ACK, 3_001, first + 6));
    assert_eq!((host.events.len(), host.stack.poll_timeout()), (1, None), "told once, and no timer is left");
    host.all();
}

#[test]
fn a_connection_that_loses_its_text_for_want_of_a_buffer_keeps_none_that_comes_with_the_news() {
    let mut host = Host::new();
    host.env.buffer_len = 300;
    let (id, first) = host.accept();
    host.get(&seg(ACK, 1_001, first).text(b"recognized from here on"));
    host.read(id);
    host.send(id, &bytes(0, 2_000));
    host.all();
    // The second segment lies in several buffers, and is acknowledged up to the middle of one.
    host.env.pool = 0;
    let text = seg(ACK, 1_024, first + 1_500).text(b"too late");
    assert_eq!(host.refusal(&text), DropReason::TcpClosed);
    assert_eq!((host.closed(), host.stack.held()), (Some(CloseReason::TimedOut), 0));
    assert_eq!(host.state(id), "gone");
}
