//! What every port owes its worker, whatever lies behind it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod rig;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use rig::{content, ethernet};
use tailwater_dataplane::block::{Registry, Services};
use tailwater_dataplane::frame::{Batch, Frame, Pool, Region, RegionConfig};
use tailwater_dataplane::graph::{Graph, GraphSpec, Turn};
use tailwater_dataplane::ledger::Ledger;
use tailwater_dataplane::port::Port;
use tailwater_dataplane::port::memory::MemoryPort;
use tailwater_dataplane::port::packet::{self, PacketConfig};
use tailwater_dataplane::port::pcap::{PcapPort, RecorderConfig, ReplayConfig, Speed};
use tailwater_lab::{Lab, LabConfig, Topology};

const DEADLINE: Duration = Duration::from_secs(20);
/// An ethertype for experiments (IEEE 802): no kernel answers it.
const EXPERIMENTAL: u16 = 0x88b5;

fn region(chunks: usize) -> Arc<Region> {
    Region::in_process(RegionConfig { chunks, huge_pages: false, ..RegionConfig::default() }).unwrap()
}

/// Packets of many sizes, each different, up to `len_max` bytes.
fn packets(len_max: usize) -> Vec<Vec<u8>> {
    let mut lens = vec![60, 61, 64, 128, 1000, 1514, 1727, 1728, 1729, 3456, 3457, 5000, 9014];
    lens.retain(|&len| len <= len_max);
    (0..300u32)
        .map(|n| {
            let len = lens[n as usize % lens.len()];
            let mut packet = ethernet(EXPERIMENTAL, &n.to_be_bytes());
            packet.resize(len, n as u8);
            packet
        })
        .collect()
}

/// Sends `packets` by `from` and receives them by `to`: all of them, whole, in order, and counted.
fn carries(from: &mut dyn Port, to: &mut dyn Port, pool: &mut Pool, packets: &[Vec<u8>]) {
    let before = (from.counters(), to.counters());
    let (mut waiting, mut received, mut ledger) = (Batch::default(), Batch::default(), Ledger::default());
    let (mut next, mut got) = (0, Vec::new());
    let until = Instant::now() + DEADLINE;
    while got.len() < packets.len() {
        assert!(Instant::now() < until, "{} of {} packets came", got.len(), packets.len());
        while waiting.len() < 32 && next < packets.len() {
            let Some(frame) = pool.allocate_copy(&packets[next]) else { break };
            waiting.push(frame);
            next += 1;
        }
        let queued = waiting.len();
        let taken = from.transmit(pool, &mut waiting);
        assert_eq!(taken + waiting.len(), queued, "frames are taken or left, never both or neither");
        from.flush(pool);
        // Like a network, some ports lose what is not taken in time: until there is nothing more.
        let max = 7;
        loop {
            let n = to.receive(pool, &mut ledger, &mut received, max);
            assert!(n <= max && n == received.len());
            to.flush(pool);
            for frame in received.drain() {
                let bytes = content(&frame);
                if bytes.get(12..14) == Some(&EXPERIMENTAL.to_be_bytes()) {
                    got.push(bytes);
                }
                pool.release(frame);
            }
            if n == 0 {
                break;
            }
        }
    }
    assert_eq!(got, packets);
    let (sent, came) = (from.counters(), to.counters());
    let bytes: u64 = packets.iter().map(|packet| packet.len() as u64).sum();
    assert_eq!(
        (sent.tx_packets - before.0.tx_packets, sent.tx_bytes - before.0.tx_bytes),
        (packets.len() as u64, bytes)
    );
    assert!(came.rx_packets - before.1.rx_packets >= packets.len() as u64);
    while from.tx_pending() > 0 {
        assert!(Instant::now() < until, "the transmit ring does not empty");
    }
    assert_eq!(ledger.total(), 0);
}

fn everything_is_home(region: &Region, pool: &Pool) {
    assert_eq!(region.at_home() + pool.cached(), region.chunks(), "missing: {:?}", region.missing_by_owner());
    assert_eq!(region.strayed(), 0);
}

#[test]
fn memory_ports_carry_packets_of_all_sizes_both_ways() {
    let region = region(1024);
    let mut pool = Pool::new(Arc::clone(&region));
    let (mut a, mut b) = MemoryPort::pair(&region, ["a", "b"], 64);
    carries(&mut a, &mut b, &mut pool, &packets(9014));
    carries(&mut b, &mut a, &mut pool, &packets(9014));
    a.close(&mut pool);
    b.close(&mut pool);
    everything_is_home(&region, &pool);
}

