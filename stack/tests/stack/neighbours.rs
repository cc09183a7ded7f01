//! ARP (RFC 826) and neighbour discovery (RFC 4861) on a virtual clock.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use smoltcp::wire::{ArpOperation, ArpPacket, ArpRepr, EthernetAddress, Icmpv6Packet, Ipv6Packet, NdiscRepr};
use tailwater_stack::testing::mac;
use tailwater_stack::{
    Config, DropReason, Event, InterfaceConfig, MacAddress, NeighbourLimits, NeighbourMode, NeighbourState, Sent,
    Verdict,
};

use crate::frames::*;
use crate::host::Host;

const SECOND: Duration = Duration::from_secs(1);

fn arp(operation: ArpOperation, from: (MacAddress, Ipv4Addr), to: (MacAddress, Ipv4Addr)) -> Vec<u8> {
    let repr = ArpRepr::EthernetIpv4 {
        operation,
        source_hardware_addr: EthernetAddress(from.0.0),
        source_protocol_addr: from.1,
        target_hardware_addr: EthernetAddress(to.0.0),
        target_protocol_addr: to.1,
    };
    let mut packet = vec![0; repr.buffer_len()];
    repr.emit(&mut ArpPacket::new_unchecked(&mut packet));
    let mut frame = link(0x0806, &packet);
    frame.resize(60, 0);
    frame
}

fn parse_arp(frame: &[u8]) -> ArpRepr {
    ArpRepr::parse(&ArpPacket::new_checked(&frame[ETHERNET..]).unwrap()).unwrap()
}

fn request() -> Vec<u8> {
    arp(ArpOperation::Request, (PEER_MAC, PEER), (MacAddress::ZERO, OURS))
}

fn reply() -> Vec<u8> {
    arp(ArpOperation::Reply, (PEER_MAC, PEER), (OUR_MAC, OURS))
}

fn ndisc(frame: &[u8]) -> NdiscRepr<'_> {
    let ip = Ipv6Packet::new_checked(&frame[ETHERNET..]).unwrap();
    assert_eq!(ip.hop_limit(), 255);
    let icmp = Icmpv6Packet::new_checked(ip.payload()).unwrap();
    // The packet borrows from `ip`; parse once more from the frame for the lifetime.
    assert!(icmp.verify_checksum(&ip.src_addr(), &ip.dst_addr()));
    NdiscRepr::parse(&Icmpv6Packet::new_checked(&frame[ETHERNET + 40..]).unwrap()).unwrap()
}

fn solicited_node(address: Ipv6Addr) -> Ipv6Addr {
    let [.., n, o, p] = address.octets();
    format!("ff02::1:ff{n:02x}:{o:02x}{p:02x}").parse().unwrap()
}

/// A solicitation for our address, as a neighbour sends it.
fn solicitation(from: Ipv6Addr, option: &[u8]) -> Vec<u8> {
    ndp(from, solicited_node(OURS6), 135, 0, &[&OURS6.octets()[..], option].concat())
}

fn source_option(mac: MacAddress) -> Vec<u8> {
    [&[1, 1][..], &mac.0].concat()
}

/// An advertisement of the peer's address to us.
fn advertisement(flags: u8, mac: MacAddress) -> Vec<u8> {
    let body = [&PEER6.octets()[..], &[2, 1], &mac.0].concat();
    ndp(PEER6, OURS6, 136, u32::from(flags) << 24, &body)
}

fn state_of(host: &Host, address: impl Into<IpAddr>) -> Option<(NeighbourState, Option<MacAddress>)> {
    let address = address.into();
    host.stack.neighbours(host.port).find(|n| n.0 == address).map(|n| (n.2, n.1))
}

