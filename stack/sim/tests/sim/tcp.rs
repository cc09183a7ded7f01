//! TCP over links that do everything: each byte once and in order, or an error; and an end to everything.
//! The long run: `TAILWATER_SEEDS=10000 cargo test --release -p tailwater-sim --test sim every_byte`; a fifth of it at a time:
//! `TAILWATER_SEEDS=2001..4000`.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tailwater_impair::Random;
use tailwater_sim::workload::{Rests, TcpClient, TcpClientConfig, TcpResponder, TcpSink, TcpSource, TcpSourceConfig};
use tailwater_sim::{Flow, LinkConfig, LossModel, NodeId, Queue, Red, SimBuffer, Simulation, seeds};
use tailwater_stack::Stack;
use tailwater_stack::tcp::congestion::CONTROLS;
use tailwater_stack::tcp::{ConnectionOptions, KeepAlive};

use crate::networks::{assert_conserved, at, ms, pair};

/// Virtual time after which every connection must have ended, well or not.
const PATIENCE: Duration = Duration::from_secs(7_200);
/// RFC 9293 §3.8.4: an end that only waits learns no other way that its peer is gone, if the peer's last words were lost.
/// Later than the last retransmission of whoever has something to send: a probe in a stream that ends well has woken one
/// that had fallen asleep.
const KEEP_ALIVE: KeepAlive =
    KeepAlive { idle: Duration::from_secs(3_600), interval: Duration::from_secs(30), probes_max: 9 };
/// TIME-WAIT, and a while.
const AFTERWARDS: Duration = Duration::from_secs(120);

pub(crate) fn bulk(
    simulation: &mut Simulation,
    name: &str,
    [from, to]: [NodeId; 2],
    address: &str,
    bytes: Option<u64>,
    options: ConnectionOptions,
) {
    let (source, sink) = ends(name, address, bytes, options);
    simulation.add_workload(to, sink);
    simulation.add_workload(from, source);
}

fn ends(name: &str, address: &str, bytes: Option<u64>, options: ConnectionOptions) -> (TcpSource, TcpSink) {
    let config = TcpSourceConfig { to: at(address), bytes, start: Duration::ZERO, stop: None, options };
    let any =
        std::net::SocketAddr::new(if config.to.is_ipv4() { [0; 4].into() } else { [0; 16].into() }, config.to.port());
    (TcpSource::new(name, config), TcpSink::new(name, any, options))
}

#[test]
fn a_megabyte_arrives_in_both_families() {
    for address in ["10.0.0.2:7000", "[fd00::2]:7000"] {
        let (mut simulation, ends, _) = pair(1, LinkConfig { delay: ms(10), ..LinkConfig::default() });
        bulk(&mut simulation, "bulk", ends, address, Some(1_000_000), ConnectionOptions::default());
        simulation.run_for(Duration::from_secs(10)).unwrap();
        let flow = &simulation.flows()["bulk"];
        assert_eq!((flow.received_bytes, flow.wrong_bytes, flow.retransmitted_bytes), (1_000_000, 0, 0), "{address}");
        assert_eq!((flow.opened, flow.ended_badly), (1, 0));
    }
}

#[test]
fn requests_are_answered_on_one_connection_and_on_many() {
    for (per_connection, connections) in [(u64::MAX, 1), (1, 20)] {
        let (mut simulation, [a, b], _) = pair(1, LinkConfig { delay: ms(10), ..LinkConfig::default() });
        let options = ConnectionOptions::default();
        let config = TcpClientConfig {
            to: at("10.0.0.2:80"),
            request: 100,
            response: 20_000,
            per_connection,
            pause: ms(100),
            start: Duration::ZERO,
            stop: Some(Duration::from_secs(3)),
            options,
        };
        simulation.add_workload(b, TcpResponder::new("web", at("0.0.0.0:80"), 100, 20_000, options));
        simulation.add_workload(a, TcpClient::new("web", config));
        simulation.run_for(Duration::from_secs(5)).unwrap();
        let web = &simulation.flows()["web"];
        assert!(web.received_packets >= 18, "{}", web.received_packets);
        assert!(web.opened >= 1 && web.opened <= connections, "{} connections", web.opened);
        assert_eq!((web.wrong_bytes, web.ended_badly), (0, 0));
    }
}

fn choose(random: &mut Random, low: u64, high: u64) -> u64 {
    low + random.below(high - low)
}

