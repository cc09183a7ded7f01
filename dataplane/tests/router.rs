//! The router between memory ports: what it answers, what it parks, and that nothing hostile makes it lose a packet.
//!
//! `TAILWATER_FUZZ_FRAMES=10000000 cargo test --release -p tailwater-dataplane --test router` sends ten million
//! malformed frames; the seed is fixed and printed.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::sync::Arc;

use tailwater_dataplane::block::{Registry, Services};
use tailwater_dataplane::forwarding::{ForwardingPlane, PortEntry, router_graph};
use tailwater_dataplane::frame::{Batch, Pool, Region, RegionConfig};
use tailwater_dataplane::graph::{Graph, GraphSpec};
use tailwater_dataplane::ledger::Ledger;
use tailwater_dataplane::port::Port;
use tailwater_dataplane::port::memory::MemoryPort;
use tailwater_dataplane::worker::{Idle, Worker, WorkerConfig};
use tailwater_fib::{FibWriter, Limits, Member, NextHop, Prefix4, Prefix6};
use tailwater_stack::checksum;
use tailwater_xdp::HashKey;

const NEIGHBOUR: [u8; 6] = [2, 0, 0, 0, 2, 2];
const OTHER: [u8; 6] = [2, 0, 0, 0, 2, 3];
const OUR_MAC: [u8; 6] = [2, 0, 0, 0, 1, 1];
const SENDER: [u8; 6] = [2, 0, 0, 0, 1, 2];

/// Port 0 towards the senders in 10.1.0.0/16, port 1 (MTU 1000) towards everybody else.
struct Router {
    worker: Worker,
    outside: [MemoryPort; 2],
    pool: Pool,
    region: Arc<Region>,
    plane: Arc<ForwardingPlane>,
    fib: FibWriter,
    unresolved: NextHop,
    /// A member of the group behind 10.4.0.0/16.
    other: NextHop,
    now_ns: u64,
}

impl Router {
    fn new() -> Self {
        let (mut fib, reader) = tailwater_fib::new(Limits::default()).unwrap();
        let mut neighbour = |port, mac| {
            let next_hop = fib.adjacencies.add().unwrap();
            fib.adjacencies.resolve(next_hop, port, mac).unwrap();
            next_hop
        };
        let (back, there, other) = (neighbour(0, SENDER), neighbour(1, NEIGHBOUR), neighbour(1, OTHER));
        let unresolved = fib.adjacencies.add().unwrap();
        let members = [there, other].map(|next_hop| Member { next_hop, weight: 1 });
        let group = fib.groups.add(&members, &fib.adjacencies).unwrap();
        let prefix4 = |addr: [u8; 4], len| Prefix4::new(std::net::Ipv4Addr::from(addr), len).unwrap();
        fib.v4.insert(prefix4([10, 1, 0, 0], 16), back).unwrap();
        fib.v4.insert(prefix4([10, 2, 0, 0], 16), there).unwrap();
        fib.v4.insert(prefix4([10, 3, 0, 0], 16), unresolved).unwrap();
        fib.v4.insert(prefix4([10, 4, 0, 0], 16), group).unwrap();
        fib.v4.insert(prefix4([10, 5, 0, 0], 16), NextHop::BLACKHOLE).unwrap();
        fib.v4.insert(prefix4([10, 6, 0, 0], 16), NextHop::PROHIBIT).unwrap();
        let prefix6 = |addr: &str, len| Prefix6::new(addr.parse::<std::net::Ipv6Addr>().unwrap(), len).unwrap();
        fib.v6.insert(prefix6("fd00:1::", 32), back).unwrap();
        fib.v6.insert(prefix6("fd00:2::", 32), there).unwrap();
        let entry = |ifindex, mac, mtu| PortEntry {
            ifindex,
            mac,
            mtu,
            ip4: Some([10, ifindex as u8, 0, 1].into()),
            ip6: Some("fd00::1".parse().unwrap()),
            ..PortEntry::default()
        };
        let ports = vec![entry(1, OUR_MAC, 1500), entry(2, [2, 0, 0, 0, 2, 1], 1000)];
        let plane = Arc::new(ForwardingPlane::new(reader, ports, HashKey::new(1, 2)).unwrap());
        let mut services = Services::default();
        services.insert(Arc::clone(&plane));
        let config = RegionConfig { chunks: 2048, huge_pages: false, ..RegionConfig::default() };
        let region = Region::in_process(config).unwrap();
        let (a, outside_a) = MemoryPort::pair(&region, ["a", "outside-a"], 256);
        let (b, outside_b) = MemoryPort::pair(&region, ["b", "outside-b"], 256);
        let names = ["a", "b"].map(str::to_owned);
        let graph = Graph::build(&router_graph(&names), &Registry::builtin(), &services, &names).unwrap();
        let config = WorkerConfig { number: 0, core: None, idle: Idle::Spin };
        let ports: Vec<Box<dyn Port>> = vec![Box::new(a), Box::new(b)];
        Self {
            worker: Worker::new(config, ports, graph, Pool::new(Arc::clone(&region))).unwrap(),
            outside: [outside_a, outside_b],
            pool: Pool::new(Arc::clone(&region)),
            region,
            plane,
            fib,
            unresolved,
            other,
            now_ns: 1_000_000_000,
        }
    }

