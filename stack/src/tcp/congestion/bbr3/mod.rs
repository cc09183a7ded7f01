//! BBR version 3 (draft-ietf-ccwg-bbr-06): a model of the path (bandwidth, round-trip time, what may be
//! in flight without loss) instead of a reaction to each loss. Names are the draft's.
//!
//! ```text
//!   Startup ---> Drain ---> ProbeBW: DOWN --> CRUISE --> REFILL --> UP --.
//!                             ^        ^-----------------------------'
//!                             '------ ProbeRTT: each 5 s, from any state
//! ```
//! - `control`: window and pacing rate from the model.
//! - `model`: filters for bandwidth, round-trip time, aggregation; the full-pipe estimator.
//! - `probe_bw`, `probe_rtt`: the state machine's steady part.
//! - `loss`: what loss does to the model, and how that is undone.
//!
//! Differences from the draft: a segment that overtakes others ends no round trip (`rounds`); the aggregation filter has two buckets in place of a sliding window;
//! what an undo restores is saved once per recovery and not again in each of its rounds; an ECN mark
//! counts as a loss (§3.7 leaves open which congestion response it gets). The short-term bounds come down
//! (§5.5.10.3) only after a round trip that lost more than the 2 % which probing tolerates: below it each of
//! them would take off what pacing and loss take, and a loss of 1 % a third of the bandwidth between two probes.

mod control;
mod loss;
mod model;
mod probe_bw;
mod probe_rtt;

use alloc::boxed::Box;
use core::time::Duration;

use self::loss::LossSignals;
use self::model::{FullPipe, MaxBandwidth, MinRtt};
use self::probe_bw::Probe;
use self::probe_rtt::Visit;
use super::aggregation::Aggregation;
use super::paced::Paced;
use super::rounds::Rounds;
use super::{
    Ack, CWND_MAX, Congestion, CongestionControl, Control, Lost, Restart, SSTHRESH_INFINITE, Snapshot, Start, Timeout,
};
use crate::time::Instant;

/// For [`CONTROLS`](super::CONTROLS).
pub(super) const BBR3: Control = Control {
    name: "bbr3",
    about: "paces at the bandwidth it measures, version 3 (draft-ietf-ccwg-bbr-06)",
    build: |start| Box::new(Bbr3::new(start)),
};

// §2.5, §2.6: gains in hundredths.
const STARTUP_PACING_GAIN: u64 = 277;
const DRAIN_PACING_GAIN: u64 = 50;
const DEFAULT_CWND_GAIN: u64 = 200;
const PROBE_UP_CWND_GAIN: u64 = 225;
const PROBE_RTT_CWND_GAIN: u64 = 50;
const UNITY: u64 = 100;
/// §5.3.2: round trips in Drain.
const DRAIN_ROUNDS_MAX: u64 = 3;
/// A volume or a rate that bounds nothing.
const INFINITE: u64 = u64::MAX;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Startup,
    Drain,
    Down,
    Cruise,
    Refill,
    Up,
    ProbeRtt,
}

impl State {
    fn is_probe_bw(self) -> bool {
        matches!(self, Self::Down | Self::Cruise | Self::Refill | Self::Up)
    }

    // §5.6.1, the table.
    fn pacing_gain(self) -> u64 {
        match self {
            Self::Startup => STARTUP_PACING_GAIN,
            Self::Drain => DRAIN_PACING_GAIN,
            Self::Down => 90,
            Self::Up => 125,
            Self::Cruise | Self::Refill | Self::ProbeRtt => UNITY,
        }
    }

    fn cwnd_gain(self) -> u64 {
        match self {
            Self::Up => PROBE_UP_CWND_GAIN,
            Self::ProbeRtt => PROBE_RTT_CWND_GAIN,
            Self::Startup | Self::Drain | Self::Down | Self::Cruise | Self::Refill => DEFAULT_CWND_GAIN,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Startup => "Startup",
            Self::Drain => "Drain",
            Self::Down => "ProbeBW_DOWN",
            Self::Cruise => "ProbeBW_CRUISE",
            Self::Refill => "ProbeBW_REFILL",
            Self::Up => "ProbeBW_UP",
            Self::ProbeRtt => "ProbeRTT",
        }
    }
}

/// The draft's `RS` with the connection's `C` beside it: what one acknowledgement tells.
#[derive(Clone, Copy, Debug)]
struct Rs {
    now: Instant,
    /// 0: no reliable sample.
    delivery_rate: u64,
    delivered: u64,
    prior_delivered: u64,
    tx_in_flight: u64,
    lost: u64,
    app_limited: bool,
    newly_acked: u64,
    rtt: Option<Duration>,
    srtt: Option<Duration>,
    inflight: u64,
    cwnd_limited: bool,
    in_recovery: bool,
}

impl Rs {
    /// `None` if nothing was delivered.
    fn of(ack: &Ack) -> Option<Self> {
        let sample = ack.rate?;
        Some(Self {
            now: ack.now,
            delivery_rate: sample.rate.unwrap_or(0),
            delivered: sample.delivered,
            prior_delivered: sample.sent.delivered,
            tx_in_flight: u64::from(sample.sent.in_flight),
            lost: sample.lost,
            app_limited: sample.sent.app_limited,
            newly_acked: u64::from(ack.delivered),
            rtt: ack.rtt(),
            srtt: ack.srtt(),
            inflight: u64::from(ack.in_flight),
            cwnd_limited: ack.cwnd_limited,
            in_recovery: ack.in_recovery,
        })
    }
}

