//! What connections tell about themselves, one by one and as a list.

use std::time::Duration;

use tailwater_stack::tcp::State;

use crate::pair::{Faults, Net, PORT, Transfer};

#[test]
fn a_snapshot_tells_what_arrived_what_is_due_and_who_opened() {
    let mut net = Net::new(1, Faults::NONE);
    let client = net.connect(false);
    net.run(Duration::from_secs(1));
    let now = net.now;
    let server = net.stacks[1].tcp_connections(now).next().unwrap();
    let snapshot = net.stacks[0].tcp_snapshot(client, now).unwrap();
    assert_eq!((snapshot.passive, server.passive, server.state), (false, true, State::Established));
    assert_eq!((snapshot.received, snapshot.timer, snapshot.backoff), (0, None, 0));
    let env = &mut net.envs[0];
    env.now = now;
    assert_eq!(net.stacks[0].tcp_send(client, &[7; 10_000], env), Ok(10_000));
    let snapshot = net.stacks[0].tcp_snapshot(client, now).unwrap();
    assert_eq!((snapshot.delivered, snapshot.since_sent), (0, Duration::ZERO));
    assert!(matches!(snapshot.timer, Some(("loss-probe" | "retransmit", _))), "{:?}", snapshot.timer);
    net.run(Duration::from_secs(2));
    let now = net.now;
    let server = net.stacks[1].tcp_connections(now).next().unwrap();
    assert_eq!((server.received, server.receive_queue), (10_000, 10_000));
    let snapshot = net.stacks[0].tcp_snapshot(client, now).unwrap();
    assert_eq!((snapshot.delivered, snapshot.lost_total), (10_000, 0));
    assert!(snapshot.since_sent >= Duration::from_secs(1) && snapshot.since_heard >= Duration::from_secs(1));
}

#[test]
fn received_bytes_do_not_count_the_end() {
    let mut net = Net::new(1, Faults::NONE);
    let client = net.connect(true);
    let outcome = Transfer::new(client, [1_234, 0]).run(&mut net, Duration::from_secs(60));
    assert_eq!(outcome.received, [0, 1_234]);
    let lingering: Vec<_> = net.stacks.iter().flat_map(|stack| stack.tcp_connections(net.now)).collect();
    let [one] = lingering.as_slice() else { panic!("{lingering:?}") };
    assert_eq!((one.state, one.orphan), (State::TimeWait, true));
    let sent = if one.passive { 1_234 } else { 0 };
    assert_eq!(one.received, sent, "{one:?}");
}

#[test]
fn the_list_can_be_taken_in_parts_of_which_each_connection_is_in_one() {
    let mut net = Net::new(1, Faults::NONE);
    let clients: Vec<_> = (0..10).map(|n| net.connect(n % 2 == 0)).collect();
    net.run(Duration::from_secs(1));
    let (stack, now) = (&net.stacks[0], net.now);
    assert_eq!(stack.tcp_places(), clients.len());
    let part = |from: usize| stack.tcp_connections_at(from..from + 3, now, |_, _, _| true).collect::<Vec<_>>();
    let listed: Vec<_> = (0..12).step_by(3).flat_map(part).collect();
    assert_eq!(listed.iter().map(|one| one.id).collect::<Vec<_>>(), clients);
    assert!(listed.iter().enumerate().all(|(place, one)| one.id.place() == place));
    let all = 0..stack.tcp_places();
    assert_eq!(stack.tcp_connections_at(all.clone(), now, |_, _, remote| remote.port() == PORT).count(), 10);
    assert_eq!(stack.tcp_connections_at(all.clone(), now, |_, local, _| local.is_ipv6()).count(), 5);
    assert_eq!(stack.tcp_connections_at(all, now, |state, _, _| state != State::Established).count(), 0);
}
