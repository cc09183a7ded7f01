//! Congestion controls beside each other, over one bottleneck.

use tailwater_sim::{LinkConfig, LinkId, LossModel, Queue, Red, Simulation};
use tailwater_stack::tcp::ConnectionOptions;
use tailwater_stack::tcp::congestion::control;

use crate::networks::ms;
use crate::tcp::bulk;

const RATE_BPS: u64 = 20_000_000;

fn options(name: &str) -> ConnectionOptions {
    ConnectionOptions { congestion_control: control(name).unwrap(), ..ConnectionOptions::default() }
}

/// A sender for each control, a router, a bottleneck of 20 Mbit/s and 40 ms there and back, one receiver.
fn dumbbell(controls: &[&str], bottleneck: LinkConfig) -> (Simulation, LinkId) {
    let flows: Vec<_> = controls.iter().map(|name| (*name, options(name))).collect();
    dumbbell_of(&flows, bottleneck)
}

fn dumbbell_of(flows: &[(&str, ConnectionOptions)], bottleneck: LinkConfig) -> (Simulation, LinkId) {
    let mut simulation = Simulation::new(11);
    let (router, receiver) = (simulation.add_router("r"), simulation.add_host("receiver"));
    let edge = LinkConfig { rate_bps: 1_000_000_000, delay: ms(1), ..LinkConfig::default() };
    let link = simulation.connect((router, "10.1.0.254/24"), (receiver, "10.1.0.1/24"), bottleneck).unwrap();
    for (n, (name, options)) in flows.iter().enumerate() {
        let sender = simulation.add_host(format!("s{n}"));
        let (own, gateway) = (format!("10.0.{n}.1/24"), format!("10.0.{n}.254/24"));
        simulation.connect((sender, &*own), (router, &*gateway), edge).unwrap();
        let address = format!("10.1.0.1:{}", 7_000 + n);
        bulk(&mut simulation, &format!("{n} {name}"), [sender, receiver], &address, None, *options);
    }
    (simulation, link)
}

fn bottleneck() -> LinkConfig {
    let queue = Queue { bytes_max: 100_000, ..Queue::default() };
    LinkConfig { rate_bps: RATE_BPS, delay: ms(19), queue, ..LinkConfig::default() }
}

/// Bits per second of each flow from `from` to `to`.
fn goodputs(simulation: &mut Simulation, from: u64, to: u64) -> Vec<f64> {
    simulation.run_until(tailwater_stack::Instant::from_millis(from * 1_000)).unwrap();
    let before = simulation.flows();
    simulation.run_until(tailwater_stack::Instant::from_millis(to * 1_000)).unwrap();
    let after = simulation.flows();
    let goodput = |(name, flow): (&String, &tailwater_sim::Flow)| {
        assert_eq!(flow.wrong_bytes, 0);
        (flow.received_bytes - before[name].received_bytes) as f64 * 8.0 / (to - from) as f64
    };
    after.iter().map(goodput).collect()
}

#[test]
fn each_control_alone_fills_the_bottleneck() {
    for name in ["cubic", "reno", "bbr", "bbr3"] {
        let (mut simulation, _) = dumbbell(&[name], bottleneck());
        let goodput = goodputs(&mut simulation, 5, 25)[0];
        assert!(goodput > 0.85 * RATE_BPS as f64, "{name}: {goodput}");
    }
}

#[test]
fn two_of_a_kind_share_fairly() {
    for name in ["cubic", "reno"] {
        let (mut simulation, _) = dumbbell(&[name, name], bottleneck());
        let [first, second] = goodputs(&mut simulation, 20, 140)[..] else { panic!() };
        let ratio = first / second;
        assert!((0.8..=1.25).contains(&ratio), "{name}: {first} and {second}");
        assert!(first + second > 0.85 * RATE_BPS as f64, "{name}: {}", first + second);
    }
}