#[derive(Clone, Copy, Debug)]
pub struct Bbr3 {
    paced: Paced,
    in_recovery: bool,
    idle_restart: bool,
    state: State,
    rounds: Rounds,
    drain_start_round: u64,
    full_pipe: FullPipe,
    max_bw: MaxBandwidth,
    bw: u64,
    bw_shortterm: u64,
    inflight_shortterm: u64,
    inflight_longterm: u64,
    min_rtt: MinRtt,
    aggregation: Aggregation,
    loss: LossSignals,
    probe: Probe,
    probe_rtt: Visit,
}

impl Bbr3 {
    // §5.2.1.
    pub fn new(start: &Start) -> Self {
        Self {
            paced: Paced::new(start, STARTUP_PACING_GAIN),
            in_recovery: false,
            idle_restart: false,
            state: State::Startup,
            rounds: Rounds::new(start.now, start.delivered),
            drain_start_round: 0,
            full_pipe: FullPipe::default(),
            max_bw: MaxBandwidth::default(),
            bw: 0,
            bw_shortterm: INFINITE,
            inflight_shortterm: INFINITE,
            inflight_longterm: INFINITE,
            min_rtt: MinRtt::new(start.min_rtt.or(start.srtt), start.now),
            aggregation: Aggregation::new(start.now),
            loss: LossSignals::new(start.delivered),
            probe: Probe::new(start.now, start.seed),
            probe_rtt: Visit::default(),
        }
    }

    // ---- rounds, Startup, Drain ---------------------------------------------------------------

    // §5.5.1.
    fn update_round(&mut self, rs: &Rs) {
        if self.rounds.update(rs.now, self.paced.delivered, rs.prior_delivered, rs.srtt) {
            self.probe.rounds_since_up = self.probe.rounds_since_up.saturating_add(1);
        }
    }

    // §5.5.5.
    fn update_max_bw(&mut self, rs: &Rs) {
        self.update_round(rs);
        if rs.delivery_rate > 0 && (rs.delivery_rate >= self.max_bw.get() || !rs.app_limited) {
            self.max_bw.update(rs.delivery_rate);
        }
    }

    // §5.3.1.2, §5.3.1.3.
    fn check_startup_done(&mut self, rs: &Rs) {
        self.check_startup_high_loss(rs);
        if self.state == State::Startup && self.full_pipe.reached {
            self.state = State::Drain;
            self.drain_start_round = self.rounds.count;
        }
    }

    // §5.3.2.
    fn check_drain_done(&mut self, rs: &Rs) {
        let late = self.rounds.count > self.drain_start_round + DRAIN_ROUNDS_MAX;
        if self.state == State::Drain && (rs.inflight <= self.inflight(self.bw, UNITY) || late) {
            self.start_probe_bw_down(rs.now);
        }
    }
}

impl CongestionControl for Bbr3 {
    fn name(&self) -> &'static str {
        BBR3.name
    }

    // §5.2.3, in its order.
    fn on_ack(&mut self, ack: &Ack) {
        let Some(rs) = Rs::of(ack) else { return };
        self.paced.delivered = ack.delivered_total;
        self.paced.init_pacing_rate(ack.srtt());
        self.update_latest_delivery_signals(&rs);
        self.update_congestion_signals(&rs);
        let rounds = self.rounds.count;
        self.aggregation.update(rs.now, rs.newly_acked, self.bw, self.paced.cwnd, rounds, self.full_pipe.reached);
        self.full_pipe.check(&rs, self.rounds.start);
        self.check_startup_done(&rs);
        self.check_drain_done(&rs);
        self.update_probe_bw_cycle_phase(&rs);
        self.min_rtt.update(&rs);
        self.check_probe_rtt(&rs);
        self.advance_latest_delivery_signals(&rs);
        self.bw = self.max_bw.get().min(self.bw_shortterm);
        self.set_pacing_rate(self.state.pacing_gain());
        self.set_cwnd(&rs);
    }

    fn on_lost(&mut self, lost: &Lost) {
        self.paced.delivered = lost.delivered_total;
        self.handle_lost(lost);
    }

    fn on_congestion(&mut self, congestion: &Congestion) {
        self.note_loss();
        match congestion.cause {
            super::Cause::Loss => self.in_recovery = true,
            super::Cause::Ecn => self.handle_mark(congestion),
        }
    }

    fn on_recovered(&mut self, _now: Instant) {
        self.in_recovery = false;
        self.paced.restore_cwnd();
        self.bound_cwnd();
    }

    // §5.6.4.4.
    fn on_rto(&mut self, timeout: &Timeout) {
        if timeout.backoff == 0 {
            self.save_state_upon_loss();
        }
        self.in_recovery = true;
        self.paced.cwnd = u64::from(timeout.in_flight).saturating_add(self.paced.smss).min(u64::from(CWND_MAX));
    }

    fn on_spurious(&mut self, _now: Instant) {
        self.in_recovery = false;
        self.handle_spurious();
        self.bound_cwnd();
    }

    // §5.4.1.
    fn on_idle_restart(&mut self, restart: &Restart) {
        if !restart.app_limited {
            return;
        }
        self.idle_restart = true;
        self.aggregation.restart(restart.now);
        if self.state.is_probe_bw() {
            self.set_pacing_rate(UNITY);
        } else if self.state == State::ProbeRtt {
            self.check_probe_rtt_done(restart.now);
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
        if self.full_pipe.reached { self.cwnd() } else { SSTHRESH_INFINITE }
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
        Snapshot {
            name: BBR3.name,
            phase: self.state.name(),
            cwnd: self.cwnd(),
            ssthresh: None,
            pacing_rate: Some(self.paced.pacing_rate),
            bandwidth: Some(self.max_bw.get()).filter(|&bw| bw > 0),
        }
    }
}
