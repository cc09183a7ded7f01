//! The sheets that there are, each made from a window.

use std::collections::BTreeMap;

use tailwater_dataplane::ledger;
use tailwater_xdp::{Kind, Verdict};

use super::sheet::{Cell, Column, Detail, Row, Sheet, column};
use crate::snapshot::{Block, Counts, Port, Snapshot, Worker, add, ratio};
use crate::summary::batch_class;
use crate::window::Window;

const WORKERS: &[Column] = &[
    column("worker", "WORKER", 0),
    column("core", "CORE", 5),
    column("in_pps", "IN PPS", 0),
    column("out_pps", "OUT PPS", 0),
    column("dropped_pps", "DROP", 1),
    column("busy_percent", "BUSY", 1),
    column("packets_per_batch", "PKT/BATCH", 2),
    column("cycles_per_packet", "CYC/PKT", 2),
    column("packets_per_system_call", "PKT/CALL", 3),
    column("turns_per_sec", "TURNS", 6),
    column("empty_turns_percent", "EMPTY", 5),
    column("sleeps_per_sec", "SLEEPS", 6),
    column("held", "HELD", 4),
    column("free_frames", "FREE", 7),
];

const PORTS: &[Column] = &[
    column("port", "PORT", 0),
    column("worker", "WORKER", 4),
    column("in_pps", "IN PPS", 0),
    column("in_bps", "IN BPS", 2),
    column("out_pps", "OUT PPS", 0),
    column("out_bps", "OUT BPS", 2),
    column("packets_per_transmit_call", "PKT/SEND", 1),
    column("refused_per_sec", "REFUSED", 5),
    column("starved_per_sec", "STARVED", 6),
    column("kernel_dropped_pps", "LOST", 3),
    column("mode", "MODE", 7),
];

const QUEUES: &[Column] = &[
    column("port", "PORT", 0),
    column("queue", "QUEUE", 0),
    column("worker", "WORKER", 0),
    column("in_pps", "IN PPS", 0),
    column("in_bps", "IN BPS", 1),
    column("share_percent", "SHARE", 2),
    column("waiting", "WAITING", 2),
    column("no_frame_pps", "NO FRAME", 4),
    column("ring_full_pps", "RING FULL", 3),
];

const BLOCKS: &[Column] = &[
    column("block", "BLOCK", 0),
    column("kind", "KIND", 3),
    column("worker", "WORKER", 4),
    column("in_pps", "IN PPS", 0),
    column("out_pps", "OUT PPS", 1),
    column("packets_per_batch", "PKT/BATCH", 1),
    column("cycles_per_packet", "CYC/PKT", 0),
    column("cycles_percent", "CYCLES", 2),
];

const DROPS: &[Column] = &[
    column("reason", "DROPPED", 0),
    column("where", "WHERE", 1),
    column("pps", "PPS", 0),
    column("packets", "PACKETS", 1),
    column("meaning", "MEANING", 2),
];

const VERDICTS: &[Column] = &[
    column("verdict", "VERDICT", 0),
    column("interface", "PORT", 0),
    column("pps", "PPS", 0),
    column("bps", "BPS", 1),
    column("packets", "PACKETS", 2),
    column("meaning", "MEANING", 3),
];

/// Counters of a port for packets that the kernel took from its queues and lost.
const KERNEL_LOST: [(&str, &str); 3] = [
    ("kernel_rx_dropped", "No free frame to receive into, or larger than the frames."),
    ("kernel_rx_ring_full", "The receive ring was full: the worker is too slow for what comes."),
    ("kernel_invalid", "The kernel found a descriptor invalid: a bug."),
];

fn text(text: impl ToString) -> Cell {
    Cell::Text(text.to_string())
}

fn count(counts: &Counts, key: &str) -> u64 {
    counts.get(key).copied().unwrap_or(0)
}

fn percent(part: u64, of: u64) -> f64 {
    ratio(part, of).unwrap_or(0.0) * 100.0
}

/// Rate and total of every counter of a thing.
fn details(window: &Window, delta: &Counts, now: &Counts) -> Vec<Detail> {
    let one = |(name, &total): (&String, &u64)| Detail {
        name: name.replace('_', " "),
        rate: window.rate(count(delta, name)),
        total,
    };
    now.iter().map(one).collect()
}