#[test]
fn an_arp_request_is_answered_in_its_own_buffer() {
    let mut host = Host::new();
    assert!(matches!(host.receive(&request()), Verdict::Answered));
    assert_eq!(host.env.allocated, 0);
    let frame = host.only_sent();
    assert_eq!(frame[..6], PEER_MAC.0);
    let ArpRepr::EthernetIpv4 { operation, source_hardware_addr, source_protocol_addr, target_protocol_addr, .. } =
        parse_arp(&frame)
    else {
        panic!("not ARP for IPv4")
    };
    assert_eq!(operation, ArpOperation::Reply);
    assert_eq!(source_hardware_addr.0, OUR_MAC.0);
    assert_eq!((source_protocol_addr, target_protocol_addr), (OURS, PEER));
    assert_eq!(state_of(&host, PEER), Some((NeighbourState::Stale, Some(PEER_MAC))));
}

#[test]
fn an_arp_probe_is_answered_and_teaches_nothing() {
    let mut host = Host::new();
    let probe = arp(ArpOperation::Request, (PEER_MAC, Ipv4Addr::UNSPECIFIED), (MacAddress::ZERO, OURS));
    assert!(matches!(host.receive(&probe), Verdict::Answered));
    host.only_sent();
    assert_eq!(host.stack.neighbours(host.port).count(), 0);
}

#[test]
fn a_packet_waits_for_the_arp_reply_and_then_leaves() {
    let mut host = Host::new();
    let socket = host.bind("0.0.0.0:7");
    assert_eq!(host.send(socket, "192.0.2.2:9", b"first"), Ok(Sent::Queued));
    assert_eq!(host.send(socket, "192.0.2.2:9", b"second"), Ok(Sent::Queued));
    let question = host.only_sent();
    assert_eq!(question[..6], [0xff; 6]);
    assert!(matches!(
        parse_arp(&question),
        ArpRepr::EthernetIpv4 { operation: ArpOperation::Request, target_protocol_addr: PEER, .. }
    ));
    assert!(matches!(host.receive(&reply()), Verdict::Consumed));
    for payload in [&b"first"[..], b"second"] {
        let frame = host.sent().unwrap();
        assert_eq!(frame[..6], PEER_MAC.0);
        assert!(frame.ends_with(payload));
    }
    assert_eq!(host.stack.held(), 0);
    assert_eq!(state_of(&host, PEER), Some((NeighbourState::Reachable, Some(PEER_MAC))));
}

#[test]
fn what_waits_for_a_neighbour_leaves_before_what_is_sent_later_whoever_resolves_it() {
    for config in [InterfaceConfig::exclusive(OUR_MAC, 1500), InterfaceConfig::shared(OUR_MAC, 1500)] {
        let mut host = Host::with(Config::default(), config);
        let socket = host.bind("0.0.0.0:7");
        for round in 0..3u8 {
            (0..60).for_each(|n| assert_eq!(host.send(socket, "192.0.2.2:9", &[round, n]), Ok(Sent::Queued)));
            while host.sent().is_some() {}
            match config.neighbours {
                NeighbourMode::Own => drop(host.receive(&reply())),
                NeighbourMode::External => host.meet_peer(),
            }
            (60..64).for_each(|n| assert_eq!(host.send(socket, "192.0.2.2:9", &[round, n]), Ok(Sent::Transmitted)));
            (0..64).for_each(|n| assert!(host.sent().unwrap().ends_with(&[round, n]), "{n}"));
            // It is gone, and is asked for anew.
            host.stack.remove_neighbour(host.port, PEER.into(), &mut host.env);
        }
        assert_eq!((host.env.take_drops().len(), host.stack.held()), (0, 0));
    }
}

