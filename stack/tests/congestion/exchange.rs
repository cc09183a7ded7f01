use tailwater_stack::tcp::congestion::{CONTROLS, SSTHRESH_INFINITE, Start, control, exchange};

use crate::events::*;

#[test]
fn every_control_is_found_by_its_name() {
    for listed in CONTROLS {
        let found = control(listed.name).unwrap();
        let built = (found.build)(&start());
        assert_eq!(built.name(), listed.name);
        assert_eq!(built.snapshot().name, listed.name);
        assert_eq!((built.cwnd(), built.ssthresh()), (10 * SMSS, SSTHRESH_INFINITE));
        assert!(!listed.about.is_empty());
    }
    assert!(control("vegas").is_none());
}

#[test]
fn a_successor_goes_on_with_window_and_threshold() {
    let mut current = (control("reno").unwrap().build)(&start_at(40, 100));
    current.on_congestion(&loss(at(1), 40 * SMSS));
    let path = Start { now: at(2), srtt: Some(ms(50)), min_rtt: Some(ms(40)), delivered: 1 << 40, ..start() };
    exchange(&mut current, control("cubic").unwrap(), &path);
    assert_eq!((current.name(), current.cwnd(), current.ssthresh()), ("cubic", 20 * SMSS, 20 * SMSS));
    assert_eq!(current.snapshot().phase, "congestion-avoidance");
    exchange(&mut current, control("bbr3").unwrap(), &path);
    assert_eq!((current.name(), current.cwnd()), ("bbr3", 20 * SMSS));
    // 2.77 * 20000 bytes in 50 ms.
    assert_eq!(current.pacing_rate(), Some(1_108_000));
}
