//! BBR version 1 (draft-cardwell-iccrg-bbr-congestion-control-00), as Linux calls `bbr`: paces at the bandwidth it
//! measures, whatever gets lost. Beside its like, and over paths that lose more than 2 %, where version 3 yields to
//! losses. Names are the draft's.
//!
//! ```text
//!   Startup ---> Drain ---> ProbeBW: 5/4, 3/4, 1, 1, 1, 1, 1, 1 of the bandwidth, a round trip each
//!      ^                       ^ |
//!      '------- ProbeRTT <-----' '--> each 10 s without a shorter round trip
//! ```
//! - `model`: filters for bandwidth and round-trip time, the full-pipe estimator.
//! - `control`: window and pacing rate from the model.
//!
//! Beside the draft, the window allows for acknowledgements that come in bursts, as later drafts and Linux have it. ECN
//! marks are not heeded: the draft knows of none. A segment that overtakes others ends no round trip (`rounds`).

mod control;
mod model;

use alloc::boxed::Box;
use core::time::Duration;

use self::model::{BtlBw, FullPipe, RtProp};
use super::aggregation::Aggregation;
use super::paced::Paced;
use super::rounds::Rounds;
use super::{
    Ack, Cause, Congestion, CongestionControl, Control, Lost, Restart, SSTHRESH_INFINITE, Snapshot, Start, Timeout,
};
use crate::time::Instant;

/// For [`CONTROLS`](super::CONTROLS).
pub(super) const BBR: Control = Control {
    name: "bbr",
    about: "paces at the bandwidth it measures, version 1 as in Linux (draft-cardwell-iccrg-bbr-congestion-control-00)",
    build: |start| Box::new(Bbr::new(start)),
};

// Gains in hundredths.
const UNITY: u64 = 100;
/// §4.3.2.1: 2 / ln 2, with which what is delivered doubles in a round trip.
const HIGH_GAIN: u64 = 289;
/// §4.3.3: takes as long to drain what the high gain has queued.
const DRAIN_GAIN: u64 = 35;
/// §4.3.4.1: room for acknowledgements that are late or come together.
const PROBE_BW_CWND_GAIN: u64 = 200;
/// §4.3.4.3: probe for more bandwidth, drain what that queued, cruise.
const PACING_GAIN_CYCLE: [u64; 8] = [125, 75, UNITY, UNITY, UNITY, UNITY, UNITY, UNITY];
/// §4.3.5.
const PROBE_RTT_DURATION: Duration = Duration::from_millis(200);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Startup,
    Drain,
    ProbeBw,
    ProbeRtt,
}

#[derive(Clone, Copy, Debug)]
pub struct Bbr {
    paced: Paced,
    state: State,
    cycle_index: usize,
    cycle_stamp: Instant,
    random: u64,
    rounds: Rounds,
    btlbw: BtlBw,
    rtprop: RtProp,
    full_pipe: FullPipe,
    aggregation: Aggregation,
    /// When ProbeRTT may end; `None` until little enough is in flight.
    probe_rtt_done_stamp: Option<Instant>,
    probe_rtt_round_done: bool,
    in_recovery: bool,
    packet_conservation: bool,
    /// Bytes judged lost since the last acknowledgement.
    lost: u64,
    idle_restart: bool,
}

impl Bbr {
    // §4.3.1.
    pub fn new(start: &Start) -> Self {
        Self {
            paced: Paced::new(start, HIGH_GAIN),
            state: State::Startup,
            cycle_index: 0,
            cycle_stamp: start.now,
            random: start.seed,
            rounds: Rounds::new(start.now, start.delivered),
            btlbw: BtlBw::default(),
            rtprop: RtProp::new(start.min_rtt.or(start.srtt), start.now),
            full_pipe: FullPipe::default(),
            aggregation: Aggregation::new(start.now),
            probe_rtt_done_stamp: None,
            probe_rtt_round_done: false,
            in_recovery: false,
            packet_conservation: false,
            lost: 0,
            idle_restart: false,
        }
    }

    // ---- model --------------------------------------------------------------------------------

