//! What a running command has counted, as data: the content of summaries, of JSON, of `top`, of the metrics page and of
//! the control socket. There is no other way for a number to the outside.

#[cfg(test)]
pub(crate) mod sample;
mod since;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tailwater_dataplane::graph::BatchSizes;
use tailwater_dataplane::port::QueueCounters;
use tailwater_dataplane::runtime::{InterfaceReport, Report};
use tailwater_dataplane::worker::{NodeReport, PortReport, WorkerReport};
use tailwater_xdp::Verdict;

/// Names and their counts.
pub(crate) type Counts = BTreeMap<String, u64>;

/// Everything that one process has counted since its start.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Snapshot {
    /// Subcommand.
    pub(crate) command: String,
    pub(crate) pid: u32,
    /// Milliseconds since packets could come in.
    pub(crate) uptime_ms: u64,
    pub(crate) totals: Totals,
    /// Packets discarded by the workers, by reason.
    pub(crate) dropped: Counts,
    pub(crate) interfaces: Vec<Interface>,
    pub(crate) workers: Vec<Worker>,
    /// What the command itself counts.
    pub(crate) command_counters: Counts,
    /// Packet buffers.
    pub(crate) frames: u64,
    /// `huge` or `ordinary`.
    pub(crate) pages: String,
    /// Buffers dropped outside any pool: a bug if not 0.
    pub(crate) frames_strayed: u64,
    /// Buffers that did not come back; known after a stop only.
    pub(crate) frames_missing: Option<u64>,
}

/// Packets over all workers. `received + originated = sent + delivered + dropped + held + imbalance`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Totals {
    pub(crate) received: u64,
    pub(crate) originated: u64,
    pub(crate) sent: u64,
    pub(crate) delivered: u64,
    pub(crate) dropped: u64,
    pub(crate) held: u64,
    /// Packets lost without a reason: a bug if not 0.
    pub(crate) imbalance: i64,
    /// Forwarded by the XDP program, never seen by a worker.
    pub(crate) sent_by_kernel: u64,
    /// Dropped by the XDP program or the kernel because rings were full, never seen by a worker.
    pub(crate) shed: u64,
    /// System calls to transmit.
    pub(crate) transmit_calls: u64,
    /// System calls of all workers.
    pub(crate) system_calls: u64,
    pub(crate) packets_per_transmit_call: Option<f64>,
    /// Packets received and sent for each system call.
    pub(crate) packets_per_system_call: Option<f64>,
}

/// An interface and its XDP program.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Interface {
    pub(crate) name: String,
    pub(crate) ifindex: u32,
    /// What was chosen, and why.
    pub(crate) description: String,
    /// Verdicts that occurred.
    pub(crate) verdicts: BTreeMap<String, Tally>,
}

/// Frames and bytes of one verdict.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Tally {
    pub(crate) packets: u64,
    pub(crate) bytes: u64,
}

/// One core's work.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Worker {
    pub(crate) worker: usize,
    pub(crate) core: Option<usize>,
    pub(crate) turns: u64,
    pub(crate) empty_turns: u64,
    pub(crate) sleeps: u64,
    pub(crate) busy_polls: u64,
    pub(crate) yields: u64,
    /// Nanoseconds in turns that moved packets.
    pub(crate) busy_ns: u64,
    /// System calls: to transmit, to receive, to yield, and two for each sleep.
    pub(crate) system_calls: u64,
    /// Packets of our own TCP that waited for room in a transmit ring.
    pub(crate) kept_back: u64,
    /// Packets in received batches.
    pub(crate) batched: u64,
    /// Received batches by size: 1, 2, 3-4, 5-8, ... 65-128, and more.
    pub(crate) batch_sizes: Vec<u64>,
    pub(crate) ports: Vec<Port>,
    pub(crate) blocks: Vec<Block>,
    pub(crate) dropped: Counts,
    pub(crate) originated: u64,
    pub(crate) delivered: u64,
    pub(crate) held: u64,
    pub(crate) imbalance: i64,
    pub(crate) free_frames: u64,
}

/// One worker's end of an interface.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Port {
    pub(crate) name: String,
    pub(crate) backend: String,
    pub(crate) mode: String,
    pub(crate) mtu: u32,
    /// Receive queues that this worker's end reads.
    pub(crate) queues: u32,
    pub(crate) counters: Counts,
    pub(crate) packets_per_transmit_call: Option<f64>,
    /// This worker's part of each receive queue; none where the device has no queues.
    pub(crate) rx_queues: Vec<Queue>,
}

/// One worker's part of a receive queue.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Queue {
    pub(crate) queue: u32,
    /// Packets in its ring now.
    pub(crate) waiting: u64,
    pub(crate) counters: Counts,
}