    fn send(&mut self, packets: &[Vec<u8>]) {
        let mut batch = Batch::default();
        batch.extend(packets.iter().map(|packet| self.pool.allocate_copy(packet).unwrap()));
        self.outside[0].transmit(&mut self.pool, &mut batch);
        assert!(batch.is_empty());
        self.turn(1_000);
    }

    fn turn(&mut self, later_ns: u64) {
        self.now_ns += later_ns;
        self.worker.turn(self.now_ns);
    }

    /// What has come out of a port.
    fn out(&mut self, port: usize) -> Vec<Vec<u8>> {
        let (mut batch, mut ledger) = (Batch::default(), Ledger::default());
        self.outside[port].receive(&mut self.pool, &mut ledger, &mut batch, 4096);
        let packets = batch.iter().map(|frame| frame.segments().flatten().copied().collect()).collect();
        batch.drain().for_each(|frame| self.pool.release(frame));
        packets
    }

    fn dropped(&self, reason: &str) -> u64 {
        self.worker.report().dropped.iter().find(|(name, _)| *name == reason).map_or(0, |(_, n)| *n)
    }
}

fn udp4(to: [u8; 4], ttl: u8, payload_len: usize, flags: u8) -> Vec<u8> {
    let mut packet = [&OUR_MAC[..], &SENDER, &[8, 0]].concat();
    let mut header = vec![0x45, 0, 0, 0, 0, 1, flags, 0, ttl, 17, 0, 0, 10, 1, 0, 2];
    header.extend(to);
    header[2..4].copy_from_slice(&(28 + payload_len as u16).to_be_bytes());
    let sum = checksum::of(&header);
    header[10..12].copy_from_slice(&sum);
    packet.extend(header);
    packet.extend([0x30, 0x39, 0, 9]);
    packet.extend((8 + payload_len as u16).to_be_bytes());
    packet.extend([0, 0]);
    packet.extend((0..payload_len).map(|n| n as u8));
    packet
}

fn udp6(hop_limit: u8, payload_len: usize) -> Vec<u8> {
    let mut packet = [&OUR_MAC[..], &SENDER, &[0x86, 0xdd, 0x60, 0, 0, 0]].concat();
    packet.extend((8 + payload_len as u16).to_be_bytes());
    packet.extend([17, hop_limit]);
    packet.extend("fd00:1::2".parse::<std::net::Ipv6Addr>().unwrap().octets());
    packet.extend("fd00:2::2".parse::<std::net::Ipv6Addr>().unwrap().octets());
    packet.extend([0x30, 0x39, 0, 9, 0, 8, 0, 0]);
    packet.resize(packet.len() + payload_len, 7);
    packet
}

#[test]
fn a_transit_packet_leaves_with_one_hop_less_and_new_addresses() {
    let mut router = Router::new();
    router.send(&[udp4([10, 2, 0, 2], 64, 20, 0), udp6(64, 20)]);
    let out = router.out(1);
    assert_eq!(out.len(), 2);
    assert_eq!(out[0][..12], [&NEIGHBOUR[..], &[2, 0, 0, 0, 2, 1]].concat());
    assert_eq!(out[0][22], 63);
    assert!(checksum::is_valid(&out[0][14..34]));
    assert_eq!((out[1][21], out[1][..6].to_vec()), (63, NEIGHBOUR.to_vec()));
}