#[test]
fn an_unanswered_neighbour_is_asked_three_times_and_then_fails() {
    let mut host = Host::new();
    let socket = host.bind("0.0.0.0:7");
    for target in ["192.0.2.2:9", "[2001:db8::2]:9"] {
        let asking = socket_for(&mut host, socket, target);
        host.send(asking, target, b"lost").unwrap();
        host.wait(Duration::from_millis(2_999));
        assert_eq!(host.env.transmitted.len(), 3, "{target}");
        host.wait(Duration::from_millis(1));
        assert_eq!(host.env.take_drops(), [DropReason::NeighbourUnreachable]);
        assert!(matches!(host.stack.poll_event(), Some(Event::NeighbourFailed { .. })));
        while host.sent().is_some() {}
        // For a second nothing more is asked: RFC 1122 §2.3.2.1.
        let socket = socket_for(&mut host, socket, target);
        assert_eq!(host.send(socket, target, b""), Err(DropReason::NeighbourUnreachable));
        assert!(host.sent().is_none());
        host.wait(SECOND);
        assert_eq!(host.send(socket, target, b"again"), Ok(Sent::Queued));
        assert!(host.sent().is_some());
        host.wait(5 * SECOND);
        host.env.take_drops();
        while host.sent().is_some() {}
        while host.stack.poll_event().is_some() {}
    }
}

fn socket_for(host: &mut Host, v4: tailwater_stack::SocketId, target: &str) -> tailwater_stack::SocketId {
    if !target.starts_with('[') {
        return v4;
    }
    let open = host.stack.udp_sockets().find(|(_, local, _)| local.is_ipv6()).map(|(id, ..)| id);
    open.unwrap_or_else(|| host.bind("[::]:7"))
}

#[test]
fn a_used_neighbour_is_probed_directly_once_its_time_is_up() {
    let mut host = Host::new();
    let socket = host.bind("0.0.0.0:7");
    host.send(socket, "192.0.2.2:9", b"x").unwrap();
    host.sent();
    let _ = host.receive(&reply());
    host.sent();
    host.wait(45 * SECOND);
    assert_eq!(state_of(&host, PEER).unwrap().0, NeighbourState::Stale);
    assert_eq!(host.send(socket, "192.0.2.2:9", b"x"), Ok(Sent::Transmitted));
    host.only_sent();
    host.wait(5 * SECOND);
    assert_eq!(state_of(&host, PEER).unwrap().0, NeighbourState::Probe);
    assert_eq!(host.only_sent()[..6], PEER_MAC.0, "asked directly");
    let _ = host.receive(&reply());
    assert_eq!(state_of(&host, PEER).unwrap().0, NeighbourState::Reachable);
}

#[test]
fn progress_above_spares_the_probe() {
    let mut host = Host::new();
    let _ = host.receive(&request());
    host.sent();
    let socket = host.bind("0.0.0.0:7");
    host.send(socket, "192.0.2.2:9", b"x").unwrap();
    host.sent();
    assert_eq!(state_of(&host, PEER).unwrap().0, NeighbourState::Delay);
    host.stack.confirm_neighbour(host.port, PEER.into(), &mut host.env);
    host.wait(14 * SECOND);
    assert_eq!(state_of(&host, PEER).unwrap().0, NeighbourState::Reachable);
    assert!(host.sent().is_none());
}

#[test]
fn a_gratuitous_arp_moves_a_known_neighbour_only() {
    let mut host = Host::new();
    let moved = |m| arp(ArpOperation::Request, (mac(m), PEER), (MacAddress::ZERO, PEER));
    assert_eq!(host.refusal(&moved(8)), DropReason::ArpNotOurs);
    assert_eq!(state_of(&host, PEER), None);
    let _ = host.receive(&request());
    host.sent();
    assert!(matches!(host.receive(&moved(8)), Verdict::Consumed));
    assert_eq!(state_of(&host, PEER), Some((NeighbourState::Stale, Some(mac(8)))));
}

#[test]
fn a_reply_that_nobody_asked_for_is_not_trusted_as_reachable() {
    let mut host = Host::new();
    let _ = host.receive(&reply());
    assert_eq!(state_of(&host, PEER), None);
    let _ = host.receive(&request());
    host.sent();
    let _ = host.receive(&reply());
    assert_eq!(state_of(&host, PEER).unwrap().0, NeighbourState::Stale);
}

