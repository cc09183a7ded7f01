//! What BBR knows of the path: filters over delivery rates and round-trip times (§4.1), and whether the pipe is full.

use core::time::Duration;

use crate::time::Instant;

/// §4.1.1.4: round trips that a bandwidth is remembered.
const BTLBW_FILTER_ROUNDS: usize = 10;
/// §4.1.2.3.
const RTPROP_FILTER_LEN: Duration = Duration::from_secs(10);
/// §4.3.2.2: growth below a quarter in this many rounds is a plateau.
const FULL_PIPE_ROUNDS: u32 = 3;

/// §4.1.1: largest delivery rate of the last round trips, in bytes per second; one place for each round.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct BtlBw {
    rounds: [u64; BTLBW_FILTER_ROUNDS],
    /// Place of the present round.
    at: usize,
}

impl BtlBw {
    pub(super) fn get(&self) -> u64 {
        self.rounds.iter().copied().max().unwrap_or(0)
    }

    /// The oldest round is forgotten, unless nothing would be left: then what it said holds on.
    pub(super) fn begin_round(&mut self) {
        self.at = (self.at + 1) % BTLBW_FILTER_ROUNDS;
        let oldest = core::mem::take(&mut self.rounds[self.at]);
        if self.get() == 0 {
            self.rounds[self.at] = oldest;
        }
    }

    // §4.1.1.5: what the application limits counts only if it shows more.
    pub(super) fn update(&mut self, rate: u64, app_limited: bool) {
        if !app_limited || rate >= self.get() {
            let best = &mut self.rounds[self.at];
            *best = rate.max(*best);
        }
    }
}

/// §4.1.2: least round-trip time of 10 s.
#[derive(Clone, Copy, Debug)]
pub(super) struct RtProp {
    rtprop: Option<Duration>,
    stamp: Instant,
    /// Nothing as short was seen for that long.
    pub(super) expired: bool,
}

impl RtProp {
    pub(super) fn new(rtprop: Option<Duration>, now: Instant) -> Self {
        Self { rtprop, stamp: now, expired: false }
    }

    pub(super) fn get(&self) -> Option<Duration> {
        self.rtprop
    }

    // §4.1.2.3.
    pub(super) fn update(&mut self, now: Instant, rtt: Option<Duration>) {
        self.expired = now > self.stamp + RTPROP_FILTER_LEN;
        if let Some(rtt) = rtt
            && (self.expired || self.rtprop.is_none_or(|rtprop| rtt <= rtprop))
        {
            self.rtprop = Some(rtt);
            self.stamp = now;
        }
    }

    /// It was looked for, so it holds from now on.
    pub(super) fn renew(&mut self, now: Instant) {
        self.stamp = now;
    }
}

/// §4.3.2.2: has accelerating stopped to help?
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct FullPipe {
    pub(super) filled: bool,
    bw: u64,
    count: u32,
}

impl FullPipe {
    /// Looks anew, from the rate `bw` on.
    pub(super) fn restart(&mut self, bw: u64) {
        *self = Self { filled: self.filled, bw, count: 0 };
    }

    /// A round trip that the application did not limit has ended, with `btlbw` bytes per second as the most so far.
    pub(super) fn check(&mut self, btlbw: u64) {
        if self.filled {
            return;
        }
        if u128::from(btlbw) >= u128::from(self.bw) * 5 / 4 {
            return self.restart(btlbw);
        }
        self.count += 1;
        self.filled = self.count >= FULL_PIPE_ROUNDS;
    }
}
