//! HyStart++ (RFC 9406) as CUBIC's slow start shows it.

use std::time::Duration;

use tailwater_stack::Instant;
use tailwater_stack::tcp::congestion::{CongestionControl, Cubic, SSTHRESH_INFINITE};

use crate::events::*;

/// A round of `acks` acknowledgements of one segment.
fn round(cubic: &mut Cubic, n: u64, rtt: Duration, acks: u32) {
    for i in 0..acks {
        let now: Instant = at(n * 200) + Duration::from_micros(u64::from(i));
        cubic.on_ack(&ack_in_round(now, SMSS, rtt, i == 0));
    }
}

fn phase(cubic: &Cubic) -> &'static str {
    cubic.snapshot().phase
}

// RFC 9406 §4.2: RttThresh = clamp(4 ms, lastRoundMinRTT / 8, 16 ms) = 12.5 ms here.
#[test]
fn a_rise_of_an_eighth_in_eight_samples_makes_slow_start_conservative_rfc9406_s4_2() {
    let mut cubic = Cubic::new(&start());
    round(&mut cubic, 1, ms(100), 8);
    round(&mut cubic, 2, ms(112), 8);
    assert_eq!(phase(&cubic), "slow-start");
    round(&mut cubic, 3, ms(125), 7);
    assert_eq!(phase(&cubic), "slow-start", "seven samples are too few");
    let before = cubic.cwnd();
    round(&mut cubic, 4, ms(141), 8);
    assert_eq!(phase(&cubic), "conservative-slow-start");
    // Seven whole segments, and a quarter of the eighth.
    assert_eq!(cubic.cwnd() - before, 7 * SMSS + SMSS / 4);
}

// RFC 9406 §4.3: at least 4 ms, at most 16 ms.
#[test]
fn the_rise_that_counts_is_within_4_and_16_ms_rfc9406_s4_3() {
    for (base, below, above) in [(ms(10), ms(13), ms(14)), (ms(400), ms(415), ms(416))] {
        let rises = |rtt| {
            let mut cubic = Cubic::new(&start());
            round(&mut cubic, 1, base, 8);
            round(&mut cubic, 2, rtt, 8);
            phase(&cubic)
        };
        assert_eq!(rises(below), "slow-start");
        assert_eq!(rises(above), "conservative-slow-start");
    }
}

// RFC 9406 §4.2: back to slow start when the round-trip time falls below the baseline.
#[test]
fn jitter_is_forgiven_rfc9406_s4_2() {
    let mut cubic = Cubic::new(&start());
    round(&mut cubic, 1, ms(100), 8);
    round(&mut cubic, 2, ms(120), 8);
    assert_eq!(phase(&cubic), "conservative-slow-start");
    round(&mut cubic, 3, ms(100), 8);
    assert_eq!(phase(&cubic), "slow-start");
}

// RFC 9406 §4.3: CSS_ROUNDS = 5; then ssthresh = cwnd.
#[test]
fn five_conservative_rounds_end_slow_start_rfc9406_s4_3() {
    let mut cubic = Cubic::new(&start());
    round(&mut cubic, 1, ms(100), 8);
    round(&mut cubic, 2, ms(120), 8);
    for n in 3..7 {
        round(&mut cubic, n, ms(120), 8);
        assert_eq!(phase(&cubic), "conservative-slow-start");
        assert_eq!(cubic.ssthresh(), SSTHRESH_INFINITE);
    }
    let cwnd = cubic.cwnd();
    round(&mut cubic, 7, ms(120), 1);
    assert_eq!(phase(&cubic), "congestion-avoidance");
    assert_eq!(cubic.ssthresh(), cwnd);
}

#[test]
fn a_later_slow_start_does_without_rfc9406_s4_3() {
    let mut cubic = Cubic::new(&start());
    cubic.on_rto(&rto(at(1), 10 * SMSS, 0));
    round(&mut cubic, 2, ms(100), 2);
    round(&mut cubic, 3, ms(200), 2);
    assert_eq!((segments(&cubic), phase(&cubic)), (5, "slow-start"));
}
