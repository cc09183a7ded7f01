//! What loss does to the model (§5.5.10), and how a mistake is undone (§5.5.11).

use super::{Bbr3, INFINITE, Rs, State};
use crate::tcp::congestion::{Congestion, Lost};
use crate::time::Instant;

/// §2.8: loss is too high above 1 byte of 50 in flight (2 %).
const LOSS_THRESH_DIVISOR: u64 = 50;
/// §2.8: the reduction per round trip with loss, as a fraction.
const BETA: (u64, u64) = (7, 10);
/// §5.3.1.3: separate ranges lost in one round that end Startup.
const STARTUP_FULL_LOSS_COUNT: u32 = 6;

/// §2.10, and what a spurious recovery restores (§2.15).
#[derive(Clone, Copy, Debug)]
pub(super) struct LossSignals {
    is_loss_in_round: bool,
    is_mark_in_round: bool,
    loss_round_start: bool,
    loss_round_delivered: u64,
    ranges_in_round: u32,
    /// Largest rate and volume delivered in this round.
    bw_latest: u64,
    inflight_latest: u64,
    undo_state: Option<State>,
    undo_bw_shortterm: u64,
    undo_inflight_shortterm: u64,
    undo_inflight_longterm: u64,
}

impl LossSignals {
    pub(super) fn new(delivered: u64) -> Self {
        Self {
            is_loss_in_round: false,
            is_mark_in_round: false,
            loss_round_start: false,
            loss_round_delivered: delivered,
            ranges_in_round: 0,
            bw_latest: 0,
            inflight_latest: 0,
            undo_state: None,
            undo_bw_shortterm: 0,
            undo_inflight_shortterm: 0,
            undo_inflight_longterm: 0,
        }
    }

    /// `ResetCongestionSignals`.
    pub(super) fn reset(&mut self) {
        self.is_loss_in_round = false;
        self.is_mark_in_round = false;
        self.bw_latest = 0;
        self.inflight_latest = 0;
    }
}

/// Whether more than 2 % of what was in flight got lost.
pub(super) fn is_inflight_too_high(lost: u64, tx_in_flight: u64) -> bool {
    lost > tx_in_flight / LOSS_THRESH_DIVISOR
}

fn reduced(value: u64) -> u64 {
    if value == INFINITE { INFINITE } else { value / BETA.1 * BETA.0 + value % BETA.1 * BETA.0 / BETA.1 }
}

impl Bbr3 {
    // ---- on each acknowledgement --------------------------------------------------------------

    pub(super) fn update_latest_delivery_signals(&mut self, rs: &Rs) {
        let loss = &mut self.loss;
        loss.bw_latest = loss.bw_latest.max(rs.delivery_rate);
        loss.inflight_latest = loss.inflight_latest.max(rs.delivered);
        loss.loss_round_start = rs.prior_delivered >= loss.loss_round_delivered;
        if loss.loss_round_start {
            loss.loss_round_delivered = self.paced.delivered;
        }
    }

    pub(super) fn update_congestion_signals(&mut self, rs: &Rs) {
        self.update_max_bw(rs);
        if !self.loss.loss_round_start {
            return;
        }
        let probing = matches!(self.state, State::Startup | State::Refill | State::Up);
        // Where the draft looks for any loss: see the head of the module.
        let congested = self.loss.is_mark_in_round || is_inflight_too_high(rs.lost, rs.tx_in_flight);
        if self.loss.is_loss_in_round && congested && !probing {
            self.adapt_lower_bounds();
        }
        self.loss.is_loss_in_round = false;
        self.loss.is_mark_in_round = false;
    }

    // §5.5.10.3: towards what the last round trip delivered, but not faster than by beta.
    fn adapt_lower_bounds(&mut self) {
        if self.bw_shortterm == INFINITE {
            self.bw_shortterm = self.max_bw.get();
        }
        if self.inflight_shortterm == INFINITE {
            self.inflight_shortterm = self.paced.cwnd;
        }
        self.bw_shortterm = self.loss.bw_latest.max(reduced(self.bw_shortterm));
        self.inflight_shortterm = self.loss.inflight_latest.max(reduced(self.inflight_shortterm));
    }

    pub(super) fn advance_latest_delivery_signals(&mut self, rs: &Rs) {
        if self.loss.loss_round_start {
            self.loss.bw_latest = rs.delivery_rate;
            self.loss.inflight_latest = rs.delivered;
            self.loss.ranges_in_round = 0;
        }
    }

    pub(super) fn reset_short_term_model(&mut self) {
        self.bw_shortterm = INFINITE;
        self.inflight_shortterm = INFINITE;
    }

    // §5.3.1.3: a round trip of recovery, in several places, and more than 2 %.
    pub(super) fn check_startup_high_loss(&mut self, rs: &Rs) {
        let lossy = self.loss.loss_round_start
            && rs.in_recovery
            && self.loss.ranges_in_round >= STARTUP_FULL_LOSS_COUNT
            && is_inflight_too_high(rs.lost, rs.tx_in_flight);
        if self.state == State::Startup && lossy {
            self.loss.undo_state = Some(State::Startup);
            self.full_pipe.now = true;
            self.full_pipe.reached = true;
            self.inflight_longterm = self.bdp_multiple(self.bw, super::UNITY).max(self.loss.inflight_latest);
        }
    }

