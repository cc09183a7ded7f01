//! BBR version 3 over a bottleneck: the cases of draft-ietf-ccwg-bbr-06's appendix, and a few more.

use std::time::Duration;

use tailwater_stack::tcp::congestion::{Bbr3, Cubic, Start};

use crate::events::*;
use crate::path::{BDP, Flow, PATH, Path, assert_within_2_percent};

fn flow(path: Path) -> Flow {
    Flow::new(Box::new(Bbr3::new(&start())), path)
}

#[test]
fn startup_ends_on_a_plateau_with_the_bandwidth_measured_bbr3_draft_s5_3_1() {
    let mut flow = flow(PATH);
    flow.run_until_phase("Drain");
    assert_eq!(flow.phases, ["Startup", "Drain"]);
    assert_within_2_percent(flow.bandwidth(), PATH.rate);
    // From 10 segments to 125 are 4 doublings, and 3 rounds of plateau, during which a queue doubles
    // the round trip at most.
    assert!(flow.now < at(50 * 4 + 100 * 5), "{:?}", flow.now);
}

#[test]
fn drain_empties_the_queue_of_startup_bbr3_draft_s5_3_2() {
    let mut flow = flow(PATH);
    flow.run_until_phase("Drain");
    assert!(u64::from(flow.in_flight_bytes()) > BDP * 3 / 2);
    flow.run_until_phase("ProbeBW_CRUISE");
    assert!(u64::from(flow.in_flight_bytes()) <= BDP * 21 / 20, "{}", flow.in_flight_bytes());
    assert_eq!(flow.phases[..2], ["Startup", "Drain"]);
    assert!(flow.now < at(1_500), "{:?}", flow.now);
}

#[test]
fn steady_state_uses_the_path_without_a_standing_queue() {
    let mut flow = flow(PATH);
    flow.run_for(Duration::from_secs(3));
    flow.queue_max = 0;
    let goodput = flow.goodput(Duration::from_secs(10));
    assert!(goodput > PATH.rate * 95 / 100, "{goodput}");
    assert!(flow.queue_max < BDP, "{}", flow.queue_max);
    assert_eq!(flow.losses, 0);
}

#[test]
fn bandwidth_is_probed_in_cycles_bbr3_draft_s5_3_3() {
    let mut flow = flow(PATH);
    flow.run_for(Duration::from_secs(12));
    // Each 2 to 3 s.
    let cycle = ["ProbeBW_CRUISE", "ProbeBW_REFILL", "ProbeBW_UP"];
    let cycles = flow.phases.windows(3).filter(|phases| *phases == cycle).count();
    assert!((3..=5).contains(&cycles), "{cycles} cycles in {:?}", flow.phases);
}

#[test]
fn more_bandwidth_is_found_by_probing() {
    let mut flow = flow(PATH);
    flow.run_for(Duration::from_secs(3));
    flow.path.rate = 5_000_000;
    flow.path.queue = 500_000;
    flow.run_for(Duration::from_secs(15));
    assert_within_2_percent(flow.bandwidth(), 5_000_000);
}

#[test]
fn less_bandwidth_is_believed_after_two_cycles() {
    let mut flow = flow(PATH);
    flow.run_for(Duration::from_secs(3));
    flow.path.rate = 1_250_000;
    flow.run_for(Duration::from_secs(15));
    assert_within_2_percent(flow.bandwidth(), 1_250_000);
}

#[test]
fn probe_rtt_is_visited_after_five_seconds_and_left_after_200_ms_bbr3_draft_s5_3_4() {
    let mut flow = flow(PATH);
    flow.run_until_phase("ProbeRTT");
    let entered = flow.now;
    assert!(entered > at(5_000) && entered < at(6_500), "{entered:?}");
    flow.run_until_phase("ProbeBW_CRUISE");
    let stayed = flow.now.since(entered);
    assert!(stayed >= ms(200) && stayed < ms(500), "{stayed:?}");
}

