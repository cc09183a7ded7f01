use std::time::Duration;

use tailwater_stack::Instant;
use tailwater_stack::tcp::congestion::{Ack, CongestionControl, Cubic, SSTHRESH_INFINITE};

use crate::events::*;

/// In congestion avoidance with this many segments, then a loss: what the curve starts from.
fn after_loss_at(cwnd: u32) -> Cubic {
    let mut cubic = Cubic::new(&start_at(cwnd, cwnd));
    cubic.on_congestion(&loss(at(0), cwnd * SMSS));
    cubic
}

/// Acknowledges a whole window each `rtt` until `until`, from the first at `from`.
fn run(cubic: &mut Cubic, from: Duration, until: Duration, rtt: Duration) {
    let mut t = from;
    while t <= until {
        let now = Instant::ZERO + t;
        let rtt_ns = rtt.as_nanos() as u64;
        cubic.on_ack(&Ack { rtt_ns, srtt_ns: rtt_ns, ..ack(now, cubic.cwnd()) });
        t += rtt;
    }
}

/// RFC 9438 §4.2 equation (1), in segments; for tests only, where there is floating point.
fn w_cubic(t: f64, w_max: f64, cwnd_epoch: f64) -> f64 {
    let k = ((w_max - cwnd_epoch) / 0.4).cbrt();
    0.4 * (t - k).powi(3) + w_max
}

fn assert_near(cwnd: u32, segments: f64) {
    let is = f64::from(cwnd) / f64::from(SMSS);
    assert!((is - segments).abs() < 0.002 * segments, "cwnd is {is} segments, not {segments}");
}

// RFC 9438 §4.6: beta_cubic = 0.7.
#[test]
fn loss_takes_three_tenths_rfc9438_s4_6() {
    let cubic = after_loss_at(100);
    assert_eq!((cubic.cwnd(), cubic.ssthresh()), (70 * SMSS, 70 * SMSS));
}

// RFC 9438 §4.2, §4.4, §4.5. From 700 of 1000 segments K is cbrt(750) = 9.086 s; a window
// acknowledged at t takes cwnd to W_cubic(t + RTT):
//   t + RTT = 2 s: 0.4 (2 - 9.086)^3 + 1000 =  857.7 segments
//             9 s: 0.4 (-0.086)^3 + 1000    = 1000.0
//            15 s: 0.4 (5.914)^3 + 1000     = 1082.8
#[test]
fn window_follows_the_cubic_through_its_plateau_rfc9438_s4_2() {
    let rtt = ms(100);
    let mut cubic = after_loss_at(1_000);
    run(&mut cubic, ms(0), ms(1_900), rtt);
    assert_near(cubic.cwnd(), 857.7);
    run(&mut cubic, ms(2_000), ms(8_900), rtt);
    assert_near(cubic.cwnd(), 1_000.0);
    run(&mut cubic, ms(9_000), ms(14_900), rtt);
    assert_near(cubic.cwnd(), 1_082.8);
    assert_near(cubic.cwnd(), w_cubic(15.0, 1_000.0, 700.0));
}

// RFC 9438 §4.3. RTT 10 ms: alpha 9/17 per round trip from 70, so 100 is reached after 56.7 round
// trips; from there 1 per round trip. After 100 round trips: 100 + 43.3. W_cubic(1 s) is 86.7 only.
#[test]
fn with_a_short_round_trip_it_is_as_fast_as_reno_rfc9438_s4_3() {
    let mut cubic = after_loss_at(100);
    run(&mut cubic, ms(0), ms(990), ms(10));
    assert_near(cubic.cwnd(), 143.3);
}

// RFC 9438 §4.7: W_max is 0.85 of the 857.7 segments where the second loss came, 729.1, and the
// window 600.4: K = cbrt(128.7 / 0.4) = 6.852 s.
#[test]
fn a_loss_below_the_last_maximum_lowers_the_next_rfc9438_s4_7() {
    let mut cubic = after_loss_at(1_000);
    run(&mut cubic, ms(0), ms(1_900), ms(100));
    cubic.on_congestion(&loss(at(2_000), cubic.cwnd()));
    assert_near(cubic.cwnd(), 600.4);
    run(&mut cubic, ms(2_000), ms(8_700), ms(100));
    assert_near(cubic.cwnd(), 729.1);
    assert_near(cubic.cwnd(), w_cubic(6.8, 729.1, 600.4));
}

