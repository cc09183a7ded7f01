//! The AF_XDP port, where the kernel copies, against the kernel at the other end of a veth pair. Needs root, and fails without it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod rig;

use std::sync::Arc;
use std::time::{Duration, Instant};

use rig::ethernet;
use tailwater_dataplane::block::{Registry, Services};
use tailwater_dataplane::frame::{Batch, Frame, Pool, Region, RegionConfig};
use tailwater_dataplane::graph::{Graph, GraphSpec};
use tailwater_dataplane::ledger::{DropReason, Ledger};
use tailwater_dataplane::port::Port;
use tailwater_dataplane::port::af_xdp::{self, Copy, OpenConfig, TextSwitch, TextWay, XdpPort};
use tailwater_dataplane::port::memory::MemoryPort;
use tailwater_dataplane::worker::{Idle, Worker, WorkerConfig};
use tailwater_lab::{Lab, LabConfig, Topology};

const DEADLINE: Duration = Duration::from_secs(10);
/// An ethertype for experiments (IEEE 802): no kernel answers it.
const EXPERIMENTAL: u16 = 0x88b5;
const RING: u32 = 64;

fn lab(queues: u16, mtu_bytes: u32) -> (Lab, Arc<Region>, Pool) {
    let config = LabConfig { queues, mtu_bytes, ipv6: false, ..LabConfig::default() };
    let lab = Lab::build(Topology::Pair, &config).unwrap();
    let config = RegionConfig { chunks: 2_048, huge_pages: false, ring_size: RING, ..RegionConfig::default() };
    // The memory's own socket is the first that is bound: its namespace is the one where it was made.
    let region = lab.dut().enter(|| Region::for_af_xdp(config).unwrap()).unwrap();
    (lab, Arc::clone(&region), Pool::new(region))
}

fn open(lab: &Lab, region: &Arc<Region>, text: Option<Arc<TextSwitch>>) -> XdpPort {
    let open = || {
        let link = tailwater_netlink::Control::open().unwrap().link_by_name("d0").unwrap();
        let config = OpenConfig {
            interface: link.name,
            ifindex: link.ifindex,
            mtu: link.mtu_bytes.into(),
            multi_buffer: true,
            mac: link.mac.try_into().unwrap(),
            queues: 1,
            workers: 1,
            ring_size: RING,
            fill_target: RING,
            copy: Some(Copy::Copy),
            text,
        };
        af_xdp::open(region, &config).unwrap().ports.remove(0)
    };
    lab.dut().enter(open).unwrap()
}

fn packets(pool: &mut Pool, count: usize) -> Batch {
    let mut batch = Batch::default();
    batch.extend((0..count).map(|n| pool.allocate_copy(&ethernet(EXPERIMENTAL, &[n as u8; 46])).unwrap()));
    batch
}

fn received(lab: &Lab) -> u64 {
    lab.client().counters("c0").unwrap().rx_packets
}