#[test]
fn what_cannot_go_on_is_answered_by_the_right_error() {
    // (packet, ICMP type, code, reason)
    let cases = [
        (udp4([10, 2, 0, 2], 1, 0, 0), 11, 0, "ttl_exceeded"),
        (udp4([10, 99, 0, 2], 64, 0, 0), 3, 0, "no_route"),
        (udp4([10, 6, 0, 2], 64, 0, 0), 3, 13, "route_refused"),
        (udp4([10, 2, 0, 2], 64, 1200, 0x40), 3, 4, "packet_too_big"),
    ];
    for (packet, kind, code, reason) in cases {
        let mut router = Router::new();
        router.send(&[packet]);
        let out = router.out(0);
        assert_eq!(out.len(), 1, "{reason}");
        assert_eq!(out[0][..6], SENDER, "{reason}: to the sender's station");
        assert_eq!(out[0][26..34], [10, 1, 0, 1, 10, 1, 0, 2], "{reason}: from the port it came in by");
        assert!(checksum::is_valid(&out[0][14..34]) && checksum::is_valid(&out[0][34..]), "{reason}");
        assert_eq!((out[0][34], out[0][35], out[0][22]), (kind, code, 64), "{reason}");
        assert_eq!(router.dropped(reason), 1);
        assert_eq!(router.worker.report().imbalance(), 0);
    }
    let mut router = Router::new();
    router.send(&[udp6(64, 1200), udp6(1, 0)]);
    let kinds: Vec<_> = router.out(0).iter().map(|packet| packet[54]).collect();
    assert_eq!(kinds, [2, 3], "packet too big, time exceeded");
}

#[test]
fn blackholes_are_silent() {
    let mut router = Router::new();
    router.send(&[udp4([10, 5, 0, 2], 64, 0, 0)]);
    assert_eq!((router.out(0).len(), router.out(1).len(), router.dropped("blackhole")), (0, 0, 1));
}

#[test]
fn icmp_errors_are_bounded_in_rate() {
    let mut router = Router::new();
    for _ in 0..20 {
        router.send(&vec![udp4([10, 99, 0, 2], 64, 0, 0); 10]);
    }
    let answers = router.out(0).len();
    assert!((40..=60).contains(&answers), "{answers} of 200");
    assert_eq!(router.dropped("no_route"), 200);
}

#[test]
fn a_packet_larger_than_the_mtu_is_fragmented_if_it_may_be() {
    let mut router = Router::new();
    router.send(&[udp4([10, 2, 0, 2], 64, 1400, 0)]);
    let out = router.out(1);
    assert_eq!(out.len(), 2);
    assert!(out.iter().all(|packet| packet.len() <= 14 + 1000 && packet[22] == 63));
    assert!(out.iter().all(|packet| checksum::is_valid(&packet[14..34])));
    assert_eq!(out.iter().map(|packet| packet.len() - 34).sum::<usize>(), 1408);
    assert_eq!(router.worker.report().imbalance(), 0);
}

#[test]
fn a_link_is_smaller_by_what_a_compress_block_adds_behind_the_forwarder() {
    let mut router = Router::new();
    let mut services = Services::default();
    services.insert(Arc::clone(&router.plane));
    let spec = GraphSpec::default().node("smaller", "compress", &[]).edge("rx:a", "smaller");
    let behind = Graph::build(&spec, &Registry::builtin(), &services, &["a".to_owned()]).unwrap();
    // 28 bytes of headers, 10 of compress, an MTU of 1000.
    let largest = 1000 - 10 - 28;
    router.send(&[udp4([10, 2, 0, 2], 64, largest, 0x40), udp4([10, 2, 0, 2], 64, largest + 1, 0x40)]);
    assert_eq!((router.out(1).len(), router.dropped("packet_too_big")), (1, 1));
    let told = &router.out(0)[0];
    assert_eq!(u16::from_be_bytes([told[40], told[41]]), 990, "RFC 1191: the MTU that senders are told");
    drop(behind);
    router.send(&[udp4([10, 2, 0, 2], 64, 1000 - 28, 0x40)]);
    assert_eq!((router.out(1).len(), router.dropped("packet_too_big")), (1, 1), "without the block, all of it");
}