/// One worker's instance of a block.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Block {
    pub(crate) name: String,
    pub(crate) kind: String,
    pub(crate) packets: u64,
    pub(crate) batches: u64,
    pub(crate) cycles: u64,
    pub(crate) packets_per_batch: Option<f64>,
    pub(crate) cycles_per_packet: Option<f64>,
    /// Batches by size: 1, 2, 3-4, 5-8, ... 65-128, and more.
    pub(crate) batch_sizes: Vec<u64>,
    /// Packets that went out, by output.
    pub(crate) sent: Counts,
    pub(crate) counters: Counts,
}

/// Largest number of packets in each class of batch sizes but the last, which has no bound.
pub(crate) const BATCH_UPPER: &[usize] = &BatchSizes::UPPER;

/// So much of one for each of the other; `None` where there is nothing to divide by.
pub(crate) fn ratio(n: u64, of: u64) -> Option<f64> {
    (of > 0).then(|| n as f64 / of as f64)
}

impl Snapshot {
    /// Of a dataplane's report.
    pub(crate) fn of(command: &str, uptime_ms: u64, report: &Report, command_counters: Counts) -> Self {
        let interfaces: Vec<Interface> = report.interfaces.iter().map(Interface::of).collect();
        let workers: Vec<Worker> = report.workers.iter().map(Worker::of).collect();
        Self {
            command: command.to_owned(),
            pid: std::process::id(),
            uptime_ms,
            totals: Totals::over(&interfaces, &workers),
            dropped: sum(workers.iter().map(|worker| &worker.dropped)),
            interfaces,
            workers,
            command_counters,
            frames: report.frames as u64,
            pages: report.pages.to_owned(),
            frames_strayed: report.frames_strayed,
            frames_missing: report.frames_missing.map(|missing| missing as u64),
        }
    }

    /// A counter of ports, by interface in port order, over all workers.
    pub(crate) fn port_counters(&self) -> Vec<(String, Counts)> {
        let mut ports: Vec<(String, Counts)> = Vec::new();
        for port in self.workers.iter().flat_map(|worker| &worker.ports) {
            match ports.iter_mut().find(|(name, _)| *name == port.name) {
                Some((_, counters)) => add(counters, &port.counters),
                None => ports.push((port.name.clone(), port.counters.clone())),
            }
        }
        ports
    }
}

impl Totals {
    fn over(interfaces: &[Interface], workers: &[Worker]) -> Self {
        let port = |key: &str| -> u64 {
            workers.iter().flat_map(|worker| &worker.ports).filter_map(|port| port.counters.get(key)).sum()
        };
        let verdict = |wanted: &[Verdict]| -> u64 {
            let named = |name: &str| wanted.iter().any(|verdict| verdict.name() == name);
            let tallies = interfaces.iter().flat_map(|interface| &interface.verdicts);
            tallies.filter(|(name, _)| named(name)).map(|(_, tally)| tally.packets).sum()
        };
        let (received, sent, transmit_calls) = (port("rx_packets"), port("tx_packets"), port("tx_kicks"));
        let system_calls = workers.iter().map(|worker| worker.system_calls).sum();
        Self {
            received,
            originated: workers.iter().map(|worker| worker.originated).sum(),
            sent,
            delivered: workers.iter().map(|worker| worker.delivered).sum(),
            dropped: workers.iter().flat_map(|worker| worker.dropped.values()).sum(),
            held: workers.iter().map(|worker| worker.held).sum(),
            imbalance: workers.iter().map(|worker| worker.imbalance).sum(),
            sent_by_kernel: verdict(&[Verdict::TxForwarded]),
            shed: verdict(&[Verdict::DropRingFull]) + port("kernel_rx_dropped") + port("kernel_rx_ring_full"),
            transmit_calls,
            system_calls,
            packets_per_transmit_call: ratio(sent, transmit_calls),
            packets_per_system_call: ratio(received + sent, system_calls),
        }
    }
}

impl Interface {
    fn of(report: &InterfaceReport) -> Self {
        let verdicts = report.verdicts.iter();
        Self {
            name: report.name.clone(),
            ifindex: report.ifindex,
            description: report.description.clone(),
            verdicts: verdicts.map(|&(name, packets, bytes)| (name.to_owned(), Tally { packets, bytes })).collect(),
        }
    }
}

impl Worker {
    fn of(report: &WorkerReport) -> Self {
        Self {
            worker: report.worker,
            core: report.core,
            turns: report.turns,
            empty_turns: report.empty_turns,
            sleeps: report.sleeps,
            busy_polls: report.busy_polls,
            yields: report.yields,
            busy_ns: report.busy_ns,
            system_calls: system_calls(report),
            kept_back: report.kept_back,
            batched: report.batched,
            batch_sizes: report.batch_sizes.classes().to_vec(),
            ports: report.ports.iter().map(Port::of).collect(),
            blocks: report.blocks.iter().map(Block::of).collect(),
            dropped: counts(&report.dropped),
            originated: report.originated,
            delivered: report.delivered,
            held: report.held,
            imbalance: report.imbalance(),
            free_frames: report.free_frames,
        }
    }
}

