//! HyStart++ (RFC 9406): leaves slow start when round-trip times rise, before the queue overflows.

use core::time::Duration;

use super::Ack;

// RFC 9406 §4.3.
const MIN_RTT_THRESH: Duration = Duration::from_millis(4);
const MAX_RTT_THRESH: Duration = Duration::from_millis(16);
const MIN_RTT_DIVISOR: u32 = 8;
const N_RTT_SAMPLE: u32 = 8;
const CSS_GROWTH_DIVISOR: u32 = 4;
const CSS_ROUNDS: u32 = 5;

/// How the window may grow.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Growth {
    /// By the bytes acknowledged, divided by this.
    Slow { divisor: u32 },
    /// Slow start is over.
    Done,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    SlowStart,
    /// Conservative slow start, which tells a full queue from a moment's jitter.
    Conservative {
        baseline_min_rtt: Duration,
        rounds: u32,
    },
    Done,
}

/// One slow start, the first of a connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct HyStart {
    phase: Phase,
    last_round_min_rtt: Option<Duration>,
    current_round_min_rtt: Option<Duration>,
    rtt_sample_count: u32,
}

impl HyStart {
    pub(super) fn new() -> Self {
        Self { phase: Phase::SlowStart, last_round_min_rtt: None, current_round_min_rtt: None, rtt_sample_count: 0 }
    }

    /// Loss, ECN or a threshold ended slow start; later ones are plain.
    pub(super) fn stop(&mut self) {
        self.phase = Phase::Done;
    }

    pub(super) fn phase(&self) -> &'static str {
        match self.phase {
            Phase::Conservative { .. } => "conservative-slow-start",
            Phase::SlowStart | Phase::Done => "slow-start",
        }
    }

    pub(super) fn on_ack(&mut self, ack: &Ack) -> Growth {
        if ack.round_start() {
            self.on_round_start();
        }
        if let Some(rtt) = ack.rtt {
            let min = self.current_round_min_rtt.map_or(rtt, |min| min.min(rtt));
            self.current_round_min_rtt = Some(min);
            self.rtt_sample_count = self.rtt_sample_count.saturating_add(1);
        }
        self.judge();
        match self.phase {
            Phase::SlowStart => Growth::Slow { divisor: 1 },
            Phase::Conservative { .. } => Growth::Slow { divisor: CSS_GROWTH_DIVISOR },
            Phase::Done => Growth::Done,
        }
    }

    // RFC 9406 §4.2, at the start of each round.
    fn on_round_start(&mut self) {
        self.last_round_min_rtt = self.current_round_min_rtt.take();
        self.rtt_sample_count = 0;
        if let Phase::Conservative { rounds, .. } = &mut self.phase {
            *rounds += 1;
            if *rounds >= CSS_ROUNDS {
                self.phase = Phase::Done;
            }
        }
    }

    // RFC 9406 §4.2, after each sample once there are enough of them in the round.
    fn judge(&mut self) {
        let Some(current) = self.current_round_min_rtt.filter(|_| self.rtt_sample_count >= N_RTT_SAMPLE) else {
            return;
        };
        match self.phase {
            Phase::SlowStart => {
                let risen = |last: Duration| {
                    let threshold = (last / MIN_RTT_DIVISOR).clamp(MIN_RTT_THRESH, MAX_RTT_THRESH);
                    current >= last.saturating_add(threshold)
                };
                if self.last_round_min_rtt.is_some_and(risen) {
                    self.phase = Phase::Conservative { baseline_min_rtt: current, rounds: 0 };
                }
            }
            // It was jitter after all.
            Phase::Conservative { baseline_min_rtt, .. } if current < baseline_min_rtt => {
                self.phase = Phase::SlowStart;
            }
            Phase::Conservative { .. } | Phase::Done => {}
        }
    }
}
