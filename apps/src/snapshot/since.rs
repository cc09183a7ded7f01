//! What has been counted between two snapshots of the same process: a snapshot again, so that everything which shows
//! counters shows rates, too.
//!
//! Things are paired by name. What is new counts from zero, and so does a counter that has become smaller: a block of
//! that name was put in place of another. Gauges (`held`, `waiting`, `free_frames`, frames) stay those of the later one.

use std::collections::BTreeMap;

use super::{Block, Counts, Interface, Port, Queue, Snapshot, Tally, Totals, Worker, ratio};

impl Snapshot {
    /// What has been counted since `earlier`; `uptime_ms` is the time in between.
    pub(crate) fn since(&self, earlier: &Self) -> Self {
        let workers = pair(&self.workers, &earlier.workers, |worker| worker.worker, Worker::since);
        let interfaces = pair(&self.interfaces, &earlier.interfaces, |interface| interface.ifindex, Interface::since);
        Self {
            uptime_ms: self.uptime_ms.saturating_sub(earlier.uptime_ms),
            totals: self.totals.since(&earlier.totals),
            dropped: counts(&self.dropped, &earlier.dropped),
            interfaces,
            workers,
            command_counters: counts(&self.command_counters, &earlier.command_counters),
            frames_strayed: grown(self.frames_strayed, earlier.frames_strayed),
            ..self.clone()
        }
    }
}

impl Totals {
    fn since(&self, earlier: &Self) -> Self {
        let by = |field: fn(&Self) -> u64| grown(field(self), field(earlier));
        let (received, sent) = (by(|totals| totals.received), by(|totals| totals.sent));
        let transmit_calls = by(|totals| totals.transmit_calls);
        let system_calls = by(|totals| totals.system_calls);
        Self {
            received,
            originated: by(|totals| totals.originated),
            sent,
            delivered: by(|totals| totals.delivered),
            dropped: by(|totals| totals.dropped),
            held: self.held,
            imbalance: self.imbalance,
            sent_by_kernel: by(|totals| totals.sent_by_kernel),
            shed: by(|totals| totals.shed),
            transmit_calls,
            system_calls,
            packets_per_transmit_call: ratio(sent, transmit_calls),
            packets_per_system_call: ratio(received + sent, system_calls),
        }
    }
}

impl Interface {
    fn since(&self, earlier: &Self) -> Self {
        let tally = |(name, now): (&String, &Tally)| {
            let before = earlier.verdicts.get(name).copied().unwrap_or_default();
            let packets = grown(now.packets, before.packets);
            (name.clone(), Tally { packets, bytes: grown(now.bytes, before.bytes) })
        };
        let verdicts: BTreeMap<_, _> = self.verdicts.iter().map(tally).collect();
        Self { verdicts, ..self.clone() }
    }
}

impl Worker {
    fn since(&self, earlier: &Self) -> Self {
        let by = |field: fn(&Self) -> u64| grown(field(self), field(earlier));
        Self {
            turns: by(|worker| worker.turns),
            empty_turns: by(|worker| worker.empty_turns),
            sleeps: by(|worker| worker.sleeps),
            busy_polls: by(|worker| worker.busy_polls),
            yields: by(|worker| worker.yields),
            busy_ns: by(|worker| worker.busy_ns),
            system_calls: by(|worker| worker.system_calls),
            kept_back: by(|worker| worker.kept_back),
            batched: by(|worker| worker.batched),
            batch_sizes: classes(&self.batch_sizes, &earlier.batch_sizes),
            ports: pair(&self.ports, &earlier.ports, |port| port.name.clone(), Port::since),
            blocks: pair(&self.blocks, &earlier.blocks, |block| block.name.clone(), Block::since),
            dropped: counts(&self.dropped, &earlier.dropped),
            originated: by(|worker| worker.originated),
            delivered: by(|worker| worker.delivered),
            ..self.clone()
        }
    }
}

impl Port {
    fn since(&self, earlier: &Self) -> Self {
        let counters = counts(&self.counters, &earlier.counters);
        let count = |key: &str| counters.get(key).copied().unwrap_or(0);
        Self {
            packets_per_transmit_call: ratio(count("tx_packets"), count("tx_kicks")),
            rx_queues: pair(&self.rx_queues, &earlier.rx_queues, |queue| queue.queue, Queue::since),
            counters,
            ..self.clone()
        }
    }
}

impl Queue {
    fn since(&self, earlier: &Self) -> Self {
        Self { counters: counts(&self.counters, &earlier.counters), ..*self }
    }
}