// RFC 9438 §4.8. Slow start takes 10 round trips from 1 to 700; then K is 0 and W_max 700.
#[test]
fn after_a_timeout_the_curve_starts_where_slow_start_ends_rfc9438_s4_8() {
    let mut cubic = Cubic::new(&start_at(1_000, 1_000));
    cubic.on_rto(&rto(at(0), 1_000 * SMSS, 0));
    assert_eq!((segments(&cubic), cubic.ssthresh()), (1, 700 * SMSS));
    cubic.on_rto(&rto(at(0), SMSS, 1));
    assert_eq!(cubic.ssthresh(), 700 * SMSS);
    run(&mut cubic, ms(100), ms(1_000), ms(100));
    // The last acknowledgement also began congestion avoidance.
    assert_eq!(segments(&cubic), 700);
    run(&mut cubic, ms(1_100), ms(10_900), ms(100));
    assert_near(cubic.cwnd(), 700.0 + 0.4 * 1_000.0);
}

// RFC 9438 §4.4: at most 1.5 cwnd is aimed at.
#[test]
fn a_window_grows_by_half_in_a_round_trip_at_most_rfc9438_s4_4() {
    let mut cubic = Cubic::new(&start_at(10, 10));
    run(&mut cubic, ms(0), ms(0), ms(100));
    let before = cubic.cwnd();
    cubic.on_ack(&Ack { srtt_ns: 100_000_000, ..ack(at(60_000), before) });
    assert_eq!(cubic.cwnd(), before + before / 2);
}

// RFC 9438 §4.9: cwnd, ssthresh and the curve come back.
#[test]
fn a_spurious_reduction_continues_on_the_old_curve_rfc9438_s4_9() {
    let rtt = ms(100);
    let (mut disturbed, mut undisturbed) = (after_loss_at(100), after_loss_at(100));
    for cubic in [&mut disturbed, &mut undisturbed] {
        run(cubic, ms(0), ms(2_000), rtt);
    }
    disturbed.on_congestion(&loss(at(2_000), disturbed.cwnd()));
    assert!(disturbed.cwnd() < undisturbed.cwnd());
    disturbed.on_spurious(at(2_000));
    for cubic in [&mut disturbed, &mut undisturbed] {
        run(cubic, ms(2_100), ms(6_000), rtt);
    }
    assert_eq!(disturbed.cwnd(), undisturbed.cwnd());
}

#[test]
fn a_spurious_timeout_is_taken_back_rfc9438_s4_9() {
    let mut cubic = Cubic::new(&start_at(100, 100));
    cubic.on_rto(&rto(at(0), 100 * SMSS, 0));
    cubic.on_spurious(at(1));
    assert_eq!((segments(&cubic), cubic.ssthresh()), (100, 100 * SMSS));
}

// RFC 9438 §4.2, §5.8.
#[test]
fn time_in_which_the_window_is_not_used_is_not_part_of_t_rfc9438_s4_2() {
    let rtt = ms(100);
    let (mut limited, mut free) = (after_loss_at(100), after_loss_at(100));
    for cubic in [&mut limited, &mut free] {
        run(cubic, ms(0), ms(1_000), rtt);
    }
    for t in (1_100..=61_000).step_by(100) {
        limited.on_ack(&Ack { srtt_ns: rtt.as_nanos() as u64, cwnd_limited: false, ..ack(at(t), 2 * SMSS) });
    }
    run(&mut limited, ms(61_100), ms(62_000), rtt);
    run(&mut free, ms(1_100), ms(2_000), rtt);
    assert_eq!(limited.cwnd(), free.cwnd());
}

#[test]
fn idle_time_is_not_part_of_t_rfc9438_s4_2() {
    let rtt = ms(100);
    let mut busy = Cubic::new(&start_at(10, 10));
    run(&mut busy, ms(0), ms(400), rtt);
    let (mut told, mut untold) = (busy.clone(), busy.clone());
    told.on_idle_restart(&restart(at(600), ms(199)));
    run(&mut busy, ms(500), ms(1_800), rtt);
    for idle in [&mut told, &mut untold] {
        run(idle, ms(700), ms(2_000), rtt);
        assert_eq!(idle.cwnd(), busy.cwnd());
    }
}

#[test]
fn first_slow_start_takes_every_byte_acknowledged_rfc9406_s4_3() {
    let mut cubic = Cubic::new(&start());
    run(&mut cubic, ms(0), ms(300), ms(100));
    assert_eq!(segments(&cubic), 160);
    assert_eq!(cubic.ssthresh(), SSTHRESH_INFINITE);
}
