//! The kernel placement: forwarding with the kernel's FIB, and what comes up instead. Needs root.
//!
//! ```text
//!   twx1 --- twx0  [ program, FIB ]  twx2 --- twx3
//!            10.1.0.1/24             10.2.0.1/24
//!            2001:db8:1::1/64        2001:db8:2::1/64     all in one namespace
//! ```

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::net::Ipv4Addr;
use std::thread;
use std::time::Duration;

use common::frames::*;
use common::{Bench, OWN, PEER, PEER_MAC, consistent, enter_namespace, ifindex, run};
use tailwater_xdp::Verdict::*;
use tailwater_xdp::tools::{self, AttachedTool, Flood, Generator, Tool};
use tailwater_xdp::{AttachMode, Mode, Place, PortConfig, Verdict};

const OUT: &str = "twx2";
const SINK: &str = "twx3";
const OUT_MAC: [u8; 6] = [2, 0, 0, 0, 0, 3];
const HOP_MAC: [u8; 6] = [2, 0, 0, 0, 0, 4];

const CLIENT: [u8; 4] = [10, 1, 0, 2];
const SERVER: [u8; 4] = [10, 7, 0, 1];
const CLIENT6: &str = "2001:db8:1::2";
const SERVER6: &str = "2001:db8:7::1";

/// Both links, addresses, routes and static neighbours; forwarding on. Answers the sink, which also makes the
/// way out able to transmit.
fn topology() -> AttachedTool {
    enter_namespace();
    run(&format!("ip link add {OUT} address 02:00:00:00:00:03 type veth peer name {SINK} address 02:00:00:00:00:04"));
    let setup = [
        "sysctl -q -w net.ipv6.conf.twx3.disable_ipv6=1",
        "sysctl -q -w net.ipv6.conf.twx0.disable_ipv6=0",
        "ip link set twx2 addrgenmode none up",
        "ip link set twx3 up",
        "ip addr add 10.1.0.1/24 dev twx0",
        "ip addr add 10.2.0.1/24 dev twx2",
        "ip -6 addr add 2001:db8:1::1/64 dev twx0 nodad",
        "ip -6 addr add 2001:db8:2::1/64 dev twx2 nodad",
        "ip neigh add 10.2.0.2 lladdr 02:00:00:00:00:04 dev twx2 nud permanent",
        "ip neigh add 2001:db8:2::2 lladdr 02:00:00:00:00:04 dev twx2 nud permanent",
        "ip route add 10.7.0.0/16 via 10.2.0.2",
        "ip -6 route add 2001:db8:7::/48 via 2001:db8:2::2",
        "ip route add 10.8.0.0/16 via 10.2.0.3",
        "ip route add blackhole 10.11.0.0/16",
        "ip route add unreachable 10.12.0.0/16",
        "ip route add prohibit 10.13.0.0/16",
        "ip route add 10.14.0.0/16 via 10.2.0.2 mtu lock 600",
        "ip route add 10.15.0.0/16 dev twx1",
        "ip neigh add 10.15.0.1 lladdr 02:00:00:00:00:05 dev twx1 nud permanent",
        "sysctl -q -w net.ipv4.ip_forward=1",
        "sysctl -q -w net.ipv6.conf.all.forwarding=1",
    ];
    setup.into_iter().for_each(|line| drop(run(line)));
    tools::attach(Tool::Sink, ifindex(SINK), AttachMode::Native).unwrap()
}

fn port() -> PortConfig {
    PortConfig { mode: Mode::Router, place: Place::Kernel, queues: 2, workers: 4, ..PortConfig::new(ifindex(OWN)) }
}

fn bench() -> Bench {
    let bench = Bench::on(port());
    bench.steering.add_tx_port(ifindex(OUT)).unwrap();
    for addr in ["10.1.0.1", "10.2.0.1", "2001:db8:1::1", "2001:db8:2::1"] {
        bench.shared.local_addrs().insert(addr.parse().unwrap()).unwrap();
    }
    bench
}

