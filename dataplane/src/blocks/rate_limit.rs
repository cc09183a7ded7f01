//! `rate-limit`: drops what exceeds a rate of packets or bits, by token buckets.
//!
//! In: any. Out: `out`. A packet passes if both buckets hold enough for it; otherwise it is dropped as `rate_limited` and
//! takes nothing. Limits hold for each worker by itself.

use crate::block::{self, Block, Context, ImportError, Kind, Parameter, ParameterError, State, Value, ValueKind};
use crate::frame::Batch;
use crate::ledger::DropReason;

const RATE: ValueKind = ValueKind::Integer { min: 0, max: 1_000_000_000_000 };

pub(crate) const KIND: Kind = Kind {
    name: "rate-limit",
    summary: "drop what exceeds a rate of packets or bits per second",
    parameters: &[
        Parameter { key: "pps", kind: RATE, default: Some("0"), doc: "packets per second; 0: no limit" },
        Parameter {
            key: "bps",
            kind: RATE,
            default: Some("0"),
            doc: "bits per second, of frames without checksum and preamble; 0: no limit",
        },
        Parameter {
            key: "burst_packets",
            kind: ValueKind::Integer { min: 1, max: 1_000_000 },
            default: Some("64"),
            doc: "packets that may pass at once after a pause",
        },
        Parameter {
            key: "burst_bytes",
            kind: ValueKind::Integer { min: 64, max: 1 << 30 },
            default: Some("65536"),
            doc: "bytes that may pass at once after a pause; larger packets never pass",
        },
    ],
    state: Some("rate-limit"),
    prepare: block::live,
    build: |arguments, _| {
        Ok(Box::new(RateLimit {
            packets: Bucket::new(arguments.integer("pps") as u64, arguments.integer("burst_packets") as u64),
            bits: Bucket::new(arguments.integer("bps") as u64, arguments.integer("burst_bytes") as u64 * 8),
            counted: Counted::default(),
        }))
    },
    ..Kind::PLAIN
};

/// Billionths of a token in a token: a rate of 1/s adds one of them a nanosecond.
const SCALE: u128 = 1_000_000_000;

/// Tokens that come at a rate, up to a burst. Starts full.
struct Bucket {
    /// 0: no limit.
    rate_per_s: u64,
    burst: u64,
    /// Tokens, times `SCALE`.
    level: u128,
    refilled_ns: u64,
}

impl Bucket {
    fn new(rate_per_s: u64, burst: u64) -> Self {
        Self { rate_per_s, burst, level: u128::from(burst) * SCALE, refilled_ns: 0 }
    }

    fn exchange_level(&mut self, other: &mut Self) {
        std::mem::swap(&mut self.level, &mut other.level);
        std::mem::swap(&mut self.refilled_ns, &mut other.refilled_ns);
    }

    fn refill(&mut self, now_ns: u64) {
        let elapsed_ns = now_ns.saturating_sub(self.refilled_ns);
        let full = u128::from(self.burst) * SCALE;
        self.level = (self.level + u128::from(elapsed_ns) * u128::from(self.rate_per_s)).min(full);
        self.refilled_ns = now_ns.max(self.refilled_ns);
    }

    fn holds(&self, tokens: u64) -> bool {
        self.rate_per_s == 0 || self.level >= u128::from(tokens) * SCALE
    }

    /// Without a limit nothing is taken, so that one set later begins with a full bucket.
    fn take(&mut self, tokens: u64) {
        if self.rate_per_s == 0 {
            return;
        }
        self.level = self.level.saturating_sub(u128::from(tokens) * SCALE);
    }
}

#[derive(Default)]
struct Counted {
    passed: u64,
    limited: u64,
}

struct RateLimit {
    packets: Bucket,
    bits: Bucket,
    counted: Counted,
}

impl Block for RateLimit {
    fn process(&mut self, batch: &mut Batch, context: &mut Context<'_>) {
        let Self { packets, bits, counted } = self;
        packets.refill(context.now_ns);
        bits.refill(context.now_ns);
        let excess = batch.extract(|frame| {
            let len_bits = frame.total_len() as u64 * 8;
            let passes = packets.holds(1) && bits.holds(len_bits);
            if passes {
                packets.take(1);
                bits.take(len_bits);
            }
            !passes
        });
        for frame in excess {
            counted.limited += 1;
            context.discard(frame, DropReason::RateLimited);
        }
        counted.passed += batch.len() as u64;
    }

    fn set(&mut self, key: &str, value: &Value) -> Result<(), ParameterError> {
        match (key, value) {
            ("pps", Value::Integer(rate)) => self.packets.rate_per_s = *rate as u64,
            ("bps", Value::Integer(rate)) => self.bits.rate_per_s = *rate as u64,
            ("burst_packets", Value::Integer(burst)) => self.packets.burst = *burst as u64,
            ("burst_bytes", Value::Integer(burst)) => self.bits.burst = *burst as u64 * 8,
            _ => return Err(ParameterError::Fixed { key: key.to_owned() }),
        }
        Ok(())
    }

    fn counters(&self, report: &mut dyn FnMut(&'static str, u64)) {
        report("passed", self.counted.passed);
        report("limited", self.counted.limited);
    }

    fn export(&mut self) -> Option<State<'_>> {
        Some(State::lend(KIND.name, self))
    }

    /// Levels and counters go over, rates and bursts stay.
    fn import(&mut self, state: State<'_>) -> Result<(), ImportError> {
        let other: &mut Self = state.content(KIND.name)?;
        self.packets.exchange_level(&mut other.packets);
        self.bits.exchange_level(&mut other.bits);
        std::mem::swap(&mut self.counted, &mut other.counted);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_that_is_set_later_begins_with_its_whole_burst() {
        let mut bucket = Bucket::new(0, 5);
        for now_ns in 0..1000 {
            bucket.refill(now_ns);
            assert!(bucket.holds(1));
            bucket.take(1);
        }
        bucket.rate_per_s = 1;
        let passed = (0..10).filter(|_| {
            let passes = bucket.holds(1);
            if passes {
                bucket.take(1);
            }
            passes
        });
        assert_eq!(passed.count(), 5);
    }

    #[test]
    fn a_smaller_burst_holds_from_the_next_packet_on() {
        let mut bucket = Bucket::new(1, 100);
        bucket.refill(1);
        bucket.burst = 3;
        bucket.refill(2);
        assert!(bucket.holds(3) && !bucket.holds(4));
    }
}
