//! What is on the page: a family for each number of a snapshot, with units in names and meanings as help.

use crate::snapshot::{BATCH_UPPER, Block, Counts, Interface, Port, Queue, Snapshot, Totals, Worker};

/// Label names and values.
pub(super) type Labels = Vec<(&'static str, String)>;

/// A number, or several that belong together.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    /// Only grows.
    Counter(u64),
    /// Only grows; in seconds.
    Seconds(f64),
    Gauge(f64),
    /// Always 1; the labels tell.
    Info,
    /// Events by size: their sum, and how many of each size, up to each bound and beyond the last.
    Sizes {
        sum: u64,
        counts: Vec<(f64, u64)>,
    },
}

/// Samples of one name.
#[derive(Clone, Debug)]
pub(super) struct Family {
    /// Without prefix, unit and `_total`.
    pub(super) name: String,
    pub(super) unit: Option<Unit>,
    pub(super) help: &'static str,
    pub(super) samples: Vec<(Labels, Value)>,
}

/// Units that belong into the name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    Bytes,
    Seconds,
}

/// What the counters of ports and queues mean, by name.
const PORT_HELP: &[(&str, &str)] = &[
    ("rx_packets", "Packets received"),
    ("rx_bytes", "Bytes received"),
    ("tx_packets", "Packets put into the transmit ring"),
    ("tx_bytes", "Bytes put into the transmit ring"),
    ("tx_kicks", "System calls to make the kernel transmit"),
    ("tx_trains", "Calls that gave the kernel several TCP segments as one packet to cut"),
    ("rx_kicks", "System calls to make the kernel receive"),
    ("tx_refused", "Transmit calls that the kernel refused for now"),
    ("refill_starved", "Turns that found no free frame to receive into"),
    ("kernel_rx_dropped", "Packets the kernel dropped for no free frame, or larger than the frames"),
    ("kernel_rx_ring_full", "Packets the kernel dropped because the receive ring was full"),
    ("kernel_invalid", "Descriptors that the kernel found invalid"),
];

/// The page under construction.
#[derive(Default)]
struct Page {
    families: Vec<Family>,
}

impl Page {
    fn add(&mut self, name: &str, unit: Option<Unit>, help: &'static str, labels: &Labels, value: Value) {
        let sample = (labels.clone(), value);
        // Families are few, and samples of the same come one after the other.
        match self.families.iter_mut().rfind(|family| family.name == name && family.unit == unit) {
            Some(family) => family.samples.push(sample),
            None => self.families.push(Family { name: name.to_owned(), unit, help, samples: vec![sample] }),
        }
    }

    fn counter(&mut self, name: &str, help: &'static str, labels: &Labels, n: u64) {
        match name.strip_suffix("_bytes") {
            Some(name) => self.add(name, Some(Unit::Bytes), help, labels, Value::Counter(n)),
            None => self.add(name, None, help, labels, Value::Counter(n)),
        }
    }

    fn gauge(&mut self, name: &str, help: &'static str, labels: &Labels, n: impl Into<f64>) {
        self.add(name, None, help, labels, Value::Gauge(n.into()));
    }

    /// Counts are exact up to 2^53.
    fn level(&mut self, name: &str, help: &'static str, labels: &Labels, n: u64) {
        self.gauge(name, help, labels, n as f64);
    }

    /// A quotient since the start; there is none before anything happened.
    fn ratio(&mut self, name: &str, help: &'static str, labels: &Labels, ratio: Option<f64>) {
        ratio.into_iter().for_each(|ratio| self.gauge(name, help, labels, ratio));
    }

    fn info(&mut self, name: &str, help: &'static str, labels: &Labels) {
        self.add(name, None, help, labels, Value::Info);
    }

    /// Counters that have no names known here, told apart by a label.
    fn named(&mut self, name: &str, help: &'static str, labels: &Labels, label: &'static str, counts: &Counts) {
        counts.iter().for_each(|(key, &n)| self.counter(name, help, &with(labels, label, key), n));
    }

    fn sizes(&mut self, name: &str, help: &'static str, labels: &Labels, sum: u64, classes: &[u64]) {
        let bounds = BATCH_UPPER.iter().map(|&bound| bound as f64).chain([f64::INFINITY]);
        let counts = bounds.zip(classes.iter().copied()).collect();
        self.add(name, None, help, labels, Value::Sizes { sum, counts });
    }

    fn port_counters(&mut self, thing: &str, labels: &Labels, counters: &Counts) {
        for (name, &n) in counters {
            let known = PORT_HELP.iter().find(|(known, _)| known == name);
            let help = known.map_or("A counter of this kind of port", |(_, help)| help);
            self.counter(&format!("{thing}_{name}"), help, labels, n);
        }
    }
}

