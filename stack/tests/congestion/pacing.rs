use std::time::Duration;

use tailwater_stack::Instant;
use tailwater_stack::tcp::congestion::pacing::{BURST_MAX, window_rate};
use tailwater_stack::tcp::congestion::{Pacer, SSTHRESH_INFINITE};

use crate::events::{at, ms};

#[test]
fn a_second_of_pacing_sends_what_the_rate_says() {
    let mut pacer = Pacer::default();
    pacer.set_rate(1_250_000, true);
    let (mut now, mut sent) = (Instant::ZERO, 0_u64);
    while now < at(1_000) {
        pacer.on_send(now, 1_250);
        sent += 1_250;
        now = pacer.release_at();
    }
    assert_eq!(sent, 1_250_000);
}

#[test]
fn idle_time_saves_up_two_milliseconds_and_no_more() {
    let mut pacer = Pacer::default();
    pacer.set_rate(1_000_000, true);
    pacer.on_send(at(0), 1_000);
    for released in [4_999, 5_000, 5_001] {
        pacer.on_send(at(5_000), 1_000);
        assert_eq!(pacer.release_at(), at(released));
    }
}

#[test]
fn a_window_that_is_only_spread_saves_up_nothing() {
    let mut pacer = Pacer::default();
    pacer.set_rate(1_000_000, false);
    pacer.on_send(at(0), 1_000);
    pacer.on_send(at(5_000), 1_000);
    assert_eq!(pacer.release_at(), at(5_001));
}

#[test]
fn timers_that_are_late_take_nothing_off_the_rate() {
    let mut pacer = Pacer::default();
    pacer.set_rate(1_000_000, true);
    let (mut now, mut sent) = (Instant::ZERO, 0_u64);
    while now < at(1_000) {
        while pacer.release_at() <= now {
            pacer.on_send(now, 1_000);
            sent += 1_000;
        }
        now = pacer.release_at() + Duration::from_micros(900);
    }
    assert!((999_000..=1_003_000).contains(&sent), "{sent}");
}

#[test]
fn an_unlimited_pacer_never_holds_back() {
    let mut pacer = Pacer::default();
    pacer.on_send(at(7), u32::MAX);
    assert_eq!(pacer.release_at(), at(7));
    assert_eq!(pacer.quantum(1_000), BURST_MAX);
}

// A millisecond of the rate, at least two segments, at most 64 KiB.
#[test]
fn quantum_grows_with_the_rate() {
    let quantum = |rate| {
        let mut pacer = Pacer::default();
        pacer.set_rate(rate, false);
        pacer.quantum(1_000)
    };
    assert_eq!(quantum(1), 2_000);
    assert_eq!(quantum(10_000_000), 10_000);
    assert_eq!(quantum(u64::MAX), BURST_MAX);
}

#[test]
fn a_control_without_a_rate_is_paced_over_its_round_trip() {
    let rate = |cwnd, ssthresh, srtt| window_rate(cwnd, ssthresh, srtt);
    assert_eq!(rate(100_000, SSTHRESH_INFINITE, None), 0);
    assert_eq!(rate(100_000, SSTHRESH_INFINITE, Some(ms(100))), 2_000_000);
    assert_eq!(rate(100_000, 100_000, Some(ms(100))), 1_200_000);
    assert_eq!(rate(1, 100, Some(Duration::from_secs(u64::MAX))), 1);
}
