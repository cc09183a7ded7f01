//! Bytes from one stack to another.

use std::time::Duration;

use tailwater_stack::tcp::{CloseReason, ConnectionId, KeepAlive, congestion};
use tailwater_stack::testing::VecBuffer;
use tailwater_stack::{Config, Stack};

use crate::pair::{Faults, Net, Transfer};

const FINISHED: [Option<CloseReason>; 2] = [Some(CloseReason::Finished); 2];

#[test]
fn bytes_arrive_in_both_directions_over_both_families() {
    for v6 in [false, true] {
        let mut net = Net::new(1, Faults::NONE);
        let client = net.connect(v6);
        let outcome = Transfer::new(client, [300_000, 200_000]).run(&mut net, Duration::from_secs(60));
        assert_eq!((outcome.closed, outcome.received), (FINISHED, [200_000, 300_000]));
        assert_eq!(net.stacks[0].tcp_counters().segments_resent, 0, "on a clean path nothing is sent twice");
        assert_eq!(net.stacks[1].tcp_counters().segments_resent, 0);
        net.run(Duration::from_secs(120));
        net.assert_books();
        assert!(net.stacks.iter().all(|stack| stack.held() == 0 && stack.poll_timeout().is_none()));
        let drops = |stack: &Stack<VecBuffer>| stack.ledger().drops().collect::<Vec<_>>();
        assert_eq!(net.stacks.each_ref().map(drops), [[], []], "on a clean path nothing is dropped, the end included");
    }
}

#[test]
fn jumbo_segments_cross_links_that_carry_them() {
    let configs = [Config::default(), Config::default()];
    let mut net = Net::with(configs, 9_000, 1, Faults::NONE);
    for env in &mut net.envs {
        env.buffer_len = 1_800;
    }
    let client = net.connect(false);
    let before = net.carried;
    let outcome = Transfer::new(client, [1_000_000, 0]).run(&mut net, Duration::from_secs(60));
    assert_eq!((outcome.closed, outcome.received), (FINISHED, [0, 1_000_000]));
    assert!(net.carried - before < 300, "{} frames", net.carried - before);
}

#[test]
fn every_congestion_control_fills_a_bottleneck() {
    for control in congestion::CONTROLS {
        let mut configs = [Config::default(), Config::default()];
        configs[0].tcp.connection.congestion_control = control;
        let faults = Faults { rate: 1_250_000, delay: Duration::from_millis(10), ..Faults::NONE };
        let mut net = Net::with(configs, 1500, 3, faults);
        let client = net.connect(false);
        let outcome = Transfer::new(client, [5_000_000, 0]).run(&mut net, Duration::from_secs(60));
        assert_eq!((outcome.closed, outcome.received), (FINISHED, [0, 5_000_000]), "{}", control.name);
        let seconds = outcome.took.as_secs_f64();
        assert!(seconds < 5.0, "{}: 5 MB at 1.25 MB/s took {seconds} s", control.name);
    }
}

#[test]
fn loss_of_one_in_a_hundred_is_repaired_without_time_outs_mostly() {
    let faults = Faults { loss: 10, delay: Duration::from_millis(20), ..Faults::NONE };
    let mut net = Net::new(5, faults);
    let client = net.connect(false);
    let outcome = Transfer::new(client, [2_000_000, 0]).run(&mut net, Duration::from_secs(300));
    assert_eq!((outcome.closed, outcome.received), (FINISHED, [0, 2_000_000]));
    let counters = net.stacks[0].tcp_counters();
    assert!(counters.recoveries > 3 && counters.timeouts <= 2, "{counters:?}");
}

#[test]
fn every_byte_arrives_once_and_in_order_or_both_ends_get_an_error() {
    let number = |name| std::env::var(name).ok().map(|n| n.parse::<u64>().expect("a number"));
    if let Some(seed) = number("TAILWATER_TCP_SEED") {
        one_seed(seed);
        return;
    }
    let seeds = number("TAILWATER_TCP_SEEDS").unwrap_or(300);
    let well = (0..seeds).filter(|&seed| one_seed(seed)).count() as u64;
    println!("{well} of {seeds} transfers ended well");
    assert!(well * 10 >= seeds * 9, "only {well} of {seeds} transfers ended well");
}

/// Later than the last retransmission of whoever has something to send: a probe in a transfer that ends well has woken an
/// end that had fallen asleep.
const KEEP_ALIVE: KeepAlive =
    KeepAlive { idle: Duration::from_secs(3_600), interval: Duration::from_secs(75), probes_max: 9 };

