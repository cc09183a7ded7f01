//! Marks in sequence space that lie far behind.

use core::net::Ipv4Addr;

use super::*;
use crate::tcp::prediction::Heard;
use crate::tcp::send_queue::SendQueue;
use crate::tcp::{Connect, ConnectionId, Listen};
use crate::testing::{Cable, VecBuffer, mac};
use crate::{Cidr, Config, InterfaceConfig, Stack};

/// A connection from the first to the second of two hosts, without SACK.
struct Pair {
    stacks: [Stack<VecBuffer>; 2],
    cable: Cable,
    id: ConnectionId,
}

impl Pair {
    fn new() -> Self {
        let mut config = Config::default();
        (config.tcp.connection.sack, config.tcp.connection.timestamps) = (false, false);
        let mut stacks = [1, 2].map(|n| {
            let mut stack = Stack::new(config, n.into());
            let port = stack.add_interface(InterfaceConfig::exclusive(mac(n), 1500));
            stack.add_address(port, Cidr::new(Ipv4Addr::new(192, 0, 2, n), 24).unwrap()).unwrap();
            stack
        });
        let mut cable = Cable::new();
        cable.advance(Duration::from_secs(1));
        stacks[1].tcp_listen("0.0.0.0:7".parse().unwrap(), Listen::default()).unwrap();
        let connect = Connect::to("192.0.2.2:7".parse().unwrap());
        let id = stacks[0].tcp_connect(connect, |_| true, cable.end(0)).unwrap();
        cable.run(&mut stacks);
        Self { stacks, cable, id }
    }

    fn sender(&mut self) -> &mut Tcb<VecBuffer> {
        self.stacks[0].tcp.table.get_mut(self.id).unwrap()
    }

    fn send(&mut self, n: usize) {
        assert_eq!(self.stacks[0].tcp_send(self.id, &[7; 20_000][..n], self.cable.end(0)), Ok(n));
    }

    fn deliver(&mut self) {
        self.cable.run(&mut self.stacks);
    }

    /// As if `n` bytes had been sent, and acknowledged at once; nothing is in flight.
    fn jump(&mut self, n: u32) {
        let sender = self.sender();
        assert_eq!(sender.flight_size(), 0);
        for mark in [&mut sender.snd_nxt, &mut sender.snd_wl2] {
            *mark += n;
        }
        sender.advance_una(sender.snd_nxt);
        sender.queue = SendQueue::new(sender.snd_nxt);
        let receiver = self.stacks[1].tcp.table.peek_mut(0).unwrap();
        for mark in [&mut receiver.rcv_nxt, &mut receiver.rcv_adv, &mut receiver.last_ack_sent] {
            *mark += n;
        }
        receiver.snd_wl1 += n;
    }
}

#[test]
fn marks_that_nothing_refreshes_do_not_lie_ahead_after_2_gibibytes_rfc9293_s3_4() {
    for gibibytes in 1..=5 {
        let mut pair = Pair::new();
        let full = pair.sender().smss as usize;
        pair.send(full);
        pair.deliver();
        let now = pair.cable.end(0).now;
        pair.sender().on_ecn_echo(now);
        // Full segments only, without a mark or a loss.
        for _ in 0..gibibytes {
            pair.jump(1 << 30);
            pair.send(full);
            pair.deliver();
        }
        // Nagle: no small segment is in flight.
        pair.send(10);
        assert_eq!(pair.cable.end(0).transmitted.len(), 1, "after {gibibytes} GiB");
        pair.deliver();
        // The first of five is lost, and found to be so without SACK.
        pair.send(5 * full);
        pair.cable.end(0).transmitted.pop_front().unwrap();
        pair.deliver();
        assert_eq!(pair.sender().flight_size(), 0, "after {gibibytes} GiB");
        assert_eq!(pair.stacks[0].tcp_counters().recoveries, 1);
    }
}

#[test]
fn a_mark_slows_down_however_long_ago_the_last_one_was_rfc3168_s6_1_2() {
    for gibibytes in 1..=5 {
        let mut pair = Pair::new();
        let (full, now) = (pair.sender().smss as usize, pair.cable.end(0).now);
        pair.sender().on_ecn_echo(now);
        for _ in 0..gibibytes {
            pair.jump(1 << 30);
            pair.send(full);
            pair.deliver();
        }
        let before = pair.sender().congestion.cwnd();
        pair.sender().on_ecn_echo(now);
        assert!(pair.sender().congestion.cwnd() < before, "after {gibibytes} GiB");
    }
}

#[test]
fn what_was_heard_is_forgotten_before_its_epoch_comes_again() {
    let mut pair = Pair::new();
    let full = pair.sender().smss as usize;
    pair.send(full);
    pair.deliver();
    assert_ne!(pair.sender().heard, Heard::default());
    for _ in 0..u16::MAX {
        pair.stacks[0].tcp.forget_recognized();
    }
    assert_eq!(pair.sender().heard, Heard::default());
}