#[test]
fn packets_wait_for_their_neighbour_in_order_and_a_bounded_number_of_them() {
    let mut router = Router::new();
    let numbered: Vec<_> = (0..110).map(|n| udp4([10, 3, 0, 2], 64, n, 0)).collect();
    router.send(&numbered);
    // The first turns take no more than the smallest batch bounds.
    (0..3).for_each(|_| router.turn(1_000));
    let request = router.plane.take_request().expect("the neighbour is asked for");
    assert_eq!((request.next_hop, request.destination), (router.unresolved, [10, 3, 0, 2].into()));
    assert!(router.plane.take_request().is_none(), "once");
    assert_eq!((router.out(1).len(), router.worker.report().held), (0, 101));
    assert_eq!(router.dropped("neighbour_queue_full"), 9);
    router.fib.adjacencies.resolve(router.unresolved, 1, OTHER).unwrap();
    router.send(&[udp4([10, 3, 0, 2], 64, 200, 0)]);
    let lengths: Vec<_> = router.out(1).iter().map(|packet| packet.len() - 42).collect();
    assert_eq!(lengths, (0..101).chain([200]).collect::<Vec<_>>(), "the later packet does not overtake");
}

#[test]
fn all_destinations_together_wait_in_a_bounded_number() {
    let mut router = Router::new();
    for to in 0..20 {
        router.send(&vec![udp4([10, 3, 0, to], 64, 0, 0); 32]);
    }
    assert_eq!((router.worker.report().held, router.dropped("neighbour_queue_full")), (512, 128));
    router.fib.adjacencies.resolve(router.unresolved, 1, OTHER).unwrap();
    router.turn(1_000_000);
    assert_eq!((router.out(1).len() as u64 + router.dropped("tx_ring_full"), router.worker.report().held), (512, 0));
    assert_eq!(router.worker.report().imbalance(), 0);
}

#[test]
fn fragments_keep_their_place_among_the_packets_of_their_flow() {
    let mut router = Router::new();
    let sizes = [1, 1400, 2, 1300, 3];
    let order = |router: &mut Router| -> Vec<usize> { router.out(1).iter().map(|packet| packet.len() - 34).collect() };
    let expected = vec![9, 976, 432, 10, 976, 332, 11];
    router.send(&sizes.map(|n| udp4([10, 2, 0, 2], 64, n, 0)));
    assert_eq!(order(&mut router), expected);
    router.send(&sizes.map(|n| udp4([10, 3, 0, 2], 64, n, 0)));
    router.fib.adjacencies.resolve(router.unresolved, 1, OTHER).unwrap();
    router.send(&[udp4([10, 3, 0, 2], 64, 1200, 0)]);
    assert_eq!(order(&mut router), [expected, vec![976, 232]].concat(), "after waiting, too");
}

#[test]
fn a_flow_is_not_held_up_by_one_that_goes_to_the_same_host_by_another_way() {
    let mut router = Router::new();
    let ports = |n: u16| {
        let mut packet = udp4([10, 4, 0, 2], 64, 0, 0);
        packet[34..36].copy_from_slice(&n.to_be_bytes());
        packet
    };
    router.fib.adjacencies.unresolve(router.other).unwrap();
    let flows: Vec<_> = (0..40).map(ports).collect();
    router.send(&flows);
    router.turn(1_000);
    let (left, held) = (router.out(1), router.worker.report().held as usize);
    assert!(held > 0 && left.len() + held == 40 && left.iter().all(|packet| packet[..6] == NEIGHBOUR));
    router.send(&flows);
    router.turn(1_000);
    assert_eq!((router.out(1).len(), router.worker.report().held as usize), (left.len(), 2 * held));
}

/// Numbers packets in their UDP source ports' flows and checks that each flow comes out in order.
#[test]
fn no_packet_overtakes_one_of_its_flow_while_a_neighbour_comes_and_goes() {
    const ROUNDS: u32 = 3_000;
    const FLOWS: u16 = 4;
    let Router { mut worker, outside: [mut a, mut b], mut pool, fib, unresolved, other, mut now_ns, .. } =
        Router::new();
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let toggler = std::thread::spawn({
        let (stop, mut fib) = (Arc::clone(&stop), fib);
        move || {
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                for next_hop in [unresolved, other] {
                    fib.adjacencies.unresolve(next_hop).unwrap();
                    std::hint::spin_loop();
                    fib.adjacencies.resolve(next_hop, 1, OTHER).unwrap();
                }
            }
        }
    });
    let (mut batch, mut ledger) = (Batch::default(), Ledger::default());
    // By network and flow: the last number seen.
    let mut seen = [[0u32; FLOWS as usize]; 2];
    let mut arrived = 0;
    for number in 1..=ROUNDS {
        for (to, flow) in (0..8).flat_map(|n| [(3, n % FLOWS), (4, n % FLOWS)]) {
            let mut packet = udp4([10, to, 0, 2], 64, 4, 0);
            packet[34..36].copy_from_slice(&flow.to_be_bytes());
            packet[42..46].copy_from_slice(&number.to_be_bytes());
            batch.push(pool.allocate_copy(&packet).unwrap());
        }
        a.transmit(&mut pool, &mut batch);
        assert!(batch.is_empty());
        now_ns += 1_000;
        worker.turn(now_ns);
        b.receive(&mut pool, &mut ledger, &mut batch, 4096);
        for frame in batch.drain() {
            let bytes = frame.bytes();
            let flow = &mut seen[usize::from(bytes[31]) - 3][usize::from(bytes[35])];
            let number = u32::from_be_bytes(bytes[42..46].try_into().unwrap());
            assert!(number >= *flow, "{number} after {flow}");
            assert!(bytes[22] == 63 && checksum::is_valid(&bytes[14..34]), "one hop, counted once");
            (*flow, arrived) = (number, arrived + 1);
            pool.release(frame);
        }
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    toggler.join().unwrap();
    let report = worker.report();
    let waited = report.held + report.dropped.iter().map(|(_, n)| n).sum::<u64>();
    assert_eq!(arrived + waited, u64::from(ROUNDS) * 16);
    assert_eq!(report.imbalance(), 0);
}