/// One run, of which everything depends on the seed alone; whether both ends finished.
fn one_seed(seed: u64) -> bool {
    let pick = |shift: u32, n: u64| (seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> shift) % n;
    let faults = Faults {
        loss: [0, 5, 20, 100, 250][pick(3, 5) as usize],
        duplication: [0, 10, 100][pick(9, 3) as usize],
        corruption: [0, 10, 50][pick(13, 3) as usize],
        reordering: [0, 30, 200][pick(17, 3) as usize],
        delay: Duration::from_micros([100, 5_000, 50_000][pick(21, 3) as usize]),
        lateness: Duration::from_micros([200, 4_000, 60_000][pick(25, 3) as usize]),
        rate: [0, 0, 500_000][pick(29, 3) as usize],
        queue: Duration::from_millis(40),
        marks: pick(33, 2) == 0,
    };
    let mut configs = [Config::default(), Config::default()];
    for (n, config) in configs.iter_mut().enumerate() {
        let connection = &mut config.tcp.connection;
        let bits = pick(37 + n as u32 * 5, 32);
        (connection.sack, connection.timestamps) = (bits & 1 == 0, bits & 2 == 0);
        (connection.window_scaling, connection.nagle) = (bits & 4 == 0, bits & 8 == 0);
        connection.pacing = bits & 16 == 0;
        // Without, an end that waits for a peer which has given up would wait for ever.
        connection.keep_alive = Some(KEEP_ALIVE);
        connection.congestion_control = &congestion::CONTROLS[(seed % congestion::CONTROLS.len() as u64) as usize];
        connection.receive_buffer = [4_000, 64 << 10, 256 << 10][pick(47, 3) as usize];
        connection.receive_buffer_max = connection.receive_buffer.max(100_000);
    }
    let mut net = Net::with(configs, [1500, 576, 9_000][pick(51, 3) as usize], seed, faults);
    net.bursts = seed % 2 == 1;
    let client = net.connect(pick(55, 2) == 0);
    let sizes = [[60_000, 0], [0, 30_000], [20_000, 40_000], [1, 1], [0, 0]][pick(57, 5) as usize];
    let outcome = Transfer::new(client, sizes).run(&mut net, Duration::from_secs(3 * 3_600));
    assert!(!outcome.hangs, "seed {seed} hangs with {faults:?}: {outcome:?}\n{}", net.describe());
    for (n, size) in sizes.into_iter().enumerate() {
        let finished = outcome.closed[n] == FINISHED[n];
        assert!(!finished || outcome.received[1 - n] == size, "seed {seed}: {outcome:?} of {sizes:?}");
    }
    let well = outcome.closed == FINISHED;
    if well {
        let probes = net.stacks.each_ref().map(|stack| stack.tcp_counters().keep_alive_probes);
        assert_eq!(probes, [0; 2], "seed {seed}: an end had fallen asleep");
    } else {
        // A connection attempt, the shortest patience, is made seven times.
        assert!(faults.loss > 20, "seed {seed}: {outcome:?}");
    }
    net.run(Duration::from_secs(300));
    net.assert_books();
    for stack in &net.stacks {
        assert_eq!(stack.held(), 0, "seed {seed}");
        assert_eq!(stack.tcp_connections(net.now).count(), 0, "seed {seed}");
        assert_eq!(stack.poll_timeout(), None, "seed {seed}: a timer is stuck");
    }
    well
}

/// Writes all there is room for and reads all that comes, for so long; the largest congestion window on the way.
fn stream(net: &mut Net, client: ConnectionId, time: Duration) -> u32 {
    let server = net.stacks[1].tcp_connections(net.now).next().unwrap().id;
    let until = net.now + time;
    let mut cwnd_max = 0;
    loop {
        let [from, to] = &mut net.stacks;
        let [from_env, to_env] = &mut net.envs;
        while from.tcp_send(client, &[7; 20_000], from_env) == Ok(20_000) {}
        while let Ok(Some(_)) = to.tcp_receive(server, to_env) {}
        cwnd_max = cwnd_max.max(from.tcp_snapshot(client, net.now).unwrap().cwnd);
        if !net.step(until) {
            return cwnd_max;
        }
    }
}

// The window starts anew behind a pause, comes to the threshold by slow start, and goes on along the curve from where it was:
// two seconds of sending are far from the plateau, a minute of silence is far beyond it.
#[test]
fn a_pause_moves_cubic_no_further_along_its_curve_rfc9438_s5_8() {
    let mut config = Config::default();
    config.tcp.connection.congestion_control = congestion::control("cubic").unwrap();
    config.tcp.connection.receive_buffer = config.tcp.connection.receive_buffer_max;
    let faults = Faults { delay: Duration::from_millis(50), ..Faults::NONE };
    let mut net = Net::with([config; 2], 1500, 1, faults);
    net.lose[0].push(500);
    let client = net.connect(false);
    net.run(Duration::from_secs(1));
    let w_max = stream(&mut net, client, Duration::from_secs(2));
    let before = net.stacks[0].tcp_snapshot(client, net.now).unwrap();
    let ssthresh = before.congestion.ssthresh.unwrap();
    assert!(before.cwnd >= ssthresh && before.cwnd < w_max, "{before:?}");
    // What is still to be sent takes no minute.
    net.run(Duration::from_secs(60));
    assert_eq!(net.stacks[0].tcp_counters().segments_resent, 1);
    stream(&mut net, client, Duration::from_secs(2));
    let after = net.stacks[0].tcp_snapshot(client, net.now).unwrap();
    assert!(after.cwnd > before.cwnd && after.cwnd < w_max, "{} of {w_max}: {after:?}", after.cwnd);
}
