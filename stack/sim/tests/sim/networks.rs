//! Networks that several tests use.

use std::net::SocketAddr;
use std::time::Duration;

use tailwater_sim::workload::{Ping, Pings, UdpSink, UdpSource, UdpSourceConfig};
use tailwater_sim::{LinkConfig, LinkId, LossModel, NodeId, Queue, Red, Simulation};

pub(crate) const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

pub(crate) fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// `a 10.0.0.1 --- 10.0.0.2 b`
pub(crate) fn pair(seed: u64, link: LinkConfig) -> (Simulation, [NodeId; 2], LinkId) {
    let mut simulation = Simulation::new(seed);
    let (a, b) = (simulation.add_host("a"), simulation.add_host("b"));
    let link = simulation.connect((a, "10.0.0.1/24 fd00::1/64"), (b, "10.0.0.2/24 fd00::2/64"), link).unwrap();
    (simulation, [a, b], link)
}

/// UDP from one host to another, from the beginning until two seconds before the end.
pub(crate) fn stream(simulation: &mut Simulation, from: NodeId, to: NodeId, address: &str, rate_bps: u64, secs: u64) {
    let config = UdpSourceConfig {
        to: at(address),
        rate_bps,
        size: 1_000,
        start: Duration::ZERO,
        stop: Some(Duration::from_secs(secs)),
    };
    let any = SocketAddr::new(if config.to.is_ipv4() { [0; 4].into() } else { [0; 16].into() }, config.to.port());
    let name = format!("to {address}");
    simulation.add_workload(to, UdpSink::new(&name, any));
    simulation.add_workload(from, UdpSource::new(&name, config));
}

pub(crate) fn ping(simulation: &mut Simulation, from: NodeId, pings: Pings) {
    simulation.add_workload(from, Ping::new("ping", pings));
}

/// Two hosts on a switch, a router, and a third host behind a link that does everything that links do.
pub(crate) fn busy(seed: u64) -> Simulation {
    let mut simulation = Simulation::new(seed);
    let [a, b, c] = ["a", "b", "c"].map(|name| simulation.add_host(name));
    let (switch, router) = (simulation.add_switch("s"), simulation.add_router("r"));
    let lan = LinkConfig { rate_bps: 100_000_000, delay: Duration::from_micros(50), ..LinkConfig::default() };
    simulation.connect((a, "10.0.0.1/24"), switch, lan).unwrap();
    simulation.connect((b, "10.0.0.2/24"), switch, lan).unwrap();
    simulation.connect(switch, (router, "10.0.0.254/24"), lan).unwrap();
    let wan = LinkConfig {
        rate_bps: 10_000_000,
        delay: ms(20),
        jitter: ms(2),
        loss: LossModel::bursts(0.01, 3.0),
        duplicate: 0.005,
        reorder: 0.01,
        corrupt: 0.002,
        queue: Queue {
            bytes_max: 50_000,
            red: Some(Red { min_bytes: 10_000, max_bytes: 40_000, probability_max: 0.1 }),
            ecn: true,
        },
        ..LinkConfig::default()
    };
    simulation.connect((router, "10.1.0.254/24"), (c, "10.1.0.1/24"), wan).unwrap();
    stream(&mut simulation, a, c, "10.1.0.1:7000", 6_000_000, 3);
    stream(&mut simulation, b, c, "10.1.0.1:7001", 6_000_000, 3);
    stream(&mut simulation, c, a, "10.0.0.1:7002", 1_000_000, 3);
    ping(&mut simulation, b, Pings { interval: ms(50), count: 50, ..Pings::to([10, 1, 0, 1]) });
    simulation
}

/// Each link's counters add up, and no frame is lost track of.
pub(crate) fn assert_conserved(simulation: &Simulation) {
    let mut under_way = 0;
    for link in simulation.links() {
        for counters in simulation.link_counters(link) {
            let gone = counters.queue_full + counters.early_dropped + counters.lost + counters.pipe_full;
            under_way += counters.offered + counters.duplicated - counters.delivered - gone;
        }
    }
    assert_eq!(under_way, simulation.frames_in_transit() as u64);
}