#[test]
fn another_station_with_our_address_is_reported() {
    let mut host = Host::new();
    let _ = host.receive(&arp(ArpOperation::Request, (mac(9), OURS), (MacAddress::ZERO, OURS)));
    let conflict = Event::AddressConflict { interface: host.port, address: OURS.into(), mac: mac(9) };
    assert_eq!(host.stack.poll_event(), Some(conflict));
    let body = [&OURS6.octets()[..], &[2, 1], &mac(9).0].concat();
    let _ = host.receive(&ndp(OURS6_CLAIMANT, "ff02::1".parse().unwrap(), 136, 0x2000_0000, &body));
    let conflict = Event::AddressConflict { interface: host.port, address: OURS6.into(), mac: mac(9) };
    assert_eq!(host.stack.poll_event(), Some(conflict));
}

const OURS6_CLAIMANT: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 9);

#[test]
fn malformed_arp_is_dropped() {
    let mut host = Host::new();
    for at in [1, 2, 4, 5, 7] {
        let mut frame = request();
        frame[ETHERNET + at] ^= 0x40;
        assert_eq!(host.refusal(&frame), DropReason::ArpMalformed, "byte {at}");
    }
    let mut frame = request();
    frame[ETHERNET + 8] |= 1;
    assert_eq!(host.refusal(&frame), DropReason::ArpMalformed);
    assert_eq!(host.refusal(&request()[..ETHERNET + 27]), DropReason::ArpMalformed);
}

#[test]
fn a_solicitation_is_answered_to_the_asker() {
    let mut host = Host::new();
    assert!(matches!(host.receive(&solicitation(PEER6, &source_option(PEER_MAC))), Verdict::Answered));
    let frame = host.only_sent();
    assert_eq!(frame[..6], PEER_MAC.0);
    let NdiscRepr::NeighborAdvert { flags, target_addr, lladdr } = ndisc(&frame) else { panic!("no advertisement") };
    assert_eq!(target_addr, OURS6);
    assert_eq!(lladdr.unwrap().as_bytes(), OUR_MAC.0);
    assert_eq!(flags.bits(), 0x60, "solicited, override");
    assert_eq!(state_of(&host, PEER6), Some((NeighbourState::Stale, Some(PEER_MAC))));
}

#[test]
fn duplicate_address_detection_is_answered_to_all() {
    let mut host = Host::new();
    assert!(matches!(host.receive(&solicitation(Ipv6Addr::UNSPECIFIED, &[])), Verdict::Answered));
    let frame = host.only_sent();
    assert_eq!(frame[..6], [0x33, 0x33, 0, 0, 0, 1]);
    let NdiscRepr::NeighborAdvert { flags, .. } = ndisc(&frame) else { panic!("no advertisement") };
    assert_eq!(flags.bits(), 0x20, "override only");
    assert_eq!(host.stack.neighbours(host.port).count(), 0);
}

#[test]
fn a_packet_waits_for_the_advertisement_and_then_leaves() {
    let mut host = Host::new();
    let socket = host.bind("[::]:7");
    assert_eq!(host.send(socket, "[2001:db8::2]:9", b"hello"), Ok(Sent::Queued));
    let question = host.only_sent();
    assert_eq!(question[..6], [0x33, 0x33, 0xff, 0, 0, 2]);
    let NdiscRepr::NeighborSolicit { target_addr, lladdr } = ndisc(&question) else { panic!("no solicitation") };
    assert_eq!((target_addr, lladdr.unwrap().as_bytes()), (PEER6, &OUR_MAC.0[..]));
    assert!(matches!(host.receive(&advertisement(0x60, PEER_MAC)), Verdict::Consumed));
    assert!(host.only_sent().ends_with(b"hello"));
    assert_eq!(state_of(&host, PEER6).unwrap().0, NeighbourState::Reachable);
}

