//! Path MTU discovery (RFC 1191, RFC 8201) and its abuse (RFC 5927 §7).

use std::time::Duration;

use tailwater_stack::{Config, DropReason, Event, InterfaceConfig, SocketId, Undelivered, Verdict};

use crate::frames::*;
use crate::host::Host;

/// A host that sent 1,400 bytes to a remote host, and that packet.
fn sender(remote: &str) -> (Host, SocketId, Vec<u8>) {
    let mut host = Host::acquainted();
    let socket = host.bind(if remote.starts_with('[') { "[::]:5000" } else { "0.0.0.0:5000" });
    host.send(socket, remote, &[1; 1400]).unwrap();
    let sent = host.only_sent()[ETHERNET..].to_vec();
    (host, socket, sent)
}

fn frames_for(host: &mut Host, socket: SocketId, remote: &str) -> usize {
    host.send(socket, remote, &[2; 1400]).unwrap();
    std::iter::from_fn(|| host.sent()).count()
}

#[test]
fn fragmentation_needed_makes_later_datagrams_fit() {
    let remote = "198.51.100.9:53";
    let (mut host, socket, sent) = sender(remote);
    assert_eq!(sent[6] & 0x40, 0x40, "sent with don't fragment");
    assert!(matches!(host.receive(&icmp4(PEER, 3, 4, 1000, &sent)), Verdict::Consumed));
    let why = Undelivered::TooBig { mtu: 1000 };
    let from = PEER.into();
    let expected = Event::UdpUndelivered { socket, remote: remote.parse().unwrap(), from, why };
    assert_eq!(host.stack.poll_event(), Some(expected));
    host.send(socket, remote, &[2; 1400]).unwrap();
    let first = host.sent().unwrap();
    assert!(first.len() - ETHERNET <= 1000);
    assert_eq!(first[ETHERNET + 6] & 0x60, 0x20, "more fragments, may be fragmented");
    assert!(host.sent().is_some() && host.sent().is_none());
    // Other destinations are not touched.
    assert_eq!(frames_for(&mut host, socket, "198.51.100.10:53"), 1);
    // Ten minutes later the path is tried again.
    host.wait(Duration::from_secs(600));
    assert_eq!(frames_for(&mut host, socket, remote), 1);
}

#[test]
fn packet_too_big_makes_later_datagrams_fit() {
    let remote = "[2001:db8:ffff::9]:53";
    let (mut host, socket, sent) = sender(remote);
    assert!(matches!(host.receive(&icmp6(PEER6, OURS6, 2, 0, 1280, &sent)), Verdict::Consumed));
    assert!(matches!(
        host.stack.poll_event(),
        Some(Event::UdpUndelivered { why: Undelivered::TooBig { mtu: 1280 }, .. })
    ));
    assert_eq!(frames_for(&mut host, socket, remote), 2);
}

#[test]
fn a_router_of_old_that_reports_no_mtu_leads_to_the_next_plateau() {
    let remote = "198.51.100.9:53";
    let (mut host, _, sent) = sender(remote);
    let _ = host.receive(&icmp4(PEER, 3, 4, 0, &sent));
    assert!(matches!(
        host.stack.poll_event(),
        Some(Event::UdpUndelivered { why: Undelivered::TooBig { mtu: 1006 }, .. })
    ));
}

#[test]
fn absurd_reports_are_not_believed() {
    let remote = "198.51.100.9:53";
    let (mut host, socket, sent) = sender(remote);
    // Not smaller than what is known: nothing changes.
    for mtu in [1500, 9000, 65535] {
        assert!(matches!(host.receive(&icmp4(PEER, 3, 4, mtu, &sent)), Verdict::Consumed));
        assert_eq!(host.stack.poll_event(), None);
    }
    // Tiny: the floor is used, so that nobody can make us send crumbs.
    let _ = host.receive(&icmp4(PEER, 3, 4, 68, &sent));
    assert_eq!(host.stack.path_mtu(REMOTE.into(), 1500, host.env.now), 552);
    // About a packet that no socket of ours could have sent.
    let mut forged = sent.clone();
    forged[19] = 77;
    forged[20..22].copy_from_slice(&6000u16.to_be_bytes());
    assert_eq!(host.refusal(&icmp4(PEER, 3, 4, 600, &forged)), DropReason::IcmpErrorUnmatched);
    assert_eq!(frames_for(&mut host, socket, "198.51.100.77:53"), 1);
    // IPv6 below its minimum.
    let (mut host, ..) = sender("[2001:db8:ffff::9]:53");
    let socket = host.stack.udp_sockets().next().unwrap().0;
    host.send(socket, "[2001:db8:ffff::9]:53", &[1; 1400]).unwrap();
    let sent = host.only_sent();
    let _ = host.receive(&icmp6(PEER6, OURS6, 2, 0, 1279, &sent[ETHERNET..]));
    assert_eq!(host.stack.path_mtu(REMOTE6.into(), 1500, host.env.now), 1500);
}

#[test]
fn the_number_of_paths_is_bounded_and_the_newest_stay() {
    let config = Config { path_mtus_max: 3, ..Config::default() };
    let mut host = Host::with(config, InterfaceConfig::exclusive(OUR_MAC, 1500));
    host.meet_peer();
    let socket = host.bind("0.0.0.0:5000");
    let known = |host: &Host, n: u8| host.stack.path_mtu([198, 51, 100, n].into(), 1500, host.env.now) == 1000;
    for n in 1..=10 {
        host.wait(Duration::from_secs(1));
        host.send(socket, &format!("198.51.100.{n}:9"), &[0; 1400]).unwrap();
        let sent = host.only_sent();
        let _ = host.receive(&icmp4(PEER, 3, 4, 1000, &sent[ETHERNET..]));
        assert!(known(&host, n));
    }
    assert_eq!((1..=10).filter(|&n| known(&host, n)).collect::<Vec<_>>(), [8, 9, 10]);
}