impl Port {
    fn of(report: &PortReport) -> Self {
        Self {
            name: report.name.clone(),
            backend: report.capabilities.backend.to_owned(),
            mode: report.capabilities.mode.clone(),
            mtu: report.capabilities.mtu,
            queues: report.capabilities.queues,
            counters: numbers(&report.counters),
            packets_per_transmit_call: ratio(report.counters.tx_packets, report.counters.tx_kicks),
            rx_queues: report.queues.iter().map(Queue::of).collect(),
        }
    }
}

impl Queue {
    fn of(report: &QueueCounters) -> Self {
        let mut counters = numbers(report);
        // These two are no counters.
        counters.retain(|name, _| name != "queue" && name != "waiting");
        Self { queue: report.queue, waiting: report.waiting, counters }
    }
}

impl Block {
    /// Adds another worker's instance of the same block.
    pub(crate) fn join(&mut self, other: &Self) {
        self.packets += other.packets;
        self.batches += other.batches;
        self.cycles += other.cycles;
        self.packets_per_batch = ratio(self.packets, self.batches);
        self.cycles_per_packet = ratio(self.cycles, self.packets);
        self.batch_sizes.iter_mut().zip(&other.batch_sizes).for_each(|(sum, n)| *sum += n);
        add(&mut self.sent, &other.sent);
        add(&mut self.counters, &other.counters);
    }

    fn of(report: &NodeReport) -> Self {
        Self {
            name: report.name.clone(),
            kind: report.kind.to_owned(),
            packets: report.work.packets,
            batches: report.work.batches,
            cycles: report.work.cycles,
            packets_per_batch: ratio(report.work.packets, report.work.batches),
            cycles_per_packet: ratio(report.work.cycles, report.work.packets),
            batch_sizes: report.work.batch_sizes.classes().to_vec(),
            sent: counts(&report.sent),
            counters: counts(&report.counters),
        }
    }
}

/// Every call of a worker on its way round: for packets, to wait, and to make way for others.
fn system_calls(report: &WorkerReport) -> u64 {
    let kicks: u64 = report.ports.iter().map(|port| port.counters.tx_kicks + port.counters.rx_kicks).sum();
    kicks + report.yields + report.sleeps + report.wake_ups
}

fn counts(pairs: &[(&'static str, u64)]) -> Counts {
    let mut counts = Counts::new();
    pairs.iter().for_each(|&(name, n)| *counts.entry(name.to_owned()).or_default() += n);
    counts
}

/// The whole numbers of a structure, by field name: a counter added to a port appears by itself.
fn numbers(counters: &impl Serialize) -> Counts {
    let fields = serde_json::to_value(counters).unwrap_or_default();
    let fields = fields.as_object().into_iter().flatten();
    fields.filter_map(|(name, value)| Some((name.clone(), value.as_u64()?))).collect()
}

/// Adds counts by name.
pub(crate) fn add(to: &mut Counts, more: &Counts) {
    more.iter().for_each(|(name, n)| *to.entry(name.clone()).or_default() += n);
}

fn sum<'a>(all: impl Iterator<Item = &'a Counts>) -> Counts {
    all.fold(Counts::new(), |mut sum, more| {
        add(&mut sum, more);
        sum
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use tailwater_dataplane::port::PortCounters;

    fn report() -> Report {
        let port = |rx, tx| PortReport {
            name: "d0".into(),
            counters: PortCounters { rx_packets: rx, tx_packets: tx, tx_kicks: 1, ..PortCounters::default() },
            ..PortReport::default()
        };
        let worker = |number, rx, tx, dropped| WorkerReport {
            worker: number,
            ports: vec![port(rx, tx)],
            dropped: vec![("no_route", dropped)],
            ..WorkerReport::default()
        };
        Report {
            interfaces: vec![InterfaceReport {
                name: "d0".into(),
                ifindex: 2,
                description: String::new(),
                verdicts: vec![("tx_forwarded", 7, 700), ("drop_ring_full", 2, 120)],
            }],
            workers: vec![worker(0, 10, 8, 2), worker(1, 5, 4, 0)],
            frames: 64,
            pages: "ordinary",
            frames_strayed: 0,
            frames_missing: None,
        }
    }

    #[test]
    fn totals_sum_workers_and_show_what_was_lost_silently() {
        let snapshot = Snapshot::of("l3fwd", 1, &report(), Counts::new());
        let totals = snapshot.totals;
        assert_eq!((totals.received, totals.sent, totals.dropped, totals.imbalance), (15, 12, 2, 1));
        assert_eq!((totals.sent_by_kernel, totals.shed, totals.transmit_calls), (7, 2, 2));
        assert_eq!(snapshot.dropped.get("no_route"), Some(&2));
        assert_eq!(snapshot.port_counters()[0].1["rx_packets"], 15);
    }

    #[test]
    fn snapshot_survives_the_control_socket() {
        let snapshot = Snapshot::of("l3fwd", 1, &report(), Counts::new());
        let text = serde_json::to_string(&snapshot).unwrap();
        assert_eq!(serde_json::from_str::<Snapshot>(&text).unwrap(), snapshot);
    }
}