fn udp4(dst: [u8; 4]) -> Ip4 {
    Ip4::new(CLIENT, dst, UDP, udp(5000, 7))
}

fn udp6(dst: &str) -> Ip6 {
    Ip6::new(CLIENT6, dst, UDP, udp(5000, 7))
}

/// A datagram with another byte at `at` of the frame.
fn changed(at: usize, by: u8) -> Vec<u8> {
    let mut frame = udp4(SERVER).frame();
    frame[at] ^= by;
    frame
}

/// A packet that claims to be longer by `by` bytes than it is, with a right checksum.
fn lengthened(packet: &Ip4, by: i16) -> Vec<u8> {
    let mut frame = packet.frame();
    let len = u16::from_be_bytes([frame[16], frame[17]]).wrapping_add_signed(by);
    frame[16..18].copy_from_slice(&len.to_be_bytes());
    frame[24..26].fill(0);
    let check = checksum(&frame[14..34]);
    frame[24..26].copy_from_slice(&check.to_be_bytes());
    frame
}

fn lengthened6(packet: &Ip6, by: i16) -> Vec<u8> {
    let mut frame = packet.frame();
    let len = u16::from_be_bytes([frame[18], frame[19]]).wrapping_add_signed(by);
    frame[18..20].copy_from_slice(&len.to_be_bytes());
    frame
}

#[track_caller]
fn expect(bench: &Bench, what: &str, frame: &[u8], verdict: Verdict) {
    let outcome = bench.feed(frame);
    assert_eq!(outcome.verdict, verdict, "{what}");
    assert!(consistent(&outcome), "{what}: {outcome:?}");
}

/// The frame as it should leave: next hop's MAC, our MAC there, one hop less.
fn rewritten(packet: Vec<u8>, ethertype: u16) -> Vec<u8> {
    [&HOP_MAC[..], &OUT_MAC, &ethertype.to_be_bytes(), &packet].concat()
}

#[test]
fn forwarded_packets_have_new_macs_one_hop_less_and_a_right_checksum() {
    let _sink = topology();
    let bench = bench();
    // Every TTL, so that the checksum carries in every way; options of identity come with `src`.
    for ttl in 2..=255u8 {
        let packet = Ip4 { ttl, src: Ipv4Addr::new(10, 1, 0, ttl), ..udp4(SERVER) };
        let outcome = bench.feed(&packet.frame());
        assert_eq!(outcome.verdict, TxForwarded);
        let expected = Ip4 { ttl: ttl - 1, ..packet }.packet();
        assert_eq!(outcome.after, rewritten(expected, ETHERTYPE_IP4), "TTL {ttl}");
    }
    let packet = udp6(SERVER6);
    let outcome = bench.feed(&packet.frame());
    assert_eq!(outcome.verdict, TxForwarded);
    assert_eq!(outcome.after, rewritten(Ip6 { hop_limit: 63, ..packet }.packet(), ETHERTYPE_IP6));
}

/// RFC 1624 §3: the sum must not become 0xffff where a full computation gives 0x0000, and the other way round.
#[test]
fn the_checksum_is_that_of_a_full_computation_at_its_edges() {
    let _sink = topology();
    let bench = bench();
    // Vary an address until the checksum before or after is near its wrap.
    let mut edges = 0;
    for low in 0..=u16::MAX {
        let [a, b] = low.to_be_bytes();
        let packet = Ip4 { src: Ipv4Addr::new(10, 1, a, b), ..udp4(SERVER) };
        let bytes = packet.packet();
        let check = u16::from_be_bytes([bytes[10], bytes[11]]);
        if check > 2 && check < 0xfefd {
            continue;
        }
        edges += 1;
        let expected = Ip4 { ttl: 63, ..packet.clone() }.packet();
        let after = bench.feed(&packet.frame()).after;
        let got = u16::from_be_bytes([after[24], after[25]]);
        let full = u16::from_be_bytes([expected[10], expected[11]]);
        assert!(got == full, "checksum {check:04x} became {got:04x}, in full it is {full:04x}");
    }
    assert!(edges > 200, "{edges}");
}

