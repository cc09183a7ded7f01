//! A snapshot as text for people.

use crate::snapshot::{BATCH_UPPER, Counts, Snapshot, Totals, Worker};
use crate::table::{Table, grouped, short};

/// Columns of the table of ports: heading and counter.
const PORT_COLUMNS: [(&str, &str); 9] = [
    ("in", "rx_packets"),
    ("in bytes", "rx_bytes"),
    ("out", "tx_packets"),
    ("out bytes", "tx_bytes"),
    ("send calls", "tx_kicks"),
    ("with several", "tx_trains"),
    ("refused", "tx_refused"),
    ("kernel: no frame", "kernel_rx_dropped"),
    ("ring full", "kernel_rx_ring_full"),
];

/// What one wants to know at the end of a run: totals, ports, drops, batches.
pub(crate) fn brief(snapshot: &Snapshot) -> String {
    let mut lines = vec![heading(snapshot)];
    lines.extend(totals(&snapshot.totals));
    section(&mut lines, "ports", ports(snapshot));
    section(&mut lines, "drops by reason", counts("reason", "packets", &snapshot.dropped));
    section(&mut lines, "XDP verdicts", verdicts(snapshot));
    section(&mut lines, "received batches by size", batches(&snapshot.workers));
    section(&mut lines, "counters of blocks by worker", block_counters(snapshot));
    section(&mut lines, "counters of the command", counts("counter", "", &snapshot.command_counters));
    lines.extend(frames(snapshot));
    lines.join("\n")
}

/// All of it, by worker and block, too.
pub(crate) fn full(snapshot: &Snapshot) -> String {
    let mut lines = vec![brief(snapshot)];
    for interface in &snapshot.interfaces {
        lines.push(interface.description.clone());
    }
    section(&mut lines, "workers", workers(snapshot));
    section(&mut lines, "ports by worker", ports_by_worker(snapshot));
    section(&mut lines, "blocks by worker", blocks(snapshot));
    lines.join("\n")
}

fn heading(snapshot: &Snapshot) -> String {
    let names: Vec<&str> = snapshot.interfaces.iter().map(|interface| interface.name.as_str()).collect();
    let secs = snapshot.uptime_ms as f64 / 1000.0;
    format!("{} (pid {}) on {}, {secs:.1} s", snapshot.command, snapshot.pid, names.join(", "))
}

fn totals(totals: &Totals) -> Vec<String> {
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
        packets_per_transmit_call,
        ..
    } = *totals;
    let mut lines = vec![
        format!("  in:  {} received + {} originated", grouped(received), grouped(originated)),
        format!(
            "  out: {} sent + {} delivered + {} dropped + {} held",
            grouped(sent),
            grouped(delivered),
            grouped(dropped),
            grouped(held)
        ),
    ];
    lines.push(match imbalance {
        0 => "  every packet is accounted for".to_owned(),
        lost => format!("  {lost} packets are NOT accounted for; please report this as a bug"),
    });
    if sent_by_kernel > 0 {
        lines.push(format!("  forwarded in the kernel: {}", grouped(sent_by_kernel)));
    }
    if shed > 0 {
        lines.push(format!("  shed before they reached a worker (rings full): {}", grouped(shed)));
    }
    if let Some(per_call) = packets_per_transmit_call {
        lines.push(format!("  packets per transmit call: {per_call:.1} ({} calls)", grouped(transmit_calls)));
    }
    lines
}

fn section(lines: &mut Vec<String>, title: &str, table: Table) {
    if !table.is_empty() {
        lines.push(format!("{title}:"));
        lines.extend(table.lines());
    }
}

fn port_cells(name: String, counters: &Counts) -> Vec<String> {
    let count = |key: &str| grouped(counters.get(key).copied().unwrap_or(0));
    std::iter::once(name).chain(PORT_COLUMNS.iter().map(|(_, key)| count(key))).collect()
}

fn port_headings() -> Vec<&'static str> {
    std::iter::once("port").chain(PORT_COLUMNS.iter().map(|(heading, _)| *heading)).collect()
}

fn ports(snapshot: &Snapshot) -> Table {
    let mut table = Table::new(&port_headings());
    snapshot.port_counters().into_iter().for_each(|(name, counters)| table.row(port_cells(name, &counters)));
    table
}

fn ports_by_worker(snapshot: &Snapshot) -> Table {
    let mut table = Table::new(&port_headings());
    for worker in &snapshot.workers {
        for port in &worker.ports {
            let name = format!("{}/{} ({} {})", worker.worker, port.name, port.backend, port.mode);
            table.row(port_cells(name, &port.counters));
        }
    }
    table
}

fn counts(name: &str, number: &str, counts: &Counts) -> Table {
    let mut table = Table::new(&[name, number]);
    counts.iter().for_each(|(name, n)| table.row(vec![name.clone(), grouped(*n)]));
    table
}

fn verdicts(snapshot: &Snapshot) -> Table {
    let mut table = Table::new(&["interface/verdict", "packets", "bytes"]);
    for interface in &snapshot.interfaces {
        for (verdict, tally) in &interface.verdicts {
            let name = format!("{}/{verdict}", interface.name);
            table.row(vec![name, grouped(tally.packets), grouped(tally.bytes)]);
        }
    }
    table
}

