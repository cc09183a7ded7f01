//! Window and pacing rate, from what the model says (§5.6).

use super::{Bbr3, INFINITE, Rs, State, UNITY};
use crate::tcp::congestion::{CWND_MAX, PER_SECOND};

/// §5.6.2: pace at 1 % less than the bandwidth.
const PACING_MARGIN_PERCENT: u64 = 1;

impl Bbr3 {
    // ---- volumes ------------------------------------------------------------------------------

    // §5.6.4.2. Gains are in hundredths.
    pub(super) fn bdp_multiple(&self, bw: u64, gain: u64) -> u64 {
        let Some(min_rtt) = self.min_rtt.get() else { return self.paced.initial_cwnd };
        let gained = u128::from(bw).saturating_mul(u128::from(gain)) / u128::from(UNITY);
        u64::try_from(gained.saturating_mul(min_rtt.as_nanos()) / PER_SECOND).unwrap_or(INFINITE)
    }

    pub(super) fn quantization_budget(&self, inflight: u64) -> u64 {
        let offload_budget = 3 * self.paced.send_quantum();
        let inflight = inflight.max(offload_budget).max(self.paced.min_pipe_cwnd());
        if self.state == State::Up { inflight.saturating_add(2 * self.paced.smss) } else { inflight }
    }

    pub(super) fn inflight(&self, bw: u64, gain: u64) -> u64 {
        self.quantization_budget(self.bdp_multiple(bw, gain))
    }

    pub(super) fn max_inflight(&self) -> u64 {
        let inflight = self.bdp_multiple(self.bw, self.state.cwnd_gain());
        self.quantization_budget(inflight.saturating_add(self.aggregation.extra_acked()))
    }

    // ---- control parameters -------------------------------------------------------------------

    // §5.6.2.
    pub(super) fn set_pacing_rate(&mut self, gain: u64) {
        let percent = u128::from(gain) * u128::from(UNITY - PACING_MARGIN_PERCENT);
        let rate = u128::from(self.bw) * percent / u128::from(UNITY * UNITY);
        let rate = u64::try_from(rate).unwrap_or(INFINITE);
        if self.full_pipe.reached || rate > self.paced.pacing_rate {
            self.paced.pacing_rate = rate.max(1);
        }
    }

    // §5.6.4.6.
    pub(super) fn set_cwnd(&mut self, rs: &Rs) {
        let max_inflight = self.max_inflight();
        let grown = self.paced.cwnd.saturating_add(rs.newly_acked);
        let delivered = self.paced.delivered_since_start();
        if self.full_pipe.reached {
            self.paced.cwnd = grown.min(max_inflight);
        } else if self.paced.cwnd < max_inflight || delivered < self.paced.initial_cwnd {
            self.paced.cwnd = grown;
        }
        self.paced.cwnd = self.paced.cwnd.max(self.paced.min_pipe_cwnd());
        self.bound_cwnd();
    }

    // §5.6.4.5, §5.6.4.7.
    pub(super) fn bound_cwnd(&mut self) {
        let cap = match self.state {
            State::ProbeRtt => self.probe_rtt_cwnd().min(self.inflight_with_headroom()),
            State::Cruise => self.inflight_with_headroom(),
            State::Down | State::Refill | State::Up => self.inflight_longterm,
            State::Startup | State::Drain => INFINITE,
        };
        let cap = cap.min(self.inflight_shortterm).max(self.paced.min_pipe_cwnd());
        self.paced.cwnd = self.paced.cwnd.min(cap).min(u64::from(CWND_MAX));
    }

    // §5.6.4.4: the last window that neither recovery nor ProbeRTT had cut.
    pub(super) fn save_cwnd(&mut self) {
        self.paced.save_cwnd(self.in_recovery || self.state == State::ProbeRtt);
    }
}