#[test]
fn what_the_kernel_cannot_forward_comes_up_unchanged_with_its_reason() {
    let _sink = topology();
    let bench = bench();
    let big = vec![0; 700];
    let from = |src: [u8; 4]| Ip4 { src: src.into(), ..udp4(SERVER) }.frame();
    let table = [
        ("TTL 1", Ip4 { ttl: 1, ..udp4(SERVER) }.frame(), UpTtl),
        ("TTL 0", Ip4 { ttl: 0, ..udp4(SERVER) }.frame(), UpTtl),
        ("hop limit 1", Ip6 { hop_limit: 1, ..udp6(SERVER6) }.frame(), UpTtl),
        ("options", Ip4 { options: vec![1; 4], ..udp4(SERVER) }.frame(), UpOptions),
        ("hop-by-hop", Ip6 { next: 0, ..udp6(SERVER6) }.frame(), UpOptions),
        ("too big", Ip4::new(CLIENT, [10, 14, 0, 1], UDP, big).frame(), UpTooBig),
        ("no neighbour", udp4([10, 8, 0, 1]).frame(), UpNoNeighbour),
        ("blackhole", udp4([10, 11, 0, 1]).frame(), UpUnreachable),
        ("unreachable", udp4([10, 12, 0, 1]).frame(), UpUnreachable),
        ("prohibit", udp4([10, 13, 0, 1]).frame(), UpUnreachable),
        ("no route", udp4([172, 16, 0, 1]).frame(), UpNotForwarded),
        ("out of no port of ours", udp4([10, 15, 0, 1]).frame(), UpEgressUnmanaged),
        ("tagged", tagged(&udp4(SERVER).frame(), ETHERTYPE_VLAN, 5), UpTagged),
        ("last fragment", Ip4 { fragment: 3, ..udp4(SERVER) }.frame(), TxForwarded),
        ("own address", udp4([10, 2, 0, 1]).frame(), PassLocal),
        ("own address, TTL 1", Ip4 { ttl: 1, ..udp4([10, 1, 0, 1]) }.frame(), PassLocal),
        ("own address 6", udp6("2001:db8:2::1").frame(), PassLocal),
        ("multicast", udp4([224, 0, 0, 5]).frame(), PassScope),
        ("link-local", udp4([169, 254, 0, 5]).frame(), PassScope),
        ("link-local 6", udp6("fe80::1").frame(), PassScope),
        ("from 0.1.2.3", from([0, 1, 2, 3]), RedirectTransit),
        ("from 127.0.0.1", from([127, 0, 0, 1]), RedirectTransit),
        ("from 169.254.0.5", from([169, 254, 0, 5]), RedirectTransit),
        ("from 224.0.0.5", from([224, 0, 0, 5]), RedirectTransit),
        ("from 240.0.0.1", from([240, 0, 0, 1]), RedirectTransit),
        ("from 255.255.255.255", from([255; 4]), RedirectTransit),
        ("from 223.255.255.255", from([223, 255, 255, 255]), TxForwarded),
        ("from 128.0.0.1", from([128, 0, 0, 1]), TxForwarded),
        ("wrong header checksum", changed(24, 1), RedirectTransit),
        ("length beyond the frame", lengthened(&udp4(SERVER), 1), RedirectTransit),
        ("length of the frame", lengthened(&udp4(SERVER), 0), TxForwarded),
        ("length below the frame", lengthened(&udp4(SERVER), -4), TxForwarded),
        ("length below the header", lengthened(&udp4(SERVER), -17), PassMalformed),
        ("padded", [udp4(SERVER).frame(), vec![0; 14]].concat(), TxForwarded),
        ("payload beyond the frame", lengthened6(&udp6(SERVER6), 1), RedirectTransit),
        ("payload below the frame", lengthened6(&udp6(SERVER6), -1), TxForwarded),
        ("foreign MAC", ethernet(PEER_MAC, ETHERTYPE_IP4, &udp4(SERVER).packet()), PassForeignMac),
        ("broadcast MAC", ethernet([0xff; 6], ETHERTYPE_IP4, &udp4(SERVER).packet()), PassGroupMac),
        ("ARP", arp_request([10, 1, 0, 1]), PassNotIp),
        ("truncated", udp4(SERVER).frame()[..33].to_vec(), PassTruncated),
    ];
    for (what, frame, verdict) in table {
        expect(&bench, what, &frame, verdict);
    }
    run("ip route del 10.7.0.0/16");
    expect(&bench, "route withdrawn", &udp4(SERVER).frame(), UpNotForwarded);
    run("sysctl -q -w net.ipv4.conf.twx0.forwarding=0");
    expect(&bench, "forwarding off", &udp4(SERVER).frame(), UpForwardingOff);
}

