//! The verdict table: what each mode does with each kind of frame, through BPF_PROG_TEST_RUN. Needs root.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use common::frames::*;
use common::{Bench, OWN, OWN_MAC, consistent, enter_namespace, ifindex};
use tailwater_xdp::Verdict::*;
use tailwater_xdp::{Action, Bypass, FlowKey, Mode, Place, PortConfig, Transport, Verdict};

const CLIENT: [u8; 4] = [192, 0, 2, 7];
const SERVER: [u8; 4] = [198, 51, 100, 1];
const CLIENT6: &str = "2001:db8:1::7";
const SERVER6: &str = "2001:db8:2::1";
const FOREIGN_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0x77];

fn udp4(dport: u16) -> Ip4 {
    Ip4::new(CLIENT, SERVER, UDP, udp(5000, dport))
}

fn udp6(dport: u16) -> Ip6 {
    Ip6::new(CLIENT6, SERVER6, UDP, udp(5000, dport))
}

fn flow4(dport: u16) -> FlowKey {
    FlowKey::v4(CLIENT.into(), 5000, SERVER.into(), dport, UDP)
}

#[track_caller]
fn expect(bench: &Bench, what: &str, frame: &[u8], verdict: Verdict) -> Option<usize> {
    let outcome = bench.feed(frame);
    assert_eq!(outcome.verdict, verdict, "{what}");
    assert!(consistent(&outcome), "{what}: {outcome:?}");
    outcome.worker
}

fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

#[test]
fn shared_mode_takes_what_is_registered_and_nothing_else() {
    let bench = Bench::new(Mode::Shared, Place::User);
    let listeners = bench.shared.listeners();
    listeners.insert(Transport::Udp, at("198.51.100.1:7")).unwrap();
    listeners.insert(Transport::Udp, at("0.0.0.0:9")).unwrap();
    listeners.insert(Transport::Tcp, at("[2001:db8:2::1]:80")).unwrap();
    listeners.insert(Transport::Udp, at("[::]:9")).unwrap();

    let owner = expect(&bench, "exact", &udp4(7).frame(), RedirectListener);
    assert_eq!(owner, bench.owner(&flow4(7)));
    let table = [
        ("any address", udp4(9).frame(), RedirectListener),
        ("IPv6 any", udp6(9).frame(), RedirectListener),
        ("IPv6 TCP", Ip6::new(CLIENT6, SERVER6, TCP, tcp(5000, 80)).frame(), RedirectListener),
        ("one VLAN tag", tagged(&udp4(7).frame(), ETHERTYPE_VLAN, 5), RedirectListener),
        ("two", tagged(&tagged(&udp4(7).frame(), ETHERTYPE_VLAN, 5), ETHERTYPE_QINQ, 6), RedirectListener),
        ("options", Ip4 { options: vec![1; 12], ..udp4(7) }.frame(), RedirectListener),
        ("broadcast MAC", ethernet([0xff; 6], ETHERTYPE_IP4, &udp4(9).packet()), RedirectListener),
        ("other port", udp4(8).frame(), PassUnregistered),
        ("other protocol", Ip4::new(CLIENT, SERVER, TCP, tcp(5000, 7)).frame(), PassUnregistered),
        ("other address", Ip4::new(CLIENT, [198, 51, 100, 2], UDP, udp(5000, 7)).frame(), PassUnregistered),
        ("other family", udp6(7).frame(), PassUnregistered),
        ("echo request", Ip4::new(CLIENT, SERVER, ICMP, icmp_echo()).frame(), PassUnregistered),
        ("first fragment", Ip4 { fragment: 0x2000, ..udp4(7) }.frame(), PassFragment),
        ("last fragment", Ip4 { fragment: 0x0003, ..udp4(7) }.frame(), PassFragment),
        ("IPv6 fragment", Ip6::new(CLIENT6, SERVER6, 44, vec![17; 16]).frame(), PassFragment),
        ("hop-by-hop options", Ip6::new(CLIENT6, SERVER6, 0, vec![17; 16]).frame(), PassExtension),
        ("not our MAC", ethernet(FOREIGN_MAC, ETHERTYPE_IP4, &udp4(7).packet()), PassForeignMac),
        ("ARP", arp_request(SERVER), PassNotIp),
        ("solicitation", Ip6::new(CLIENT6, "ff02::1:ff00:1", ICMP6, neighbour(135, SERVER6)).frame(), PassUnregistered),
        ("LLDP", ethernet(OWN_MAC, 0x88cc, &[0; 46]), PassNotIp),
        ("three tags", tripled(&udp4(7).frame()), PassNotIp),
        ("version 5", altered(&udp4(7).frame(), 14, 0x55), PassMalformed),
        ("header length 16", altered(&udp4(7).frame(), 14, 0x44), PassMalformed),
        ("total length 0", altered(&udp4(7).frame(), 17, 0), PassMalformed),
        ("IPv6 saying version 4", altered(&udp6(9).frame(), 14, 0x40), PassMalformed),
    ];
    for (what, frame, verdict) in table {
        expect(&bench, what, &frame, verdict);
    }
    assert!(listeners.remove(Transport::Udp, at("198.51.100.1:7")).unwrap());
    assert!(!listeners.remove(Transport::Udp, at("198.51.100.1:7")).unwrap());
    expect(&bench, "after removal", &udp4(7).frame(), PassUnregistered);
}

