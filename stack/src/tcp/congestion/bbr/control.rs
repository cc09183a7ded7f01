//! Window and pacing rate, from what the model says (§4.2).

use core::time::Duration;

use super::{Bbr, HIGH_GAIN, State, UNITY};
use crate::tcp::congestion::{Ack, CWND_MAX, PER_SECOND};

/// §4.2.3.3.
const MIN_PIPE_SEGMENTS: u64 = 4;
/// §4.2.2: bytes that leave together at most.
const SEND_QUANTUM_MAX: u64 = 64 * 1024;

impl Bbr {
    // §4.2.1.
    pub(super) fn set_pacing_rate(&mut self, gain: u64) {
        let rate = u128::from(self.btlbw.get()) * u128::from(gain) / u128::from(UNITY);
        let rate = u64::try_from(rate).unwrap_or(u64::MAX);
        if rate > 0 && (self.full_pipe.filled || rate > self.pacing_rate) {
            self.pacing_rate = rate;
        }
    }

    pub(super) fn init_pacing_rate(&mut self, srtt: Option<Duration>) {
        if srtt.is_some() && !self.rtt_seen {
            self.rtt_seen = true;
            self.pacing_rate = startup_rate(self.initial_cwnd, srtt);
        }
    }

    pub(super) fn min_pipe_cwnd(&self) -> u64 {
        MIN_PIPE_SEGMENTS * self.smss
    }

    // §4.2.2.
    pub(super) fn send_quantum(&self) -> u64 {
        (self.pacing_rate / 1_000).min(SEND_QUANTUM_MAX).max(2 * self.smss)
    }

    // §4.2.3.2: that share of the bandwidth-delay product, and what is under way in the hosts.
    pub(super) fn inflight(&self, gain: u64) -> u64 {
        let Some(rtprop) = self.rtprop.get() else { return self.initial_cwnd };
        let gained = u128::from(self.btlbw.get()).saturating_mul(u128::from(gain)) / u128::from(UNITY);
        let volume = u64::try_from(gained.saturating_mul(rtprop.as_nanos()) / PER_SECOND).unwrap_or(u64::MAX);
        volume.saturating_add(3 * self.send_quantum())
    }

    // §4.2.3.6.
    pub(super) fn set_cwnd(&mut self, ack: &Ack) {
        let delivered = u64::from(ack.delivered);
        self.modulate_cwnd_for_recovery(ack);
        if !self.packet_conservation {
            let target_cwnd = self.inflight(self.cwnd_gain()).saturating_add(self.aggregation.extra_acked());
            let grown = self.cwnd.saturating_add(delivered);
            if self.full_pipe.filled {
                self.cwnd = grown.min(target_cwnd);
            } else if self.cwnd < target_cwnd
                || self.delivered.saturating_sub(self.delivered_at_start) < self.initial_cwnd
            {
                self.cwnd = grown;
            }
            self.cwnd = self.cwnd.max(self.min_pipe_cwnd());
        }
        self.bound_cwnd();
    }

    // §4.2.3.4: sends no more than arrives for the first round trip, and what is lost goes off.
    pub(super) fn modulate_cwnd_for_recovery(&mut self, ack: &Ack) {
        self.cwnd = self.cwnd.saturating_sub(self.lost).max(self.smss);
        if self.packet_conservation {
            self.cwnd = self.cwnd.max(u64::from(ack.in_flight).saturating_add(ack.delivered.into()));
        }
    }

    // §4.2.3.5.
    pub(super) fn bound_cwnd(&mut self) {
        let max = if self.state == State::ProbeRtt { self.min_pipe_cwnd() } else { u64::MAX };
        self.cwnd = self.cwnd.min(max).min(CWND_MAX.into()).max(self.smss);
    }

    // §4.2.3.4: the last window that neither recovery nor ProbeRTT had cut.
    pub(super) fn save_cwnd(&mut self) {
        let cut = self.in_recovery || self.state == State::ProbeRtt;
        self.prior_cwnd = if cut { self.prior_cwnd.max(self.cwnd) } else { self.cwnd };
    }

    pub(super) fn restore_cwnd(&mut self) {
        self.cwnd = self.cwnd.max(self.prior_cwnd);
    }

    pub(super) fn leave_recovery(&mut self) {
        self.in_recovery = false;
        self.packet_conservation = false;
        self.restore_cwnd();
        self.bound_cwnd();
    }
}

/// Pacing rate before bandwidth is known (§4.2.1).
pub(super) fn startup_rate(cwnd: u64, srtt: Option<Duration>) -> u64 {
    let srtt = srtt.filter(|srtt| !srtt.is_zero()).unwrap_or(Duration::from_millis(1));
    let rate = u128::from(cwnd) * PER_SECOND * u128::from(HIGH_GAIN) / u128::from(UNITY) / srtt.as_nanos();
    u64::try_from(rate).unwrap_or(u64::MAX).max(1)
}