#[test]
fn an_exception_comes_up_to_the_owner_of_its_flow() {
    let _sink = topology();
    let bench = bench();
    let flow = tailwater_xdp::FlowKey::v4(CLIENT.into(), 5000, SERVER.into(), 7, UDP);
    let outcome = bench.feed(&Ip4 { ttl: 1, ..udp4(SERVER) }.frame());
    assert_eq!(outcome.worker, bench.owner(&flow));
}

#[test]
fn without_sockets_exceptions_are_left_to_the_kernel() {
    let _sink = topology();
    let bench = Bench::without_sockets(port());
    expect(&bench, "TTL 1", &Ip4 { ttl: 1, ..udp4(SERVER) }.frame(), PassNoSocket);
}

/// Sends until the port has forwarded a thousand frames, then waits for the last of them.
fn flood_until_forwarded(bench: &Bench) -> (u64, Option<u64>) {
    const ROUNDS_MAX: u32 = 100;
    let gateway = [2, 0, 0, 0, 0, 1];
    let flood = Flood { dests: 4000, flows: 8, ..Flood::new(ifindex(PEER), gateway, CLIENT.into(), SERVER.into()) };
    let generator = Generator::new(Flood { clock_reads: 64, ..flood }).unwrap();
    let mut accepted = Some(0);
    for _ in 0..ROUNDS_MAX {
        let report = generator.run(Duration::from_millis(20)).unwrap();
        accepted = accepted.zip(report.accepted).map(|(sum, more)| sum + more);
        thread::sleep(Duration::from_millis(20));
        if bench.counts()[TxForwarded.number() as usize] >= 1000 {
            break;
        }
    }
    (bench.counts()[TxForwarded.number() as usize], accepted)
}

#[test]
fn live_traffic_is_forwarded_to_the_last_frame() {
    let sink = topology();
    let bench = bench();
    let (forwarded, accepted) = flood_until_forwarded(&bench);
    assert!(forwarded >= 1000, "{forwarded}");
    assert_eq!(Some(forwarded), accepted, "every frame the port received was forwarded");
    // Not all may fit into the sink's ring; the kernel's own multicast reports arrive there too.
    let seen = sink.seen().unwrap().packets;
    assert!(seen > 100 && seen <= forwarded + 20, "{seen} of {forwarded}");
}

#[test]
fn live_traffic_is_forwarded_in_generic_mode_too() {
    let sink = topology();
    // A veth without native XDP takes the generator's frames only with GRO.
    run(&format!("ethtool -K {OWN} gro on"));
    let bench = Bench::on(PortConfig { attach: AttachMode::Generic, ..port() });
    bench.steering.add_tx_port(ifindex(OUT)).unwrap();
    let (forwarded, _) = flood_until_forwarded(&bench);
    assert!(forwarded >= 1000, "{forwarded}");
    let seen = sink.seen().unwrap().packets;
    assert!(seen > 100 && seen <= forwarded + 20, "{seen} of {forwarded}");
}