/// The classes of batch sizes that occurred.
fn batch_details<'a>(window: &'a Window, delta: &'a [u64], now: &'a [u64]) -> impl Iterator<Item = Detail> + 'a {
    let counted = delta.iter().zip(now).enumerate().filter(|(_, (_, total))| **total > 0);
    counted.map(|(class, (&n, &total))| Detail {
        name: format!("batches of {}", batch_class(class)),
        rate: window.rate(n),
        total,
    })
}

/// Workers by number.
pub(crate) fn workers(window: &Window) -> Sheet {
    let row = |(delta, now): (&Worker, &Worker)| {
        let sum = |key: &str| delta.ports.iter().map(|port| count(&port.counters, key)).sum::<u64>();
        let (received, sent) = (sum("rx_packets"), sum("tx_packets"));
        let cycles = delta.blocks.iter().map(|block| block.cycles).sum();
        let cells = vec![
            text(now.worker),
            text(now.core.map_or("-".to_owned(), |core| core.to_string())),
            Cell::Rate(window.rate(received)),
            Cell::Rate(window.rate(sent)),
            Cell::Rate(window.rate(delta.dropped.values().sum())),
            Cell::Percent((window.rate(delta.busy_ns) / 1e7).min(100.0)),
            Cell::Ratio(ratio(delta.batched, delta.batch_sizes.iter().sum())),
            Cell::Ratio(ratio(cycles, received + delta.originated)),
            Cell::Ratio(ratio(received + sent, delta.system_calls)),
            Cell::Rate(window.rate(delta.turns)),
            Cell::Percent(percent(delta.empty_turns, delta.turns)),
            Cell::Rate(window.rate(delta.sleeps)),
            Cell::Count(now.held),
            Cell::Count(now.free_frames),
        ];
        let batches = batch_details(window, &delta.batch_sizes, &now.batch_sizes);
        let details = batches.chain(details(window, &delta.dropped, &now.dropped)).collect();
        Row { cells, trend: window.rate(received + sent), details }
    };
    let rows = window.delta.workers.iter().zip(&window.now.workers).map(row).collect();
    Sheet { title: "workers", columns: WORKERS, rows }
}

/// A port of one worker, or of all.
struct Side {
    name: String,
    worker: String,
    mode: String,
    delta: Counts,
    now: Counts,
}

fn sides(window: &Window, by_worker: bool) -> Vec<Side> {
    let mut sides: Vec<Side> = Vec::new();
    for (delta, now) in window.delta.workers.iter().zip(&window.now.workers) {
        for (port, total) in delta.ports.iter().zip(&now.ports) {
            match sides.iter_mut().find(|side| !by_worker && side.name == port.name) {
                Some(side) => {
                    side.worker = "all".to_owned();
                    add(&mut side.delta, &port.counters);
                    add(&mut side.now, &total.counters);
                }
                None => sides.push(Side::of(now.worker, port, total)),
            }
        }
    }
    sides
}

impl Side {
    fn of(worker: usize, delta: &Port, now: &Port) -> Self {
        Self {
            name: now.name.clone(),
            worker: worker.to_string(),
            mode: format!("{} {}", now.backend, now.mode),
            delta: delta.counters.clone(),
            now: now.counters.clone(),
        }
    }

    fn row(&self, window: &Window) -> Row {
        let rate = |key: &str| window.rate(count(&self.delta, key));
        let lost: u64 = KERNEL_LOST.iter().map(|(key, _)| count(&self.delta, key)).sum();
        let cells = vec![
            text(&self.name),
            text(&self.worker),
            Cell::Rate(rate("rx_packets")),
            Cell::Rate(rate("rx_bytes") * 8.0),
            Cell::Rate(rate("tx_packets")),
            Cell::Rate(rate("tx_bytes") * 8.0),
            Cell::Ratio(ratio(count(&self.delta, "tx_packets"), count(&self.delta, "tx_kicks"))),
            Cell::Rate(rate("tx_refused")),
            Cell::Rate(rate("refill_starved")),
            Cell::Rate(window.rate(lost)),
            text(&self.mode),
        ];
        let trend = rate("rx_packets") + rate("tx_packets");
        Row { cells, trend, details: details(window, &self.delta, &self.now) }
    }
}

/// Ports in their order, of all workers together or one by one.
pub(crate) fn ports(window: &Window, by_worker: bool) -> Sheet {
    let rows = sides(window, by_worker).iter().map(|side| side.row(window)).collect();
    Sheet { title: "ports", columns: PORTS, rows }
}