#[test]
fn probe_rtt_halves_what_is_in_flight_and_rates_then_count_for_nothing() {
    let mut flow = flow(PATH);
    flow.run_until_phase("ProbeRTT");
    assert!(flow.control.holds_back());
    flow.run_for(ms(150));
    assert!(u64::from(flow.in_flight_bytes()) <= BDP * 55 / 100);
    flow.run_until_phase("ProbeBW_CRUISE");
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
fn an_idle_connection_does_not_visit_probe_rtt_on_its_return() {
    let mut flow = flow(PATH);
    flow.run_for(Duration::from_secs(3));
    flow.limit_application(Some(1));
    flow.run_for(Duration::from_secs(6));
    flow.phases.clear();
    flow.control.on_idle_restart(&restart(flow.now, Duration::from_secs(6)));
    flow.limit_application(None);
    flow.run_for(ms(200));
    assert!(!flow.phases.contains(&"ProbeRTT"), "{:?}", flow.phases);
    assert_within_2_percent(flow.bandwidth(), PATH.rate);
}

// §5.3.1.3: a queue of 10 segments overflows long before a plateau can be seen.
#[test]
fn heavy_loss_ends_startup_bbr3_draft_s5_3_1_3() {
    let mut flow = flow(Path { queue: 10_000, ..PATH });
    flow.run_until_phase("Drain");
    assert!(flow.losses >= 6);
    assert_eq!(flow.phases, ["Startup", "Drain"]);
}

#[test]
fn a_shallow_queue_is_shared_with_little_loss() {
    let mut flow = flow(Path { queue: 25_000, ..PATH });
    flow.run_for(Duration::from_secs(5));
    (flow.losses, flow.delivered) = (0, 0);
    let goodput = flow.goodput(Duration::from_secs(20));
    assert!(goodput > PATH.rate * 80 / 100, "{goodput}");
    let segments = flow.delivered / u64::from(SMSS);
    assert!(flow.losses < segments / 50, "{} of {segments}", flow.losses);
}

// Below the threshold of 2 % loss is not a sign of a full path; to CUBIC every loss is.
#[test]
fn one_percent_of_random_loss_does_not_matter() {
    let path = Path { lose_nth: 101, ..PATH };
    let mut bbr = flow(path);
    bbr.run_for(Duration::from_secs(3));
    let bbr = bbr.goodput(Duration::from_secs(10));
    let mut cubic = Flow::new(Box::new(Cubic::new(&start())), path);
    cubic.run_for(Duration::from_secs(3));
    let cubic = cubic.goodput(Duration::from_secs(10));
    assert!(bbr > PATH.rate * 75 / 100, "{bbr}");
    assert!(cubic < PATH.rate * 30 / 100, "{cubic}");
}

#[test]
fn a_timeout_leaves_a_segment_more_than_is_in_flight_and_recovery_restores_the_window() {
    let mut flow = flow(PATH);
    flow.run_for(Duration::from_secs(3));
    let before = flow.control.cwnd();
    flow.control.on_rto(&rto(flow.now, before, 0));
    assert_eq!(flow.control.cwnd(), SMSS);
    flow.control.on_recovered(flow.now);
    assert_eq!(flow.control.cwnd(), before);
}

#[test]
fn a_startup_ended_by_mistake_goes_on() {
    let mut flow = flow(Path { queue: 10_000, ..PATH });
    flow.run_until_phase("Drain");
    flow.control.on_spurious(flow.now);
    assert_eq!(flow.control.snapshot().phase, "Startup");
}

#[test]
fn flows_with_other_seeds_probe_at_other_times() {
    let probes = |seed| {
        let control = Bbr3::new(&Start { seed, ..start() });
        let mut flow = Flow::new(Box::new(control), PATH);
        flow.run_until_phase("ProbeBW_UP");
        flow.now
    };
    assert_ne!(probes(1), probes(2));
    assert_eq!(probes(1), probes(1));
}
