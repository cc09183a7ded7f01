//! BBR version 1 over a bottleneck: what draft-cardwell-iccrg-bbr-congestion-control-00 promises.

use std::time::Duration;

use tailwater_stack::tcp::congestion::{Bbr, Cause, Congestion, Start};

use crate::events::*;
use crate::path::{BDP, Flow, PATH, Path, assert_within_2_percent};

fn flow(path: Path) -> Flow {
    Flow::new(Box::new(Bbr::new(&start())), path)
}

#[test]
fn startup_ends_on_a_plateau_with_the_bandwidth_measured_bbr_draft_s4_3_2() {
    let mut flow = flow(PATH);
    flow.run_until_phase("Drain");
    assert_eq!(flow.phases, ["Startup", "Drain"]);
    assert_within_2_percent(flow.bandwidth(), PATH.rate);
    // As for version 3, and a faster start with a larger window: the queue may treble the round trip.
    assert!(flow.now < at(50 * 4 + 150 * 5), "{:?}", flow.now);
}

#[test]
fn drain_empties_the_queue_of_startup_bbr_draft_s4_3_3() {
    let mut flow = flow(PATH);
    flow.run_until_phase("Drain");
    assert!(u64::from(flow.in_flight_bytes()) > BDP * 3 / 2);
    let entered = flow.now;
    while flow.phases.last() == Some(&"Drain") {
        flow.run_for(ms(1));
    }
    // §4.2.3.2: the product, and three quanta of 1 ms that are under way in the hosts.
    assert!(u64::from(flow.in_flight_bytes()) <= BDP * 102 / 100 + 3 * PATH.rate / 1_000, "{}", flow.in_flight_bytes());
    assert!(flow.now.since(entered) < ms(200), "{:?}", flow.now);
}

#[test]
fn each_round_trip_of_eight_probes_and_the_next_drains_bbr_draft_s4_3_4() {
    let mut flow = flow(PATH);
    flow.run_for(Duration::from_secs(3));
    flow.phases.clear();
    flow.run_for(Duration::from_secs(4));
    let cycles = flow.phases.windows(3).filter(|w| *w == ["ProbeBW", "ProbeBW_UP", "ProbeBW_DOWN"]).count();
    // 4 s are ten cycles of 8 round trips of 50 ms.
    assert!((8..=10).contains(&cycles), "{cycles} in {:?}", flow.phases);
}

#[test]
fn steady_state_uses_the_path_with_little_of_its_queue() {
    let mut flow = flow(PATH);
    flow.run_for(Duration::from_secs(3));
    (flow.queue_max, flow.losses) = (0, 0);
    let goodput = flow.goodput(Duration::from_secs(6));
    assert!(goodput > PATH.rate * 97 / 100, "{goodput}");
    assert!(flow.queue_max < BDP / 2, "{}", flow.queue_max);
    assert_eq!(flow.losses, 0);
}

#[test]
fn more_bandwidth_is_found_a_quarter_in_each_cycle() {
    let mut flow = flow(PATH);
    flow.run_for(Duration::from_secs(3));
    flow.path.rate = 5_000_000;
    flow.path.queue = 500_000;
    // 1.25^4 > 2: four cycles.
    flow.run_for(ms(5 * 8 * 50));
    assert_within_2_percent(flow.bandwidth(), 5_000_000);
}

#[test]
fn less_bandwidth_is_believed_after_ten_round_trips_bbr_draft_s4_1_1_4() {
    let mut flow = flow(PATH);
    flow.run_for(Duration::from_secs(3));
    flow.path.rate = 1_250_000;
    flow.run_for(ms(100));
    assert_within_2_percent(flow.bandwidth(), PATH.rate);
    flow.run_for(Duration::from_secs(4));
    assert_within_2_percent(flow.bandwidth(), 1_250_000);
}

#[test]
fn probe_rtt_is_visited_after_ten_seconds_with_four_segments_bbr_draft_s4_3_5() {
    let mut flow = flow(PATH);
    flow.run_until_phase("ProbeRTT");
    let entered = flow.now;
    assert!(entered > at(10_000) && entered < at(11_500), "{entered:?}");
    assert!(flow.control.holds_back());
    flow.run_for(ms(150));
    assert_eq!(segments(&*flow.control), 4);
    assert!(flow.in_flight_bytes() <= 4 * SMSS);
    while flow.phases.last() == Some(&"ProbeRTT") {
        flow.run_for(ms(1));
    }
    let stayed = flow.now.since(entered);
    assert!(stayed >= ms(200) && stayed < ms(500), "{stayed:?}");
    assert_within_2_percent(flow.bandwidth(), PATH.rate);
}

#[test]
fn an_application_that_limits_itself_stays_in_startup() {
    let mut flow = flow(PATH);
    flow.limit_application(Some(200_000));
    flow.run_for(Duration::from_secs(4));
    assert_eq!(flow.phases, ["Startup"]);
}

#[test]
fn one_percent_of_random_loss_does_not_matter() {
    let mut flow = flow(Path { lose_nth: 101, ..PATH });
    flow.run_for(Duration::from_secs(3));
    let goodput = flow.goodput(Duration::from_secs(6));
    assert!(goodput > PATH.rate * 85 / 100, "{goodput}");
}

#[test]
fn recovery_begins_with_what_is_in_flight_and_ends_with_the_window_before_bbr_draft_s4_2_3_4() {
    let mut flow = flow(PATH);
    flow.run_for(Duration::from_secs(3));
    let before = flow.control.cwnd();
    flow.control.on_congestion(&Congestion { in_flight: 50 * SMSS, ..loss(flow.now, before) });
    assert_eq!(segments(&*flow.control), 51);
    flow.control.on_recovered(flow.now);
    assert_eq!(flow.control.cwnd(), before);
}

#[test]
fn a_timeout_leaves_one_segment_and_recovery_restores_the_window_bbr_draft_s4_2_3_4() {
    let mut flow = flow(PATH);
    flow.run_for(Duration::from_secs(3));
    let before = flow.control.cwnd();
    flow.control.on_rto(&rto(flow.now, before, 0));
    assert_eq!(flow.control.cwnd(), SMSS);
    flow.control.on_rto(&rto(flow.now, SMSS, 1));
    flow.control.on_recovered(flow.now);
    assert_eq!(flow.control.cwnd(), before);
}

#[test]
fn a_mark_is_not_heeded() {
    let mut flow = flow(PATH);
    flow.run_for(Duration::from_secs(3));
    let before = flow.control.cwnd();
    flow.control.on_congestion(&Congestion { cause: Cause::Ecn, ..loss(flow.now, before) });
    assert_eq!(flow.control.cwnd(), before);
}

#[test]
fn flows_with_other_seeds_probe_at_other_times_bbr_draft_s4_3_4_2() {
    let probes = |seed| {
        let mut flow = Flow::new(Box::new(Bbr::new(&Start { seed, ..start() })), PATH);
        flow.run_for(Duration::from_secs(2));
        flow.run_until_phase("ProbeBW_UP");
        flow.now
    };
    let probes: std::collections::BTreeSet<_> = (1..=8).map(probes).collect();
    assert!(probes.len() > 2, "{probes:?}");
}