    // §4.1.1.3.
    fn update_round(&mut self, ack: &Ack, prior_delivered: u64) {
        if self.rounds.update(ack.now, ack.delivered_total, prior_delivered, ack.srtt()) {
            self.btlbw.begin_round();
            self.packet_conservation = false;
        }
    }

    fn update_btlbw(&mut self, ack: &Ack) {
        if let Some(sample) = ack.rate {
            self.update_round(ack, sample.sent.delivered);
            self.btlbw.update(sample.rate.unwrap_or(0), sample.sent.app_limited);
        }
    }

    // ---- state machine ------------------------------------------------------------------------

    // §4.3.2, §4.3.3.
    fn check_drain(&mut self, ack: &Ack) {
        if self.state == State::Startup && self.full_pipe.filled {
            self.state = State::Drain;
        }
        if self.state == State::Drain && u64::from(ack.in_flight) <= self.inflight(UNITY) {
            self.enter_probe_bw(ack.now);
        }
    }

    // §4.3.4.2: flows begin at different places of the cycle, though none by draining.
    fn enter_probe_bw(&mut self, now: Instant) {
        self.random = self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.state = State::ProbeBw;
        self.cycle_index = PACING_GAIN_CYCLE.len() - 1 - ((self.random >> 33) % 7) as usize;
        self.advance_cycle_phase(now);
    }

    fn advance_cycle_phase(&mut self, now: Instant) {
        self.cycle_stamp = now;
        self.cycle_index = (self.cycle_index + 1) % PACING_GAIN_CYCLE.len();
    }

    // §4.3.4.3: probing lasts until it has shown something, draining until all is drained.
    fn is_next_cycle_phase(&self, ack: &Ack) -> bool {
        let is_full_length = self.rtprop.get().is_some_and(|rtprop| ack.now.since(self.cycle_stamp) > rtprop);
        let prior_inflight = u64::from(ack.in_flight_before);
        match self.pacing_gain() {
            gain if gain > UNITY => is_full_length && (self.lost > 0 || prior_inflight >= self.inflight(gain)),
            UNITY => is_full_length,
            _ => is_full_length || prior_inflight <= self.inflight(UNITY),
        }
    }

    fn check_cycle_phase(&mut self, ack: &Ack) {
        if self.state == State::ProbeBw && self.is_next_cycle_phase(ack) {
            self.advance_cycle_phase(ack.now);
        }
    }

    // §4.3.5.
    fn check_probe_rtt(&mut self, ack: &Ack) {
        if self.state != State::ProbeRtt && self.rtprop.expired && !self.idle_restart {
            self.save_cwnd();
            self.state = State::ProbeRtt;
            self.probe_rtt_done_stamp = None;
        }
        if self.state == State::ProbeRtt {
            self.handle_probe_rtt(ack);
        }
        self.idle_restart = false;
    }

    fn handle_probe_rtt(&mut self, ack: &Ack) {
        let Some(done) = self.probe_rtt_done_stamp else {
            if u64::from(ack.in_flight) <= self.paced.min_pipe_cwnd() {
                self.probe_rtt_done_stamp = Some(ack.now + PROBE_RTT_DURATION);
                self.probe_rtt_round_done = false;
                self.rounds.begin();
            }
            return;
        };
        self.probe_rtt_round_done |= self.rounds.start;
        if self.probe_rtt_round_done && ack.now > done {
            self.rtprop.renew(ack.now);
            self.paced.restore_cwnd();
            self.exit_probe_rtt(ack.now);
        }
    }

    fn exit_probe_rtt(&mut self, now: Instant) {
        if self.full_pipe.filled {
            self.enter_probe_bw(now);
        } else {
            self.state = State::Startup;
        }
    }

    fn pacing_gain(&self) -> u64 {
        match self.state {
            State::Startup => HIGH_GAIN,
            State::Drain => DRAIN_GAIN,
            State::ProbeBw => PACING_GAIN_CYCLE.get(self.cycle_index).copied().unwrap_or(UNITY),
            State::ProbeRtt => UNITY,
        }
    }