#[test]
fn cubic_and_reno_get_on_at_this_distance() {
    let (mut simulation, _) = dumbbell(&["cubic", "reno"], bottleneck());
    let [cubic, reno] = goodputs(&mut simulation, 20, 140)[..] else { panic!() };
    let ratio = cubic / reno;
    assert!((0.5..=2.5).contains(&ratio), "{cubic} and {reno}");
}

#[test]
fn random_loss_stops_cubic_and_not_bbr() {
    let lossy = LinkConfig { loss: LossModel::Uniform { probability: 0.01 }, ..bottleneck() };
    let alone = |name| {
        let (mut simulation, _) = dumbbell(&[name], lossy);
        goodputs(&mut simulation, 5, 35)[0]
    };
    let cubic = alone("cubic");
    for (name, least) in [("bbr", 0.9), ("bbr3", 0.6)] {
        let bbr = alone(name);
        assert!(bbr > 2.0 * cubic, "{name} {bbr}, cubic {cubic}");
        assert!(bbr > least * RATE_BPS as f64, "{name} {bbr}");
    }
}

// A segment that overtakes others comes back in half the time. Were that a round trip, a few of them would end Startup; were it
// the path's, BBR would keep half of what the path holds in flight, and less of it each time something is sent again.
#[test]
fn segments_that_overtake_take_nothing_from_bbr() {
    let rate_bps = 5 * RATE_BPS;
    let queue = Queue { bytes_max: 1_000_000, ..Queue::default() };
    for reorder in [0.01, 0.05] {
        let path = LinkConfig { rate_bps, delay: ms(24), reorder, queue, ..bottleneck() };
        for (name, least) in [("bbr", 0.85), ("bbr3", 0.7)] {
            let (mut simulation, _) = dumbbell(&[name], path);
            let goodput = goodputs(&mut simulation, 1, 5)[0];
            assert!(goodput > least * rate_bps as f64, "{name}, {reorder}: {goodput}");
        }
    }
}

// What arrives above a hole stays in the send buffer until the hole is filled: the writer is called as soon as a third of it is free.
#[test]
fn a_send_buffer_of_three_times_the_path_is_enough_for_bbr_at_one_percent_loss() {
    let rate_bps = 5 * RATE_BPS;
    let queue = Queue { bytes_max: 600_000, ..Queue::default() };
    let loss = LossModel::Uniform { probability: 0.01 };
    let path = LinkConfig { rate_bps, delay: ms(24), loss, queue, ..bottleneck() };
    for name in ["bbr", "bbr3"] {
        let options = ConnectionOptions { send_buffer_max: 1_800_000, ..options(name) };
        let (mut simulation, _) = dumbbell_of(&[(name, options)], path);
        let goodput = goodputs(&mut simulation, 2, 8)[0];
        assert!(goodput > 0.78 * rate_bps as f64, "{name}: {goodput}");
    }
}

// RFC 3168: marks in place of losses, with the same effect on the window. The queue is kept below the path's own 100 kB, so
// that halving the window leaves Reno without a full pipe for a while.
#[test]
fn marks_slow_down_without_a_retransmission() {
    let red = Some(Red { min_bytes: 30_000, max_bytes: 90_000, probability_max: 0.02 });
    let queue = Queue { bytes_max: 400_000, red, ecn: true };
    for (name, least) in [("cubic", 0.85), ("reno", 0.6)] {
        let (mut simulation, link) = dumbbell(&[name], LinkConfig { queue, ..bottleneck() });
        let goodput = goodputs(&mut simulation, 5, 35)[0];
        let counters = simulation.link_counters(link)[0];
        let flow = simulation.flows().into_values().next().unwrap();
        assert!(counters.marked > 10, "{name}: {counters:?}");
        assert_eq!((counters.queue_full, flow.retransmitted_bytes), (0, 0), "{name}");
        assert!(goodput > least * RATE_BPS as f64, "{name}: {goodput}");
        // Slow start fills it for a moment: the average that marks go by is slow.
        assert!(counters.queue_bytes_max < 400_000, "{name}: {counters:?}");
    }
}
