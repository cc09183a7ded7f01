//! Reno (RFC 5681, RFC 6582), counting bytes and not acknowledgements (RFC 3465).

use alloc::boxed::Box;

use super::window::Window;
use super::{Ack, Congestion, CongestionControl, Control, Restart, Snapshot, Start, Timeout};
use crate::time::Instant;

/// For [`CONTROLS`](super::CONTROLS).
pub(super) const RENO: Control = Control {
    name: "reno",
    about: "halves on loss, one segment per round trip after (RFC 5681)",
    build: |start| Box::new(Reno::new(start)),
};

// RFC 3465 §2.2, §2.3: segments by which one acknowledgement may widen the window in slow start;
// after a time-out it is one.
const SLOW_START_LIMIT: u32 = 2;
const SLOW_START_LIMIT_AFTER_RTO: u32 = 1;

#[derive(Clone, Copy, Debug)]
pub struct Reno {
    window: Window,
    slow_start_limit: u32,
    // RFC 3465 §2.1: bytes acknowledged since the window last grew in congestion avoidance.
    bytes_acked: u32,
    /// Before the last reduction.
    undo: Option<Window>,
}

impl Reno {
    pub fn new(start: &Start) -> Self {
        Self { window: Window::new(start), slow_start_limit: SLOW_START_LIMIT, bytes_acked: 0, undo: None }
    }

    // RFC 5681 §3.1 equation (4).
    fn half_of(flight_size: u32) -> u32 {
        flight_size / 2
    }

    // RFC 5681 §3.1 with RFC 3465 §2.2: by what was acknowledged, up to a limit.
    fn slow_start(&mut self, delivered: u32) -> u32 {
        let limit = self.slow_start_limit.saturating_mul(self.window.smss);
        let left = self.window.grow_to_ssthresh(delivered.min(limit));
        if self.window.in_slow_start() { 0 } else { left }
    }

    // RFC 3465 §2.1: one segment for each window of data acknowledged.
    fn congestion_avoidance(&mut self, delivered: u32) {
        self.bytes_acked = self.bytes_acked.saturating_add(delivered);
        let cwnd = self.window.cwnd;
        let windows = self.bytes_acked / cwnd;
        self.bytes_acked -= windows * cwnd;
        self.window.grow(u64::from(windows) * u64::from(self.window.smss));
    }
}

impl CongestionControl for Reno {
    fn name(&self) -> &'static str {
        RENO.name
    }

    fn on_ack(&mut self, ack: &Ack) {
        if ack.in_recovery || !ack.cwnd_limited {
            return;
        }
        let mut delivered = ack.delivered;
        if self.window.in_slow_start() {
            delivered = self.slow_start(delivered);
        }
        if delivered > 0 {
            self.congestion_avoidance(delivered);
        }
    }

    fn on_congestion(&mut self, congestion: &Congestion) {
        if congestion.reduced_already {
            // What the mark took is no mistake.
            self.undo = None;
            return;
        }
        self.undo = Some(self.window);
        self.bytes_acked = 0;
        self.window.reduce_to(Self::half_of(congestion.flight_size));
    }

    fn on_rto(&mut self, timeout: &Timeout) {
        // RFC 5681 §3.1: the threshold stays when the same segment times out again.
        if timeout.backoff == 0 {
            self.undo = Some(self.window);
            self.window.reduce_to(Self::half_of(timeout.flight_size));
        }
        self.bytes_acked = 0;
        self.slow_start_limit = SLOW_START_LIMIT_AFTER_RTO;
        self.window.collapse();
    }

    fn on_recovered(&mut self, _now: Instant) {
        self.slow_start_limit = SLOW_START_LIMIT;
    }

    fn on_spurious(&mut self, _now: Instant) {
        self.slow_start_limit = SLOW_START_LIMIT;
        if let Some(before) = self.undo.take() {
            self.window.restore(&before);
        }
    }

    fn on_idle_restart(&mut self, restart: &Restart) {
        self.window.restart(restart);
    }

    fn on_smss(&mut self, smss: u32) {
        self.window.resize(smss);
    }

    fn wants_rate(&self) -> bool {
        false
    }

    fn cwnd(&self) -> u32 {
        self.window.cwnd
    }

    fn ssthresh(&self) -> u32 {
        self.window.ssthresh
    }

    fn snapshot(&self) -> Snapshot {
        Snapshot {
            name: RENO.name,
            phase: if self.window.in_slow_start() { "slow-start" } else { "congestion-avoidance" },
            cwnd: self.window.cwnd,
            ssthresh: self.window.ssthresh_finite(),
            pacing_rate: None,
            bandwidth: None,
        }
    }
}
