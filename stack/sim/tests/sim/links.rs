use std::time::Duration;

use tailwater_sim::workload::Pings;
use tailwater_sim::{LinkConfig, LossModel, Queue, Red};

use crate::networks::{assert_conserved, ms, pair, ping, stream};

const SECOND: Duration = Duration::from_secs(1);

// 1000 bytes of payload are 1042 on the wire: 20 Mbit/s offered, 10 Mbit/s carried, 9.6 of them payload.
#[test]
fn a_link_carries_its_rate_and_drops_the_rest() {
    let link = LinkConfig { rate_bps: 10_000_000, ..LinkConfig::default() };
    let (mut simulation, [a, b], link) = pair(1, link);
    stream(&mut simulation, a, b, "10.0.0.2:7000", 20_000_000, 30);
    simulation.run_for(5 * SECOND).unwrap();
    let before = simulation.flows()["to 10.0.0.2:7000"].received_bytes;
    simulation.run_for(5 * SECOND).unwrap();
    let goodput = (simulation.flows()["to 10.0.0.2:7000"].received_bytes - before) as f64 * 8.0 / 5.0;
    let expected = 10_000_000.0 * 1_000.0 / 1_042.0;
    assert!((goodput - expected).abs() < expected / 500.0, "{goodput}");
    assert!(simulation.link_counters(link)[0].queue_full > 1_000);
    assert_conserved(&simulation);
}

// A queue of 125 kB at 10 Mbit/s is 100 ms long.
#[test]
fn a_full_queue_delays_by_its_length() {
    let queue = Queue { bytes_max: 125_000, ..Queue::default() };
    let link = LinkConfig { rate_bps: 10_000_000, delay: ms(30), queue, ..LinkConfig::default() };
    let (mut simulation, [a, b], link) = pair(1, link);
    stream(&mut simulation, a, b, "10.0.0.2:7000", 20_000_000, 30);
    simulation.run_for(5 * SECOND).unwrap();
    let last = simulation.flows()["to 10.0.0.2:7000"].one_way.last().unwrap();
    assert!(last > ms(128) && last <= ms(131), "{last:?}");
    let queued = simulation.link_counters(link)[0].queue_bytes_max;
    assert!((123_000..=125_000).contains(&queued), "{queued}");
}

#[test]
fn a_round_trip_takes_both_delays() {
    let (mut simulation, [a, _], _) = pair(1, LinkConfig { delay: ms(25), ..LinkConfig::default() });
    ping(&mut simulation, a, Pings { count: 4, ..Pings::to([10, 0, 0, 2]) });
    simulation.run_for(5 * SECOND).unwrap();
    let ping = &simulation.flows()["ping"];
    assert_eq!((ping.sent_packets, ping.received_packets, ping.failed), (4, 4, 0));
    // The first waits for ARP: a round trip more.
    assert!(ping.rtt.max() >= ms(99) && ping.rtt.max() <= ms(101));
    assert!(ping.rtt.min() >= ms(49) && ping.rtt.min() <= ms(51));
}

#[test]
fn ipv6_works_too() {
    let (mut simulation, [a, b], _) = pair(1, LinkConfig { delay: ms(5), ..LinkConfig::default() });
    ping(&mut simulation, a, Pings { count: 3, ..Pings::to("fd00::2".parse::<std::net::Ipv6Addr>().unwrap()) });
    stream(&mut simulation, b, a, "[fd00::1]:7000", 1_000_000, 2);
    simulation.run_for(5 * SECOND).unwrap();
    let flows = simulation.flows();
    assert_eq!(flows["ping"].received_packets, 3);
    let udp = &flows["to [fd00::1]:7000"];
    assert_eq!((udp.received_packets, udp.sent_packets), (250, 250));
}

#[test]
fn a_share_is_lost_and_what_is_corrupted_is_refused() {
    let loss = LossModel::Uniform { probability: 0.05 };
    let (mut simulation, [a, b], link) = pair(7, LinkConfig { loss, corrupt: 0.02, ..LinkConfig::default() });
    stream(&mut simulation, a, b, "10.0.0.2:7000", 16_000_000, 10);
    simulation.run_for(12 * SECOND).unwrap();
    let counters = simulation.link_counters(link)[0];
    let flow = &simulation.flows()["to 10.0.0.2:7000"];
    let share = |n: u64| n as f64 / counters.offered as f64;
    assert!((share(counters.lost) - 0.05).abs() < 0.005);
    assert!((share(counters.corrupted) - 0.019).abs() < 0.004);
    let missing = flow.missing_packets();
    // A bit that flips in a MAC address or in a field that no checksum covers is not always noticed.
    let explained = counters.lost + counters.corrupted;
    assert!(missing <= explained && missing > counters.lost + counters.corrupted / 2, "{missing} of {explained}");
}

#[test]
fn bursts_come_and_go() {
    let loss = LossModel::GilbertElliott { enter: 0.002, leave: 0.05, good: 0.0, bad: 0.8 };
    let (mut simulation, [a, b], link) = pair(7, LinkConfig { loss, ..LinkConfig::default() });
    stream(&mut simulation, a, b, "10.0.0.2:7000", 40_000_000, 20);
    simulation.run_for(22 * SECOND).unwrap();
    let counters = simulation.link_counters(link)[0];
    let share = counters.lost as f64 / counters.offered as f64;
    let expected = 0.8 * 0.002 / 0.052;
    assert!((share - expected).abs() < expected / 4.0, "{share} is not {expected}");
}