fn tripled(frame: &[u8]) -> Vec<u8> {
    (0..3).fold(frame.to_vec(), |frame, _| tagged(&frame, ETHERTYPE_VLAN, 1))
}

fn altered(frame: &[u8], at: usize, byte: u8) -> Vec<u8> {
    let mut frame = frame.to_vec();
    frame[at] = byte;
    frame
}

#[test]
fn a_registered_address_is_wholly_ours() {
    let bench = Bench::new(Mode::Shared, Place::User);
    bench.shared.listeners().insert_address(IpAddr::from(SERVER)).unwrap();
    bench.shared.listeners().insert_address(SERVER6.parse().unwrap()).unwrap();
    let portless = bench.owner(&flow4(0).without_ports());

    expect(&bench, "UDP", &udp4(1).frame(), RedirectAddress);
    expect(&bench, "echo request", &Ip4::new(CLIENT, SERVER, ICMP, icmp_echo()).frame(), RedirectAddress);
    expect(&bench, "echo request 6", &Ip6::new(CLIENT6, SERVER6, ICMP6, icmp6(128)).frame(), RedirectAddress);
    expect(&bench, "extension", &Ip6::new(CLIENT6, SERVER6, 60, vec![17; 16]).frame(), RedirectAddress);
    for fragment in [0x2000, 0x2003, 0x0006] {
        let frame = Ip4 { fragment, ..udp4(1) }.frame();
        assert_eq!(expect(&bench, "all fragments meet", &frame, RedirectAddress), portless);
    }
    let solicit = |target| Ip6::new(CLIENT6, "ff02::1:ff00:1", ICMP6, neighbour(135, target)).frame();
    assert_eq!(expect(&bench, "ARP for it", &arp_request(SERVER), RedirectNeighbour), Some(0));
    assert_eq!(expect(&bench, "ND for it", &solicit(SERVER6), RedirectNeighbour), Some(0));
    expect(&bench, "ARP for another", &arp_request(CLIENT), PassNotIp);
    expect(&bench, "ND for another", &solicit(CLIENT6), PassUnregistered);
    let answer = |to| Ip6::new(CLIENT6, to, ICMP6, neighbour(136, CLIENT6)).frame();
    assert_eq!(expect(&bench, "answer to its question", &answer(SERVER6), RedirectNeighbour), Some(0));
    expect(&bench, "answer to another", &answer("fe80::1"), PassUnregistered);
    expect(&bench, "another address", &Ip4::new(CLIENT, CLIENT, UDP, udp(1, 1)).frame(), PassUnregistered);
}

#[test]
fn exclusive_mode_takes_everything() {
    let bench = Bench::new(Mode::Exclusive, Place::User);
    let owner = bench.owner(&flow4(7));
    assert_eq!(expect(&bench, "UDP", &udp4(7).frame(), RedirectFlow), owner);
    let tag = tagged(&udp4(7).frame(), ETHERTYPE_VLAN, 5);
    assert_eq!(expect(&bench, "tagged UDP", &tag, RedirectFlow), owner);
    let foreign = ethernet(FOREIGN_MAC, ETHERTYPE_IP4, &udp4(7).packet());
    assert_eq!(expect(&bench, "any MAC", &foreign, RedirectFlow), owner);
    let portless = bench.owner(&flow4(0).without_ports());
    for fragment in [0x2000, 0x2003, 0x0006] {
        assert_eq!(expect(&bench, "fragment", &Ip4 { fragment, ..udp4(7) }.frame(), RedirectFlow), portless);
    }
    let to_worker_0 = [
        ("ARP", arp_request(SERVER), RedirectNeighbour),
        ("ND", Ip6::new(CLIENT6, SERVER6, ICMP6, neighbour(136, SERVER6)).frame(), RedirectNeighbour),
        ("LLDP", ethernet(OWN_MAC, 0x88cc, &[0; 46]), RedirectSlowPath),
        ("truncated", udp4(7).frame()[..30].to_vec(), RedirectSlowPath),
        ("malformed", altered(&udp4(7).frame(), 14, 0x44), RedirectSlowPath),
    ];
    for (what, frame, verdict) in to_worker_0 {
        assert_eq!(expect(&bench, what, &frame, verdict), Some(0), "{what}");
    }
}

