//! Window and pacing rate as both versions of BBR keep them, beside the model that moves them.

use core::time::Duration;

use super::{CWND_MAX, PER_SECOND, Start};

/// Segments that keep a path busy whose receiver acknowledges every second one (version 3, §2.8).
const MIN_PIPE_SEGMENTS: u64 = 4;
/// Bytes that leave together at most (version 3, §5.6.3).
const SEND_QUANTUM_MAX: u64 = 64 * 1024;

#[derive(Clone, Copy, Debug)]
pub(super) struct Paced {
    pub(super) smss: u64,
    pub(super) initial_cwnd: u64,
    /// `C.delivered`, as last heard.
    pub(super) delivered: u64,
    pub(super) delivered_at_start: u64,
    pub(super) cwnd: u64,
    pub(super) prior_cwnd: u64,
    /// In bytes a second.
    pub(super) pacing_rate: u64,
    /// Of the bandwidth that the window and the round trip make: before that is known. In hundredths.
    startup_gain: u64,
    rtt_seen: bool,
}

impl Paced {
    pub(super) fn new(start: &Start, startup_gain: u64) -> Self {
        let smss = u64::from(start.smss.clamp(1, CWND_MAX));
        let cwnd = u64::from(start.cwnd.min(CWND_MAX)).max(smss);
        let mut paced = Self {
            smss,
            initial_cwnd: cwnd,
            delivered: start.delivered,
            delivered_at_start: start.delivered,
            cwnd,
            prior_cwnd: 0,
            pacing_rate: 0,
            startup_gain,
            rtt_seen: start.srtt.is_some(),
        };
        paced.start_pacing(start.srtt);
        paced
    }

    fn start_pacing(&mut self, srtt: Option<Duration>) {
        let srtt = srtt.filter(|srtt| !srtt.is_zero()).unwrap_or(Duration::from_millis(1));
        let rate = u128::from(self.initial_cwnd) * PER_SECOND * u128::from(self.startup_gain) / 100 / srtt.as_nanos();
        self.pacing_rate = u64::try_from(rate).unwrap_or(u64::MAX).max(1);
    }

    /// Once there is a round-trip time.
    pub(super) fn init_pacing_rate(&mut self, srtt: Option<Duration>) {
        if srtt.is_some() && !self.rtt_seen {
            self.rtt_seen = true;
            self.start_pacing(srtt);
        }
    }

    pub(super) fn min_pipe_cwnd(&self) -> u64 {
        MIN_PIPE_SEGMENTS * self.smss
    }

    pub(super) fn send_quantum(&self) -> u64 {
        (self.pacing_rate / 1_000).min(SEND_QUANTUM_MAX).max(2 * self.smss)
    }

    pub(super) fn delivered_since_start(&self) -> u64 {
        self.delivered.saturating_sub(self.delivered_at_start)
    }

    /// Keeps the last window that neither recovery nor ProbeRTT had cut; `cut`: one of them has.
    pub(super) fn save_cwnd(&mut self, cut: bool) {
        self.prior_cwnd = if cut { self.prior_cwnd.max(self.cwnd) } else { self.cwnd };
    }

    pub(super) fn restore_cwnd(&mut self) {
        self.cwnd = self.cwnd.max(self.prior_cwnd);
    }

    pub(super) fn resize(&mut self, smss: u32) {
        self.smss = u64::from(smss.clamp(1, CWND_MAX));
        self.cwnd = self.cwnd.max(self.smss);
    }

    pub(super) fn cwnd(&self) -> u32 {
        u32::try_from(self.cwnd).unwrap_or(CWND_MAX)
    }
}
