//! HyStart++ (RFC 9406): leaves slow start when round-trip times rise, before the queue overflows.

use super::Ack;

// RFC 9406 §4.3.
const MIN_RTT_THRESH: Micros = 4_000;
const MAX_RTT_THRESH: Micros = 16_000;
const MIN_RTT_DIVISOR: u32 = 8;
const N_RTT_SAMPLE: u8 = 8;
const CSS_GROWTH_DIVISOR: u32 = 4;
const CSS_ROUNDS: u8 = 5;

/// A round-trip time in microseconds, up to 71 minutes: thresholds are of milliseconds, and connections are many.
type Micros = u32;

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
        baseline_min_rtt: Micros,
        rounds: u8,
    },
    Done,
}

/// One slow start, the first of a connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct HyStart {
    phase: Phase,
    /// `u32::MAX`: not measured.
    last_round_min_rtt: Micros,
    current_round_min_rtt: Micros,
    rtt_sample_count: u8,
}

impl HyStart {
    pub(super) fn new() -> Self {
        Self {
            phase: Phase::SlowStart,
            last_round_min_rtt: Micros::MAX,
            current_round_min_rtt: Micros::MAX,
            rtt_sample_count: 0,
        }
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

    #[inline]
    pub(super) fn on_ack(&mut self, ack: &Ack) -> Growth {
        if ack.round_start {
            self.on_round_start();
        }
        if ack.rtt_ns != 0 {
            let rtt = Micros::try_from(ack.rtt_ns / 1_000).unwrap_or(Micros::MAX - 1);
            self.current_round_min_rtt = self.current_round_min_rtt.min(rtt);
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
        self.last_round_min_rtt = core::mem::replace(&mut self.current_round_min_rtt, Micros::MAX);
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
        if self.rtt_sample_count < N_RTT_SAMPLE {
            return;
        }
        let (current, last) = (self.current_round_min_rtt, self.last_round_min_rtt);
        match self.phase {
            Phase::SlowStart if last != Micros::MAX => {
                let threshold = (last / MIN_RTT_DIVISOR).clamp(MIN_RTT_THRESH, MAX_RTT_THRESH);
                if current >= last.saturating_add(threshold) {
                    self.phase = Phase::Conservative { baseline_min_rtt: current, rounds: 0 };
                }
            }
            // It was jitter after all.
            Phase::Conservative { baseline_min_rtt, .. } if current < baseline_min_rtt => {
                self.phase = Phase::SlowStart;
            }
            Phase::SlowStart | Phase::Conservative { .. } | Phase::Done => {}
        }
    }
}