#[test]
fn packet_ports_carry_packets_of_all_sizes_both_ways() {
    let config = LabConfig { mtu_bytes: 9000, ipv6: false, ..LabConfig::default() };
    let lab = Lab::build(Topology::Pair, &config).unwrap();
    let open = |interface: &str| {
        let link = tailwater_netlink::Control::open().unwrap().link_by_name(interface).unwrap();
        let config = PacketConfig {
            interface: link.name,
            ifindex: link.ifindex,
            mtu: link.mtu_bytes.into(),
            mac: link.mac.try_into().unwrap(),
            workers: 1,
            ring_size: 64,
            promiscuous: true,
        };
        packet::open(&config).unwrap().remove(0)
    };
    let mut a = lab.client().enter(|| open("c0")).unwrap();
    let mut b = lab.dut().enter(|| open("d0")).unwrap();
    let region = region(1024);
    let mut pool = Pool::new(Arc::clone(&region));
    carries(&mut a, &mut b, &mut pool, &packets(9014));
    carries(&mut b, &mut a, &mut pool, &packets(9014));
    a.close(&mut pool);
    b.close(&mut pool);
    everything_is_home(&region, &pool);
}

#[test]
fn a_file_recorded_by_one_port_is_carried_to_another() {
    let path = std::env::temp_dir().join(format!("tailwater-conformance-{}.pcapng", std::process::id()));
    let path = path.to_string_lossy().into_owned();
    let region = region(1024);
    let mut pool = Pool::new(Arc::clone(&region));
    let packets = packets(9014);
    let config = RecorderConfig { path: path.clone(), queue_packets: 16, ..RecorderConfig::default() };
    let mut recording = PcapPort::open(&region, "recording", None, Some(&config)).unwrap();
    let mut waiting = Batch::default();
    waiting.extend(packets.iter().map(|packet| pool.allocate_copy(packet).unwrap()));
    let until = Instant::now() + DEADLINE;
    while !waiting.is_empty() {
        // Its queue is short; what finds no room stays in the batch.
        recording.transmit(&mut pool, &mut waiting);
        assert!(Instant::now() < until);
    }
    recording.close(&mut pool);
    let replay = ReplayConfig { path: path.clone(), speed: Speed::Full, loops: 1 };
    let mut replaying = PcapPort::open(&region, "replaying", Some(&replay), None).unwrap();
    let (mut batch, mut ledger, mut got) = (Batch::default(), Ledger::default(), Vec::new());
    while !replaying.finished() {
        assert!(replaying.receive(&mut pool, &mut ledger, &mut batch, 7) <= 7);
        batch.drain().for_each(|frame| {
            got.push(content(&frame));
            pool.release(frame);
        });
    }
    assert_eq!(got, packets);
    assert_eq!(recording.counters().tx_bytes, replaying.counters().rx_bytes);
    everything_is_home(&region, &pool);
    std::fs::remove_file(path).unwrap();
}

#[test]
fn a_frame_that_a_block_forgets_is_named_after_the_block() {
    use tailwater_dataplane::block::{Block, Context, Kind};

    struct Leak;
    impl Block for Leak {
        fn process(&mut self, batch: &mut Batch, _: &mut Context<'_>) {
            batch.pop().into_iter().for_each(std::mem::forget);
            // Dropped instead of discarded: it comes home, and is counted.
            drop(batch.pop());
        }
    }
    const LEAK: Kind =
        Kind { name: "leak", summary: "forget a frame", build: |_, _| Ok(Box::new(Leak)), ..Kind::PLAIN };
    let mut registry = Registry::builtin();
    registry.add(LEAK);
    let spec = GraphSpec::default().node("culprit", "leak", &[]).edge("rx:in", "culprit");
    let mut graph = Graph::build(&spec, &registry, &Services::default(), &["in".to_owned()]).unwrap();
    let region = region(64);
    let mut pool = Pool::new(Arc::clone(&region));
    let (mut ledger, mut originated, mut delivered) = (Ledger::default(), 0, 0);
    let mut batch = Batch::default();
    batch.extend((0..3).map(|n| pool.allocate_copy(&[n; 60]).unwrap()));
    let mut turn = Turn {
        now_ns: 1,
        pool: &mut pool,
        ledger: &mut ledger,
        originated: &mut originated,
        delivered: &mut delivered,
    };
    graph.ingest(0, &mut batch, &mut turn);
    graph.run(&mut turn);
    drop(pool);
    assert_eq!(region.at_home(), region.chunks() - 1);
    assert_eq!(region.strayed(), 1);
    if cfg!(debug_assertions) {
        assert_eq!(region.missing_by_owner(), [("culprit".to_owned(), 1)]);
    }
}