/// What the seed chooses for a connection.
fn choose_options(random: &mut Random) -> ConnectionOptions {
    ConnectionOptions {
        congestion_control: &CONTROLS[random.below(CONTROLS.len() as u64) as usize],
        sack: random.below(4) != 0,
        timestamps: random.below(4) != 0,
        ecn: random.below(2) == 0,
        pacing: random.below(2) == 0,
        nagle: random.below(2) == 0,
        send_buffer_max: choose(random, 2_000, 200_000) as u32,
        receive_buffer: choose(random, 2_000, 100_000) as u32,
        keep_alive: Some(KEEP_ALIVE),
        ..ConnectionOptions::default()
    }
}

/// Half of the applications go straight on. Others rest shortly and often, or for minutes: behind a reader that rests the window
/// closes, and the word that it is open again may be lost.
fn choose_rests(random: &mut Random) -> Option<Rests> {
    match random.below(4) {
        0 => Some(Rests { after_bytes: choose(random, 500, 5_000), rest: ms(choose(random, 1, 300)) }),
        1 => Some(Rests { after_bytes: choose(random, 5_000, 60_000), rest: ms(choose(random, 1_000, 180_000)) }),
        _ => None,
    }
}

/// A stream as the seed chooses it.
struct Stream {
    bytes: u64,
    options: ConnectionOptions,
    writing: Option<Rests>,
    reading: Option<Rests>,
}

impl Stream {
    fn choose(random: &mut Random) -> Self {
        let mut options = choose_options(random);
        let bytes = random.below(200_000);
        let [writing, reading] = [choose_rests(random), choose_rests(random)];
        // A window that grew to all of the stream would never close.
        if reading.is_some() {
            options.receive_buffer_max = options.receive_buffer;
        }
        Self { bytes, options, writing, reading }
    }

    /// What its ends rest in all.
    fn rests(&self) -> Duration {
        let rests = [self.writing, self.reading].into_iter().flatten();
        rests.map(|Rests { after_bytes, rest }| rest * (self.bytes / after_bytes) as u32).sum()
    }
}

/// A stream each way.
fn add_streams(simulation: &mut Simulation, [a, b]: [NodeId; 2], streams: [Stream; 2]) {
    let places = [("there", [a, b], "10.0.0.2:7000"), ("back", [b, a], "10.0.0.1:7001")];
    for ((name, [from, to], address), stream) in places.into_iter().zip(streams) {
        let (source, sink) = ends(name, address, Some(stream.bytes), stream.options);
        simulation.add_workload(to, stream.reading.into_iter().fold(sink, TcpSink::with_rests));
        simulation.add_workload(from, stream.writing.into_iter().fold(source, TcpSource::with_rests));
    }
}

/// Two hosts with a link and two streams that the seed chooses.
fn network(seed: u64) -> Simulation {
    let mut random = Random::new(seed, 1 << 32);
    let mut share = |most: f64| random.below(1_000) as f64 / 1_000.0 * most;
    let loss = match seed % 3 {
        0 => LossModel::Uniform { probability: share(0.05) },
        1 => LossModel::bursts(share(0.05), 1.0 + share(6.0)),
        _ => LossModel::default(),
    };
    let (duplicate, reorder, corrupt) = (share(0.02), share(0.1), share(0.01));
    let corrupt = if seed.is_multiple_of(2) { 0.0 } else { corrupt };
    let red = Red { min_bytes: 5_000, max_bytes: 20_000, probability_max: 0.1 };
    let link = LinkConfig {
        rate_bps: choose(&mut random, 1, 50) * 1_000_000,
        delay: Duration::from_micros(choose(&mut random, 10, 100_000)),
        jitter: Duration::from_micros(random.below(5_000)),
        loss,
        duplicate,
        reorder,
        corrupt,
        reorder_gap_packets: 1 + random.below(10),
        queue: Queue {
            bytes_max: choose(&mut random, 3_000, 100_000),
            red: (random.below(3) == 0).then_some(red),
            ecn: random.below(2) == 0,
        },
        mtu: choose(&mut random, 576, 1_501) as usize,
    };
    let (mut simulation, ends, _) = pair(seed, link);
    add_streams(&mut simulation, ends, [(); 2].map(|()| Stream::choose(&mut random)));
    simulation
}

/// Links that lose neither runs of frames nor the answers of ARP, which have no checksum: no connection may fail.
fn is_gentle(seed: u64) -> bool {
    seed % 3 != 1 && seed.is_multiple_of(2)
}

fn is_over(flow: &Flow) -> bool {
    // A stream whose connection never came up has one end only.
    let ends = flow.ended_well + flow.ended_badly;
    ends == 2 || (ends == 1 && flow.accepted == 0 && flow.ended_badly == 1)
}

