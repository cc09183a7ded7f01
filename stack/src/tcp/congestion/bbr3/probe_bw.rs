//! ProbeBW (§5.3.3): faster, slower and as fast as the path, in turn.

use core::time::Duration;

use super::{Bbr3, INFINITE, Rs, State, UNITY};
use crate::time::Instant;

/// §2.8: share of `inflight_longterm` left free for others, in hundredths.
const HEADROOM: u64 = 15;
/// §5.3.3.5: rounds after which a flow probes at the latest, as Reno would with a small window.
const RENO_ROUNDS_MAX: u64 = 63;
/// §5.3.3.5: 2 s and a random second.
const PROBE_WAIT_BASE: Duration = Duration::from_secs(2);
const PROBE_WAIT_RANDOM_NS: u64 = 1_000_000_000;
/// §5.3.3.6: doublings of the slope of `inflight_longterm`.
const UP_ROUNDS_MAX: u32 = 30;

/// §2.14: which phase the acknowledgements tell of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum AckPhase {
    Init,
    Refilling,
    ProbeStarting,
    ProbeFeedback,
    ProbeStopping,
}

/// §2.14.
#[derive(Clone, Copy, Debug)]
pub(super) struct Probe {
    pub(super) ack_phase: AckPhase,
    /// Samples come from a phase that accelerated.
    pub(super) is_sample: bool,
    pub(super) prev_too_high: bool,
    prev_precautionary: bool,
    pub(super) rounds_since_up: u64,
    wait: Duration,
    cycle_stamp: Instant,
    up_rounds: u32,
    up_acked: u64,
    up_acked_per_inc: u64,
    random: u64,
}

impl Probe {
    pub(super) fn new(now: Instant, seed: u64) -> Self {
        Self {
            ack_phase: AckPhase::Init,
            is_sample: false,
            prev_too_high: false,
            prev_precautionary: false,
            rounds_since_up: 0,
            wait: Duration::ZERO,
            cycle_stamp: now,
            up_rounds: 0,
            up_acked: 0,
            up_acked_per_inc: INFINITE,
            random: seed,
        }
    }

    /// SplitMix64: flows that start together need not probe together.
    fn random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.random ^ (self.random >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z ^ (z >> 27)
    }

    // §5.3.3.5.
    fn pick_wait(&mut self) {
        self.rounds_since_up = self.random() & 1;
        self.wait = PROBE_WAIT_BASE + Duration::from_nanos(self.random() % PROBE_WAIT_RANDOM_NS);
    }
}

impl Bbr3 {
    // §5.3.3.6, the core logic.
    pub(super) fn update_probe_bw_cycle_phase(&mut self, rs: &Rs) {
        if !self.full_pipe.reached || self.adapt_long_term_model(rs) {
            return;
        }
        match self.state {
            State::Down if self.is_time_to_probe_bw(rs.now) => self.start_probe_bw_refill(),
            State::Down if self.is_time_to_cruise(rs) => self.state = State::Cruise,
            State::Cruise if self.is_time_to_probe_bw(rs.now) => self.start_probe_bw_refill(),
            State::Refill if self.rounds.start => {
                self.probe.is_sample = true;
                self.start_probe_bw_up(rs);
            }
            State::Up => self.advance_up(rs),
            _ => {}
        }
    }

    // ---- entering -----------------------------------------------------------------------------

    pub(super) fn start_probe_bw_down(&mut self, now: Instant) {
        self.loss.reset();
        self.probe.up_acked_per_inc = INFINITE;
        self.probe.pick_wait();
        self.probe.cycle_stamp = now;
        self.probe.ack_phase = AckPhase::ProbeStopping;
        self.rounds.begin();
        self.state = State::Down;
    }

    pub(super) fn start_probe_bw_refill(&mut self) {
        self.reset_short_term_model();
        self.probe.up_rounds = 0;
        self.probe.up_acked = 0;
        self.probe.prev_precautionary = false;
        self.probe.ack_phase = AckPhase::Refilling;
        self.rounds.begin();
        self.state = State::Refill;
    }

    fn start_probe_bw_up(&mut self, rs: &Rs) {
        self.probe.ack_phase = AckPhase::ProbeStarting;
        self.rounds.begin();
        self.full_pipe.reset(rs.delivery_rate);
        self.state = State::Up;
        self.raise_inflight_longterm_slope();
    }