#[derive(Clone, Debug)]
enum Step {
    Send { from: usize, len: usize },
    Flush { from: usize },
    Receive { at: usize, max: usize },
    Release { at: usize },
    Stray { at: usize },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let side = 0..2usize;
    let step = prop_oneof![
        4 => (side.clone(), prop_oneof![0..1728usize, 1729..9000usize]).prop_map(|(from, len)| Step::Send { from, len }),
        2 => side.clone().prop_map(|from| Step::Flush { from }),
        3 => (side.clone(), 0..20usize).prop_map(|(at, max)| Step::Receive { at, max }),
        2 => side.clone().prop_map(|at| Step::Release { at }),
        1 => side.prop_map(|at| Step::Stray { at }),
    ];
    prop::collection::vec(step, 1..150)
}

/// One side of the pair: its port, its pool, what it wants to send and what it has received.
struct Side {
    port: MemoryPort,
    pool: Pool,
    waiting: Batch,
    held: VecDeque<Frame>,
}

fn chunks_of<'a>(frames: impl Iterator<Item = &'a Frame>) -> usize {
    frames.map(|frame| frame.segments().count()).sum()
}

proptest! {
    #[test]
    fn every_chunk_is_in_exactly_one_place_after_any_sequence_of_steps(steps in steps()) {
        let region = region(200);
        let (a, b) = MemoryPort::pair(&region, ["a", "b"], 32);
        let mut sides = [a, b].map(|port| Side {
            port,
            pool: Pool::new(Arc::clone(&region)),
            waiting: Batch::default(),
            held: VecDeque::new(),
        });
        // What lies in the ring towards each side.
        let mut in_ring: [VecDeque<Vec<u8>>; 2] = Default::default();
        let mut ledger = Ledger::default();
        let mut strayed = 0;
        for (number, step) in steps.into_iter().enumerate() {
            match step {
                Step::Send { from, len } => {
                    let side = &mut sides[from];
                    let bytes: Vec<u8> = (0..len).map(|at| (at + number) as u8).collect();
                    side.waiting.extend(side.pool.allocate_copy(&bytes));
                }
                Step::Flush { from } => {
                    let side = &mut sides[from];
                    let queued: Vec<Vec<u8>> = side.waiting.iter().map(content).collect();
                    let taken = side.port.transmit(&mut side.pool, &mut side.waiting);
                    prop_assert_eq!(taken + side.waiting.len(), queued.len());
                    in_ring[1 - from].extend(queued.into_iter().take(taken));
                }
                Step::Receive { at, max } => {
                    let side = &mut sides[at];
                    let mut batch = Batch::default();
                    let n = side.port.receive(&mut side.pool, &mut ledger, &mut batch, max);
                    // Fewer than there are is allowed, none is not.
                    let most = max.min(in_ring[at].len());
                    prop_assert!(n == batch.len() && n <= most && (n > 0 || most == 0), "{} of {}", n, most);
                    for frame in batch.drain() {
                        prop_assert_eq!(Some(content(&frame)), in_ring[at].pop_front(), "whole and in order");
                        side.held.push_back(frame);
                    }
                }
                Step::Release { at } => {
                    let side = &mut sides[at];
                    side.held.pop_front().into_iter().for_each(|frame| side.pool.release(frame));
                }
                Step::Stray { at } => {
                    if let Some(frame) = sides[at].held.pop_front() {
                        drop(frame);
                        strayed += 1;
                    }
                }
            }
            let in_hand: usize =
                sides.iter().map(|side| side.pool.cached() + chunks_of(side.waiting.iter()) + chunks_of(side.held.iter())).sum();
            let segment_max = region.segment_max();
            let on_the_way: usize = in_ring.iter().flatten().map(|packet| packet.len().div_ceil(segment_max).max(1)).sum();
            prop_assert_eq!(region.at_home() + in_hand + on_the_way, region.chunks());
            prop_assert_eq!(region.strayed(), strayed);
            prop_assert_eq!(ledger.total(), 0);
        }
        for mut side in sides {
            side.waiting.drain().chain(side.held.drain(..)).for_each(|frame| side.pool.release(frame));
            side.port.close(&mut side.pool);
        }
        prop_assert_eq!(region.at_home(), region.chunks());
    }
}