    // ---- on each loss -------------------------------------------------------------------------

    pub(super) fn note_loss(&mut self) {
        if !self.loss.is_loss_in_round {
            self.loss.loss_round_delivered = self.paced.delivered;
            if !self.in_recovery {
                self.save_state_upon_loss();
            }
        }
        self.loss.is_loss_in_round = true;
    }

    pub(super) fn handle_lost(&mut self, lost: &Lost) {
        self.note_loss();
        if lost.range_start {
            self.loss.ranges_in_round = self.loss.ranges_in_round.saturating_add(1);
        }
        let tx_in_flight = u64::from(lost.sent.in_flight);
        if self.probe.is_sample && is_inflight_too_high(lost.lost_since_send, tx_in_flight) {
            let at_loss = inflight_at_loss(tx_in_flight, lost.lost_since_send, u64::from(lost.len));
            self.handle_inflight_too_high(at_loss, lost.sent.app_limited, lost.now);
        }
    }

    /// The mark says what loss above the threshold says.
    pub(super) fn handle_mark(&mut self, congestion: &Congestion) {
        self.loss.is_mark_in_round = true;
        if self.probe.is_sample {
            self.handle_inflight_too_high(u64::from(congestion.in_flight), false, congestion.now);
        }
    }

    // §5.5.10.2.
    fn handle_inflight_too_high(&mut self, inflight: u64, app_limited: bool, now: Instant) {
        self.probe.prev_too_high = true;
        self.probe.is_sample = false;
        if !app_limited {
            self.inflight_longterm = inflight.max(reduced(self.target_inflight()));
        }
        if self.state == State::Up {
            self.loss.undo_state = Some(State::Up);
            self.start_probe_bw_down(now);
        }
    }

    // ---- undo ---------------------------------------------------------------------------------

    pub(super) fn save_state_upon_loss(&mut self) {
        self.save_cwnd();
        self.loss.undo_state = None;
        self.loss.undo_bw_shortterm = self.bw_shortterm;
        self.loss.undo_inflight_shortterm = self.inflight_shortterm;
        self.loss.undo_inflight_longterm = self.inflight_longterm;
    }

    pub(super) fn handle_spurious(&mut self) {
        self.paced.restore_cwnd();
        self.loss.is_loss_in_round = false;
        self.full_pipe.reset(0);
        self.bw_shortterm = self.bw_shortterm.max(self.loss.undo_bw_shortterm);
        self.inflight_shortterm = self.inflight_shortterm.max(self.loss.undo_inflight_shortterm);
        self.inflight_longterm = self.inflight_longterm.max(self.loss.undo_inflight_longterm);
        match self.loss.undo_state.take() {
            Some(State::Startup) if self.state != State::Startup => {
                self.full_pipe.reached = false;
                if self.state != State::ProbeRtt {
                    self.state = State::Startup;
                }
            }
            Some(State::Up) if !matches!(self.state, State::Up | State::ProbeRtt) => self.start_probe_bw_refill(),
            _ => {}
        }
    }
}

/// How much was in flight when loss crossed the threshold, which may be within this segment.
fn inflight_at_loss(tx_in_flight: u64, lost: u64, len: u64) -> u64 {
    let inflight_prev = tx_in_flight.saturating_sub(len);
    let lost_prev = lost.saturating_sub(len);
    // (thresh * inflight_prev - lost_prev) / (1 - thresh), with thresh = 1 / 50.
    let lost_prefix = inflight_prev.saturating_sub(lost_prev.saturating_mul(LOSS_THRESH_DIVISOR));
    inflight_prev.saturating_add(lost_prefix / (LOSS_THRESH_DIVISOR - 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn volume_at_loss_is_where_two_percent_are_crossed() {
        // 100 segments of 1000 in flight, nothing lost before: the 99 before allow
        // 0.02 * 99000 / 0.98 = 2020 bytes of loss.
        assert_eq!(inflight_at_loss(100_000, 1_000, 1_000), 99_000 + 99_000 / 49);
        // 3 lost before, more than allowed: this segment adds nothing.
        assert_eq!(inflight_at_loss(100_000, 4_000, 1_000), 99_000);
    }

    #[test]
    fn too_high_is_more_than_one_in_fifty() {
        assert!(!is_inflight_too_high(2_000, 100_000));
        assert!(is_inflight_too_high(2_001, 100_000));
    }

    #[test]
    fn reduction_of_infinity_is_infinity() {
        assert_eq!(reduced(INFINITE), INFINITE);
        assert_eq!(reduced(1_000), 700);
        assert_eq!(reduced(u64::MAX - 5), 12_912_720_851_596_686_127);
    }
}