/// Receive queues of all ports, in the order of ports, queues, workers.
pub(crate) fn queues(window: &Window) -> Sheet {
    let mut rows = Vec::new();
    for (delta, now) in window.delta.workers.iter().zip(&window.now.workers) {
        for (at, (port, total)) in delta.ports.iter().zip(&now.ports).enumerate() {
            let received = window.delta.workers.iter().filter_map(|worker| worker.ports.get(at));
            let received = received.map(|port| count(&port.counters, "rx_packets")).sum();
            for (queue, total) in port.rx_queues.iter().zip(&total.rx_queues) {
                let rate = |key: &str| window.rate(count(&queue.counters, key));
                let cells = vec![
                    text(&port.name),
                    text(queue.queue),
                    text(now.worker),
                    Cell::Rate(rate("rx_packets")),
                    Cell::Rate(rate("rx_bytes") * 8.0),
                    Cell::Percent(percent(count(&queue.counters, "rx_packets"), received)),
                    Cell::Count(queue.waiting),
                    Cell::Rate(rate("kernel_rx_dropped")),
                    Cell::Rate(rate("kernel_rx_ring_full")),
                ];
                let details = details(window, &queue.counters, &total.counters);
                rows.push(((at, queue.queue), Row { cells, trend: rate("rx_packets"), details }));
            }
        }
    }
    rows.sort_by_key(|(place, _)| *place);
    Sheet { title: "queues", columns: QUEUES, rows: rows.into_iter().map(|(_, row)| row).collect() }
}

/// Blocks in graph order, of all workers together or one by one.
pub(crate) fn blocks(window: &Window, by_worker: bool) -> Sheet {
    let mut blocks: Vec<(String, Block, Block)> = Vec::new();
    for (delta, now) in window.delta.workers.iter().zip(&window.now.workers) {
        for (block, total) in delta.blocks.iter().zip(&now.blocks) {
            match blocks.iter_mut().find(|(_, known, _)| !by_worker && known.name == block.name) {
                Some((worker, known, known_total)) => {
                    *worker = "all".to_owned();
                    known.join(block);
                    known_total.join(total);
                }
                None => blocks.push((now.worker.to_string(), block.clone(), total.clone())),
            }
        }
    }
    let cycles = blocks.iter().map(|(_, block, _)| block.cycles).sum();
    let rows = blocks.iter().map(|(worker, delta, now)| block_row(window, worker, cycles, delta, now)).collect();
    Sheet { title: "blocks", columns: BLOCKS, rows }
}

fn block_row(window: &Window, worker: &str, cycles: u64, delta: &Block, now: &Block) -> Row {
    let cells = vec![
        text(&now.name),
        text(&now.kind),
        text(worker),
        Cell::Rate(window.rate(delta.packets)),
        Cell::Rate(window.rate(delta.sent.values().sum())),
        Cell::Ratio(ratio(delta.packets, delta.batches)),
        Cell::Ratio(ratio(delta.cycles, delta.packets)),
        Cell::Percent(percent(delta.cycles, cycles)),
    ];
    let sent = details(window, &delta.sent, &now.sent);
    let sent = sent.into_iter().map(|detail| Detail { name: format!("to {}", detail.name), ..detail });
    let batches = batch_details(window, &delta.batch_sizes, &now.batch_sizes);
    let details = sent.chain(batches).chain(details(window, &delta.counters, &now.counters)).collect();
    Row { cells, trend: window.rate(delta.packets), details }
}

/// Everything that was lost, by place and reason: in the workers, in the XDP program, in the kernel.
pub(crate) fn drops(window: &Window) -> Sheet {
    let mut rows = Vec::new();
    let mut lost = |reason: &str, place: String, n: u64, total: u64, meaning: &str| {
        if total == 0 {
            return;
        }
        let pps = window.rate(n);
        let cells = vec![text(reason), text(place), Cell::Rate(pps), Cell::Count(total), text(meaning)];
        rows.push(Row { cells, trend: pps, details: Vec::new() });
    };
    for (reason, &total) in &window.now.dropped {
        let meaning = ledger::meaning(reason).unwrap_or_default();
        lost(reason, "worker".into(), count(&window.delta.dropped, reason), total, meaning);
    }
    for (name, place, n, total, meaning) in xdp_drops(&window.delta, &window.now) {
        lost(name, place, n, total, meaning);
    }
    for side in sides(window, false) {
        for (key, meaning) in KERNEL_LOST {
            lost(key, format!("kernel {}", side.name), count(&side.delta, key), count(&side.now, key), meaning);
        }
    }
    Sheet { title: "drops", columns: DROPS, rows }
}