#[test]
fn a_neighbour_that_does_not_answer_is_reported() {
    let mut router = Router::new();
    router.send(&[udp4([10, 3, 0, 2], 64, 0, 0)]);
    router.turn(1_100_000_000);
    assert!(router.plane.take_request().is_some() && router.plane.take_request().is_some(), "asked again");
    router.turn(3_000_000_000);
    let out = router.out(0);
    assert_eq!((out[0][34], out[0][35]), (3, 1), "host unreachable");
    assert_eq!(router.dropped("neighbour_failed"), 1);
    assert_eq!(router.worker.report().held, 0);
}

#[test]
fn equal_paths_share_flows_and_keep_each_on_one() {
    let mut router = Router::new();
    let mut to_other = 0;
    for flow in 0..200u16 {
        let mut packet = udp4([10, 4, 0, 2], 64, 0, 0);
        packet[34..36].copy_from_slice(&flow.to_be_bytes());
        router.send(&[packet.clone(), packet]);
        let out = router.out(1);
        assert_eq!(out[0][..6], out[1][..6], "one flow, one path");
        to_other += usize::from(out[0][..6] == OTHER);
    }
    assert!((60..=140).contains(&to_other), "{to_other} of 200");
}

#[test]
fn hostile_frames_lose_nothing_silently_and_leave_the_router_at_work() {
    let frames: u64 = std::env::var("TAILWATER_FUZZ_FRAMES").ok().and_then(|text| text.parse().ok()).unwrap_or(100_000);
    let seed = 0x7a11_3a7e_u64;
    println!("seed {seed:#x}, {frames} frames");
    let mut state = seed;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let mut router = Router::new();
    let mut sent = 0;
    while sent < frames {
        let packets: Vec<Vec<u8>> = (0..32)
            .map(|_| {
                let to = [10, (random() % 8) as u8, 0, (random() % 4) as u8];
                let mut packet = match random() % 4 {
                    0 => udp6((random() % 4) as u8, (random() % 1400) as usize),
                    1 => udp4(to, (random() % 3) as u8, (random() % 1400) as usize, (random() % 256) as u8),
                    _ => udp4(to, 64, (random() % 40) as usize, 0),
                };
                for _ in 0..random() % 4 {
                    let at = (random() % packet.len().min(60) as u64) as usize;
                    packet[at] = random() as u8;
                }
                if random() % 8 == 0 {
                    packet.truncate((random() % (packet.len() as u64 + 1)) as usize);
                }
                packet
            })
            .collect();
        router.send(&packets);
        router.turn(random() % 2_000_000);
        while router.plane.take_request().is_some() {}
        router.out(0);
        router.out(1);
        sent += 32;
    }
    router.turn(5_000_000_000);
    router.turn(5_000_000_000);
    let report = router.worker.report();
    assert_eq!(report.imbalance(), 0, "{report:?}");
    assert_eq!(report.ports[0].counters.rx_packets, sent);
    router.out(0);
    router.out(1);
    router.send(&[udp4([10, 2, 0, 2], 64, 20, 0)]);
    assert_eq!(router.out(1).len(), 1, "still at work");
    let Router { worker, outside, pool, region, .. } = router;
    worker.close();
    drop((outside, pool));
    assert_eq!((region.at_home(), region.strayed()), (region.chunks(), 0), "every frame came home");
}