/// Waits until as many packets have reached the other end.
fn await_received(lab: &Lab, count: u64) {
    let end = Instant::now() + DEADLINE;
    while received(lab) < count {
        assert!(Instant::now() < end, "{} of {count}", received(lab));
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn what_finds_an_interface_down_is_dropped_for_that_and_traffic_goes_on_when_it_is_up() {
    let (lab, region, mut pool) = lab(1, 1500);
    let xdp = open(&lab, &region, None);
    let (near, mut outside) = MemoryPort::pair(&region, ["near", "outside"], 1024);
    let names = ["near".to_owned(), "d0".to_owned()];
    let spec = GraphSpec::default().edge("rx:near", "tx:d0");
    let graph = Graph::build(&spec, &Registry::builtin(), &Services::default(), &names).unwrap();
    let config = WorkerConfig { number: 0, core: None, idle: Idle::Sleep };
    let ports: Vec<Box<dyn Port>> = vec![Box::new(near), Box::new(xdp)];
    let mut worker = Worker::new(config, ports, graph, Pool::new(Arc::clone(&region))).unwrap();
    let mut send = |worker: &mut Worker, count: usize| {
        let mut batch = packets(&mut pool, count);
        assert_eq!(outside.transmit(&mut pool, &mut batch), count);
        (0..10).for_each(|n| _ = worker.turn(n));
    };
    lab.dut().ip("link set d0 down").unwrap();
    send(&mut worker, RING as usize + 100);
    let dropped = worker.report().dropped;
    assert_eq!(dropped, [("port_down", 100)]);
    lab.dut().ip("link set d0 up").unwrap();
    lab.dut().wait_until_up("d0").unwrap();
    let before = received(&lab);
    send(&mut worker, 10);
    await_received(&lab, before + u64::from(RING) + 10);
    assert_eq!((worker.report().dropped, worker.report().imbalance()), (vec![("port_down", 100)], 0));
}

#[test]
fn a_worker_sleeps_while_packets_wait_for_an_interface_that_is_down() {
    let (lab, region, mut pool) = lab(1, 1500);
    let mut port = open(&lab, &region, None);
    lab.dut().ip("link set d0 down").unwrap();
    let mut batch = packets(&mut pool, 3);
    assert_eq!(port.transmit(&mut pool, &mut batch), 3);
    port.flush(&mut pool);
    assert!(port.is_down() && port.tx_pending() == 3);
    let graph =
        Graph::build(&GraphSpec::default(), &Registry::builtin(), &Services::default(), &["d0".to_owned()]).unwrap();
    let config = WorkerConfig { number: 0, core: None, idle: Idle::Sleep };
    let running = Worker::new(config, vec![Box::new(port)], graph, Pool::new(Arc::clone(&region))).unwrap().spawn();
    let running = running.unwrap();
    std::thread::sleep(Duration::from_secs(1));
    let report = running.control.report(DEADLINE).unwrap();
    assert!((1..60).contains(&report.sleeps), "{} sleeps in a second", report.sleeps);
    let before = received(&lab);
    lab.dut().ip("link set d0 up").unwrap();
    await_received(&lab, before + 3);
    running.control.stop();
    running.join().unwrap().close();
}

/// A TCP segment as the stack lends it, the text in a frame of its own.
fn segment(pool: &mut Pool, kept: &mut Vec<Frame>, seq: u32, len: usize) -> Frame {
    let mut text = pool.allocate_copy(&vec![7; len]).unwrap();
    let mut frame = pool.share(&mut text).unwrap();
    kept.push(text);
    let mut ip = [0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, 6, 0, 0, 10, 1, 0, 1, 10, 1, 0, 2];
    ip[2..4].copy_from_slice(&(40 + len as u16).to_be_bytes());
    let sum = tailwater_stack::checksum::of(&ip);
    ip[10..12].copy_from_slice(&sum);
    let mut tcp = [0x1b, 0x58, 0x1b, 0x59, 0, 0, 0, 0, 0, 0, 0, 1, 0x50, 0x10, 1, 0, 0, 0, 0, 0];
    tcp[4..8].copy_from_slice(&seq.to_be_bytes());
    let headers = [ethernet(0x0800, &ip), tcp.to_vec()].concat();
    frame.prepend(headers.len()).unwrap();
    frame.bytes_mut()[..headers.len()].copy_from_slice(&headers);
    frame
}

#[test]
fn a_segment_above_a_lowered_mtu_is_dropped_and_trains_go_on() {
    let (lab, region, mut pool) = lab(2, 9000);
    lab.dut().offload("d0", &["tx"], false).unwrap();
    let text = Arc::new(TextSwitch::new(TextWay::Socket, false));
    let (mut port, mut kept, mut ledger) = (open(&lab, &region, Some(text)), Vec::new(), Ledger::default());
    let mut send = |port: &mut XdpPort, lens: &[usize]| {
        let (mut batch, mut seq) = (Batch::default(), 1);
        for &len in lens {
            batch.push(segment(&mut pool, &mut kept, seq, len));
            seq += len as u32;
        }
        assert_eq!(port.transmit(&mut pool, &mut batch), lens.len());
        port.flush(&mut pool);
        port.receive(&mut pool, &mut ledger, &mut batch, 64);
        batch.drain().for_each(|frame| pool.release(frame));
        (port.counters().tx_trains, ledger.dropped(DropReason::PacketTooBig))
    };
    assert_eq!(send(&mut port, &[5_000, 5_000]), (1, 0));
    assert_eq!(send(&mut port, &[5_000]), (1, 0));
    lab.dut().ip("link set d0 mtu 1500").unwrap();
    assert_eq!(send(&mut port, &[5_000]), (1, 1));
    assert_eq!(send(&mut port, &[1_400, 1_400]), (2, 1));
    assert!(port.capabilities().segmentation);
    assert_eq!(port.counters().tx_packets, 5);
}