fn with(labels: &Labels, name: &'static str, value: impl ToString) -> Labels {
    let mut labels = labels.clone();
    labels.push((name, value.to_string()));
    labels
}

/// Everything that a snapshot tells.
pub(super) fn of(snapshot: &Snapshot) -> Vec<Family> {
    let Snapshot {
        command,
        pid,
        uptime_ms,
        totals,
        dropped,
        interfaces,
        workers,
        command_counters,
        frames,
        pages,
        frames_strayed,
        frames_missing,
    } = snapshot;
    let mut page = Page::default();
    let none = Labels::new();
    let version = env!("CARGO_PKG_VERSION").to_owned();
    let process =
        vec![("command", command.clone()), ("pid", pid.to_string()), ("pages", pages.clone()), ("version", version)];
    page.info("process", "The process and its packet memory", &process);
    let uptime = Value::Gauge(*uptime_ms as f64 / 1e3);
    page.add("uptime", Some(Unit::Seconds), "Time since packets could come in", &none, uptime);
    add_totals(&mut page, totals);
    page.named("dropped_packets", "Packets discarded by the workers", &none, "reason", dropped);
    page.named("command_events", "What the command itself counts", &none, "event", command_counters);
    page.level("frames", "Packet buffers", &none, *frames);
    page.counter("frames_strayed", "Packet buffers dropped outside any pool: a bug if not 0", &none, *frames_strayed);
    if let Some(missing) = frames_missing {
        page.level("frames_missing", "Packet buffers that did not come back", &none, *missing);
    }
    interfaces.iter().for_each(|interface| add_interface(&mut page, interface));
    workers.iter().for_each(|worker| add_worker(&mut page, worker));
    page.families
}

fn add_totals(page: &mut Page, totals: &Totals) {
    let Totals {
        received,
        originated,
        sent,
        delivered,
        dropped,
        held,
        imbalance,
        sent_by_kernel,
        shed,
        transmit_calls,
        system_calls,
        packets_per_transmit_call,
        packets_per_system_call,
    } = *totals;
    let none = Labels::new();
    page.counter("packets_received", "Packets received by the workers", &none, received);
    page.counter("packets_originated", "Packets made by blocks", &none, originated);
    page.counter("packets_sent", "Packets put into transmit rings", &none, sent);
    page.counter("packets_delivered", "Packets that ended well inside blocks", &none, delivered);
    page.counter("packets_dropped", "Packets discarded by the workers for any reason", &none, dropped);
    page.level("packets_held", "Packets inside blocks now", &none, held);
    page.gauge("packets_imbalance", "Packets lost without a reason: a bug if not 0", &none, imbalance as f64);
    page.counter("packets_sent_by_kernel", "Packets forwarded by the XDP program", &none, sent_by_kernel);
    page.counter("packets_shed", "Packets lost to full rings before a worker saw them", &none, shed);
    page.counter("transmit_calls", "System calls to transmit", &none, transmit_calls);
    page.counter("system_calls", "System calls of the workers", &none, system_calls);
    let help = "Packets sent for each system call to transmit, since the start";
    page.ratio("packets_per_transmit_call", help, &none, packets_per_transmit_call);
    let help = "Packets received and sent for each system call, since the start";
    page.ratio("packets_per_system_call", help, &none, packets_per_system_call);
}

fn add_interface(page: &mut Page, interface: &Interface) {
    let Interface { name, ifindex, description, verdicts } = interface;
    let labels = vec![("port", name.clone())];
    let info = with(&with(&labels, "ifindex", ifindex), "description", description);
    page.info("interface", "An interface, what was chosen for it, and why", &info);
    for (verdict, tally) in verdicts {
        let labels = with(&labels, "verdict", verdict);
        page.counter("xdp_packets", "Packets by the verdict of the XDP program", &labels, tally.packets);
        page.counter("xdp_bytes", "Bytes by the verdict of the XDP program", &labels, tally.bytes);
    }
}

