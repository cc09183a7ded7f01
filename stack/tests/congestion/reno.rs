use tailwater_stack::tcp::congestion::{
    Ack, Cause, Congestion, CongestionControl, Reno, SSTHRESH_INFINITE, initial_window,
};

use crate::events::*;

// RFC 6928 §2: min(10 SMSS, max(2 SMSS, 14600)).
#[test]
fn initial_window_is_ten_segments_or_14600_bytes_rfc6928_s2() {
    assert_eq!(initial_window(1_460), 14_600);
    assert_eq!(initial_window(536), 5_360);
    assert_eq!(initial_window(8_960), 17_920);
    assert_eq!(initial_window(2_000), 14_600);
}

// RFC 5681 §3.1 with RFC 3465 §2.2: an acknowledgement of two segments widens by two.
#[test]
fn slow_start_doubles_per_round_trip_although_acks_are_delayed_rfc5681_s3_1() {
    let mut reno = Reno::new(&start());
    for round in 1..=3 {
        for _ in 0..5 << (round - 1) {
            reno.on_ack(&ack(at(round * 100), 2 * SMSS));
        }
        assert_eq!(segments(&reno), 10 << round);
    }
    assert_eq!(reno.ssthresh(), SSTHRESH_INFINITE);
}

// RFC 3465 §2.3: L is 2 segments.
#[test]
fn a_stretched_ack_widens_slow_start_by_two_segments_only_rfc3465_s2_3() {
    let mut reno = Reno::new(&start());
    reno.on_ack(&ack(at(1), 10 * SMSS));
    assert_eq!(segments(&reno), 12);
}

// RFC 3465 §2.1.
#[test]
fn congestion_avoidance_adds_one_segment_per_window_acknowledged_rfc3465_s2_1() {
    let mut reno = Reno::new(&start_at(20, 20));
    for expected in 21..=24 {
        for _ in 0..expected - 1 {
            assert_eq!(segments(&reno), expected - 1);
            reno.on_ack(&ack(at(1), SMSS));
        }
        assert_eq!(segments(&reno), expected);
    }
}

#[test]
fn slow_start_stops_at_the_threshold_rfc5681_s3_1() {
    let mut reno = Reno::new(&start_at(10, 11));
    reno.on_ack(&ack(at(1), 2 * SMSS));
    assert_eq!(reno.cwnd(), 11 * SMSS);
}

// RFC 5681 §3.1 equation (4), §3.2.
#[test]
fn loss_halves_what_was_in_flight_rfc5681_s3_1() {
    let mut reno = Reno::new(&start_at(40, 100));
    reno.on_congestion(&loss(at(1), 36 * SMSS));
    assert_eq!((reno.cwnd(), reno.ssthresh()), (18 * SMSS, 18 * SMSS));
}

// RFC 3168 §6.1.2: as for a loss.
#[test]
fn an_ecn_echo_halves_too_rfc3168_s6_1_2() {
    let mut reno = Reno::new(&start_at(40, 100));
    let mark = Congestion { cause: Cause::Ecn, ..loss(at(1), 40 * SMSS) };
    reno.on_congestion(&mark);
    assert_eq!(segments(&reno), 20);
}

#[test]
fn the_threshold_is_never_below_two_segments_rfc5681_s3_1() {
    let mut reno = Reno::new(&start_at(4, 100));
    reno.on_congestion(&loss(at(1), SMSS));
    assert_eq!((reno.cwnd(), reno.ssthresh()), (2 * SMSS, 2 * SMSS));
}

// RFC 5681 §3.1.
#[test]
fn a_timeout_leaves_one_segment_and_a_second_one_keeps_the_threshold_rfc5681_s3_1() {
    let mut reno = Reno::new(&start_at(40, 100));
    reno.on_rto(&rto(at(1), 40 * SMSS, 0));
    assert_eq!((segments(&reno), reno.ssthresh()), (1, 20 * SMSS));
    reno.on_rto(&rto(at(2), SMSS, 1));
    assert_eq!((segments(&reno), reno.ssthresh()), (1, 20 * SMSS));
}

// RFC 3465 §2.3: L is 1 segment in slow start after a time-out.
#[test]
fn after_a_timeout_slow_start_goes_by_one_segment_per_ack_rfc3465_s2_3() {
    let mut reno = Reno::new(&start_at(40, 100));
    reno.on_rto(&rto(at(1), 40 * SMSS, 0));
    reno.on_ack(&ack(at(2), 10 * SMSS));
    assert_eq!(segments(&reno), 2);
    reno.on_recovered(at(3));
    reno.on_ack(&ack(at(4), 10 * SMSS));
    assert_eq!(segments(&reno), 4);
}

#[test]
fn a_spurious_reduction_is_taken_back_and_growth_since_is_kept() {
    let mut reno = Reno::new(&start_at(40, 100));
    reno.on_rto(&rto(at(1), 40 * SMSS, 0));
    reno.on_spurious(at(2));
    assert_eq!((segments(&reno), reno.ssthresh()), (40, 100 * SMSS));
    reno.on_ack(&ack(at(3), 2 * SMSS));
    reno.on_spurious(at(4));
    assert_eq!(segments(&reno), 42);
}

// RFC 5681 §4.1: RW = min(IW, cwnd), after more than an RTO.
#[test]
fn an_idle_connection_restarts_from_the_initial_window_rfc5681_s4_1() {
    let mut reno = Reno::new(&start_at(40, 100));
    reno.on_idle_restart(&restart(at(150), ms(150)));
    assert_eq!(segments(&reno), 40);
    reno.on_idle_restart(&restart(at(1_000), ms(201)));
    assert_eq!(segments(&reno), 10);
}

#[test]
fn a_window_that_is_not_used_does_not_grow_rfc9293_s3_8_2() {
    let mut reno = Reno::new(&start());
    for _ in 0..100 {
        reno.on_ack(&Ack { cwnd_limited: false, ..ack(at(1), 2 * SMSS) });
    }
    assert_eq!(segments(&reno), 10);
}

#[test]
fn nothing_grows_during_fast_recovery_rfc5681_s3_2() {
    let mut reno = Reno::new(&start_at(40, 100));
    reno.on_congestion(&loss(at(1), 40 * SMSS));
    reno.on_ack(&Ack { in_recovery: true, ..ack(at(2), 20 * SMSS) });
    assert_eq!(segments(&reno), 20);
}
