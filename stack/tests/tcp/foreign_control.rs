//! A congestion control that is none of the stack's.

use tailwater_stack::tcp::ConnectionId;
use tailwater_stack::tcp::congestion::{
    Ack, Congestion, CongestionControl, Control, Restart, SSTHRESH_INFINITE, Snapshot, Timeout, control,
};
use tailwater_stack::{Config, Instant};

use crate::script::*;

const SEGMENTS: u32 = 3;

/// So many segments are in flight, whatever happens.
static FIXED: Control =
    Control { name: "fixed", about: "three segments", build: |start| Box::new(Fixed { smss: start.smss, acked: 0 }) };

#[derive(Debug)]
struct Fixed {
    smss: u32,
    acked: u32,
}

impl CongestionControl for Fixed {
    fn name(&self) -> &'static str {
        FIXED.name
    }

    fn on_ack(&mut self, ack: &Ack) {
        self.acked += ack.acked;
    }

    fn on_congestion(&mut self, _: &Congestion) {}

    fn on_rto(&mut self, _: &Timeout) {}

    fn on_spurious(&mut self, _: Instant) {}

    fn on_idle_restart(&mut self, _: &Restart) {}

    fn on_smss(&mut self, smss: u32) {
        self.smss = smss;
    }

    fn wants_rate(&self) -> bool {
        false
    }

    fn cwnd(&self) -> u32 {
        SEGMENTS * self.smss
    }

    fn ssthresh(&self) -> u32 {
        SSTHRESH_INFINITE
    }

    fn snapshot(&self) -> Snapshot {
        Snapshot {
            name: self.name(),
            phase: if self.acked > 0 { "under way" } else { "new" },
            cwnd: self.cwnd(),
            ssthresh: None,
            pacing_rate: None,
            bandwidth: None,
        }
    }
}

fn congestion(host: &Host, id: ConnectionId) -> Snapshot {
    host.stack.tcp_snapshot(id, host.env.now).unwrap().congestion
}

/// Everything is acknowledged again and again; what leaves each time, in segments.
fn rounds(host: &mut Host, first: u32, sent: &mut u32, count: usize) -> Vec<usize> {
    let round = |_| {
        host.wait_ms(20);
        host.get(&seg(ACK, 1_001, first + *sent));
        let segments = host.all();
        *sent += segments.iter().map(|segment| segment.text.len() as u32).sum::<u32>();
        segments.len()
    };
    (0..count).map(round).collect()
}

#[test]
fn a_control_from_outside_is_chosen_drives_the_window_and_is_exchanged_on_a_live_connection() {
    let mut config = Config::default();
    config.tcp.connection.congestion_control = &FIXED;
    let mut host = Host::with(config);
    let (id, first) = host.accept();
    assert_eq!((congestion(&host, id).name, congestion(&host, id).phase), ("fixed", "new"));
    assert_eq!(host.send(id, &bytes(0, 200_000)), 200_000);
    let mut sent = host.all().len() as u32 * 1_000;
    assert_eq!(sent, 3_000, "not the ten segments of others");
    assert_eq!(rounds(&mut host, first, &mut sent, 4), [3; 4]);
    assert_eq!(congestion(&host, id).phase, "under way");
    // Another goes on with its window, and lets it grow.
    host.stack.tcp_set_congestion_control(id, control("reno").unwrap(), &mut host.env).unwrap();
    assert_eq!((congestion(&host, id).name, congestion(&host, id).cwnd), ("reno", 3_000));
    let grown = rounds(&mut host, first, &mut sent, 3);
    assert!(grown.is_sorted() && grown[2] > 6, "{grown:?}");
    // And back, with more in flight than it allows.
    host.stack.tcp_set_congestion_control(id, &FIXED, &mut host.env).unwrap();
    assert_eq!((congestion(&host, id).name, congestion(&host, id).cwnd), ("fixed", 3_000));
    host.get(&seg(ACK, 1_001, first + sent - 3_000));
    host.expect_nothing();
    assert_eq!(rounds(&mut host, first, &mut sent, 3), [3; 3]);
    // A time-out is the connection's to notice; the window stays.
    host.wait_ms(2_000);
    assert_eq!(host.all()[0].seq, first + sent - 3_000, "sent again");
    assert_eq!(congestion(&host, id).cwnd, 3_000);
}