/// What the XDP program decided, by interface.
pub(crate) fn verdicts(window: &Window) -> Sheet {
    let mut rows = Vec::new();
    for (delta, now) in window.delta.interfaces.iter().zip(&window.now.interfaces) {
        for (name, total) in &now.verdicts {
            let tally = delta.verdicts.get(name).copied().unwrap_or_default();
            let verdict = Verdict::ALL.iter().find(|verdict| verdict.name() == name);
            let cells = vec![
                text(name),
                text(&now.name),
                Cell::Rate(window.rate(tally.packets)),
                Cell::Rate(window.rate(tally.bytes) * 8.0),
                Cell::Count(total.packets),
                text(verdict.map_or("", |verdict| verdict.describe())),
            ];
            rows.push(Row { cells, trend: window.rate(tally.packets), details: Vec::new() });
        }
    }
    Sheet { title: "verdicts", columns: VERDICTS, rows }
}

/// Verdicts that lose the frame: name, place, since the earlier snapshot, in all, meaning.
fn xdp_drops(delta: &Snapshot, now: &Snapshot) -> Vec<(&'static str, String, u64, u64, &'static str)> {
    let known: BTreeMap<&str, &Verdict> = Verdict::ALL
        .iter()
        .filter(|verdict| verdict.kind() == Kind::Drop)
        .map(|verdict| (verdict.name(), verdict))
        .collect();
    let mut drops = Vec::new();
    for (delta, now) in delta.interfaces.iter().zip(&now.interfaces) {
        for (name, tally) in &now.verdicts {
            let Some(verdict) = known.get(name.as_str()) else { continue };
            let n = delta.verdicts.get(name).map_or(0, |tally| tally.packets);
            drops.push((verdict.name(), format!("XDP {}", now.name), n, tally.packets, verdict.describe()));
        }
    }
    drops
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::sample;

    fn cell(sheet: &Sheet, row: usize, key: &str) -> Cell {
        let at = sheet.columns.iter().position(|column| column.key == key).unwrap();
        sheet.rows[row].cells[at].clone()
    }

    #[test]
    fn every_row_fills_every_column() {
        let window = sample::window();
        for sheet in [
            workers(&window),
            ports(&window, true),
            queues(&window),
            blocks(&window, true),
            drops(&window),
            verdicts(&window),
        ] {
            assert!(!sheet.rows.is_empty(), "{}", sheet.title);
            assert!(sheet.rows.iter().all(|row| row.cells.len() == sheet.columns.len()), "{}", sheet.title);
        }
    }

    #[test]
    fn figures_are_those_of_the_window() {
        let window = sample::window();
        let sheet = workers(&window);
        assert_eq!(cell(&sheet, 0, "in_pps"), Cell::Rate(1_200_000.0));
        assert_eq!(cell(&sheet, 0, "busy_percent"), Cell::Percent(85.0));
        assert_eq!(cell(&sheet, 0, "packets_per_batch"), Cell::Ratio(Some(60.0)));
        let sheet = blocks(&window, false);
        assert_eq!(
            (cell(&sheet, 0, "worker"), cell(&sheet, 0, "cycles_per_packet")),
            (text("all"), Cell::Ratio(Some(82.0)))
        );
        assert_eq!(cell(&ports(&window, false), 0, "packets_per_transmit_call"), Cell::Ratio(Some(30.0)));
    }

    #[test]
    fn workers_are_joined_or_told_apart() {
        let window = sample::window();
        assert_eq!((ports(&window, false).rows.len(), ports(&window, true).rows.len()), (2, 4));
        assert_eq!((blocks(&window, false).rows.len(), blocks(&window, true).rows.len()), (2, 4));
        assert_eq!(queues(&window).rows.len(), 8);
    }

    #[test]
    fn drops_are_those_of_workers_program_and_kernel() {
        let names: Vec<String> = drops(&sample::window()).rows.iter().map(Row::name).collect();
        assert!(names.iter().any(|name| name.starts_with("no_route  worker  No route")), "{names:?}");
        assert!(names.iter().any(|name| name.starts_with("drop_ring_full  XDP d0")), "{names:?}");
        assert!(names.iter().any(|name| name.starts_with("kernel_rx_ring_full  kernel d0")), "{names:?}");
    }
}
