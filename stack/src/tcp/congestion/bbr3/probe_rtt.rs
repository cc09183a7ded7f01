//! ProbeRTT (§5.3.4): drains the queue now and then, to see how long the path itself is.

use core::time::Duration;

use super::probe_bw::AckPhase;
use super::{Bbr3, PROBE_RTT_CWND_GAIN, Rs, State};
use crate::time::Instant;

/// §2.16.2.
const PROBE_RTT_DURATION: Duration = Duration::from_millis(200);

/// How far a visit to ProbeRTT is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Visit {
    /// When it may end; `None` until little enough is in flight.
    done_stamp: Option<Instant>,
    round_done: bool,
}

impl Bbr3 {
    pub(super) fn check_probe_rtt(&mut self, rs: &Rs) {
        if self.state != State::ProbeRtt && self.min_rtt.probe_rtt_expired && !self.idle_restart {
            self.save_cwnd();
            self.state = State::ProbeRtt;
            self.probe_rtt = Visit::default();
            self.probe.ack_phase = AckPhase::ProbeStopping;
            self.rounds.begin();
        }
        if self.state == State::ProbeRtt {
            self.handle_probe_rtt(rs);
        }
        if rs.delivered > 0 {
            self.idle_restart = false;
        }
    }

    fn handle_probe_rtt(&mut self, rs: &Rs) {
        if self.probe_rtt.done_stamp.is_none() {
            if rs.inflight <= self.probe_rtt_cwnd() {
                self.probe_rtt.done_stamp = Some(rs.now + PROBE_RTT_DURATION);
                self.probe_rtt.round_done = false;
                self.rounds.begin();
            }
            return;
        }
        self.probe_rtt.round_done |= self.rounds.start;
        if self.probe_rtt.round_done {
            self.check_probe_rtt_done(rs.now);
        }
    }

    pub(super) fn check_probe_rtt_done(&mut self, now: Instant) {
        if self.probe_rtt.done_stamp.is_some_and(|done| now > done) {
            self.min_rtt.probe_rtt_min_stamp = now;
            self.paced.restore_cwnd();
            self.exit_probe_rtt(now);
        }
    }

    // §5.3.4.4: with little in flight there is nothing to drain, so cruise at once.
    fn exit_probe_rtt(&mut self, now: Instant) {
        self.reset_short_term_model();
        if self.full_pipe.reached {
            self.start_probe_bw_down(now);
            self.state = State::Cruise;
        } else {
            self.state = State::Startup;
        }
    }

    pub(super) fn probe_rtt_cwnd(&self) -> u64 {
        self.bdp_multiple(self.bw, PROBE_RTT_CWND_GAIN).max(self.paced.min_pipe_cwnd())
    }
}