fn batches(workers: &[Worker]) -> Table {
    let mut table = Table::new(&["size", "batches"]);
    for class in 0..=BATCH_UPPER.len() {
        let n: u64 = workers.iter().filter_map(|worker| worker.batch_sizes.get(class)).sum();
        if n > 0 {
            table.row(vec![batch_class(class), grouped(n)]);
        }
    }
    table
}

/// The sizes in a class of batches: `5-8`.
pub(crate) fn batch_class(class: usize) -> String {
    let after = |class: usize| class.checked_sub(1).and_then(|before| BATCH_UPPER.get(before)).map_or(1, |n| n + 1);
    match (after(class), BATCH_UPPER.get(class)) {
        (lower, Some(&upper)) if lower == upper => lower.to_string(),
        (lower, Some(upper)) => format!("{lower}-{upper}"),
        (lower, None) => format!("{lower}-"),
    }
}

fn workers(snapshot: &Snapshot) -> Table {
    let mut table = Table::new(&[
        "worker",
        "core",
        "turns",
        "found nothing",
        "busy",
        "system calls",
        "sleeps",
        "free frames",
        "imbalance",
    ]);
    for worker in &snapshot.workers {
        let core = worker.core.map_or("-".to_owned(), |core| core.to_string());
        let busy = worker.busy_ns as f64 / 1e4 / snapshot.uptime_ms.max(1) as f64;
        let mut cells = vec![worker.worker.to_string(), core];
        cells.extend([worker.turns, worker.empty_turns].map(grouped));
        cells.push(format!("{busy:.1} %"));
        cells.extend([worker.system_calls, worker.sleeps, worker.free_frames].map(grouped));
        cells.push(worker.imbalance.to_string());
        table.row(cells);
    }
    table
}

fn blocks(snapshot: &Snapshot) -> Table {
    let mut table = Table::new(&["worker/block", "kind", "packets", "batches", "packets/batch", "cycles/packet"]);
    let per = |ratio: Option<f64>| ratio.map_or("-".to_owned(), short);
    for worker in &snapshot.workers {
        for block in &worker.blocks {
            table.row(vec![
                format!("{}/{}", worker.worker, block.name),
                block.kind.clone(),
                grouped(block.packets),
                grouped(block.batches),
                per(block.packets_per_batch),
                per(block.cycles_per_packet),
            ]);
        }
    }
    table
}

fn block_counters(snapshot: &Snapshot) -> Table {
    let mut table = Table::new(&["worker/block/counter", ""]);
    for worker in &snapshot.workers {
        for block in &worker.blocks {
            for (name, n) in block.counters.iter().filter(|(_, n)| **n > 0) {
                table.row(vec![format!("{}/{}/{name}", worker.worker, block.name), grouped(*n)]);
            }
        }
    }
    table
}

fn frames(snapshot: &Snapshot) -> Vec<String> {
    let mut lines = vec![format!("packet memory: {} frames on {} pages", grouped(snapshot.frames), snapshot.pages)];
    if snapshot.frames_strayed > 0 {
        lines.push(format!(
            "  {} frames were dropped outside a pool; please report this as a bug",
            snapshot.frames_strayed
        ));
    }
    match snapshot.frames_missing {
        Some(0) => lines.push("  all of them came back".to_owned()),
        Some(missing) => lines.push(format!("  {missing} did NOT come back; please report this as a bug")),
        None => {}
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot() -> Snapshot {
        Snapshot {
            command: "l3fwd".into(),
            totals: Totals {
                received: 10,
                sent: 7,
                dropped: 3,
                transmit_calls: 2,
                packets_per_transmit_call: Some(3.5),
                ..Totals::default()
            },
            dropped: Counts::from([("no_route".into(), 3)]),
            workers: vec![Worker { batch_sizes: vec![0, 0, 0, 2], ..Worker::default() }],
            frames_missing: Some(0),
            ..Snapshot::default()
        }
    }

    #[test]
    fn summary_names_drops_batches_and_calls() {
        let text = brief(&snapshot());
        for wanted in ["no_route", "5-8", "packets per transmit call: 3.5", "accounted for", "came back"] {
            assert!(text.contains(wanted), "{wanted} is missing from\n{text}");
        }
    }

    #[test]
    fn classes_of_batches_are_named_by_their_sizes() {
        let names: Vec<_> = (0..=BATCH_UPPER.len()).map(batch_class).collect();
        assert_eq!(names, ["1", "2", "3-4", "5-8", "9-16", "17-32", "33-64", "65-128", "129-"]);
    }

    #[test]
    fn lost_packets_and_frames_are_shouted_about() {
        let mut snapshot = snapshot();
        snapshot.totals.imbalance = 1;
        snapshot.frames_missing = Some(2);
        let text = brief(&snapshot);
        assert!(text.contains("1 packets are NOT") && text.contains("2 did NOT come back"), "{text}");
    }
}