#[test]
fn router_mode_takes_transit_and_leaves_its_own_traffic() {
    let bench = Bench::new(Mode::Router, Place::User);
    let local = [10, 9, 9, 9];
    bench.shared.local_addrs().insert(IpAddr::from(local)).unwrap();
    bench.shared.local_addrs().insert("2001:db8:9::9".parse().unwrap()).unwrap();
    assert_eq!(expect(&bench, "transit", &udp4(7).frame(), RedirectTransit), bench.owner(&flow4(7)));
    let to = |dst: [u8; 4]| Ip4::new(CLIENT, dst, UDP, udp(5000, 7)).frame();
    let to6 = |dst| Ip6::new(CLIENT6, dst, UDP, udp(5000, 7)).frame();
    let table = [
        ("transit 6", udp6(7).frame(), RedirectTransit),
        ("TTL 1", Ip4 { ttl: 1, ..udp4(7) }.frame(), RedirectTransit),
        ("options", Ip4 { options: vec![1; 40], ..udp4(7) }.frame(), RedirectTransit),
        ("fragment", Ip4 { fragment: 0x2000, ..udp4(7) }.frame(), RedirectTransit),
        ("extension", Ip6::new(CLIENT6, SERVER6, 0, vec![17; 16]).frame(), RedirectTransit),
        ("tagged", tagged(&udp4(7).frame(), ETHERTYPE_VLAN, 5), RedirectTransit),
        ("own address", to(local), PassLocal),
        ("own address 6", to6("2001:db8:9::9"), PassLocal),
        ("multicast", to([224, 0, 0, 5]), PassScope),
        ("limited broadcast", to([255; 4]), PassScope),
        ("link-local", to([169, 254, 1, 1]), PassScope),
        ("loopback", to([127, 0, 0, 1]), PassScope),
        ("from nowhere", Ip4::new([0; 4], SERVER, UDP, udp(68, 67)).frame(), PassScope),
        ("multicast 6", to6("ff02::5"), PassScope),
        ("link-local 6", to6("fe80::1"), PassScope),
        ("from link-local 6", Ip6::new("fe80::1", SERVER6, UDP, udp(1, 2)).frame(), PassScope),
        ("loopback 6", to6("::1"), PassScope),
        ("broadcast MAC", ethernet([0xff; 6], ETHERTYPE_IP4, &udp4(7).packet()), PassGroupMac),
        ("multicast MAC", ethernet([1, 0, 0x5e, 0, 0, 5], ETHERTYPE_IP4, &udp4(7).packet()), PassGroupMac),
        ("foreign MAC", ethernet(FOREIGN_MAC, ETHERTYPE_IP4, &udp4(7).packet()), PassForeignMac),
        ("ARP", arp_request(local), PassNotIp),
        ("LLDP", ethernet(OWN_MAC, 0x88cc, &[0; 46]), PassNotIp),
        ("truncated", udp4(7).frame()[..36].to_vec(), PassTruncated),
        ("malformed", altered(&udp4(7).frame(), 14, 0x44), PassMalformed),
    ];
    for (what, frame, verdict) in table {
        expect(&bench, what, &frame, verdict);
    }
}