fn add_worker(page: &mut Page, worker: &Worker) {
    let Worker {
        worker: number,
        core,
        turns,
        empty_turns,
        sleeps,
        busy_polls,
        yields,
        busy_ns,
        system_calls,
        kept_back,
        batched,
        batch_sizes,
        ports,
        blocks,
        dropped,
        originated,
        delivered,
        held,
        imbalance,
        free_frames,
    } = worker;
    let labels = vec![("worker", number.to_string())];
    let core = core.map_or("none".to_owned(), |core| core.to_string());
    page.info("worker", "A worker and the core that it is pinned to", &with(&labels, "core", core));
    page.counter("worker_turns", "Turns taken", &labels, *turns);
    page.counter("worker_empty_turns", "Turns that found nothing", &labels, *empty_turns);
    page.counter("worker_sleeps", "Times it went to sleep", &labels, *sleeps);
    page.counter("worker_busy_polls", "Times it let the kernel receive in its own time", &labels, *busy_polls);
    page.counter("worker_yields", "Times it gave the core to whoever else wanted it", &labels, *yields);
    let busy = Value::Seconds(*busy_ns as f64 / 1e9);
    page.add("worker_busy", Some(Unit::Seconds), "Time in turns that moved packets", &labels, busy);
    page.counter("worker_system_calls", "System calls", &labels, *system_calls);
    let waited = "Packets of our own TCP that waited for room in a transmit ring";
    page.counter("worker_kept_back_packets", waited, &labels, *kept_back);
    page.sizes("worker_batch_packets", "Received batches by their packets", &labels, *batched, batch_sizes);
    page.named("worker_dropped_packets", "Packets discarded", &labels, "reason", dropped);
    page.counter("worker_packets_originated", "Packets made by its blocks", &labels, *originated);
    page.counter("worker_packets_delivered", "Packets that ended well inside its blocks", &labels, *delivered);
    page.level("worker_packets_held", "Packets inside its blocks now", &labels, *held);
    let help = "Packets lost without a reason: a bug if not 0";
    page.gauge("worker_packets_imbalance", help, &labels, *imbalance as f64);
    page.level("worker_free_frames", "Packet buffers in its pool", &labels, *free_frames);
    ports.iter().for_each(|port| add_port(page, &labels, port));
    blocks.iter().for_each(|block| add_block(page, &labels, block));
}

fn add_port(page: &mut Page, labels: &Labels, port: &Port) {
    let Port { name, backend, mode, mtu, queues, counters, packets_per_transmit_call, rx_queues } = port;
    let labels = with(labels, "port", name);
    let info = with(&with(&labels, "backend", backend), "mode", mode);
    page.info("port", "A worker's end of an interface", &info);
    let mtu = Value::Gauge((*mtu).into());
    page.add("port_mtu", Some(Unit::Bytes), "Largest packet behind the Ethernet header", &labels, mtu);
    page.gauge("port_queues", "Receive queues that it reads", &labels, *queues);
    page.port_counters("port", &labels, counters);
    let help = "Packets sent for each system call to transmit, since the start";
    page.ratio("port_packets_per_transmit_call", help, &labels, *packets_per_transmit_call);
    for Queue { queue, waiting, counters } in rx_queues {
        let labels = with(&labels, "queue", queue);
        page.level("queue_waiting_packets", "Packets in the receive ring now", &labels, *waiting);
        page.port_counters("queue", &labels, counters);
    }
}

fn add_block(page: &mut Page, labels: &Labels, block: &Block) {
    let Block {
        name,
        kind,
        packets,
        batches,
        cycles,
        packets_per_batch,
        cycles_per_packet,
        batch_sizes,
        sent,
        counters,
    } = block;
    let labels = with(&with(labels, "block", name), "kind", kind);
    page.counter("block_packets", "Packets that came in", &labels, *packets);
    page.counter("block_batches", "Batches that came in", &labels, *batches);
    page.counter("block_cycles", "CPU cycles spent", &labels, *cycles);
    page.ratio("block_packets_per_batch", "Packets in a batch, since the start", &labels, *packets_per_batch);
    let help = "CPU cycles for each packet, since the start";
    page.ratio("block_cycles_per_packet", help, &labels, *cycles_per_packet);
    page.sizes("block_batch_packets", "Batches that came in by their packets", &labels, *packets, batch_sizes);
    page.named("block_sent_packets", "Packets that went out", &labels, "output", sent);
    page.named("block_events", "What the block itself counts", &labels, "event", counters);
}

#[cfg(test)]
mod tests {
    use super::*;
    use tailwater_dataplane::port::{PortCounters, QueueCounters};

    #[test]
    fn every_counter_of_ports_and_queues_has_a_help() {
        for fields in [
            serde_json::to_value(PortCounters::default()).unwrap(),
            serde_json::to_value(QueueCounters::default()).unwrap(),
        ] {
            for name in fields.as_object().unwrap().keys().filter(|name| !["queue", "waiting"].contains(&name.as_str()))
            {
                assert!(PORT_HELP.iter().any(|(known, _)| known == name), "{name} has no help in PORT_HELP");
            }
        }
    }
}