    // ---- leaving ------------------------------------------------------------------------------

    // §5.3.3.5.
    fn is_time_to_probe_bw(&self, now: Instant) -> bool {
        let reno_rounds = (self.target_inflight() / self.paced.smss).min(RENO_ROUNDS_MAX);
        now > self.probe.cycle_stamp + self.probe.wait || self.probe.rounds_since_up >= reno_rounds
    }

    fn is_time_to_cruise(&self, rs: &Rs) -> bool {
        rs.inflight <= self.inflight_with_headroom() && rs.inflight <= self.inflight(self.max_bw.get(), UNITY)
    }

    fn advance_up(&mut self, rs: &Rs) {
        if self.is_time_to_go_down(rs) {
            self.probe.prev_too_high = false;
            self.start_probe_bw_down(rs.now);
        }
    }

    fn is_time_to_go_down(&mut self, rs: &Rs) -> bool {
        if self.probe.prev_too_high && rs.inflight >= self.inflight_longterm {
            self.probe.prev_precautionary = true;
            return true;
        }
        if rs.cwnd_limited && self.paced.cwnd >= self.inflight_longterm {
            // The bound is what limits the bandwidth: no plateau of the path's.
            self.full_pipe.reset(rs.delivery_rate);
            return false;
        }
        self.full_pipe.now
    }

    // ---- volumes ------------------------------------------------------------------------------

    /// The bandwidth-delay product, unless congestion cut the window.
    pub(super) fn target_inflight(&self) -> u64 {
        self.bdp_multiple(self.bw, UNITY).min(self.paced.cwnd)
    }

    pub(super) fn inflight_with_headroom(&self) -> u64 {
        if self.inflight_longterm == INFINITE {
            return INFINITE;
        }
        let headroom = (self.inflight_longterm.saturating_mul(HEADROOM) / UNITY).max(self.paced.smss);
        self.inflight_longterm.saturating_sub(headroom).max(self.paced.min_pipe_cwnd())
    }

    fn raise_inflight_longterm_slope(&mut self) {
        let growth_this_round = 1_u64 << self.probe.up_rounds;
        self.probe.up_rounds = (self.probe.up_rounds + 1).min(UP_ROUNDS_MAX);
        self.probe.up_acked_per_inc = (self.paced.cwnd / growth_this_round).max(self.paced.smss);
    }

    fn probe_inflight_longterm_upward(&mut self, rs: &Rs) {
        if !rs.cwnd_limited || self.paced.cwnd < self.inflight_longterm {
            return;
        }
        self.probe.up_acked = self.probe.up_acked.saturating_add(rs.newly_acked);
        let steps = self.probe.up_acked / self.probe.up_acked_per_inc;
        self.probe.up_acked -= steps * self.probe.up_acked_per_inc;
        self.inflight_longterm = self.inflight_longterm.saturating_add(steps.saturating_mul(self.paced.smss));
        if self.rounds.start {
            self.raise_inflight_longterm_slope();
        }
    }

    /// Whether it changed the state.
    fn adapt_long_term_model(&mut self, rs: &Rs) -> bool {
        if self.probe.ack_phase == AckPhase::ProbeStarting && self.rounds.start {
            self.probe.ack_phase = AckPhase::ProbeFeedback;
        }
        if self.probe.ack_phase == AckPhase::ProbeStopping && self.rounds.start {
            self.probe.is_sample = false;
            self.probe.ack_phase = AckPhase::Init;
            if self.state.is_probe_bw() && !rs.app_limited {
                self.max_bw.advance();
            }
            // §5.3.3.4.2: the careful probe did no harm, so probe in earnest.
            if self.state.is_probe_bw() && self.probe.prev_precautionary && !self.probe.prev_too_high {
                self.start_probe_bw_refill();
                return true;
            }
        }
        if !super::loss::is_inflight_too_high(rs.lost, rs.tx_in_flight) && self.inflight_longterm != INFINITE {
            self.inflight_longterm = self.inflight_longterm.max(rs.tx_in_flight);
            if self.state == State::Up {
                self.probe_inflight_longterm_upward(rs);
            }
        }
        false
    }
}