#[test]
fn registered_encapsulations_go_where_their_flow_bits_say() {
    const OURS: u16 = 0x88b5;
    for (mode, before) in [(Mode::Shared, PassNotIp), (Mode::Router, PassNotIp), (Mode::Exclusive, RedirectSlowPath)] {
        let bench = Bench::new(mode, Place::User);
        let frame = encapsulated(OURS, 0);
        expect(&bench, "not registered", &frame, before);
        let registered = bench.shared.register_ethertype(OURS).unwrap();
        let again = bench.shared.register_ethertype(OURS).unwrap();
        for bits in [0, 1, 2, 3, 127, 128, 0x1234, 0xffff] {
            let worker = bench.shared.indirection().buckets()[usize::from(bits) % 128];
            let frame = encapsulated(OURS, bits);
            assert_eq!(expect(&bench, "registered", &frame, RedirectEncapsulated), Some(worker.into()), "{bits:#x}");
            let frame = tagged(&frame, ETHERTYPE_VLAN, 5);
            assert_eq!(expect(&bench, "tagged", &frame, RedirectEncapsulated), Some(worker.into()), "{bits:#x}");
        }
        let other_subtype = altered(&frame, 14, 0x78);
        expect(&bench, "another's use of the EtherType", &other_subtype, before);
        expect(&bench, "another EtherType", &encapsulated(0x88b6, 0), before);
        expect(&bench, "cut before the flow bits", &frame[..17], before);
        drop(registered);
        expect(&bench, "one of two holders left", &frame, RedirectEncapsulated);
        drop(again);
        expect(&bench, "both left", &frame, before);
    }
}

#[test]
fn registered_encapsulations_are_ours_only_where_other_frames_would_be() {
    for (mode, group) in [(Mode::Shared, RedirectEncapsulated), (Mode::Router, PassGroupMac)] {
        let bench = Bench::new(mode, Place::User);
        let _registered = bench.shared.register_ethertype(0x88b5).unwrap();
        let ours = encapsulated(0x88b5, 3);
        let to = |mac: [u8; 6]| [&mac[..], &ours[6..]].concat();
        expect(&bench, "foreign MAC", &to(FOREIGN_MAC), PassForeignMac);
        expect(&bench, "broadcast", &to([0xff; 6]), group);
        assert!(bench.shared.register_ethertype(0x05ff).is_err(), "a length is no EtherType");
    }
}

#[test]
fn kernel_placement_leaves_registered_encapsulations_to_the_workers() {
    let bench = Bench::new(Mode::Router, Place::Kernel);
    let _registered = bench.shared.register_ethertype(0x88b6).unwrap();
    expect(&bench, "encapsulated", &encapsulated(0x88b6, 1), RedirectEncapsulated);
}

#[test]
fn tagged_frames_can_be_left_to_the_kernel() {
    enter_namespace();
    let config = PortConfig { mode: Mode::Router, steer_vlan: false, ..PortConfig::new(ifindex(OWN)) };
    let bench = Bench::on(config);
    expect(&bench, "untagged", &udp4(7).frame(), RedirectTransit);
    expect(&bench, "tagged", &tagged(&udp4(7).frame(), ETHERTYPE_VLAN, 5), PassVlan);
}

#[test]
fn a_flow_exception_moves_a_flow_while_exceptions_are_active() {
    for (mode, otherwise) in
        [(Mode::Shared, PassUnregistered), (Mode::Exclusive, RedirectFlow), (Mode::Router, RedirectTransit)]
    {
        let bench = Bench::new(mode, Place::User);
        let exceptions = bench.shared.flow_exceptions();
        let elsewhere = (bench.owner(&flow4(7)).unwrap() + 1) % 4;
        exceptions.insert(&flow4(7), elsewhere as u8).unwrap();
        expect(&bench, "inactive", &udp4(7).frame(), otherwise);
        exceptions.set_active(1);
        assert_eq!(expect(&bench, "active", &udp4(7).frame(), RedirectException), Some(elsewhere));
        expect(&bench, "another flow", &udp4(8).frame(), otherwise);
        assert!(exceptions.remove(&flow4(7)).unwrap());
        expect(&bench, "removed", &udp4(7).frame(), otherwise);
    }
}

#[test]
fn an_exception_for_a_worker_there_is_not_goes_to_worker_0() {
    let bench = Bench::new(Mode::Exclusive, Place::User);
    bench.shared.flow_exceptions().insert(&flow4(7), 100).unwrap();
    bench.shared.flow_exceptions().set_active(1);
    assert_eq!(expect(&bench, "worker 100 of 4", &udp4(7).frame(), RedirectException), Some(0));
}

#[test]
fn without_a_socket_shared_and_router_pass_and_exclusive_drops() {
    enter_namespace();
    let config = PortConfig::new(ifindex(OWN));
    for (mode, verdict) in [(Mode::Shared, PassNoSocket), (Mode::Router, PassNoSocket), (Mode::Exclusive, DropNoSocket)]
    {
        let bench = Bench::without_sockets(PortConfig { mode, ..config.clone() });
        bench.shared.listeners().insert(Transport::Udp, at("0.0.0.0:7")).unwrap();
        expect(&bench, "no socket", &udp4(7).frame(), verdict);
    }
}

