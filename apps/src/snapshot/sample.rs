//! A process as tests see it: a forwarder with two workers, two ports of two queues, two blocks, one second apart.

use crate::snapshot::{Block, Counts, Interface, Port, Queue, Snapshot, Tally, Totals, Worker, ratio};
use crate::window::Window;

fn counts(pairs: &[(&str, u64)]) -> Counts {
    pairs.iter().map(|&(name, n)| (name.to_owned(), n)).collect()
}

/// `n` is how many packets each worker has received by each port.
fn port(name: &str, n: u64) -> Port {
    let queue = |queue: u32, n: u64| {
        let lost = n / 1000;
        let counters =
            counts(&[("rx_packets", n), ("rx_bytes", n * 60), ("kernel_rx_ring_full", lost), ("kernel_rx_dropped", 0)]);
        Queue { queue, waiting: u64::from(queue) * 7, counters }
    };
    let counters = counts(&[
        ("rx_packets", n),
        ("rx_bytes", n * 60),
        ("tx_packets", n - n / 10),
        ("tx_bytes", n * 54),
        ("tx_kicks", n * 3 / 100),
        ("rx_kicks", n / 100),
        ("tx_refused", 0),
        ("kernel_rx_ring_full", 2 * (n / 1000)),
    ]);
    Port {
        name: name.into(),
        backend: "af_xdp".into(),
        mode: "native, copy".into(),
        mtu: 1500,
        queues: 2,
        packets_per_transmit_call: ratio(n - n / 10, n * 3 / 100),
        counters,
        rx_queues: vec![queue(0, n - n / 4), queue(1, n / 4)],
    }
}

fn block(name: &str, kind: &str, packets: u64, cycles_per_packet: u64) -> Block {
    Block {
        name: name.into(),
        kind: kind.into(),
        packets,
        batches: packets / 60,
        cycles: packets * cycles_per_packet,
        packets_per_batch: Some(60.0),
        cycles_per_packet: Some(cycles_per_packet as f64),
        batch_sizes: vec![0, 0, 0, 0, 0, 0, packets / 60, 0, 0],
        sent: counts(&[("out", packets - packets / 10)]),
        counters: counts(&[("parked", packets / 100)]),
    }
}

/// After so many milliseconds.
pub(crate) fn snapshot(uptime_ms: u64) -> Snapshot {
    // Received by each worker on each port.
    let n = uptime_ms * 600;
    let worker = |worker: usize| Worker {
        worker,
        core: Some(worker + 2),
        turns: uptime_ms * 40,
        empty_turns: uptime_ms * 10,
        sleeps: uptime_ms / 10,
        busy_ns: uptime_ms * 850_000,
        system_calls: n / 10,
        batched: 2 * n,
        batch_sizes: vec![0, 0, 0, 0, 0, 0, n / 30, 0, 0],
        ports: vec![port("d0", n), port("d1", n)],
        blocks: vec![block("route", "ip-forward", 2 * n, 82), block("count", "counter", n, 11)],
        dropped: counts(&[("no_route", n / 10), ("ttl_exceeded", n / 10)]),
        held: 3,
        free_frames: 190,
        ..Worker::default()
    };
    let verdict = |packets| Tally { packets, bytes: packets * 60 };
    let interface = |name: &str, ifindex| Interface {
        name: name.into(),
        ifindex,
        description: format!("{name}: AF_XDP"),
        verdicts: [("redirect_transit".into(), verdict(2 * n)), ("drop_ring_full".into(), verdict(n / 100))].into(),
    };
    Snapshot {
        command: "l3fwd".into(),
        pid: 4711,
        uptime_ms,
        totals: Totals {
            received: 4 * n,
            sent: 4 * (n - n / 10),
            dropped: 4 * (n / 10),
            shed: 4 * (n / 1000) + 2 * (n / 100),
            system_calls: n / 5,
            ..Totals::default()
        },
        dropped: counts(&[("no_route", n / 5), ("ttl_exceeded", n / 5)]),
        interfaces: vec![interface("d0", 2), interface("d1", 3)],
        workers: vec![worker(0), worker(1)],
        frames: 16_384,
        pages: "huge".into(),
        ..Snapshot::default()
    }
}

/// The second after the first hundred.
pub(crate) fn window() -> Window {
    Window::between(Some(&snapshot(100_000)), snapshot(101_000))
}