#[test]
fn copies_and_overtaking_are_seen_by_the_receiver() {
    let link = LinkConfig { duplicate: 0.03, reorder: 0.04, delay: ms(10), ..LinkConfig::default() };
    let (mut simulation, [a, b], link) = pair(3, link);
    stream(&mut simulation, a, b, "10.0.0.2:7000", 16_000_000, 10);
    simulation.run_for(12 * SECOND).unwrap();
    let counters = simulation.link_counters(link)[0];
    let flow = &simulation.flows()["to 10.0.0.2:7000"];
    assert_eq!(flow.missing_packets(), 0);
    // ARP's frames are among the link's.
    assert!(flow.duplicates <= counters.duplicated && flow.duplicates + 2 >= counters.duplicated);
    assert!((500..700).contains(&flow.duplicates), "{}", flow.duplicates);
    assert!(flow.reordered > 0 && counters.reordered > 700);
}

#[test]
fn jitter_reorders_and_stays_within_bounds() {
    let (mut simulation, [a, b], _) = pair(3, LinkConfig { delay: ms(10), jitter: ms(4), ..LinkConfig::default() });
    stream(&mut simulation, a, b, "10.0.0.2:7000", 16_000_000, 5);
    simulation.run_for(7 * SECOND).unwrap();
    let flow = &simulation.flows()["to 10.0.0.2:7000"];
    assert_eq!(flow.missing_packets(), 0);
    assert!(flow.reordered > 1_000);
    assert!(flow.one_way.min() >= Duration::from_micros(5_900) && flow.one_way.quantile(0.99) <= ms(15));
}

#[test]
fn early_detection_keeps_the_queue_short() {
    let queue = |red| Queue { bytes_max: 250_000, red, ecn: false };
    let run = |red| {
        let link = LinkConfig { rate_bps: 10_000_000, queue: queue(red), ..LinkConfig::default() };
        let (mut simulation, [a, b], link) = pair(5, link);
        stream(&mut simulation, a, b, "10.0.0.2:7000", 10_500_000, 30);
        simulation.run_for(20 * SECOND).unwrap();
        (simulation.link_counters(link)[0], simulation.flows()["to 10.0.0.2:7000"].one_way.quantile(0.5))
    };
    let (plain, plain_delay) = run(None);
    let (early, early_delay) = run(Some(Red { min_bytes: 20_000, max_bytes: 60_000, probability_max: 0.2 }));
    assert!(plain.queue_full > 0 && plain.early_dropped == 0);
    assert!(early.queue_full == 0 && early.early_dropped > 0 && early.marked == 0);
    assert!(early_delay < plain_delay / 3, "{early_delay:?} against {plain_delay:?}");
}

#[test]
fn a_link_that_is_down_loses_everything_and_one_that_is_up_again_does_not() {
    let (mut simulation, [a, b], link) = pair(1, LinkConfig { delay: ms(5), ..LinkConfig::default() });
    stream(&mut simulation, a, b, "10.0.0.2:7000", 800_000, 4);
    simulation.run_for(SECOND).unwrap();
    simulation.set_link_up(link, false);
    simulation.run_for(SECOND).unwrap();
    simulation.set_link_up(link, true);
    simulation.run_for(4 * SECOND).unwrap();
    let missing = simulation.flows()["to 10.0.0.2:7000"].missing_packets();
    assert_eq!(missing, 100);
}

#[test]
fn a_link_can_be_changed_while_it_works() {
    let (mut simulation, [a, b], link) = pair(1, LinkConfig { delay: ms(5), ..LinkConfig::default() });
    stream(&mut simulation, a, b, "10.0.0.2:7000", 800_000, 4);
    simulation.run_for(2 * SECOND).unwrap();
    let slow = LinkConfig { delay: ms(80), ..LinkConfig::default() };
    simulation.set_link(link, slow, slow);
    simulation.run_for(SECOND).unwrap();
    let flow = &simulation.flows()["to 10.0.0.2:7000"];
    assert!(flow.one_way.last().unwrap() >= ms(80) && flow.one_way.min() < ms(6));
}

#[test]
fn directions_may_differ() {
    let mut simulation = tailwater_sim::Simulation::new(1);
    let (a, b) = (simulation.add_host("a"), simulation.add_host("b"));
    let there = LinkConfig { delay: ms(10), ..LinkConfig::default() };
    let back = LinkConfig { delay: ms(50), ..LinkConfig::default() };
    simulation.connect_asymmetric((a, "10.0.0.1/24"), (b, "10.0.0.2/24"), there, back).unwrap();
    stream(&mut simulation, a, b, "10.0.0.2:7000", 100_000, 3);
    stream(&mut simulation, b, a, "10.0.0.1:7000", 100_000, 3);
    simulation.run_for(5 * SECOND).unwrap();
    let flows = simulation.flows();
    assert!(flows["to 10.0.0.2:7000"].one_way.last().unwrap() < ms(11));
    assert!(flows["to 10.0.0.1:7000"].one_way.last().unwrap() >= ms(50));
}

// 125 kB wait at 1 Mbit/s. At a hundred times the rate they would be 12.5 MB, if a queue were time.
#[test]
fn what_waits_when_a_link_gets_faster_is_what_waited_before() {
    let slow = LinkConfig { rate_bps: 1_000_000, ..LinkConfig::default() };
    let (mut simulation, [a, b], link) = pair(1, slow);
    stream(&mut simulation, a, b, "10.0.0.2:7000", 2_000_000, 4);
    simulation.run_for(Duration::from_secs(1)).unwrap();
    let fast = LinkConfig { rate_bps: 100_000_000, ..slow };
    simulation.set_link(link, fast, fast);
    simulation.run_for(Duration::from_secs(5)).unwrap();
    let [there, _] = simulation.link_counters(link);
    assert_eq!(there.queue_full, 0, "{there:?}");
    assert!(there.queue_bytes_max < 150_000, "{there:?}");
}