    fn cwnd_gain(&self) -> u64 {
        match self.state {
            State::Startup | State::Drain => HIGH_GAIN,
            State::ProbeBw => PROBE_BW_CWND_GAIN,
            State::ProbeRtt => UNITY,
        }
    }
}

impl CongestionControl for Bbr {
    fn name(&self) -> &'static str {
        BBR.name
    }

    // §3.5.2, in its order.
    fn on_ack(&mut self, ack: &Ack) {
        self.paced.delivered = ack.delivered_total;
        self.paced.init_pacing_rate(ack.srtt());
        self.update_btlbw(ack);
        let delivered = u64::from(ack.delivered);
        let btlbw = self.btlbw.get();
        self.aggregation.update(ack.now, delivered, btlbw, self.paced.cwnd, self.rounds.count, self.full_pipe.filled);
        self.check_cycle_phase(ack);
        if self.rounds.start && ack.rate.is_some_and(|rate| !rate.sent.app_limited) {
            self.full_pipe.check(btlbw);
        }
        self.check_drain(ack);
        self.rtprop.update(ack.now, ack.rtt());
        self.check_probe_rtt(ack);
        self.set_pacing_rate(self.pacing_gain());
        self.set_cwnd(ack);
        self.lost = 0;
    }

    fn on_lost(&mut self, lost: &Lost) {
        self.lost = self.lost.saturating_add(lost.len.into());
    }

    // §4.2.3.4, entering fast recovery: the acknowledgement that brought it adds what it delivered.
    fn on_congestion(&mut self, congestion: &Congestion) {
        if congestion.cause == Cause::Ecn {
            return;
        }
        self.save_cwnd();
        self.in_recovery = true;
        self.packet_conservation = true;
        self.paced.cwnd = u64::from(congestion.in_flight).saturating_add(self.paced.smss);
        self.lost = 0;
        self.rounds.begin();
        self.bound_cwnd();
    }

    fn on_recovered(&mut self, _now: Instant) {
        self.leave_recovery();
    }

    // §4.2.3.4.
    fn on_rto(&mut self, timeout: &Timeout) {
        if timeout.backoff == 0 {
            self.save_cwnd();
        }
        self.in_recovery = true;
        self.packet_conservation = false;
        self.paced.cwnd = self.paced.smss;
        self.lost = 0;
    }

    /// What it took for a plateau may have been the recovery.
    fn on_spurious(&mut self, _now: Instant) {
        self.full_pipe.restart(0);
        self.leave_recovery();
    }

    // §4.3.4.4.
    fn on_idle_restart(&mut self, restart: &Restart) {
        if !restart.app_limited {
            return;
        }
        self.idle_restart = true;
        self.aggregation.restart(restart.now);
        if self.state == State::ProbeBw {
            self.set_pacing_rate(UNITY);
        }
    }

    fn on_smss(&mut self, smss: u32) {
        self.paced.resize(smss);
    }

    fn cwnd(&self) -> u32 {
        self.paced.cwnd()
    }

    /// What another control should start from; BBR itself has no use for it.
    fn ssthresh(&self) -> u32 {
        if self.full_pipe.filled { self.cwnd() } else { SSTHRESH_INFINITE }
    }

    fn pacing_rate(&self) -> Option<u64> {
        Some(self.paced.pacing_rate)
    }

    fn holds_back(&self) -> bool {
        self.state == State::ProbeRtt
    }

    fn governs_recovery(&self) -> bool {
        true
    }

    fn snapshot(&self) -> Snapshot {
        let phase = match (self.state, self.pacing_gain()) {
            (State::Startup, _) => "Startup",
            (State::Drain, _) => "Drain",
            (State::ProbeBw, UNITY) => "ProbeBW",
            (State::ProbeBw, gain) if gain > UNITY => "ProbeBW_UP",
            (State::ProbeBw, _) => "ProbeBW_DOWN",
            (State::ProbeRtt, _) => "ProbeRTT",
        };
        Snapshot {
            name: BBR.name,
            phase,
            cwnd: self.cwnd(),
            ssthresh: None,
            pacing_rate: Some(self.paced.pacing_rate),
            bandwidth: Some(self.btlbw.get()).filter(|&bw| bw > 0),
        }
    }
}
