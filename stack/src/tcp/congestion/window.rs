//! The window of RFC 5681, which Reno and CUBIC move each in its way.

use super::{CWND_MAX, Restart, SSTHRESH_INFINITE, Start, initial_window};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Window {
    pub(super) smss: u32,
    pub(super) cwnd: u32,
    pub(super) ssthresh: u32,
}

impl Window {
    pub(super) fn new(start: &Start) -> Self {
        let smss = start.smss.clamp(1, CWND_MAX);
        Self { smss, cwnd: start.cwnd.clamp(smss, CWND_MAX), ssthresh: start.ssthresh.max(smss.saturating_mul(2)) }
    }

    // RFC 5681 §3.1: either will do where they are equal; a window that was cut to the threshold is
    // in congestion avoidance.
    pub(super) fn in_slow_start(&self) -> bool {
        self.cwnd < self.ssthresh
    }

    pub(super) fn grow(&mut self, by: u64) {
        let cwnd = u64::from(self.cwnd).saturating_add(by).min(u64::from(CWND_MAX));
        self.cwnd = u32::try_from(cwnd).unwrap_or(CWND_MAX);
    }

    /// Grows by `by` bytes, but not over the threshold; returns what was too much.
    pub(super) fn grow_to_ssthresh(&mut self, by: u32) -> u32 {
        let now = by.min(self.ssthresh.saturating_sub(self.cwnd));
        self.grow(u64::from(now));
        by - now
    }

    /// Congestion: the threshold, and the window with it, become `to` bytes.
    // RFC 5681 §3.1 equation (4): at least two segments.
    pub(super) fn reduce_to(&mut self, to: u32) {
        self.ssthresh = to.max(self.smss.saturating_mul(2));
        self.cwnd = self.cwnd.min(self.ssthresh).max(self.smss);
    }

    // RFC 5681 §3.1: after a time-out the window is one segment (LW).
    pub(super) fn collapse(&mut self) {
        self.cwnd = self.smss;
    }

    // RFC 5681 §4.1: after an idle time longer than the RTO start from RW = min(IW, cwnd).
    pub(super) fn restart(&mut self, restart: &Restart) {
        if restart.idle_ns > restart.rto_ns {
            self.cwnd = self.cwnd.min(initial_window(self.smss)).max(self.smss);
        }
    }

    pub(super) fn resize(&mut self, smss: u32) {
        self.smss = smss.clamp(1, CWND_MAX);
        self.cwnd = self.cwnd.max(self.smss);
        self.ssthresh = self.ssthresh.max(self.smss.saturating_mul(2));
    }

    /// Takes back a reduction. What has grown since stays.
    pub(super) fn restore(&mut self, before: &Self) {
        self.cwnd = self.cwnd.max(before.cwnd);
        self.ssthresh = self.ssthresh.max(before.ssthresh);
    }

    /// For a snapshot.
    pub(super) fn ssthresh_finite(&self) -> Option<u32> {
        (self.ssthresh != SSTHRESH_INFINITE).then_some(self.ssthresh)
    }
}