#[test]
fn advertisements_change_the_cache_as_rfc_4861_7_2_5_says() {
    // (flags, same MAC) -> (state, takes the new MAC), starting from Reachable with PEER_MAC.
    let cases = [
        (0x00, false, NeighbourState::Stale, false),
        (0x40, false, NeighbourState::Stale, false),
        (0x20, false, NeighbourState::Stale, true),
        (0x60, false, NeighbourState::Reachable, true),
        (0x40, true, NeighbourState::Reachable, false),
        (0x00, true, NeighbourState::Reachable, false),
    ];
    for (flags, same, state, taken) in cases {
        let mut host = Host::new();
        let socket = host.bind("[::]:7");
        host.send(socket, "[2001:db8::2]:9", b"").unwrap();
        let _ = host.receive(&advertisement(0x60, PEER_MAC));
        let said = if same { PEER_MAC } else { mac(8) };
        let _ = host.receive(&advertisement(flags, said));
        let expected = if taken { mac(8) } else { PEER_MAC };
        assert_eq!(state_of(&host, PEER6), Some((state, Some(expected))), "flags {flags:#x}, same {same}");
    }
}

#[test]
fn invalid_neighbour_discovery_is_dropped() {
    let mut host = Host::new();
    let good = solicitation(PEER6, &source_option(PEER_MAC));
    let mut routed = good.clone();
    routed[ETHERNET + 7] = 254;
    assert_eq!(host.refusal(&routed), DropReason::NdpInvalid);
    // An option of length zero, and one beyond the message.
    for len in [0, 2] {
        assert_eq!(host.refusal(&solicitation(PEER6, &[1, len, 0, 0, 0, 0, 0, 0])), DropReason::NdpInvalid);
    }
    // From nobody, but with a link-layer address; from nobody to us alone.
    let with_option = solicitation(Ipv6Addr::UNSPECIFIED, &source_option(PEER_MAC));
    assert_eq!(host.refusal(&with_option), DropReason::NdpInvalid);
    let direct = ndp(Ipv6Addr::UNSPECIFIED, OURS6, 135, 0, &OURS6.octets());
    assert_eq!(host.refusal(&direct), DropReason::NdpInvalid);
    // About a group; about somebody else; unasked; solicited to a group.
    let all: Ipv6Addr = "ff02::1".parse().unwrap();
    assert_eq!(host.refusal(&ndp(PEER6, OURS6, 135, 0, &all.octets())), DropReason::NdpInvalid);
    assert_eq!(host.refusal(&ndp(PEER6, OURS6, 135, 0, &REMOTE6.octets())), DropReason::NdpNotOurs);
    assert_eq!(host.refusal(&advertisement(0x60, PEER_MAC)), DropReason::NdpNotOurs);
    let body = [&PEER6.octets()[..], &[2, 1], &PEER_MAC.0].concat();
    assert_eq!(host.refusal(&ndp(PEER6, all, 136, 0x6000_0000, &body)), DropReason::NdpInvalid);
    // Too short.
    assert_eq!(host.refusal(&ndp(PEER6, OURS6, 135, 0, &[0; 8])), DropReason::NdpInvalid);
}

#[test]
fn a_full_queue_gives_up_its_oldest_packet() {
    let limits = NeighbourLimits { pending_max: 2, pending_total_max: 3, entries_max: 10 };
    let config = Config { neighbours: limits, ..Config::default() };
    let mut host = Host::with(config, InterfaceConfig::exclusive(OUR_MAC, 1500));
    let socket = host.bind("0.0.0.0:7");
    for payload in [b"1", b"2", b"3"] {
        host.send(socket, "192.0.2.2:9", payload).unwrap();
    }
    assert_eq!(host.env.take_drops(), [DropReason::NeighbourQueueFull]);
    host.send(socket, "192.0.2.3:9", b"4").unwrap();
    // The total is reached: another neighbour cannot wait.
    assert_eq!(host.send(socket, "192.0.2.4:9", b"5"), Err(DropReason::NeighbourQueueFull));
    assert_eq!(host.stack.held(), 3);
    while host.sent().is_some() {}
    let _ = host.receive(&reply());
    assert!(host.sent().unwrap().ends_with(b"2"));
    assert!(host.only_sent().ends_with(b"3"));
}

