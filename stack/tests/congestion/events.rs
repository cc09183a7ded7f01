//! What a connection would tell its control, with the fields that a test does not care about filled in.

use std::time::Duration;

use tailwater_stack::Instant;
use tailwater_stack::tcp::congestion::{
    Ack, Cause, Congestion, CongestionControl, RateSample, Restart, SendStamp, Start, Timeout,
};

pub const SMSS: u32 = 1_000;

pub const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

pub fn at(millis: u64) -> Instant {
    Instant::from_millis(millis)
}

/// A connection as it begins, with segments of 1000 bytes.
pub fn start() -> Start {
    Start::new(Instant::ZERO, SMSS, 1)
}

/// One with this many segments of window and threshold.
pub fn start_at(cwnd: u32, ssthresh: u32) -> Start {
    Start { cwnd: cwnd * SMSS, ssthresh: ssthresh * SMSS, ..start() }
}

pub fn ack(now: Instant, delivered: u32) -> Ack {
    Ack {
        now,
        acked: delivered,
        delivered,
        delivered_total: u64::from(delivered),
        rtt_ns: 0,
        srtt_ns: 0,
        in_flight_before: delivered,
        in_flight: 0,
        cwnd_limited: true,
        ecn_echo: false,
        in_recovery: false,
        round_start: false,
        rate: None,
    }
}

/// The first acknowledgement of a round, or another of it, with a round-trip time.
pub fn ack_in_round(now: Instant, delivered: u32, rtt: Duration, round_start: bool) -> Ack {
    let sent = SendStamp {
        sent_at: Instant::ZERO,
        first_send_at: Instant::ZERO,
        delivered_at: Instant::ZERO,
        delivered: 0,
        lost: 0,
        in_flight: delivered,
        app_limited: false,
    };
    let rate = RateSample { rate: None, delivered: u64::from(delivered), interval: rtt, lost: 0, sent, round_start };
    let rtt_ns = rtt.as_nanos() as u64;
    Ack { rtt_ns, srtt_ns: rtt_ns, round_start, rate: Some(rate), ..ack(now, delivered) }
}

pub fn loss(now: Instant, flight_size: u32) -> Congestion {
    Congestion { now, cause: Cause::Loss, flight_size, in_flight: flight_size, reduced_already: false }
}

pub fn rto(now: Instant, flight_size: u32, backoff: u32) -> Timeout {
    Timeout { now, flight_size, in_flight: 0, backoff }
}

pub fn restart(now: Instant, idle: Duration) -> Restart {
    Restart { now, idle_ns: idle.as_nanos() as u64, rto_ns: 200_000_000, app_limited: true }
}

/// The window in whole segments.
pub fn segments(control: &dyn CongestionControl) -> u32 {
    control.cwnd() / SMSS
}