fn everything_arrives_or_fails_on_both_ends(simulation: &mut Simulation) -> Result<(), String> {
    let found = judge(simulation);
    found.map_err(|message| {
        let links = simulation.links().flat_map(|link| simulation.link_counters(link));
        links.fold(message, |message, counters| format!("{message}\n  {counters:?}"))
    })
}

fn judge(simulation: &mut Simulation) -> Result<(), String> {
    let end = simulation.now() + PATIENCE;
    let mut frames_max = 0;
    while simulation.now() < end && !simulation.flows().values().all(is_over) {
        simulation.run_for(ms(500)).map_err(|stalled| stalled.to_string())?;
        frames_max = frames_max.max(simulation.frames_in_use());
    }
    let mut all_well = true;
    for (name, flow) in simulation.flows() {
        let (well, badly, received) = (flow.ended_well, flow.ended_badly, flow.received_bytes);
        all_well &= well == 2;
        if flow.wrong_bytes > 0 {
            return Err(format!("{name}: {} wrong bytes", flow.wrong_bytes));
        }
        if well > 0 && received != flow.sent_bytes {
            return Err(format!("{name} ended well with {received} of {} bytes", flow.sent_bytes));
        }
        if !is_over(&flow) {
            return Err(format!("{name} has not ended: {well} well, {badly} badly, {received} of {}", flow.sent_bytes));
        }
        if badly > 0 && is_gentle(simulation.seed()) {
            return Err(format!("{name} failed on a link that allows for it to succeed"));
        }
    }
    // 200 kB in each direction, sent and received, and what a small segment wastes.
    if frames_max > 10_000 {
        return Err(format!("{frames_max} frames in use"));
    }
    let probes: u64 = stacks(simulation).map(|stack| stack.tcp_counters().keep_alive_probes).sum();
    if all_well && probes > 0 {
        return Err(format!("streams that ended well had fallen asleep: {probes} probes"));
    }
    nothing_is_left(simulation)
}

fn stacks(simulation: &Simulation) -> impl Iterator<Item = &Stack<SimBuffer>> {
    let hosts = simulation.links().flat_map(|link| simulation.link_ends(link).into_iter().flatten());
    hosts.filter_map(|host| simulation.stack(host))
}

fn nothing_is_left(simulation: &mut Simulation) -> Result<(), String> {
    simulation.run_for(AFTERWARDS).map_err(|stalled| stalled.to_string())?;
    assert_conserved(simulation);
    for stack in stacks(simulation) {
        let connections: Vec<_> = stack.tcp_connections(simulation.now()).collect();
        if !connections.is_empty() || !stack.ledger().is_balanced(stack.held()) || stack.poll_timeout().is_some() {
            let (held, due) = (stack.held(), stack.poll_timeout());
            return Err(format!("left behind: {connections:?}, {held} held, due {due:?}, {:?}", stack.ledger()));
        }
    }
    match simulation.frames_in_use() {
        0 => Ok(()),
        left => Err(format!("{left} frames left behind")),
    }
}

#[test]
fn every_byte_arrives_once_and_in_order_or_both_ends_fail() {
    let [streams, well] = [const { AtomicU64::new(0) }; 2];
    seeds::check("streams", 200, network, |simulation| {
        everything_arrives_or_fails_on_both_ends(simulation)?;
        for flow in simulation.flows().values() {
            streams.fetch_add(1, Ordering::Relaxed);
            well.fetch_add(u64::from(flow.ended_well == 2), Ordering::Relaxed);
        }
        Ok(())
    });
    let (streams, well) = (streams.into_inner(), well.into_inner());
    println!("{well} of {streams} streams ended well");
    assert!(streams < 100 || well * 10 >= streams * 9, "only {well} of {streams} streams ended well");
}

/// A link that loses nothing, with room for whatever the windows let go, and streams over it. What all of them have on the way
/// passes in 100 ms: a round trip that grows faster than a time-out allows (RFC 6298 §2) is no defect.
fn good_link(seed: u64) -> (LinkConfig, [Stream; 2]) {
    const PASSES_PER_SEC: u64 = 10;
    let mut random = Random::new(seed, 2 << 32);
    let streams = [(); 2].map(|()| Stream::choose(&mut random));
    let on_the_way = |stream: &Stream| stream.bytes.min(stream.options.send_buffer_max.into());
    let least_bps = streams.iter().map(on_the_way).sum::<u64>() * 8 * PASSES_PER_SEC;
    let link = LinkConfig {
        rate_bps: least_bps.max(choose(&mut random, 1, 50) * 1_000_000),
        delay: Duration::from_micros(choose(&mut random, 10, 100_000)),
        queue: Queue { bytes_max: 1_000_000, ..Queue::default() },
        mtu: choose(&mut random, 576, 1_501) as usize,
        ..LinkConfig::default()
    };
    (link, streams)
}

