//! What a run was like, as data: for tables and JSON.

use std::time::Duration;

use serde::Serialize;
use tailwater_stack::Instant;

use crate::flow::{Delays, Flow};
use crate::link::LinkCounters;
use crate::simulation::Simulation;

/// A whole run.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Report {
    pub seed: u64,
    /// [`Simulation::digest`], in hexadecimal.
    pub digest: String,
    pub virtual_secs: f64,
    pub events: u64,
    pub frames: u64,
    pub flows: Vec<FlowReport>,
    pub links: Vec<LinkReport>,
}

/// Delays in microseconds.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub struct DelayReport {
    pub count: u64,
    pub min_us: f64,
    pub mean_us: f64,
    pub median_us: f64,
    pub p99_us: f64,
    pub max_us: f64,
}

#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct FlowReport {
    pub flow: String,
    pub sent_packets: u64,
    pub sent_bytes: u64,
    pub received_packets: u64,
    pub received_bytes: u64,
    pub missing_packets: u64,
    pub duplicates: u64,
    pub reordered: u64,
    pub failed: u64,
    pub retransmitted_bytes: u64,
    pub connections: u64,
    pub ended_well: u64,
    pub ended_badly: u64,
    pub wrong_bytes: u64,
    /// Over the whole run.
    pub goodput_bps: f64,
    pub one_way: Option<DelayReport>,
    pub rtt: Option<DelayReport>,
}

/// One direction of a link.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct LinkReport {
    pub from: String,
    pub to: String,
    pub offered: u64,
    pub delivered: u64,
    pub delivered_bytes: u64,
    pub queue_full: u64,
    pub early_dropped: u64,
    pub marked: u64,
    pub lost: u64,
    pub corrupted: u64,
    pub duplicated: u64,
    pub reordered: u64,
    pub queue_bytes_max: u64,
}

/// Sums up a run so far.
pub fn report(simulation: &Simulation) -> Report {
    let elapsed = simulation.now().since(Instant::ZERO);
    let counters = simulation.counters();
    Report {
        seed: simulation.seed(),
        digest: format!("{:016x}", simulation.digest()),
        virtual_secs: elapsed.as_secs_f64(),
        events: counters.events,
        frames: counters.frames,
        flows: simulation.flows().iter().map(|(name, flow)| of_flow(name, flow, elapsed)).collect(),
        links: simulation.links().flat_map(|link| of_link(simulation, link)).collect(),
    }
}

fn of_flow(name: &str, flow: &Flow, elapsed: Duration) -> FlowReport {
    FlowReport {
        flow: name.to_owned(),
        sent_packets: flow.sent_packets,
        sent_bytes: flow.sent_bytes,
        received_packets: flow.received_packets,
        received_bytes: flow.received_bytes,
        missing_packets: flow.missing_packets(),
        duplicates: flow.duplicates,
        reordered: flow.reordered,
        failed: flow.failed,
        retransmitted_bytes: flow.retransmitted_bytes,
        connections: flow.opened,
        ended_well: flow.ended_well,
        ended_badly: flow.ended_badly,
        wrong_bytes: flow.wrong_bytes,
        goodput_bps: flow.goodput_bps(elapsed),
        one_way: of_delays(&flow.one_way),
        rtt: of_delays(&flow.rtt),
    }
}

fn of_delays(delays: &Delays) -> Option<DelayReport> {
    let micros = |delay: Duration| delay.as_nanos() as f64 / 1_000.0;
    (!delays.is_empty()).then(|| DelayReport {
        count: delays.len(),
        min_us: micros(delays.min()),
        mean_us: micros(delays.mean()),
        median_us: micros(delays.quantile(0.5)),
        p99_us: micros(delays.quantile(0.99)),
        max_us: micros(delays.max()),
    })
}

fn of_link(simulation: &Simulation, link: crate::LinkId) -> Vec<LinkReport> {
    let Some([a, b]) = simulation.link_ends(link) else { return Vec::new() };
    let ways = [(a, b), (b, a)].into_iter().zip(simulation.link_counters(link));
    let report = |((from, to), counters): (_, LinkCounters)| LinkReport {
        from: simulation.name(from).to_owned(),
        to: simulation.name(to).to_owned(),
        offered: counters.offered,
        delivered: counters.delivered,
        delivered_bytes: counters.delivered_bytes,
        queue_full: counters.queue_full,
        early_dropped: counters.early_dropped,
        marked: counters.marked,
        lost: counters.lost,
        corrupted: counters.corrupted,
        duplicated: counters.duplicated,
        reordered: counters.reordered,
        queue_bytes_max: counters.queue_bytes_max,
    };
    ways.map(report).collect()
}
