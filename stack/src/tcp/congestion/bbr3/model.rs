//! What BBR knows of the path: filters over delivery rates, round-trip times and aggregation.

use core::time::Duration;

use super::Rs;
use crate::time::Instant;

/// §5.3.1.2: growth below a quarter in this many rounds is a plateau.
const FULL_BW_ROUNDS: u32 = 3;
/// §2.16.1.
const MIN_RTT_FILTER_LEN: Duration = Duration::from_secs(10);
/// §2.16.2.
const PROBE_RTT_INTERVAL: Duration = Duration::from_secs(5);

/// §5.5.3: largest delivery rate of this and the last bandwidth-probing cycle, in bytes per second.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct MaxBandwidth {
    last_cycle: u64,
    this_cycle: u64,
}

impl MaxBandwidth {
    pub(super) fn get(&self) -> u64 {
        self.last_cycle.max(self.this_cycle)
    }

    pub(super) fn update(&mut self, rate: u64) {
        self.this_cycle = self.this_cycle.max(rate);
    }

    /// §5.5.6. A cycle without samples leaves what is known.
    pub(super) fn advance(&mut self) {
        if self.this_cycle > 0 {
            self.last_cycle = self.this_cycle;
            self.this_cycle = 0;
        }
    }
}

/// §5.3.1.2: has accelerating stopped to help?
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct FullPipe {
    /// Ever.
    pub(super) reached: bool,
    /// Since the last [`reset`](Self::reset).
    pub(super) now: bool,
    bw: u64,
    count: u32,
}

impl FullPipe {
    /// Looks anew, from the rate `bw` on.
    pub(super) fn reset(&mut self, bw: u64) {
        *self = Self { reached: self.reached, now: false, bw, count: 0 };
    }

    pub(super) fn check(&mut self, rs: &Rs, round_start: bool) {
        if self.now || !round_start || rs.app_limited {
            return;
        }
        let goal = u128::from(self.bw) * 5 / 4;
        if u128::from(rs.delivery_rate) >= goal {
            self.reset(rs.delivery_rate);
            return;
        }
        self.count += 1;
        self.now = self.count >= FULL_BW_ROUNDS;
        self.reached |= self.now;
    }
}

/// §5.3.4.3: the least round-trip time of 10 s, and of the 5 s that schedule ProbeRTT.
#[derive(Clone, Copy, Debug)]
pub(super) struct MinRtt {
    min_rtt: Option<Duration>,
    min_rtt_stamp: Instant,
    probe_rtt_min_delay: Option<Duration>,
    pub(super) probe_rtt_min_stamp: Instant,
    pub(super) probe_rtt_expired: bool,
}

impl MinRtt {
    pub(super) fn new(min_rtt: Option<Duration>, now: Instant) -> Self {
        Self {
            min_rtt,
            min_rtt_stamp: now,
            probe_rtt_min_delay: None,
            probe_rtt_min_stamp: now,
            probe_rtt_expired: false,
        }
    }

    pub(super) fn get(&self) -> Option<Duration> {
        self.min_rtt
    }

    pub(super) fn update(&mut self, rs: &Rs) {
        self.probe_rtt_expired = rs.now > self.probe_rtt_min_stamp + PROBE_RTT_INTERVAL;
        if let Some(rtt) = rs.rtt
            && (self.probe_rtt_expired || self.probe_rtt_min_delay.is_none_or(|min| rtt < min))
        {
            self.probe_rtt_min_delay = Some(rtt);
            self.probe_rtt_min_stamp = rs.now;
        }
        let expired = rs.now > self.min_rtt_stamp + MIN_RTT_FILTER_LEN;
        if let Some(delay) = self.probe_rtt_min_delay
            && (expired || self.min_rtt.is_none_or(|min| delay < min))
        {
            self.min_rtt = Some(delay);
            self.min_rtt_stamp = self.probe_rtt_min_stamp;
        }
    }
}