impl Block {
    fn since(&self, earlier: &Self) -> Self {
        // Another kind under the same name has nothing to do with the one before.
        let nothing = Self::default();
        let earlier = if self.kind == earlier.kind { earlier } else { &nothing };
        let by = |field: fn(&Self) -> u64| grown(field(self), field(earlier));
        let (packets, batches, cycles) =
            (by(|block| block.packets), by(|block| block.batches), by(|block| block.cycles));
        Self {
            packets,
            batches,
            cycles,
            packets_per_batch: ratio(packets, batches),
            cycles_per_packet: ratio(cycles, packets),
            batch_sizes: classes(&self.batch_sizes, &earlier.batch_sizes),
            sent: counts(&self.sent, &earlier.sent),
            counters: counts(&self.counters, &earlier.counters),
            ..self.clone()
        }
    }
}

/// `since` for each thing in `now` that was there before; the others stay as they are.
fn pair<T: Clone, K: PartialEq>(now: &[T], before: &[T], key: impl Fn(&T) -> K, since: impl Fn(&T, &T) -> T) -> Vec<T> {
    let one = |thing: &T| match before.iter().find(|earlier| key(earlier) == key(thing)) {
        Some(earlier) => since(thing, earlier),
        None => thing.clone(),
    };
    now.iter().map(one).collect()
}

fn counts(now: &Counts, before: &Counts) -> Counts {
    now.iter().map(|(name, &n)| (name.clone(), grown(n, before.get(name).copied().unwrap_or(0)))).collect()
}

fn classes(now: &[u64], before: &[u64]) -> Vec<u64> {
    now.iter().enumerate().map(|(at, &n)| grown(n, before.get(at).copied().unwrap_or(0))).collect()
}

/// By how much a counter has grown; one that has been set back counts from zero.
fn grown(now: u64, before: u64) -> u64 {
    if now >= before { now - before } else { now }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(uptime_ms: u64, n: u64) -> Snapshot {
        let block = |name: &str, kind: &str| Block {
            name: name.into(),
            kind: kind.into(),
            packets: n,
            batches: n / 10,
            cycles: n * 50,
            batch_sizes: vec![0, n / 10],
            sent: Counts::from([("out".into(), n)]),
            ..Block::default()
        };
        let queue = Queue { queue: 0, waiting: 3, counters: Counts::from([("rx_packets".into(), n)]) };
        let port = Port {
            name: "d0".into(),
            counters: Counts::from([("rx_packets".into(), n), ("tx_packets".into(), n), ("tx_kicks".into(), n / 5)]),
            rx_queues: vec![queue],
            ..Port::default()
        };
        let worker = Worker {
            turns: n,
            held: 4,
            ports: vec![port],
            blocks: vec![block("route", "ip-forward")],
            ..Worker::default()
        };
        Snapshot {
            uptime_ms,
            workers: vec![worker],
            totals: Totals { received: n, ..Totals::default() },
            ..Snapshot::default()
        }
    }

    #[test]
    fn counters_are_differences_and_gauges_are_not() {
        let delta = snapshot(3000, 1500).since(&snapshot(1000, 500));
        assert_eq!((delta.uptime_ms, delta.totals.received), (2000, 1000));
        let worker = &delta.workers[0];
        assert_eq!((worker.turns, worker.held, worker.blocks[0].sent["out"]), (1000, 4, 1000));
        assert_eq!(worker.blocks[0].cycles_per_packet, Some(50.0));
        assert_eq!(worker.blocks[0].packets_per_batch, Some(10.0));
        assert_eq!(worker.ports[0].packets_per_transmit_call, Some(5.0));
        assert_eq!(
            (worker.ports[0].rx_queues[0].waiting, worker.ports[0].rx_queues[0].counters["rx_packets"]),
            (3, 1000)
        );
    }

    #[test]
    fn what_is_new_or_was_exchanged_counts_from_zero() {
        let (before, mut now) = (snapshot(1000, 500), snapshot(2000, 200));
        assert_eq!(now.since(&before).workers[0].blocks[0].packets, 200, "set back");
        now.workers[0].blocks[0].packets = 900;
        now.workers[0].blocks[0].kind = "counter".into();
        assert_eq!(now.since(&before).workers[0].blocks[0].packets, 900, "another kind");
        now.workers[0].blocks[0].name = "other".into();
        assert_eq!(now.since(&before).workers[0].blocks[0].packets, 900, "another name");
    }
}