#[test]
fn a_queue_beyond_those_configured_finds_no_socket() {
    enter_namespace();
    let config = PortConfig { mode: Mode::Router, workers: 2, ..PortConfig::new(ifindex(OWN)) };
    let bench = Bench::on(config);
    let before = bench.counts();
    assert_eq!(bench.steering.try_frame(&udp4(7).frame(), 1).unwrap().action, Action::Pass);
    let number = PassNoSocket.number() as usize;
    assert_eq!(bench.counts()[number], before[number] + 1);
}

#[test]
fn frames_for_a_full_ring_are_shed_until_the_worker_takes_some() {
    let bench = Bench::new(Mode::Exclusive, Place::User);
    let frame = udp4(7).frame();
    let worker = bench.owner(&flow4(7)).unwrap() as u32;
    let ring = bench.steering.ring_state(0, worker).unwrap();
    ring.set_capacity(3);
    for _ in 0..3 {
        expect(&bench, "room", &frame, RedirectFlow);
    }
    expect(&bench, "full", &frame, DropRingFull);
    ring.add_taken(1);
    expect(&bench, "one taken", &frame, RedirectFlow);
    expect(&bench, "full again", &frame, DropRingFull);
    // The kernel lost them all: the worker finds its ring empty.
    ring.mark_empty();
    expect(&bench, "healed", &frame, RedirectFlow);
    // The worker was ahead: it took that frame after marking.
    ring.mark_empty();
    ring.add_taken(1);
    expect(&bench, "worker ahead", &frame, RedirectFlow);
    ring.set_capacity(0);
    for _ in 0..10 {
        expect(&bench, "off", &frame, RedirectFlow);
    }
}

#[test]
fn the_bypass_overrides_every_mode() {
    for mode in [Mode::Shared, Mode::Exclusive, Mode::Router] {
        let bench = Bench::new(mode, Place::User);
        bench.shared.set_bypass(Bypass::PassAll);
        expect(&bench, "pass", &udp4(7).frame(), PassBypass);
        bench.shared.set_bypass(Bypass::DropAll);
        expect(&bench, "drop", &udp4(7).frame(), DropBypass);
        bench.shared.set_bypass(Bypass::Off);
        assert_ne!(bench.feed(&udp4(7).frame()).verdict, PassBypass);
    }
}

#[test]
fn reconfiguring_changes_the_mode_and_keeps_sockets_and_counters() {
    let mut bench = Bench::new(Mode::Shared, Place::User);
    expect(&bench, "shared", &udp4(7).frame(), PassUnregistered);
    bench.steering.reconfigure(Mode::Exclusive, Place::User, true).unwrap();
    expect(&bench, "exclusive", &udp4(7).frame(), RedirectFlow);
    assert_eq!(bench.counts()[PassUnregistered.number() as usize], 1);
}

#[test]
fn a_new_mac_address_counts_after_reconfiguring() {
    let mut bench = Bench::new(Mode::Router, Place::User);
    common::run(&format!("ip link set {OWN} address 02:00:00:00:00:77"));
    let frame = ethernet(FOREIGN_MAC, ETHERTYPE_IP4, &udp4(7).packet());
    expect(&bench, "not yet", &frame, PassForeignMac);
    bench.steering.reconfigure(Mode::Router, Place::User, true).unwrap();
    expect(&bench, "now", &frame, RedirectTransit);
}

#[test]
fn bytes_are_counted_with_the_frames() {
    let bench = Bench::new(Mode::Exclusive, Place::User);
    let frame = udp4(7).frame();
    bench.feed(&frame);
    bench.feed(&frame);
    let tallies = bench.steering.verdicts().unwrap();
    let tally = tallies.iter().find(|tally| tally.verdict == RedirectFlow).unwrap();
    assert_eq!((tally.packets, tally.bytes), (2, 2 * frame.len() as u64));
}

#[test]
fn the_unspecified_address_and_port_0_cannot_be_registered() {
    let bench = Bench::new(Mode::Shared, Place::User);
    assert!(bench.shared.listeners().insert_address(Ipv4Addr::UNSPECIFIED.into()).is_err());
    assert!(bench.shared.listeners().insert(Transport::Udp, at("198.51.100.1:0")).is_err());
}
