//! Echo in place, ICMP errors received, ICMP errors sent.

use std::net::Ipv4Addr;
use std::time::Duration;

use smoltcp::wire::{Icmpv4Message, Icmpv4Packet, Icmpv6Packet, Ipv4Packet, Ipv6Packet};
use tailwater_stack::rate_limit::RateLimit;
use tailwater_stack::testing::VecBuffer;
use tailwater_stack::{Config, DropReason, EchoRequest, Event, InterfaceConfig, Sent, Undelivered, Verdict};

use crate::frames::*;
use crate::host::Host;

fn request(destination: impl Into<std::net::IpAddr>) -> EchoRequest {
    EchoRequest { destination: destination.into(), interface: None, ident: 77, sequence: 3, hop_limit: None }
}

#[test]
fn an_echo_request_is_answered_in_its_own_buffer() {
    for len in [0, 1, 2, 55, 56, 1472 - 20] {
        let payload: Vec<u8> = (0..len).map(|n| n as u8).collect();
        let mut host = Host::new();
        for frame in [echo4(77, 3, &payload), echo6(77, 3, &payload)] {
            assert!(matches!(host.receive(&frame), Verdict::Answered));
            let reply = host.only_sent();
            assert_eq!(reply[..6], PEER_MAC.0);
            assert_eq!(reply.len(), frame.len());
            assert!(reply.ends_with(&payload));
        }
        assert_eq!(host.env.allocated, 0);
        assert_eq!(host.stack.ledger().answered, 2);
    }
}

#[test]
fn the_reply_swaps_addresses_and_starts_with_a_fresh_ttl() {
    let mut host = Host::new();
    let _ = host.receive(&echo4(77, 3, b"x"));
    let frame = host.only_sent();
    let ip = Ipv4Packet::new_checked(&frame[ETHERNET..]).unwrap();
    assert_eq!((ip.src_addr(), ip.dst_addr(), ip.hop_limit()), (OURS, PEER, 64));
    let icmp = Icmpv4Packet::new_checked(ip.payload()).unwrap();
    assert_eq!((icmp.msg_type(), icmp.echo_ident(), icmp.echo_seq_no()), (Icmpv4Message::EchoReply, 77, 3));
    let _ = host.receive(&echo6(77, 3, b"x"));
    let frame = host.only_sent();
    let ip = Ipv6Packet::new_checked(&frame[ETHERNET..]).unwrap();
    assert_eq!((ip.src_addr(), ip.dst_addr(), ip.hop_limit()), (OURS6, PEER6, 64));
}

#[test]
fn every_ident_and_sequence_keeps_the_reply_valid() {
    let mut host = Host::new();
    for n in 0..=u16::MAX {
        let _ = host.receive(&echo4(n, !n, b"ab"));
        host.only_sent();
    }
}

#[test]
fn echo_requests_with_options_or_extensions_are_answered_without_them() {
    let mut host = Host::acquainted();
    let icmp = &echo4(77, 3, b"hello")[ETHERNET + 20..];
    assert!(matches!(host.receive(&ip4(1, &[7, 7, 4, 0, 0, 0, 0, 0], icmp)), Verdict::Answered));
    assert_eq!(host.only_sent()[ETHERNET + 20..][8..], *b"hello");
    let icmp = &echo6(77, 3, b"hello")[ETHERNET + 40..];
    let extended = [&[58, 0, 1, 4, 0, 0, 0, 0][..], icmp].concat();
    assert!(matches!(host.receive(&ip6(60, &extended)), Verdict::Answered));
    assert_eq!(host.only_sent()[ETHERNET + 40..][8..], *b"hello");
}

#[test]
fn a_jumbo_echo_in_several_segments_is_answered_in_place() {
    let mut host = Host::with(Config::default(), InterfaceConfig::exclusive(OUR_MAC, 9000));
    let payload: Vec<u8> = (0..8900u32).map(|n| n as u8).collect();
    for frame in [echo4(1, 1, &payload), echo6(1, 1, &payload)] {
        let buffer = VecBuffer::segmented(&frame, 2047);
        assert!(matches!(host.receive_buffer(buffer), Verdict::Answered));
        assert!(host.only_sent().ends_with(&payload));
    }
    assert_eq!(host.env.allocated, 0);
}

