//! Whatever a connection tells a control, the answers stay within bounds and nothing overflows.

use std::time::Duration;

use proptest::prelude::*;
use tailwater_stack::Instant;
use tailwater_stack::tcp::congestion::{
    Ack, CONTROLS, CWND_MAX, Cause, Congestion, CongestionControl, Lost, RateSample, Restart, SendStamp, Start,
    Timeout, exchange,
};

#[derive(Clone, Debug)]
enum Told {
    Ack(Ack),
    Lost(Lost),
    Congestion(Congestion),
    Recovered(Instant),
    Rto(Timeout),
    Spurious(Instant),
    IdleRestart(Restart),
    Smss(u32),
    Exchange(usize, Start),
}

fn bytes() -> impl Strategy<Value = u32> {
    prop_oneof![0..100_000_u32, Just(0), Just(1), Just(u32::MAX), any::<u32>()]
}

fn total() -> impl Strategy<Value = u64> {
    prop_oneof![0..1_000_000_u64, Just(u64::MAX), any::<u64>()]
}

fn instant() -> impl Strategy<Value = Instant> {
    prop_oneof![(0..100_000_u64).prop_map(Instant::from_millis), any::<u64>().prop_map(Instant::from_nanos)]
}

fn nanos() -> impl Strategy<Value = u64> {
    prop_oneof![(0..1_000_u64).prop_map(|ms| ms * 1_000_000), any::<u64>(), Just(0), Just(u64::MAX)]
}

fn duration() -> impl Strategy<Value = Duration> {
    let any = any::<u64>().prop_map(Duration::from_nanos);
    prop_oneof![(0..1_000_u64).prop_map(Duration::from_millis), any, Just(Duration::ZERO), Just(Duration::MAX)]
}

fn stamp() -> impl Strategy<Value = SendStamp> {
    (instant(), instant(), instant(), total(), total(), bytes(), any::<bool>()).prop_map(
        |(sent_at, first_send_at, delivered_at, delivered, lost, in_flight, app_limited)| SendStamp {
            sent_at,
            first_send_at,
            delivered_at,
            delivered,
            lost,
            in_flight,
            app_limited,
        },
    )
}

fn sample() -> impl Strategy<Value = RateSample> {
    (proptest::option::of(total()), total(), duration(), total(), stamp(), any::<bool>()).prop_map(
        |(rate, delivered, interval, lost, sent, round_start)| RateSample {
            rate,
            delivered,
            interval,
            lost,
            sent,
            round_start,
        },
    )
}

fn ack() -> impl Strategy<Value = Ack> {
    let times = (instant(), nanos(), nanos());
    let volumes = (bytes(), bytes(), total(), bytes(), bytes());
    let flags = (any::<bool>(), any::<bool>(), any::<bool>());
    (times, volumes, flags, proptest::option::of(sample())).prop_map(
        |(
            (now, rtt_ns, srtt_ns),
            (acked, delivered, delivered_total, before, after),
            (limited, ecn, recovery),
            rate,
        )| Ack {
            now,
            acked,
            delivered,
            delivered_total,
            rtt_ns,
            srtt_ns,
            in_flight_before: before,
            in_flight: after,
            cwnd_limited: limited,
            ecn_echo: ecn,
            in_recovery: recovery,
            round_start: rate.is_some_and(|rate| rate.round_start),
            rate,
        },
    )
}

fn begin() -> impl Strategy<Value = Start> {
    (instant(), 1..=u32::MAX, bytes(), bytes(), proptest::option::of(duration()), total(), any::<u64>()).prop_map(
        |(now, smss, cwnd, ssthresh, srtt, delivered, seed)| Start {
            now,
            smss: if seed % 2 == 0 { smss } else { smss % 10_000 + 1 },
            cwnd,
            ssthresh,
            srtt,
            min_rtt: srtt,
            delivered,
            seed,
        },
    )
}

fn told() -> impl Strategy<Value = Told> {
    let cause = prop_oneof![Just(Cause::Loss), Just(Cause::Ecn)];
    let congestion = (instant(), cause, bytes(), bytes(), any::<bool>()).prop_map(|told| {
        let (now, cause, flight_size, in_flight, reduced_already) = told;
        Told::Congestion(Congestion { now, cause, flight_size, in_flight, reduced_already })
    });
    let lost = (instant(), bytes(), total(), total(), any::<bool>(), stamp()).prop_map(
        |(now, len, lost_since_send, delivered_total, range_start, sent)| {
            Told::Lost(Lost { now, len, lost_since_send, delivered_total, range_start, sent })
        },
    );
    let timeout = (instant(), bytes(), bytes(), 0..20_u32)
        .prop_map(|(now, flight_size, in_flight, backoff)| Told::Rto(Timeout { now, flight_size, in_flight, backoff }));
    let restart = (instant(), nanos(), nanos(), any::<bool>()).prop_map(|(now, idle_ns, rto_ns, app_limited)| {
        Told::IdleRestart(Restart { now, idle_ns, rto_ns, app_limited })
    });
    prop_oneof![
        8 => ack().prop_map(Told::Ack),
        2 => lost,
        2 => congestion,
        1 => instant().prop_map(Told::Recovered),
        1 => timeout,
        1 => instant().prop_map(Told::Spurious),
        1 => restart,
        1 => (1..=u32::MAX).prop_map(Told::Smss),
        1 => (0..CONTROLS.len(), begin()).prop_map(|(to, path)| Told::Exchange(to, path)),
    ]
}

fn tell(control: &mut Box<dyn CongestionControl>, what: &Told) {
    match what {
        Told::Ack(ack) => control.on_ack(ack),
        Told::Lost(lost) => control.on_lost(lost),
        Told::Congestion(congestion) => control.on_congestion(congestion),
        Told::Recovered(now) => control.on_recovered(*now),
        Told::Rto(timeout) => control.on_rto(timeout),
        Told::Spurious(now) => control.on_spurious(*now),
        Told::IdleRestart(restart) => control.on_idle_restart(restart),
        Told::Smss(smss) => control.on_smss(*smss),
        Told::Exchange(to, path) => exchange(control, &CONTROLS[*to], path),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_told_the_answers_stay_within_bounds(
        which in 0..CONTROLS.len(),
        begin in begin(),
        script in proptest::collection::vec(told(), 1..60),
    ) {
        let mut smss = begin.smss;
        let mut control = (CONTROLS[which].build)(&begin);
        for what in &script {
            match what {
                Told::Smss(to) => smss = *to,
                Told::Exchange(_, path) => smss = path.smss,
                _ => {}
            }
            tell(&mut control, what);
            let cwnd = control.cwnd();
            prop_assert!(cwnd <= CWND_MAX, "{} says {cwnd}", control.name());
            prop_assert!(cwnd >= smss.min(CWND_MAX), "{} says {cwnd} of {smss}", control.name());
            prop_assert!(control.ssthresh() > 0);
            prop_assert!(control.pacing_rate() != Some(0));
            prop_assert_eq!(control.snapshot().cwnd, cwnd);
        }
    }
}