#[test]
fn a_full_table_gives_up_whom_nobody_waits_for_and_keeps_what_is_fixed() {
    let limits = NeighbourLimits { entries_max: 2, ..NeighbourLimits::default() };
    let config = Config { neighbours: limits, ..Config::default() };
    let mut host = Host::with(config, InterfaceConfig::exclusive(OUR_MAC, 1500));
    assert!(host.stack.set_neighbour(host.port, PEER.into(), PEER_MAC, &mut host.env));
    for n in 10..200 {
        let from = (mac(n), Ipv4Addr::new(192, 0, 2, n));
        let _ = host.receive(&arp(ArpOperation::Request, from, (MacAddress::ZERO, OURS)));
    }
    assert_eq!(host.stack.neighbours(host.port).count(), 2);
    assert_eq!(state_of(&host, PEER).unwrap().0, NeighbourState::Fixed);
    let socket = host.bind("0.0.0.0:7");
    assert_eq!(host.send(socket, "192.0.2.201:9", b""), Ok(Sent::Queued));
    assert_eq!(host.send(socket, "192.0.2.202:9", b""), Err(DropReason::NeighbourTableFull));
}

#[test]
fn where_the_kernel_resolves_the_stack_asks_it_and_keeps_quiet() {
    let mut host = Host::with(Config::default(), InterfaceConfig::shared(OUR_MAC, 1500));
    let socket = host.bind("0.0.0.0:7");
    assert_eq!(host.send(socket, "192.0.2.2:9", b"hello"), Ok(Sent::Queued));
    assert!(host.sent().is_none());
    let needed = Event::ResolveNeeded { interface: host.port, address: PEER.into() };
    assert_eq!(host.stack.poll_event(), Some(needed));
    host.wait(SECOND);
    assert_eq!(host.stack.poll_event(), Some(needed), "asked again");
    assert_eq!(host.refusal(&request()), DropReason::ArpExternal);
    assert_eq!(host.refusal(&solicitation(PEER6, &[])), DropReason::NdpExternal);
    host.meet_peer();
    assert!(host.only_sent().ends_with(b"hello"));
    host.stack.remove_neighbour(host.port, PEER.into(), &mut host.env);
    assert_eq!(host.send(socket, "192.0.2.2:9", b"x"), Ok(Sent::Queued));
    host.stack.remove_neighbour(host.port, PEER.into(), &mut host.env);
    assert_eq!(host.env.take_drops(), [DropReason::NeighbourUnreachable]);
}

#[test]
fn an_announcement_tells_the_link_where_the_address_is() {
    let mut host = Host::new();
    host.stack.announce(host.port, OURS.into(), &mut host.env).unwrap();
    let ArpRepr::EthernetIpv4 { source_protocol_addr, target_protocol_addr, .. } = parse_arp(&host.only_sent()) else {
        panic!("not ARP for IPv4")
    };
    assert_eq!((source_protocol_addr, target_protocol_addr), (OURS, OURS));
    host.stack.announce(host.port, OURS6.into(), &mut host.env).unwrap();
    assert!(matches!(ndisc(&host.only_sent()), NdiscRepr::NeighborAdvert { target_addr: OURS6, .. }));
    assert_eq!(host.stack.announce(host.port, PEER.into(), &mut host.env), Err(DropReason::NoSource));
}

#[test]
fn events_beyond_the_bound_are_lost_and_counted() {
    let config = Config { events_max: 2, ..Config::default() };
    let mut host = Host::with(config, InterfaceConfig::exclusive(OUR_MAC, 1500));
    for n in 9..14 {
        let _ = host.receive(&arp(ArpOperation::Request, (mac(n), OURS), (MacAddress::ZERO, OURS)));
    }
    assert_eq!(host.stack.events_lost(), 3);
    assert_eq!(std::iter::from_fn(|| host.stack.poll_event()).count(), 2);
}