#[test]
fn echo_to_broadcast_or_group_is_not_answered_over_ipv4() {
    let mut host = Host::new();
    for to in [[255, 255, 255, 255], [192, 0, 2, 255], [224, 0, 0, 1]] {
        let mut frame = echo4(1, 1, b"smurf");
        frame[..6].copy_from_slice(&[0xff; 6]);
        frame[ETHERNET + 16..ETHERNET + 20].copy_from_slice(&to);
        Ipv4Packet::new_unchecked(&mut frame[ETHERNET..]).fill_checksum();
        assert_eq!(host.refusal(&frame), DropReason::EchoRefused);
    }
    assert!(host.sent().is_none());
}

#[test]
fn echo_to_an_ipv6_group_is_answered_from_a_unicast_address() {
    let mut host = Host::new();
    let all = "ff02::1".parse().unwrap();
    let mut frame = icmp6(PEER6, all, 128, 0, 0x0001_0002, b"anyone?");
    frame[..6].copy_from_slice(&[0x33, 0x33, 0, 0, 0, 1]);
    assert!(matches!(host.receive(&frame), Verdict::Answered));
    let reply = host.only_sent();
    assert_eq!(Ipv6Packet::new_checked(&reply[ETHERNET..]).unwrap().src_addr(), OURS6);
}

#[test]
fn where_the_kernel_answers_echo_we_do_not() {
    let mut host = Host::with(Config::default(), InterfaceConfig::shared(OUR_MAC, 1500));
    assert_eq!(host.refusal(&echo4(1, 1, b"")), DropReason::EchoRefused);
    assert_eq!(host.refusal(&echo6(1, 1, b"")), DropReason::EchoRefused);
    assert_eq!(host.refusal(&udp4(1, 2, b"")), DropReason::UdpPortClosed);
    assert!(host.sent().is_none());
}

#[test]
fn a_wrong_icmp_checksum_is_dropped() {
    let mut host = Host::new();
    for mut frame in [echo4(1, 1, b"hello"), echo6(1, 1, b"hello")] {
        *frame.last_mut().unwrap() ^= 1;
        assert_eq!(host.refusal(&frame), DropReason::IcmpChecksum);
    }
    assert_eq!(host.refusal(&ip4(1, &[], &[8, 0, 0])), DropReason::IcmpTruncated);
    assert_eq!(host.refusal(&icmp4(PEER, 13, 0, 0, &[0; 12])), DropReason::IcmpUnhandled);
}

#[test]
fn ping_sends_requests_and_takes_replies_of_its_ident_only() {
    let mut host = Host::acquainted();
    assert!(host.stack.echo_open(77));
    assert!(!host.stack.echo_open(77), "taken");
    for (destination, kind) in [(std::net::IpAddr::from(PEER), 0), (PEER6.into(), 129)] {
        let data = host.give(VecBuffer::from_bytes(b"hello"));
        let sent = host.stack.echo_request(&request(destination), data, &mut host.env);
        assert_eq!(sent, Ok(Sent::Transmitted));
        host.only_sent();
        let reply = |ident: u32| match kind {
            0 => icmp4(PEER, 0, 0, ident << 16 | 3, b"hello"),
            _ => icmp6(PEER6, OURS6, 129, 0, ident << 16 | 3, b"hello"),
        };
        let Verdict::EchoReply(got) = host.receive(&reply(77)) else { panic!("not delivered") };
        assert_eq!((got.source, got.ident, got.sequence, got.payload()), (destination, 77, 3, &b"hello"[..]));
        assert_eq!(got.hop_limit(), 17);
        assert_eq!(host.refusal(&reply(78)), DropReason::EchoUnexpected);
    }
    host.stack.echo_close(77);
    assert_eq!(host.refusal(&icmp4(PEER, 0, 0, 77 << 16, b"")), DropReason::EchoUnexpected);
    let data = host.give(VecBuffer::new());
    let refused = host.stack.echo_request(&request(PEER), data, &mut host.env);
    assert_eq!(refused, Err(DropReason::SocketUnknown));
}

#[test]
fn a_router_on_the_way_is_found_by_a_low_hop_limit() {
    let mut host = Host::acquainted();
    host.stack.echo_open(77);
    let data = host.give(VecBuffer::from_bytes(b"x"));
    let low = EchoRequest { hop_limit: Some(1), ..request(REMOTE) };
    host.stack.echo_request(&low, data, &mut host.env).unwrap();
    let sent = host.only_sent();
    assert_eq!(sent[ETHERNET + 8], 1);
    let error = icmp4(PEER, 11, 0, 0, &sent[ETHERNET..]);
    assert!(matches!(host.receive(&error), Verdict::Consumed));
    let expected = Event::EchoUndelivered {
        remote: REMOTE.into(),
        ident: 77,
        sequence: 3,
        from: PEER.into(),
        why: Undelivered::HopLimit,
    };
    assert_eq!(host.stack.poll_event(), Some(expected));
}

