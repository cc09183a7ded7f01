//! Window and pacing rate, from what the model says (§4.2).

use super::{Bbr, State, UNITY};
use crate::tcp::congestion::{Ack, CWND_MAX, PER_SECOND};

impl Bbr {
    // §4.2.1.
    pub(super) fn set_pacing_rate(&mut self, gain: u64) {
        let rate = u128::from(self.btlbw.get()) * u128::from(gain) / u128::from(UNITY);
        let rate = u64::try_from(rate).unwrap_or(u64::MAX);
        if rate > 0 && (self.full_pipe.filled || rate > self.paced.pacing_rate) {
            self.paced.pacing_rate = rate;
        }
    }

    // §4.2.3.2: that share of the bandwidth-delay product, and what is under way in the hosts.
    pub(super) fn inflight(&self, gain: u64) -> u64 {
        let Some(rtprop) = self.rtprop.get() else { return self.paced.initial_cwnd };
        let gained = u128::from(self.btlbw.get()).saturating_mul(u128::from(gain)) / u128::from(UNITY);
        let volume = u64::try_from(gained.saturating_mul(rtprop.as_nanos()) / PER_SECOND).unwrap_or(u64::MAX);
        volume.saturating_add(3 * self.paced.send_quantum())
    }

    // §4.2.3.6.
    pub(super) fn set_cwnd(&mut self, ack: &Ack) {
        let delivered = u64::from(ack.delivered);
        self.modulate_cwnd_for_recovery(ack);
        if !self.packet_conservation {
            let target_cwnd = self.inflight(self.cwnd_gain()).saturating_add(self.aggregation.extra_acked());
            let grown = self.paced.cwnd.saturating_add(delivered);
            if self.full_pipe.filled {
                self.paced.cwnd = grown.min(target_cwnd);
            } else if self.paced.cwnd < target_cwnd || self.paced.delivered_since_start() < self.paced.initial_cwnd {
                self.paced.cwnd = grown;
            }
            self.paced.cwnd = self.paced.cwnd.max(self.paced.min_pipe_cwnd());
        }
        self.bound_cwnd();
    }

    // §4.2.3.4: sends no more than arrives for the first round trip, and what is lost goes off.
    pub(super) fn modulate_cwnd_for_recovery(&mut self, ack: &Ack) {
        self.paced.cwnd = self.paced.cwnd.saturating_sub(self.lost).max(self.paced.smss);
        if self.packet_conservation {
            self.paced.cwnd = self.paced.cwnd.max(u64::from(ack.in_flight).saturating_add(ack.delivered.into()));
        }
    }

    // §4.2.3.5.
    pub(super) fn bound_cwnd(&mut self) {
        let max = if self.state == State::ProbeRtt { self.paced.min_pipe_cwnd() } else { u64::MAX };
        self.paced.cwnd = self.paced.cwnd.min(max).min(CWND_MAX.into()).max(self.paced.smss);
    }

    // §4.2.3.4: the last window that neither recovery nor ProbeRTT had cut.
    pub(super) fn save_cwnd(&mut self) {
        self.paced.save_cwnd(self.in_recovery || self.state == State::ProbeRtt);
    }

    pub(super) fn leave_recovery(&mut self) {
        self.in_recovery = false;
        self.packet_conservation = false;
        self.paced.restore_cwnd();
        self.bound_cwnd();
    }
}