/// How long it may take: rests, a round trip for each buffer and for slow start, an acknowledgement that waits in each, and a
/// little for each end.
fn allowance(link: &LinkConfig, stream: &Stream) -> Duration {
    let Stream { bytes, options, .. } = stream;
    let sending = Duration::from_secs_f64(*bytes as f64 * 8.0 / link.rate_bps as f64);
    let round_trips = 20 + bytes / u64::from(options.send_buffer_max.min(options.receive_buffer));
    let round_trip = link.delay * 2 + options.delayed_ack;
    stream.rests() + (sending + round_trip * round_trips as u32) * 2 + Duration::from_secs(3)
}

#[test]
fn over_a_good_link_nothing_is_sent_twice_or_late() {
    let network = |seed| {
        let (link, streams) = good_link(seed);
        let (mut simulation, ends, _) = pair(seed, link);
        add_streams(&mut simulation, ends, streams);
        simulation
    };
    seeds::check("good link", 200, network, |simulation| {
        let (link, streams) = good_link(simulation.seed());
        let allowed = streams.iter().map(|stream| allowance(&link, stream)).max().unwrap_or_default();
        let over = |simulation: &Simulation| simulation.flows().values().all(|flow| flow.ended_well == 2);
        while !over(simulation) {
            if simulation.now() > tailwater_stack::Instant::ZERO + allowed {
                return Err(format!("not over after {allowed:?}: {:?}", simulation.flows()));
            }
            simulation.run_for(ms(500)).map_err(|stalled| stalled.to_string())?;
        }
        for counters in stacks(simulation).map(Stack::tcp_counters) {
            // RFC 8985 §7.2 takes the acknowledgement of two small segments not to wait.
            let otherwise = counters.segments_resent > counters.loss_probes;
            if counters.timeouts + counters.recoveries > 0 || otherwise {
                return Err(format!("nothing was lost: {counters:?}"));
            }
        }
        Ok(())
    });
}

/// Where the link breaks for good, those who wait hear of it by keep-alive probes, those who send by the user timeout.
#[test]
fn after_a_link_is_cut_every_connection_ends_in_time() {
    const KEEP_ALIVE: KeepAlive =
        KeepAlive { idle: Duration::from_secs(60), interval: Duration::from_secs(10), probes_max: 3 };
    const USER_TIMEOUT: Duration = Duration::from_secs(60);
    // A timer may be due as late as its interval has grown to until then. A reader that rests closes late.
    const ALLOWED: Duration = Duration::from_secs(150);
    let network = |seed| {
        let (link, streams) = good_link(seed);
        let (mut simulation, ends, _) = pair(seed, link);
        let hasty = |stream: Stream| {
            let options =
                ConnectionOptions { keep_alive: Some(KEEP_ALIVE), user_timeout: Some(USER_TIMEOUT), ..stream.options };
            Stream { options, ..stream }
        };
        add_streams(&mut simulation, ends, streams.map(hasty));
        simulation
    };
    seeds::check("cut link", 200, network, |simulation| {
        let (_, streams) = good_link(simulation.seed());
        let allowed = ALLOWED + streams.iter().map(Stream::rests).max().unwrap_or_default();
        let link = simulation.links().next().unwrap();
        let mut random = Random::new(simulation.seed(), 3 << 32);
        simulation.run_for(ms(random.below(10_000))).map_err(|stalled| stalled.to_string())?;
        simulation.set_link_up(link, false);
        let cut_at = simulation.now();
        while !simulation.flows().values().all(is_over) {
            if simulation.now() > cut_at + allowed {
                let left: Vec<_> =
                    stacks(simulation).flat_map(|stack| stack.tcp_connections(simulation.now())).collect();
                return Err(format!("not over {allowed:?} after {cut_at:?}: {left:?} {:?}", simulation.flows()));
            }
            simulation.run_for(ms(500)).map_err(|stalled| stalled.to_string())?;
        }
        nothing_is_left(simulation)
    });
}

#[test]
fn a_stream_is_the_same_run_again() {
    let digest = |seed| {
        let mut simulation = network(seed);
        simulation.run_for(Duration::from_secs(20)).unwrap();
        simulation.digest()
    };
    assert_eq!(digest(4), digest(4));
    assert_ne!(digest(4), digest(5));
}