#[test]
fn a_closed_port_is_reported_with_the_packet_quoted() {
    let mut host = Host::new();
    for (frame, offset, kind) in [(udp4(5, 6, b"hello"), 20, (3, 3)), (udp6(5, 6, b"hello"), 40, (1, 4))] {
        assert_eq!(host.refusal(&frame), DropReason::UdpPortClosed);
        let error = host.only_sent();
        let icmp = &error[ETHERNET + offset..];
        assert_eq!((icmp[0], icmp[1]), kind);
        assert_eq!(icmp[8..], frame[ETHERNET..]);
        assert_eq!(error[..6], PEER_MAC.0);
    }
}

#[test]
fn an_unknown_protocol_is_reported() {
    let mut host = Host::new();
    assert_eq!(host.refusal(&ip4(200, &[], b"what?")), DropReason::ProtocolUnknown);
    assert_eq!(host.only_sent()[ETHERNET + 20..][..2], [3, 2]);
    assert_eq!(host.refusal(&ip6(200, b"what?")), DropReason::ProtocolUnknown);
    let error = host.only_sent();
    assert_eq!(error[ETHERNET + 40..][..8], [4, 1, error[ETHERNET + 42], error[ETHERNET + 43], 0, 0, 0, 6]);
}

#[test]
fn errors_are_limited_in_rate_and_recover() {
    let config = Config { icmp_errors: RateLimit { rate_per_second: 10, burst: 4 }, ..Config::default() };
    let mut host = Host::with(config, InterfaceConfig::exclusive(OUR_MAC, 1500));
    let flood = |host: &mut Host| {
        (0..100).for_each(|_| assert_eq!(host.refusal(&udp4(5, 6, b"x")), DropReason::UdpPortClosed));
        std::iter::from_fn(|| host.sent()).count()
    };
    assert_eq!(flood(&mut host), 4);
    assert_eq!(flood(&mut host), 0);
    host.wait(Duration::from_millis(100));
    assert_eq!(flood(&mut host), 1);
}

#[test]
fn an_empty_pool_sends_no_error_and_loses_nothing() {
    let mut host = Host::new();
    host.env.pool = 0;
    assert_eq!(host.refusal(&udp4(5, 6, b"x")), DropReason::UdpPortClosed);
    assert!(host.sent().is_none());
}

#[test]
fn an_error_reaches_the_socket_whose_packet_it_quotes() {
    let mut host = Host::acquainted();
    let socket = host.bind("0.0.0.0:5000");
    host.send(socket, "198.51.100.9:53", b"query").unwrap();
    let sent = host.only_sent();
    let cases = [
        ((3, 0), Undelivered::HostUnreachable),
        ((3, 1), Undelivered::HostUnreachable),
        ((3, 2), Undelivered::PortUnreachable),
        ((3, 3), Undelivered::PortUnreachable),
        ((3, 13), Undelivered::Prohibited),
        ((11, 0), Undelivered::HopLimit),
        ((11, 1), Undelivered::Reassembly),
        ((12, 0), Undelivered::ParameterProblem),
    ];
    for ((kind, code), why) in cases {
        // Routers may quote no more than the header and eight bytes.
        for quoted in [&sent[ETHERNET..], &sent[ETHERNET..][..28]] {
            assert!(matches!(host.receive(&icmp4(PEER, kind, code, 0, quoted)), Verdict::Consumed));
            let remote = "198.51.100.9:53".parse().unwrap();
            let expected = Event::UdpUndelivered { socket, remote, from: PEER.into(), why };
            assert_eq!(host.stack.poll_event(), Some(expected));
        }
    }
}

#[test]
fn an_error_about_what_we_did_not_send_is_dropped() {
    let mut host = Host::acquainted();
    let socket = host.bind("0.0.0.0:5000");
    host.send(socket, "198.51.100.9:53", b"query").unwrap();
    let sent = host.only_sent()[ETHERNET..].to_vec();
    let mut other_port = sent.clone();
    other_port[21] ^= 1;
    let mut other_source = sent.clone();
    other_source[15] ^= 8;
    let mut later_fragment = sent.clone();
    later_fragment[7] = 1;
    for quoted in [&other_port[..], &other_source, &later_fragment, &sent[..27], &sent[..19], &[]] {
        assert_eq!(host.refusal(&icmp4(PEER, 3, 3, 0, quoted)), DropReason::IcmpErrorUnmatched);
    }
    // Source quench and redirect are obsolete or not followed.
    assert_eq!(host.refusal(&icmp4(PEER, 4, 0, 0, &sent)), DropReason::IcmpErrorUnmatched);
    assert_eq!(host.refusal(&icmp4(PEER, 5, 1, 0, &sent)), DropReason::IcmpErrorUnmatched);
    // A connected socket's error must name its remote end.
    assert!(host.stack.udp_close(socket));
    let remote = Some((Ipv4Addr::new(198, 51, 100, 1), 53).into());
    host.stack.udp_bind("0.0.0.0:5000".parse().unwrap(), remote).unwrap();
    assert_eq!(host.refusal(&icmp4(PEER, 3, 3, 0, &sent)), DropReason::IcmpErrorUnmatched);
    assert_eq!(host.stack.poll_event(), None);
}

#[test]
fn ipv6_errors_reach_their_socket() {
    let mut host = Host::acquainted();
    let socket = host.bind("[::]:5000");
    host.send(socket, "[2001:db8:ffff::9]:53", b"query").unwrap();
    let sent = host.only_sent();
    for ((kind, code), why) in [
        ((1, 0), Undelivered::HostUnreachable),
        ((1, 1), Undelivered::Prohibited),
        ((1, 4), Undelivered::PortUnreachable),
        ((3, 0), Undelivered::HopLimit),
        ((4, 1), Undelivered::PortUnreachable),
    ] {
        let frame = icmp6(PEER6, OURS6, kind, code, 0, &sent[ETHERNET..]);
        assert!(matches!(host.receive(&frame), Verdict::Consumed));
        let remote = "[2001:db8:ffff::9]:53".parse().unwrap();
        let expected = Event::UdpUndelivered { socket, remote, from: PEER6.into(), why };
        assert_eq!(host.stack.poll_event(), Some(expected));
    }
}

#[test]
fn ipv6_options_and_routing_headers_end_as_rfc_8200_says() {
    let mut host = Host::new();
    let option = |kind: u8| [&[59, 0, kind, 4, 0, 0, 0, 0][..], b""].concat();
    // High bits 00: skipped; then no next header: done.
    assert!(matches!(host.receive(&ip6(60, &option(0x1e))), Verdict::Consumed));
    // 01: silent; 10: reported; 11: reported, for we are no group.
    for (kind, reported) in [(0x5e, false), (0x9e, true), (0xde, true)] {
        assert_eq!(host.refusal(&ip6(0, &option(kind))), DropReason::Ipv6OptionUnknown);
        let error = host.sent();
        assert_eq!(error.is_some(), reported);
        if let Some(error) = error {
            assert_eq!(error[ETHERNET + 40..][..2], [4, 2]);
            assert_eq!(error[ETHERNET + 44..][..4], 42u32.to_be_bytes(), "points at the option");
        }
    }
    // Routing type 0 with segments left (RFC 5095).
    let routing = [59, 2, 0, 1].into_iter().chain([0; 20]).collect::<Vec<u8>>();
    assert_eq!(host.refusal(&ip6(43, &routing)), DropReason::Ipv6Routing);
    let error = host.only_sent();
    assert_eq!((error[ETHERNET + 40], error[ETHERNET + 41], error[ETHERNET + 47]), (4, 0, 42));
    // Hop-by-hop not first; a header beyond the packet; too many headers.
    let misplaced = [&[0, 0, 1, 4, 0, 0, 0, 0][..], &[59, 0, 1, 4, 0, 0, 0, 0]].concat();
    assert_eq!(host.refusal(&ip6(60, &misplaced)), DropReason::Ipv6Extension);
    host.only_sent();
    assert_eq!(host.refusal(&ip6(60, &[59, 1, 1, 4, 0, 0, 0, 0])), DropReason::Ipv6Extension);
    let many = [60, 0, 1, 4, 0, 0, 0, 0].repeat(12);
    assert_eq!(host.refusal(&ip6(60, &many)), DropReason::Ipv6ExtensionTooMany);
    assert!(host.sent().is_none());
    assert!(Icmpv6Packet::new_checked(&error[ETHERNET + 40..]).is_ok());
}
